"""Whatever is the N-th thing that happens on a task's way, for N = 1, 2, 3, …: it goes wrong there, and nothing is lost
or doubled. Nobody has to foresee the place: N goes up until a day gets through without reaching it."""

from __future__ import annotations

import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from redis.connection import AbstractConnection
from sqlalchemy import make_url, text

from scheduler.broker.connection import connect
from scheduler.engine.troubles import Pauses
from scheduler.engine.work import child
from scheduler.kill_points import give_orders
from scheduler.rules.states import LOST, SUCCEEDED
from scheduler.store.database import Database
from scheduler.store.postgres import PatientConnection
from scheduler.store.tables import Base
from tests.journeys.small_service import SmallService, end_of_day
from tests.proxy import Proxy
from tests.servers import RedisServer, start_redis

AS_WANTED = {"flaky": {SUCCEEDED}, "laned": {SUCCEEDED}}
FEWEST = 60  # things that happen on the way of six tasks; fewer, and the loop has ended too soon
FEWEST_CHANGES = 25  # of what others see, on the same way
# With each first one of as many, every request is hit once. More than the longest transaction has, else it would never
# get through; a day has some 100 requests to SQL and 70 to Redis.
SQL_STEP, REDIS_STEP = 32, 24
MOST_POINTS = 15  # of the 24 that stand on this way


def test_a_process_killed_at_the_nth_point_loses_and_doubles_nothing(
    migrated_file: Path, redis_url: str, tmp_path: Path
) -> None:
    reached: set[str] = set()
    number = 0
    killed = True
    while killed:
        number += 1
        folder = tmp_path / str(number)
        service = a_new_day(migrated_file, redis_url, folder)
        killed = is_killed_at(number, service, folder / "reached")
        reached |= {path.read_text() for path in folder.glob("reached/any")}

        with service() as again:
            again.let_leases_end()
            again.run()
            expect_order(again, number)

    assert number > FEWEST
    # Days differ by a turn, as a retry comes a millisecond sooner or later: one point or another may be passed by. That
    # each single one is reached is seen to in tests/journeys/test_kill_points.py.
    assert len(reached) > MOST_POINTS


def a_new_day(migrated_file: Path, redis_url: str, folder: Path) -> Callable[[], SmallService]:
    """An empty database and an empty Redis; opened by each process for itself."""
    folder.mkdir()
    (folder / "reached").mkdir()
    shutil.copyfile(migrated_file, folder / "scheduler.db")
    with connect(redis_url) as client:
        client.flushall()
    until = end_of_day()
    return lambda: SmallService(f"sqlite:///{folder / 'scheduler.db'}", redis_url, folder, until)


def is_killed_at(number: int, service: Callable[[], SmallService], marks: Path) -> bool:
    """Whether a process that lives through the day is killed at the `number`-th point; False when it got through."""

    def order() -> None:
        os.environ["SCHEDULER_POINT_FOLDER"] = str(marks)
        give_orders(f"any=kill@{number}")

    return is_killed(order, service, number)


def is_killed(order: Callable[[], None], service: Callable[[], SmallService], number: int) -> bool:
    """Whether a process that lives through the day is killed, as `order` arranges it there; False when it got
    through."""
    pid = os.fork()
    if pid == 0:
        try:
            order()
            service().run()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), f"at {number} the process ended with {status}"
    return status != 0


def expect_order(service: SmallService, number: object) -> None:
    assert service.findings() == [], f"at {number}"
    states = service.states()
    assert states.pop("once") <= {SUCCEEDED, LOST}, f"at {number}"
    assert states == AS_WANTED, f"at {number}"


# --- the replies of PostgreSQL and Redis ----------------------------------------------------------------------------


def test_a_process_killed_after_the_nth_reply_on_postgresql_loses_and_doubles_nothing(
    migrated_postgres: str, redis_url: str, tmp_path: Path
) -> None:
    number = 0
    killed = True
    while killed:
        number += 1
        empty(migrated_postgres, redis_url)
        folder = tmp_path / str(number)
        folder.mkdir()
        service = partial(SmallService, migrated_postgres, redis_url, folder, end_of_day())
        killed = is_killed(partial(kill_after, number, migrated_postgres, redis_url), service, number)

        with service() as again:
            again.let_leases_end()
            again.run()
            expect_order(again, number)

    assert number > FEWEST_CHANGES
    empty(migrated_postgres, redis_url)


def kill_after(number: int, database_url: str, redis_url: str) -> None:
    """Let this process end at the `number`-th reply before which it changed what others see, in PostgreSQL or Redis.
    Killed after any other reply it leaves the same behind as after the one before."""
    plain = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    postgres, redis = psycopg.connect(plain, autocommit=True), connect(redis_url)
    postgres_waits, redis_reads = PatientConnection.wait, AbstractConnection.read_response
    seen: list[object] = []

    def seen_now() -> tuple[object, ...]:
        """Moves with each transaction that wrote and was committed or rolled back, and with each write to Redis."""
        transactions = postgres.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())").fetchone()
        AbstractConnection.read_response = redis_reads  # type: ignore[method-assign]
        writes = redis.info("persistence")["rdb_changes_since_last_save"]
        AbstractConnection.read_response = read  # type: ignore[method-assign]
        return transactions, writes

    def reply_has_come() -> None:
        now = seen_now()
        if now != seen[-1]:
            seen.append(now)
        if len(seen) > number:
            os.kill(os.getpid(), signal.SIGKILL)

    def wait(connection: PatientConnection, *arguments: Any, **options: Any) -> Any:
        answer = postgres_waits(connection, *arguments, **options)
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            reply_has_come()
        return answer

    def read(connection: AbstractConnection, *arguments: Any, **options: Any) -> Any:
        answer = redis_reads(connection, *arguments, **options)
        reply_has_come()
        return answer

    PatientConnection.wait = wait  # type: ignore[method-assign]
    seen.append(seen_now())


# --- the way to SQL and Redis ---------------------------------------------------------------------------------------


class EveryNth(Proxy):
    """Delivers the `first` request of all that are made over it, and each `step`-th after it, and cuts the connection
    instead of replying. What was done is done, what was open is rolled back, and nobody can tell which."""

    def __init__(self, target: int, first: int, step: int) -> None:
        super().__init__("127.0.0.1", target)
        self.requests = -first
        self.step = step

    async def _may_pass(self, chunk: bytes, pair: Any, is_reply: bool) -> bool:
        if is_reply:
            if pair.doomed:
                self._reset(pair.client, "drop_reply")
            return not pair.doomed
        self.requests += 1
        pair.doomed = self.requests >= 0 and self.requests % self.step == 0
        return True


@pytest.fixture
def tcp_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with start_redis(tmp_path / "redis", port=0) as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that waits a moment only before it tries again."""
    monkeypatch.setattr(child, "Pauses", partial(Pauses, 0.01, 0.02))


@pytest.mark.usefixtures("quick")
def test_the_reply_to_each_request_to_postgresql_may_be_lost(
    migrated_postgres: str, redis_url: str, tmp_path: Path
) -> None:
    url = make_url(migrated_postgres)
    for first in range(1, SQL_STEP + 1):
        empty(migrated_postgres, redis_url)
        with EveryNth(url.port or 5432, first, SQL_STEP) as proxy:
            through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
            live_through_a_day(through, migrated_postgres, redis_url, tmp_path / str(first))
        assert proxy.faults("drop_reply"), f"at {first}"
    empty(migrated_postgres, redis_url)


@pytest.mark.usefixtures("quick")
def test_the_reply_to_each_request_to_redis_may_be_lost(
    migrated_file: Path, tcp_redis: RedisServer, tmp_path: Path
) -> None:
    for first in range(1, REDIS_STEP + 1):
        folder = tmp_path / str(first)
        a_new_day(migrated_file, tcp_redis.url, folder)
        url = f"sqlite:///{folder / 'scheduler.db'}"
        with EveryNth(tcp_redis.port, first, REDIS_STEP) as proxy:
            live_through_a_day(url, url, f"redis://127.0.0.1:{proxy.port}/0", folder)
        assert proxy.faults("drop_reply"), f"at {first}"


def live_through_a_day(url: str, plain_url: str, redis_url: str, folder: Path) -> None:
    """The day, over what is in the way; judged without it."""
    folder.mkdir(exist_ok=True)
    until = end_of_day()
    with SmallService(url, redis_url, folder, until) as service:
        service.run()
    with SmallService(plain_url, redis_url, folder, until) as service:
        expect_order(service, folder.name)


def empty(database_url: str, redis_url: str) -> None:
    database = Database(database_url)
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with database.write() as session:
        session.execute(text(f"TRUNCATE {names}"))
    database.close()
    with connect(redis_url) as client:
        client.flushall()
