"""What an action did, said on the page that the browser is sent to after it.

It travels in a cookie of a minute: the address stays one that can be shared, and saying it once is enough.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.responses import HTMLResponse, RedirectResponse

from scheduler.web.callers import Caller, cookie_path, is_https
from scheduler.web.templating import page

COOKIE = "told"
LONGEST = 1500  # letters of a text, as of all warnings together
MOST_BYTES = 3_800  # of the cookie's value: browsers keep no larger one than 4,096 with its name and attributes
SECONDS = 60


@dataclass(frozen=True)
class Told:
    text: str
    warnings: tuple[str, ...] = ()


def see_other(request: Request, address: str, text: str, warnings: Sequence[str] = ()) -> RedirectResponse:
    """Send the browser to `address`, where it is told what was done."""
    answer = RedirectResponse(address, 303)
    answer.set_cookie(
        COOKIE,
        _written(text[:LONGEST], [warning[:LONGEST] for warning in warnings]),
        max_age=SECONDS,
        path=cookie_path(request.app.state.settings),
        httponly=True,
        samesite="lax",
        secure=is_https(request.app.state.settings),
    )
    return answer


def _written(text: str, warnings: list[str]) -> str:
    """The value of the cookie, with as many of the warnings as fit into it."""
    content = json.dumps([text, *warnings], ensure_ascii=False).encode("utf-8", "replace")
    value = base64.urlsafe_b64encode(content).decode()
    if len(value) <= MOST_BYTES:
        return value
    return _written(text, warnings[:-1]) if warnings else _written(text[: len(text) // 2] + "…", [])


def told_page(request: Request, caller: Caller, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page that knows as `told` what the action before it did, and says so once."""
    told = _told(request.cookies.get(COOKIE, ""))
    answer = page(request, caller, template, status, told=told, **values)
    if COOKIE in request.cookies:
        answer.delete_cookie(COOKIE, path=cookie_path(request.app.state.settings))
    return answer


def _told(cookie: str) -> Told | None:
    """What a cookie says; None for one that we did not write. It is shown to whoever sent it, and escaped."""
    if not cookie or len(cookie) > 4096:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(cookie))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        return None
    return Told(found[0], tuple(found[1:]))
