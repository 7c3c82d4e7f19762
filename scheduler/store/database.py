"""One door to SQL, SQLite or PostgreSQL: `write()` and `read()` give a session, and say it clearly when SQL is away.

SQLite: a write begins with BEGIN IMMEDIATE, so that writers queue up instead of failing half way («database is locked»
on a lock upgrade ignores busy_timeout); WAL, so that readers never wait.

PostgreSQL: nothing waits without end, whether for a lock, an answer, or a server that takes connections and is mute.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import URL, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from scheduler.errors import DatabaseAway, SettingFault

if TYPE_CHECKING:
    from scheduler.store.postgres import PatientConnection

SQLITE_WAIT_MS = 15_000  # how long a writer waits for the one before it
SQLITE_SOON = 5.0  # seconds of that in which it looks often
SQLITE_LOOKS = 0.0003, 0.002  # seconds between two looks, by luck: else two that wait would look in step
READ_ONLY = "25006"  # read_only_sql_transaction


@dataclass(frozen=True)
class Limits:
    """How many seconds PostgreSQL may take for what; the first two are asked of the server itself."""

    lock: float = 20
    statement: float = 30
    idle: float = 60  # of a transaction that asks nothing: who began it is frozen, and others wait for its locks
    connect: int = 5
    answer: float = 35  # longer than the server's own limits: a server that still speaks says it better

    @property
    def options(self) -> str:
        """As libpq takes them, along with the connection: no statement of ours is needed."""
        limits = {
            "lock_timeout": self.lock,
            "statement_timeout": self.statement,
            "idle_in_transaction_session_timeout": self.idle,
        }
        return " ".join(f"-c {name}={round(seconds * 1000)}" for name, seconds in limits.items())


class Database:
    """SQL at `url`; `pooled=False` keeps no connection between sessions, for processes that fork."""

    def __init__(
        self, url: str, *, pooled: bool = True, synchronous: str = "FULL", limits: Limits | None = None
    ) -> None:
        self.url = url
        self.synchronous = synchronous
        self.limits = limits or Limits()
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
    def write_unhurried(self) -> Iterator[Session]:
        """The same without limits of time: for a migration, which may rewrite whole tables."""
        with self._session(self.engine) as session:
            if self.is_sqlite:
                yield session
                return
            for limit in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
                session.execute(text(f"SET LOCAL {limit} = 0"))
            connection = cast("PatientConnection", session.connection().connection.driver_connection)
            connection.answers_within = None
            yield session
            connection.answers_within = self.limits.answer

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; on SQLite it never waits for a writer."""
        with self._session(self._reading) as session:
            yield session

    def checkpoint(self) -> None:
        """On SQLite bring what was written lately into the file itself, and keep no writer waiting. Who writes much
        does it now and then: else it falls to whoever commits the thousandth page, a worker at its claim perhaps."""
        if self.is_sqlite:
            raw = self.engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                raw.close()

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
            if is_read_only(error):
                self.engine.dispose()  # after a failover the next connection may find the new primary
            raise self.away(error) from error

    def away(self, error: BaseException) -> DatabaseAway:
        """What to raise when SQL did not answer."""
        return DatabaseAway(f"The database at {self.place} does not answer: {_first_line(error)}")

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
            engine = create_engine(url, connect_args=self._connect_args(url), **options)
            event.listen(engine, "do_connect", self._connect)
            return engine
        except (ArgumentError, NoSuchModuleError) as error:
            raise SettingFault(f"DATABASE_URL cannot be read: {error}. Use sqlite:///… or postgresql://…") from error
        except OSError as error:
            raise SettingFault(f"The folder for the database cannot be made: {error}") from error

    def _connect_args(self, url: URL) -> dict[str, Any]:
        from scheduler.store.postgres import POSTGRES_CONNECTION

        given = url.query.get("options", "")
        given = given if isinstance(given, str) else " ".join(given)  # after ours: what the URL says counts
        options = f"{self.limits.options} {given}".strip()
        return {**POSTGRES_CONNECTION, "connect_timeout": self.limits.connect, "options": options}

    def _connect(self, dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> PatientConnection:
        from scheduler.store.postgres import PatientConnection  # here: psycopg takes 9 MB, which SQLite can do without

        connection = PatientConnection.connect(*arguments, **options)
        connection.answers_within = self.limits.answer
        return connection

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
    if connection.get_execution_options().get("reading", False):
        connection.exec_driver_sql("BEGIN")
    elif not begin_soon(connection.connection.driver_connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def begin_soon(connection: sqlite3.Connection) -> bool:
    """Begin to write as soon as the writer before has ended; False when it has not within some seconds.

    SQLite's own wait looks less and less often, every 100 ms in the end, while a write of ours takes one or two.
    """
    until = time.monotonic() + SQLITE_SOON
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return True
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    return False
            time.sleep(random.uniform(*SQLITE_LOOKS))
    finally:
        connection.execute(f"PRAGMA busy_timeout = {SQLITE_WAIT_MS}")


def is_away(error: SQLAlchemyError) -> bool:
    """Whether SQL itself failed to answer or could not go on (down, locked, full, a lost deadlock, read-only), as
    opposed to a statement it refused."""
    if isinstance(error, PoolTimeout | OperationalError) or is_read_only(error):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_read_only(error: BaseException) -> bool:
    """Whether it is a PostgreSQL that takes no writes: a standby, since a failover that moved on, or made so."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) == READ_ONLY


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
