"""What a service has done, as the judge wants it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import select

from scheduler.rules.states import FINAL, REASON_CODES
from scheduler.store.database import Database
from scheduler.store.tables import Attempt, Schedule, Task
from tests.journeys.service import Entry, Service
from tests.judge import History, Line, Plan, Row, Try


def history_of(
    service: Service,
    plans: dict[str, Plan],
    until: dt.datetime,
    faults: Sequence[tuple[dt.datetime, dt.datetime]] = (),
) -> History:
    """From the moment at which the file came into force, which must be that of all schedules."""
    return history_in(service.database, service.diary_entries(), plans, until, faults)


def history_in(
    database: Database,
    diary: Sequence[Entry],
    plans: dict[str, Plan],
    until: dt.datetime,
    faults: Sequence[tuple[dt.datetime, dt.datetime]] = (),
) -> History:
    assert unexplained(database) == []
    with database.read() as session:
        (since,) = set(session.scalars(select(Schedule.in_force_since)))
        attempts = list(session.scalars(select(Attempt)))
        rows = list(session.scalars(select(Task).where(Task.fire_time.is_not(None)).order_by(Task.id)))
    return History(
        plans=plans,
        rows=[Row(task.id, task.schedule or "", task.fire_time, task.state) for task in rows if task.fire_time],
        tries=[Try(one.task_id, one.number, one.outcome, one.ended_at) for one in attempts],
        diary=[
            Line(one.word, one.task_id, one.attempt, dt.datetime.fromtimestamp(one.moment, dt.UTC)) for one in diary
        ],
        since=since,
        until=until,
        faults=faults,
    )


def unexplained(database: Database) -> list[tuple[int, str, str | None, str | None]]:
    """Tasks that ended other than well, and do not say why in a known word and a sentence."""
    with database.read() as session:
        query = select(Task.id, Task.state, Task.reason_code, Task.reason).where(Task.state.in_(REASON_CODES))
        rows = session.execute(query).all()
    return [
        (row.id, row.state, row.reason_code, row.reason)
        for row in rows
        if row.reason_code not in REASON_CODES[row.state] or not row.reason
    ]


def unended(service: Service, before: dt.datetime) -> list[int]:
    """Tasks that were due by then and have no end."""
    return [
        task.id
        for task in service.tasks()
        if task.fire_time is not None and task.fire_time <= before and task.state not in FINAL
    ]


def is_over(service: Service, until: dt.datetime) -> bool:
    """Whether the planner has got beyond `until`, with every schedule, and all that was due by then has ended.

    Without the first half a planner that cannot work just now would pass for one with nothing left to do.
    """
    with service.database.read() as session:
        planned_until = list(session.scalars(select(Schedule.planned_until)))
    return all(moment is not None and moment > until for moment in planned_until) and not unended(service, until)
