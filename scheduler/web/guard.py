"""What holds for every request and every answer, errors too: known hosts, no writes from other sites, sizes, headers.

Outermost of all that we have in the way of a request. It keeps an eye on answers that stream, and changes no body.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scheduler.settings import Settings
from scheduler.web import sandbox
from scheduler.web.answers import OURS_TO_MEND, is_for_programs, plain_refusal
from scheduler.web.below import inner, outer_address
from scheduler.web.callers import has_token, is_loopback

log = logging.getLogger(__name__)

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
MOST_BYTES = 2_000_000  # of a request: a schedule file of a megabyte, escaped
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
HALF_A_YEAR = 15_768_000  # seconds


class Guard:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        base = urlsplit(settings.base_url or "")
        self.base_origin = f"{base.scheme}://{base.netloc}".lower() if base.netloc else None
        self.is_https = base.scheme == "https"
        self.path = settings.web_path
        # A page that only this machine can reach is known by no other machine's name.
        own = {"localhost"} if is_loopback(settings.web_address) else {"localhost", socket.gethostname().lower()}
        self.hosts = own | ({base.hostname.lower()} if base.hostname else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # a websocket is not answered
        scope = inner(scope, self.path)
        request, begun = Request(scope), False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._add_headers(MutableHeaders(scope=message))
            await send(message)

        refused = self._why_not(request)
        if refused is not None:
            await plain_refusal(request, *refused)(scope, receive, send_with_headers)
            return
        try:
            await self.app(scope, _bounded(receive), send_with_headers)
        except ClientDisconnect:
            log.debug("%s %s: gone before it was read", request.method, request.url.path)
        except Exception:
            asked = scope.get("raw_path", b"")[:200].decode("ascii", "backslashreplace")  # as it came: on one line
            log.exception("%s %s failed", request.method, asked, extra={"event": "web_request_failed"})
            if not begun:
                await plain_refusal(request, 500, OURS_TO_MEND)(scope, receive, send_with_headers)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _why_not(self, request: Request) -> tuple[int, str] | None:
        """Status and words when the request is not to be answered."""
        headers = request.headers
        if not self._is_known_host(headers.get("host", "")):
            return 421, (
                f"This service is not known as {headers.get('host', '')[:80]!r}. If people reach it by that name, "
                "set base_url (SCHEDULER_BASE_URL) to it."
            )
        if "\0" in request.scope["path"]:  # which no name of ours holds, and PostgreSQL no text
            return 404, "There is nothing at this address."
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > MOST_BYTES:
            return 413, _too_large()
        if request.method not in SAFE and not self._is_from_here(request):
            return 403, (
                "A request that changes something must come from a page of this service (Sec-Fetch-Site or Origin "
                "say it does not), or bring a token: Authorization: Bearer sch_…"
            )
        return None

    def _is_known_host(self, host: str) -> bool:
        """Another site's name that was made to lead here (DNS rebinding) is none of ours; an address cannot be one."""
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower().rstrip(".") in self.hosts
        return True

    def _is_from_here(self, request: Request) -> bool:
        headers = request.headers
        if has_token(request):
            return True  # another site cannot add it; and then nothing but the token says who asks
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site == "same-origin"
        origin = headers.get("origin")
        if origin is not None:
            return origin.lower() in {self.base_origin, f"{request.url.scheme}://{headers.get('host', '')}".lower()}
        # No browser: those send one of the two. And no form of another site could send this type.
        is_json = headers.get("content-type", "").split(";")[0].strip().lower() == "application/json"
        return is_json and "cookie" not in headers and is_for_programs(request.url.path)

    # --- answers ----------------------------------------------------------------------------------------------------

    def _add_headers(self, headers: MutableHeaders) -> None:
        own = sandbox.HEADERS if headers.get("Content-Security-Policy") == sandbox.SANDBOXED else {}
        for name, value in {**HEADERS, **own}.items():
            headers[name] = value
        headers.setdefault("Cache-Control", "no-store")
        if "Location" in headers:
            headers["Location"] = outer_address(headers["Location"], self.path)
        if self.is_https:
            headers["Strict-Transport-Security"] = f"max-age={HALF_A_YEAR}"


def _bounded(receive: Receive) -> Receive:
    """The same, until more has come than any request may have."""
    total = 0

    async def receive_some() -> Message:
        nonlocal total
        message = await receive()
        if message["type"] == "http.request":
            total += len(message.get("body", b""))
            if total > MOST_BYTES:
                raise HTTPException(413, _too_large())
        return message

    return receive_some


def _too_large() -> str:
    return f"The request is larger than {MOST_BYTES:,} bytes."
