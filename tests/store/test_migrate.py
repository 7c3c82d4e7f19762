"""Any number of processes bring a database to the version of this code, and what they make is what tables.py says."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, inspect, select, text
from sqlalchemy.exc import IntegrityError

from scheduler.errors import Refused
from scheduler.kill_points import give_orders
from scheduler.store import migrate as migrating
from scheduler.store.database import Database
from scheduler.store.migrate import HEAD, is_current, migrate
from scheduler.store.tables import Base, Task

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scheduler" / "store" / "migrations" / "versions"
PROCESSES = 5


@pytest.fixture
def empty_database(empty_database_url: str) -> Iterator[Database]:
    opened = Database(empty_database_url, synchronous="OFF")
    yield opened
    opened.close()


def test_an_empty_database_is_brought_to_the_newest_version(empty_database: Database) -> None:
    assert not is_current(empty_database)

    did_something = migrate(empty_database)

    assert did_something
    assert is_current(empty_database)


def test_a_second_migration_finds_nothing_to_do(empty_database: Database) -> None:
    migrate(empty_database)

    assert migrate(empty_database) is False


def test_the_scripts_make_what_the_tables_say(database: Database) -> None:
    with database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)

    assert differences == []


def test_the_scripts_make_the_checks_that_the_tables_say(database: Database) -> None:
    # Alembic's comparison passes over CHECK constraints.
    with database.read() as session:
        inspector = inspect(session.connection())
        made = {
            (table, one["name"]): str(one["sqltext"])
            for table in Base.metadata.tables
            for one in inspector.get_check_constraints(table)
        }

    said = {
        (name, str(constraint.name)): str(constraint.sqltext)
        for name, table in Base.metadata.tables.items()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert made.keys() == said.keys()
    if database.is_sqlite:  # PostgreSQL words them anew
        assert made == said


def test_the_scripts_use_no_module_that_may_change_after_them() -> None:
    folder = ROOT / "scheduler" / "store" / "migrations" / "versions"

    assert [path.name for path in folder.glob("*.py") if "import scheduler" in path.read_text()] == []
    assert [path.name for path in folder.glob("*.py") if "from scheduler" in path.read_text()] == []


def test_the_head_is_the_newest_script() -> None:
    scripts = ScriptDirectory(str(ROOT / "scheduler" / "store" / "migrations"))

    assert scripts.get_heads() == [HEAD]


def test_a_newer_database_is_refused(empty_database: Database) -> None:
    migrate(empty_database)
    with empty_database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(Refused) as refused:
        migrate(empty_database)

    assert str(refused.value) == (
        f"The database at {empty_database.place} is of version 9999, newer than this program knows ({HEAD}). "
        "Install the newer program again, or restore the database from before its upgrade."
    )
    assert not is_current(empty_database)


def test_a_migration_that_fails_half_way_leaves_nothing(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = migrating._upgrade

    def upgrade_and_fail(connection: Any) -> None:
        upgrade(connection)
        raise RuntimeError("the power went off")

    monkeypatch.setattr(migrating, "_upgrade", upgrade_and_fail)

    with pytest.raises(RuntimeError, match="the power went off"):
        migrate(empty_database)

    with empty_database.read() as session:
        assert inspect(session.connection()).get_table_names() == []


def test_a_migration_killed_after_any_of_its_scripts_leaves_nothing_and_the_next_does_it(
    empty_database: Database,
) -> None:
    for number in range(1, len(list(SCRIPTS.glob("[0-9]*.py"))) + 1):
        kill_a_migration(empty_database.url, number)
        with empty_database.read() as session:
            assert inspect(session.connection()).get_table_names() == []

    assert migrate(empty_database)
    assert is_current(empty_database)


def test_a_migration_killed_on_its_way_from_an_older_version_leaves_that_as_it_was(empty_database: Database) -> None:
    with empty_database.write_unhurried() as session:
        upgrade(session.connection(), "0001")
        session.execute(text(TASK), A_TASK)

    kill_a_migration(empty_database.url, 2)

    with empty_database.read() as session:
        assert session.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["0001"]
        assert "causes" not in {one["name"] for one in inspect(session.connection()).get_columns("attempt")}
    migrate(empty_database)
    with empty_database.read() as session:
        assert session.scalars(select(Task.id)).all() == [1]


def kill_a_migration(url: str, number: int) -> None:
    """Another process migrates, and is killed after so many scripts."""
    pid = os.fork()
    if pid == 0:
        try:
            give_orders(f"migrate.mid=kill@{number}")
            migrate(Database(url))
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def upgrade(connection: Connection, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS.parent))
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def test_a_script_only_adds_so_that_an_older_program_that_still_runs_goes_on() -> None:
    # A new keeper migrates while old workers are at their tasks. They know nothing of what is new, and miss nothing.
    found = [
        f"{path.name}:{node.lineno}: {ast.unparse(node.func)}"
        for path in sorted(SCRIPTS.glob("[0-9]*.py"))
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.FunctionDef) and function.name != "downgrade"
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and not only_adds(node)
    ]

    assert found == []


def only_adds(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name == "op.add_column":
        column = call.args[1]
        assert isinstance(column, ast.Call)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in column.keywords}
        return options.get("nullable") == "True" or "server_default" in options
    if name == "op.execute":  # what SQLAlchemy has no words for, as it stands
        return isinstance(call.args[0], ast.Constant) and str(call.args[0].value).startswith("CREATE ")
    return not name.startswith(("op.", "batch")) or name in {
        *("op.f", "op.create_table", "op.create_index", "op.drop_index", "op.get_bind")
    }


def test_processes_that_migrate_at_once_all_succeed(empty_database_url: str) -> None:
    code = (
        "import sys; from scheduler.store.database import Database; from scheduler.store.migrate import migrate\n"
        "database = Database(sys.argv[1]); print('ready', flush=True); sys.stdin.read()\n"
        "print(migrate(database)); database.close()"
    )
    migrators = [
        subprocess.Popen(
            [sys.executable, "-c", code, empty_database_url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]

    for migrator in migrators:
        assert migrator.stdout is not None
        assert migrator.stdout.readline() == "ready\n"
    for migrator in migrators:  # all at once: each has waited for the end of its input
        assert migrator.stdin is not None
        migrator.stdin.close()
        migrator.stdin = None
    answers = [migrator.communicate(timeout=60) for migrator in migrators]

    assert [errors for _, errors in answers] == [""] * PROCESSES
    assert sorted(out.strip() for out, _ in answers) == ["False"] * (PROCESSES - 1) + ["True"]


SCHEDULE = (
    "INSERT INTO schedule (id, name, spec, fingerprint, revision_id, in_force_since, planned_until, planned_runs,"
    " failures_in_a_row) VALUES (:id, :name, '{}', '', :revision_id, 0, 0, 0, 0)"
)
REVISION = (
    "INSERT INTO revision (id, accepted_at, author, host, file, text, text_hash, changes, book)"
    " VALUES (1, 0, '', '', '', '', '', '{}', '{}')"
)
TASK = (
    "INSERT INTO task (id, kind, origin, schedule_id, task, args, policy, idempotency_key, fire_time, due_at, queue,"
    " state, attempt, created_at, finished_at, token, lease_until, lane) VALUES (:id, :kind, :origin, :schedule_id,"
    " 'count_words', '{}', '{}', '', :fire_time, 0, 'scheduled', :state, :attempt, 0, :finished_at, :token,"
    " :lease_until, :lane)"
)
ATTEMPT = (
    "INSERT INTO attempt (task_id, number, token, worker, host, pid, started_at, ended_at, outcome)"
    " VALUES (:task_id, :number, '', '', '', 1, 0, :ended_at, :outcome)"
)


A_TASK: dict[str, Any] = {
    "id": 1,
    "kind": "scheduled",
    "origin": "schedule",
    "schedule_id": None,
    "fire_time": None,
    "state": "planned",
    "attempt": 0,
    "finished_at": None,
    "token": None,
    "lease_until": None,
    "lane": None,
}


def insert_task(session: Any, **fields: Any) -> None:
    session.execute(text(TASK), {**A_TASK, **fields})


def insert_attempt(session: Any, **fields: Any) -> None:
    session.execute(text(ATTEMPT), {"task_id": 1, "number": 1, "ended_at": None, "outcome": None, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"state": "done"}, id="no such state"),
        pytest.param({"kind": "huge"}, id="no such kind"),
        pytest.param({"origin": "moon"}, id="no such origin"),
        pytest.param({"attempt": -1}, id="attempts are counted up"),
        pytest.param({"state": "running", "attempt": 1, "lease_until": 1}, id="running without a token"),
        pytest.param({"state": "running", "attempt": 1, "token": "t"}, id="running without a lease"),
        pytest.param({"state": "running", "token": "t", "lease_until": 1}, id="running without an attempt"),
        pytest.param({"state": "failed"}, id="an end without its moment"),
        pytest.param({"finished_at": 1}, id="a moment of an end without the end"),
        pytest.param({"schedule_id": 77}, id="of a schedule that is not there"),
    ],
)
def test_the_database_refuses_a_task_that_cannot_be(database: Database, fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), database.write() as session:
        insert_task(session, **fields)

    with database.write() as session:  # and takes it without the fault
        insert_task(session)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"outcome": "bored", "ended_at": 1}, id="no such outcome"),
        pytest.param({"outcome": "failed"}, id="an outcome without its moment"),
        pytest.param({"ended_at": 1}, id="a moment without its outcome"),
        pytest.param({"task_id": 2}, id="of a task that is not there"),
    ],
)
def test_the_database_refuses_an_attempt_that_cannot_be(database: Database, fields: dict[str, Any]) -> None:
    with database.write() as session:
        insert_task(session)

    with pytest.raises(IntegrityError), database.write() as session:
        insert_attempt(session, **fields)

    with database.write() as session:
        insert_attempt(session)


def test_the_database_refuses_twins(database: Database) -> None:
    with database.write() as session:
        session.execute(text(REVISION))
        session.execute(text(SCHEDULE), {"id": 1, "name": "nightly", "revision_id": 1})
        insert_task(session, id=1, schedule_id=1, fire_time=5)
        insert_task(session, id=2, lane="l", state="running", attempt=1, token="t", lease_until=1)
        insert_attempt(session, task_id=1, number=1)

    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(text(SCHEDULE), {"id": 2, "name": "nightly", "revision_id": 1})
    with pytest.raises(IntegrityError), database.write() as session:
        insert_task(session, id=3, schedule_id=1, fire_time=5)
    with pytest.raises(IntegrityError), database.write() as session:
        insert_task(session, id=3, lane="l", state="running", attempt=1, token="u", lease_until=1)
    with pytest.raises(IntegrityError), database.write() as session:
        insert_attempt(session, task_id=1, number=1)


def test_what_is_no_twin_is_taken(database: Database) -> None:
    with database.write() as session:
        insert_task(session, id=1, lane="l", state="running", attempt=1, token="t", lease_until=1)

        insert_task(session, id=2, lane="l")  # waits
        insert_task(session, id=3, lane="m", state="running", attempt=1, token="u", lease_until=1)
        insert_task(session, id=4, state="running", attempt=1, token="v", lease_until=1)  # without a lane
        insert_task(session, id=5, state="running", attempt=1, token="w", lease_until=1)

        assert session.execute(text("SELECT count(*) FROM task")).scalar() == 5


def test_an_id_is_not_given_twice(database: Database) -> None:
    # Redis may still hold the job of a row that was deleted; with a new row of the same id it would start that one.
    plain = TASK.replace("INSERT INTO task (id, ", "INSERT INTO task (").replace("VALUES (:id, ", "VALUES (")
    given: dict[str, Any] = {
        "kind": "scheduled",
        "origin": "schedule",
        "schedule_id": None,
        "fire_time": None,
        "state": "planned",
    }
    given |= {"attempt": 0, "finished_at": None, "token": None, "lease_until": None, "lane": None}
    with database.write() as session:
        session.execute(text(plain), given)
        first = session.execute(text("SELECT max(id) FROM task")).scalar_one()
        session.execute(text("DELETE FROM task"))

        session.execute(text(plain), given)

        assert session.execute(text("SELECT max(id) FROM task")).scalar_one() > first


def test_attempts_and_logs_go_with_their_task(database: Database) -> None:
    with database.write() as session:
        insert_task(session)
        insert_attempt(session)
        session.execute(text("INSERT INTO log_chunk (task_id, attempt, written_at, lines) VALUES (1, 1, 0, '')"))

        session.execute(text("DELETE FROM task"))

        assert session.execute(text("SELECT count(*) FROM attempt")).scalar() == 0
        assert session.execute(text("SELECT count(*) FROM log_chunk")).scalar() == 0
