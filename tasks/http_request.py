"""Asks a web service for something, or tells it something, and keeps the answer.

What may be reached is what tasks/fetching.py lets through. Credentials belong into `headers`: they go to the host that
was named and to no other, and neither errors nor results show them.
"""

from __future__ import annotations

import codecs
import http.client
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from json import dumps, loads
from typing import Any, NoReturn
from urllib.parse import urlsplit

from scheduler import log, task
from tasks.commons import BadArgument, SourceFault, raise_when_stopped, shown, whole_number
from tasks.fetching import (
    BROKEN,
    MAX_REDIRECTS,
    REDIRECTS,
    Deadline,
    FetchFailed,
    answer_of,
    body_of,
    named,
    redirect_of,
    told,
)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
SAFE = ("GET", "HEAD")  # these may be repeated at another address
MOST_BYTES = 10 * 1024 * 1024  # of a body, either way; a result of more belongs into a file
MAX_HEADERS = 50
FIRST_LINE_BYTES = 4096
TOLD_HEADERS = ("Content-Type", "Date", "ETag", "Last-Modified", "Retry-After")
# What the connection itself is made of; set by hand they are how requests are smuggled.
OURS = frozenset(("host", "content-length", "transfer-encoding", "connection", "accept-encoding", "expect", "te"))
OURS |= frozenset(("trailer", "upgrade", "keep-alive", "proxy-authorization", "proxy-connection"))
FOR_ANYONE = frozenset(("accept", "accept-language", "content-type", "user-agent"))
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_SECRET_NAME = re.compile(r"auth|cookie|key|pass|secret|session|signature|token", re.IGNORECASE)
SHORTEST_SECRET = 4  # letters; to hide shorter ones would tear holes into any text


class StatusUnexpected(SourceFault):
    """The server answered, but not as was expected."""


@task
def http_request(
    url: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    json: Any = None,
    expect: int | str | Sequence[int | str] = 200,
    timeout_seconds: float = 30,
    max_bytes: int = 1024 * 1024,
) -> dict[str, Any]:
    """Send one HTTP request and give back the answer; another status than `expect` is a failure.

    `url` is an http(s) address on port 80 or 443 of a public host. `expect` is a status, a class such as 2xx, or a
    list of them. `json` is sent as JSON, `body` as UTF-8 text; not both. `timeout_seconds`, up to 3600, is for all of
    it; `max_bytes`, up to 10 MB, for the unpacked answer. A redirect is followed at most three times, each address
    checked, for GET and HEAD; after another method only a 303, by a GET. Another host does not get your headers.

    Returns {status, headers, body, bytes, seconds}: a few of the headers, the body as parsed JSON where it is that, as
    text where it is text, and null where it is neither. Nothing is tried twice: that is for the schedule's `retry`.
    Credentials in headers are blacked out where the answer repeats them.

    Raises BadArgument, AddressRefused, FetchFailed, or StatusUnexpected with the first line of the answer.
    """
    wanted = _Wanted(_checked_expect(expect), whole_number("max_bytes", max_bytes, 1, MOST_BYTES))
    request = _checked_request(url, method, headers, body, json)
    deadline = Deadline(_checked_seconds(timeout_seconds))
    began = time.monotonic()
    for _ in range(MAX_REDIRECTS + 1):
        raise_when_stopped("before the answer came")
        try:
            answer = _ask(request, wanted, deadline)
        except BROKEN as error:
            raise FetchFailed(
                f"{request.method} {named(request.url)} got no answer: {request.masked(told(error))}; "
                "look whether the service is up"
            ) from None  # the cause may hold what was sent
        if isinstance(answer, dict):
            seconds = round(time.monotonic() - began, 3)
            log.info(
                "%s %s answers %d, %d bytes in %.1f s",
                request.method,
                named(request.url),
                answer["status"],
                answer["bytes"],
                seconds,
                extra={"event": "http_answered", "status": answer["status"]},
            )
            return {**answer, "seconds": seconds}
        request = answer
    raise FetchFailed(f"{named(url)} redirects more than {MAX_REDIRECTS} times; give the address it ends at")


@dataclass(frozen=True)
class _Wanted:
    statuses: tuple[str, ...]
    max_bytes: int

    def takes(self, status: int) -> bool:
        return str(status) in self.statuses or f"{status // 100}xx" in self.statuses


@dataclass(frozen=True)
class _Request:
    url: str
    method: str
    headers: Mapping[str, str]
    body: bytes | None
    secrets: tuple[str, ...] = ()

    def masked(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    def redirected(self, url: str) -> _Request:
        """The request that follows a redirect: a GET unless it was a HEAD, with headers for the same host alone."""
        kept = self.headers if _origin(url) == _origin(self.url) else _for_anyone(self.headers)
        if self.body is not None:
            kept = {name: value for name, value in kept.items() if name.lower() != "content-type"}
        return replace(self, url=url, method="HEAD" if self.method == "HEAD" else "GET", headers=kept, body=None)


def _ask(request: _Request, wanted: _Wanted, deadline: Deadline) -> dict[str, Any] | _Request:
    """The answer, or the request that it redirects to."""
    with answer_of(request.url, deadline, request.method, request.headers, request.body) as response:
        status = response.status
        if not wanted.takes(status):
            if status in REDIRECTS and (request.method in SAFE or status == 303):
                return request.redirected(redirect_of(request.url, response))
            _raise_unexpected(request, wanted, response)
        content = b"".join(body_of(request.url, response, wanted.max_bytes))
        return {
            "status": status,
            "headers": {
                name.lower(): request.masked(response.headers[name][:500])
                for name in TOLD_HEADERS
                if response.headers[name]
            },
            "body": _body_as_value(request, response, content),
            "bytes": len(content),
        }


def _raise_unexpected(request: _Request, wanted: _Wanted, response: http.client.HTTPResponse) -> NoReturn:
    status = request.masked(f"{response.status} {response.reason}".strip())
    hint = "look what the service says to it"
    if response.status in REDIRECTS:
        hint = f"a {request.method} is not sent on; give the address it redirects to"
    first = _first_line(request, response)
    raise StatusUnexpected(
        f"{request.method} {named(request.url)} answers {shown(status)} and not {' or '.join(wanted.statuses)}"
        f"{f', with {shown(first)}' if first else ''}; {hint}"
    )


def _first_line(request: _Request, response: http.client.HTTPResponse) -> str:
    content = b""
    try:
        for piece in body_of(request.url, response, MOST_BYTES):
            content += piece
            if len(content) >= FIRST_LINE_BYTES or b"\n" in content.strip():
                break
    except (*BROKEN, FetchFailed):
        pass  # the status is the fault; what could be read of the body is only to explain it
    # All of it is masked before it is cut: half a secret would not be known again.
    text = request.masked(_decoded(content[:FIRST_LINE_BYTES], response)).strip()
    return text.splitlines()[0].strip() if text else ""


def _body_as_value(request: _Request, response: http.client.HTTPResponse, content: bytes) -> Any:
    kind = response.headers.get_content_type()
    text = request.masked(_decoded(content, response))
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return loads(text.removeprefix("\ufeff"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            pass  # called JSON, and none: then it is text
    return None if "\0" in text else text


def _decoded(content: bytes, response: http.client.HTTPResponse) -> str:
    charset = response.headers.get_content_charset() or "utf-8"
    try:
        # Among Python's codecs are some that are no encodings, or very slow ones.
        known = (
            codecs.lookup(charset).name
            if re.fullmatch(r"utf-?8|utf-?16|us-ascii|iso-8859-\d+|windows-125\d", charset)
            else "utf-8"
        )
    except LookupError:
        known = "utf-8"
    return content.decode(known, "replace")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# What is asked for


def _checked_request(url: str, method: str, headers: Any, body: Any, json: Any) -> _Request:
    if not isinstance(url, str):
        raise BadArgument(f"url is {shown(url)}; give an address such as https://example.org/hook")
    word = method.upper() if isinstance(method, str) else ""
    if word not in METHODS:
        raise BadArgument(f"method is {shown(method)}; give one of {', '.join(METHODS)}")
    given = _checked_headers(headers)
    content, kind = _checked_body(body, json)
    if content is not None and word in SAFE:
        raise BadArgument(f"a {word} has no body; leave out body and json, or use POST")
    if kind and not any(name.lower() == "content-type" for name in given):
        given["Content-Type"] = kind
    return _Request(url, word, given, content, _secrets(given))


def _checked_headers(headers: Any) -> dict[str, str]:
    """The headers; faults name them, and never show what they hold."""
    if headers is None:
        return {}
    if not isinstance(headers, Mapping) or len(headers) > MAX_HEADERS:
        raise BadArgument(f"headers are no list of at most {MAX_HEADERS} names with a text each")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise BadArgument(f"headers has a name {shown(name, 40)}; it may have letters, digits and -")
        if name.lower() in OURS:
            raise BadArgument(f"headers has {shown(name)}, which is set by the connection; leave it out")
        if not isinstance(value, str) or not re.fullmatch(r"[\t\x20-\x7e\xa0-\xff]{0,8000}", value):
            raise BadArgument(
                f"the header {shown(name)} is no text of one line in Latin-1 with at most 8,000 letters; "
                "a line end in it would begin another header"
            )
    return {name: value.strip() for name, value in headers.items()}


def _checked_body(body: Any, json: Any) -> tuple[bytes | None, str]:
    """What is sent, and its content type."""
    if body is not None and json is not None:
        raise BadArgument("both body and json are given; give one of them")
    if body is not None and not isinstance(body, str):
        raise BadArgument("body is no text; give a text, or use json for anything else")
    try:
        text = body if json is None else dumps(json, allow_nan=False, ensure_ascii=False)
        content = None if text is None else text.encode()
    except (ValueError, TypeError, RecursionError):
        what = "body" if json is None else "json"
        raise BadArgument(f"{what} cannot be written down; it has a value that JSON or UTF-8 does not know") from None
    if content is not None and len(content) > MOST_BYTES:
        raise BadArgument(f"the body has {len(content):,} bytes; {MOST_BYTES:,} may be sent")
    return content, "" if content is None else "text/plain; charset=utf-8" if json is None else "application/json"


def _checked_expect(expect: Any) -> tuple[str, ...]:
    given = [expect] if isinstance(expect, int | str) else expect
    if not isinstance(given, Sequence) or not given:
        raise BadArgument(f"expect is {shown(expect)}; give a status such as 200, a class such as 2xx, or a list")
    words = tuple(str(one).lower() for one in given)
    for word in words:
        if not re.fullmatch(r"[1-5](?:[0-9]{2}|xx)", word):
            raise BadArgument(f"expect has {shown(word)}; give a status such as 200, or a class such as 2xx")
    return words


def _checked_seconds(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 3600:
        raise BadArgument(f"timeout_seconds is {shown(seconds)}; give seconds up to 3600")
    return float(seconds)


def _secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What must not be told: whole values of headers that carry credentials, and their parts; the longest first."""
    found = set()
    for name, value in headers.items():
        if _SECRET_NAME.search(name):
            found |= {value, *re.split(r"[\s;,=:]+", value)}
    words = {"basic", "bearer", "digest", "token"}
    return tuple(
        sorted(
            (one for one in found if len(one) >= SHORTEST_SECRET and one.lower() not in words), key=len, reverse=True
        )
    )


def _for_anyone(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() in FOR_ANYONE}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)  # parts of a good address, or of one that urljoin made
    try:
        port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    except ValueError:
        port = None  # refused when it is asked
    return parts.scheme.lower(), parts.hostname, port
