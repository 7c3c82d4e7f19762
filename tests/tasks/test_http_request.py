from __future__ import annotations

import gzip
import importlib
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from scheduler.context import log
from tasks import http_request
from tasks.commons import BadArgument, Stopped
from tasks.fetching import AddressRefused, FetchFailed
from tests.tasks.conftest import Internet, Watched, Web

module = importlib.import_module("tasks.http_request")  # `tasks.http_request` is the function
PUBLIC = "93.184.215.14"
SECRET = "s3cr3t-t0ken"


def echo(web: Web, path: str = "/echo") -> str:
    """A page that answers with what it was sent, as JSON."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        sent = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        content = json.dumps({"method": handler.command, "headers": headers, "body": sent.decode()}).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    web.pages[path] = answer
    return f"http://127.0.0.1:{web.port}{path}"


@pytest.mark.usefixtures("private_allowed")
def test_an_answer_is_given_back(web: Web):
    address = web.page("/x", b"hello\n", ETag='"7"')

    result = http_request(address)

    assert 0 <= result.pop("seconds") < 10
    assert result.pop("headers").keys() == {"content-type", "date", "etag"}
    assert result == {"status": 200, "body": "hello\n", "bytes": 6}


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_json_is_sent_and_read(web: Web, method: str):
    result = http_request(echo(web), method.lower(), {"X-Run": "7"}, json={"größe": [1, None]})

    told = result["body"]
    assert (told["method"], told["body"]) == (method, '{"größe": [1, null]}')
    assert (told["headers"]["content-type"], told["headers"]["x-run"]) == ("application/json", "7")


@pytest.mark.usefixtures("private_allowed")
def test_text_is_sent_and_its_type_may_be_said(web: Web):
    plain = http_request(echo(web), "POST", body="a=1")["body"]
    form = http_request(echo(web), "POST", {"content-type": "application/x-www-form-urlencoded"}, body="a=1")["body"]

    assert plain["headers"]["content-type"] == "text/plain; charset=utf-8"
    assert form["headers"]["content-type"] == "application/x-www-form-urlencoded"
    assert form["body"] == "a=1"


BODIES = {
    "latin": (b"gr\xf6\xdfe", "text/plain; charset=iso-8859-1", "größe"),
    "unknown charset": ("größe".encode(), "text/plain; charset=rot13", "größe"),
    "broken utf-8": (b"a\xff", "text/plain", "a\ufffd"),
    "binary": (b"\x89PNG\0\0", "image/png", None),
    "json": (b'{"a": [1.5]}', "application/problem+json", {"a": [1.5]}),
    "json with a mark": (b'\xef\xbb\xbf{"a": 1}', "application/json", {"a": 1}),
    "json that is none": (b"{a: 1}", "application/json", "{a: 1}"),
    "json with NaN": (b'{"a": NaN}', "application/json", '{"a": NaN}'),
    "json of a number without end": (b"9" * 5000, "application/json", "9" * 5000),
    "json as deep as can be": (b"[" * 100_000, "application/json", "[" * 100_000),
}


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize(("content", "kind", "expected"), BODIES.values(), ids=BODIES)
def test_what_comes_of_a_body(web: Web, content: bytes, kind: str, expected: Any):
    result = http_request(web.page("/x", content, kind))

    assert (result["body"], result["bytes"]) == (expected, len(content))


@pytest.mark.usefixtures("private_allowed")
def test_a_packed_answer_is_unpacked(web: Web):
    address = web.page("/x", gzip.compress(b"abc" * 99), Content_Encoding="gzip")

    assert http_request(address)["bytes"] == 297


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize("expect", [404, "404", "4xx", [200, "4XX"]], ids=repr)
def test_the_status_that_is_expected_is_good(web: Web, expect: Any):
    assert http_request(web.page("/x", status=404), expect=expect)["status"] == 404


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize("expect", [200, [200, "3xx"]], ids=repr)
def test_another_status_fails_with_the_first_line_of_the_answer(web: Web, expect: Any):
    address = web.page("/x", b"\n  out of\x1b[31m paper\nTraceback: ...\n" * 9, status=503)

    with pytest.raises(module.StatusUnexpected) as fault:
        http_request(address + "?key=1234", expect=expect)

    words = "200" if expect == 200 else "200 or 3xx"
    assert str(fault.value) == (
        f'GET "{address}?…" answers "503 Service Unavailable" and not {words}, with "out of\\x1b[31m paper"; '
        "look what the service says to it"
    )


@pytest.mark.usefixtures("private_allowed")
def test_credentials_stay_out_of_results_and_errors_and_log(web: Web, caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG", logger=log.name)
    headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"sid={SECRET}x", "X-Api-Key": f"{SECRET}-2"}
    result = http_request(echo(web), headers=headers)
    broken = web.page("/broken", f"no such token: {SECRET}\n".encode(), status=403, X_Echo=SECRET)

    with pytest.raises(module.StatusUnexpected) as fault:
        http_request(broken + f"?token={SECRET}", headers=headers)
    with pytest.raises(AddressRefused) as refused:
        http_request(f"http://me:{SECRET}@example.org/a b", headers=headers)

    assert SECRET not in f"{result} {fault.value} {refused.value} {caplog.text}"
    assert result["body"]["headers"]["authorization"] == "***"
    assert '"no such token: ***"' in str(fault.value)


def test_a_redirect_to_the_same_host_keeps_the_headers(web: Web, internet: Internet):
    internet.names = {"one.example": [[PUBLIC]]}
    web.page("/old", status=302, Location="/echo")
    echo(web)

    told = http_request("http://one.example/old", headers={"X-Api-Key": SECRET})["body"]

    assert told["headers"]["x-api-key"] == "***"


def test_a_redirect_to_another_host_takes_no_header_along(web: Web, internet: Internet):
    internet.names = {"one.example": [[PUBLIC]], "two.example": [["151.101.1.6"]]}
    web.page("/old", status=302, Location="//two.example/echo")
    echo(web)

    headers = {"Authorization": SECRET, "X-Anything": "1", "Accept": "text/html"}
    told = http_request("http://one.example/old", headers=headers)["body"]["headers"]

    assert told["accept"] == "text/html"
    assert not {"authorization", "x-anything", "cookie"} & told.keys()


def test_after_a_post_a_303_is_asked_for_by_a_get(web: Web, internet: Internet):
    internet.names = {"one.example": [[PUBLIC]]}
    web.page("/form", status=303, Location="/echo")
    echo(web)

    told = http_request("http://one.example/form", "POST", json={"a": 1})["body"]

    assert (told["method"], told["body"]) == ("GET", "")
    assert "content-type" not in told["headers"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_post_is_not_sent_on(web: Web, internet: Internet, status: int):
    internet.names = {"one.example": [[PUBLIC]]}
    web.page("/form", status=status, Location="/echo")
    echo(web)

    with pytest.raises(module.StatusUnexpected) as fault:
        http_request("http://one.example/form", "POST", json={"a": 1})

    assert str(fault.value).endswith("; a POST is not sent on; give the address it redirects to")
    assert web.asked == [("one.example", "/form")]


def test_a_redirect_that_is_expected_is_an_answer(web: Web, internet: Internet):
    internet.names = {"one.example": [[PUBLIC]]}
    web.page("/old", status=302, Location="http://127.0.0.1/")

    assert http_request("http://one.example/old", expect="3xx")["status"] == 302


REDIRECTS = {
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "loopback": "http://127.0.0.1/",
    "other port": "http://one.example:6379/",
    "file": "file:///etc/passwd",
    "line end": "http://one.example/\tX: 1",
    "no address": "http://[::1",
}


@pytest.mark.parametrize("location", REDIRECTS.values(), ids=REDIRECTS)
def test_a_redirect_to_where_nobody_may_go_is_refused(web: Web, internet: Internet, location: str):
    internet.names = {"one.example": [[PUBLIC]]}
    web.page("/", status=302, Location=location)

    with pytest.raises(AddressRefused):
        http_request("http://one.example/")

    assert internet.connected == [(PUBLIC, 80)]


INSIDE = ("http://127.0.0.1/", "http://169.254.169.254/", "http://[::ffff:10.0.0.1]/", "http://2130706433/", "file:/x")


@pytest.mark.parametrize("url", INSIDE)
def test_the_inner_network_is_refused(internet: Internet, url: str):
    with pytest.raises(AddressRefused):
        http_request(url, "POST", json={})

    assert internet.connected == []


FAULTS = {
    "line end in a header": (
        {"headers": {"X-A": f"{SECRET}\r\nHost: evil"}},
        'the header "X-A" is no text of one line in Latin-1 with at most 8,000 letters; '
        "a line end in it would begin another header",
    ),
    "line end in the name of a header": (
        {"headers": {"X-A:\r\nX-B": "2"}},
        'headers has a name "X-A:\\r\\nX-B"; it may have letters, digits and -',
    ),
    "number as a header": (
        {"headers": {"X-A": 7}},
        'the header "X-A" is no text of one line in Latin-1 with at most 8,000 letters; '
        "a line end in it would begin another header",
    ),
    "host": ({"headers": {"HOST": "a"}}, 'headers has "HOST", which is set by the connection; leave it out'),
    "length": (
        {"headers": {"Content-Length": "0"}},
        'headers has "Content-Length", which is set by the connection; leave it out',
    ),
    "method": ({"method": "TRACE"}, 'method is "TRACE"; give one of GET, HEAD, POST, PUT, PATCH, DELETE'),
    "line end in the method": (
        {"method": "GET / HTTP/1.1\r\n"},
        'method is "GET / HTTP/1.1\\r\\n"; give one of GET, HEAD, POST, PUT, PATCH, DELETE',
    ),
    "body of a GET": ({"body": "a"}, "a GET has no body; leave out body and json, or use POST"),
    "two bodies": (
        {"method": "POST", "body": "a", "json": 1},
        "both body and json are given; give one of them",
    ),
    "bytes": ({"method": "POST", "body": b"a"}, "body is no text; give a text, or use json for anything else"),
    "not a number": (
        {"method": "POST", "json": [float("nan")]},
        "json cannot be written down; it has a value that JSON or UTF-8 does not know",
    ),
    "half of a character": (
        {"method": "POST", "body": "\ud800"},
        "body cannot be written down; it has a value that JSON or UTF-8 does not know",
    ),
    "large body": (
        {"method": "POST", "body": "a" * 10_485_761},
        "the body has 10,485,761 bytes; 10,485,760 may be sent",
    ),
    "status": (
        {"expect": 20},
        'expect has "20"; give a status such as 200, or a class such as 2xx',
    ),
    "no status": ({"expect": []}, 'expect is "[]"; give a status such as 200, a class such as 2xx, or a list'),
    "endless": ({"timeout_seconds": float("inf")}, 'timeout_seconds is "inf"; give seconds up to 3600'),
    "no time": ({"timeout_seconds": 0}, 'timeout_seconds is "0"; give seconds up to 3600'),
    "too large": (
        {"max_bytes": 1_000_000_000},
        'max_bytes is "1000000000"; give a whole number from 1 to 10485760',
    ),
    "line end in the address": (
        {"url": "http://one.example/\r\nX-Evil: 1"},
        '"http://one.example/\\r\\nX-Evil: 1" has a space, line end, control character or backslash; '
        "write it as %20 and so on",
    ),
    "no address": ({"url": 7}, 'url is "7"; give an address such as https://example.org/hook'),
}


@pytest.mark.parametrize(("args", "message"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_asked_is_told_before_anything_is_sent(internet: Internet, args: dict[str, Any], message: str):
    with pytest.raises(BadArgument) as fault:
        http_request(**{"url": "http://one.example/", **args})

    assert str(fault.value) == message
    assert internet.connected == []


BAD_ANSWERS: dict[str, tuple[Callable[[Web], str], str]] = {
    "too large": (
        lambda web: web.page("/x", b"a" * 2_000_000),
        '"ADDRESS/x" has more than 1,048,576 bytes (unpacked); give a smaller page',
    ),
    "gzip bomb": (
        lambda web: web.page("/x", gzip.compress(bytes(50_000_000), compresslevel=1), Content_Encoding="gzip"),
        '"ADDRESS/x" has more than 1,048,576 bytes (unpacked); give a smaller page',
    ),
    "broken off": (
        lambda web: web.page("/x", b"abc", length=10),
        '"ADDRESS/x" broke off 7 bytes before its end; try again',
    ),
    "redirects without end": (
        lambda web: web.page("/x", status=302, Location="/x"),
        '"ADDRESS/x" redirects more than 3 times; give the address it ends at',
    ),
    "endless slow body": (
        lambda web: web.drip("/x", b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
        'GET "ADDRESS/x" got no answer: it took longer than 0.3 seconds; look whether the service is up',
    ),
    "endless slow body of a failure": (
        lambda web: web.drip("/x", b"HTTP/1.1 500 Oh\r\n\r\n", b"a"),
        'GET "ADDRESS/x" answers "500 Oh" and not 200, with "aaa…"; look what the service says to it',
    ),
    "endless headers": (
        lambda web: web.drip("/x", b"HTTP/1.1 200 OK\r\nX: ", b"a"),
        'GET "ADDRESS/x" got no answer: it took longer than 0.3 seconds; look whether the service is up',
    ),
    "no HTTP": (
        lambda web: web.drip("/x", b"SSH-2.0-OpenSSH_9.2\r\n", b"a"),
        'GET "ADDRESS/x" got no answer: SSH-2.0-OpenSSH_9.2; look whether the service is up',
    ),
}


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize(("serve", "message"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_an_answer_that_is_none_is_told(web: Web, serve: Callable[[Web], str], message: str):
    with pytest.raises((FetchFailed, module.StatusUnexpected)) as fault:
        http_request(serve(web), timeout_seconds=0.3)

    told = re.sub(r"aaa+", "aaa…", str(fault.value))
    assert told == message.replace("ADDRESS", f"http://127.0.0.1:{web.port}")


@pytest.mark.usefixtures("private_allowed")
def test_nobody_there_is_told():
    with pytest.raises(FetchFailed) as fault:
        http_request("http://127.0.0.1:1/", "DELETE")

    assert str(fault.value) == (
        'DELETE "http://127.0.0.1:1/" got no answer: Connection refused; look whether the service is up'
    )


@pytest.mark.usefixtures("private_allowed")
def test_a_run_that_is_asked_to_stop_does(web: Web, in_a_run: Callable[..., Watched]):
    in_a_run(stop_after=0)

    with pytest.raises(Stopped) as fault:
        http_request(web.page("/x"))

    assert str(fault.value) == "stopped on request before the answer came"
    assert web.asked == []
