"""Who is asking, and what that person or program may do.

In this order: a bearer token in the header Authorization (then nothing else counts), a user named by a trusted proxy,
the session of the cookie; and as long as there are no users, whoever is on this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from scheduler.engine.access import Access, Known
from scheduler.rules.askers import OPEN, PROXY, SESSION, TOKEN, Asker
from scheduler.rules.roles import ADMIN, OPERATOR, ROLES, VIEWER, reaches
from scheduler.settings import Settings
from scheduler.web.limits import ACT, BAD_TOKEN, READ, Limits

__all__ = [
    "ADMIN",
    "OPERATOR",
    "ROLES",
    "VIEWER",
    "Admin",
    "Caller",
    "Operator",
    "Viewer",
    "address_of",
    "at_least",
    "caller_of",
    "cookie_name",
    "is_loopback",
]

SCHEME = {"WWW-Authenticate": "Bearer"}
SAFE = frozenset({"GET", "HEAD"})
FORWARDED = ("forwarded", "x-forwarded-for", "via")


@dataclass(frozen=True)
class Caller:
    """Who is asking. `via` is how that is known: session, token, proxy, or open (no users yet, and loopback only)."""

    name: str
    role: str
    via: str
    address: str = ""

    def may(self, role: str) -> bool:
        """Whether this caller may do what `role` may."""
        return reaches(self.role, role)

    @property
    def asker(self) -> Asker:
        """As the engine and the audit know the caller."""
        return Asker(self.name, self.via, self.address)


def caller_of(request: Request) -> Caller:
    """Who is asking. Raises 401 when nobody knows."""
    request.state.caller = caller = _find_caller(request)
    return caller


def _find_caller(request: Request) -> Caller:
    access: Access = request.app.state.access
    settings: Settings = request.app.state.settings
    address = address_of(request)
    if has_token(request):
        return _told(_by_token(request, access, address), TOKEN, address)
    if settings.proxy_user_header and _is_trusted(_peer(request), settings):
        name = request.headers.get(settings.proxy_user_header, "")
        if name:
            return _told(access.named(name), PROXY, address)
    cookie = request.cookies.get(cookie_name(settings))
    known = access.of_session(cookie) if cookie else None
    if known is None and _is_open(request, settings, access):
        return Caller("local", ADMIN, OPEN, address)
    return _told(known, SESSION, address)


def at_least(role: str) -> Callable[[Request, Caller], Caller]:
    """A dependency: the caller, who may do what `role` may; else 403. Raises 429 for one who asks too often."""

    def check(request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
        if not caller.may(role):
            raise HTTPException(403, f"This needs the role {role}; {caller.name} has {caller.role}")
        limits: Limits = request.app.state.limits
        too_many(limits, READ if request.method in SAFE else ACT, caller.name)
        return caller

    check.role = role  # type: ignore[attr-defined]  # for the description of the HTTP interface
    return check


def role_for(call: Any) -> str | None:
    """The role that a dependency asks for; None when it is another one."""
    return getattr(call, "role", None)


def too_many(limits: Limits, what: str, who: str) -> None:
    """Count one more. Raises 429."""
    wait = limits.take(what, who)
    if wait is not None:
        raise HTTPException(429, f"Too many requests; try again in {wait} s", {"Retry-After": str(wait)})


Viewer = Annotated[Caller, Depends(at_least(VIEWER))]
Operator = Annotated[Caller, Depends(at_least(OPERATOR))]
Admin = Annotated[Caller, Depends(at_least(ADMIN))]


# --- how that is known ----------------------------------------------------------------------------------------------


def has_token(request: Request) -> bool:
    """Whether the request brings a token. Other schemes are those of a proxy, and browsers send them by themselves."""
    return request.headers.get("authorization", "").partition(" ")[0].lower() == "bearer"


def cookie_name(settings: Settings) -> str:
    """With https the browser itself holds the cookie to this one host, and sends it over nothing else. Below a path it
    cannot hold both: then the cookie is held to the path, which `__Host-` does not allow."""
    if not is_https(settings):
        return "scheduler"
    return "__Secure-scheduler" if settings.web_path else "__Host-scheduler"


def cookie_path(settings: Settings) -> str:
    """Where the browser sends cookies to."""
    return settings.web_path or "/"


def is_https(settings: Settings) -> bool:
    return (settings.base_url or "").lower().startswith("https://")


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def address_of(request: Request) -> str:
    """Where the request came from: the last address that a trusted proxy saw, else the peer's."""
    settings: Settings = request.app.state.settings
    peer = _peer(request)
    if not _is_trusted(peer, settings):
        return peer
    seen = [part.strip() for part in request.headers.get("x-forwarded-for", "").split(",") if part.strip()]
    return next((one[:45] for one in reversed(seen) if not _is_trusted(one, settings)), peer)


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def _is_trusted(address: str, settings: Settings) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in ipaddress.ip_network(network) for network in settings.trusted_proxies)


def _is_open(request: Request, settings: Settings, access: Access) -> bool:
    """Whether there are no users yet and the request is from this machine, through no proxy."""
    if not is_loopback(settings.web_address) or any(name in request.headers for name in FORWARDED):
        return False
    return not access.has_users()


def _by_token(request: Request, access: Access, address: str) -> Known | None:
    token = request.headers["authorization"].partition(" ")[2]
    known = access.of_token(token.strip())
    if known is None:
        too_many(request.app.state.limits, BAD_TOKEN, address)
    return known


def _told(known: Known | None, via: str, address: str) -> Caller:
    if known is None:
        detail = {
            TOKEN: "The token is unknown, has expired, or was revoked",
            PROXY: "The proxy names a user whom nobody knows here; `scheduler user add` adds one",
        }.get(via, "Log in, or bring a token: Authorization: Bearer sch_…")
        raise HTTPException(401, detail, SCHEME)
    return Caller(known.name, known.role, via, address)
