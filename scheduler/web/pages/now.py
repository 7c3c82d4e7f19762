"""Now: whether all is well, and what is going on; it keeps itself up to date."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, StreamingResponse

from scheduler.clock import parse_iso
from scheduler.engine.backends import Backends
from scheduler.engine.page.frame import service_zone
from scheduler.engine.page.now import now_of
from scheduler.web.callers import OPERATOR, Viewer, caller_of
from scheduler.web.events import Regions, stream
from scheduler.web.templating import page, regions

router = APIRouter(include_in_schema=False)

PARTS = "now_parts.html.jinja"
REGIONS = ("troubles", "verdict", "failing", "late", "missed", "alerts", "running", "queues", "coming", "held", "ended")


@router.get("/")
def now_page(request: Request, caller: Viewer) -> HTMLResponse:
    told = _told(request.app.state.backends, caller.may(OPERATOR))
    return page(request, caller, "now.html.jinja", told=told, now=parse_iso(told["now"]))


@router.get("/events/now")
def now_events(request: Request, caller: Viewer) -> StreamingResponse:
    backends: Backends = request.app.state.backends
    hub = request.app.state.events
    settings = request.app.state.settings
    with_faults = caller.may(OPERATOR)

    def ask() -> Regions:
        told = _told(backends, with_faults)
        zone = service_zone(backends.database)
        return regions(PARTS, REGIONS, settings, told=told, now=parse_iso(told["now"]), zone=zone)

    return stream(hub, f"now, faults {with_faults}", ask, caller, lambda: caller_of(request))


def _told(backends: Backends, with_faults: bool) -> dict[str, Any]:
    return now_of(backends.database, backends.room, with_faults=with_faults)
