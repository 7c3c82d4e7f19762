"""What the child of a worker does with a job that it may not run now: it waits a moment, or lets the job wait on."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, update

from scheduler import context, stop_requested
from scheduler.broker.keys import SCHEDULED, job_id
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.reconcile import Mended, Reconcile
from scheduler.engine.troubles import Pauses
from scheduler.engine.work import child as child_module
from scheduler.engine.work.channel import Deadline
from scheduler.engine.work.child import Child, ChildPlan
from scheduler.engine.work.processes import boot_seconds
from scheduler.errors import DatabaseAway
from scheduler.rules.states import FAILED, LOST, PLANNED, QUEUED, RETRYING, RUNNING, SKIPPED, SUCCEEDED
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.task.policy import TaskPolicy
from scheduler.settings import Settings
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.tables import Attempt, LogChunk, Task
from scheduler.task_functions import Catalogue, TaskFunction
from tests.builders import A_LONG_LEASE, HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task, at
from tests.statements import is_anybody_blocked
from tests.waiting import wait_for

SECOND = dt.timedelta(seconds=1)
A_SHORT_LEASE = SECOND / 5
TWO = TaskPolicy(max_running=2)


class Worker:
    """A child in the test's own process: takes what is due from the queue and handles it, one job a call."""

    def __init__(self, url: str, redis_url: str, folder: Path, room: WaitingRoom) -> None:
        self.began: list[dt.datetime] = []
        self.while_running: Callable[[], Any] = lambda: None
        function = TaskFunction("count_words", self._count_words)
        self._channels = socket.socketpair()
        plan = ChildPlan(Settings(database_url=url, data=folder), redis_url, "scheduled", "w1", "here", 9, 9)
        self.child = Child(plan, Catalogue({"count_words": function}), self._channels[0], Deadline())
        self.room = room

    def work(self) -> str | None:
        """The job that was taken; None when none was there."""
        self.room.enqueue_jobs()
        job = self.child.feed.take()
        if job is not None:
            self.child.feed.finish(job, self.child.handle(job))
        return job

    def close(self) -> None:
        self.child.direct.close()
        self.child.database.close()
        self.child.redis.close()
        for channel in self._channels:
            channel.close()

    def _count_words(self) -> None:
        self.began.append(utc_now())
        self.while_running()


@pytest.fixture
def worker(database_url: str, redis_url: str, tmp_path: Path, room: WaitingRoom) -> Iterator[Worker]:
    made = Worker(database_url, redis_url, tmp_path, room)
    yield made
    made.close()


def put(database: Database, room: WaitingRoom, *, in_redis: dt.datetime | None = None, **fields: Any) -> int:
    """A task in SQL, and its job in Redis, where it is due at `in_redis`."""
    with database.write() as session:
        task = a_task(session, **fields)
        job = WaitingJob(task.id, task.attempt + 1, task.queue, in_redis or task.due_at)
    room.register([job])
    return task.id


def task_of(database: Database, task_id: int) -> Task:
    with database.read() as session:
        return session.get_one(Task, task_id)


def due_in_redis(room: WaitingRoom, task_id: int, attempt: int = 1) -> dt.datetime | None:
    score: Any = room.redis.zscore(SCHEDULED, job_id(task_id, attempt))
    return None if score is None else dt.datetime.fromtimestamp(float(score), dt.UTC)


# --- what it knows --------------------------------------------------------------------------------------------------


def test_a_run_knows_its_installation_by_the_moment_of_the_first_file(
    database: Database, room: WaitingRoom, worker: Worker
) -> None:
    with database.write() as session:
        a_revision(session, accepted_at=at("06:30:00"))
        a_revision(session, accepted_at=at("07:30:00"))
    put(database, room)
    told: list[str] = []
    worker.while_running = lambda: told.append(context.origin())

    worker.work()

    assert told == ["2026-11-24T06:30:00+00:00/"]


# --- never early ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"state": PLANNED}, {"state": RETRYING, "attempt": 1}], ids=["first attempt", "retry"]
)
def test_a_job_that_an_older_redis_brings_too_early_waits_on(
    database: Database, room: WaitingRoom, worker: Worker, fields: dict[str, Any]
) -> None:
    due_at = utc_now() + HOUR
    task_id = put(database, room, in_redis=utc_now() - MINUTE, due_at=due_at, **fields)
    number = fields.get("attempt", 0) + 1

    assert worker.work() == job_id(task_id, number)

    assert worker.began == []
    assert task_of(database, task_id).state == fields["state"]
    waits_until = due_in_redis(room, task_id, number)
    assert waits_until is not None
    assert -SECOND < waits_until - due_at < 10 * SECOND
    assert worker.work() is None


def test_where_the_clock_of_redis_is_ahead_a_job_is_put_back_once_by_that_clock(
    database: Database, room: WaitingRoom, worker: Worker
) -> None:
    ahead = 2 * MINUTE
    worker.child.room = ARoomAhead(room.redis)
    due_at = utc_now() + MINUTE
    task_id = put(database, room, in_redis=due_at - ahead, due_at=due_at)

    worker.work()

    assert worker.began == []
    waits_until = due_in_redis(room, task_id)
    assert waits_until is not None
    assert -SECOND < waits_until - due_at - ahead < 10 * SECOND  # and by as much as the reading of both clocks takes


class ARoomAhead(WaitingRoom):
    def now(self) -> dt.datetime:
        return super().now() + 2 * MINUTE


def test_a_job_some_milliseconds_early_is_waited_for(database: Database, room: WaitingRoom, worker: Worker) -> None:
    due_at = utc_now() + dt.timedelta(milliseconds=45)
    task_id = put(database, room, in_redis=utc_now() - MINUTE, due_at=due_at)

    worker.work()

    assert task_of(database, task_id).state == SUCCEEDED
    assert due_in_redis(room, task_id) is None
    assert worker.began[0] >= due_at


@pytest.mark.parametrize(
    ("policy", "direct", "by_session"),
    [
        pytest.param(TaskPolicy(), [1, 2], 0, id="nothing follows from its end"),
        pytest.param(TWO, [1, 1], 1, id="something may"),
    ],
)
def test_a_task_takes_one_transaction_to_claim_and_one_to_end(
    database: Database, room: WaitingRoom, worker: Worker, policy: TaskPolicy, direct: list[int], by_session: int
) -> None:
    put(database, room, policy=policy)
    begun: list[int] = []
    event.listen(worker.child.database.engine, "begin", lambda connection: begun.append(1))
    seen: list[int] = []

    worker.while_running = lambda: seen.append(worker.child.direct.transactions)
    worker.work()

    assert [*seen, worker.child.direct.transactions] == direct
    assert len(begun) == by_session


# --- a lease that is over before the function begins ----------------------------------------------------------------


def test_a_task_whose_claim_waited_longer_than_its_lease_is_run_once_all_the_same(
    database: Database, room: WaitingRoom, worker: Worker
) -> None:
    worker.child.lease = A_SHORT_LEASE
    worker.while_running = lambda: hold_on(database)
    task_id = put(database, room, policy=TaskPolicy(delivery="at_most_once"))

    with locked(database, task_id, 2 * A_SHORT_LEASE):
        worker.work()
    worker.child.lease = A_LONG_LEASE
    worker.work()  # what was given back comes again

    assert len(worker.began) == 1
    assert ended(database, task_id) == (SUCCEEDED, 1, [SUCCEEDED])


@pytest.mark.parametrize(
    ("fields", "before"),
    [
        pytest.param({"policy": TaskPolicy(delivery="at_most_once")}, (QUEUED, 0, None), id="at_most_once"),
        pytest.param(
            {"attempt": 1, "state": RETRYING, "started_at": at("02:00")}, (QUEUED, 1, at("02:00")), id="retry"
        ),
    ],
)
def test_a_task_whose_worker_was_frozen_before_its_function_began_comes_again(
    database: Database,
    room: WaitingRoom,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    before: tuple[str, int, dt.datetime | None],
) -> None:
    task_id = put(database, room, **fields)

    def reach(point: str) -> None:
        if point == "child.before_call" and not seen:
            worker.child.deadline.set(boot_seconds() - 1)
            seen.append(point)

    seen: list[str] = []
    monkeypatch.setattr(child_module, "point", reach)
    worker.work()

    assert worker.began == []
    task = task_of(database, task_id)
    assert (task.state, task.attempt, task.started_at) == before
    worker.work()
    assert ended(database, task_id) == (SUCCEEDED, before[1] + 1, [SUCCEEDED])


def test_a_task_that_was_lost_before_its_function_began_says_so_in_its_log(
    database: Database, room: WaitingRoom, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = put(database, room, policy=TaskPolicy(delivery="at_most_once"))

    def be_frozen_until_the_keeper_has_been_there(point: str) -> None:
        if point == "child.before_call":
            worker.child.deadline.set(boot_seconds() - 1)
            with database.write() as session:
                session.execute(update(Task).values(lease_until=utc_now() - MINUTE))
            Reconcile(database, room).end_silent(Mended())

    monkeypatch.setattr(child_module, "point", be_frozen_until_the_keeper_has_been_there)
    worker.work()

    assert worker.began == []
    assert ended(database, task_id) == (LOST, 1, [LOST])
    with database.read() as session:
        (chunk,) = session.scalars(select(LogChunk)).all()
    said = "WARNING Its function was never called: its worker stood still from its claim until its lease was over."
    assert (chunk.task_id, chunk.attempt, chunk.lines[9:]) == (task_id, 1, said)


def test_a_claim_that_is_read_back_too_late_gives_the_task_back(
    database: Database, room: WaitingRoom, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.child.lease = A_SHORT_LEASE
    task_id = put(database, room, policy=TaskPolicy(delivery="at_most_once"))
    claim = worker.child.direct.claim

    def lose_the_reply(*arguments: Any, **values: Any) -> None:
        monkeypatch.setattr(worker.child.direct, "claim", claim)
        assert claim(*arguments, **values) is not None
        until = boot_seconds() + 2 * A_SHORT_LEASE.total_seconds()
        wait_for(lambda: boot_seconds() > until, what="the end of the lease")
        raise DatabaseAway

    monkeypatch.setattr(worker.child.direct, "claim", lose_the_reply)
    monkeypatch.setattr(child_module, "Pauses", partial(Pauses, 0.01, 0.02))
    worker.work()
    worker.child.lease = A_LONG_LEASE
    worker.work()

    assert len(worker.began) == 1
    assert ended(database, task_id) == (SUCCEEDED, 1, [SUCCEEDED])


@contextmanager
def locked(database: Database, task_id: int, lasting: dt.timedelta) -> Iterator[None]:
    """Whoever writes the task waits so long: on SQLite for the lock of all writers, on PostgreSQL for that of its
    row."""
    is_held = threading.Event()

    def hold() -> None:
        with database.write() as session:
            session.execute(select(Task.id).where(Task.id == task_id).with_for_update())
            is_held.set()
            until = boot_seconds() + lasting.total_seconds()
            wait_for(lambda: boot_seconds() > until, what="the end of the lock")

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        assert is_held.wait(10)
        yield
        holder.result()


def hold_on(database: Database) -> None:
    """Renew the lease of what runs, as the parent does."""
    with database.write() as session:
        session.execute(update(Task).where(Task.state == RUNNING).values(lease_until=utc_now() + A_LONG_LEASE))


def ended(database: Database, task_id: int) -> tuple[str, int, list[str | None]]:
    """The task's state and attempt, and how its attempts ended."""
    with database.read() as session:
        attempts = session.scalars(select(Attempt).where(Attempt.task_id == task_id).order_by(Attempt.number))
        task = session.get_one(Task, task_id)
        return task.state, task.attempt, [one.outcome for one in attempts]


# --- stop -----------------------------------------------------------------------------------------------------------


def test_a_stop_that_comes_before_the_function_begins_is_seen_by_it(
    database: Database, room: WaitingRoom, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(database, room)
    seen: list[bool] = []

    def reach(point: str) -> None:
        if point == "child.before_call":  # the parent has been told that it runs
            worker.child.deadline.stop_number = 1

    monkeypatch.setattr(child_module, "point", reach)
    worker.while_running = lambda: seen.append(stop_requested())
    worker.work()

    assert seen == [True]


def test_a_stop_that_comes_after_its_task_has_ended_is_not_taken_for_the_next_one(
    database: Database, room: WaitingRoom, worker: Worker
) -> None:
    for _ in range(2):
        put(database, room)
    seen: list[bool] = []

    worker.while_running = lambda: seen.append(stop_requested())
    worker.work()
    worker.child.deadline.stop_number = 1
    worker.work()

    assert seen == [False, False]


# --- overlap --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "second", "third"),
    [
        pytest.param(
            "skip",
            (SKIPPED, "overlap", "task 1 of this schedule was running (overlap: skip)"),
            (SKIPPED, "overlap", "task 1 of this schedule was running (overlap: skip)"),
            id="skip",
        ),
        pytest.param(
            "queue-one",
            (PLANNED, "waiting", "waits for task 1 of its schedule, which is running"),
            (SKIPPED, "overlap", "task 1 was running and another one waits already (overlap: queue-one)"),
            id="queue-one",
        ),
        pytest.param(
            "queue-all",
            (PLANNED, "waiting", "waits for task 1 of its schedule, which is running"),
            (PLANNED, "waiting", "waits for task 1 of its schedule, which is running"),
            id="queue-all",
        ),
        pytest.param(
            "replace",
            (PLANNED, "waiting", "waits for task 1, which it replaces, to stop"),
            (PLANNED, "waiting", "waits for task 1, which it replaces, to stop"),
            id="replace",
        ),
        pytest.param("allow", (SUCCEEDED, None, None), (SUCCEEDED, None, None), id="allow"),
    ],
)
def test_what_comes_while_another_of_its_schedule_runs(
    database: Database,
    room: WaitingRoom,
    worker: Worker,
    overlap: Any,
    second: tuple[str, str | None, str | None],
    third: tuple[str, str | None, str | None],
) -> None:
    with database.write() as session:
        nightly = a_schedule(session)
    lane = None if overlap == "allow" else f"schedule:{nightly.id}"
    fields = {"schedule": nightly, "lane": lane, "policy": TaskPolicy(overlap=overlap)}
    ids = [put(database, room, **fields, due_at=utc_now() - HOUR + n * SECOND) for n in range(3)]
    seen: list[tuple[str, str | None, str | None]] = []

    def let_the_others_come() -> None:
        worker.while_running = lambda: None
        worker.work()
        worker.work()
        seen.extend((task.state, task.reason_code, task.reason) for task in (task_of(database, one) for one in ids[1:]))
        seen.append(("stop asked", None, str(task_of(database, ids[0]).stop_requested_by)))

    worker.while_running = let_the_others_come
    worker.work()

    by = f"task {ids[1]}, which replaces it" if overlap == "replace" else "None"
    assert seen == [second, third, ("stop asked", None, by)]


def test_what_comes_while_another_of_its_group_runs_waits_whatever_its_schedule_says(
    database: Database, room: WaitingRoom, worker: Worker
) -> None:
    with database.write() as session:
        one, other = a_schedule(session, a_spec(name="one")), a_schedule(session, a_spec(name="other"))
    first = put(database, room, schedule=one, lane="group:g", due_at=utc_now() - HOUR)
    second = put(database, room, schedule=other, lane="group:g", policy=TaskPolicy(overlap="skip"))
    seen: list[str | None] = []

    def let_the_other_come() -> None:
        worker.while_running = lambda: None
        worker.work()
        seen.append(task_of(database, second).reason)

    worker.while_running = let_the_other_come
    worker.work()
    worker.work()

    assert seen == [f"waits for task {first} of its exclusive group, which is running"]
    assert [task_of(database, one).state for one in (first, second)] == [SUCCEEDED, SUCCEEDED]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_task_that_replaces_another_and_who_withdraws_both_do_not_wait_for_each_other(
    database: Database, room: WaitingRoom, worker: Worker
) -> None:
    with database.write() as session:
        fields = {"schedule": a_schedule(session), "lane": "schedule:1", "policy": TaskPolicy(overlap="replace")}
    holder = put(database, room, state=RETRYING, attempt=1, due_at=utc_now() + HOUR, **fields)
    task_id = put(database, room, **fields)

    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            tasks.cancel_waiting(session, Task.id == task_id, code="removed", reason="")
            working = pool.submit(worker.work)
            wait_for(lambda: is_anybody_blocked(database), every=0.01, what="the worker to come to the task")
            tasks.cancel_waiting(session, Task.id == holder, code="removed", reason="")
        working.result(20)

    assert [task_of(database, one).reason_code for one in (holder, task_id)] == ["replaced", "removed"]


# --- a schedule that pauses itself ----------------------------------------------------------------------------------


def test_what_is_skipped_when_a_schedule_pauses_itself_leaves_redis_at_once(
    database: Database, room: WaitingRoom, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    with database.write() as session:
        nightly = a_schedule(session)
    moments = [utc_now() - HOUR, utc_now() - MINUTE, utc_now() + HOUR]
    policy = TaskPolicy(pause_after=1)
    ids = [put(database, room, schedule=nightly, policy=policy, fire_time=one) for one in moments]

    def fail() -> None:
        raise ValueError("boom")

    worker.while_running = fail
    worker.work()

    assert [task_of(database, one).state for one in ids[:2]] == [FAILED, SKIPPED]
    assert (room.waiting_ids(), room.queued_ids(["scheduled"])) == (set(), set())
    said = "Schedule nightly paused itself: a final failure: ValueError: boom (no retry)"
    assert [one.message for one in caplog.records if "paused" in one.message] == [said]


# --- max_running ----------------------------------------------------------------------------------------------------


def test_a_task_whose_kind_is_full_is_put_off_and_not_skipped(
    database: Database, room: WaitingRoom, worker: Worker
) -> None:
    with database.write() as session:
        for slot in (1, 2):
            a_task(session, kind="long", policy=TWO, state=RUNNING, slot=slot)
    task_id = put(database, room, kind="long", policy=TWO, lane="l")

    before = utc_now()
    worker.work()

    task = task_of(database, task_id)
    assert (task.state, task.reason_code, task.reason) == (
        PLANNED,
        "waiting",
        "2 of kind long run already; it waits for one to end (max_running: 2)",
    )
    waits_until = due_in_redis(room, task_id)
    assert waits_until is not None
    assert abs(waits_until - task.due_at) < SECOND / 10
    assert before + 4 * SECOND < task.due_at < utc_now() + 6 * SECOND


def test_who_waits_for_fewer_of_its_kind_comes_as_soon_as_one_ends(
    database: Database, room: WaitingRoom, worker: Worker
) -> None:
    one = TaskPolicy(max_running=1)
    first = put(database, room, policy=one, due_at=utc_now() - HOUR)
    second = put(database, room, policy=one)
    seen: list[str | None] = []

    def try_the_second() -> None:
        worker.while_running = lambda: None
        worker.work()
        seen.append(task_of(database, second).reason)

    worker.while_running = try_the_second
    worker.work()
    worker.work()

    assert seen == ["1 of kind scheduled run already; it waits for one to end (max_running: 1)"]
    assert [task_of(database, one).state for one in (first, second)] == [SUCCEEDED, SUCCEEDED]


# --- what the function is told --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "fire_time"),
    [
        pytest.param(
            {"fire_time": at("02:00"), "idempotency_key": "nightly@2026-11-24T02:00:00Z"}, at("02:00"), id="due"
        ),
        pytest.param({"idempotency_key": "nightly@2026-11-24T02:00:00Z"}, at("02:00"), id="backfill or retry"),
        pytest.param({"idempotency_key": "nightly@2026-11-24T02:00:00.5+00:00 manual"}, None, id="asked for"),
    ],
)
def test_a_function_sees_the_fire_time_that_it_is_about(
    database: Database, room: WaitingRoom, worker: Worker, fields: dict[str, Any], fire_time: dt.datetime | None
) -> None:
    put(database, room, due_at=utc_now() - MINUTE, **fields)
    seen: list[dt.datetime | None] = []

    worker.while_running = lambda: seen.append(context.fire_time)
    worker.work()

    assert seen == [fire_time]
