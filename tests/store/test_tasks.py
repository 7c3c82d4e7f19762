"""The Task table: who may move a task, who wins a race, and what the keeper finds."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from scheduler.clock import utc_now
from scheduler.rules.states import (
    CANCELLED,
    FAILED,
    FINAL,
    LOST,
    MISSED,
    NEXT,
    PLANNED,
    QUEUED,
    RETRYING,
    RUNNING,
    SKIPPED,
    STATES,
    SUCCEEDED,
    UNFINISHED,
)
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import schedules, tasks
from scheduler.store.database import Database
from scheduler.store.tables import Attempt, Gap, LogChunk, Task
from scheduler.store.tasks import AttemptEnd, Claimed, Refusal, skip
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task, an_attempt, at

SECOND = dt.timedelta(seconds=1)
LEASE = MINUTE
MANY = 8

Value = TypeVar("Value")


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as opened:
        yield opened


def claim(session: Session, task_id: int, attempt: int = 1, token: str = "", **fields: Any) -> Claimed | None:
    plain: dict[str, Any] = {"worker": "w1", "host": "here", "pid": 7, "lease": LEASE}
    return tasks.claim(session, task_id, attempt, token=token or str(uuid.uuid4()), **{**plain, **fields})


def fresh(session: Session, task: Task) -> Task:
    session.refresh(task)
    return task


def committed(database: Database, build: Callable[[Session], Value]) -> Value:
    with database.write() as session:
        return build(session)


def at_once(workers: list[Callable[[], Value]]) -> list[Value]:
    """What each gives back, all started at the same moment on threads of their own."""
    start = threading.Barrier(len(workers))

    def after_start(work: Callable[[], Value]) -> Value:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(workers)) as pool:
        return list(pool.map(after_start, workers))


# --- move -----------------------------------------------------------------------------------------------------------

ALL_PAIRS = [(old, new) for old in STATES for new in STATES]


@pytest.mark.parametrize(("old", "new"), ALL_PAIRS, ids=[f"{old} to {new}" for old, new in ALL_PAIRS])
def test_a_task_moves_only_as_the_table_says(migrated_sqlite: Database, old: str, new: str) -> None:
    with migrated_sqlite.write() as session:
        task = a_task(session, state=old)
        held: dict[str, Any] = {"token": "t", "lease_until": utc_now(), "attempt": 1} if new == RUNNING else {}

        moved = tasks.move(session, new, Task.id == task.id, **held)

        is_allowed = new in NEXT.get(old, frozenset())
        assert [row.id for row in moved] == ([task.id] if is_allowed else [])
        assert fresh(session, task).state == (new if is_allowed else old)
        assert (task.finished_at is not None) == (task.state in FINAL)
        session.rollback()


@pytest.fixture(scope="module")
def migrated_sqlite(migrated_file: Any) -> Iterator[Database]:
    """For tables of many rows that leave nothing behind."""
    opened = Database(f"sqlite:///{migrated_file}", synchronous="OFF")
    yield opened
    opened.close()


def test_of_many_that_move_a_task_one_wins(database: Database) -> None:
    task_id = committed(database, lambda session: a_task(session).id)

    def cancel() -> int:
        with database.write() as session:
            return len(tasks.move(session, CANCELLED, Task.id == task_id))

    assert sum(at_once([cancel] * MANY)) == 1


def test_move_gives_back_what_is_asked_for_of_each_task(session: Session) -> None:
    first, second = a_task(session, queue="a"), a_task(session, queue="b")
    a_task(session, queue="c", state=SUCCEEDED)

    moved = tasks.move(session, QUEUED, Task.id > 0, returning=(Task.queue,), queued_at=at("02:00"))

    assert sorted((row.id, row.queue) for row in moved) == [(first.id, "a"), (second.id, "b")]
    assert fresh(session, first).queued_at == at("02:00")


def test_an_end_takes_the_lease_away(session: Session) -> None:
    task = a_task(session, state=RUNNING)

    tasks.move(session, FAILED, Task.id == task.id)

    assert fresh(session, task).lease_until is None


# --- planning -------------------------------------------------------------------------------------------------------


def a_row(**fields: Any) -> dict[str, Any]:
    plain = {
        "kind": "scheduled",
        "origin": "schedule",
        "task": "count_words",
        "args": {},
        "policy": {},
        "idempotency_key": "k",
        "due_at": at("02:00"),
        "queue": "scheduled",
        "state": PLANNED,
        "attempt": 0,
        "created_at": at("01:00"),
    }
    return {**plain, **fields}


def test_a_fire_time_gets_one_row(session: Session) -> None:
    schedule = a_schedule(session)
    rows = [a_row(schedule_id=schedule.id, fire_time=at(f"02:0{minute}")) for minute in range(3)]

    first = tasks.add(session, rows[:2])
    second = tasks.add(session, rows)

    assert len(first) == 2
    assert [(row.queue, row.due_at, row.state) for row in second] == [("scheduled", at("02:00"), PLANNED)]
    assert len(session.scalars(select(Task)).all()) == 3


def test_rows_that_no_fire_time_asked_for_are_no_twins(session: Session) -> None:
    schedule = a_schedule(session)
    row = a_row(schedule_id=schedule.id, fire_time=None)

    assert len(tasks.add(session, [row, dict(row)])) == 2


def test_no_rows_are_no_work(session: Session) -> None:
    assert tasks.add(session, []) == []


def test_ten_thousand_rows_are_taken_at_once(session: Session) -> None:
    schedule = a_schedule(session)
    rows = [a_row(schedule_id=schedule.id, fire_time=at("02:00") + n * SECOND) for n in range(10_000)]

    added = tasks.add(session, rows)

    assert len(added) == 10_000
    assert len({row.id for row in added}) == 10_000


def test_a_gap_is_written_down(session: Session) -> None:
    schedule = a_schedule(session)

    tasks.add_gap(session, schedule.id, at("01:00"), at("01:30"), 1800)

    gap = session.scalars(select(Gap)).one()
    assert (gap.first, gap.last, gap.count) == (at("01:00"), at("01:30"), 1800)


def test_only_a_forecast_is_taken_back(session: Session) -> None:
    schedule, other = a_schedule(session, a_spec(name="a")), a_schedule(session, a_spec(name="b"))
    foretold = a_task(session, schedule=schedule, fire_time=at("02:01")).id
    kept = [
        a_task(session, schedule=schedule, fire_time=at("02:00")),
        a_task(session, schedule=schedule, fire_time=at("02:02"), state=QUEUED),
        a_task(session, schedule=schedule, fire_time=at("02:03"), state=CANCELLED),
        a_task(session, schedule=schedule, fire_time=None),
        a_task(session, schedule=other, fire_time=at("02:01")),
    ]
    kept_ids = {task.id for task in kept}

    withdrawn = tasks.withdraw_forecast(session, [schedule.id], at("02:00"))

    assert withdrawn == [(foretold, 1, "scheduled")]
    assert set(session.scalars(select(Task.id))) == kept_ids


# --- queueing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "attempt", "state"),
    [
        pytest.param({"state": PLANNED}, 1, QUEUED, id="planned"),
        pytest.param({"state": RETRYING, "attempt": 1}, 2, QUEUED, id="between attempts"),
        pytest.param({"state": RETRYING, "attempt": 1}, 1, RETRYING, id="the mark of an older attempt"),
        pytest.param({"state": RETRYING, "attempt": 1}, 3, RETRYING, id="of an attempt that is none yet"),
        pytest.param({"state": QUEUED}, 1, QUEUED, id="marked already"),
        pytest.param({"state": RUNNING}, 1, RUNNING, id="claimed before its mark"),
        pytest.param({"state": CANCELLED}, 1, CANCELLED, id="ended before its mark"),
    ],
)
def test_a_mark_is_made_only_where_it_belongs(
    session: Session, fields: dict[str, Any], attempt: int, state: str
) -> None:
    task = a_task(session, **fields)

    marked = tasks.mark_queued(session, [(task.id, attempt)])

    assert fresh(session, task).state == state
    assert marked == (state != fields["state"])


def test_a_mark_ends_the_reason_of_a_retry(session: Session) -> None:
    task = a_task(session, state=RETRYING, attempt=1, reason_code="error", reason="attempt 1 of 3 failed")

    tasks.mark_queued(session, [(task.id, 2)])

    assert (fresh(session, task).reason_code, task.reason) == (None, None)


def test_a_mark_that_comes_late_leaves_a_waiting_task_waiting(session: Session) -> None:
    # The dispatcher marks half a second later; by then a worker may have found the lane taken.
    task = a_task(session, lane="l")
    tasks.put_off(session, task.id, utc_now() + MINUTE, "waits for task 7")

    tasks.mark_queued(session, [(task.id, 1)])

    assert (fresh(session, task).reason_code, task.reason) == ("waiting", "waits for task 7")


def test_thousands_of_marks_are_made_in_batches(session: Session) -> None:
    ids = [row.id for row in tasks.add(session, [a_row() for _ in range(1201)])]

    assert tasks.mark_queued(session, [(task_id, 1) for task_id in ids]) == 1201


def test_redis_ought_to_hold_what_waits(session: Session) -> None:
    wanted = [
        a_task(session, due_at=at("02:00")),
        a_task(session, state=QUEUED, due_at=at("02:01")),
        a_task(session, state=RETRYING, attempt=2, due_at=at("02:02"), queue="long"),
    ]
    for state in (RUNNING, *FINAL):
        a_task(session, state=state)

    jobs = tasks.wanted_jobs(session)

    assert jobs == [
        WaitingJob(wanted[0].id, 1, "scheduled", at("02:00"), PLANNED),
        WaitingJob(wanted[1].id, 1, "scheduled", at("02:01"), QUEUED),
        WaitingJob(wanted[2].id, 3, "long", at("02:02"), RETRYING),
    ]
    assert tasks.wanted_jobs(session, after_id=wanted[0].id, limit=1) == [jobs[1]]


# --- claiming -------------------------------------------------------------------------------------------------------


def test_a_claim_makes_the_task_the_workers_own(session: Session) -> None:
    schedule = a_schedule(session)
    row = {"fire_time": at("02:00"), "due_at": ago(SECOND), "args": {"a": [1]}, "reason": "x", "reason_code": "y"}
    task = a_task(session, schedule=schedule, **row)

    claimed = claim(session, task.id, token="mine")

    assert claimed == Claimed(
        task_id=task.id,
        attempt=1,
        token="mine",
        kind="scheduled",
        task="count_words",
        args={"a": [1]},
        policy=task.policy,
        idempotency_key=task.idempotency_key,
        schedule="nightly",
        schedule_id=schedule.id,
        fire_time=at("02:00"),
        started_at=fresh(session, task).started_at or at("00:00"),
    )
    now = schedules.now(session)
    assert (task.state, task.attempt, task.token, task.worker) == (RUNNING, 1, "mine", "w1")
    assert (task.reason, task.reason_code) == (None, None)
    assert task.lease_until is not None
    assert abs(task.lease_until - now - LEASE) < SECOND
    assert task.queued_at is not None
    attempt = session.scalars(select(Attempt)).one()
    assert (attempt.task_id, attempt.number, attempt.token, attempt.pid) == (task.id, 1, "mine", 7)
    assert attempt.outcome is None


def test_a_second_attempt_keeps_when_the_first_began(session: Session) -> None:
    task = a_task(session, state=RETRYING, attempt=1, started_at=at("01:00"), queued_at=at("00:59"))

    claimed = claim(session, task.id, attempt=2)

    assert claimed is not None
    assert claimed.started_at == at("01:00")
    assert (fresh(session, task).attempt, task.queued_at) == (2, at("00:59"))


def ago(duration: dt.timedelta) -> dt.datetime:
    return utc_now() - duration


@pytest.mark.parametrize(
    ("fields", "attempt", "why"),
    [
        pytest.param({"state": PLANNED}, 2, "stale", id="an attempt that is none yet"),
        pytest.param({"state": RETRYING, "attempt": 1}, 1, "stale", id="an attempt that is over"),
        pytest.param({"state": RUNNING}, 1, "stale", id="somebody runs it"),
        pytest.param({"state": RUNNING}, 2, "stale", id="somebody runs the one before"),
        *[pytest.param({"state": state}, 1, "stale", id=state) for state in sorted(FINAL)],
        pytest.param({"start_by": ago(SECOND)}, 1, "late", id="later than its grace"),
        pytest.param({"state": QUEUED, "start_by": ago(SECOND)}, 1, "late", id="queued, and late"),
        pytest.param({"stop_requested_at": ago(SECOND)}, 1, "stopped", id="asked to stop"),
    ],
)
def test_a_task_that_is_not_to_be_had(session: Session, fields: dict[str, Any], attempt: int, why: str) -> None:
    task = a_task(session, **fields)
    before = fresh(session, task).state, task.attempt, task.token

    claimed = claim(session, task.id, attempt, token="mine")

    assert claimed is None
    assert tasks.why_refused(session, task.id, attempt, "mine") == Refusal(why)
    assert (fresh(session, task).state, task.attempt, task.token) == before


def test_a_task_that_is_gone_is_not_to_be_had(session: Session) -> None:
    assert claim(session, 12345) is None
    assert tasks.why_refused(session, 12345, 1, "mine") == Refusal("gone")


@pytest.mark.parametrize("fields", [{}, {"state": QUEUED}, {"state": RETRYING, "attempt": 1}], ids=str)
def test_no_attempt_begins_before_its_due_time(session: Session, fields: dict[str, Any]) -> None:
    task = a_task(session, due_at=utc_now() + MINUTE, **fields)

    assert claim(session, task.id, task.attempt + 1) is None

    refusal = tasks.why_refused(session, task.id, task.attempt + 1, "mine")
    assert refusal.due_in is not None
    assert refusal == Refusal("early", due_in=refusal.due_in)
    assert MINUTE / 2 < refusal.due_in <= MINUTE + SECOND


def test_a_second_attempt_is_never_too_late(session: Session) -> None:
    task = a_task(session, state=RETRYING, attempt=1, start_by=ago(HOUR))

    assert claim(session, task.id, attempt=2) is not None


def test_a_claim_whose_reply_was_lost_is_read_back(session: Session) -> None:
    task = a_task(session)
    claim(session, task.id, token="mine")

    assert claim(session, task.id, token="mine") is None
    assert tasks.why_refused(session, task.id, 1, "mine") == Refusal("mine")


@pytest.mark.parametrize(
    ("attempt", "before"), [pytest.param(1, None, id="first attempt"), pytest.param(2, at("02:00"), id="retry")]
)
def test_a_claim_that_is_given_back_is_as_if_nobody_had_come(
    session: Session, attempt: int, before: dt.datetime | None
) -> None:
    policy = TaskPolicy(delivery="at_most_once", max_running=1)
    state = RETRYING if attempt > 1 else QUEUED
    task = a_task(session, policy=policy, state=state, attempt=attempt - 1, started_at=before, lane="l")
    claim(session, task.id, attempt, token="mine")

    given = tasks.give_back(session, task.id, attempt, "mine")

    task = fresh(session, task)
    assert given == [(task.id, QUEUED, "scheduled", task.due_at)]
    assert (task.state, task.attempt, task.started_at) == (QUEUED, attempt - 1, before)
    assert (task.token, task.worker, task.lease_until, task.slot) == (None, None, None, None)
    assert session.scalars(select(Attempt)).all() == []
    assert claim(session, task.id, attempt, token="another") is not None


def test_a_claim_that_was_asked_to_stop_is_cancelled_instead_of_being_given_back(session: Session) -> None:
    task = a_task(session)
    claim(session, task.id, token="mine")
    tasks.request_stop(session, task.id, "jana")

    given = tasks.give_back(session, task.id, 1, "mine")

    task = fresh(session, task)
    assert [row.state for row in given] == [CANCELLED]
    assert (task.attempt, task.reason_code, task.reason) == (0, "stopped", "asked to stop before it began")
    assert session.scalars(select(Attempt)).all() == []


def test_of_a_keeper_and_a_worker_that_gives_a_claim_back_one_wins(database: Database) -> None:
    policy = TaskPolicy(delivery="at_most_once")
    for _ in range(5):
        task_id = committed(database, lambda session: a_task(session, state=RUNNING, token="mine", policy=policy).id)

        def give_back(task_id: int = task_id) -> bool:
            with database.write() as session:
                return bool(tasks.give_back(session, task_id, 1, "mine"))

        def end(task_id: int = task_id) -> bool:
            with database.write() as session:
                return tasks.end(session, task_id, 1, "mine", LOST, AttemptEnd(LOST))

        given, ended = at_once([give_back, end])

        with database.read() as session:
            task = session.get_one(Task, task_id)
            attempts = session.scalars(select(Attempt).where(Attempt.task_id == task_id)).all()
        assert (given, ended) in [(True, False), (False, True)]
        assert (task.state, task.attempt, len(attempts)) == ((QUEUED, 0, 0) if given else (LOST, 1, 1))


def test_who_does_not_hold_a_claim_cannot_give_it_back(session: Session) -> None:
    task = a_task(session, state=RUNNING, token="another", attempt=2)

    assert [tasks.give_back(session, task.id, number, token) for number, token in ((2, "mine"), (1, "another"))] == [
        [],
        [],
    ]


def test_the_mark_of_a_job_does_not_queue_what_runs(session: Session) -> None:
    task = a_task(session, state=RUNNING)

    assert tasks.mark_queued(session, [(task.id, 2)]) == 0


def test_of_many_that_claim_a_task_one_wins(database: Database) -> None:
    task_id = committed(database, lambda session: a_task(session).id)

    def try_to_claim() -> bool:
        with database.write() as session:
            return claim(session, task_id) is not None

    assert sum(at_once([try_to_claim] * MANY)) == 1
    with database.read() as session:
        assert len(session.scalars(select(Attempt)).all()) == 1


def test_of_a_claim_and_a_cancel_at_once_one_wins(database: Database) -> None:
    for _ in range(5):
        task_id = committed(database, lambda session: a_task(session).id)

        def try_to_claim(task_id: int = task_id) -> bool:
            with database.write() as session:
                return claim(session, task_id) is not None

        def cancel(task_id: int = task_id) -> bool:
            with database.write() as session:
                return bool(tasks.cancel_waiting(session, Task.id == task_id, code="cancelled", reason="by jana"))

        claimed, cancelled = at_once([try_to_claim, cancel])

        with database.read() as session:
            task = session.get_one(Task, task_id)
            attempts = session.scalars(select(Attempt).where(Attempt.task_id == task_id)).all()
        assert (claimed, cancelled) in [(True, False), (False, True)]
        assert (task.state, len(attempts)) == ((RUNNING, 1) if claimed else (CANCELLED, 0))


def test_of_many_that_claim_in_one_lane_one_wins(database: Database) -> None:
    ids = committed(database, lambda session: [a_task(session, lane="l").id for _ in range(MANY)])

    def claimer(task_id: int) -> Callable[[], bool]:
        def try_to_claim() -> bool:
            try:
                with database.write() as session:
                    return claim(session, task_id) is not None
            except IntegrityError:  # as the worker reads it: the lane is taken
                return False

        return try_to_claim

    assert sum(at_once([claimer(task_id) for task_id in ids])) == 1
    with database.read() as session:
        assert len(session.scalars(select(Task).where(Task.state == RUNNING)).all()) == 1
        assert len(session.scalars(select(Attempt)).all()) == 1


# --- lanes ----------------------------------------------------------------------------------------------------------


def test_a_running_task_holds_its_lane(session: Session) -> None:
    schedule = a_schedule(session)
    holder = a_task(session, schedule=schedule, lane="l", state=RUNNING)
    task = a_task(session, schedule=schedule, lane="l")

    assert claim(session, task.id) is None
    refusal = tasks.why_refused(session, task.id, 1, "mine")
    assert refusal == Refusal("busy", fresh(session, task).policy, holder.id, RUNNING, True, 0)


def test_another_of_the_group_holds_the_lane(session: Session) -> None:
    revision = a_revision(session).id
    first, second = (a_schedule(session, a_spec(name=name), revision_id=revision) for name in "ab")
    holder = a_task(session, schedule=first, lane="group:g", state=RUNNING)
    task = a_task(session, schedule=second, lane="group:g")

    assert claim(session, task.id) is None
    refusal = tasks.why_refused(session, task.id, 1, "mine")
    assert (refusal.holder_id, refusal.same_schedule) == (holder.id, False)


@pytest.mark.parametrize("state", [RETRYING, QUEUED])
def test_a_task_between_two_attempts_holds_its_schedules_lane(session: Session, state: str) -> None:
    schedule = a_schedule(session)
    holder = a_task(session, schedule=schedule, lane="l", state=state, attempt=1)
    task = a_task(session, schedule=schedule, lane="l")

    assert claim(session, task.id) is None
    refusal = tasks.why_refused(session, task.id, 1, "mine")
    assert (refusal.why, refusal.holder_id, refusal.holder_state) == ("busy", holder.id, state)


def test_a_task_between_two_attempts_holds_up_no_other_of_its_group(session: Session) -> None:
    revision = a_revision(session).id
    first, second = (a_schedule(session, a_spec(name=name), revision_id=revision) for name in "ab")
    a_task(session, schedule=first, lane="group:g", state=RETRYING, attempt=1)
    task = a_task(session, schedule=second, lane="group:g")

    assert claim(session, task.id) is not None


def test_two_between_attempts_do_not_wait_for_each_other(session: Session) -> None:
    schedule = a_schedule(session)
    older = a_task(session, schedule=schedule, lane="l", state=RETRYING, attempt=1)
    newer = a_task(session, schedule=schedule, lane="l", state=RETRYING, attempt=1)

    assert claim(session, newer.id, attempt=2) is None
    assert claim(session, older.id, attempt=2) is not None


def test_who_runs_is_named_before_who_waits(session: Session) -> None:
    # Else `replace` would cancel the one that waits and leave the one that runs.
    schedule = a_schedule(session)
    a_task(session, schedule=schedule, lane="l", state=RETRYING, attempt=1)
    task = a_task(session, schedule=schedule, lane="l", state=RETRYING, attempt=1)
    a_task(session, schedule=schedule, lane="l", state=RETRYING, attempt=1)
    runs = a_task(session, schedule=schedule, lane="l", state=RUNNING)

    refusal = tasks.why_refused(session, task.id, 2, "mine")

    assert (refusal.holder_id, refusal.holder_state) == (runs.id, RUNNING)


def test_without_a_lane_nobody_is_in_the_way(session: Session) -> None:
    a_task(session, lane=None, state=RUNNING)
    task = a_task(session, lane=None)

    assert tasks.why_refused(session, task.id, 1, "mine") == Refusal("freed")
    assert claim(session, task.id) is not None


def test_a_lane_that_was_left_in_between_may_be_tried_again(session: Session) -> None:
    task = a_task(session, lane="l")

    assert tasks.why_refused(session, task.id, 1, "mine") == Refusal("freed")


# --- max_running ----------------------------------------------------------------------------------------------------

TWO = TaskPolicy(max_running=2)


def test_a_kind_with_a_limit_has_no_more_running(session: Session) -> None:
    ids = [a_task(session, policy=TWO).id for _ in range(3)]

    assert [claim(session, task_id) is not None for task_id in ids] == [True, True, False]

    assert slots(session) == {ids[0]: 1, ids[1]: 2}
    refusal = tasks.why_refused(session, ids[2], 1, "mine")
    assert refusal == Refusal("full", session.get_one(Task, ids[2]).policy, kind="scheduled", running=2)


def test_the_lowest_free_slot_is_taken(session: Session) -> None:
    three = TaskPolicy(max_running=3)
    for slot in (1, 3):
        a_task(session, policy=three, state=RUNNING, slot=slot)
    a_task(session, policy=three, state=RUNNING, slot=2, kind="long")
    task = a_task(session, policy=three)

    assert claim(session, task.id) is not None

    assert fresh(session, task).slot == 2


def test_those_that_run_without_a_slot_count_too(session: Session) -> None:
    a_task(session, state=RUNNING)  # begun before its kind had a limit
    ids = [a_task(session, policy=TWO).id for _ in range(2)]

    assert [claim(session, task_id) is not None for task_id in ids] == [True, False]


def test_a_lower_limit_waits_until_fewer_run(session: Session) -> None:
    running = [a_task(session, policy=TaskPolicy(max_running=3), state=RUNNING, slot=slot) for slot in (1, 2, 3)]
    task = a_task(session, policy=TWO)

    claimed = []
    for one in running[:2]:
        tasks.move(session, CANCELLED, Task.id == one.id)
        claimed.append(claim(session, task.id) is not None)

    assert claimed == [False, True]
    assert slots(session) == {running[2].id: 3, task.id: 1}


@pytest.mark.parametrize("end", [SUCCEEDED, FAILED, RETRYING, LOST, CANCELLED])
def test_an_end_gives_the_slot_back(session: Session, end: str) -> None:
    task = a_task(session, policy=TWO)
    claim(session, task.id, token="mine")

    tasks.end(session, task.id, 1, "mine", end, AttemptEnd(FAILED if end == RETRYING else end))

    assert (fresh(session, task).state, task.slot) == (end, None)


def test_without_a_limit_there_are_no_slots(session: Session) -> None:
    ids = [a_task(session).id for _ in range(3)]

    assert all(claim(session, task_id) for task_id in ids)
    assert slots(session) == dict.fromkeys(ids)


def test_of_many_that_claim_in_a_limited_kind_as_many_as_may_win(database: Database) -> None:
    ids = committed(database, lambda session: [a_task(session, policy=TWO).id for _ in range(MANY)])

    def claimer(task_id: int) -> Callable[[], None]:
        def claim_or_be_told_that_it_is_full() -> None:
            while True:
                try:
                    with database.write() as session:
                        if claim(session, task_id) is not None:
                            return
                except IntegrityError:  # another took the same slot
                    pass
                with database.read() as session:
                    if tasks.why_refused(session, task_id, 1, "").why == "full":
                        return

        return claim_or_be_told_that_it_is_full

    at_once([claimer(task_id) for task_id in ids])
    with database.read() as session:
        assert sorted(slots(session).values()) == [1, 2]


def test_who_waits_for_a_slot_is_found_and_who_waits_for_a_lane_too_is_not(session: Session) -> None:
    a_task(session, lane="l", state=RUNNING)
    ended = a_task(session, policy=TWO, state=SUCCEEDED)
    a_task(session, policy=TWO, lane="l", reason_code=tasks.WAITING)
    waits = [a_task(session, policy=TWO, reason_code=tasks.WAITING).id for _ in range(3)]
    a_task(session, policy=TWO, reason_code=tasks.WAITING, kind="long")
    a_task(session, reason_code=tasks.WAITING)

    assert [job.task_id for job in tasks.waiting_for_slot(session, ended.id)] == waits[:2]


def slots(session: Session) -> dict[int, Any]:
    """The slots of the tasks that run."""
    return {row.id: row.slot for row in session.execute(select(Task.id, Task.slot).where(Task.state == RUNNING))}


# --- waiting --------------------------------------------------------------------------------------------------------


def test_those_that_wait_before_a_task_are_counted(session: Session) -> None:
    schedule = a_schedule(session)
    a_task(session, schedule=schedule, lane="l", state=RUNNING)
    first, second, third = (a_task(session, schedule=schedule, lane="l") for _ in range(3))
    for task in (first, second):
        tasks.put_off(session, task.id, utc_now(), "waits")

    counts = [tasks.why_refused(session, task.id, 1, "mine").others_waiting for task in (first, second, third)]

    assert counts == [0, 1, 2]


def test_the_oldest_that_wait_are_woken(session: Session) -> None:
    holder = a_task(session, lane="l", state=RUNNING)
    waiting = [a_task(session, lane="l") for _ in range(4)]
    other = a_task(session, lane="m")
    for task in (*waiting[1:], other):
        tasks.put_off(session, task.id, at("02:00"), "waits")

    woken = tasks.waiting_for_lane(session, holder.id)

    assert woken == [WaitingJob(task.id, 1, "scheduled", at("02:00"), PLANNED) for task in waiting[1:3]]


def test_a_task_without_a_lane_wakes_nobody(session: Session) -> None:
    holder = a_task(session, lane=None, state=RUNNING)
    tasks.put_off(session, a_task(session, lane=None).id, at("02:00"), "waits")

    assert tasks.waiting_for_lane(session, holder.id) == []


@pytest.mark.parametrize("state", STATES)
def test_only_a_task_that_waits_is_put_off(session: Session, state: str) -> None:
    task = a_task(session, state=state, due_at=at("01:00"))

    put_off = tasks.put_off(session, task.id, at("02:00"), "waits for task 7")

    assert put_off == (state in {PLANNED, QUEUED, RETRYING})
    assert fresh(session, task).due_at == (at("02:00") if put_off else at("01:00"))
    assert task.state == state


# --- while it runs --------------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_by_its_holder(session: Session) -> None:
    task = a_task(session, state=RUNNING, lease_until=utc_now() + SECOND)

    row = tasks.renew(session, task.id, task.token or "", LEASE)

    assert row is not None
    assert row.stop_requested_at is None
    lease_until = fresh(session, task).lease_until
    assert lease_until is not None
    assert lease_until > utc_now() + LEASE - SECOND


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"token": "another"}, id="another holds it"),
        pytest.param({"lease_until": ago(SECOND)}, id="its lease is over"),
    ],
)
def test_a_lease_that_is_not_held_is_not_renewed(session: Session, fields: dict[str, Any]) -> None:
    task = a_task(session, state=RUNNING, **{"token": "mine", **fields})

    assert tasks.renew(session, task.id, "mine", LEASE) is None


def test_a_stop_is_asked_for_once_and_seen_at_the_renewal(session: Session) -> None:
    task = a_task(session, state=RUNNING)

    assert tasks.request_stop(session, task.id, "jana")
    asked_at = fresh(session, task).stop_requested_at
    assert tasks.request_stop(session, task.id, "otto")

    row = tasks.renew(session, task.id, task.token or "", LEASE)
    assert row is not None
    assert (row.stop_requested_at, row.stop_requested_by) == (asked_at, "jana")


@pytest.mark.parametrize("state", sorted({*STATES} - {RUNNING}))
def test_only_what_runs_can_be_stopped(session: Session, state: str) -> None:
    assert not tasks.request_stop(session, a_task(session, state=state).id, "jana")


def test_progress_is_written_by_the_holder_only(session: Session) -> None:
    task = a_task(session, state=RUNNING, token="mine")

    tasks.write_progress(session, task.id, "another", {"done": 9})
    tasks.write_progress(session, task.id, "mine", {"done": 1})

    assert fresh(session, task).progress == {"done": 1}


def test_log_lines_are_kept_as_they_came(session: Session) -> None:
    task = a_task(session, state=RUNNING)

    tasks.write_log(session, task.id, 1, ["06:30:01 INFO a", "06:30:02 INFO b"])

    chunk = session.scalars(select(LogChunk)).one()
    assert (chunk.task_id, chunk.attempt, chunk.lines) == (task.id, 1, "06:30:01 INFO a\n06:30:02 INFO b")


# --- ending ---------------------------------------------------------------------------------------------------------


def test_an_end_is_that_of_the_task_and_its_attempt(session: Session) -> None:
    task = a_task(session, state=RUNNING)
    end = AttemptEnd(FAILED, "ValueError", "boom", "Traceback …", 3 * 2**30)

    ended = tasks.end(session, task.id, 1, task.token or "", FAILED, end, reason="boom", reason_code="error")

    assert ended
    assert (fresh(session, task).state, task.reason, task.reason_code) == (FAILED, "boom", "error")
    assert task.error == {"type": "ValueError", "message": "boom", "traceback": "Traceback …"}
    attempt = session.scalars(select(Attempt)).one()
    assert (attempt.outcome, attempt.error_type, attempt.peak_memory) == (FAILED, "ValueError", 3 * 2**30)
    assert attempt.ended_at is not None


@pytest.mark.parametrize(
    ("token", "attempt"),
    [pytest.param("another", 1, id="another's token"), pytest.param("mine", 2, id="another attempt")],
)
def test_who_does_not_hold_a_task_cannot_end_it(session: Session, token: str, attempt: int) -> None:
    task = a_task(session, state=RUNNING, token="mine")

    ended = tasks.end(session, task.id, attempt, token, SUCCEEDED, AttemptEnd(SUCCEEDED), result={"value": 1})

    assert not ended
    assert (fresh(session, task).state, task.result) == (RUNNING, None)
    assert session.scalars(select(Attempt)).one().outcome is None


@pytest.mark.parametrize("new", sorted(NEXT[RUNNING]))
def test_an_end_never_changes(session: Session, new: str) -> None:
    task = a_task(session, state=RUNNING, token="mine")
    tasks.end(session, task.id, 1, "mine", CANCELLED, AttemptEnd(CANCELLED))

    assert not tasks.end(session, task.id, 1, "mine", new, AttemptEnd(FAILED))
    assert fresh(session, task).state == CANCELLED
    assert session.scalars(select(Attempt)).one().outcome == CANCELLED


@pytest.mark.parametrize("new", sorted(NEXT[RUNNING]))
def test_an_attempt_ends_once_also_when_another_follows(session: Session, new: str) -> None:
    # The child has ended it, and its parent, which saw the child die, tells the same attempt's end again.
    task = a_task(session, state=RUNNING, token="mine")
    tasks.end(session, task.id, 1, "mine", RETRYING, AttemptEnd(FAILED))

    assert not tasks.end(session, task.id, 1, "mine", new, AttemptEnd(LOST))
    assert fresh(session, task).state == RETRYING
    assert session.scalars(select(Attempt)).one().outcome == FAILED


def test_of_many_that_end_a_task_one_wins(database: Database) -> None:
    task_id = committed(database, lambda session: a_task(session, state=RUNNING, token="mine").id)

    def ender(number: int) -> Callable[[], bool]:
        def end() -> bool:
            new = (SUCCEEDED, FAILED, LOST, RETRYING)[number % 4]
            with database.write() as session:
                return tasks.end(session, task_id, 1, "mine", new, AttemptEnd(FAILED))

        return end

    assert sum(at_once([ender(number) for number in range(MANY)])) == 1


def test_a_success_after_its_lease_does_not_count(session: Session) -> None:
    task = a_task(session, state=RUNNING, token="mine", lease_until=ago(SECOND))

    ended = tasks.end(session, task.id, 1, "mine", SUCCEEDED, AttemptEnd(SUCCEEDED), result={"value": 1})

    assert not ended
    assert (fresh(session, task).state, task.result) == (RUNNING, None)


def test_a_failure_after_its_lease_is_told_all_the_same(session: Session) -> None:
    task = a_task(session, state=RUNNING, token="mine", lease_until=ago(SECOND))

    assert tasks.end(session, task.id, 1, "mine", LOST, AttemptEnd(LOST))


def test_what_runs_is_not_cancelled_as_waiting(session: Session) -> None:
    ids = {state: a_task(session, state=state, attempt=int(state == RETRYING)).id for state in UNFINISHED - {RUNNING}}
    running = a_task(session, state=RUNNING)

    rows = tasks.cancel_waiting(session, Task.id > 0, code="cancelled", reason="by jana")

    assert sorted((row.id, row.attempt, row.queue) for row in rows) == sorted(
        (task_id, int(state == RETRYING), "scheduled") for state, task_id in ids.items()
    )
    assert fresh(session, running).state == RUNNING


def test_a_task_is_skipped_with_its_reason(session: Session) -> None:
    task, running = a_task(session), a_task(session, state=RUNNING)

    skipped = skip(session, [Task.id.in_([task.id, running.id])], "overlap", "task 7 was running")

    assert skipped == [task.id]
    assert (fresh(session, task).state, task.reason_code, task.reason) == (SKIPPED, "overlap", "task 7 was running")


# --- what the keeper looks for --------------------------------------------------------------------------------------


def test_a_worker_is_silent_some_time_after_its_lease(session: Session) -> None:
    silent = a_task(session, state=RUNNING, lease_until=ago(10 * SECOND))
    a_task(session, state=RUNNING, lease_until=ago(SECOND))
    a_task(session, state=RUNNING, lease_until=utc_now() + MINUTE)

    assert tasks.silent(session, 5 * SECOND) == [silent]


@pytest.mark.parametrize(
    ("fields", "is_late"),
    [
        pytest.param({"start_by": ago(SECOND)}, True, id="planned"),
        pytest.param({"start_by": ago(SECOND), "state": QUEUED}, True, id="queued"),
        pytest.param({"start_by": utc_now() + HOUR}, False, id="within its grace"),
        pytest.param({"start_by": None}, False, id="without a grace"),
        pytest.param({"start_by": ago(SECOND), "due_at": utc_now() + HOUR}, False, id="it waits for its lane"),
        pytest.param({"start_by": ago(SECOND), "state": RETRYING, "attempt": 1}, False, id="it has begun"),
        pytest.param({"start_by": ago(SECOND), "state": QUEUED, "attempt": 1}, False, id="it has begun, and waits"),
        pytest.param({"start_by": ago(SECOND), "state": MISSED}, False, id="it has ended"),
        pytest.param({"start_by": utc_now() + HOUR, "origin": "catch_up"}, True, id="it is caught up"),
    ],
)
def test_what_did_not_start_within_its_grace_is_late(session: Session, fields: dict[str, Any], is_late: bool) -> None:
    task = a_task(session, **fields)

    assert [row.id for row in tasks.late(session)] == ([task.id] if is_late else [])


def test_a_late_task_is_caught_up_once(session: Session) -> None:
    task = a_task(session, start_by=at("02:00"))

    first = tasks.extend_start(session, task.id, at("02:00"), at("03:00"), "catch_up", "caught up")
    second = tasks.extend_start(session, task.id, at("02:00"), at("04:00"), "catch_up", "caught up")

    assert (first, second) == (True, False)
    assert (fresh(session, task).start_by, task.origin, task.reason) == (at("03:00"), "catch_up", "caught up")


def test_lost_attempts_are_counted(session: Session) -> None:
    task = a_task(session, state=RUNNING, attempt=3)
    an_attempt(session, task, number=1, outcome=LOST)
    an_attempt(session, task, number=2, outcome=FAILED)
    an_attempt(session, task, number=4, outcome=LOST, error_type="WorkerStopped")

    assert tasks.lost_attempts(session, task.id, "WorkerStopped") == (1, 1)
