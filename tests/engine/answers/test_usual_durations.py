"""How long runs usually take, looked up where a database is; nowhere else, and nothing is made for it."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from scheduler.engine.answers.usual_durations import usual_durations
from scheduler.rules.states import FAILED, SUCCEEDED
from scheduler.settings import Settings, load_settings
from scheduler.store.database import Database
from scheduler.store.tables import Schedule, Task
from tests.builders import HOUR, MINUTE, a_schedule, a_spec, a_task, at

DAY = 24 * HOUR


@pytest.fixture
def settings(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DATABASE_URL", database_url)
    return load_settings({})


def runs(session: Session, schedule: Schedule, *minutes: float, state: str = SUCCEEDED, **fields: Any) -> None:
    """One a day, after all that there are."""
    days = session.execute(select(func.count()).select_from(Task)).scalar_one()
    for day, number in enumerate(minutes, start=days):
        start = at("02:00") + day * DAY
        ended = start + number * MINUTE
        told = {"state": state, "attempt": 1, "started_at": start, "finished_at": ended, **fields}
        a_task(session, schedule=schedule, **told)


def test_the_median_of_the_last_twenty_runs_that_succeeded_is_usual(database: Database, settings: Settings) -> None:
    with database.write() as session:
        sync = a_schedule(session, a_spec(name="sync"))
        runs(session, sync, *[90] * 30, *[18] * 11, *[5] * 9)
        runs(session, sync, *[1] * 30, state=FAILED)
        runs(session, sync, *[300] * 20, attempt=2)
        runs(session, a_schedule(session, a_spec(name="quick")), *[1] * 5)

    assert usual_durations(settings) == {"sync": 18 * MINUTE, "quick": MINUTE}


def test_few_runs_are_no_habit_and_retired_schedules_have_none(database: Database, settings: Settings) -> None:
    with database.write() as session:
        runs(session, a_schedule(session, a_spec(name="young")), *[18] * 4)
        runs(session, a_schedule(session, a_spec(name="old"), retired_at=at("03:00")), *[18] * 5)

    assert usual_durations(settings) == {}


# --- where there is no database -------------------------------------------------------------------------------------


def test_no_database_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    settings = load_settings({"data": tmp_path / "var"})

    assert usual_durations(settings) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no database at all, but a text that somebody put here"])
def test_a_file_that_is_no_database_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    file = tmp_path / "scheduler.sqlite"
    file.write_bytes(content)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{file}")

    assert usual_durations(load_settings({})) == {}
    assert file.read_bytes() == content


def test_a_database_of_another_version_is_not_brought_to_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scheduler.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{file}")

    assert usual_durations(load_settings({})) == {}
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("alembic_version",)]


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/none", "mysql://somewhere/none", "nonsense"])
def test_a_database_that_does_not_answer_is_passed_over(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)

    assert usual_durations(load_settings({})) == {}


def test_a_long_look_is_given_up(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    if database.is_sqlite:
        return  # there each schedule's runs are read by the index, whatever is known of the table

    def slowly(session: Session, most: int) -> list[tuple[str, dt.timedelta]]:
        session.execute(text("SELECT pg_sleep(30)"))
        return []

    monkeypatch.setattr("scheduler.store.schedules.recent_runs", slowly)
    monkeypatch.setattr("scheduler.engine.answers.usual_durations.MOST_MS", 100)

    assert usual_durations(settings) == {}
