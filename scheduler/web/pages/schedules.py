"""All schedules, and one: how it has done, what it will do, what is set, who edited it; and why it ran at a moment."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import HTMLResponse

from scheduler.clock import utc_now
from scheduler.engine.answers.explain import Explanation, explain
from scheduler.engine.backends import Backends
from scheduler.engine.page.schedule import Calendar, SchedulePage, calendar, ledger, schedule_page, settings_in_force
from scheduler.engine.page.schedules import SHOWN, Outcome, ScheduleRow, schedules_page
from scheduler.errors import WrongUsage
from scheduler.rules.brief import brief
from scheduler.rules.states import CANCELLED, FAILED, LOST, MISSED, SKIPPED, SUCCEEDED
from scheduler.rules.times.moments import zone_named
from scheduler.rules.times.typed_moments import typed_moment
from scheduler.web.callers import Viewer
from scheduler.web.charts import Bar, DayTally, Mark, duration_bars, heat_map, legend, strip
from scheduler.web.here import BackendsHere, CatalogueHere
from scheduler.web.telling import told_page

router = APIRouter(include_in_schema=False)

LARGEST_ID = 2**63 - 1
Search = Annotated[str, Query(max_length=100)]
Page = Annotated[int, Query(ge=1, le=1_000_000)]
Id = Annotated[int | None, Query(ge=1, le=LARGEST_ID)]
Name = Annotated[str, Path(max_length=200)]
At = Annotated[str, Query(max_length=40)]


@router.get("/schedules")
def schedules(
    request: Request, caller: Viewer, backends: BackendsHere, q: Search = "", state: Search = "", page: Page = 1
) -> HTMLResponse:
    shown = state if state in SHOWN else ""
    found = schedules_page(backends.database, query=q, state=shown, page=page)
    strips = {row.facts["name"]: strip([one.state for one in row.outcomes]) for row in found.rows}
    return told_page(
        request,
        caller,
        "schedules.html.jinja",
        found=found,
        strips=strips,
        q=q,
        state=shown,
        states=SHOWN,
        legend=legend((SUCCEEDED, FAILED, MISSED, SKIPPED, CANCELLED, LOST)),
        is_slow=_is_slow,
    )


@router.get("/schedules/{name}")
def schedule(
    request: Request,
    caller: Viewer,
    backends: BackendsHere,
    catalogue: CatalogueHere,
    name: Name,
    before: Id = None,
    at: At = "",
) -> HTMLResponse:
    found = schedule_page(backends.database, name)
    function = catalogue.functions.get(found.spec.task)
    days = calendar(backends.database, name)
    explained, at_fault = _explained(backends, name, at)
    return told_page(
        request,
        caller,
        "schedule.html.jinja",
        found=found,
        facts=found.row.facts,
        zone=found.spec.timezone,
        ledger=ledger(backends.database, name, before=before),
        before=before,
        settings=settings_in_force(backends.database, found.spec, function),
        strip=strip([one.state for one in found.row.outcomes]),
        map=_map(days, name),
        days=days,
        bars=_bars(found),
        legend=legend((SUCCEEDED, FAILED, MISSED, SKIPPED, CANCELLED, LOST)),
        explained=explained,
        at=at,
        at_fault=at_fault,
    )


# --- pictures -------------------------------------------------------------------------------------------------------


def _mark(outcome: Outcome, zone: str) -> Mark:
    took = "" if outcome.took is None else f", {brief(outcome.took)}"
    when = outcome.at.astimezone(zone_named(zone))
    return Mark(outcome.state, f"{when:%a %Y-%m-%d %H:%M:%S}: {outcome.state}{took}", f"/tasks/{outcome.task_id}")


def _bars(found: SchedulePage) -> str:
    usual = found.row.usual
    bars = [
        Bar(one.took.total_seconds(), _mark(one, found.spec.timezone))
        for one in found.row.outcomes
        if one.took is not None
    ]
    return duration_bars(bars, None if usual is None else usual.total_seconds())


def _map(days: Calendar, name: str) -> str:
    tallies = {day: _tally(Counter(states)) for day, states in days.days.items()}
    return heat_map(tallies, days.first, days.last, f"/day?q={quote(name)}&date={{day}}")


def _tally(states: Counter[str]) -> DayTally:
    return DayTally(
        good=states[SUCCEEDED],
        bad=states[FAILED] + states[LOST],
        missed=states[MISSED],
        other=states[SKIPPED] + states[CANCELLED],
    )


def _is_slow(row: ScheduleRow) -> bool:
    """Whether its last run took twice what is usual, and long enough for somebody to care."""
    usual, last = row.usual, row.last_took
    return usual is not None and last is not None and last > 2 * usual and last - usual > dt.timedelta(seconds=1)


# --- why ------------------------------------------------------------------------------------------------------------


def _explained(backends: Backends, name: str, at: str) -> tuple[Explanation | None, str]:
    """Why it ran at a moment or did not; and what is wrong with the moment as it was typed."""
    if not at.strip():
        return None, ""
    try:
        return explain(backends.database, name, lambda zone: typed_moment(at, zone, utc_now())), ""
    except WrongUsage as error:
        return None, str(error)
