"""The schedules as plain dicts, each with its last task and its next fire time; see views.py, which tells the tasks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import aliased

from scheduler.clock import iso
from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.states import PLANNED
from scheduler.rules.times.fire_times import fire_times
from scheduler.rules.times.words import in_words
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.schedules import pause_of
from scheduler.store.tables import PLANNED_FOR_EVER, Schedule, Task


def schedules_list(
    database: Database, now: dt.datetime | None = None, *, retired: bool = True, ids: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Every schedule by name (of `ids` alone, where given), with its last ended task and its next fire time; `now` is
    the database's unless given."""
    last = aliased(Task)
    last_id = (
        select(Task.id)
        .where(Task.schedule_id == Schedule.id, Task.finished_at.is_not(None))
        .order_by(Task.id.desc())
        .limit(1)
        .correlate(Schedule)
        .scalar_subquery()
    )
    with database.read() as session:
        moment = now or schedules.now(session)
        query = (
            select(
                Schedule,
                last.id.label("last_id"),
                last.state.label("last_state"),
                last.fire_time.label("last_fire_time"),
                last.finished_at.label("last_finished_at"),
                _next_planned(moment).label("next"),
            )
            .outerjoin(last, last.id == last_id)
            .order_by(Schedule.name)
        )
        if not retired:
            query = query.where(Schedule.retired_at.is_(None))
        if ids is not None:
            query = query.where(Schedule.id.in_(ids))
        return [_schedule(row, moment) for row in session.execute(query)]


def _next_planned(now: dt.datetime) -> Any:
    return (
        select(Task.fire_time)
        .where(Task.schedule_id == Schedule.id, Task.fire_time > now, Task.state == PLANNED)
        .order_by(Task.fire_time)
        .limit(1)
        .correlate(Schedule)
        .scalar_subquery()
    )


def _schedule(row: Any, now: dt.datetime) -> dict[str, Any]:
    schedule: Schedule = row.Schedule
    spec = ScheduleSpec.model_validate(schedule.spec)
    state = _state(schedule)
    last = {
        "id": row.last_id,
        "state": row.last_state,
        "fire_time": iso(row.last_fire_time),
        "finished_at": iso(row.last_finished_at),
    }
    return {
        "name": schedule.name,
        "task": spec.task,
        "kind": spec.kind,
        "words": in_words(spec),
        "timezone": spec.timezone,
        "state": state,
        "pause": _pause(schedule) if state == "paused" else None,
        "parked": schedule.parked,
        "retired_at": iso(schedule.retired_at),
        "last": None if row.last_id is None else last,
        "next": iso(row.next or _next_computed(schedule, spec, state, now)),
        "failures_in_a_row": schedule.failures_in_a_row,
        "owner": spec.owner,
        "about": spec.about,
        "tags": list(spec.tags),
    }


def _state(schedule: Schedule) -> str:
    if schedule.retired_at is not None:
        return "retired"
    if schedule.parked is not None:
        return "parked"
    return "active" if pause_of(schedule) is None else "paused"


def _pause(schedule: Schedule) -> dict[str, Any]:
    pause = pause_of(schedule)
    assert pause is not None
    source = "file" if schedule.file_pause else "itself" if pause.by == "itself" else "operator"
    return {"by": pause.by, "why": pause.why, "until": iso(pause.until), "since": iso(pause.since), "source": source}


def _next_computed(schedule: Schedule, spec: ScheduleSpec, state: str, now: dt.datetime) -> dt.datetime | None:
    """When it fires next although no row says so: it is paused until a moment, or nobody plans at the time."""
    after = now
    if state == "paused":
        pause = pause_of(schedule)
        if pause is None or pause.until is None:
            return None
        after = max(now, pause.until)
    elif state != "active" or schedule.planned_until >= PLANNED_FOR_EVER:
        return None
    return next(fire_times(spec, after), None)
