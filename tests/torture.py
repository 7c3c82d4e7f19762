"""Everything breaks at random, over two hosts' worth of processes, and nothing may be lost or doubled.

`make torture ARGS="--minutes 10 --seed 1"`; the same seed breaks the same things in the same order, though not at the
same instants. Ends with the judge and the doctor, and with a status other than 0 when one of them finds something.
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from redis.connection import parse_url
from sqlalchemy import make_url

from scheduler.broker.connection import connect
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.check.doctor import broken_invariants
from tests.journeys import test_redis_faults as redis_faults
from tests.journeys import test_sql_faults as sql_faults
from tests.journeys.history import history_of, is_over
from tests.journeys.service import Service
from tests.journeys.test_faults import CLAIM, END
from tests.judge import Plan, every, judge
from tests.proxy import PASS, RESET, SWALLOW, Mode, Proxy, delay, drop_reply
from tests.servers import PostgresServer, RedisServer, start_postgres, start_redis
from tests.waiting import wait_for

log = logging.getLogger("torture")

SCHEDULES = """
    ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}, overlap: allow}
    once: {task: quick, args: {diary: DIARY}, when: {every: 2s}, delivery: at_most_once, overlap: allow}
    flaky: {task: fail_first, args: {diary: DIARY, times: 1}, when: {every: 3s}, overlap: allow}
    naps: {task: nap, args: {diary: DIARY, seconds: 1.5}, when: {every: 3s}, overlap: queue-one}
"""
PLANS = {
    "ticks": Plan(every(1), may_overlap=True),
    "once": Plan(every(2), may_overlap=True, at_most_once=True),
    "flaky": Plan(every(3), may_overlap=True),
    "naps": Plan(every(3)),
}
RECOVERY = 120.0  # seconds: leases, and the pauses of a supervisor whose parts were killed again and again


class Torture:
    def __init__(
        self,
        hosts: list[Service],
        redis: RedisServer,
        admin: sql_faults.Admin,
        to_redis: Proxy,
        to_sql: Proxy,
        chance: random.Random,
    ) -> None:
        self.hosts = hosts
        self.redis = redis
        self.admin = admin
        self.to_redis = to_redis
        self.to_sql = to_sql
        self.chance = chance
        self.done: Counter[str] = Counter()
        self.woken: list[dt.datetime] = []
        self.crashes: list[dt.datetime] = []

    def go_on(self, seconds: float) -> None:
        """Break one thing after the other."""
        until = time.monotonic() + seconds
        ways: list[Callable[[], None]] = [
            *(self._kill, self._kill, self._freeze, self._flush, self._redis, self._sql),
            *(self._redis_itself, self._sql_itself),
        ]
        while time.monotonic() < until:
            way = self.chance.choice(ways)
            way()
            _rest(self.chance.uniform(0.5, 4))

    def _kill(self) -> None:
        if victims := self._processes():
            victim = self.chance.choice(victims)
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                self._tell("kill", str(victim))

    def _freeze(self) -> None:
        if victims := self._processes():
            victim, seconds = self.chance.choice(victims), self.chance.uniform(0.5, 12)
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGSTOP)
                self._tell("freeze", f"{victim} for {seconds:.1f} s")
                _rest(seconds)
                self.woken.append(utc_now())
                os.kill(victim, signal.SIGCONT)

    def _flush(self) -> None:
        with self.redis.client() as client:
            client.flushall()
        self._tell("flush", "Redis")

    def _redis(self) -> None:
        modes = [RESET, SWALLOW, delay(0.1), drop_reply(b"EVALSHA")]
        self._break("redis", self.to_redis, self.chance.choice(modes))

    def _sql(self) -> None:
        modes = [RESET, delay(0.05), drop_reply(b"COMMIT"), drop_reply(CLAIM), drop_reply(END)]
        self._break("sql", self.to_sql, self.chance.choice(modes))

    def _redis_itself(self) -> None:
        self._suffer("redis", self.chance.choice(list(redis_faults.FAULTS)), self.redis)

    def _sql_itself(self) -> None:
        faults = [one for one in sql_faults.FAULTS if self.admin.is_durable or one is not sql_faults.crashed]
        fault = self.chance.choice([*faults, sql_faults.letting_nobody_in])
        if fault is sql_faults.crashed:
            self.crashes.append(utc_now())
        self._suffer("sql", fault, self.admin)

    def _suffer(self, name: str, fault: Callable[[Any], Any], server: object) -> None:
        seconds = self.chance.uniform(0.5, 5)
        self._tell(f"{name} {fault.__name__}", f"for {seconds:.1f} s")
        with fault(server):
            _rest(seconds)

    def _break(self, name: str, proxy: Proxy, mode: Mode) -> None:
        seconds = self.chance.uniform(0.5, 8)
        self._tell(f"{name} {mode.name}", f"for at most {seconds:.1f} s")
        proxy.set(mode)
        _rest(seconds)
        proxy.set(PASS)

    def _processes(self) -> list[int]:
        return sorted(pid for host in self.hosts for pid in host.processes())

    def _tell(self, what: str, of: str) -> None:
        self.done[what] += 1
        log.info("%s %s", what, of)


def torture(seconds: float, seed: int, folder: Path, postgres: PostgresServer) -> list[str]:
    """Break things for so long; what was found broken afterwards, in words."""
    url = postgres.create_database()
    with ExitStack() as stack:
        redis = stack.enter_context(start_redis(folder / "redis", port=0))
        to_redis = stack.enter_context(Proxy("127.0.0.1", parse_url(redis.url)["port"]))
        to_sql = stack.enter_context(Proxy("127.0.0.1", make_url(url).port or 5432))
        through = make_url(url).set(host="127.0.0.1", port=to_sql.port).render_as_string(hide_password=False)
        began_at = utc_now()  # two services that start at once are a fault too: all wait for the processors
        hosts = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            host = stack.enter_context(Service(folder / name, database_url=url, redis_url=redis.url))
            host.environment |= {"DATABASE_URL": through, "REDIS_URL": f"redis://127.0.0.1:{to_redis.port}/0"}
            host.diary = folder / "diary"
            host.write(SCHEDULES)
            hosts.append(host.start())
        admin = sql_faults.Admin(postgres, url)
        tormentor = Torture(hosts, redis, admin, to_redis, to_sql, random.Random(seed))
        tormentor.go_on(seconds)
        over_at = utc_now()
        log.info("Done: %s", dict(tormentor.done))
        found = _recover(hosts[0], redis, over_at)
        for host in hosts:
            host.stop(seconds=30)
        history = history_of(hosts[0], PLANS, over_at, faults=[(began_at, over_at)])
        log.info("Ends: %s", dict(Counter((row.schedule, row.state) for row in history.rows)))
        found += [
            f"{finding.kind}: {finding.what}"
            for finding in judge(replace(history, woken=tormentor.woken, crashes=tormentor.crashes))
        ]
        if not tormentor.done:
            found.append("empty: nothing was broken")
    postgres.drop(url)
    return found


def _recover(host: Service, redis: RedisServer, over_at: dt.datetime) -> list[str]:
    """Wait until all that was due has ended; the promises that then do not hold."""
    wait_for(
        lambda: is_over(host, over_at),
        seconds=RECOVERY,
        every=0.5,
        what=f"all that was due to end; {host.log}",
    )
    client = connect(redis.url)
    try:
        room = WaitingRoom(client)
        until = time.monotonic() + 15  # what is on its way
        while True:
            broken = broken_invariants(host.database, room)
            if not broken or time.monotonic() > until:
                return [f"{finding.name}: {finding.message}" for finding in broken]
            _rest(1)
    finally:
        client.close()


def _rest(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= until, seconds=seconds + 5, what="time to pass")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    log.info("Seed %d; logs and diary in %s", options.seed, folder)
    with start_postgres(folder / "postgres", durable=True) as postgres:
        found = torture(options.minutes * 60, options.seed, folder, postgres)
    for one in found:
        log.error("%s", one)
    log.info("%d broken promises", len(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
