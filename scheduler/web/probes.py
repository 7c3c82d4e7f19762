"""/healthz and /readyz, for whoever restarts and routes: they say yes or no, and nothing else, to anybody."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse

from scheduler.engine.backends import Backends
from scheduler.errors import PartAway
from scheduler.store import schedules

router = APIRouter(include_in_schema=False)


@router.api_route("/healthz", methods=["GET", "HEAD"])
async def healthz() -> PlainTextResponse:
    """The process lives. No thread and no backend is asked: a slow database is no reason to start it again."""
    return PlainTextResponse("ok\n")


@router.api_route("/readyz", methods=["GET", "HEAD"])
def readyz(request: Request) -> PlainTextResponse:
    """SQL and Redis answer."""
    backends: Backends = request.app.state.backends
    try:
        with backends.database.read() as session:
            schedules.now(session)
        backends.room.is_planted()
    except PartAway:
        return PlainTextResponse("not ready\n", 503, {"Retry-After": "5"})
    return PlainTextResponse("ready\n")
