"""What a connection to the database brings along, and how long it waits for what."""

from __future__ import annotations

import datetime as dt
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event, make_url, text, update

from scheduler.errors import DatabaseAway
from scheduler.store import database as database_module
from scheduler.store.database import Database, Limits
from scheduler.store.direct import Direct
from scheduler.store.tables import Task
from tests.builders import a_task
from tests.proxy import PASS, SWALLOW, Proxy
from tests.servers import PostgresServer

SHORT = Limits(lock=0.5, statement=1, idle=1, connect=2, answer=1.5)  # 2 s: libpq takes 1 for 2
INSERT_PART = "INSERT INTO part VALUES ('b', 'b', 'b', 1, 1, 1, '{}')"
NOBODY: dict[str, Any] = {"token": "t", "worker": "w", "host": "", "pid": 1, "lease": dt.timedelta(seconds=60)}
SOON = 10.0  # seconds; without a limit each of these would wait for ever


@contextmanager
def opened(url: str, *, limits: Limits = SHORT, pooled: bool = True) -> Iterator[Database]:
    database = Database(url, pooled=pooled, limits=limits)
    yield database
    database.close()


def ask(database: Database, statement: str) -> None:
    with database.write() as session:
        session.execute(text(statement))


@contextmanager
def ends_soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("pooled", [True, False])
def test_a_connection_to_postgresql_notices_a_way_that_swallows_everything(
    postgres_server: PostgresServer, pooled: bool
) -> None:
    # Without these a connection whose other side is gone without a word waits for a quarter of an hour, or two hours.
    database = Database(postgres_server.url, pooled=pooled)
    try:
        with database.engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            parameters = driver.info.get_parameters()
    finally:
        database.close()

    silent_after = int(parameters["keepalives_idle"]) + int(parameters["keepalives_interval"]) * int(
        parameters["keepalives_count"]
    )
    assert silent_after <= 30  # seconds
    assert int(parameters["tcp_user_timeout"]) <= 30_000
    assert int(parameters["connect_timeout"]) <= 5


# --- a server that takes all and says nothing -----------------------------------------------------------------------


@pytest.fixture
def proxy(migrated_postgres: str) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", make_url(migrated_postgres).port or 5432) as proxy:
        yield proxy


def through(proxy: Proxy, url: str) -> str:
    return make_url(url).set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)


@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "not pooled"])
@pytest.mark.parametrize("after", ["a statement", "nothing"])
def test_a_session_with_a_mute_server_ends(migrated_postgres: str, proxy: Proxy, pooled: bool, after: str) -> None:
    with opened(through(proxy, migrated_postgres), pooled=pooled) as database:
        with database.read() as session:
            session.execute(text("SELECT 1"))

        def ask_twice() -> None:
            with database.write() as session:
                if after == "a statement":
                    session.execute(text("SELECT 1"))
                proxy.set(SWALLOW)
                session.execute(text("SELECT 2"))

        with ends_soon(), pytest.raises(DatabaseAway):
            ask_twice()

        proxy.set(PASS)
        with database.read() as session:
            assert session.execute(text("SELECT 3")).scalar() == 3
    assert proxy.faults("swallow")


def test_a_commit_to_a_mute_server_ends(migrated_postgres: str, proxy: Proxy) -> None:
    def ask_and_commit(database: Database) -> None:
        with database.write() as session:
            session.execute(text("SELECT 1"))
            proxy.set(SWALLOW)

    with opened(through(proxy, migrated_postgres)) as database, ends_soon(), pytest.raises(DatabaseAway) as away:
        ask_and_commit(database)

    assert str(away.value).endswith("does not answer: no answer within 1.5 s")


def test_a_mute_server_is_not_connected_to_for_long(migrated_postgres: str, proxy: Proxy) -> None:
    proxy.set(SWALLOW)

    with opened(through(proxy, migrated_postgres)) as database, ends_soon(), pytest.raises(DatabaseAway):
        ask(database, "SELECT 1")


# --- a server that speaks -------------------------------------------------------------------------------------------


def test_who_waits_for_a_lock_gives_up(migrated_postgres: str) -> None:
    with opened(migrated_postgres) as database, database.write() as holder:
        holder.execute(text("SELECT pg_advisory_xact_lock(1)"))

        with ends_soon(), pytest.raises(DatabaseAway) as away:
            ask(database, "SELECT pg_advisory_xact_lock(1)")

    assert str(away.value).endswith("does not answer: canceling statement due to lock timeout")


def test_a_statement_that_takes_too_long_is_given_up(migrated_postgres: str) -> None:
    with opened(migrated_postgres) as database, ends_soon(), pytest.raises(DatabaseAway) as away:
        ask(database, "SELECT pg_sleep(10)")

    assert str(away.value).endswith("does not answer: canceling statement due to statement timeout")


def test_a_transaction_whose_owner_is_frozen_lets_go_of_its_locks(migrated_postgres: str) -> None:
    lock = "SELECT pg_advisory_xact_lock(1)"

    def freeze_with_a_lock(frozen: Database, other: Database) -> None:
        with frozen.write() as session:
            session.execute(text(lock))
            ask(other, lock)
            session.execute(text("SELECT 1"))

    with (
        opened(migrated_postgres) as frozen,
        opened(migrated_postgres, limits=Limits(lock=8)) as other,
        ends_soon(),
        pytest.raises(DatabaseAway) as away,
    ):
        freeze_with_a_lock(frozen, other)

    assert "idle-in-transaction timeout" in str(away.value)


def test_of_two_transactions_in_each_others_way_one_goes_on(migrated_postgres: str) -> None:
    # Both are tried again by whoever began them, as when the database is away: a deadlock is nobody's fault.
    with opened(migrated_postgres, limits=Limits()) as database:
        with database.write() as session:
            ids = [a_task(session).id for _ in range(2)]
        both_have_one = threading.Barrier(2)

        def touch(order: list[int]) -> str:
            try:
                with database.write() as session:
                    session.execute(update(Task).where(Task.id == order[0]).values(worker="w"))
                    both_have_one.wait()
                    session.execute(update(Task).where(Task.id == order[1]).values(worker="w"))
            except DatabaseAway as error:
                return str(error)
            return "committed"

        with ThreadPoolExecutor(2) as pool:
            ends = sorted(pool.map(touch, [ids, ids[::-1]]), reverse=True)
        with database.write() as session:
            session.execute(delete(Task))

    assert ends[0] == "committed"
    assert ends[1].endswith("does not answer: deadlock detected")


def test_a_transaction_that_cannot_be_put_in_order_is_as_if_sql_was_away(migrated_postgres: str) -> None:
    strict = make_url(migrated_postgres).update_query_dict({"options": "-c default_transaction_isolation=serializable"})

    def change_what_another_changed(database: Database) -> None:
        with database.write() as session:
            session.execute(text("SELECT count(*) FROM part"))
            ask(database, "UPDATE part SET pid = 2")
            session.execute(text("UPDATE part SET pid = 3"))

    with opened(strict.render_as_string(hide_password=False)) as database:
        ask(database, INSERT_PART)
        with pytest.raises(DatabaseAway) as away:
            change_what_another_changed(database)
        ask(database, "DELETE FROM part")

    assert "could not serialize access" in str(away.value)


def test_a_migration_may_take_its_time(migrated_postgres: str) -> None:
    with opened(migrated_postgres) as database:
        with database.write_unhurried() as session:
            session.execute(text("SELECT pg_sleep(1.2)"))

        with pytest.raises(DatabaseAway):
            ask(database, "SELECT pg_sleep(1.2)")


def test_a_server_that_takes_no_writes_is_as_if_it_was_away_until_it_does(migrated_postgres: str) -> None:
    # So a primary that became a standby answers. Its connections are dropped: the next may find the new primary.
    name = make_url(migrated_postgres).database
    with opened(migrated_postgres) as database, opened(migrated_postgres) as admin:
        ask(admin, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            for written in (partial(ask, database, INSERT_PART), partial(Direct(database).claim, 1, 1, **NOBODY)):
                with pytest.raises(DatabaseAway) as away:
                    written()
                assert "in a read-only transaction" in str(away.value)
        finally:
            ask(admin, f"ALTER DATABASE {name} RESET default_transaction_read_only")

        ask(database, INSERT_PART)
        ask(database, "DELETE FROM part")


def test_a_pool_without_a_free_connection_is_as_if_sql_was_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.2)
    with ExitStack() as held:
        for _ in range(15):  # five, and ten more when it is crowded
            held.enter_context(database.engine.connect())

        with ends_soon(), pytest.raises(DatabaseAway) as away:
            ask(database, "SELECT 1")

    assert "QueuePool limit of size 5 overflow 10 reached" in str(away.value)
    ask(database, "SELECT 1")


# --- SQLite ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["by a session", "directly"])
@pytest.mark.parametrize(
    ("pragma", "said"),
    [
        pytest.param("max_page_count = 1", "database or disk is full", id="full"),
        pytest.param("query_only = ON", "attempt to write a readonly database", id="read-only"),
    ],
)
def test_a_file_that_takes_no_writes_is_as_if_sql_was_away_until_it_does(
    migrated_file: Path, tmp_path: Path, pragma: str, said: str, written: str
) -> None:
    shutil.copyfile(migrated_file, tmp_path / "scheduler.db")
    url = f"sqlite:///{tmp_path / 'scheduler.db'}"
    with opened(url) as database:
        with database.write() as session:
            task_id = a_task(session, args={"text": "x" * 20_000}).id
        hobbled = {"on": True}
        event.listen(database.engine, "connect", lambda raw, record: hobbled["on"] and raw.execute(f"PRAGMA {pragma}"))
        database.engine.dispose()
        direct = Direct(database)

        def write() -> None:
            if written == "by a session":
                with database.write() as session:
                    session.execute(update(Task).values(args={"text": "y" * 100_000}))
            else:
                direct.claim(task_id, 1, **{**NOBODY, "worker": "w" * 100_000})

        with pytest.raises(DatabaseAway) as away:
            write()
        assert str(away.value) == f"The database at {tmp_path / 'scheduler.db'} does not answer: {said}"

        hobbled["on"] = False
        direct.close()
        database.engine.dispose()
        write()
        direct.close()


def test_a_file_that_another_holds_is_as_if_sql_was_away(
    migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "SQLITE_WAIT_MS", 300)
    shutil.copyfile(migrated_file, tmp_path / "scheduler.db")
    url = f"sqlite:///{tmp_path / 'scheduler.db'}"
    with opened(url) as database, opened(url) as other:
        with other.write() as holder:
            holder.execute(text("SELECT 1"))  # a session begins with its first statement
            with ends_soon(), pytest.raises(DatabaseAway) as away:
                ask(database, "UPDATE part SET pid = 2")
        assert str(away.value).endswith("does not answer: database is locked")

        ask(database, "UPDATE part SET pid = 2")


def test_what_is_committed_is_on_the_disk() -> None:
    # SQLite waits for the disk at each commit; the settings may say otherwise.
    with opened("sqlite://") as database, database.read() as session:
        assert session.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL


def test_limits_that_the_address_names_count(migrated_postgres: str) -> None:
    url = make_url(migrated_postgres).update_query_dict({"options": "-c statement_timeout=1234"})

    with opened(url.render_as_string(hide_password=False)) as database, database.read() as session:
        assert session.execute(text("SHOW statement_timeout")).scalar() == "1234ms"
        assert session.execute(text("SHOW lock_timeout")).scalar() == "500ms"
