"""Webhooks get signed JSON within a time, from servers that take, refuse, redirect and stall; no secret is told."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from scheduler.errors import SettingFault
from scheduler.notify.webhook import WebhookAway, WebhookRefused, post, signature

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
PAYLOAD = {"event": "failed", "schedule": "nightly-réport"}


class Hook:
    """Answers each POST with `status` and `headers`, after `before_answer`; keeps what it got."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.body = b""
        self.before_answer: Callable[[Any], Any] = lambda handler: None
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((self.path, dict(self.headers), body))
                hook.before_answer(self)
                self.send_response(hook.status)
                for name, value in hook.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):  # who has read enough hangs up
                    self.wfile.write(hook.body)

            def log_message(self, *arguments: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://localhost:{self.server.server_port}/hook/s3cret?key=t0ken"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def test_the_json_arrives_signed_with_its_delivery(hook: Hook, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush\n")
    environ = {"HOOK_URL": hook.url(), "HOOK_SECRET_FILE": str(tmp_path / "secret")}

    status = post({"url_env": "HOOK_URL", "secret_env": "HOOK_SECRET"}, PAYLOAD, "abc", environ=environ)

    [(path, headers, body)] = hook.got
    assert (status, path, json.loads(body)) == (204, "/hook/s3cret?key=t0ken", PAYLOAD)
    signed = headers["X-Scheduler-Timestamp"].encode() + b"." + body
    assert headers["X-Scheduler-Signature"] == "sha256=" + hmac.new(b"hush", signed, hashlib.sha256).hexdigest()
    assert headers["X-Scheduler-Delivery"] == "abc"
    assert abs(int(headers["X-Scheduler-Timestamp"]) - time.time()) < 60
    assert headers["Content-Type"] == "application/json; charset=utf-8"


def test_the_example_in_the_docs_tells_a_genuine_message_from_a_forged_and_from_an_old_one(hook: Hook) -> None:
    [example] = re.findall(r"```python\n(.*?def is_genuine.*?)```", OPERATIONS.read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    exec(example, found)
    is_genuine = found["is_genuine"]
    post({"url": hook.url(), "secret_env": "HOOK_SECRET"}, PAYLOAD, "abc", environ={"HOOK_SECRET": "hush"})
    [(_, headers, body)] = hook.got
    old = str(int(headers["X-Scheduler-Timestamp"]) - 600)

    assert is_genuine("hush", headers, body)
    assert not is_genuine("other", headers, body)
    assert not is_genuine("hush", headers, body + b" ")
    assert not is_genuine("hush", {**headers, "X-Scheduler-Timestamp": old}, body)
    resent = {"X-Scheduler-Timestamp": old, "X-Scheduler-Signature": signature("hush", old, body)}
    assert not is_genuine("hush", resent, body)


def test_without_a_secret_nothing_is_signed(hook: Hook) -> None:
    post({"url": hook.url()}, PAYLOAD, "abc")

    assert "X-Scheduler-Signature" not in hook.got[0][1]


@pytest.mark.parametrize(
    ("status", "headers", "kind", "message"),
    [
        (
            400,
            {},
            WebhookRefused,
            "the webhook at localhost answers 400 (no such channel); check its address and secret",
        ),
        (503, {}, WebhookAway, "the webhook at localhost answers 503 (no such channel); it may go later"),
        (
            429,
            {"Retry-After": "7"},
            WebhookAway,
            "the webhook at localhost answers 429 (no such channel); it may go later",
        ),
        (
            307,
            {"Location": "http://169.254.169.254/"},
            WebhookRefused,
            "the webhook at localhost answers 307 (no such channel): it leads elsewhere, and redirects are not "
            "followed; give the address itself",
        ),
    ],
    ids=["4xx", "5xx", "too many", "redirect"],
)
def test_an_answer_that_is_not_good_is_told_without_the_url(
    hook: Hook, status: int, headers: dict[str, str], kind: type[Exception], message: str
) -> None:
    hook.status, hook.headers, hook.body = status, headers, b"no such\r\nchannel"

    with pytest.raises(kind) as caught:
        post({"url": hook.url()}, PAYLOAD, "abc")

    assert str(caught.value) == message
    assert len(hook.got) == 1
    assert getattr(caught.value, "retry_after", 0.0) == (7.0 if status == 429 else 0.0)


def test_to_wait_for_longer_than_an_hour_is_not_asked_of_us(hook: Hook) -> None:
    hook.status, hook.headers = 503, {"Retry-After": "999999"}

    with pytest.raises(WebhookAway) as caught:
        post({"url": hook.url()}, PAYLOAD, "abc")

    assert caught.value.retry_after == 3600.0


def test_a_webhook_that_drips_is_left_in_time(hook: Hook) -> None:
    over = threading.Event()

    def drip(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not over.wait(0.02):
            with contextlib.suppress(OSError):
                handler.wfile.write(b"X")

    hook.before_answer = drip
    began = time.monotonic()

    with pytest.raises(WebhookAway, match="the webhook at localhost does not answer as it should"):
        post({"url": hook.url()}, PAYLOAD, "abc", longest_seconds=0.4)

    over.set()
    assert time.monotonic() - began < 3


def test_an_answer_without_end_is_read_no_further_than_its_beginning(hook: Hook) -> None:
    hook.status, hook.body = 200, b"x" * 3_000_000

    assert post({"url": hook.url()}, PAYLOAD, "abc") == 200


def test_a_webhook_that_nobody_vouches_for_gets_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    hook = Hook(tls)
    try:
        with pytest.raises(
            WebhookAway, match=r"^localhost cannot prove who it is \(.*\), so nothing was sent; use the"
        ):
            post({"url": hook.url("https")}, PAYLOAD, "abc")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

        assert post({"url": hook.url("https")}, PAYLOAD, "abc") == 204
    finally:
        hook.close()
    assert len(hook.got) == 1


HINT = "write it as https://hooks.example.org/…; http:// only for this machine itself"


@pytest.mark.parametrize(
    ("address", "environ", "message"),
    [
        (
            {"url_env": "HOOK"},
            {},
            "HOOK is not set, which the contact in the schedule file names; set it, or HOOK_FILE",
        ),
        (
            {"url_env": "HOOK"},
            {"HOOK_FILE": "/nowhere/hook"},
            "HOOK_FILE names /nowhere/hook, which cannot be read: [Errno 2] No such file or directory: '/nowhere/hook'",
        ),
        (
            {"url": "http://hooks.example.org/t0ken"},
            {},
            f"the webhook's URL to hooks.example.org is not https; {HINT}",
        ),
        (
            {"url": "https://a:b@hooks.example.org/"},
            {},
            f"the webhook's URL has no host, a user, or letters that none may have; {HINT}",
        ),
        (
            {"url": "https://hooks.example.org/\r\nX-Evil: yes"},
            {},
            f"the webhook's URL has no host, a user, or letters that none may have; {HINT}",
        ),
        ({"url": "https://hooks.example.org:port/"}, {}, f"the webhook's URL cannot be read; {HINT}"),
    ],
    ids=["not set", "no file", "not https", "a user", "a line end", "no port"],
)
def test_an_address_that_cannot_be_is_told_without_what_is_secret(
    address: dict[str, str], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingFault) as caught:
        post(address, PAYLOAD, "abc", environ=environ)

    assert str(caught.value) == message
