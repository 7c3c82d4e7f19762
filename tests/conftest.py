"""The servers and databases that tests ask for by name; each starts when the first test needs it.

One Redis and one PostgreSQL a pytest process. What a test finds in them is empty, in whichever order tests run.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import NullPool, create_engine, text

from scheduler.broker.connection import connect
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine import passwords
from scheduler.engine.troubles import forget_what_was_told
from scheduler.store.database import Database
from scheduler.store.migrate import migrate
from scheduler.store.tables import Base
from tests import browser
from tests.servers import PostgresServer, RedisServer, start_postgres, start_redis

# The same examples every time: a failure in CI is found again at home, and no run is red by luck.
settings.register_profile("house", derandomize=True, deadline=None, max_examples=100, database=None)
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(browser, "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` runs two pytest processes: the journeys, which mostly wait but want the machine's attention when they
    do not, stay together in one of them, and everything else goes to whichever is free."""
    for item in items:
        if "journeys" in item.path.parts and item.get_closest_marker("browser") is None:
            item.add_marker(pytest.mark.xdist_group("journeys"))


@pytest.fixture(autouse=True)
def _all_is_news() -> None:
    """What an earlier test has had logged keeps nothing of this one from the log."""
    forget_what_was_told()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Shared: ask for `redis_url` instead, and start one of your own to kill it."""
    with tempfile.TemporaryDirectory(prefix="rq-redis-") as folder, start_redis(Path(folder)) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The url of an empty Redis."""
    with redis_server.client() as client:
        client.flushall()
        client.script_flush()
    return redis_server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="rq-postgres-") as folder, start_postgres(Path(folder)) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The url of a database without tables; a test that asks for it runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'scheduler.sqlite'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create_database()
    yield url
    server.drop(url)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with all tables, to be copied."""
    path = tmp_path_factory.mktemp("template") / "scheduler.sqlite"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    """The url of a PostgreSQL database with all tables; whoever fills them empties them."""
    url = postgres_server.create_database()
    _migrate(url)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The url of a database with all tables and no rows; a test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "scheduler.sqlite"
        shutil.copyfile(request.getfixturevalue("migrated_file"), path)
        yield f"sqlite:///{path}"
        return
    # One database for all tests, emptied after each: a copy of a template takes 30 to 300 ms, this takes 5.
    url = request.getfixturevalue("migrated_postgres")
    yield url
    _empty(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The same, opened."""
    opened = Database(database_url, synchronous="OFF")
    yield opened
    opened.close()


@pytest.fixture
def room(redis_url: str) -> Iterator[WaitingRoom]:
    """An empty waiting room."""
    client = connect(redis_url)
    yield WaitingRoom(client)
    client.close()


@pytest.fixture
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash of a password takes a millisecond instead of a quarter of a second; those of unknown users too."""
    cheap = passwords.Cost(n=2**4, r=8, p=1)
    monkeypatch.setattr(passwords, "COST", cheap)
    monkeypatch.setattr(passwords, "_NOBODYS", passwords._written(cheap, bytes(16), bytes(32)))


def _empty(url: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    others = (
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"  # and wait: it might still write otherwise
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    with engine.begin() as connection:
        connection.execute(text(others))  # whatever a test left open must not hold a lock on what is deleted
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
            if "id" in table.columns:  # ids begin at 1 again, as a test that shows them expects
                connection.execute(
                    text("SELECT setval(pg_get_serial_sequence(:table, 'id'), 1, false)"), {"table": table.name}
                )


def _migrate(url: str) -> None:
    database = Database(url, synchronous="OFF")
    try:
        migrate(database)
        if database.is_sqlite:
            # What is still in the write-ahead log would not be copied along with the file.
            with database.engine.connect() as connection:
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        database.close()
