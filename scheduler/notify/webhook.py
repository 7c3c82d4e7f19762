"""Posts messages to webhooks and chats: JSON, signed, within ten seconds, and no further than the address itself.

The addresses are written by those who run the service, in its schedule file, so private ones are allowed. What an
address or a variable holds may be a secret: nothing here shows more of a URL than its host.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scheduler.errors import PartAway, SchedulerError, SettingFault

LONGEST_SECONDS = 10.0  # for all of it
MAX_ANSWER_BYTES = 64 * 1024
LONGEST_RETRY_AFTER = 3600.0  # seconds
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class WebhookRefused(SchedulerError):
    """The webhook refuses the message for good."""


class WebhookAway(PartAway):
    """The webhook does not answer, or asks to try later: after `retry_after` seconds, when it says so."""

    def __init__(self, message: str | None = None, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def post(
    address: Mapping[str, Any],
    payload: Mapping[str, Any],
    delivery: str,
    *,
    environ: Mapping[str, str] = os.environ,
    longest_seconds: float = LONGEST_SECONDS,
) -> int:
    """Post `payload` to `{"url": …}` or `{"url_env": "NAME"}`, signed if there is a `secret_env`; the status.

    Raises WebhookRefused when trying again cannot help, WebhookAway when it can, SettingFault for a variable that is
    not set.
    """
    url = str(address.get("url") or _from_environment(str(address.get("url_env")), environ))
    body = json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "rq-schedules",
        "X-Scheduler-Delivery": delivery,
        "X-Scheduler-Timestamp": timestamp,
        "Connection": "close",
    }
    if address.get("secret_env"):
        secret = _from_environment(str(address["secret_env"]), environ)
        headers["X-Scheduler-Signature"] = signature(secret, timestamp, body)
    host, port, path, secure = _parted(url)
    try:
        with _connection(host, port, secure, longest_seconds) as connection:
            connection.request("POST", path, body=body, headers=headers)
            with connection.getresponse() as answer:
                said = answer.read(MAX_ANSWER_BYTES)
    except ssl.SSLCertVerificationError as error:
        raise WebhookAway(
            f"{host} cannot prove who it is ({error.verify_message.rstrip('.')}), so nothing was sent; "
            "use the host name in its certificate, and add its authority to the trusted ones (SSL_CERT_FILE)"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WebhookAway(f"the webhook at {host} does not answer as it should ({_cause(error)})") from error
    _judge(host, answer, said)
    return answer.status


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What stands in X-Scheduler-Signature: the timestamp is signed too, so that nobody can send an old message anew.

    >>> signature("hush", "1795500000", b"{}")
    'sha256=aa4a36ce2157e52570caf942f5c3a6405c69aac6777d56567b97768919bfd408'
    """
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    """The value of a variable, or of the file that <name>_FILE names."""
    if environ.get(name):
        return environ[name].strip()
    path = environ.get(f"{name}_FILE")
    if not path:
        raise SettingFault(f"{name} is not set, which the contact in the schedule file names; set it, or {name}_FILE")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingFault(f"{name}_FILE names {path}, which cannot be read: {error}") from error


def _parted(url: str) -> tuple[str, int, str, bool]:
    """Host, port, path with query, and whether it is https. Raises SettingFault, without the URL."""
    hint = "write it as https://hooks.example.org/…; http:// only for this machine itself"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingFault(f"the webhook's URL cannot be read; {hint}") from error
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    if re.search(r"[^\x21-\x7e]", url) or not host or parts.username is not None:
        raise SettingFault(f"the webhook's URL has no host, a user, or letters that none may have; {hint}")
    if not secure and not (parts.scheme == "http" and host in _LOOPBACK):
        raise SettingFault(f"the webhook's URL to {host} is not https; {hint}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return host, port or (443 if secure else 80), path, secure


@contextlib.contextmanager
def _connection(host: str, port: int, secure: bool, seconds: float) -> Iterator[http.client.HTTPConnection]:
    """A connection that is cut after `seconds`, however little its other side sends at a time."""
    wire = socket.create_connection((host, port), timeout=seconds)
    context = ssl.create_default_context()
    if secure:
        wire = context.wrap_socket(wire, server_hostname=host, do_handshake_on_connect=False)

    is_cut = threading.Event()

    def cut() -> None:
        is_cut.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(wire, socket.SHUT_RDWR)  # under TLS too: the plain one wakes the reader

    watch = threading.Timer(seconds, cut)
    watch.daemon = True
    watch.start()
    try:
        if isinstance(wire, ssl.SSLSocket):
            wire.do_handshake()
        connection = http.client.HTTPSConnection(host, port) if secure else http.client.HTTPConnection(host, port)
        connection.sock = wire
        yield connection
        if is_cut.is_set():  # to http.client an answer that ends within its headers is a good one
            raise TimeoutError
    finally:
        watch.cancel()
        wire.close()


def _judge(host: str, answer: http.client.HTTPResponse, said: bytes) -> None:
    status = answer.status
    if 200 <= status < 300:
        return
    told = f"the webhook at {host} answers {status}{_shown(said)}"
    if status == 429 or status >= 500:
        raise WebhookAway(f"{told}; it may go later", _retry_after(answer))
    if 300 <= status < 400:
        raise WebhookRefused(f"{told}: it leads elsewhere, and redirects are not followed; give the address itself")
    raise WebhookRefused(f"{told}; check its address and secret")


def _retry_after(answer: http.client.HTTPResponse) -> float:
    given = (answer.getheader("Retry-After") or "").strip()
    return min(float(given), LONGEST_RETRY_AFTER) if re.fullmatch(r"[0-9]{1,9}", given) else 0.0


def _shown(said: bytes) -> str:
    letters = "".join(letter if letter.isprintable() else " " for letter in said[:400].decode("utf-8", "replace"))
    line = " ".join(letters.split())[:100]
    return f" ({line})" if line else ""


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "the name is not known"
    if isinstance(error, http.client.RemoteDisconnected | ssl.SSLEOFError | http.client.IncompleteRead):
        return "the connection ended"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
