"""What we rely on in RQ, rq-scheduler and Redis; run against each new version of them before it is taken.

A failure here is no fault of ours: the library has changed, and the module it names must be looked at.
"""

from __future__ import annotations

import inspect
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import rq
import rq_scheduler
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue, SimpleWorker
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import as_text

from scheduler.broker import job as job_module
from scheduler.broker.job import TaskJob, run_tasks_with
from scheduler.broker.keys import JOB_PREFIX, QUEUE_PREFIX, QUEUES, SCHEDULED, job_id
from scheduler.broker.rq_worker import RqWorker
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.errors import RedisAway
from scheduler.rules.task.jobs import WaitingJob
from tests.builders import HOUR, MINUTE
from tests.servers import start_redis
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]


def due(task_id: int) -> WaitingJob:
    return WaitingJob(task_id, 1, "scheduled", utc_now() - MINUTE)


# --- what RQ writes -------------------------------------------------------------------------------------------------

KNOWN_FIELDS = {
    *("created_at", "data", "origin", "description", "enqueued_at", "started_at", "ended_at", "last_heartbeat"),
    *("worker_name", "group_id", "timeout", "result_ttl", "failure_ttl", "ttl", "status", "meta", "exc_info", "result"),
    *("success_callback_name", "failure_callback_name", "stopped_callback_name"),
    *("success_callback_timeout", "failure_callback_timeout", "stopped_callback_timeout"),
    *("dependency_ids", "dependency_id", "allow_dependency_failures", "enqueue_at_front", "webhooks"),
    *("number_of_retries", "retries_left", "retry_intervals", "enqueue_at_front_on_retry"),
    *("repeats_left", "repeat_intervals", "rate_limit_key", "rate_limit_concurrency"),
}


def hash_of(client: redis.Redis, name: str) -> dict[str, bytes | str]:
    return {as_text(key): value for key, value in client.hgetall(JOB_PREFIX + name).items()}


def test_the_states_of_a_job_are_those_we_know() -> None:
    assert {one.value for one in JobStatus} == {
        *("created", "queued", "finished", "failed", "started", "deferred", "scheduled", "stopped", "canceled"),
        *("rate_limited", "ready_to_enqueue"),
    }


def test_a_job_of_rq_has_no_field_that_we_do_not_know(room: WaitingRoom) -> None:
    queue = Queue("scheduled", connection=room.redis, serializer=JSONSerializer)
    everything: dict[str, Any] = {"retry": rq.Retry(max=3, interval=[1, 2]), "meta": {"x": 1}, "ttl": 60}
    everything |= {"result_ttl": 5, "failure_ttl": 5, "description": "d", "job_timeout": 5, "repeat": rq.Repeat(2, 1)}
    everything |= {one: rq.Callback("os.getpid") for one in ("on_success", "on_failure", "on_stopped")}

    job = queue.enqueue("os.getpid", **everything)
    dependent = queue.enqueue("os.getpid", depends_on=job)

    written = hash_of(room.redis, job.id).keys() | hash_of(room.redis, dependent.id).keys()
    assert {"data", "status", "success_callback_name", "retries_left", "meta"} <= written
    assert written <= KNOWN_FIELDS


def test_a_job_moved_by_the_script_is_the_twin_of_one_enqueued_by_rq_scheduler(room: WaitingRoom) -> None:
    room.register([due(1), due(2)])
    room.move_due(limit=1)  # 1 by the script
    stock = rq_scheduler.Scheduler("scheduled", connection=room.redis)
    twin = Job.fetch("task-2-1", connection=room.redis, serializer=JSONSerializer)

    stock.enqueue_job(twin)

    ours, theirs = hash_of(room.redis, "task-1-1"), hash_of(room.redis, "task-2-1")
    assert ours["status"] == theirs["status"] == b"queued"
    for field in ("origin", "timeout", "status"):
        assert ours[field] == theirs[field], field
    # What RQ writes besides says «nothing», or is a time.
    besides = {field: value for field, value in theirs.items() if field not in ours}
    assert {value for field, value in besides.items() if field != "last_heartbeat"} <= {b"", b"0", b"{}", b"[]"}
    assert ours.keys() <= theirs.keys()
    for field in ("created_at", "enqueued_at"):
        assert len(ours[field]) == len(theirs[field]), field
    assert room.redis.lrange(f"{QUEUE_PREFIX}scheduled", 0, -1) == [b"task-1-1", b"task-2-1"]
    assert room.redis.smembers(QUEUES) == {f"{QUEUE_PREFIX}scheduled".encode()}
    assert room.redis.ttl(f"{JOB_PREFIX}task-1-1") == room.redis.ttl(f"{JOB_PREFIX}task-2-1") == -1
    assert room.redis.zcard(SCHEDULED) == 0


def test_rq_schedulers_own_names_read_our_entries(room: WaitingRoom) -> None:
    room.register([due(1), WaitingJob(2, 1, "scheduled", utc_now() + HOUR)])
    reader = rq_scheduler.Scheduler("scheduled", connection=room.redis)

    read = {job.id: moment for job, moment in reader.get_jobs(with_times=True)}

    assert reader.count() == 2
    assert "task-1-1" in reader
    assert "task-3-1" not in reader
    assert read.keys() == {"task-1-1", "task-2-1"}
    now = utc_now().replace(tzinfo=None)
    assert read["task-1-1"] < now < read["task-2-1"]
    assert [job.id for job in reader.get_jobs(now)] == ["task-1-1"]
    assert [job.id for job in room.get_jobs()] == ["task-1-1", "task-2-1"]


def test_a_stock_scheduler_beside_ours_finds_its_lock_taken(room: WaitingRoom) -> None:
    stock = rq_scheduler.Scheduler("scheduled", connection=room.redis)

    room.acquire_lock()

    assert not stock.acquire_lock()
    assert 0 < room.redis.ttl(rq_scheduler.Scheduler.scheduler_lock_key) <= 30


def test_the_keys_are_those_of_rq_scheduler() -> None:
    for name in ("redis_scheduler_namespace_prefix", "scheduler_key", "scheduler_lock_key", "scheduled_jobs_key"):
        assert getattr(WaitingRoom, name) == getattr(rq_scheduler.Scheduler, name)
    assert Queue.redis_queue_namespace_prefix == QUEUE_PREFIX
    assert Job.redis_job_namespace_prefix == JOB_PREFIX
    assert Queue.redis_queues_keys == QUEUES


# --- on a worker of RQ ----------------------------------------------------------------------------------------------


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """What `run_task` was called with; task 13 fails."""
    calls: list[tuple[int, int]] = []

    def run(task_id: int, attempt: int) -> None:
        calls.append((task_id, attempt))
        if task_id == 13:
            raise ValueError("unlucky")

    monkeypatch.setattr(job_module, "_runner", None)
    run_tasks_with(run)
    yield calls
    monkeypatch.setattr(job_module, "_runner", None)


def work_off(client: redis.Redis, job_class: type[Job]) -> None:
    worker = SimpleWorker(["scheduled"], connection=client, serializer=JSONSerializer, job_class=job_class)
    worker.log_result_lifespan = False
    worker.work(burst=True, logging_level="ERROR", with_scheduler=False)


@pytest.mark.parametrize("job_class", [TaskJob, Job], ids=["our job class", "RQ's own"])
def test_a_worker_of_rq_runs_our_jobs(room: WaitingRoom, ran: list[tuple[int, int]], job_class: type[Job]) -> None:
    room.register([due(1), due(2), due(13)])
    room.enqueue_jobs()

    work_off(room.redis, job_class)

    assert sorted(ran) == [(1, 1), (2, 1), (13, 1)]
    states = {n: hash_of(room.redis, job_id(n, 1))["status"] for n in (1, 2, 13)}
    assert states == {1: b"finished", 2: b"finished", 13: b"failed"}
    assert room.redis.llen(f"{QUEUE_PREFIX}scheduled") == 0
    assert room.under_way_ids(["scheduled"]) == set()


def test_a_worker_of_rq_with_our_job_class_runs_nothing_else(
    room: WaitingRoom, ran: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    room.register([due(1)])
    room.enqueue_jobs()
    room.redis.hset(f"{JOB_PREFIX}task-1-1", "data", b'["os._exit", null, [3], {}]')

    work_off(room.redis, TaskJob)  # were it run, this process would be gone

    assert "job task-1-1 asks for something else than its task" in caplog.text
    assert ran == []


@pytest.mark.parametrize("how", ["canceled", "deleted"])
def test_a_job_that_rq_was_told_to_forget_is_not_run(room: WaitingRoom, ran: list[tuple[int, int]], how: str) -> None:
    room.register([due(1), due(2)])
    room.enqueue_jobs()
    job = Job.fetch("task-1-1", connection=room.redis, serializer=JSONSerializer)

    if how == "canceled":
        job.cancel()
    else:
        job.delete()
    work_off(room.redis, TaskJob)

    assert ran == [(2, 1)]


# --- races ----------------------------------------------------------------------------------------------------------

DISPATCH_FOR_EVER = """
import sys
from scheduler.broker.connection import connect
from scheduler.broker.waiting_room import WaitingRoom
room = WaitingRoom(connect(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
while True:
    room.move_due(limit=7)
"""


def a_dispatcher(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DISPATCH_FOR_EVER, url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_four_dispatchers_one_of_them_killed_move_each_job_once(room: WaitingRoom, redis_url: str) -> None:
    count = 4000
    room.register(due(number) for number in range(1, count + 1))
    dispatchers = [a_dispatcher(redis_url) for _ in range(4)]
    try:
        for one in dispatchers:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in dispatchers:
            assert one.stdin is not None
            one.stdin.close()

        wait_for(lambda: room.depth("scheduled") > count / 10, every=0.001, what="the first jobs")
        os.kill(dispatchers[0].pid, signal.SIGKILL)
        left = room.redis.zcard(SCHEDULED)
        wait_for(lambda: room.redis.zcard(SCHEDULED) == 0, what="the last jobs")
    finally:
        for one in dispatchers:
            one.kill()
            one.wait()
            if one.stdout is not None:
                one.stdout.close()

    assert left > 0, "all was moved before the kill: nothing was tested"
    moved = [as_text(one) for one in room.redis.lrange(f"{QUEUE_PREFIX}scheduled", 0, -1)]
    assert sorted(moved) == sorted(job_id(number, 1) for number in range(1, count + 1))


class Cutter:
    """Before a Redis: passes what clients send, and cuts the connection instead of the answer to `EVALSHA`."""

    def __init__(self, port: int, cuts: int) -> None:
        self.cuts = cuts
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            while request := client.recv(1 << 20):
                server.sendall(request)
                answer = server.recv(1 << 20)
                if self.cuts and b"EVALSHA" in request and not answer.startswith(b"-NOSCRIPT"):
                    self.cuts -= 1
                    return
                client.sendall(answer)


def test_a_connection_cut_after_the_script_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with start_redis(tmp_path, port=0) as server:
        direct = WaitingRoom(server.client())
        direct.register(due(number) for number in range(1, 31))
        cutter = Cutter(server.port, cuts=2)
        with redis.Redis(port=cutter.port, socket_timeout=5, retry=Retry(NoBackoff(), 1)) as client:
            room = WaitingRoom(client)

            moved = [job for _ in range(5) for job in attempt(room)]

            # Moved, but nobody was told: the marks are lost, the jobs are not.
            assert cutter.cuts == 0
            assert len(moved) < 30
            queued = direct.redis.lrange(f"{QUEUE_PREFIX}scheduled", 0, -1)
            assert sorted(as_text(one) for one in queued) == sorted(job_id(number, 1) for number in range(1, 31))
        cutter.close()
        direct.redis.close()


def attempt(room: WaitingRoom) -> list[tuple[int, int]]:
    """What a dispatcher does, and how it goes on when Redis does not answer."""
    try:
        return room.move_due(limit=10).jobs
    except RedisAway:
        return []


# --- what we override -----------------------------------------------------------------------------------------------

# The parameters of what we override or call, as they were when we wrote it.
PARAMETERS = {
    "Scheduler.__init__": "self queue_name queue interval connection job_class queue_class name",
    "Scheduler.enqueue_jobs": "self",
    "Scheduler.acquire_lock": "self",
    "Scheduler.remove_lock": "self",
    "Scheduler.cancel": "self job",
    "Scheduler.enqueue_at": "self scheduled_time func args kwargs",
    "Scheduler.enqueue_in": "self time_delta func args kwargs",
    "Scheduler.schedule": (
        "self scheduled_time func args kwargs interval repeat result_ttl ttl timeout id description queue_name meta"
        " depends_on on_success on_failure at_front"
    ),
    "Scheduler.cron": (
        "self cron_string func args kwargs repeat queue_name result_ttl ttl id timeout description meta"
        " use_local_timezone depends_on on_success on_failure at_front"
    ),
    "Scheduler.enqueue_job": "self job",
    "Scheduler.change_execution_time": "self job date_time",
    "Job.__init__": "self id connection serializer",
    "Job.restore": "self raw_data",
    "Job.func": "self",
    "Job._deserialize_data": "self",
    "Worker.__init__": (
        "self queues name default_result_ttl connection exception_handlers maintenance_interval default_worker_ttl"
        " worker_ttl job_class queue_class log_job_description job_monitoring_interval"
        " disable_default_exception_handler prepare_for_work serializer work_horse_killed_handler"
    ),
    "Worker._set_connection": "self connection",
    "Worker.register_birth": "self",
    "Worker.register_death": "self",
    "Worker.heartbeat": "self timeout pipeline",
}
BASES: list[tuple[type, type]] = [(WaitingRoom, rq_scheduler.Scheduler), (TaskJob, Job), (RqWorker, rq.Worker)]


def parameters(base: type, name: str) -> str:
    found = inspect.getattr_static(base, name)
    function: Any = found.fget if isinstance(found, property) else found
    return " ".join(inspect.signature(function).parameters)


def overridden() -> Iterator[tuple[type, str]]:
    for ours, base in BASES:
        for name, value in vars(ours).items():
            if hasattr(base, name) and (inspect.isfunction(value) or isinstance(value, property)):
                yield base, name


def test_what_we_override_has_the_parameters_that_we_know() -> None:
    bases = {base.__name__: base for _, base in BASES}
    now = {full: parameters(bases[full.split(".")[0]], full.split(".")[1]) for full in PARAMETERS}

    assert now == PARAMETERS


def test_each_thing_we_override_is_on_the_list() -> None:
    names = {f"{base.__name__}.{name}" for base, name in overridden()}

    assert len(names) > 10
    assert names <= PARAMETERS.keys()
