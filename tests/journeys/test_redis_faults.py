"""Everything that Redis can do to us, one after the other, while the service runs: it comes back by itself each time,
says what is wrong without flooding its log, keeps no processor busy, and loses and doubles nothing."""

from __future__ import annotations

import datetime as dt
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from scheduler.broker import keys
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.check.doctor import broken_invariants
from scheduler.rules.states import SUCCEEDED
from tests.journeys.history import history_of, is_over
from tests.journeys.service import Service
from tests.journeys.watching import BACK_WITHIN, no_noise_and_no_haste, rest, wait_for_something_due_after
from tests.judge import Plan, every, judge
from tests.servers import RedisServer, start_redis
from tests.waiting import wait_for

SCHEDULES = """
    ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}, overlap: allow}
    once: {task: quick, args: {diary: DIARY}, when: {every: 2s}, delivery: at_most_once, overlap: allow}
"""
PLANS = {"ticks": Plan(every(1), may_overlap=True), "once": Plan(every(2), may_overlap=True, at_most_once=True)}


# --- what can happen ------------------------------------------------------------------------------------------------


@contextmanager
def flushed(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.flushall()
    yield


@contextmanager
def started_again_empty(server: RedisServer) -> Iterator[None]:
    server.kill()
    yield
    server.restart()


@contextmanager
def started_again_from_an_older_dump(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.save()
    rest(3)  # and what happens meanwhile is not in it
    server.kill()
    yield
    server.restart()
    (server.folder / "dump.rdb").unlink()


@contextmanager
def loading(server: RedisServer) -> Iterator[None]:
    """It answers LOADING to everything for some seconds."""
    with server.client() as client:
        for number in range(20):
            client.set(f"ballast-{number}", "x" * 20_000)
        client.save()
        delay = LOADING_MICROSECONDS // client.dbsize()
    server.kill()
    server.restart("--key-load-delay", str(delay), "--loading-process-events-interval-bytes", "1024")
    (server.folder / "dump.rdb").unlink()
    with server.client() as client:
        client.config_set("key-load-delay", 0)
    yield


@contextmanager
def hanging(server: RedisServer) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    yield
    rest(5)  # longer than a client waits
    os.kill(server.pid, signal.SIGCONT)


@contextmanager
def read_only(server: RedisServer) -> Iterator[None]:
    """As after a failover that the clients have not noticed."""
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        yield
        client.replicaof("no", "one")


@contextmanager
def out_of_memory(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


@contextmanager
def asking_for_a_password(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.config_set("requirepass", "secret")
        with suppress(redis.exceptions.RedisError):  # it may hit this client too
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")
        yield
    with server.client(password="secret") as client:
        client.config_set("requirepass", "")


@contextmanager
def busy(server: RedisServer) -> Iterator[None]:
    """A script of somebody else's does not end."""
    with server.client() as client:
        client.config_set("busy-reply-threshold", 50)

    def loop() -> None:
        with server.client() as other, suppress(redis.exceptions.ResponseError):
            other.eval("while true do end", 0)

    thread = threading.Thread(target=loop)
    thread.start()
    yield
    with server.client() as client:
        client.execute_command("SCRIPT KILL")
    thread.join()


@contextmanager
def without_scripts(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.script_flush()
    yield


@contextmanager
def full_of_garbage(server: RedisServer) -> Iterator[None]:
    names = (keys.SCHEDULED, keys.HANDOVER, keys.QUEUES, keys.PLANTED)
    with server.client() as client, client.pipeline() as pipeline:  # at once, or the service is there before the second
        for key in (*names, f"{keys.QUEUE_PREFIX}scheduled", f"{keys.WIP_PREFIX}scheduled"):
            pipeline.delete(key)
            pipeline.hset(key, "gar", "bage")
        pipeline.execute()
    yield


LOADING_MICROSECONDS = 3_000_000

FAULTS: dict[Callable[[RedisServer], object], float] = {  # and how many seconds it lasts
    flushed: 0,
    started_again_empty: 2,
    started_again_from_an_older_dump: 0,
    loading: 0,
    hanging: 1,
    read_only: 2,
    out_of_memory: 1.5,
    asking_for_a_password: 1.5,
    busy: 2,
    without_scripts: 0,
    full_of_garbage: 0,
}


# --- the journey ----------------------------------------------------------------------------------------------------


def test_whatever_redis_does_the_service_comes_back_by_itself(tmp_path: Path) -> None:
    with start_redis(tmp_path / "redis", port=0) as server, Service(tmp_path, redis_url=server.url) as service:
        service.write(SCHEDULES)
        service.environment["SCHEDULER_HORIZON_SECONDS"] = "4"  # so that there is something to register every 2 s
        service.start()
        service.wait_for_task(lambda task: task.state == SUCCEEDED)
        began_at = utc_now()

        for fault, seconds in FAULTS.items():
            with no_noise_and_no_haste(service, fault.__name__):
                with fault(server):  # type: ignore[attr-defined]
                    rest(seconds)
                over_at = utc_now()
                wait_for_something_due_after(service, over_at, fault.__name__)

        until = utc_now()
        wait_for(lambda: is_over(service, until), seconds=BACK_WITHIN, what=f"all of before to end; {service.log}")
        with server.client() as client:
            room = WaitingRoom(client)
            wait_for(lambda: not broken_invariants(service.database, room), what="no broken promise")
        assert service.stop() == 0
        history = history_of(service, PLANS, until, faults=[(began_at - dt.timedelta(minutes=1), until)])
        assert judge(history) == []
        assert {row.state for row in history.rows if row.fire_time <= until} == {SUCCEEDED}
