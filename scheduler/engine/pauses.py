"""Holding a schedule and letting it go: what passes meanwhile is written as skipped, nothing fires after the fact."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy.orm import Session

from scheduler.engine.planner import pause_of, plan
from scheduler.rules.states import PLANNED, QUEUED
from scheduler.store import tasks
from scheduler.store.tables import Schedule, Task

NO_HORIZON = dt.timedelta(0)


def settle_past(session: Session, schedule: Schedule, now: dt.datetime) -> None:
    """Write what the schedule's fire times up to now became, by the rules in force until now, and take back what was
    foretold for later. From here on it may be planned anew.

    Waits for a planner that is at the schedule: what it writes would else stand beside what follows.
    """
    session.flush()
    session.refresh(schedule, with_for_update=True)
    if schedule.planned_until < now and schedule.parked is None:
        plan(session, [schedule], now, NO_HORIZON)
        session.flush()
        session.refresh(schedule)  # `plan` writes by UPDATE
    withdrawn = tasks.withdraw_forecast(session, [schedule.id], now)
    schedule.planned_until = now
    schedule.planned_runs = max(0, schedule.planned_runs - len(withdrawn))


def hold(
    session: Session, schedule: Schedule, pause: dict[str, Any], now: dt.datetime, *, by_file: bool = False
) -> list[tuple[int, int, str]]:
    """Pause the schedule; the jobs, (task id, attempt, queue) each, that no longer ought to be in Redis.

    What was to start and has not is skipped; what runs, or waits between two attempts, is left alone.
    """
    settle_past(session, schedule, now)
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
    return [(row.id, 1, row.queue) for row in skipped]


def release(session: Session, schedule: Schedule, now: dt.datetime, *, by_file: bool = False) -> None:
    """End the pause: its past is written as skipped, its future is open again from now on."""
    settle_past(session, schedule, now)
    if by_file:
        schedule.file_pause = None
    else:
        schedule.pause = None
        schedule.failures_in_a_row = 0
