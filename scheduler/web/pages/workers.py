"""Workers: the parts of the service, who works on what, and the queues; it keeps itself up to date."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, StreamingResponse

from scheduler.clock import parse_iso
from scheduler.engine.backends import Backends
from scheduler.engine.page.frame import service_zone
from scheduler.engine.page.workers import workers_of
from scheduler.web.callers import Viewer, caller_of
from scheduler.web.events import Regions, stream
from scheduler.web.templating import page, regions

router = APIRouter(include_in_schema=False)

PARTS = "workers_parts.html.jinja"
REGIONS = ("troubles", "workers", "queues", "kinds", "parts")


@router.get("/workers")
def workers_page(request: Request, caller: Viewer) -> HTMLResponse:
    backends: Backends = request.app.state.backends
    told = workers_of(backends.database, backends.room)
    return page(request, caller, "workers.html.jinja", told=told, now=parse_iso(told["now"]))


@router.get("/events/workers")
def workers_events(request: Request, caller: Viewer) -> StreamingResponse:
    backends: Backends = request.app.state.backends

    def ask() -> Regions:
        told = workers_of(backends.database, backends.room)
        zone = service_zone(backends.database)
        return regions(PARTS, REGIONS, request.app.state.settings, told=told, now=parse_iso(told["now"]), zone=zone)

    return stream(request.app.state.events, "workers", ask, caller, lambda: caller_of(request))
