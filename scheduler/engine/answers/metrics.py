"""What a monitoring system reads: how many tasks ended how, how late and how long, and how things stand.

Ends are counted from the first look of this process on, each once, by the index of their moments: a look costs what
has ended since the last one, not what history holds. A counter that begins again at 0 is nothing new to who reads it.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, case, func, select, type_coerce
from sqlalchemy.orm import Session

from scheduler.engine.answers.status import files_not_in_force, parts_of
from scheduler.engine.backends import Backends
from scheduler.errors import DatabaseAway, RedisAway
from scheduler.rules.states import KINDS, PLANNED, QUEUED, RETRYING, UNFINISHED
from scheduler.store import outbox, schedules
from scheduler.store.mail_tables import OPEN, Alert
from scheduler.store.tables import Schedule, Task

SETTLED_AFTER = dt.timedelta(seconds=5)  # an end that is committed later than others may have an earlier moment
MOST_SCHEDULES = 200  # that have counters of their own; ten thousand would be 60,000 series. The rest share one:
OTHERS = "(others)"
SECOND = 1_000_000  # microseconds

LATENESS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)  # seconds; promised are 0.25 and 2
DURATIONS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0)


@dataclass
class Distribution:
    """How many values are at most each bound, and all of them together."""

    bounds: Sequence[float]
    below: list[int] = field(default_factory=list)
    count: int = 0
    total: float = 0.0

    def __post_init__(self) -> None:
        self.below = [0] * len(self.bounds)


@dataclass
class Standing:
    """How things stand right now; what nobody could ask is left empty."""

    sql: bool = False
    redis: bool = False
    tasks: dict[tuple[str, str], int] = field(default_factory=dict)  # (kind, state) -> how many have not ended
    depths: dict[str, int] = field(default_factory=dict)  # queue -> how many are due and have not started
    oldest: dict[str, float] = field(default_factory=dict)  # queue -> seconds since the oldest of them was due
    jobs: dict[str, int] = field(default_factory=dict)  # queue -> how many wait in Redis
    ticks: dict[str, float] = field(default_factory=dict)  # part -> seconds since one of its kind ticked
    alive: dict[str, int] = field(default_factory=dict)  # part -> how many tick
    steps: dict[str, float] = field(default_factory=dict)  # step of the keeper -> seconds since it got through
    schedules: dict[str, int] = field(default_factory=dict)  # state -> how many
    failing: int = 0
    mails: int = 0
    oldest_mail: float = 0.0
    mails_given_up: int = 0
    alerts: int = 0
    files_refused: int = 0


class Counting:
    """Ends since it began."""

    def __init__(self) -> None:
        self.ends: Counter[tuple[str, str, str]] = Counter()  # (schedule, kind, state)
        self.lateness = {kind: Distribution(LATENESS) for kind in KINDS}
        self.durations = {kind: Distribution(DURATIONS) for kind in KINDS}
        self._known: set[str] = set()
        self._until: dt.datetime | None = None

    def step(self, session: Session, now: dt.datetime) -> None:
        """Count what has ended since the last step, up to a moment ago."""
        until = now - SETTLED_AFTER
        after, self._until = self._until, until
        if after is None:
            return
        self._until = max(until, after)
        ended = (Task.finished_at > after, Task.finished_at <= until)
        self._count_ends(session, ended)
        self._spread(session, ended, self.lateness, Task.started_at, Task.due_at, Task.attempt == 1)
        self._spread(session, ended, self.durations, Task.finished_at, Task.started_at)

    def _count_ends(self, session: Session, ended: Sequence[Any]) -> None:
        query = (
            select(Task.schedule, Task.kind, Task.state, func.count())
            .where(*ended)
            .group_by(Task.schedule, Task.kind, Task.state)
        )
        for schedule, kind, state, number in session.execute(query):
            self.ends[self._label(schedule or ""), kind, state] += number

    def _label(self, schedule: str) -> str:
        if schedule not in self._known and len(self._known) >= MOST_SCHEDULES:
            return OTHERS
        self._known.add(schedule)
        return schedule

    def _spread(
        self,
        session: Session,
        ended: Sequence[Any],
        found: dict[str, Distribution],
        end: Any,
        start: Any,
        *conditions: Any,
    ) -> None:
        """Add how long from `start` to `end` it was, of those that have both."""
        took = type_coerce(end, BigInteger) - type_coerce(start, BigInteger)
        bounds = next(iter(found.values())).bounds
        below = [func.sum(case((took <= round(bound * SECOND), 1), else_=0)) for bound in bounds]
        query = (
            select(Task.kind, func.count(), func.sum(took), *below)
            .where(*ended, *conditions, start.is_not(None), end.is_not(None))
            .group_by(Task.kind)
        )
        for kind, number, total, *counts in session.execute(query):
            one = found[kind]
            one.count += number
            one.total += float(total) / SECOND
            one.below = [before + int(count) for before, count in zip(one.below, counts, strict=True)]


class Metrics:
    def __init__(self, backends: Backends) -> None:
        self.backends = backends
        self.counting = Counting()

    def look(self) -> Standing:
        """Count on, and see how things stand; what is away is told, not raised."""
        found = Standing()
        try:
            with self.backends.database.read() as session:
                now = schedules.now(session)
                self.counting.step(session, now)
                _ask_sql(session, now, found)
            found.sql = True
        except DatabaseAway:
            pass
        try:
            found.jobs = {queue: self.backends.room.depth(queue) for queue in {*KINDS, *found.depths}}
            found.redis = True
        except RedisAway:
            pass
        return found


def _ask_sql(session: Session, now: dt.datetime, found: Standing) -> None:
    unfinished = select(Task.kind, Task.state, func.count()).where(Task.state.in_(sorted(UNFINISHED)))
    found.tasks = {
        (kind, state): number for kind, state, number in session.execute(unfinished.group_by(Task.kind, Task.state))
    }
    due = (
        select(Task.queue, func.count(), func.min(Task.due_at))
        .where(Task.state.in_((PLANNED, QUEUED, RETRYING)), Task.due_at <= now)
        .group_by(Task.queue)
    )
    for queue, number, oldest in session.execute(due):
        found.depths[queue], found.oldest[queue] = number, (now - oldest).total_seconds()
    _ask_parts(session, now, found)
    _ask_schedules(session, found)
    mails = outbox.counts(session, now)
    found.mails, found.mails_given_up = mails.waiting, mails.given_up
    found.oldest_mail = mails.oldest.total_seconds() if mails.oldest else 0.0
    found.alerts = session.execute(select(func.count()).select_from(Alert).where(Alert.state == OPEN)).scalar_one()


def _ask_parts(session: Session, now: dt.datetime, found: Standing) -> None:
    seen = parts_of(session, now)
    for one in seen:
        part, age = one["part"], one["seconds_since_tick"]
        found.ticks[part] = min(age, found.ticks.get(part, age))
        found.alive[part] = found.alive.get(part, 0) + (not one["silent"])
        if part == "keeper" and not one["silent"]:
            for step, seconds in one["details"].items():
                if isinstance(seconds, int | float) and not isinstance(seconds, bool):
                    found.steps[step] = min(seconds + age, found.steps.get(step, seconds + age))
    found.files_refused = sum(1 for one in files_not_in_force(session, seen) if one["refused"])


def _ask_schedules(session: Session, found: Standing) -> None:
    held = Schedule.pause.is_not(None) | Schedule.file_pause.is_not(None)
    state = case((Schedule.parked.is_not(None), "parked"), (held, "paused"), else_="active")
    in_force = Schedule.retired_at.is_(None)
    rows = session.execute(select(state, func.count()).where(in_force).group_by(state))
    found.schedules = {"active": 0, "paused": 0, "parked": 0} | {name: int(number) for name, number in rows}
    failing = select(func.count()).select_from(Schedule).where(in_force, Schedule.failures_in_a_row > 0)
    found.failing = session.execute(failing).scalar_one()
