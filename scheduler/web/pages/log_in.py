"""Log-in and log-out: a form in, a cookie out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from scheduler.engine.access import LONGEST, Access
from scheduler.web.callers import address_of, caller_of, cookie_name, cookie_path, is_https
from scheduler.web.limits import LOG_IN, Limits
from scheduler.web.templating import page

router = APIRouter()

WRONG = "Name or password are wrong."
Next = Annotated[str, Query(alias="next", max_length=2000)]


@router.get("/log-in")
def log_in_page(request: Request, next_page: Next = "/") -> Response:
    """The form; who is known already goes on."""
    try:
        caller_of(request)
    except HTTPException:
        return page(request, None, "log_in.html.jinja", next=local_path(next_page), error="", name="")
    return RedirectResponse(local_path(next_page), 303)


@router.post("/log-in")
def log_in(
    request: Request,
    name: Annotated[str, Form(max_length=64)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    next_page: Annotated[str, Form(alias="next", max_length=2000)] = "/",
) -> Response:
    """A new session, with a new token: whatever cookie the browser had before is worth nothing."""
    state = request.app.state
    access: Access = state.access
    limits: Limits = state.limits
    address = address_of(request)
    counted = (f"account {name.casefold()}", f"address {address}")
    waits = [wait for who in counted if (wait := limits.take(LOG_IN, who)) is not None]
    if waits:
        error = f"Too many tries; wait {max(waits)} s."
        refused = page(request, None, "log_in.html.jinja", 429, next=local_path(next_page), error=error, name=name)
        refused.headers["Retry-After"] = str(max(waits))
        return refused
    token = access.log_in(name, password, address)
    if token is None:
        return page(request, None, "log_in.html.jinja", 401, next=local_path(next_page), error=WRONG, name=name)
    for who in counted:
        limits.give_back(LOG_IN, who)
    forget_session(request)
    answer = RedirectResponse(local_path(next_page), 303)
    answer.set_cookie(
        cookie_name(state.settings),
        token,
        max_age=int(LONGEST.total_seconds()),
        path=cookie_path(state.settings),
        secure=is_https(state.settings),
        httponly=True,
        samesite="lax",
    )
    return answer


@router.post("/log-out")
def log_out(request: Request) -> Response:
    """End the session here and now."""
    settings = request.app.state.settings
    forget_session(request)
    answer = RedirectResponse("/log-in", 303)
    answer.delete_cookie(
        cookie_name(settings), path=cookie_path(settings), secure=is_https(settings), httponly=True, samesite="lax"
    )
    return answer


def forget_session(request: Request) -> None:
    """End the session that the request's cookie names, if there is one."""
    cookie = request.cookies.get(cookie_name(request.app.state.settings))
    if cookie:
        access: Access = request.app.state.access
        access.log_out(cookie, address_of(request))


def local_path(path: str) -> str:
    """The path, where it leads to a page of this service; else the first page.

    >>> [local_path(one) for one in ("/tasks?state=failed", "//evil", "/\\\\evil", "https://evil", "/a\\n")]
    ['/tasks?state=failed', '/', '/', '/', '/']
    """
    is_plain = path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path
    parts = urlsplit(path) if is_plain else None
    return path if parts is not None and not parts.scheme and not parts.netloc else "/"
