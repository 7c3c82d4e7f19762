"""What a service has done, as the judge wants it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import select

from scheduler.rules.states import FINAL
from scheduler.store.tables import Attempt, Schedule
from tests.journeys.service import Service
from tests.judge import History, Line, Plan, Row, Try


def history_of(
    service: Service,
    plans: dict[str, Plan],
    until: dt.datetime,
    faults: Sequence[tuple[dt.datetime, dt.datetime]] = (),
) -> History:
    """From the moment at which the file came into force, which must be that of all schedules."""
    with service.database.read() as session:
        (since,) = set(session.scalars(select(Schedule.in_force_since)))
        attempts = list(session.scalars(select(Attempt)))
    return History(
        plans=plans,
        rows=[
            Row(task.id, task.schedule or "", task.fire_time, task.state)
            for task in service.tasks()
            if task.fire_time is not None
        ],
        tries=[Try(one.task_id, one.number, one.outcome, one.ended_at) for one in attempts],
        diary=[
            Line(one.word, one.task_id, one.attempt, dt.datetime.fromtimestamp(one.moment, dt.UTC))
            for one in service.diary_entries()
        ],
        since=since,
        until=until,
        faults=faults,
    )


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
