"""Claim and plain end as one statement each, on a connection that is kept: what they do is what the session's do."""

from __future__ import annotations

import datetime as dt
import itertools
import re
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from scheduler.clock import utc_now
from scheduler.errors import DatabaseAway
from scheduler.rules.states import FAILED, PLANNED, QUEUED, RUNNING, SUCCEEDED
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import database as database_module
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.direct import Direct, texts
from scheduler.store.tables import Attempt, Task
from scheduler.store.tasks import WAITING, AttemptEnd, Claimed
from tests.builders import HOUR, MINUTE, a_schedule, a_spec, a_task
from tests.servers import free_port

WHO: dict[str, Any] = {"worker": "w1", "host": "here", "pid": 7, "lease": MINUTE}


@pytest.fixture
def direct(database: Database) -> Iterator[Direct]:
    door = Direct(database)
    yield door
    door.close()


def committed(database: Database, build: Callable[[Session], Task]) -> Task:
    with database.write() as session:
        return build(session)


def a_row(database: Database, **fields: Any) -> Task:
    return committed(database, lambda session: a_task(session, **fields))


def row_of(database: Database, task: Task) -> Task:
    with database.read() as session:
        return session.get_one(Task, task.id)


def attempts_of(database: Database, task: Task) -> list[Attempt]:
    with database.read() as session:
        return list(session.scalars(select(Attempt).where(Attempt.task_id == task.id).order_by(Attempt.number)))


# --- claim ----------------------------------------------------------------------------------------------------------


def test_a_claim_is_the_same_as_by_session(database: Database, direct: Direct) -> None:
    fields: dict[str, Any] = {
        "state": QUEUED,
        "args": {"source": "a.md", "depth": [1, None]},
        "policy": TaskPolicy(max_running=3),
        "fire_time": utc_now() - MINUTE,
        "idempotency_key": "nightly@1",
    }
    one, other = a_row(database, **fields), a_row(database, **fields)

    claimed = direct.claim(one.id, 1, token="t1", **WHO)
    with database.write() as session:
        by_session = tasks.claim(session, other.id, 1, token="t2", **WHO)

    assert claimed is not None
    assert by_session is not None
    assert claimed == Claimed(
        **{**vars(by_session), "task_id": one.id, "token": "t1", "started_at": claimed.started_at}
    )
    assert abs(claimed.started_at - by_session.started_at) < MINUTE
    first, second = row_of(database, one), row_of(database, other)
    assert (first.state, first.attempt, first.token, first.worker, first.slot) == (RUNNING, 1, "t1", "w1", 1)
    assert (second.state, second.attempt, second.token, second.worker, second.slot) == (RUNNING, 1, "t2", "w1", 2)
    assert first.lease_until is not None
    assert dt.timedelta(seconds=50) < first.lease_until - utc_now() < dt.timedelta(seconds=70)
    (attempt,) = attempts_of(database, one)
    assert (attempt.number, attempt.token, attempt.worker, attempt.host, attempt.pid) == (1, "t1", "w1", "here", 7)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"state": RUNNING}, id="another has it"),
        pytest.param({"state": SUCCEEDED, "attempt": 1}, id="ended"),
        pytest.param({"due_at": utc_now() + HOUR}, id="not due"),
        pytest.param({"start_by": utc_now() - MINUTE}, id="too late"),
        pytest.param({"stop_requested_at": utc_now()}, id="to stop"),
    ],
)
def test_what_is_not_to_be_had_stays_as_it_is(database: Database, direct: Direct, fields: dict[str, Any]) -> None:
    task = a_row(database, **fields)

    assert direct.claim(task.id, 1, token="t1", **WHO) is None

    assert (row_of(database, task).state, row_of(database, task).token) == (task.state, task.token)
    assert "t1" not in {attempt.token for attempt in attempts_of(database, task)}


def test_of_many_that_claim_in_one_lane_at_once_one_wins(database: Database) -> None:
    rows = [a_row(database, lane="group:billing") for _ in range(6)]
    doors = [Direct(database) for _ in rows]

    with ThreadPoolExecutor(len(rows)) as pool:
        claims = list(pool.map(lambda door, row: door.claim(row.id, 1, token=str(row.id), **WHO), doors, rows))

    assert len([claimed for claimed in claims if claimed is not None]) == 1
    assert sorted(row_of(database, row).state for row in rows) == [PLANNED] * 5 + [RUNNING]
    for door in doors:
        door.close()


def test_after_a_refusal_the_connection_goes_on(database: Database, direct: Direct) -> None:
    first, second = (a_row(database, lane="group:billing") for _ in range(2))
    free = a_row(database)

    assert direct.claim(first.id, 1, token="t1", **WHO) is not None
    assert direct.claim(second.id, 1, token="t2", **WHO) is None
    assert direct.claim(free.id, 1, token="t3", **WHO) is not None


# --- plain end ------------------------------------------------------------------------------------------------------


def a_running_task(database: Database, **fields: Any) -> Task:
    def build(session: Session) -> Task:
        schedule = a_schedule(session, a_spec(name="nightly"), failures_in_a_row=fields.pop("failures", 0))
        return a_task(session, **{"state": RUNNING, "token": "mine", "schedule": schedule, **fields})

    return committed(database, build)


@pytest.mark.parametrize(("result", "kind"), [({"words": [1, "ä"]}, "json"), (None, None)], ids=["a result", "none"])
def test_a_plain_end_is_that_of_the_task_and_its_attempt(
    database: Database, direct: Direct, result: dict[str, Any] | None, kind: str | None
) -> None:
    task = a_running_task(database, slot=1, lane="schedule:1")
    bystander = a_row(database, state=RUNNING, token="theirs")

    assert direct.end_plainly(task.id, 1, "mine", result, kind, 4096)

    row, (attempt,) = row_of(database, task), attempts_of(database, task)
    assert (row.state, row.result, row.result_kind, row.error) == (SUCCEEDED, result, kind, None)
    assert (row.lease_until, row.slot) == (None, None)
    assert row.finished_at is not None
    assert (attempt.outcome, attempt.peak_memory, attempt.error_type) == (SUCCEEDED, 4096, None)
    assert attempt.ended_at is not None
    assert row_of(database, bystander).state == RUNNING


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"token": "theirs"}, id="another's token"),
        pytest.param({"attempt": 2}, id="another attempt"),
        pytest.param({"state": FAILED, "attempt": 1}, id="ended"),
        pytest.param({"lease_until": utc_now() - MINUTE}, id="its lease is over"),
        pytest.param({"failures": 2}, id="its schedule recovers by it"),
    ],
)
def test_an_end_that_is_not_plain_changes_nothing(database: Database, direct: Direct, fields: dict[str, Any]) -> None:
    task = a_running_task(database, **fields)

    assert not direct.end_plainly(task.id, 1, "mine", {}, "json", 0)

    assert row_of(database, task).state == task.state
    assert SUCCEEDED not in {attempt.outcome for attempt in attempts_of(database, task)}


def test_an_end_for_which_somebody_waits_is_not_plain(database: Database, direct: Direct) -> None:
    task = a_running_task(database, lane="group:billing")
    a_row(database, lane="group:billing", state=QUEUED, reason_code=WAITING)

    assert not direct.end_plainly(task.id, 1, "mine", {}, "json", 0)

    assert row_of(database, task).state == RUNNING


# --- what they cost -------------------------------------------------------------------------------------------------


def test_each_is_one_transaction(database: Database, direct: Direct) -> None:
    task = a_row(database)
    direct.prepare()
    before = direct.transactions

    direct.claim(task.id, 1, token="t1", **WHO)
    direct.end_plainly(task.id, 1, "t1", {}, "json", 0)

    assert direct.transactions - before == 2


def test_neither_reads_more_of_the_table_than_it_needs(database: Database, direct: Direct) -> None:
    direct.prepare()

    plans = [plan_of(direct, database, statement.text) for statement in texts(database.is_sqlite)]

    assert [re.findall(r"(?:SCAN|Seq Scan on) (?:task|attempt|schedule)\b.*", plan) for plan in plans] == [[]] * len(
        plans
    )


def plan_of(direct: Direct, database: Database, statement: str) -> str:
    """How the database goes about a statement of which it does not know the values."""
    if database.is_sqlite:
        nothing = [None] * statement.count("?")
        return "\n".join(row[3] for row in direct.connection.execute(f"EXPLAIN QUERY PLAN {statement}", nothing))
    return "\n".join(row[0] for row in direct.connection.execute(f"EXPLAIN (GENERIC_PLAN) {statement}"))


def test_what_a_task_costs_does_not_grow_with_those_that_wait(database: Database, direct: Direct) -> None:
    """Planned while the table was empty, which is all that PostgreSQL then goes by."""
    waiting = 600
    direct.prepare()
    with database.write() as session:
        for _ in range(waiting):
            a_task(session, state=QUEUED)
        last = a_task(session, state=QUEUED, lane="last")
        count_now(session)
    read = reads_of(direct)
    before = read()

    claimed = direct.claim(last.id, 1, token="t", **WHO)
    ended = direct.end_plainly(last.id, 1, "t", None, None, 1)

    assert (claimed is not None, ended) == (True, True)
    assert read() - before < waiting / 2


def reads_of(direct: Direct) -> Callable[[], int]:
    """Counts the index entries that PostgreSQL has read, or what SQLite's machine has done, in tens of steps."""
    connection = direct.connection
    if isinstance(connection, sqlite3.Connection):
        tens = itertools.count()
        connection.set_progress_handler(lambda: next(tens) < 0, 10)
        return lambda: next(tens)

    def read() -> int:
        connection.execute("SELECT pg_stat_force_next_flush()")
        (entries,) = connection.execute("SELECT sum(idx_tup_read) FROM pg_stat_user_indexes").fetchone()
        return int(entries)

    return read


def count_now(session: Session) -> None:
    """Have what this transaction reads counted with its end: PostgreSQL would else do it some seconds later."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_stat_force_next_flush()"))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_waits_for_another_writer_of_sqlite_looks_by_itself(
    database: Database, direct: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "SQLITE_WAIT_MS", 0)  # SQLite itself would give up at once
    task = a_row(database)
    direct.prepare()
    looks = 0

    def wait(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            holder.execute("COMMIT")

    holder = sqlite3.connect(database.place, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(database_module.time, "sleep", wait)

    assert direct.claim(task.id, 1, token="t1", **WHO) is not None
    assert looks == 3
    holder.close()


# --- what is on disk when -------------------------------------------------------------------------------------------

ONCE = TaskPolicy(delivery="at_most_once")


@pytest.mark.parametrize(
    ("fields", "is_awaited"),
    [
        pytest.param({}, False, id="plain"),
        pytest.param({"policy": ONCE}, True, id="at most once"),
        pytest.param({"lane": "schedule:1"}, True, id="in a lane"),
        pytest.param({"policy": TaskPolicy(max_running=2)}, True, id="of a kind with a limit"),
    ],
)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_answers_a_claim_before_it_is_on_disk_only_where_that_breaks_nothing(
    database: Database, direct: Direct, fields: dict[str, Any], is_awaited: bool
) -> None:
    task = a_row(database, **fields)
    direct.prepare()
    direct.connection.execute("SET synchronous_commit = on")
    direct.connection.execute("BEGIN")

    assert direct.claim(task.id, 1, token="t1", **WHO) is not None

    (setting,) = direct.connection.execute("SHOW synchronous_commit").fetchone()
    direct.connection.execute("ROLLBACK")
    assert setting == ("on" if is_awaited else "off")
    assert direct.connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


@pytest.mark.parametrize(
    ("policy", "claim"),
    [
        pytest.param(TaskPolicy(), ["NORMAL", "COMMIT", "FULL"], id="at least once"),
        pytest.param(ONCE, ["NORMAL", "ROLLBACK", "FULL", "COMMIT"], id="at most once"),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_answers_a_claim_before_it_is_on_disk_but_not_one_at_most_once(
    database_url: str, database: Database, policy: TaskPolicy, claim: list[str]
) -> None:
    task = a_row(database, policy=policy)
    direct = Direct(Database(database_url))
    direct.prepare()
    said: list[str] = []
    direct.connection.set_trace_callback(lambda statement: said.append(statement.split()[-1]))

    assert direct.claim(task.id, 1, token="t1", **WHO) is not None
    assert direct.end_plainly(task.id, 1, "t1", None, None, 0)

    assert [word for word in said if word in ("NORMAL", "FULL", "COMMIT", "ROLLBACK")] == [*claim, "COMMIT"]
    assert direct.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    direct.close()


def well(direct: Direct) -> None:
    pass


def with_its_attempt_taken(direct: Direct) -> None:
    """As a race for a lane ends."""
    direct.connection.execute(
        "INSERT INTO attempt (task_id, number, token, worker, host, pid, started_at) SELECT id, 1, 't', 'w', '', 1, 1"
        " FROM task WHERE state = 'queued'"
    )


def without_room(direct: Direct) -> None:
    direct.connection.execute("PRAGMA max_page_count = 1")


def interrupted(direct: Direct) -> None:
    once = iter([True])
    direct.connection.set_progress_handler(lambda: next(once, False), 100)


@pytest.mark.parametrize(
    ("hobble", "fields", "ends"),
    [
        pytest.param(well, {}, "claimed", id="claimed"),
        pytest.param(well, {"policy": ONCE}, "claimed", id="claimed at most once"),
        pytest.param(well, {"due_at": utc_now() + HOUR}, "refused", id="not due"),
        pytest.param(with_its_attempt_taken, {}, "refused", id="refused by an index"),
        pytest.param(without_room, {}, "away", id="no room"),
        pytest.param(interrupted, {}, "away", id="interrupted"),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_whatever_came_of_a_claim_sqlite_waits_for_the_disk_at_an_end(
    database_url: str, database: Database, hobble: Callable[[Direct], None], fields: dict[str, Any], ends: str
) -> None:
    task = committed(database, lambda session: a_task(session, state=QUEUED, **fields))
    one, other = (a_row(database, state=RUNNING, token="mine") for _ in range(2))
    waited_for = levels_of_commits(real := Database(database_url))
    direct = Direct(real)
    direct.prepare()

    hobble(direct)
    assert what_comes_of_a_claim(direct, task.id) == ends
    waited_for.clear()
    assert direct.end_plainly(one.id, 1, "mine", None, None, 0)
    with real.write() as session:
        assert tasks.end(session, other.id, 1, "mine", SUCCEEDED, AttemptEnd(SUCCEEDED))

    assert waited_for == ["wal FULL", "wal FULL"]
    direct.close()
    real.close()


def what_comes_of_a_claim(direct: Direct, task_id: int) -> str:
    try:
        claimed = direct.claim(task_id, 1, token="t1", **{**WHO, "worker": "w" * 100_000})
    except DatabaseAway:
        return "away"
    return "refused" if claimed is None else "claimed"


def levels_of_commits(database: Database) -> list[str]:
    """Journal and `synchronous` as they stand at each COMMIT, on any connection that is opened from now on."""
    levels: list[str] = []

    def listen(connection: sqlite3.Connection, record: Any) -> None:
        stands: dict[str, str] = {}

        def hear(statement: str) -> None:
            pragma = re.fullmatch(r"PRAGMA (journal_mode|synchronous) = (\w+)", statement)
            if pragma:
                stands[pragma[1]] = pragma[2]
            elif statement == "COMMIT":
                levels.append(f"{stands['journal_mode'].lower()} {stands['synchronous']}")

        connection.set_trace_callback(hear)

    event.listen(database.engine, "connect", listen, insert=True)  # before the one that prepares it
    return levels


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_on_sqlite_an_end_brings_what_was_written_into_the_file_and_a_claim_does_not(
    database_url: str, database: Database
) -> None:
    direct = Direct(Database(database_url))
    ended = a_running_task(database)
    claimed = a_row(database, args={"text": "x" * 5_000_000})  # the claim writes its pages, over a thousand, anew
    direct.prepare()
    file = Path(database.place)
    before = file.stat().st_size

    assert direct.claim(claimed.id, 1, token="t1", **WHO) is not None
    after_claim = file.stat().st_size
    assert direct.end_plainly(ended.id, 1, "mine", None, None, 0)

    assert after_claim == before
    assert file.stat().st_size > before + 4_500_000
    direct.close()


# --- faults ---------------------------------------------------------------------------------------------------------


def test_a_connection_that_the_server_has_cut_is_replaced(database: Database, direct: Direct) -> None:
    task = a_row(database)
    direct.prepare()
    if database.is_sqlite:
        assert direct.connection is not None
        direct.connection.close()
    else:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        with database.write() as session:
            session.execute(text(f"{others} AND pid <> pg_backend_pid() AND backend_type = 'client backend'"))

    assert direct.claim(task.id, 1, token="t1", **WHO) is not None


def test_a_database_that_does_not_answer_is_away() -> None:
    port = free_port()
    door = Direct(Database(f"postgresql://postgres@127.0.0.1:{port}/nothing"))

    with pytest.raises(DatabaseAway, match=f"does not answer: connection failed: .*127.0.0.1.*{port}"):
        door.claim(1, 1, token="t", **WHO)
