"""A schedule whose task function is gone is parked with the reason, and goes on once it is back. It is noon."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import select

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.file.apply import apply
from scheduler.engine.file.parking import MISSING, Parked, Parking
from scheduler.engine.planner import Planner
from scheduler.rules.states import PLANNED, QUEUED, RETRYING, SKIPPED
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.tables import PLANNED_FOR_EVER, Gap, Schedule, Task
from scheduler.task_functions import Catalogue, TaskFunction
from tests.builders import HOUR, MINUTE, a_book_of, a_schedule, a_spec, a_task, at

NOON = at("12:00")


def count_words() -> None:
    """A task function."""


WHOLE = Catalogue({"count_words": TaskFunction("count_words", count_words)})
EMPTY = Catalogue()
BROKEN = Catalogue({}, {"tasks.words": "ImportError: no module named regex"})
GONE = 'task function "count_words" is not to be had: no module of the task packages has it'


class FakeClock:
    now = NOON


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(schedules, "now", lambda session: clock.now)
    return clock


def schedule_of(database: Database) -> Schedule:
    with database.read() as session:
        return session.scalars(select(Schedule)).one()


def tasks_of(database: Database) -> list[tuple[str, str, str | None]]:
    """Fire time, state and reason code of each."""
    with database.read() as session:
        rows = session.scalars(select(Task).order_by(Task.fire_time)).all()
    return [(f"{row.fire_time:%H:%M}", row.state, row.reason_code) for row in rows]


def an_hourly_one(database: Database, **fields: object) -> None:
    """A schedule that fires each half hour, planned until `planned_until` (noon)."""
    with database.write() as session:
        a_schedule(session, a_spec(every=30 * MINUTE), **{"planned_until": NOON, "in_force_since": NOON, **fields})


def test_a_schedule_without_its_function_is_parked_and_its_forecast_withdrawn(
    database: Database, room: WaitingRoom
) -> None:
    an_hourly_one(database)
    Planner(database, room, HOUR).step(NOON)

    done = Parking(database, room, EMPTY).step()

    assert done == Parked(parked=["nightly"])
    assert schedule_of(database).parked == GONE
    assert tasks_of(database) == []


def test_what_was_to_start_is_skipped_and_what_was_begun_is_left_alone(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        schedule = a_schedule(session, planned_until=NOON)
        for clock, state, attempt in (("11:40", RETRYING, 1), ("11:45", QUEUED, 0), ("11:50", PLANNED, 0)):
            a_task(session, schedule=schedule, fire_time=at(clock), state=state, attempt=attempt)

    Parking(database, room, EMPTY).step()

    assert tasks_of(database) == [
        ("11:40", RETRYING, None),
        ("11:45", SKIPPED, "parked"),
        ("11:50", SKIPPED, "parked"),
    ]


def test_each_fire_time_that_passes_while_parked_has_a_row(
    database: Database, room: WaitingRoom, clock: FakeClock
) -> None:
    an_hourly_one(database)
    parking = Parking(database, room, EMPTY)
    parking.step()

    clock.now = at("13:10")
    done = parking.step()

    assert done == Parked()
    assert tasks_of(database) == [(one, SKIPPED, "parked") for one in ("12:30", "13:00")]
    with database.read() as session:
        assert {row.reason for row in session.scalars(select(Task))} == {GONE}


def test_what_passed_unseen_before_it_was_parked_is_skipped_too(
    database: Database, room: WaitingRoom, clock: FakeClock
) -> None:
    """The service was down; it comes back without the function."""
    an_hourly_one(database)
    clock.now = at("13:10")

    Parking(database, room, EMPTY).step()

    assert tasks_of(database) == [(one, SKIPPED, "parked") for one in ("12:30", "13:00")]


def test_it_goes_on_once_the_function_is_back_and_nothing_fires_after_the_fact(
    database: Database, room: WaitingRoom, clock: FakeClock
) -> None:
    an_hourly_one(database)
    Parking(database, room, EMPTY).step()
    clock.now = at("13:10")

    done = Parking(database, room, WHOLE).step()
    Planner(database, room, HOUR).step(clock.now)

    assert done == Parked(freed=["nightly"])
    assert schedule_of(database).parked is None
    assert tasks_of(database) == [
        ("12:30", SKIPPED, "parked"),
        ("13:00", SKIPPED, "parked"),
        ("13:30", PLANNED, None),
        ("14:00", PLANNED, None),
    ]


def test_the_operators_pause_stays_and_is_the_reason_while_it_holds(
    database: Database, room: WaitingRoom, clock: FakeClock
) -> None:
    pause = schedules.pause_fields("jana", "stocktaking", NOON, at("12:45"))
    an_hourly_one(database, pause=pause)
    Parking(database, room, EMPTY).step()
    clock.now = at("13:10")

    Parking(database, room, WHOLE).step()

    assert tasks_of(database) == [("12:30", SKIPPED, "paused"), ("13:00", SKIPPED, "parked")]


def test_a_long_time_parked_is_told_by_a_gap(database: Database, room: WaitingRoom, clock: FakeClock) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(every=MINUTE), planned_until=NOON, parked=GONE)
    clock.now = NOON + dt.timedelta(minutes=1500)

    Parking(database, room, EMPTY).step()

    assert len(tasks_of(database)) == 1000
    with database.read() as session:
        assert session.scalars(select(Gap)).one().count == 500


def test_an_edit_of_a_parked_schedule_frees_it_and_tells_what_passed(
    database: Database, room: WaitingRoom, clock: FakeClock
) -> None:
    an_hourly_one(database)
    Parking(database, room, EMPTY).step()
    clock.now = at("13:10")

    book, text = a_book_of(a_spec(every=HOUR))
    apply(database, room, book, text)

    assert schedule_of(database).parked is None
    assert tasks_of(database) == [(one, SKIPPED, "parked") for one in ("12:30", "13:00")]


@pytest.mark.parametrize(
    ("catalogue", "why"),
    [
        (EMPTY, GONE),
        (
            BROKEN,
            'task function "count_words" is not to be had: '
            "tasks.words cannot be imported: ImportError: no module named regex",
        ),
        (
            Catalogue({}, {"count_words": "two task functions are named 'count_words': a.b and c.d"}),
            "task function \"count_words\" is not to be had: two task functions are named 'count_words': a.b and c.d",
        ),
        (WHOLE, None),
    ],
    ids=["gone", "broken module", "twin", "there"],
)
def test_the_reason_says_what_is_known(
    database: Database, room: WaitingRoom, catalogue: Catalogue, why: str | None
) -> None:
    assert Parking(database, room, catalogue).why_missing("count_words") == why


def test_those_that_have_their_function_or_are_retired_are_left_alone(database: Database, room: WaitingRoom) -> None:
    an_hourly_one(database)
    with database.write() as session:
        a_schedule(session, a_spec(name="old", task="gone"), retired_at=NOON)
        a_schedule(session, a_spec(name="ended"), planned_until=PLANNED_FOR_EVER)

    assert Parking(database, room, WHOLE).step() == Parked()


def test_what_the_planner_has_parked_is_not_ours_to_free(database: Database, room: WaitingRoom) -> None:
    reason = "cannot be planned: ZoneInfoNotFoundError"
    an_hourly_one(database, parked=reason)

    Parking(database, room, WHOLE).step()
    ours_too = schedule_of(database).parked
    with database.write() as session:
        schedules.unpark(session, but_not=MISSING)

    assert ours_too == reason
    assert schedule_of(database).parked is None


def test_housekeeping_does_not_free_what_is_parked_for_its_function(database: Database) -> None:
    an_hourly_one(database, parked=GONE)

    with database.write() as session:
        schedules.unpark(session, but_not=MISSING)

    assert schedule_of(database).parked == GONE
