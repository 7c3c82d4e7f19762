"""The dispatcher moves what is due, marks it, and lets nothing odd hold up the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rq.utils import as_text

from scheduler.broker.connection import connect
from scheduler.broker.keys import HANDOVER, JOB_PREFIX, QUEUE_PREFIX, SCHEDULED, job_id
from scheduler.broker.waiting_room import BATCH, WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.dispatcher import LONGEST_SLEEP, Dispatcher
from scheduler.engine.handover import settle_handover
from scheduler.engine.reconcile import Reconcile
from scheduler.errors import DatabaseAway, RedisAway
from scheduler.rules.states import CANCELLED, PLANNED, QUEUED, RETRYING, RUNNING
from scheduler.rules.task.jobs import WaitingJob
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.tables import Task
from tests.builders import HOUR, MINUTE, a_task

QUEUE = f"{QUEUE_PREFIX}scheduled"


@pytest.fixture
def dispatcher(database: Database, room: WaitingRoom) -> Iterator[Dispatcher]:
    opened = Dispatcher(database, room)
    yield opened
    opened.close()


def put(database: Database, room: WaitingRoom, **fields: Any) -> int:
    """A task with its job in Redis; its id."""
    with database.write() as session:
        task = a_task(session, **fields)
        room.register([WaitingJob(task.id, task.attempt + 1, task.queue, task.due_at, task.state)])
        return task.id


def state(database: Database, task_id: int) -> str:
    with database.read() as session:
        return session.get_one(Task, task_id).state


def queued(room: WaitingRoom) -> list[str]:
    return [as_text(one) for one in room.redis.lrange(QUEUE, 0, -1)]


def test_a_due_job_is_moved_and_its_row_marked(database: Database, room: WaitingRoom, dispatcher: Dispatcher) -> None:
    task_id = put(database, room)

    sleep = dispatcher.step()
    dispatcher.mark()

    assert sleep == LONGEST_SLEEP
    assert queued(room) == [job_id(task_id, 1)]
    assert dispatcher.moved == 1
    with database.read() as session:
        task = session.get_one(Task, task_id)
    assert task.state == QUEUED
    assert task.queued_at is not None


def test_moving_does_not_wait_for_the_marks(database: Database, room: WaitingRoom, dispatcher: Dispatcher) -> None:
    task_id = put(database, room)

    dispatcher.step()

    assert state(database, task_id) == PLANNED


def test_what_a_worker_has_claimed_is_not_marked(database: Database, room: WaitingRoom, dispatcher: Dispatcher) -> None:
    task_id = put(database, room)
    dispatcher.step()
    with database.write() as session:
        tasks.move(session, RUNNING, Task.id == task_id, attempt=1, token="t", lease_until=utc_now() + HOUR)

    dispatcher.mark()

    assert state(database, task_id) == RUNNING


def test_the_last_marks_are_made_when_it_ends(database: Database, room: WaitingRoom) -> None:
    task_id = put(database, room)
    dispatcher = Dispatcher(database, room)
    dispatcher.step()

    dispatcher.close()

    assert state(database, task_id) == QUEUED


def test_a_mark_of_a_dispatcher_that_died_is_made_up_for(database: Database, room: WaitingRoom) -> None:
    task_id = put(database, room)
    room.move_due()  # and it dies here

    Reconcile(database, room).step()

    assert state(database, task_id) == QUEUED


def test_many_batches_are_moved_in_one_step(database: Database, room: WaitingRoom, dispatcher: Dispatcher) -> None:
    count = 2 * BATCH + 5
    room.register(WaitingJob(number, 1, "scheduled", utc_now() - MINUTE) for number in range(1, count + 1))

    dispatcher.step()

    assert dispatcher.moved == room.depth("scheduled") == count


def test_marks_wait_while_sql_is_away(
    database: Database, room: WaitingRoom, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = put(database, room)
    dispatcher.step()

    def away(*arguments: Any) -> int:
        raise DatabaseAway

    with monkeypatch.context() as patched:
        patched.setattr(tasks, "mark_queued", away)
        with pytest.raises(DatabaseAway):
            dispatcher.mark()
        assert state(database, task_id) == PLANNED

    dispatcher.mark()
    assert state(database, task_id) == QUEUED


def test_it_sleeps_until_the_next_job_is_due(database: Database, room: WaitingRoom, dispatcher: Dispatcher) -> None:
    due_at = utc_now() + MINUTE / 100  # 0.6 s
    put(database, room, due_at=due_at)

    before = room.now()
    sleeps = dispatcher.step()
    after = room.now()

    least, most = (max(0.0, (due_at - moment).total_seconds()) for moment in (after, before))
    assert least <= sleeps <= most


def test_an_earlier_job_ends_the_sleep(database: Database, room: WaitingRoom, dispatcher: Dispatcher) -> None:
    began = time.monotonic()
    waker = threading.Timer(0.2, lambda: room.register([WaitingJob(1, 1, "scheduled", utc_now())]))
    waker.start()

    while time.monotonic() - began < 10 and not dispatcher.moved:
        dispatcher.sleep(10)
        dispatcher.step()

    waker.join()
    assert dispatcher.moved == 1
    assert time.monotonic() - began < 5


def test_it_keeps_a_stock_rqscheduler_out(room: WaitingRoom, dispatcher: Dispatcher) -> None:
    dispatcher.step()

    assert 0 < room.redis.ttl("rq:scheduler_lock") <= 30


def test_a_redis_that_is_away_is_told(database: Database) -> None:
    dispatcher = Dispatcher(database, WaitingRoom(connect("redis://127.0.0.1:1/0")))

    with pytest.raises(RedisAway):
        dispatcher.step()
    with pytest.raises(RedisAway):
        dispatcher.sleep(0.1)


# --- odd ones -------------------------------------------------------------------------------------------------------


def test_a_job_whose_record_is_gone_is_made_anew_from_sql(
    database: Database, room: WaitingRoom, dispatcher: Dispatcher
) -> None:
    task_id = put(database, room)
    room.redis.delete(JOB_PREFIX + job_id(task_id, 1))

    dispatcher.step()
    dispatcher.step()

    assert queued(room) == [job_id(task_id, 1)]
    assert room.handed_over() == []


def test_odd_jobs_hold_up_none_of_the_others(
    database: Database, room: WaitingRoom, dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    good = put(database, room)
    gone = put(database, room, state=CANCELLED)
    odd: list[bytes] = [b"mail:1", b"\xff\xfe", b"", b"task-x-1", f"task-{2**63}-1".encode(), b"task-99999999999-1"]
    room.redis.zadd(SCHEDULED, dict.fromkeys(odd, 1.0))
    room.redis.delete(JOB_PREFIX + job_id(gone, 1))

    dispatcher.step()
    dispatcher.mark()

    assert queued(room) == [job_id(good, 1)]
    assert state(database, good) == QUEUED
    assert room.handed_over() == []
    assert room.waiting_ids() == set()
    assert "Dropped 'mail:1': no job of this service" in caplog.text


def test_a_queue_that_holds_garbage_is_cleared_and_served(
    database: Database, room: WaitingRoom, dispatcher: Dispatcher
) -> None:
    task_id = put(database, room)
    room.redis.set(QUEUE, "garbage")

    dispatcher.step()
    dispatcher.step()

    assert queued(room) == [job_id(task_id, 1)]


def test_a_foreign_job_that_is_named_like_ours_does_no_harm(
    database: Database, room: WaitingRoom, dispatcher: Dispatcher
) -> None:
    task_id = put(database, room)
    room.register([WaitingJob(10**18, 1, "scheduled", utc_now() - MINUTE)])

    dispatcher.step()
    dispatcher.mark()

    assert state(database, task_id) == QUEUED
    assert dispatcher.moved == 2


@pytest.mark.parametrize(
    ("fields", "attempt", "is_wanted"),
    [
        pytest.param({"state": PLANNED}, 1, True, id="planned"),
        pytest.param({"state": QUEUED}, 1, True, id="queued"),
        pytest.param({"state": RETRYING, "attempt": 1}, 2, True, id="between attempts"),
        pytest.param({"state": RETRYING, "attempt": 1}, 1, False, id="an attempt that is over"),
        pytest.param({"state": PLANNED}, 2, False, id="an attempt that is none yet"),
        pytest.param({"state": RUNNING}, 1, False, id="running"),
        pytest.param({"state": CANCELLED}, 1, False, id="ended"),
    ],
)
def test_what_was_handed_over_is_decided_from_sql(
    database: Database, room: WaitingRoom, fields: dict[str, Any], attempt: int, is_wanted: bool
) -> None:
    with database.write() as session:
        task_id = a_task(session, **fields).id
    room.redis.zadd(HANDOVER, {job_id(task_id, attempt): 1})

    assert settle_handover(database, room) == 1

    assert room.handed_over() == []
    assert room.waiting_ids() == ({job_id(task_id, attempt)} if is_wanted else set())


def test_two_attempts_of_a_task_that_were_handed_over_are_decided_each(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        task_id = a_task(session).id
    room.redis.zadd(HANDOVER, {job_id(task_id, attempt): attempt for attempt in (1, 2, 3)})

    settle_handover(database, room)

    assert room.waiting_ids() == {job_id(task_id, 1)}


def test_what_was_handed_over_stays_while_sql_is_away(
    database: Database, room: WaitingRoom, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room.redis.zadd(HANDOVER, {"task-1-1": 1})

    def away(*arguments: Any) -> Any:
        raise DatabaseAway

    monkeypatch.setattr(database, "read", away)

    assert settle_handover(database, room) == 0
    assert room.handed_over() == ["task-1-1"]
    assert "Odd jobs stay where they are: The database does not answer." in caplog.text


def test_thousands_that_were_handed_over_are_settled(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        ids = [a_task(session).id for _ in range(150)]
    room.redis.zadd(HANDOVER, {job_id(task_id, 1): 1 for task_id in ids})
    room.redis.zadd(HANDOVER, {f"foreign-{number}": 2 for number in range(150)})

    assert settle_handover(database, room) == 300
    assert len(room.waiting_ids()) == 150
