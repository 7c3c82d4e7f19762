"""The two statements that every task needs, claim and plain end, on one connection that is kept: no session, no ORM.

The statements are those of tasks.py, turned to text once. PostgreSQL gets each, with the attempt that belongs to it, as
one prepared statement that is its own transaction: one round trip. SQLite, which works in this process, gets the same
as two statements in a transaction.

An end is on disk when it is answered. A claim need not be, where nothing is promised that its loss would break: what
takes it back is a crash of PostgreSQL, or of the machine that SQLite is on, within about a second.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, Protocol

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    Dialect,
    Integer,
    PoolProxiedConnection,
    String,
    and_,
    bindparam,
    case,
    func,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.exc import SQLAlchemyError

from scheduler.clock import from_micros
from scheduler.errors import DatabaseAway
from scheduler.store import tasks
from scheduler.store.database import Database, begin_soon, is_away, is_read_only
from scheduler.store.tables import Attempt, Task
from scheduler.store.tasks import Claimed
from scheduler.store.types import sql_now

AT_LEAST_ONCE = "at_least_once"
AT_ONCE = 1.0  # seconds; what took longer to fail would take as long again


class Direct:
    """A door to the Task table for a process that runs task after task; for one thread."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.transactions = 0  # begun so far
        self._connection: PoolProxiedConnection | None = None
        self._statements: _Statements | None = None
        self._was_cut = False

    def prepare(self) -> None:
        """Connect and have the statements planned, so that the first task does not wait for that."""
        self.claim(0, 1, token="", worker="", host="", pid=0, lease=dt.timedelta(0))
        for result, kind in ((None, None), ({}, "json")):
            self.end_plainly(0, 1, "", result, kind, 0)

    def claim(
        self, task_id: int, attempt: int, *, token: str, worker: str, host: str, pid: int, lease: dt.timedelta
    ) -> Claimed | None:
        """As `tasks.claim`, in a transaction of its own; None also where, at the same moment, another got its lane.

        Raises DatabaseAway; the claim may have gone through or not.
        """
        values = tasks.claim_parameters(task_id, attempt, token=token, worker=worker, host=host, pid=pid, lease=lease)
        row = self._do(lambda statements: statements.claim(values))
        return None if row is None else _claimed(row, attempt, token)

    def end_plainly(
        self,
        task_id: int,
        attempt: int,
        token: str,
        result: dict[str, Any] | None,
        result_kind: str | None,
        peak_memory: int,
    ) -> bool:
        """End a task with success where nothing follows from it; False: it is for `outcomes.end_well` to see to.

        Raises DatabaseAway; the end may have gone through or not.
        """
        values = {
            "the_task": task_id,
            "the_attempt": attempt,
            "the_token": token,
            "the_result": None if result is None else json.dumps(result),
            "the_result_kind": result_kind,
            "the_peak_memory": peak_memory,
        }
        return self._do(lambda statements: statements.end(values)) is not None

    @property
    def connection(self) -> Any:
        """The driver's connection; None while there is none."""
        return None if self._connection is None else self._connection.driver_connection

    def close(self) -> None:
        """Let go of the connection; the next call opens another."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.invalidate()
            self._connection = self._statements = None

    def _do(self, call: Callable[[_Statements], Any]) -> Any:
        """Again at once where a connection kept from before turns out to be dead: the server was started anew."""
        was_open, began = self._statements is not None, time.monotonic()
        try:
            return self._try(call)
        except DatabaseAway:
            if not (was_open and self._was_cut and time.monotonic() - began < AT_ONCE):
                raise
            return self._try(call)

    def _try(self, call: Callable[[_Statements], Any]) -> Any:
        dbapi = self._dbapi
        self.transactions += 1
        try:
            return call(self._statements or self._connect())
        except dbapi.IntegrityError:  # the unique index of a lane or of a slot: another was quicker
            return None
        except SQLAlchemyError as error:  # while it connected
            if not is_away(error):
                raise
            raise self.database.away(error) from error
        except dbapi.Error as error:
            self._was_cut = self._is_cut(error)
            self.close()
            if not (self._was_cut or isinstance(error, dbapi.OperationalError) or is_read_only(error)):
                raise
            raise self.database.away(error) from error

    @cached_property
    def _dbapi(self) -> Any:
        return self.database.engine.dialect.loaded_dbapi

    def _is_cut(self, error: Exception) -> bool:
        return self.database.engine.dialect.is_disconnect(error, self.connection, None)  # type: ignore[arg-type]

    def _connect(self) -> _Statements:
        self._connection = self.database.engine.raw_connection()
        connection = self._connection.driver_connection
        if self.database.is_sqlite:
            self._statements = _SqliteStatements(connection, self.database.synchronous)
        else:
            self._statements = _PostgresStatements(connection)
        return self._statements


class _Statements(Protocol):
    def claim(self, values: Mapping[str, Any]) -> Sequence[Any] | None: ...

    def end(self, values: Mapping[str, Any]) -> Sequence[Any] | None: ...


class _SqliteStatements:
    def __init__(self, connection: Any, synchronous: str) -> None:
        self._connection = connection
        self._synchronous = synchronous
        self._claim, self._begin_attempt, self._end, self._end_attempt = texts(True)
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # who claims has a task that waits; see `end`

    def claim(self, values: Mapping[str, Any]) -> Sequence[Any] | None:
        try:
            row = self._claim_soon(values)
        except _MustLast:
            row = self._both(self._claim, self._begin_attempt, values)
        if row is None:
            return None
        told = list(row)
        told[3], told[4] = json.loads(told[3]), json.loads(told[4])  # args and policy
        return told

    def end(self, values: Mapping[str, Any]) -> Sequence[Any] | None:
        # Whoever commits the thousandth page brings them into the file: an end has the time for it.
        self._connection.execute("PRAGMA wal_autocheckpoint = 1000")
        try:
            return self._both(self._end, self._end_attempt, values)
        finally:
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")

    def _claim_soon(self, values: Mapping[str, Any]) -> Sequence[Any] | None:
        """A claim that is on disk with the next commit that is, whoever makes it. Should the machine lose its power
        before, so do all who could have seen the claim: the task runs again, as if it had not begun. Raises _MustLast
        for a task that must not."""
        if self._synchronous not in ("FULL", "EXTRA"):
            return self._both(self._claim, self._begin_attempt, values)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        try:
            return self._both(self._claim, self._begin_attempt, values, check=_refuse_at_most_once)
        finally:
            self._connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _both(
        self,
        first: _Text,
        second: _Text,
        values: Mapping[str, Any],
        check: Callable[[Sequence[Any]], None] = lambda row: None,
    ) -> Sequence[Any] | None:
        """The row of the first statement; the second is executed when there is one. What `check` raises about the row
        rolls it back."""
        connection = self._connection
        if not begin_soon(connection):
            connection.execute("BEGIN IMMEDIATE")
        try:
            rows: list[Sequence[Any]] = connection.execute(first.text, first.values(values)).fetchall()
            if rows:
                check(rows[0])
                connection.execute(second.text, second.values(values))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return rows[0] if rows else None


class _MustLast(Exception):
    """The claim has to be on disk when it is answered."""


def _refuse_at_most_once(row: Sequence[Any]) -> None:
    if json.loads(row[4]).get("delivery") != AT_LEAST_ONCE:
        raise _MustLast


class _PostgresStatements:
    def __init__(self, connection: Any) -> None:
        from psycopg import RawCursor
        from psycopg.types.numeric import Int8Dumper

        connection.autocommit = True
        # One type for all numbers: psycopg's own choice goes by their size, and each choice is another statement.
        connection.adapters.register_dumper(int, Int8Dumper)
        # Planned once, whatever the values: all is found by ids and partial indexes. Of a table that is small today the
        # server would rather read the whole, and go on so when it has grown.
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute("SET enable_seqscan = off")
        self._cursor = RawCursor(connection)
        self._claim, self._end = texts(False)

    def claim(self, values: Mapping[str, Any]) -> Sequence[Any] | None:
        return self._row_of(self._claim, values)

    def end(self, values: Mapping[str, Any]) -> Sequence[Any] | None:
        return self._row_of(self._end, values)

    def _row_of(self, statement: _Text, values: Mapping[str, Any]) -> Sequence[Any] | None:
        row: Sequence[Any] | None = self._cursor.execute(
            statement.text, statement.values(values), prepare=True
        ).fetchone()
        return row


@cache
def texts(is_sqlite: bool) -> tuple[_Text, ...]:
    """The statements as the driver takes them. A process that forks asks for them before: to put them together takes
    some 30 ms."""
    if is_sqlite:
        statements = (tasks.claiming(), tasks.beginning(), tasks.ending_plainly(), tasks.attempt_ending_plainly())
        return tuple(_Text(one, pysqlite.dialect()) for one in statements)
    return tuple(
        _Text(one, psycopg.dialect())  # type: ignore[no-untyped-call]
        for one in (_claim_in_one(), _end_in_one())
    )


def _claim_in_one() -> ClauseElement:
    """The claim and its attempt; the last column sees to it that the commit is not waited for.

    Only where the task may run twice at the same time anyway: when PostgreSQL crashes, the function goes on, and when
    it is back without the claim, another worker may make it.
    """
    claimed = tasks.claiming().returning(Task.lane).cte("claimed")
    may_be_late = and_(
        claimed.c.policy["delivery"].as_string() == AT_LEAST_ONCE,
        claimed.c.lane.is_(None),
        claimed.c.policy["max_running"].as_integer().is_(None),
    )
    begun = (
        insert(Attempt)
        .from_select(
            ["task_id", "number", "token", "worker", "host", "pid", "started_at"],
            select(
                claimed.c.id,
                bindparam("the_attempt", type_=Integer),
                bindparam("the_token", type_=String),
                bindparam("the_worker", type_=String),
                bindparam("the_host", type_=String),
                bindparam("the_pid", type_=Integer),
                sql_now(),
            ),
        )
        .cte("begun")
    )
    hurry = case((may_be_late, func.set_config("synchronous_commit", "off", True)))
    return select(*(claimed.c[column.key] for column in (Task.id, *tasks.TOLD)), hurry).add_cte(begun)


def _end_in_one() -> ClauseElement:
    """The plain end and that of its attempt."""
    ended = tasks.ending_plainly().cte("ended")
    attempt = tasks.attempt_ending_plainly().where(Attempt.task_id.in_(select(ended.c.id))).cte("attempt_ended")
    return select(ended.c.id).add_cte(attempt)


class _Text:
    """A statement as the driver takes it, and how its values stand in a row."""

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self._constants = {
            name: _as_bound(compiled.binds[name], value, dialect)
            for name, value in compiled.params.items()
            if value is not None
        }
        if compiled.positional:
            self._names: list[str] = list(compiled.positiontup)
            self.text = str(compiled)
            return
        self._names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", str(compiled))))
        places = {name: f"${number}" for number, name in enumerate(self._names, start=1)}
        self.text = re.sub(r"%\((\w+)\)s", lambda found: places[found[1]], str(compiled)).replace("%%", "%")

    def values(self, given: Mapping[str, Any]) -> list[Any]:
        constants = self._constants
        return [constants[name] if name in constants else given[name] for name in self._names]


def _as_bound(parameter: BindParameter[Any], value: Any, dialect: Dialect) -> Any:
    """A value of the statement's own as its type wants it in this database."""
    process = parameter.type.dialect_impl(dialect).bind_processor(dialect)
    return value if process is None else process(value)


def _claimed(row: Sequence[Any], attempt: int, token: str) -> Claimed:
    """From the columns id and `tasks.TOLD`."""
    task_id, kind, task, args, policy, key, schedule, schedule_id, fire_time, started_at = row[:10]
    return Claimed(
        task_id,
        attempt,
        token,
        kind,
        task,
        args,
        policy,
        key,
        schedule,
        schedule_id,
        None if fire_time is None else from_micros(fire_time),
        from_micros(started_at),
    )
