"""A page that a task wrote, as it goes out: with rights of its own, which are none.

A browser gives it an origin that is nobody's: no cookie, no storage, no script, nothing from elsewhere. It is shown in
a frame of ours, and is as harmless when somebody opens its address by itself.
"""

from __future__ import annotations

from starlette.responses import HTMLResponse

SANDBOXED = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
HEADERS = {"Content-Security-Policy": SANDBOXED, "X-Frame-Options": "SAMEORIGIN"}


def sandboxed(html: str) -> HTMLResponse:
    """The answer with that page; guard.py leaves its headers as they are."""
    return HTMLResponse(html.encode("utf-8", "replace"), headers=HEADERS)
