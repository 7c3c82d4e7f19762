"""One door to SQL, SQLite or PostgreSQL: `write()` and `read()` give a session, and say it clearly when SQL is away.

SQLite: a write begins with BEGIN IMMEDIATE, so that writers queue up instead of failing half way («database is locked»
on a lock upgrade ignores busy_timeout); WAL, so that readers never wait.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from scheduler.errors import DatabaseAway, SettingFault

SQLITE_WAIT_MS = 15_000  # how long a writer waits for the one before it
CONNECT_SECONDS = 5
# A server that is gone without a word (its host died, a firewall forgot the connection) is noticed within 25 s, whether
# an answer is awaited or a request is not even acknowledged; the system's own patience is 15 minutes to two hours.
POSTGRES_CONNECTION = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds; Linux only, elsewhere ignored
}


class Database:
    """SQL at `url`; `pooled=False` keeps no connection between sessions, for processes that fork."""

    def __init__(self, url: str, *, pooled: bool = True, synchronous: str = "FULL") -> None:
        self.url = url
        self.synchronous = synchronous
        self.engine = self._create_engine(pooled)
        self._reading = self.engine.execution_options(reading=True)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def place(self) -> str:
        """Where it is, for people; without the password."""
        if self.is_sqlite:
            return str(self.engine.url.database)
        return self.engine.url.render_as_string(hide_password=True)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits at the end of the block and rolls back on an exception.

        Raises DatabaseAway when SQL does not answer; the commit may then have happened or not.
        """
        with self._session(self.engine) as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; on SQLite it never waits for a writer."""
        with self._session(self._reading) as session:
            yield session

    def close(self) -> None:
        self.engine.dispose()

    def forget_connections(self) -> None:
        """Drop inherited connections without closing them; the first thing a forked child does."""
        self.engine.dispose(close=False)

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except (DBAPIError, PoolTimeout) as error:
            if not is_away(error):
                raise
            raise DatabaseAway(f"The database at {self.place} does not answer: {_first_line(error)}") from error

    def _create_engine(self, pooled: bool) -> Engine:
        try:
            url = make_url(self.url)
            if url.drivername in ("postgresql", "postgres"):
                url = url.set(drivername="postgresql+psycopg")
            options: dict[str, Any] = {} if pooled else {"poolclass": NullPool}
            if url.get_backend_name() == "sqlite":
                if url.database:
                    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
                engine = create_engine(url, **options)
                event.listen(engine, "connect", self._prepare_sqlite)
                event.listen(engine, "begin", _begin_sqlite)
                return engine
            if url.get_backend_name() != "postgresql":
                raise SettingFault(f'DATABASE_URL is "{url.render_as_string()}"; use sqlite:///… or postgresql://…')
            if pooled:
                options["pool_pre_ping"] = True  # a connection that died while idle is replaced, not reported
            return create_engine(url, connect_args=POSTGRES_CONNECTION, **options)
        except (ArgumentError, NoSuchModuleError) as error:
            raise SettingFault(f"DATABASE_URL cannot be read: {error}. Use sqlite:///… or postgresql://…") from error
        except OSError as error:
            raise SettingFault(f"The folder for the database cannot be made: {error}") from error

    def _prepare_sqlite(self, connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the begin event below says how a transaction begins
        for pragma in (
            f"busy_timeout = {SQLITE_WAIT_MS}",
            "journal_mode = WAL",
            f"synchronous = {self.synchronous}",
            "foreign_keys = ON",
        ):
            _execute_patiently(connection, f"PRAGMA {pragma}")


def _execute_patiently(connection: Any, statement: str) -> None:
    """Execute on a raw SQLite connection; again while another process holds a lock that SQLite itself does not wait
    for. The change to WAL of a new file is such a one."""
    until = time.monotonic() + SQLITE_WAIT_MS / 1000
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Any) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def is_away(error: SQLAlchemyError) -> bool:
    """Whether SQL itself failed to answer or could not go on (down, locked, full, a lost deadlock), as opposed to a
    statement it refused."""
    if isinstance(error, PoolTimeout):
        return True
    return isinstance(error, OperationalError) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
