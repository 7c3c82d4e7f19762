"""What had not succeeded by its `finish_by`: asked of the tasks themselves, whoever looked when.

A fire time belongs to the first `finish_by` after it; of those of one schedule that share it, the last one counts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Integer, column, select, type_coerce, values
from sqlalchemy.orm import Session, aliased

from scheduler.clock import to_micros
from scheduler.engine.answers.listing import unindexed
from scheduler.rules.states import CANCELLED, SKIPPED, SUCCEEDED
from scheduler.rules.times.moments import zone_named
from scheduler.rules.times.zones import first_moment
from scheduler.store.tables import Revision, Schedule, Task

DAY = dt.timedelta(days=1)
AT_ONCE = 400  # deadlines in one query; SQLite takes 32,000 parameters


@dataclass(frozen=True)
class Deadline:
    """A moment by which the last fire time since `since` ought to have succeeded."""

    schedule_id: int
    since: dt.datetime
    at: dt.datetime
    words: str  # such as «08:00 Europe/Berlin»


@dataclass(frozen=True)
class NotDone:
    """A deadline that was not kept."""

    deadline: Deadline
    task_id: int
    state: str
    fire_time: dt.datetime
    done_at: dt.datetime | None  # when it, or a later run, has succeeded since
    done_by: int | None  # the task that did


def passed_deadlines(session: Session, after: dt.datetime | None, until: dt.datetime) -> list[Deadline]:
    """Those of every schedule in force that lie after `after` and not after `until`; without `after` the last of each.
    What has passed before the schedule got its `finish_by` is left out: nobody had promised it."""
    spec = Schedule.spec
    query = (
        select(Schedule.id, spec["finish_by"].as_string(), spec["timezone"].as_string(), Revision.accepted_at)
        .join(Revision, Revision.id == Schedule.revision_id)
        .where(Schedule.retired_at.is_(None), spec["finish_by"].as_string().is_not(None))
    )
    found = []
    for schedule_id, finish_by, zone, since in session.execute(query.order_by(Schedule.id)):
        for previous, at in _moments(dt.time.fromisoformat(finish_by), zone, after, until):
            if at > since:
                found.append(Deadline(schedule_id, previous, at, f"{finish_by[:5]} {zone}"))
    return found


def _moments(
    finish_by: dt.time, zone_name: str, after: dt.datetime | None, until: dt.datetime
) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """Each deadline with the one of the day before, the newest first."""
    zone = zone_named(zone_name)

    def on(day: dt.date) -> dt.datetime:
        return first_moment(dt.datetime.combine(day, finish_by), zone)

    day = until.astimezone(zone).date()
    if on(day) > until:
        day -= DAY
    last = day
    while day == last if after is None else on(day) > after:
        yield on(day - DAY), on(day)
        day -= DAY


def not_done(session: Session, deadlines: Sequence[Deadline]) -> Iterator[NotDone]:
    """Those that were not kept; one query for some hundred of them. What was skipped or cancelled is nobody's delay."""
    for start in range(0, len(deadlines), AT_ONCE):
        some = deadlines[start : start + AT_ONCE]
        for row in session.execute(_not_done_by(some)):
            yield NotDone(some[row.place], row.id, row.state, row.fire_time, row.done_at, row.done_by)


def _not_done_by(deadlines: Iterable[Deadline]) -> Any:
    rows = [(place, one.schedule_id, to_micros(one.since), to_micros(one.at)) for place, one in enumerate(deadlines)]
    columns = [column("place", Integer), column("schedule_id", Integer)]
    moments = [column("since", BigInteger), column("deadline", BigInteger)]
    due = values(*columns, *moments, name="due").data(rows).cte("due")
    last, done = aliased(Task), aliased(Task)
    fired = type_coerce(last.fire_time, BigInteger)
    last_id = (
        select(last.id)
        .where(last.schedule_id == due.c.schedule_id, fired >= due.c.since, fired < due.c.deadline)
        .order_by(last.fire_time.desc())
        .limit(1)
        .correlate(due)
        .scalar_subquery()
    )
    # It or a later one, by the index of the schedule's ended tasks, of which few are later.
    succeeded = (
        select(done.id)
        .where(done.schedule_id == Task.schedule_id, done.id >= Task.id, done.finished_at.is_not(None))
        .where(unindexed(done.state) == SUCCEEDED)
    )
    in_time = succeeded.where(type_coerce(done.finished_at, BigInteger) <= due.c.deadline).correlate(due, Task)
    first = succeeded.order_by(done.id).limit(1).correlate(Task)
    done_by, done_at = (first.with_only_columns(one).scalar_subquery() for one in (done.id, done.finished_at))
    return (
        select(due.c.place, Task.id, Task.state, Task.fire_time, done_by.label("done_by"), done_at.label("done_at"))
        .select_from(due)
        .join(Task, Task.id == last_id)
        .where(unindexed(Task.state).not_in((SKIPPED, CANCELLED)), ~in_time.exists())
        .order_by(due.c.place)
    )
