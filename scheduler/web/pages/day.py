"""Day: a lane a schedule over one local day, past and to come."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from scheduler.engine.backends import Backends
from scheduler.engine.page.day import DAY, Day, day_of
from scheduler.engine.page.frame import service_zone
from scheduler.rules.states import CANCELLED, FAILED, LOST, MISSED, PLANNED, RUNNING, SKIPPED, SUCCEEDED
from scheduler.web.callers import Viewer
from scheduler.web.charts import day_picture, legend
from scheduler.web.templating import page

router = APIRouter(include_in_schema=False)

SHOWN = (SUCCEEDED, FAILED, LOST, MISSED, SKIPPED, CANCELLED, RUNNING, PLANNED)
FIRST, LAST = dt.date(1970, 1, 2), dt.date(2199, 12, 30)  # as the file's own days

Date = Annotated[dt.date | None, Query(ge=FIRST, le=LAST)]
Words = Annotated[str, Query(max_length=100)]


@router.get("/day")
def day_page(
    request: Request,
    caller: Viewer,
    date: Date = None,
    q: Words = "",
    page_number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> HTMLResponse:
    backends: Backends = request.app.state.backends
    day = day_of(backends.database, service_zone(backends.database), date, q.strip(), page_number)
    return page(
        request,
        caller,
        "day.html.jinja",
        day=day,
        query=q.strip(),
        picture=day_picture(day),
        legend=legend(SHOWN, _shades(day)),
        before=max(day.date - DAY, FIRST),
        after=min(day.date + DAY, LAST),
        now=day.now,
    )


def _shades(day: Day) -> dict[str, str]:
    """What is shaded on that day, by class."""
    found = {}
    if any(lane.blackouts for lane in day.lanes):
        found["shade-blackout"] = "blackout"
    if day.outages or any(lane.gaps for lane in day.lanes):
        found["shade-outage"] = "the service stood still, or a part was silent"
    return found
