"""Redis and PostgreSQL behind a proxy that breaks the way to them: nothing lost or doubled, and it mends itself."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis.connection import parse_url
from sqlalchemy import make_url

from scheduler.broker import keys
from scheduler.clock import utc_now
from scheduler.rules.states import LOST, SUCCEEDED
from tests.journeys.history import history_of, is_over
from tests.journeys.service import Service
from tests.judge import Plan, every, judge
from tests.proxy import PASS, RESET, SWALLOW, Mode, Proxy, drop_reply
from tests.servers import PostgresServer, start_redis
from tests.waiting import wait_for

SCHEDULES = """
    ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}, overlap: allow}
    once: {task: quick, args: {diary: DIARY}, when: {every: 2s}, delivery: at_most_once, overlap: allow}
    naps: {task: nap, args: {diary: DIARY, seconds: 0.5}, when: {every: 2s}, overlap: queue-one}
"""
PLANS = {
    "ticks": Plan(every(1), may_overlap=True),
    "once": Plan(every(2), may_overlap=True, at_most_once=True),
    "naps": Plan(every(2)),
}

# A claim is a prepared statement; each of its values comes after its length: the new state, the first attempt, a token.
CLAIM = b"\0\0\0\x07running" + b"\0\0\0\x011" + b"\0\0\0\x24"
END = b'{"attempt": 1'  # the result that the functions of this journey give


def break_for(proxy: Proxy, mode: Mode, seconds: float) -> None:
    until = time.monotonic() + seconds
    proxy.set(mode)
    wait_for(lambda: time.monotonic() >= until, seconds=seconds + 5, what="the fault to be over")
    proxy.set(PASS)


def drop_replies(proxy: Proxy, mode: Mode, times: int) -> None:
    """Drop a reply so many times, each as soon as there is one."""
    for _ in range(times):
        before = len(proxy.faults("drop_reply"))
        proxy.set(mode)
        wait_for(lambda: len(proxy.faults("drop_reply")) > before, seconds=20, what=f"{mode} to take place")  # noqa: B023


@contextmanager
def judge_faults(service: Service, proxy: Proxy) -> Iterator[None]:
    """Whatever goes wrong in the block: afterwards all that was due ends, and the judge finds nothing."""
    service.write(SCHEDULES)
    service.environment["SCHEDULER_HORIZON_SECONDS"] = "4"  # so that there is something to register every 2 s
    service.start()
    service.wait_for_task(lambda task: task.state == SUCCEEDED)
    began_at = utc_now()
    yield
    over_at = utc_now()
    assert proxy.moments
    until = over_at + dt.timedelta(seconds=3)  # and some that are due after it
    wait_for(
        lambda: utc_now() > until and is_over(service, until),
        seconds=60,
        what=f"all that was due to end; {service.log}",
    )
    assert service.stop() == 0
    history = history_of(service, PLANS, until, faults=[(began_at - dt.timedelta(minutes=1), over_at)])
    assert judge(history) == []
    states = {(row.schedule, row.state) for row in history.rows if row.fire_time <= until and row.schedule != "naps"}
    assert states <= {("ticks", SUCCEEDED), ("once", SUCCEEDED), ("once", LOST)}


def test_a_broken_way_to_redis_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with (
        start_redis(tmp_path / "redis", port=0) as redis,
        Proxy("127.0.0.1", parse_url(redis.url)["port"]) as proxy,
        Service(tmp_path, redis_url=f"redis://127.0.0.1:{proxy.port}/0") as service,
        judge_faults(service, proxy),
    ):
        break_for(proxy, SWALLOW, 6)  # longer than a client waits
        drop_replies(proxy, drop_reply(after=keys.HANDOVER.encode()), 3)  # of the dispatch script
        drop_replies(proxy, drop_reply(after=keys.WAKE.encode()), 2)  # of a registration
        drop_replies(proxy, drop_reply(after=keys.WIP_PREFIX.encode()), 3)  # of a worker's taking a job
        break_for(proxy, RESET, 3)


def test_a_broken_way_to_sql_loses_and_doubles_nothing(tmp_path: Path, postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database()
    with (
        Proxy("127.0.0.1", make_url(url).port or 5432) as proxy,
        Service(tmp_path, database_url=url) as service,
    ):
        through = make_url(url).set(host="127.0.0.1", port=proxy.port)
        service.environment["DATABASE_URL"] = through.render_as_string(hide_password=False)
        with judge_faults(service, proxy):
            drop_replies(proxy, drop_reply(after=CLAIM), 4)
            drop_replies(proxy, drop_reply(after=END), 3)
            drop_replies(proxy, drop_reply(after=b"COMMIT"), 10)
            break_for(proxy, RESET, 4)
    postgres_server.drop(url)
