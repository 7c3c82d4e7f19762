"""Holding a schedule and letting it go: what passes meanwhile is written as skipped, nothing fires after the fact."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from scheduler.engine.planner import plan
from scheduler.engine.rows import OccurrenceRows
from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.states import PLANNED, QUEUED
from scheduler.rules.times.occurrences import forecast
from scheduler.rules.times.pause import Pause
from scheduler.store import tasks
from scheduler.store.schedules import pause_of, pauses_of
from scheduler.store.tables import Schedule, Task

log = logging.getLogger(__name__)

NO_HORIZON = dt.timedelta(0)
PARKED = "parked"  # the reason code of what passed while a schedule was parked


Jobs = list[tuple[int, int, str]]
"""(task id, attempt, queue) each: what the caller takes out of Redis, once it has committed."""


def settle_past(session: Session, schedule: Schedule, now: dt.datetime) -> Jobs:
    """Write what the schedule's fire times up to now became, by the rules in force until now, and take back what was
    foretold for later, whose jobs are the answer. From here on it may be planned anew.

    Waits for a planner that is at the schedule: what it writes would else stand beside what follows.
    """
    session.flush()
    session.refresh(schedule, with_for_update=True)
    if schedule.planned_until < now and schedule.parked is not None:
        _skip_while_parked(session, schedule, now)
    elif schedule.planned_until < now:
        plan(session, [schedule], now, NO_HORIZON)
        session.flush()
        session.refresh(schedule)  # `plan` writes by UPDATE
    withdrawn = tasks.withdraw_forecast(session, [schedule.id], now)
    schedule.planned_until = now
    schedule.planned_runs = max(0, schedule.planned_runs - len(withdrawn))
    return withdrawn


def _skip_while_parked(session: Session, schedule: Schedule, now: dt.datetime) -> None:
    """Write the fire times that passed as skipped, because the schedule is parked."""
    try:
        spec = ScheduleSpec.model_validate(schedule.spec)
        parked = Pause(schedule.planned_until, PARKED)
        foretold = forecast(
            spec,
            planned_until=schedule.planned_until,
            now=now,
            horizon=NO_HORIZON,
            pauses=[*pauses_of(schedule), parked],
            runs_left=None if spec.max_runs is None else max(0, spec.max_runs - schedule.planned_runs),
        )
    except Exception:  # what it is parked for may be just this: then nobody can tell what passed
        log.exception("What %s missed cannot be told", schedule.name, extra={"event": "parked_past_unknown"})
        return
    made = OccurrenceRows(schedule, spec, now)
    rows = [
        replace(one, reason_code=PARKED, reason=schedule.parked) if one.reason == str(parked) else one
        for one in foretold.occurrences
    ]
    tasks.add(session, [made.row(one) for one in rows])
    if foretold.gap is not None:
        tasks.add_gap(session, schedule.id, foretold.gap.first, foretold.gap.last, foretold.gap.count)


def hold(
    session: Session, schedule: Schedule, pause: dict[str, Any], now: dt.datetime, *, by_file: bool = False
) -> Jobs:
    """Pause the schedule; the jobs that no longer ought to be in Redis.

    What was to start and has not is skipped; what runs, or waits between two attempts, is left alone.
    """
    withdrawn = settle_past(session, schedule, now)
    if by_file:
        schedule.file_pause = pause
    else:
        schedule.pause = pause
    session.flush()
    held = pause_of(schedule)
    skipped = tasks.move(
        session,
        "skipped",
        Task.schedule_id == schedule.id,
        Task.state.in_((PLANNED, QUEUED)),
        Task.attempt == 0,
        Task.fire_time.is_not(None),
        returning=(Task.queue,),
        reason_code="paused",
        reason=str(held),
    )
    return [*withdrawn, *((row.id, 1, row.queue) for row in skipped)]


def release(session: Session, schedule: Schedule, now: dt.datetime, *, by_file: bool = False) -> Jobs:
    """End the pause: its past is written as skipped, its future is open again from now on; what is to leave Redis."""
    withdrawn = settle_past(session, schedule, now)
    if by_file:
        schedule.file_pause = None
    else:
        schedule.pause = None
        schedule.failures_in_a_row = 0
    return withdrawn
