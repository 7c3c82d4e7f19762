"""Everything that SQL can do to us, one after the other, while the service runs. Nothing new starts meanwhile, what
runs goes on until its lease ends, and afterwards all goes on by itself."""

from __future__ import annotations

import datetime as dt
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from scheduler.clock import utc_now
from scheduler.rules.states import LOST, SUCCEEDED
from tests.journeys.history import history_of, is_over
from tests.journeys.service import Service, is_alive
from tests.journeys.watching import BACK_WITHIN, no_noise_and_no_haste, rest, wait_for_something_due_after
from tests.judge import Plan, every, judge
from tests.servers import PostgresServer, start_postgres
from tests.waiting import wait_for

SCHEDULES = """
    ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}, overlap: allow}
    once: {task: quick, args: {diary: DIARY}, when: {every: 2s}, delivery: at_most_once, overlap: allow}
    slow: {task: wait_for_file, args: {diary: DIARY, file: FOLDER/go, first_attempts: 1}, when: {at: "00:00"}}
"""
PLANS = {"ticks": Plan(every(1), may_overlap=True), "once": Plan(every(2), may_overlap=True, at_most_once=True)}


class Admin:
    """Whoever administers the server, and the database of the service."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self._url = make_url(server.url).set(drivername="postgresql").render_as_string(hide_password=False)
        self.name = make_url(url).database
        self.owns_server = server.pid is not None
        self.is_durable = self.setting("fsync") == "on" and self.setting("synchronous_commit") == "on"

    def do(self, *statements: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def setting(self, name: str) -> str:
        with psycopg.connect(self._url) as connection:
            (value,) = connection.execute("SELECT current_setting(%s)", (name,)).fetchone() or ("",)
            return str(value)

    def lets_in(self) -> bool:
        try:
            return bool(self.setting("fsync"))
        except psycopg.OperationalError:
            return False

    def backends(self) -> list[int]:
        with psycopg.connect(self._url) as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE datname = %s ORDER BY backend_start"
            return [pid for (pid,) in connection.execute(query, (self.name,))]

    def end_connections(self) -> None:
        with psycopg.connect(self._url) as connection:
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(query, (self.name,))


# --- what can happen ------------------------------------------------------------------------------------------------


@contextmanager
def crashed(admin: Admin) -> Iterator[None]:
    """One of its processes is killed: it ends all others, recovers, and lets in again."""
    if admin.owns_server:
        os.kill(admin.backends()[-1], signal.SIGKILL)
    else:
        admin.end_connections()
    yield
    wait_for(admin.lets_in, seconds=60, what="the end of the recovery")


@contextmanager
def cut_again_and_again(admin: Admin) -> Iterator[None]:
    for _ in range(10):
        admin.end_connections()
        rest(0.2)
    yield


@contextmanager
def letting_nobody_in(admin: Admin) -> Iterator[None]:
    """As when it is down, starts, or has no connection left."""
    admin.do(f"ALTER DATABASE {admin.name} ALLOW_CONNECTIONS false")
    admin.end_connections()
    yield
    admin.do(f"ALTER DATABASE {admin.name} ALLOW_CONNECTIONS true")


@contextmanager
def read_only(admin: Admin) -> Iterator[None]:
    admin.do(f"ALTER DATABASE {admin.name} SET default_transaction_read_only = on")
    admin.end_connections()
    yield
    admin.do(f"ALTER DATABASE {admin.name} RESET default_transaction_read_only")


@contextmanager
def locked(admin: Admin) -> Iterator[None]:
    """Somebody alters the table and takes his time."""
    url = make_url(admin._url).set(database=admin.name).render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE task IN ACCESS EXCLUSIVE MODE")
        yield


FAULTS: dict[Callable[[Admin], object], float] = {  # and how many seconds it lasts
    crashed: 0,
    cut_again_and_again: 0,
    read_only: 2,
    locked: 2,
}


# --- the journey ----------------------------------------------------------------------------------------------------


def test_whatever_sql_does_the_service_comes_back_by_itself(tmp_path: Path) -> None:
    with start_postgres(tmp_path / "postgres", durable=True) as server:  # else a crash may take commits along
        url = server.create_database()
        admin = Admin(server, url)
        with Service(tmp_path, database_url=url) as service:
            service.write(SCHEDULES)
            service.start()
            service.wait_for_task(lambda task: task.state == SUCCEEDED)
            began_at, crashes = utc_now(), []

            for fault, seconds in FAULTS.items():
                crashes += [utc_now()] if fault is crashed else []
                with no_noise_and_no_haste(service, fault.__name__):
                    with fault(admin):  # type: ignore[attr-defined]
                        rest(seconds)
                    wait_for_something_due_after(service, utc_now(), fault.__name__)
            with no_noise_and_no_haste(service, "away for longer than a lease"):
                be_away_for_longer_than_a_lease(service, admin)
                wait_for_something_due_after(service, utc_now(), "away for longer than a lease")

            until = utc_now()
            wait_for(lambda: is_over(service, until), seconds=BACK_WITHIN, what=f"all to end; {service.log}")
            wait_for(lambda: "0" in service.command("doctor", or_status=1), what="an answer")
            assert service.stop() == 0
            history = history_of(service, PLANS, until, faults=[(began_at - dt.timedelta(minutes=1), until)])
            assert judge(replace(history, crashes=crashes)) == []
            states = {row.state for row in history.rows if row.schedule == "ticks" and row.fire_time <= until}
            assert states == {SUCCEEDED}


def test_where_sqlite_has_no_room_nothing_starts_until_it_has(private_service: Service) -> None:
    service = private_service
    service.write(SCHEDULES)
    service.start()
    service.wait_for_task(lambda task: task.state == SUCCEEDED)
    began_at = utc_now()

    with no_noise_and_no_haste(service, "no room"):
        allow_files_of(service, 200_000)
        wait_for(lambda: "disk I/O error" in service.log.read_text(), seconds=20, what=f"a full disk; {service.log}")
        rest(3)
        allow_files_of(service, resource.RLIM_INFINITY)
        wait_for_something_due_after(service, utc_now(), "no room")

    until = utc_now()
    wait_for(lambda: is_over(service, until), seconds=BACK_WITHIN, what=f"all to end; {service.log}")
    assert service.stop() == 0
    history = history_of(service, PLANS, until, faults=[(began_at - dt.timedelta(minutes=1), until)])
    assert judge(history) == []
    assert {row.state for row in history.rows if row.schedule == "ticks" and row.fire_time <= until} == {SUCCEEDED}


def allow_files_of(service: Service, size: int) -> None:
    """No process of the service may make a file larger than that, as if the disk was full."""
    for pid in service.processes():
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def be_away_for_longer_than_a_lease(service: Service, admin: Admin) -> None:
    task_id = service.run("slow")
    started = service.wait_for_entry("start", task_id)
    with letting_nobody_in(admin):
        away_at = time.time()
        wait_for(lambda: not is_alive(started.pid), seconds=20, what="the run to stop itself at the end of its lease")
        stopped_after = time.time() - away_at
        rest(1)
    back_at = time.time()
    service.wait_for_state(task_id, SUCCEEDED, seconds=BACK_WITHIN)

    assert stopped_after > 3, "a lease of 6 s that was renewed within 2 s"
    assert [one.outcome for one in service.attempts(task_id)] == [LOST, SUCCEEDED]
    starts = [one.moment for one in service.diary_entries() if one.word == "start"]
    assert [moment for moment in starts if away_at + 1 < moment < back_at] == []
