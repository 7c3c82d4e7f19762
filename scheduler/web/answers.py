"""Answers that say no: RFC 9457 problems for programs, pages for people; both say what is wrong and how to mend it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from scheduler.errors import FileFaults, NotFound, PartAway, Refused, SchedulerError, WrongUsage
from scheduler.web.callers import Caller, caller_of
from scheduler.web.templating import page

log = logging.getLogger(__name__)

API = "/api/"
TRY_AGAIN_SECONDS = 5
NEWER_PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}  # RFC 9110; Python 3.11 knows older ones
STATUSES: tuple[tuple[type[SchedulerError], int], ...] = (
    (NotFound, 404),
    (Refused, 409),
    (WrongUsage, 422),
    (FileFaults, 422),
    (PartAway, 503),
)
OURS_TO_MEND = "Something went wrong here, and it is ours to mend; the log of the web part has the details."


def is_for_programs(path: str) -> bool:
    return path.startswith(API) and path != API


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """A problem as RFC 9457 has it."""
    body = {"type": "about:blank", "title": _phrase(status), "status": status, "detail": detail, **more}
    return JSONResponse(body, status, dict(headers or {}), media_type="application/problem+json")


def refusal(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """No, for a program or a person."""
    if is_for_programs(request.url.path):
        return problem(status, detail, headers=headers)
    try:
        caller = _known_caller(request)
        answer = page(request, caller, "error.html.jinja", status, title=_phrase(status), detail=detail)
    except PartAway:  # a page shows more than the error, and asks SQL for it
        return plain_refusal(request, status, detail, headers)
    answer.headers.update(headers or {})
    return answer


def _known_caller(request: Request) -> Caller | None:
    """Who asks, also at an address that asks nobody; None for one whom nobody knows."""
    known: Caller | None = getattr(request.state, "caller", None)
    if known is not None:
        return known
    try:
        return caller_of(request)
    except HTTPException:
        return None


def plain_refusal(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The same without a page around it, for which nothing needs to be asked."""
    if is_for_programs(request.url.path):
        return problem(status, detail, headers=headers)
    return PlainTextResponse(f"{status} {_phrase(status)}\n{detail}\n", status, dict(headers or {}))


def on_http_error(request: Request, error: Exception) -> Response:
    """An answer other than 2xx that an endpoint, or the router, asked for."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if error.status_code == 401 and wants_page and not is_for_programs(request.url.path):
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/log-in?next={quote(here)}", 303)
    detail = str(error.detail)
    if detail == _phrase(error.status_code):  # the router's own words say nothing more
        detail = {404: "There is nothing at this address.", 405: "This address does not take that method."}.get(
            error.status_code, detail
        )
    return refusal(request, error.status_code, detail, headers)


def on_our_error(request: Request, error: Exception) -> Response:
    """What the engine refuses, in its own words."""
    assert isinstance(error, SchedulerError)
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    headers = {"Retry-After": str(TRY_AGAIN_SECONDS)} if status == 503 else {}
    if status == 500:
        log.error("%s", error, extra={"event": "web_fault"})
        return refusal(request, status, OURS_TO_MEND)
    return refusal(request, status, str(error), headers)


def on_bad_input(request: Request, error: Exception) -> Response:
    """Values that do not fit: each with its place."""
    assert isinstance(error, RequestValidationError)
    errors = [
        {"where": ".".join(map(str, one["loc"])), "message": str(one["msg"]).removeprefix("Value error, ")}
        for one in error.errors()[:20]
    ]
    detail = "; ".join(f"{one['where']}: {one['message']}" for one in errors)
    if is_for_programs(request.url.path):
        return problem(422, detail, errors=errors)
    return refusal(request, 422, detail)


def on_fault(request: Request, error: Exception) -> Response:
    """Our own mistake."""
    return refusal(request, 500, OURS_TO_MEND)


def _phrase(status: int) -> str:
    try:
        return NEWER_PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Error"
