"""`scheduler backfill`, as it is typed and as it answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import func, select

from scheduler.store.database import Database
from scheduler.store.tables import Task
from tests.builders import HOUR, a_schedule, a_spec
from tests.cli.conftest import Ask

SPAN = ("--from", "2026-11-02T01:00", "--to", "2026-11-02T03:00")


@pytest.fixture(autouse=True)
def hourly(database: Database) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(name="hourly", every=HOUR))


def tasks_in(database: Database) -> int:
    with database.read() as session:
        return session.execute(select(func.count()).select_from(Task)).scalar_one()


def test_a_dry_run_says_how_many_and_makes_none(ask: Ask, database: Database):
    assert ask("backfill", "hourly", *SPAN, "--dry-run") == (
        0,
        "hourly: 3 fire times, 2026-11-02 01:00:00Z to 2026-11-02 03:00:00Z, would get a task\n",
        "",
    )
    assert tasks_in(database) == 0


def test_it_makes_the_tasks_and_a_second_time_none(ask: Ask, database: Database):
    first = ask("backfill", "hourly", *SPAN)
    second = ask("backfill", "hourly", *SPAN)

    assert first == (
        0,
        "hourly: 3 fire times, 2026-11-02 01:00:00Z to 2026-11-02 03:00:00Z, got a task: 1 to 3\n",
        "warning: no worker of kind scheduled has been seen lately; it waits until one is started\n",
    )
    assert second == (0, "hourly: nothing to do in that span\nleft out: 3 that succeeded or have not ended\n", "")
    assert tasks_in(database) == 3


def test_programs_get_one_document(ask: Ask):
    status, out, _ = ask("backfill", "hourly", "--from", "2026-11-02T01:00", "--to", "2026-11-02T01:30", "--json")
    answer: Any = json.loads(out)

    assert status == 0
    assert answer == {
        "schedule": "hourly",
        "count": 1,
        "first": "2026-11-02T01:00:00Z",
        "last": "2026-11-02T01:00:00Z",
        "left_out": 0,
        "tasks": [{"id": 1, "occurrence": "2026-11-02T01:00:00Z"}],
        "warnings": ["no worker of kind scheduled has been seen lately; it waits until one is started"],
        "dry_run": False,
    }


def test_faults_have_a_status_and_no_traceback(ask: Ask):
    unknown = ask("backfill", "hurly", *SPAN)
    ahead = ask("backfill", "hourly", "--from", "2026-11-02", "--to", "2199-01-01")
    many = ask("backfill", "hourly", "--from", "2020-01-01", "--to", "2026-01-01")
    no_moment = ask("backfill", "hourly", "--from", "yesterday", "--to", "2026-01-01")

    assert unknown == (1, "", 'There is no schedule "hurly"; `scheduler schedules` lists them\n')
    assert ahead == (2, "", "to 2199-01-01T00:00:00Z is not past yet; what is to come fires by itself\n")
    assert many[0] == 1
    assert many[2].endswith("1,000 may be asked for at once: begin with a span to 2020-02-11T15:00:00Z\n")
    assert no_moment[0] == 2
