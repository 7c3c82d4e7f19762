"""Redis is mended from SQL, silent attempts are ended, late tasks are judged; also by two at once."""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from scheduler.broker.connection import connect
from scheduler.broker.keys import HANDOVER, JOB_PREFIX, PLANTED, QUEUE_PREFIX, QUEUES, SCHEDULED, WIP_PREFIX, job_id
from scheduler.broker.rq_worker import JobFeed
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.reconcile import Mended, Reconcile
from scheduler.engine.work.outcomes import Held, end_badly, end_well
from scheduler.errors import RedisAway
from scheduler.rules.spec import Missed, Retry
from scheduler.rules.states import (
    CANCELLED,
    FAILED,
    FINAL,
    LOST,
    MISSED,
    PLANNED,
    QUEUED,
    RETRYING,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
)
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.tables import Attempt, Schedule, Task
from scheduler.store.tasks import AttemptEnd
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task, an_attempt

SECOND = dt.timedelta(seconds=1)
QUEUE = f"{QUEUE_PREFIX}scheduled"


@pytest.fixture
def reconcile(database: Database, room: WaitingRoom) -> Reconcile:
    return Reconcile(database, room)


def put(database: Database, **fields: Any) -> int:
    with database.write() as session:
        return a_task(session, **fields).id


def task_of(database: Database, task_id: int) -> Task:
    with database.read() as session:
        return session.get_one(Task, task_id)


def attempts_of(database: Database, task_id: int) -> list[tuple[int, str | None, str | None]]:
    with database.read() as session:
        query = select(Attempt).where(Attempt.task_id == task_id).order_by(Attempt.number)
        return [(one.number, one.outcome, one.error_type) for one in session.scalars(query)]


def a_mixed_lot(database: Database) -> set[str]:
    """Tasks of every state; the ids of the jobs that Redis ought to hold."""
    soon = utc_now() + HOUR
    wanted = set()
    for number in range(5):
        wanted.add(job_id(put(database, due_at=soon + number * SECOND), 1))
        wanted.add(job_id(put(database, state=QUEUED), 1))
        wanted.add(job_id(put(database, state=RETRYING, attempt=2, due_at=soon), 3))
    for state in (RUNNING, *FINAL):
        put(database, state=state)
    return wanted


def held_by(room: WaitingRoom) -> set[str]:
    return room.waiting_ids() | room.queued_ids(["scheduled", "long", "adhoc"])


# --- Redis from SQL -------------------------------------------------------------------------------------------------


def test_an_empty_redis_is_filled(database: Database, room: WaitingRoom, reconcile: Reconcile) -> None:
    wanted = a_mixed_lot(database)

    mended = reconcile.step()

    assert mended == Mended(put_back=len(wanted))
    assert room.waiting_ids() == wanted
    assert room.is_planted()


def test_a_second_round_finds_nothing(database: Database, reconcile: Reconcile) -> None:
    a_mixed_lot(database)
    reconcile.step()

    mended = reconcile.step()

    assert mended == Mended()
    assert str(mended) == "nothing to mend"


def test_after_a_flush_all_is_put_back_in_one_round(
    database: Database, room: WaitingRoom, reconcile: Reconcile, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = a_mixed_lot(database)
    reconcile.step()
    room.enqueue_jobs()
    room.redis.flushall()

    mended = reconcile.step()

    assert mended.put_back == len(wanted)
    assert held_by(room) == wanted
    assert f"Redis had lost its memory; {len(wanted)} jobs put back" in caplog.text


def test_a_job_that_was_popped_and_lost_is_put_back_within_two_rounds(
    database: Database, room: WaitingRoom, reconcile: Reconcile
) -> None:
    # Its worker took it and died before the claim: Redis believes that it is under way.
    task_id = put(database, due_at=utc_now() - SECOND)
    room.register([WaitingJob(task_id, 1, "scheduled", utc_now() - SECOND)])
    room.enqueue_jobs()
    JobFeed("scheduled", room.redis, "w1").take()

    first = reconcile.step().put_back
    second = reconcile.step().put_back

    assert (first, second) == (0, 1)
    assert room.enqueue_jobs() == [job_id(task_id, 1)]


def test_a_queue_that_was_deleted_is_filled_again(database: Database, room: WaitingRoom, reconcile: Reconcile) -> None:
    wanted = {job_id(put(database), 1) for _ in range(20)}
    reconcile.step()
    room.enqueue_jobs()
    room.redis.delete(QUEUE)

    reconcile.step()
    reconcile.step()

    assert set(room.enqueue_jobs()) == wanted


def test_a_job_in_its_queue_is_left_there(database: Database, room: WaitingRoom, reconcile: Reconcile) -> None:
    task_id = put(database)
    reconcile.step()
    room.enqueue_jobs()

    mended = [reconcile.step() for _ in range(3)]

    assert mended == [Mended(marked=1), Mended(), Mended()]
    assert task_of(database, task_id).state == QUEUED
    assert room.redis.lrange(QUEUE, 0, -1) == [job_id(task_id, 1).encode()]


def test_what_sql_does_not_want_is_removed_when_seen_twice(
    database: Database, room: WaitingRoom, reconcile: Reconcile, caplog: pytest.LogCaptureFixture
) -> None:
    ended = put(database, state=SUCCEEDED)
    room.register([WaitingJob(ended, 1, "scheduled", utc_now() + HOUR)])
    foreign: list[bytes] = [b"mail:1", b"\xff\xfe", b"", b"task-99999999999999999999-1"]
    room.redis.zadd(SCHEDULED, dict.fromkeys(foreign, 4e9))

    first, second = reconcile.step().removed, reconcile.step().removed

    assert (first, second) == (0, 5)
    assert room.waiting_ids() == set()
    assert "Removed 'mail:1': no job of this service" in caplog.text
    assert job_id(ended, 1) not in caplog.text


def test_a_job_that_is_registered_before_its_commit_is_seen_is_not_removed(
    database: Database, room: WaitingRoom, reconcile: Reconcile
) -> None:
    room.register([WaitingJob(1, 1, "scheduled", utc_now() + HOUR)])
    reconcile.step()
    put(database, id=1, due_at=utc_now() + HOUR)

    reconcile.step()

    assert room.waiting_ids() == {"task-1-1"}


@pytest.mark.parametrize("kind", ["string", "list", "hash", "set", "zset"])
@pytest.mark.parametrize(
    "key", [SCHEDULED, HANDOVER, PLANTED, QUEUES, QUEUE, f"{WIP_PREFIX}scheduled", f"{JOB_PREFIX}task-1-1"]
)
def test_garbage_in_any_key_is_mended(
    database: Database, room: WaitingRoom, reconcile: Reconcile, key: str, kind: str
) -> None:
    wanted = {job_id(put(database, id=number), 1) for number in (1, 2)}
    reconcile.step()
    room.redis.delete(key)
    fill(room, key, kind)

    for _ in range(3):
        reconcile.step()
        room.enqueue_jobs()

    feed = JobFeed("scheduled", room.redis, "w1")
    taken = [feed.take() for _ in range(4)]
    assert {one for one in taken if one and one.startswith("task-")} == wanted


def fill(room: WaitingRoom, key: str, kind: str) -> None:
    writers: dict[str, Callable[[], Any]] = {
        "string": lambda: room.redis.set(key, "x"),
        "list": lambda: room.redis.rpush(key, "x"),
        "hash": lambda: room.redis.hset(key, "x", "y"),
        "set": lambda: room.redis.sadd(key, "x"),
        "zset": lambda: room.redis.zadd(key, {"x": 1}),
    }
    writers[kind]()


def test_garbage_in_a_queue_of_a_kind_that_has_no_task_is_mended_too(
    database: Database, room: WaitingRoom, reconcile: Reconcile, caplog: pytest.LogCaptureFixture
) -> None:
    with database.write() as session:
        a_revision(session, book={"kinds": {"long": {"queue": "long"}}})
    room.redis.set(f"{QUEUE_PREFIX}long", "x")

    reconcile.step()

    assert not room.redis.exists(f"{QUEUE_PREFIX}long")
    assert f"Deleted {QUEUE_PREFIX}long: it held something of another type" in caplog.text


def test_more_tasks_than_a_page(
    database: Database, room: WaitingRoom, reconcile: Reconcile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.engine.reconcile.PAGE", 3)
    wanted = {job_id(put(database, due_at=utc_now() + HOUR), 1) for _ in range(10)}

    reconcile.step()

    assert room.waiting_ids() == wanted


def test_without_redis_a_round_says_so(database: Database) -> None:
    reconcile = Reconcile(database, WaitingRoom(connect("redis://127.0.0.1:1/0")))

    with pytest.raises(RedisAway):
        reconcile.step()


# --- silent workers -------------------------------------------------------------------------------------------------

RETRY = Retry(attempts=5, first=10 * SECOND)


def silent(database: Database, attempt: int = 1, lost_before: int = 0, **policy: Any) -> int:
    """A task whose worker fell silent a while ago, after `lost_before` attempts that ended so; its id."""
    with database.write() as session:
        task = a_task(
            session,
            state=RUNNING,
            attempt=attempt,
            lease_until=utc_now() - MINUTE,
            policy=TaskPolicy(**policy),
            started_at=utc_now() - HOUR,
        )
        for number in range(1, lost_before + 1):
            an_attempt(session, task, number=number, outcome=LOST, error_type="WorkerLost")
        return task.id


SILENT = "WorkerLost: worker w1 fell silent: no sign of life until its lease ended"


@pytest.mark.parametrize(
    ("given", "state", "code", "reason"),
    [
        pytest.param(
            {"retry": RETRY}, RETRYING, "worker_lost", f"attempt 1 of 5 was lost: {SILENT}", id="at least once"
        ),
        pytest.param({}, FAILED, "worker_lost", f"{SILENT} (no retry)", id="one attempt"),
        pytest.param(
            {"retry": RETRY, "attempt": 3, "lost_before": 2},
            FAILED,
            "poison",
            f"its worker vanished 3 times; last: {SILENT}",
            id="poison",
        ),
        pytest.param(
            {"retry": RETRY, "delivery": "at_most_once"},
            LOST,
            "worker_lost",
            f"{SILENT}; it may have done all, part or nothing (at_most_once)",
            id="at most once",
        ),
    ],
)
def test_a_silent_attempt_is_ended_by_policy(
    database: Database,
    room: WaitingRoom,
    reconcile: Reconcile,
    given: dict[str, Any],
    state: str,
    code: str,
    reason: str,
) -> None:
    task_id = silent(database, **given)
    attempt = given.get("attempt", 1)

    mended = reconcile.step()

    assert mended.lost == 1
    task = task_of(database, task_id)
    assert (task.state, task.reason_code, task.reason) == (state, code, reason)
    assert attempts_of(database, task_id)[-1] == (attempt, LOST, "WorkerLost")
    assert room.waiting_ids() == ({job_id(task_id, attempt + 1)} if state == RETRYING else set())


def test_a_silent_attempt_is_left_alone_until_its_worker_must_be_dead(database: Database, reconcile: Reconcile) -> None:
    with database.write() as session:
        task_id = a_task(session, state=RUNNING, lease_until=utc_now() - 3 * SECOND).id

    assert reconcile.step().lost == 0
    assert task_of(database, task_id).state == RUNNING


def test_a_silent_attempt_that_was_to_stop_is_not_tried_again(database: Database, reconcile: Reconcile) -> None:
    task_id = silent(database, retry=RETRY)
    with database.write() as session:
        tasks.request_stop(session, task_id, "jana")

    reconcile.step()

    task = task_of(database, task_id)
    assert (task.state, task.reason) == (CANCELLED, "asked to stop while it ran")


def test_the_end_of_a_silent_attempt_wakes_who_waits_for_its_lane(
    database: Database, room: WaitingRoom, reconcile: Reconcile
) -> None:
    with database.write() as session:
        a_task(session, state=RUNNING, lane="l", lease_until=utc_now() - MINUTE)
        waiting = a_task(session, lane="l", due_at=utc_now() + HOUR)
        tasks.put_off(session, waiting.id, utc_now() + HOUR, "waits")

    reconcile.step()

    assert room.enqueue_jobs() == [job_id(waiting.id, 1)]


def test_a_row_of_another_version_holds_up_no_other(database: Database, reconcile: Reconcile) -> None:
    alien, ours = silent(database), silent(database)
    with database.write() as session:
        session.get_one(Task, alien).policy = {"of": "a later version"}

    reconcile.step()

    with database.read() as session:
        assert session.get_one(Task, alien).state == RUNNING
        assert session.get_one(Task, ours).state == FAILED


def test_two_at_once_end_a_silent_attempt_once(database: Database, redis_url: str) -> None:
    ids = [silent(database, retry=RETRY) for _ in range(10)]

    both = reconcile_at_once(database, redis_url, 4)

    assert sum(one.lost for one in both) == len(ids)
    assert {len(attempts_of(database, task_id)) for task_id in ids} == {1}
    assert {task_of(database, task_id).state for task_id in ids} == {RETRYING}


def reconcile_at_once(database: Database, redis_url: str, count: int) -> list[Mended]:
    start = threading.Barrier(count)

    def one_round(_: int) -> Mended:
        client = connect(redis_url)
        start.wait()
        mended = Reconcile(database, WaitingRoom(client)).step()
        client.close()
        return mended

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one_round, range(count)))


def test_two_at_once_fill_redis_once(database: Database, room: WaitingRoom, redis_url: str) -> None:
    wanted = a_mixed_lot(database)

    reconcile_at_once(database, redis_url, 4)

    assert room.waiting_ids() == wanted
    moved = room.enqueue_jobs()
    assert len(moved) == len(set(moved))


# --- late ones ------------------------------------------------------------------------------------------------------


@pytest.fixture
def nightly(database: Database) -> int:
    """The id of a schedule."""
    with database.write() as session:
        return a_schedule(session, a_spec()).id


def in_minutes(reason: str | None) -> str:
    """A reason as it is when no second has passed since the task was made."""
    return re.sub(r"\b(\d+m)\d+s\b", r"\1", reason or "")


def late(database: Database, schedule_id: int, age: dt.timedelta, missed: Missed, **fields: Any) -> int:
    """A task that fired `age` ago and could not start within its grace; its id."""
    fire_time = utc_now() - age
    plain: dict[str, Any] = {
        "fire_time": fire_time,
        "start_by": fire_time + SECOND,
        "policy": TaskPolicy(missed=missed),
    }
    return put(database, schedule_id=schedule_id, schedule="nightly", **{**plain, **fields})


@pytest.mark.parametrize(
    ("missed", "states"),
    [
        pytest.param(Missed(run="none"), "m m m", id="none"),
        pytest.param(Missed(run="latest", within=HOUR), "m m C", id="the latest"),
        pytest.param(Missed(run="latest", within=MINUTE), "m m m", id="the latest is too old"),
        pytest.param(Missed(run="latest", within=None), "m m C", id="the latest, without a limit"),
        pytest.param(Missed(run="all", within=HOUR), "C C C", id="all"),
        pytest.param(Missed(run="all", within=25 * MINUTE), "m C C", id="all within"),
        pytest.param(Missed(run="all", within=HOUR, most=1), "m m C", id="all, at most one"),
    ],
)
def test_late_tasks_are_caught_up_or_missed_by_policy(
    database: Database, room: WaitingRoom, reconcile: Reconcile, nightly: int, missed: Missed, states: str
) -> None:
    ids = [late(database, nightly, age * MINUTE, missed) for age in (30, 20, 10)]

    mended = reconcile.step()

    found = [task_of(database, task_id) for task_id in ids]
    letters = {(MISSED, "schedule"): "m", (PLANNED, "catch_up"): "C"}
    assert " ".join(letters[one.state, one.origin] for one in found) == states
    assert (mended.missed, mended.caught_up) == (states.count("m"), states.count("C"))
    assert all(one.reason for one in found)
    assert room.waiting_ids() == {job_id(one.id, 1) for one in found if one.state == PLANNED}
    assert all(one.start_by > utc_now() for one in found if one.state == PLANNED and one.start_by)


def test_what_a_blackout_held_back_is_as_late_as_its_end_is_past(
    database: Database, reconcile: Reconcile, nightly: int
) -> None:
    policy = TaskPolicy(missed=Missed(run="latest", within=HOUR), grace=10 * MINUTE)
    ended = utc_now() - 20 * MINUTE  # of a blackout of eight hours; since then the task has waited for its lane
    held = {"start_by": ended + 10 * MINUTE, "policy": policy, "due_at": utc_now() - SECOND}
    task_id = late(database, nightly, 8 * HOUR, policy.missed, **held)

    for _ in range(2):  # the second time as one that was caught up
        reconcile.step()

    task = task_of(database, task_id)
    assert (task.state, task.origin) == (PLANNED, "catch_up")
    assert in_minutes(task.reason) == "caught up 20m late (missed: latest)"
    assert task.start_by == ended + HOUR


def test_a_caught_up_task_is_caught_up_once(database: Database, reconcile: Reconcile, nightly: int) -> None:
    task_id = late(database, nightly, 10 * MINUTE, Missed(run="latest", within=None))
    reconcile.step()
    before = task_of(database, task_id).start_by

    mended = reconcile.step()

    assert (mended.caught_up, mended.missed) == (0, 0)
    assert task_of(database, task_id).start_by == before


def test_tasks_that_become_late_one_after_the_other_still_make_one_latest(
    database: Database, reconcile: Reconcile, nightly: int
) -> None:
    # No worker for an hour: each round finds one more that is late.
    missed = Missed(run="latest", within=HOUR)
    ids = []
    for age in (30, 20, 10):
        ids.append(late(database, nightly, age * MINUTE, missed))
        reconcile.step()

    assert [task_of(database, task_id).state for task_id in ids] == [MISSED, MISSED, PLANNED]
    superseded = task_of(database, ids[0])
    assert superseded.reason_code == "superseded"
    assert in_minutes(superseded.reason) == "30m late, and a later one counts instead (missed: latest)"


def test_a_caught_up_task_whose_time_is_over_is_missed(database: Database, reconcile: Reconcile, nightly: int) -> None:
    missed = Missed(run="latest", within=10 * MINUTE)
    task_id = late(database, nightly, 11 * MINUTE, missed, origin="catch_up", start_by=utc_now() - MINUTE)

    reconcile.step()

    task = task_of(database, task_id)
    assert (task.state, task.reason_code) == (MISSED, "too_old")
    assert in_minutes(task.reason) == "11m late, older than 10m (missed: latest, within)"


def test_a_run_that_was_asked_for_and_is_late_is_judged_by_itself(
    database: Database, reconcile: Reconcile, nightly: int
) -> None:
    missed = Missed(run="all", within=HOUR)
    occurrences = [late(database, nightly, age * MINUTE, missed) for age in (20, 10)]
    asked_for = late(
        database, nightly, HOUR, Missed(run="none"), fire_time=None, origin="manual", start_by=utc_now() - SECOND
    )

    reconcile.step()

    assert [task_of(database, task_id).origin for task_id in occurrences] == ["catch_up", "catch_up"]
    assert task_of(database, asked_for).state == MISSED


def test_two_runs_of_functions_that_are_late_are_judged_each(database: Database, reconcile: Reconcile) -> None:
    due_at = utc_now() - HOUR
    policy = TaskPolicy(missed=Missed(run="none"))
    fields = {"origin": "manual", "due_at": due_at, "start_by": due_at + MINUTE, "policy": policy}
    ids = [put(database, **fields) for _ in range(2)]

    assert reconcile.step().missed == 2
    assert {task_of(database, task_id).state for task_id in ids} == {MISSED}


def test_a_missed_task_is_taken_out_of_its_queue(
    database: Database, room: WaitingRoom, reconcile: Reconcile, nightly: int
) -> None:
    task_id = late(database, nightly, 10 * MINUTE, Missed(run="none"), state=QUEUED)
    room.register([WaitingJob(task_id, 1, "scheduled", utc_now() - MINUTE)])
    room.enqueue_jobs()

    reconcile.step()

    assert task_of(database, task_id).state == MISSED
    assert held_by(room) == set()


def test_two_at_once_judge_each_late_task_once(database: Database, redis_url: str, nightly: int) -> None:
    missed = Missed(run="all", within=25 * MINUTE)
    ids = [late(database, nightly, age * MINUTE, missed) for age in range(10, 40)]

    both = reconcile_at_once(database, redis_url, 4)

    assert sum(one.missed for one in both) == sum(task_of(database, one).state == MISSED for one in ids) > 10
    assert sum(one.caught_up for one in both) == sum(task_of(database, one).origin == "catch_up" for one in ids) > 10


# --- the ends of attempts -------------------------------------------------------------------------------------------


def held(task: Task, schedule_id: int | None = None, **policy: Any) -> Held:
    return Held(
        task.id, task.attempt, task.token or "", TaskPolicy(**policy), task.queue, schedule_id, task.fire_time, None
    )


BOOM = AttemptEnd(FAILED, "ValueError", "boom\nand more")


def test_a_success_ends_the_failures_in_a_row(database: Database, nightly: int) -> None:
    with database.write() as session:
        session.get_one(Schedule, nightly).failures_in_a_row = 2
        task = a_task(session, schedule_id=nightly, state=RUNNING)

        assert end_well(session, held(task, nightly), {"value": 1}, peak_memory=7) == []

    assert (task_of(database, task.id).state, task_of(database, task.id).result) == (SUCCEEDED, {"value": 1})
    with database.read() as session:
        assert session.get_one(Schedule, nightly).failures_in_a_row == 0


def test_a_success_that_comes_too_late_is_told_to_nobody(database: Database, nightly: int) -> None:
    with database.write() as session:
        session.get_one(Schedule, nightly).failures_in_a_row = 2
        task = a_task(session, schedule_id=nightly, state=RUNNING, lease_until=utc_now() - SECOND)

        assert end_well(session, held(task, nightly), {"value": 1}) is None

    with database.read() as session:
        assert session.get_one(Schedule, nightly).failures_in_a_row == 2
    assert task_of(database, task.id).result is None


def test_a_failed_attempt_is_followed_by_the_next(database: Database) -> None:
    with database.write() as session:
        task = a_task(session, state=RUNNING)
        followed = end_badly(session, held(task, retry=RETRY), BOOM)

    assert followed is not None
    verdict, left = followed
    assert verdict.due_at is not None
    assert left.jobs == [WaitingJob(task.id, 2, "scheduled", verdict.due_at, RETRYING)]
    ended = task_of(database, task.id)
    assert (ended.state, ended.reason) == (RETRYING, "attempt 1 of 5 failed: ValueError: boom")
    assert ended.due_at == verdict.due_at
    assert ended.error == {"type": "ValueError", "message": "boom\nand more", "traceback": ""}


def test_who_was_superseded_changes_nothing(database: Database, nightly: int) -> None:
    with database.write() as session:
        task = a_task(session, schedule_id=nightly, state=RUNNING)
        other = Held(task.id, 1, "another", TaskPolicy(pause_after=1), "scheduled", nightly, None, None)

        assert end_badly(session, other, BOOM) is None

    assert task_of(database, task.id).state == RUNNING
    with database.read() as session:
        found = session.get_one(Schedule, nightly)
    assert (found.failures_in_a_row, found.pause) == (0, None)


def test_a_schedule_pauses_itself_after_failures_in_a_row(database: Database, nightly: int) -> None:
    soon = utc_now() + MINUTE
    with database.write() as session:
        foretold = a_task(session, schedule_id=nightly, fire_time=soon, due_at=soon)
        due = a_task(session, schedule_id=nightly, fire_time=utc_now() - SECOND, state=QUEUED)
    for count in (1, 2):
        with database.write() as session:
            task = a_task(session, schedule_id=nightly, fire_time=utc_now() - count * HOUR, state=RUNNING)
            end_badly(session, held(task, nightly, pause_after=2), BOOM)

    with database.read() as session:
        found = session.get_one(Schedule, nightly)
        assert session.get(Task, foretold.id) is None
    assert found.pause is not None
    assert (found.pause["by"], found.pause["until"]) == ("itself", None)
    assert found.pause["why"] == "2 final failures in a row; last: ValueError: boom (no retry)"
    assert found.failures_in_a_row == 2
    assert task_of(database, due.id).state == SKIPPED


def test_a_schedule_that_pauses_itself_leaves_no_fire_time_without_a_row(database: Database) -> None:
    with database.write() as session:
        spec = a_spec(every=SECOND, grace=HOUR)
        schedule_id = a_schedule(session, spec, planned_until=utc_now() - 10 * SECOND).id
        task = a_task(session, schedule_id=schedule_id, state=RUNNING)
        end_badly(session, held(task, schedule_id, pause_after=1), BOOM)

    with database.read() as session:
        states = session.scalars(select(Task.state).where(Task.fire_time.is_not(None))).all()
    assert len(states) >= 10
    assert set(states) == {SKIPPED}


def test_a_retry_is_no_final_failure(database: Database, nightly: int) -> None:
    with database.write() as session:
        task = a_task(session, schedule_id=nightly, state=RUNNING)
        end_badly(session, held(task, nightly, retry=RETRY, pause_after=1), BOOM)

    with database.read() as session:
        found = session.get_one(Schedule, nightly)
    assert (found.failures_in_a_row, found.pause) == (0, None)


def test_no_attempt_follows_once_the_next_occurrence_is_due(database: Database, nightly: int) -> None:
    policy = {"retry": Retry(attempts=5, first=10 * SECOND, until_next=True)}
    with database.write() as session:
        a_task(session, schedule_id=nightly, fire_time=utc_now() + 5 * SECOND)
        task = a_task(session, schedule_id=nightly, fire_time=utc_now() - MINUTE, state=RUNNING)
        end_badly(session, held(task, nightly, **policy), BOOM)

    ended = task_of(database, task.id)
    assert ended.state == FAILED
    assert ended.reason == "ValueError: boom (the next occurrence is due before another attempt would be)"
