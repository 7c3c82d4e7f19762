"""The whole way of a task in one process, step by step: apply, planner, dispatcher, the child of a worker, reconcile.

No supervisor and no waiting, so that a fault can be put at each place of the way in turn. What the small service
misses of the real one, the other journeys have: processes that watch each other, and time that passes.
"""

from __future__ import annotations

import datetime as dt
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import select, update

from scheduler.broker.connection import connect
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.check.doctor import broken_invariants
from scheduler.engine.dispatcher import Dispatcher
from scheduler.engine.file.apply import apply
from scheduler.engine.planner import Planner
from scheduler.engine.reconcile import Reconcile
from scheduler.engine.work.channel import Deadline
from scheduler.engine.work.child import Child, ChildPlan
from scheduler.errors import PartAway
from scheduler.kill_points import point
from scheduler.rules.spec import Retry, ScheduleSpec
from scheduler.rules.states import FINAL, RUNNING
from scheduler.settings import Settings
from scheduler.store.database import Database
from scheduler.store.tables import Schedule, Task
from scheduler.store.types import micros
from scheduler.task_functions import find_task_functions
from tests.builders import HOUR, a_book_of, a_spec
from tests.journeys.history import history_in
from tests.journeys.service import entries_of
from tests.judge import Plan, every, judge

SECOND = dt.timedelta(seconds=1)
STANDSTILL = 2 * SECOND  # all of it is due at once
MOST_TURNS = 60
CATALOGUE = find_task_functions(["tests.journeys.journey_tasks"])
AT_ONCE = Retry(attempts=4, backoff="fixed", first=dt.timedelta(milliseconds=1))

PLANS = {
    "flaky": Plan(every(2), may_overlap=True),
    "once": Plan(every(2), may_overlap=True, at_most_once=True),
    "laned": Plan(every(1)),
}


def specs(diary: Path) -> list[ScheduleSpec]:
    plain: dict[str, Any] = {"args": {"diary": str(diary)}, "grace": HOUR, "retry": AT_ONCE}
    failing = {**plain, "args": {"diary": str(diary), "times": 1}}
    return [
        a_spec(name="flaky", task="fail_first", every=2 * SECOND, overlap="allow", **failing),
        a_spec(name="once", task="quick", every=2 * SECOND, overlap="allow", delivery="at_most_once", **plain),
        a_spec(name="laned", task="quick", every=SECOND, overlap="queue-all", **plain),
    ]


def end_of_day() -> dt.datetime:
    """A moment ago, and an even second: so each day has the same things in the same order."""
    now = utc_now()
    return now.replace(second=now.second // 2 * 2, microsecond=0)


class SmallService:
    """On a database with all tables, and a Redis; `until` is when its day ends."""

    def __init__(self, database_url: str, redis_url: str, folder: Path, until: dt.datetime) -> None:
        self.until = until
        self.diary = folder / "diary"
        self.database = Database(database_url, synchronous="OFF")
        self.room = WaitingRoom(connect(redis_url))
        self.planner = Planner(self.database, self.room, horizon=dt.timedelta(0))
        self.dispatcher = Dispatcher(self.database, self.room)
        self.reconcile = Reconcile(self.database, self.room)
        self._channels = socket.socketpair()
        settings = Settings(database_url=database_url, data=folder, sqlite_synchronous="OFF")
        plan = ChildPlan(settings, redis_url, "scheduled", "w1", "here", 99, 99)
        self.child = Child(plan, CATALOGUE, self._channels[0], Deadline())
        self.away: list[str] = []  # what was said each time SQL or Redis did not answer

    def run(self) -> Self:
        """The whole day: the file comes into force, and all that is due runs and ends."""
        self._step(self._apply)
        for _ in range(MOST_TURNS):
            for step in (
                lambda: self.planner.step(self.until),
                self.dispatcher.step,
                self.dispatcher.mark,
                self._work,
                self.reconcile.step,
            ):
                self._step(step)
            if self.is_over():
                return self
        raise AssertionError(f"After {MOST_TURNS} turns there is something left to do. {self.away}")

    def is_over(self) -> bool:
        try:
            with self.database.read() as session:
                planned_until = session.scalars(select(Schedule.planned_until)).all()
                open_ones = select(Task.id).where(Task.state.not_in(FINAL), Task.fire_time <= self.until)
                is_all_ended = session.scalars(open_ones).first() is None
        except PartAway:
            return False
        return bool(planned_until) and min(planned_until) >= self.until and is_all_ended

    def let_leases_end(self) -> None:
        """As if time had passed."""
        with self.database.write() as session:
            ours = update(Task).where(Task.state == RUNNING)
            session.execute(ours.values(lease_until=Task.lease_until - micros(HOUR)))

    def findings(self) -> list[str]:
        """What the judge and the doctor have to say."""
        everything = (utc_now() - HOUR, utc_now())  # nothing of such a day is in time
        history = history_in(self.database, entries_of(self.diary), PLANS, self.until, faults=[everything])
        broken = broken_invariants(self.database, self.room)
        return [str(one) for one in judge(history)] + [f"{one.name}: {one.message}" for one in broken]

    def states(self) -> dict[str, set[str]]:
        """The states of what was due, by schedule."""
        with self.database.read() as session:
            rows = session.execute(select(Task.schedule, Task.state).where(Task.fire_time <= self.until)).all()
        return {name: {row.state for row in rows if row.schedule == name} for name in PLANS}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.dispatcher.close()
        self.child.direct.close()
        self.child.database.close()
        self.child.redis.close()
        for channel in self._channels:
            channel.close()
        self.database.close()
        self.room.redis.close()

    # --- steps ------------------------------------------------------------------------------------------------------

    def _step(self, step: Callable[[], Any]) -> None:
        """One step of a loop; one that finds SQL or Redis away is done at its next turn."""
        try:
            step()
        except PartAway as error:
            self.away.append(str(error))

    def _apply(self) -> None:
        """The file came into force at the beginning of the standstill."""
        while True:
            try:
                apply(self.database, self.room, *a_book_of(*specs(self.diary)), author="jana")
                with self.database.write() as session:
                    since = self.until - STANDSTILL
                    ours = update(Schedule).where(Schedule.in_force_since > self.until)  # not at a second start
                    session.execute(ours.values(in_force_since=since, planned_until=since))
                return
            except PartAway as error:
                self.away.append(str(error))

    def _work(self) -> None:
        """What Child.run does in its loop, as long as there is a job."""
        while (job := self.child.feed.take()) is not None:
            point("child.after_take")
            status = self.child.handle(job)
            point("child.after_end")
            self.child.feed.finish(job, status)
