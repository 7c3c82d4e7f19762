"""Why a schedule ran at a moment, or did not."""

from __future__ import annotations

import datetime as dt

import pytest

from scheduler.engine.answers.explain import Explanation, explain
from scheduler.errors import NotFound
from scheduler.rules.states import MISSED, PLANNED, QUEUED, SKIPPED, SUCCEEDED
from scheduler.store import schedules, tasks
from scheduler.store.database import Database
from scheduler.store.tables import PLANNED_FOR_EVER
from tests.builders import a_schedule, a_spec, a_task, at

NEVER_BEFORE = at("00:00", "2026-01-01")


def why(database: Database, moment: dt.datetime) -> Explanation:
    return explain(database, "nightly", lambda zone: moment)


def test_a_task_that_ran_tells_when_and_how_long(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session)
        a_task(
            session,
            schedule=schedule,
            state=SUCCEEDED,
            fire_time=at("02:00"),
            started_at=at("02:00:01"),
            finished_at=at("02:01:06"),
            attempt=1,
        )

    found = why(database, at("02:00"))

    assert found.code == "ran"
    assert found.answer == "it ran: started 2026-11-24 02:00:01Z, succeeded after 1m5s, attempt 1"
    assert found.task_id is not None


@pytest.mark.parametrize(
    ("state", "reason", "answer"),
    [
        (MISSED, "2h late", "it did not run, it was missed: 2h late"),
        (SKIPPED, "task 7 was running", "it did not run, it was skipped: task 7 was running"),
    ],
)
def test_a_task_that_did_not_run_tells_its_reason(database: Database, state: str, reason: str, answer: str) -> None:
    with database.write() as session:
        a_task(session, schedule=a_schedule(session), state=state, fire_time=at("02:00"), reason=reason)

    found = why(database, at("02:00"))

    assert (found.code, found.answer) == ("not_run", answer)


def test_a_task_to_come_tells_when_it_is_due(database: Database) -> None:
    with database.write() as session:
        fire_time = at("02:00", "2126-11-24")
        a_task(session, schedule=a_schedule(session), state=PLANNED, fire_time=fire_time)

    assert why(database, fire_time).answer == "it will run: due 2126-11-24 02:00:00Z"


def test_a_task_in_its_queue_tells_what_it_waits_for(database: Database) -> None:
    with database.write() as session:
        a_task(session, schedule=a_schedule(session), state=QUEUED, fire_time=at("02:00", "2026-01-02"))

    found = why(database, at("02:00", "2026-01-02"))

    assert found.code == "waits"
    assert found.answer.endswith("; it waits in its queue for a worker")


def test_a_moment_at_which_it_does_not_fire_names_the_nearest_that_are(database: Database) -> None:
    with database.write() as session:
        a_schedule(session, in_force_since=NEVER_BEFORE)

    found = why(database, at("02:03"))

    assert found.code == "no_fire_time"
    assert found.answer == "it does not fire then: it fires every 5 minutes (UTC)"
    assert (found.before, found.after) == (at("02:00"), at("02:05"))


def test_a_moment_before_the_version_in_force_says_so(database: Database) -> None:
    with database.write() as session:
        a_schedule(session, in_force_since=at("12:00"))

    assert why(database, at("02:00")).code == "not_in_force"


def test_a_moment_in_a_long_standstill_names_the_gap(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session, in_force_since=NEVER_BEFORE)
        tasks.add_gap(session, schedule.id, at("01:00"), at("03:00"), 25)

    found = why(database, at("02:00"))

    assert found.code == "too_many"
    assert found.answer == (
        "nothing ran from 2026-11-24 01:00:00Z to 2026-11-24 03:00:00Z: 25 fire times passed in a standstill, "
        "too many for a row each"
    )


def test_a_schedule_that_is_gone_a_parked_and_a_paused_one_say_so(database: Database) -> None:
    pause = schedules.pause_fields("jana", "partner is down", NEVER_BEFORE, None)
    far = {"in_force_since": NEVER_BEFORE, "planned_until": PLANNED_FOR_EVER}
    with database.write() as session:
        a_schedule(session, a_spec(name="gone"), retired_at=at("01:00"), **far)
        a_schedule(session, a_spec(name="held"), pause=pause, **far)
        a_schedule(session, a_spec(name="parked"), parked="its task function is gone", **far)

    found = {name: explain(database, name, lambda zone: at("02:00")) for name in ("gone", "held", "parked")}

    assert {name: one.code for name, one in found.items()} == {"gone": "retired", "held": "paused", "parked": "parked"}
    assert found["held"].answer == "the schedule is paused by jana: partner is down"
    assert found["gone"].answer == "the schedule was taken out of the file at 2026-11-24 01:00:00Z"


def test_a_time_is_read_in_the_zone_of_the_schedule(database: Database) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(timezone="Europe/Berlin"), in_force_since=NEVER_BEFORE)

    found = explain(
        database,
        "nightly",
        lambda zone: dt.datetime(2026, 3, 29, 2, 31, tzinfo=zone).astimezone(dt.UTC),
    )

    assert found.moment == at("01:31", "2026-03-29")


def test_a_name_that_no_schedule_had_is_refused(database: Database) -> None:
    with pytest.raises(NotFound, match='There is and was no schedule "nightly"'):
        why(database, at("02:00"))
