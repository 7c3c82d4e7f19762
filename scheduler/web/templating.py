"""How pages are written: Jinja templates with autoescape on, and the words and filters that all of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from scheduler.web.callers import Caller

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(request: Request, caller: Caller, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page (or a part of one) as it goes out; every template also knows `caller`, `service`, and `path`."""
    text = ENVIRONMENT.get_template(template).render(
        caller=caller, service=request.app.state.settings.name, path=request.url.path, **values
    )
    return HTMLResponse(text, status)
