"""The Redis side of a worker: it takes jobs, tells what became of them, and RQ knows it by name."""

from __future__ import annotations

from typing import Any

import pytest
from rq import Worker
from rq.utils import as_text

from scheduler.broker.connection import connect
from scheduler.broker.keys import JOB_PREFIX, QUEUE_PREFIX, WIP_PREFIX, WORKER_PREFIX
from scheduler.broker.rq_worker import JobFeed, RqWorker
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.errors import RedisAway
from scheduler.rules.task.jobs import WaitingJob
from tests.builders import MINUTE

QUEUE = f"{QUEUE_PREFIX}scheduled"


@pytest.fixture
def feed(room: WaitingRoom) -> JobFeed:
    return JobFeed("scheduled", room.redis, "w1")


def enqueue(room: WaitingRoom, *task_ids: int) -> None:
    now = utc_now()
    jobs = [WaitingJob(task_id, 1, "scheduled", now - (100 - task_id) * MINUTE) for task_id in task_ids]
    room.register(jobs)
    room.enqueue_jobs()


def record(room: WaitingRoom, name: str) -> dict[str, str]:
    return {as_text(key): as_text(value) for key, value in room.redis.hgetall(JOB_PREFIX + name).items()}


def test_jobs_are_taken_in_their_order(room: WaitingRoom, feed: JobFeed) -> None:
    enqueue(room, 1, 2)

    assert [feed.take(), feed.take(), feed.take()] == ["task-1-1", "task-2-1", None]


def test_a_taken_job_is_under_way_and_never_expires(room: WaitingRoom, feed: JobFeed) -> None:
    enqueue(room, 1)

    feed.take()

    assert room.under_way_ids(["scheduled"]) == {"task-1-1"}
    taken = record(room, "task-1-1")
    assert (taken["status"], taken["worker_name"]) == ("started", "w1")
    assert taken["started_at"]
    assert room.redis.ttl(f"{JOB_PREFIX}task-1-1") == -1


def test_finishing_a_job_and_taking_the_next_is_one_call(room: WaitingRoom, feed: JobFeed) -> None:
    enqueue(room, 1, 2)
    feed.take()

    following = feed.take("task-1-1", "failed")

    assert following == "task-2-1"
    assert room.under_way_ids(["scheduled"]) == {"task-2-1"}
    assert record(room, "task-1-1")["status"] == "failed"
    assert 0 < room.redis.ttl(f"{JOB_PREFIX}task-1-1") <= 300


def test_a_job_is_finished_without_taking_another(room: WaitingRoom, feed: JobFeed) -> None:
    enqueue(room, 1, 2)
    feed.take()

    feed.finish("task-1-1", "finished")

    assert record(room, "task-1-1")["status"] == "finished"
    assert room.queued_ids(["scheduled"]) == {"task-2-1"}


def test_a_job_that_its_worker_put_off_waits_on(room: WaitingRoom, feed: JobFeed) -> None:
    # Its lane is taken: the worker lets it wait again, and only then tells that it is done with it.
    enqueue(room, 1)
    feed.take()
    room.register([WaitingJob(1, 1, "scheduled", utc_now() - MINUTE)], force=True)

    feed.take("task-1-1", "canceled")

    assert room.enqueue_jobs() == ["task-1-1"]
    assert feed.take() == "task-1-1"


def test_a_finished_job_is_finished_once(room: WaitingRoom, feed: JobFeed) -> None:
    enqueue(room, 1)
    feed.take()

    feed.finish("task-1-1", "finished")
    feed.finish("task-1-1", "failed")

    assert record(room, "task-1-1")["status"] == "finished"


@pytest.mark.parametrize("kind", ["missing", "string"])
def test_a_job_without_a_record_is_taken_all_the_same(room: WaitingRoom, feed: JobFeed, kind: str) -> None:
    enqueue(room, 1)
    room.redis.delete(f"{JOB_PREFIX}task-1-1")
    if kind == "string":
        room.redis.set(f"{JOB_PREFIX}task-1-1", "garbage")

    assert feed.take() == "task-1-1"
    assert feed.take("task-1-1") is None
    assert room.under_way_ids(["scheduled"]) == set()


def test_an_id_that_is_no_text_is_taken_out_of_the_way(room: WaitingRoom, feed: JobFeed) -> None:
    room.redis.rpush(QUEUE, b"\xff\xfe", b"next")

    assert feed.take() == "\ufffd\ufffd"
    assert feed.take("\ufffd\ufffd") == "next"


@pytest.mark.parametrize("key", [QUEUE, f"{WIP_PREFIX}scheduled", f"{WORKER_PREFIX}w1"])
def test_garbage_in_a_key_stops_no_worker(room: WaitingRoom, feed: JobFeed, key: str) -> None:
    enqueue(room, 1)
    room.redis.delete(key)
    room.redis.set(key, "garbage")

    taken = feed.take()

    assert taken == (None if key == QUEUE else "task-1-1")
    assert feed.take(taken or "") is None


def test_waiting_for_a_job_takes_none(room: WaitingRoom, feed: JobFeed) -> None:
    enqueue(room, 1, 2)

    assert feed.wait(1)

    assert [as_text(one) for one in room.redis.lrange(QUEUE, 0, -1)] == ["task-1-1", "task-2-1"]


def test_waiting_in_vain_ends(feed: JobFeed) -> None:
    assert not feed.wait(1)


def test_waiting_bears_garbage_in_place_of_the_queue(room: WaitingRoom, feed: JobFeed) -> None:
    room.redis.set(QUEUE, "garbage")

    assert not feed.wait(1)


def test_a_redis_that_is_away_is_told(redis_url: str) -> None:
    feed = JobFeed("scheduled", connect("redis://127.0.0.1:1/0"), "w1")

    for action in (feed.take, lambda: feed.finish("task-1-1", "failed"), lambda: feed.wait(1)):
        with pytest.raises(RedisAway, match="Redis does not answer at"):
            action()


# --- as RQ sees it --------------------------------------------------------------------------------------------------


def workers(room: WaitingRoom) -> list[Any]:
    return Worker.all(connection=room.redis)


def test_a_worker_is_seen_by_rq_from_birth_to_death(room: WaitingRoom) -> None:
    worker = RqWorker("scheduled", room.redis, "w1")

    worker.birth()

    assert [(one.name, [queue.name for queue in one.queues]) for one in workers(room)] == [("w1", ["scheduled"])]
    worker.death()
    assert workers(room) == []


def test_a_worker_that_died_without_a_word_leaves_its_name_free(room: WaitingRoom) -> None:
    RqWorker("scheduled", room.redis, "w1").birth()

    RqWorker("scheduled", room.redis, "w1").birth()

    assert [one.name for one in workers(room)] == ["w1"]


def test_a_worker_comes_back_after_redis_lost_its_memory(room: WaitingRoom) -> None:
    worker = RqWorker("scheduled", room.redis, "w1")
    worker.birth()
    room.redis.flushall()

    worker.beat()

    assert [one.name for one in workers(room)] == ["w1"]
    assert room.redis.ttl(f"{WORKER_PREFIX}w1") > 60


def test_a_worker_shows_whether_it_is_at_work(room: WaitingRoom, feed: JobFeed) -> None:
    RqWorker("scheduled", room.redis, "w1").birth()
    enqueue(room, 1)

    feed.take()
    (busy,) = workers(room)
    at_work = busy.get_state(), room.redis.hget(f"{WORKER_PREFIX}w1", "current_job")
    feed.take("task-1-1")
    (idle,) = workers(room)

    assert at_work == ("busy", b"task-1-1")
    assert (idle.get_state(), room.redis.hget(f"{WORKER_PREFIX}w1", "current_job")) == ("idle", None)
    assert (idle.successful_job_count, idle.failed_job_count) == (1, 0)


def test_a_worker_keeps_the_clients_own_time_outs(room: WaitingRoom) -> None:
    before = room.redis.connection_pool.connection_kwargs["socket_timeout"]

    RqWorker("scheduled", room.redis, "w1")

    assert room.redis.connection_pool.connection_kwargs["socket_timeout"] == before == 5
