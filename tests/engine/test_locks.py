"""No two transactions of the engine wait for each other: one is held before each of its writes in turn while the other
comes, and both go through. PostgreSQL alone: on SQLite writers pass one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from sqlalchemy import event, make_url, select, update

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.actions import Actions
from scheduler.engine.file.apply import apply
from scheduler.engine.reconcile import Mended, Reconcile
from scheduler.engine.work.outcomes import Held, end_badly, end_well
from scheduler.rules.states import FAILED, PLANNED, QUEUED, RUNNING, SUCCEEDED
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import retention, schedules, tasks
from scheduler.store.database import Database
from scheduler.store.tables import Task
from scheduler.store.tasks import WAITING, AttemptEnd
from tests.builders import HOUR, MINUTE, a_book_of, a_schedule, a_spec, a_task
from tests.statements import is_anybody_blocked
from tests.waiting import wait_for

BOOM = AttemptEnd(FAILED, "ValueError", "boom", "")
POLICY = TaskPolicy(pause_after=1, max_running=2)
LOCKING = ("UPDATE task", "UPDATE schedule", "DELETE FROM task")
TABLES = ("revision", "schedule", "task", "attempt", "gap", "happening", "audit")  # each after those it names
DELETE = """
    DELETE FROM happening; DELETE FROM gap; DELETE FROM task; DELETE FROM schedule; DELETE FROM revision;
    DELETE FROM audit;
"""

Act = Callable[[Database, WaitingRoom], Any]


@pytest.fixture
def begin_anew(database: Database) -> Iterator[Callable[[], None]]:
    """Brings back all rows as `fill` made them."""
    fill(database)
    copies = "".join(f"CREATE UNLOGGED TABLE before.{table} AS TABLE {table};" for table in TABLES)
    copy_back = "".join(f"INSERT INTO {table} TABLE before.{table};" for table in TABLES)

    def execute(statements: str) -> None:
        with database.write() as session:
            session.connection().exec_driver_sql(statements)

    execute(f"CREATE SCHEMA before; {copies}")
    yield lambda: execute(DELETE + copy_back)
    execute("DROP SCHEMA before CASCADE")


def fill(database: Database) -> None:
    """Two schedules of a kind of which two may run, each with a run that fell silent. Their other tasks are late and
    wait for a run of the kind to end: in turn one of each, and the newer ones in the state that is looked for first.
    Each has an old task that is being repeated."""
    with database.write() as session:
        now = schedules.now(session)
        both = [a_schedule(session, a_spec(name=name), planned_until=now, failures_in_a_row=1) for name in ("a", "b")]
        of = [{"schedule": one, "policy": POLICY} for one in both]
        for slot, fields in enumerate(of, start=1):
            silent = {"state": RUNNING, "slot": slot, "lease_until": now - HOUR}
            a_task(session, fire_time=now - 9 * MINUTE, **silent, **fields)
        waits = {"reason_code": WAITING, "start_by": now - MINUTE}
        for number, fields in enumerate([of[1], of[0], of[1], of[0]]):
            state = QUEUED if number < 2 else PLANNED
            a_task(session, fire_time=now - (5 - number) * MINUTE, state=state, **waits, **fields)
        for fields in reversed(of):
            old, _ = (a_task(session, fire_time=now - hours * HOUR, state=SUCCEEDED, **fields) for hours in (2, 1))
            a_task(session, origin="retry", retry_of=old.id, **fields)


# --- who comes ------------------------------------------------------------------------------------------------------


def fails(name: str) -> Act:
    """A run ends as a final failure, with which its schedule pauses itself."""

    def end(database: Database, room: WaitingRoom) -> None:
        run = the_run(database, name)
        with database.write() as session:
            end_badly(session, run, BOOM)

    return end


def succeeds(name: str) -> Act:
    def end(database: Database, room: WaitingRoom) -> None:
        run = the_run(database, name)
        with database.write() as session:
            lasts = schedules.now(session) + HOUR
            session.execute(update(Task).where(Task.id == run.task_id).values(lease_until=lasts))
        with database.write() as session:
            end_well(session, run, None)

    return end


def is_paused(name: str) -> Act:
    return lambda database, room: Actions(database, room, by="jana").pause(name, "")


def edit(database: Database, room: WaitingRoom) -> None:
    apply(database, room, *a_book_of(a_spec(name="a", every=HOUR), a_spec(name="b", every=HOUR)))


def remove(database: Database, room: WaitingRoom) -> None:
    apply(database, room, *a_book_of(), confirm=True)


def judge_late(database: Database, room: WaitingRoom) -> None:
    Reconcile(database, room).judge_late(Mended())


def end_silent(database: Database, room: WaitingRoom) -> None:
    Reconcile(database, room).end_silent(Mended())


def mark(database: Database, room: WaitingRoom) -> None:
    """In the order in which they were moved, which need not be that of their ids."""
    with database.write() as session:
        newest_first = session.scalars(select(Task.id).where(Task.attempt == 0).order_by(Task.id.desc())).all()
        for task_id in newest_first:
            tasks.mark_queued(session, [(task_id, 1)])


def delete_old(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        ended = session.scalars(select(Task.id).where(Task.state == SUCCEEDED)).all()
        retention.delete_ended(session, ended)


def the_run(database: Database, name: str) -> Held:
    with database.read() as session:
        run = session.scalars(select(Task).where(Task.schedule == name).order_by(Task.id).limit(1)).one()
    return Held(run.id, 1, run.token or "", POLICY, run.queue, run.schedule_id, run.fire_time, run.started_at)


# --- two at once ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(fails("a"), fails("b"), id="two that pause themselves"),
        pytest.param(fails("a"), succeeds("b"), id="a pause of its own and an end"),
        pytest.param(edit, fails("b"), id="an edit and an end"),
        pytest.param(end_silent, fails("b"), id="silent ones and an end"),
        pytest.param(is_paused("b"), end_silent, id="a pause and silent ones"),
        pytest.param(judge_late, fails("a"), id="late ones and an end"),
        pytest.param(succeeds("b"), judge_late, id="an end and late ones"),
        pytest.param(judge_late, is_paused("a"), id="late ones and a pause"),
        pytest.param(judge_late, edit, id="late ones and an edit"),
        pytest.param(judge_late, end_silent, id="late ones and silent ones"),
        pytest.param(mark, remove, id="marks and a removal"),
        pytest.param(remove, delete_old, id="a removal and retention"),
    ],
)
def test_of_two_transactions_neither_waits_for_the_other(
    database_url: str,
    database: Database,
    begin_anew: Callable[[], None],
    room: WaitingRoom,
    first: Act,
    second: Act,
) -> None:
    url = make_url(database_url).update_query_dict({"options": "-c deadlock_timeout=50ms"})  # found soon, if any
    slow, quick = (Database(url.render_as_string(hide_password=False)) for _ in range(2))
    held_before = []
    for nth in count(1):
        begin_anew()
        hold = Hold(nth)
        with held(slow, hold), ThreadPoolExecutor(2) as pool:
            one = pool.submit(first, slow, room)
            hold.wait_until_reached(one)
            other = pool.submit(second, quick, room)
            wait_until_blocked(database, other)
            hold.let_go.set()
            one.result(20)
            other.result(20)
        if not hold.is_reached.is_set():
            break
        held_before.append(hold.statement)
    slow.close()
    quick.close()

    assert held_before


class Hold:
    """Holds who executes statements before the `nth` of those that lock anything."""

    def __init__(self, nth: int) -> None:
        self.is_reached, self.let_go = threading.Event(), threading.Event()
        self.statement = ""
        self._left = nth

    def __call__(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self._left -= statement.startswith(LOCKING) or " FOR " in statement
        if self._left == 0 and not self.is_reached.is_set():
            self.statement = statement
            self.is_reached.set()
            self.let_go.wait(20)

    def wait_until_reached(self, work: Future[Any]) -> None:
        """Until it holds who does this work, or that is done."""
        wait_for(lambda: self.is_reached.is_set() or work.done(), every=0.002, what="the first to be held")


@contextmanager
def held(database: Database, hold: Hold) -> Iterator[None]:
    event.listen(database.engine, "before_cursor_execute", hold)
    try:
        yield
    finally:
        hold.let_go.set()
        event.remove(database.engine, "before_cursor_execute", hold)


def wait_until_blocked(database: Database, work: Future[Any]) -> None:
    """Until this work waits for a lock, or is done."""
    wait_for(lambda: work.done() or is_anybody_blocked(database), every=0.004, what="the second to wait")
