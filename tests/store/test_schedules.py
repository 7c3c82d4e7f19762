"""Which schedules are planned next, and their marks and counts."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from sqlalchemy.orm import Session

from scheduler.clock import utc_now
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.schedules import Planned, pause_fields
from scheduler.store.tables import PLANNED_FOR_EVER
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, at

NOW = at("02:00")
SECOND = dt.timedelta(seconds=1)


def pause(until: dt.datetime | None = None) -> dict[str, Any]:
    return pause_fields("jana", "", at("01:00"), until)


def to_plan(session: Session, limit: int = 10) -> list[str]:
    return [one.name for one in schedules.to_plan(session, NOW + MINUTE, NOW, limit)]


@pytest.mark.parametrize(
    ("fields", "is_planned"),
    [
        pytest.param({"planned_until": at("02:00:59")}, True, id="behind"),
        pytest.param({"planned_until": at("02:01")}, False, id="far enough"),
        pytest.param({"planned_until": PLANNED_FOR_EVER}, False, id="without a fire time left"),
        pytest.param({"planned_until": at("01:00"), "retired_at": at("01:30")}, False, id="retired"),
        pytest.param({"planned_until": at("01:00"), "parked": "its function is gone"}, False, id="parked"),
        pytest.param({"planned_until": at("01:59:29"), "pause": pause()}, True, id="paused, half a minute behind"),
        pytest.param({"planned_until": at("01:59:31"), "pause": pause()}, False, id="paused, a moment behind"),
        pytest.param({"planned_until": at("01:59:31"), "file_pause": pause()}, False, id="paused by the file"),
        pytest.param(
            {"planned_until": at("01:59:31"), "pause": pause(at("02:00"))}, True, id="its pause has just ended"
        ),
        pytest.param(
            {"planned_until": at("01:59:31"), "file_pause": pause(at("02:00"))}, True, id="the file's has just ended"
        ),
        pytest.param(
            {"planned_until": at("01:59:31"), "pause": pause(at("02:00:01"))}, False, id="its pause ends in a moment"
        ),
    ],
)
def test_a_schedule_that_is_behind_is_planned(database: Database, fields: dict[str, Any], is_planned: bool) -> None:
    with database.write() as session:
        a_schedule(session, **fields)

        assert to_plan(session) == (["nightly"] if is_planned else [])


def test_the_most_behind_comes_first(database: Database) -> None:
    with database.write() as session:
        revision = a_revision(session).id
        for name, planned_until in (("b", "01:50"), ("c", "01:40"), ("a", "01:59")):
            a_schedule(session, a_spec(name=name), planned_until=at(planned_until), revision_id=revision)

        assert to_plan(session, limit=2) == ["c", "b"]


@pytest.mark.parametrize(
    ("planned", "mark", "runs"),
    [
        pytest.param("02:05", "02:05", 7, id="on"),
        pytest.param("01:55", "02:00", 4, id="never back"),
        pytest.param("02:00", "02:00", 4, id="the same twice counts once"),
    ],
)
def test_a_mark_moves_on_only(database: Database, planned: str, mark: str, runs: int) -> None:
    with database.write() as session:
        schedule = a_schedule(session, planned_until=at("02:00"), planned_runs=4)

        schedules.move_planned_until(session, [Planned(schedule.id, at(planned), 3)])

        session.refresh(schedule)
        assert schedule.planned_until == at(mark)
        assert schedule.planned_runs == runs


def test_failures_are_counted_until_one_succeeds(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session)

        counted = [schedules.count_failure(session, schedule.id) for _ in range(3)]
        schedules.clear_failures(session, schedule.id)

        assert counted == [1, 2, 3]
        assert schedules.count_failure(session, schedule.id) == 1


def test_retired_schedules_are_shown_when_asked_for(database: Database) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(name="old"), retired_at=NOW)
        a_schedule(session, a_spec(name="new"))

        assert [one.name for one in schedules.all_schedules(session)] == ["new"]
        assert [one.name for one in schedules.all_schedules(session, retired=True)] == ["new", "old"]


def test_a_pause_is_kept_in_utc() -> None:
    berlin = dt.timezone(HOUR)

    kept = pause_fields("jana", "why", at("02:00").astimezone(berlin), at("03:00").astimezone(berlin))

    assert kept == {
        "by": "jana",
        "why": "why",
        "since": "2026-11-24T02:00:00+00:00",
        "until": "2026-11-24T03:00:00+00:00",
    }


def test_the_newest_revision_is_found(database: Database) -> None:
    with database.write() as session:
        assert schedules.latest_revision(session) is None

        a_revision(session, author="jana")
        a_revision(session, author="otto")

        newest = schedules.latest_revision(session)
        assert newest is not None
        assert newest.author == "otto"


def test_two_planners_share_the_schedules(database: Database) -> None:
    with database.write() as session:
        revision = a_revision(session).id
        for number in range(4):
            spec = a_spec(name=f"s{number}")
            a_schedule(session, spec, planned_until=at("01:00") + number * SECOND, revision_id=revision)

    with database.write() as session:
        mine = to_plan(session, limit=2)
        if database.is_sqlite:  # there the second waits for the first to commit
            theirs: list[str] = []
        else:
            with database.write() as other:
                theirs = to_plan(other)

    assert mine == ["s0", "s1"]
    assert theirs == ([] if database.is_sqlite else ["s2", "s3"])


def test_the_databases_clock_is_asked(database: Database) -> None:
    with database.read() as session:
        assert abs(schedules.now(session) - utc_now()) < SECOND
