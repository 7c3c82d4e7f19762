"""Schedules: what there is, what comes, and holding, running and making good."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse

from scheduler.engine.actions import SCHEDULE, Actions
from scheduler.engine.answers.api_views import coming, schedule_named, schedules_after
from scheduler.engine.backfill import Backfills
from scheduler.web.api import told
from scheduler.web.api.asking import OperatorAsks, OperatorRuns
from scheduler.web.api.values import (
    BackfillBody,
    NextAsked,
    NothingBody,
    PauseBody,
    RunBody,
    ScheduleName,
    SchedulesAsked,
)
from scheduler.web.callers import Viewer
from scheduler.web.here import BackendsHere

router = APIRouter(prefix="/schedules", tags=["schedules"])


@router.get("", response_model=told.Schedules)
def list_schedules(caller: Viewer, backends: BackendsHere, asked: SchedulesAsked) -> Any:
    """The schedules by name, some at a time."""
    found = schedules_after(backends.database, asked.cursor, asked.limit, query=asked.q, state=asked.state or "")
    return {"schedules": found.rows, "next_cursor": found.next_cursor}


@router.get("/{name}", response_model=told.Schedule)
def show_schedule(caller: Viewer, backends: BackendsHere, name: ScheduleName) -> Any:
    """One schedule."""
    return schedule_named(backends.database, name)


@router.get("/{name}/next", response_model=told.FireTimes)
def next_fire_times(caller: Viewer, backends: BackendsHere, name: ScheduleName, asked: NextAsked) -> Any:
    """Its fire times to come."""
    return coming(backends.database, name, asked.after, asked.count)


@router.post("/{name}/run", response_model=told.Asked, status_code=201)
def run_schedule(now: OperatorRuns, name: ScheduleName, body: RunBody | None = None) -> Any:
    """Run it once, now, as a new task."""
    return now.run(name, body, SCHEDULE)


@router.post("/{name}/pause", response_model=told.Held)
def pause_schedule(asker: OperatorAsks, backends: BackendsHere, name: ScheduleName, body: PauseBody) -> Any:
    """Hold it; what it would have fired is recorded as skipped."""
    Actions(backends.database, backends.room, asker).pause(name, body.why, body.until)
    return {"schedule": name, "paused": True}


@router.post("/{name}/resume", response_model=told.Held)
def resume_schedule(
    asker: OperatorAsks, backends: BackendsHere, name: ScheduleName, body: NothingBody | None = None
) -> Any:
    """Let it go on; what passed meanwhile stays skipped."""
    Actions(backends.database, backends.room, asker).resume(name)
    return {"schedule": name, "paused": False}


@router.post("/{name}/backfill", response_model=told.Backfill, responses={201: {"model": told.Backfill}})
def backfill_schedule(asker: OperatorAsks, backends: BackendsHere, name: ScheduleName, body: BackfillBody) -> Any:
    """A task for each past fire time in a span that has not succeeded; 201 when there are any."""
    made = Backfills(backends.database, backends.room, asker).backfill(
        name, body.first, body.last, everything=body.everything, dry_run=body.dry_run
    )
    return JSONResponse(made.as_json(), 201 if made.task_ids else 200)
