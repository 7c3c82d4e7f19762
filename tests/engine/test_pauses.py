"""Nothing starts once a schedule is held, whoever holds it, whatever a planner and other ends do at the same moment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import select

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.actions import Actions
from scheduler.engine.pauses import hold
from scheduler.engine.planner import Planner, plan
from scheduler.engine.work.outcomes import Held, end_badly
from scheduler.rules.states import FAILED, QUEUED, RUNNING, SKIPPED
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.schedules import pause_fields, pause_of
from scheduler.store.tables import Schedule, Task
from scheduler.store.tasks import WAITING, AttemptEnd
from tests.builders import HOUR, MINUTE, a_schedule, a_spec, a_task
from tests.statements import is_anybody_blocked
from tests.waiting import wait_for

SECOND = dt.timedelta(seconds=1)
HORIZON = 2 * MINUTE
BOOM = AttemptEnd(FAILED, "ValueError", "boom", "")

Pauser = Callable[[Database, WaitingRoom], None]


def by_an_operator(database: Database, room: WaitingRoom) -> None:
    Actions(database, room, by="jana").pause("nightly", "")


def by_itself(database: Database, room: WaitingRoom) -> None:
    """Its run ends as a final failure, the first of the one it may have."""
    with database.write() as session:
        assert end_badly(session, the_run(database), BOOM) is not None


PAUSERS = [pytest.param(by_an_operator, id="by an operator"), pytest.param(by_itself, id="by itself")]


@pytest.fixture
def in_force(database: Database) -> None:
    """A schedule that fires each second, was planned up to 3 s ago, and has a run."""
    policy = TaskPolicy(pause_after=1)
    with database.write() as session:
        since = schedules.now(session) - 3 * SECOND
        nightly = a_schedule(session, a_spec(every=SECOND, grace=HOUR), planned_until=since)
        a_task(session, schedule=nightly, fire_time=since - HOUR, state=RUNNING, lane="nightly", policy=policy)


def the_run(database: Database) -> Held:
    with database.read() as session:
        run = session.scalars(select(Task).where(Task.state == RUNNING)).one()
    policy = TaskPolicy(pause_after=1)
    return Held(run.id, 1, run.token or "", policy, run.queue, run.schedule_id, run.fire_time, run.started_at)


def states_but_of_the_run(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(Task.state).where(Task.attempt == 0)))


def is_held(database: Database) -> bool:
    with database.read() as session:
        return pause_of(session.scalars(select(Schedule)).one()) is not None


def wait_until_blocked(database: Database, other: Future[None]) -> None:
    """Until the other transaction waits for ours. SQLite does not tell; there it waits before it does anything."""
    if database.is_sqlite:
        return

    def is_blocked() -> bool:
        assert not other.done(), other.exception()
        return is_anybody_blocked(database)

    wait_for(is_blocked, every=0.01, what="the other to wait")


@pytest.mark.usefixtures("in_force")
@pytest.mark.parametrize("pause", PAUSERS)
def test_a_pause_while_a_planner_adds_rows_leaves_none_that_starts(
    database: Database, room: WaitingRoom, pause: Pauser
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            now = schedules.now(session)
            behind = schedules.to_plan(session, now + HORIZON, now, limit=10)
            plan(session, behind, now, HORIZON)
            pausing = pool.submit(pause, database, room)
            wait_until_blocked(database, pausing)
        pausing.result(20)
    Planner(database, room, HORIZON).step(utc_now() + MINUTE)

    assert is_held(database)
    assert states_but_of_the_run(database) == {SKIPPED}


@pytest.mark.usefixtures("in_force")
def test_a_planner_that_comes_while_a_schedule_is_being_paused_adds_none_that_starts(
    database: Database, room: WaitingRoom
) -> None:
    planner = Planner(database, room, HORIZON)
    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            nightly = session.scalars(select(Schedule).with_for_update()).one()
            now = schedules.now(session)
            hold(session, nightly, pause_fields("jana", "", now, None), now)
            planning = pool.submit(planner.step, now + MINUTE)
            if not database.is_sqlite:  # which lets nobody write before this has ended
                assert planning.result(20) == 0
        planning.result(20)
    planner.step(utc_now() + MINUTE)

    assert states_but_of_the_run(database) == {SKIPPED}
    assert room.waiting_ids() == set()


@pytest.mark.usefixtures("in_force")
def test_an_end_and_a_pause_at_once_do_not_wait_for_each_other(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        nightly = session.scalars(select(Schedule)).one()
        waiting = {"state": QUEUED, "lane": "nightly", "reason_code": WAITING, "reason": "its lane is taken"}
        a_task(session, schedule=nightly, fire_time=utc_now() - MINUTE, **waiting)

    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            nightly = session.scalars(select(Schedule).with_for_update()).one()
            ending = pool.submit(by_itself, database, room)
            wait_until_blocked(database, ending)
            now = schedules.now(session)
            hold(session, nightly, pause_fields("jana", "", now, None), now)
        ending.result(20)

    assert states_but_of_the_run(database) == {SKIPPED}
