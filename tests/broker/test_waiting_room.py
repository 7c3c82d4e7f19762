"""Where jobs wait, how they are moved to their queues, and what garbage does to that: nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from rq.utils import as_text

from scheduler.broker import keys
from scheduler.broker.connection import connect
from scheduler.broker.job import job_data
from scheduler.broker.keys import HANDOVER, JOB_PREFIX, PLANTED, QUEUE_PREFIX, QUEUES, SCHEDULED, WAKE, job_id
from scheduler.broker.waiting_room import BATCH, Moved, WaitingRoom, seconds_until
from scheduler.clock import utc_now
from scheduler.errors import RedisAway, Refused
from scheduler.rules.task.jobs import WaitingJob
from tests.builders import HOUR, MINUTE

QUEUE = f"{QUEUE_PREFIX}scheduled"


def due(task_id: int = 17, attempt: int = 1, queue: str = "scheduled") -> WaitingJob:
    return WaitingJob(task_id, attempt, queue, utc_now() - MINUTE)


def later(task_id: int = 17, attempt: int = 1) -> WaitingJob:
    return WaitingJob(task_id, attempt, "scheduled", utc_now() + HOUR)


def queued(room: WaitingRoom, key: str = QUEUE) -> list[str]:
    return [as_text(one) for one in room.redis.lrange(key, 0, -1)]


def status(room: WaitingRoom, name: str) -> str | None:
    found = room.redis.hget(JOB_PREFIX + name, "status")
    return as_text(found) if found else None


# --- in -------------------------------------------------------------------------------------------------------------


def test_a_registered_job_waits_with_all_that_rq_needs(room: WaitingRoom) -> None:
    job = later()

    assert room.register([job]) == 1

    assert room.redis.zscore(SCHEDULED, "task-17-1") == pytest.approx(job.due_at.timestamp(), abs=1e-6)
    record = {as_text(name): as_text(value) for name, value in room.redis.hgetall(f"{JOB_PREFIX}task-17-1").items()}
    assert record.pop("created_at").startswith("20")
    assert record == {
        "data": job_data(17, 1),
        "origin": "scheduled",
        "status": "scheduled",
        "timeout": "604800",
        "description": "task-17-1",
    }
    assert room.is_planted()


def test_a_job_that_is_registered_twice_waits_once_at_its_new_time(room: WaitingRoom) -> None:
    room.register([due()])

    room.register([later()])

    assert room.redis.zcard(SCHEDULED) == 1
    assert room.move_due().jobs == []


@pytest.mark.parametrize(("state", "force", "put"), [("queued", False, 0), ("started", False, 0), ("queued", True, 1)])
def test_a_job_on_its_way_is_left_alone_unless_forced(room: WaitingRoom, state: str, force: bool, put: int) -> None:
    room.register([due()])
    room.enqueue_jobs()
    room.redis.hset(f"{JOB_PREFIX}task-17-1", "status", state)

    assert room.register([later()], force=force) == put
    assert room.redis.zcard(SCHEDULED) == put


@pytest.mark.parametrize("state", ["finished", "failed", "canceled", "stopped", "nonsense"])
def test_a_job_that_was_done_waits_again_when_sql_says_so(room: WaitingRoom, state: str) -> None:
    room.redis.hset(f"{JOB_PREFIX}task-17-1", "status", state)

    assert room.register([due()]) == 1
    assert room.enqueue_jobs() == ["task-17-1"]


def test_thousands_are_registered_in_batches(room: WaitingRoom) -> None:
    assert room.register(later(number) for number in range(1, 1201)) == 1200
    assert room.redis.zcard(SCHEDULED) == 1200


def test_an_earlier_job_wakes_the_dispatcher_a_later_one_does_not(room: WaitingRoom) -> None:
    wake = room.redis.pubsub(ignore_subscribe_messages=True)
    wake.subscribe(WAKE)
    wake.get_message(timeout=1)

    room.register([later(1)])
    room.register([WaitingJob(2, 1, "scheduled", utc_now() + 2 * HOUR)])
    room.register([due(3)])

    heard = []
    while message := wake.get_message(timeout=0.2):
        heard.append(float(message["data"]))
    wake.close()
    assert len(heard) == 2
    assert heard[1] < heard[0]


# --- out ------------------------------------------------------------------------------------------------------------


def test_due_jobs_go_to_their_queues_in_the_order_of_their_time(room: WaitingRoom) -> None:
    now = utc_now()
    room.register([WaitingJob(n, 1, "scheduled", now - n * MINUTE) for n in (1, 2, 3)])
    room.register([due(4, queue="long"), later(5)])

    moved = room.move_due()

    assert sorted(moved.jobs) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert (moved.looked_at, moved.dropped, moved.handed_over) == (4, 0, 0)
    assert queued(room) == ["task-3-1", "task-2-1", "task-1-1"]
    assert queued(room, f"{QUEUE_PREFIX}long") == ["task-4-1"]
    assert room.redis.smembers(QUEUES) == {QUEUE.encode(), f"{QUEUE_PREFIX}long".encode()}
    assert [status(room, job_id(n, 1)) for n in (1, 5)] == ["queued", "scheduled"]
    assert room.redis.hget(f"{JOB_PREFIX}task-1-1", "enqueued_at") is not None


def test_nothing_is_moved_before_its_time(room: WaitingRoom) -> None:
    room.register([WaitingJob(1, 1, "scheduled", utc_now() + MINUTE)])

    moved = room.move_due()

    assert (moved.jobs, moved.looked_at) == ([], 0)
    assert moved.next_due is not None
    assert 55 < moved.next_due - moved.server_time <= 60


def test_no_more_than_the_limit_is_moved(room: WaitingRoom) -> None:
    room.register(due(number) for number in range(1, 8))

    assert [len(room.move_due(limit=3).jobs) for _ in range(4)] == [3, 3, 1, 0]


def test_a_large_batch_is_moved_whole(room: WaitingRoom) -> None:
    count = 3 * BATCH + 1
    room.register(due(number) for number in range(1, count + 1))

    moved = room.enqueue_jobs()

    assert len(set(moved)) == len(moved) == count
    assert room.depth("scheduled") == count
    assert room.redis.zcard(SCHEDULED) == 0


@pytest.mark.parametrize("state", ["queued", "started", "finished", "failed", "canceled", "stopped", "deferred"])
def test_what_is_no_longer_wanted_is_dropped(room: WaitingRoom, state: str) -> None:
    room.register([due()])
    room.redis.hset(f"{JOB_PREFIX}task-17-1", "status", state)

    moved = room.move_due()

    assert (moved.jobs, moved.dropped) == ([], 1)
    assert room.redis.zcard(SCHEDULED) == 0
    assert queued(room) == []


def break_hash(client: redis.Redis) -> None:
    client.delete(f"{JOB_PREFIX}task-13-1")


def break_type(client: redis.Redis) -> None:
    client.delete(f"{JOB_PREFIX}task-13-1")
    client.rpush(f"{JOB_PREFIX}task-13-1", "x")


def break_origin(client: redis.Redis) -> None:
    client.hset(f"{JOB_PREFIX}task-13-1", "origin", "")


def foreign_ids(client: redis.Redis) -> None:
    foreign: list[bytes] = [b"", b"mail:1", b"\xff\xfe", "ä".encode(), b"task-x-1", b"a" * 10_000, b"\x00", b"task-1"]
    for name in foreign:
        client.hset(JOB_PREFIX.encode() + name, mapping={"origin": "scheduled", "status": "scheduled"})
    client.zadd(SCHEDULED, dict.fromkeys(foreign, 1.0))


def endless_score(client: redis.Redis) -> None:
    client.zadd(SCHEDULED, {"nobody": float("-inf")})


def wrong_queue(client: redis.Redis) -> None:
    client.hset(f"{JOB_PREFIX}task-13-1", "origin", "broken")
    client.set(f"{QUEUE_PREFIX}broken", "garbage")


def wrong_queues(client: redis.Redis) -> None:
    client.delete(QUEUES)
    client.set(QUEUES, "garbage")


def wrong_handover(client: redis.Redis) -> None:
    break_hash(client)
    client.set(HANDOVER, "garbage")


@pytest.mark.parametrize(
    "poison",
    [break_hash, break_type, break_origin, foreign_ids, endless_score, wrong_queue, wrong_queues, wrong_handover],
    ids=lambda poison: poison.__name__,
)
def test_poison_holds_up_none_of_the_others(room: WaitingRoom, poison: Callable[[redis.Redis], None]) -> None:
    room.register([due(13)])
    poison(room.redis)
    room.register(due(number) for number in range(20, 30))

    moved = room.enqueue_jobs()

    assert {job_id(number, 1) for number in range(20, 30)} <= set(moved)
    assert room.redis.zcard(SCHEDULED) == 0
    assert "task-13-1" in {*room.handed_over(), *moved}


@pytest.mark.parametrize("garbage", ["string", "list", "hash", "set"])
def test_garbage_in_place_of_the_sorted_set_is_cleared_away(room: WaitingRoom, garbage: str) -> None:
    fill(room.redis, SCHEDULED, garbage)

    assert room.move_due().looked_at == 0
    fill(room.redis, SCHEDULED, garbage)
    assert room.register([due()]) == 1
    assert room.enqueue_jobs() == ["task-17-1"]


def fill(client: redis.Redis, key: str, kind: str) -> None:
    client.delete(key)
    if kind == "string":
        client.set(key, "x")
    elif kind == "list":
        client.rpush(key, "x")
    elif kind == "hash":
        client.hset(key, "x", "y")
    else:
        client.sadd(key, "x")


def test_ids_that_are_no_text_can_be_cleared_away(room: WaitingRoom) -> None:
    foreign_ids(room.redis)
    room.move_due()

    handed_over = room.handed_over()
    room.clear_handed_over(handed_over)

    assert len(handed_over) == 8
    assert room.handed_over() == []


def test_ids_that_are_no_text_can_be_dropped(room: WaitingRoom) -> None:
    foreign_ids(room.redis)

    room.drop(room.waiting_ids())

    assert room.waiting_ids() == set()


# --- withdrawing ----------------------------------------------------------------------------------------------------


def test_a_job_is_withdrawn_from_wherever_it_waits(room: WaitingRoom) -> None:
    room.register([due(1)])
    room.enqueue_jobs()
    room.register([later(2)])
    room.redis.zadd(HANDOVER, {"task-3-1": 1})

    found = room.withdraw([(number, 1, "scheduled") for number in (1, 2, 3, 4)])

    assert found == 2
    assert queued(room) == []
    assert room.waiting_ids() == set()
    assert room.handed_over() == []
    assert room.redis.keys(f"{JOB_PREFIX}*") == []


def test_a_job_under_way_keeps_its_record(room: WaitingRoom) -> None:
    room.register([due()])
    room.enqueue_jobs()
    room.redis.hset(f"{JOB_PREFIX}task-17-1", "status", "started")

    assert room.withdraw([(17, 1, "scheduled")]) == 0
    assert status(room, "task-17-1") == "started"


def test_a_withdrawn_job_is_not_dispatched(room: WaitingRoom) -> None:
    room.register([due(1), due(2)])

    room.withdraw([(1, 1, "scheduled")])

    assert room.enqueue_jobs() == ["task-2-1"]


@pytest.mark.parametrize("garbage", ["string", "list", "hash"])
def test_withdrawing_bears_garbage(room: WaitingRoom, garbage: str) -> None:
    room.register([due()])
    for key in (HANDOVER, SCHEDULED, QUEUE, f"{JOB_PREFIX}task-17-1"):
        fill(room.redis, key, garbage)

    assert room.withdraw([(17, 1, "scheduled")]) == 0


# --- what is where --------------------------------------------------------------------------------------------------


def test_what_is_where(room: WaitingRoom) -> None:
    room.register([due(1), due(2, queue="long")])
    room.enqueue_jobs()
    room.register([later(3)])
    room.redis.zadd(f"{keys.WIP_PREFIX}long", {"task-9-2:1": 5})

    assert room.waiting_ids() == {"task-3-1"}
    assert room.queued_ids(["scheduled", "long", "adhoc"]) == {"task-1-1", "task-2-1"}
    assert room.queued_ids(["long"]) == {"task-2-1"}
    assert room.under_way_ids(["scheduled", "long"]) == {"task-9-2"}
    assert room.depth("scheduled") == 1
    assert room.depth("nothing") == 0


def test_garbage_is_read_as_nothing(room: WaitingRoom) -> None:
    for key in (SCHEDULED, QUEUE, f"{keys.WIP_PREFIX}scheduled"):
        fill(room.redis, key, "string")

    assert room.waiting_ids() == set()
    assert room.queued_ids(["scheduled"]) == set()
    assert room.under_way_ids(["scheduled"]) == set()
    assert room.depth("scheduled") == 0


def test_only_keys_of_a_wrong_type_are_mended(room: WaitingRoom) -> None:
    room.register([due(1)])
    room.enqueue_jobs()
    room.register([later(2)])
    for key in (HANDOVER, f"{QUEUE_PREFIX}long", f"{keys.WIP_PREFIX}long"):
        fill(room.redis, key, "hash")

    mended = room.mend_types(["scheduled", "long"])

    assert sorted(mended) == sorted([HANDOVER, f"{QUEUE_PREFIX}long", f"{keys.WIP_PREFIX}long"])
    assert queued(room) == ["task-1-1"]
    assert room.waiting_ids() == {"task-2-1"}
    assert room.mend_types(["scheduled", "long"]) == []


def test_a_redis_that_lost_its_memory_is_not_planted(room: WaitingRoom) -> None:
    assert not room.is_planted()
    room.plant()
    assert room.is_planted()

    room.redis.flushall()

    assert not room.is_planted()


def test_garbage_in_place_of_the_mark_is_written_over(room: WaitingRoom) -> None:
    fill(room.redis, PLANTED, "hash")

    assert room.register([due()]) == 1


# --- the rest -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("next_due", "seconds"), [(None, 1.0), (100.25, 0.25), (105.0, 1.0), (100.0, 0.0), (90.0, 0.0)]
)
def test_how_long_to_sleep(next_due: float | None, seconds: float) -> None:
    moved = Moved((), 0, 0, 0, next_due, 100.0)

    assert seconds_until(moved, 1.0) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "name", ["enqueue_at", "enqueue_in", "schedule", "cron", "enqueue_job", "change_execution_time"]
)
def test_jobs_enter_through_the_task_table_alone(room: WaitingRoom, name: str) -> None:
    with pytest.raises(Refused) as refused:
        getattr(room, name)(utc_now(), print)

    assert str(refused.value) == (
        "Jobs enter through the Task table: declare a schedule in schedules.yaml, "
        "or ask for one run with `scheduler run`."
    )


@pytest.mark.parametrize("name", ["task-17-1", "somebody-elses"])
def test_rq_schedulers_cancel_takes_a_job_out(room: WaitingRoom, name: str) -> None:
    room.register([later()])
    room.redis.zadd(SCHEDULED, {"somebody-elses": 5})

    room.cancel(name)

    assert room.waiting_ids() == {"task-17-1", "somebody-elses"} - {name}


ACTIONS: dict[str, Callable[[WaitingRoom], Any]] = {
    "register": lambda room: room.register([due()]),
    "move": lambda room: room.move_due(),
    "withdraw": lambda room: room.withdraw([(1, 1, "scheduled")]),
    "waiting": lambda room: room.waiting_ids(),
    "handed over": lambda room: room.handed_over(),
    "planted": lambda room: room.is_planted(),
    "mend": lambda room: room.mend_types(["scheduled"]),
    "fence": lambda room: room.acquire_lock(),
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_a_redis_that_is_away_is_told_clearly(action: Callable[[WaitingRoom], Any]) -> None:
    room = WaitingRoom(connect("redis://127.0.0.1:1/0"))
    began = time.monotonic()

    with pytest.raises(RedisAway) as away:
        action(room)

    assert str(away.value) == (
        "Redis does not answer at 127.0.0.1:1 (Error 111 connecting to 127.0.0.1:1. Connection refused.). "
        "Start it, set REDIS_URL, or unset REDIS_URL to use a private one."
    )
    assert time.monotonic() - began < 5
