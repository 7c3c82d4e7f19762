"""Why a schedule ran at a moment, or did not: from its row if it has one, else from its rule and what is on record."""

from __future__ import annotations

import datetime as dt
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.clock import iso
from scheduler.errors import NotFound
from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.times.durations import format_duration
from scheduler.rules.times.fire_times import dst_note, fire_times
from scheduler.rules.times.words import in_words
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.schedules import pause_of
from scheduler.store.tables import Gap, Schedule, Task

SECOND = dt.timedelta(seconds=1)
LOOK_BACK = (dt.timedelta(hours=1), dt.timedelta(days=1), dt.timedelta(days=40), dt.timedelta(days=400))
MOST_BACK = 100_000  # fire times of one span that are walked through
SPARE = dt.timedelta(minutes=5)  # how far behind a healthy planner may be


@dataclass(frozen=True)
class Explanation:
    """The answer, a sentence for people and a code for machines, and the task if there is one."""

    schedule: str
    moment: dt.datetime
    code: str  # ran, waits, not_run, planned, too_many, not_in_force, no_fire_time, retired, paused, parked, unknown
    answer: str
    task_id: int | None = None
    before: dt.datetime | None = None  # the fire time next before the moment
    after: dt.datetime | None = None  # and next after it
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "schedule": self.schedule,
            "time": iso(self.moment),
            "code": self.code,
            "answer": self.answer,
            "task": self.task_id,
            "before": iso(self.before),
            "after": iso(self.after),
            "note": self.note,
        }


def explain(database: Database, name: str, moment_in: Any) -> Explanation:
    """Why the schedule ran at the moment, or did not.

    `moment_in(zone)` gives the moment, so that a time without an offset can be read in the schedule's own zone. Raises
    NotFound for a name that no schedule has or had.
    """
    with database.read() as session:
        schedule = schedules.by_name(session, name)
        if schedule is None:
            raise NotFound(f'There is and was no schedule "{name}"')
        spec = ScheduleSpec.model_validate(schedule.spec)
        moment = moment_in(ZoneInfo(spec.timezone))
        return _explain(session, schedule, spec, moment, schedules.now(session))


def _explain(
    session: Session, schedule: Schedule, spec: ScheduleSpec, moment: dt.datetime, now: dt.datetime
) -> Explanation:
    row = session.scalars(select(Task).where(Task.schedule_id == schedule.id, Task.fire_time == moment)).first()
    note = dst_note(spec, moment)
    if row is not None:
        code, answer = _of_row(row, now)
        return Explanation(schedule.name, moment, code, answer, row.id, note=note)
    before, after = _last_before(spec, moment), next(fire_times(spec, moment), None)
    code, answer = _without_row(session, schedule, spec, moment, now)
    return Explanation(schedule.name, moment, code, answer, None, before, after, note)


def _of_row(row: Task, now: dt.datetime) -> tuple[str, str]:
    if row.state == "succeeded":
        return "ran", f"it ran: started {_at(row.started_at)}, succeeded after {_took(row)}, attempt {row.attempt}"
    if row.state in ("failed", "lost", "cancelled") and row.started_at is not None:
        return "ran", f"it ran and {row.state}: {row.reason}"
    if row.state in ("skipped", "missed", "cancelled"):
        return "not_run", f"it did not run, it was {row.state}: {row.reason}"
    if row.state == "running":
        return "ran", f"it is running on {row.worker} since {_at(row.started_at)}, attempt {row.attempt}"
    if row.state == "retrying":
        return "waits", f"it ran and will run again at {_at(row.due_at)}: {row.reason}"
    if row.due_at > now:
        return "planned", f"it will run: due {_at(row.due_at)}"
    waits = row.reason or "it waits in its queue for a worker"
    return "waits", f"due since {format_duration(_whole(now - row.due_at))}; {waits}"


def _without_row(
    session: Session, schedule: Schedule, spec: ScheduleSpec, moment: dt.datetime, now: dt.datetime
) -> tuple[str, str]:
    if schedule.retired_at is not None and moment > schedule.retired_at:
        return "retired", f"the schedule was taken out of the file at {_at(schedule.retired_at)}"
    gap = session.scalars(
        select(Gap).where(Gap.schedule_id == schedule.id, Gap.first <= moment, Gap.last >= moment)
    ).first()
    if gap is not None:
        return "too_many", (
            f"nothing ran from {_at(gap.first)} to {_at(gap.last)}: {gap.count} fire times passed in a standstill, "
            "too many for a row each"
        )
    if moment <= schedule.in_force_since:
        return "not_in_force", (
            f"what is in force now was accepted at {_at(schedule.in_force_since)}, after that time; "
            "an earlier version had no run then, or its row has been deleted"
        )
    if next(fire_times(spec, moment - SECOND, moment), None) != moment:
        return "no_fire_time", f"it does not fire then: it fires {in_words(spec, with_zone=True)}"
    if schedule.parked is not None:
        return "parked", f"the schedule is parked: {schedule.parked}"
    pause = pause_of(schedule)
    if pause is not None and pause.covers(moment):
        return "paused", f"the schedule is {pause}"
    if moment > now:
        return "planned", "it will run then; its row is written shortly before"
    if moment > schedule.planned_until and now - moment < SPARE:
        return "waits", "its row is not written yet: is a keeper running? `scheduler status` tells"
    return (
        "unknown",
        "it ought to have a row and has none: see `scheduler doctor`; its row may have been deleted by age",
    )


def _last_before(spec: ScheduleSpec, moment: dt.datetime) -> dt.datetime | None:
    """The last fire time before the moment, as far as a bounded look back finds one."""
    for span in LOOK_BACK:
        last = deque(islice(fire_times(spec, moment - span, moment - SECOND), MOST_BACK), maxlen=1)
        if last:
            return last[0]
    return None


def _took(row: Task) -> str:
    if row.started_at is None or row.finished_at is None:
        return "?"
    spent = row.finished_at - row.started_at
    return format_duration(_whole(spent)) if spent >= SECOND else f"{spent // dt.timedelta(milliseconds=1)} ms"


def _whole(duration: dt.timedelta) -> dt.timedelta:
    return dt.timedelta(seconds=int(duration.total_seconds()))


def _at(moment: dt.datetime | None) -> str:
    return "?" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"
