"""The page of all schedules: the search, its pages, and how each has done lately."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from scheduler.clock import utc_now
from scheduler.engine.page.schedules import AT_ONCE, OUTCOMES, schedules_page
from scheduler.rules.states import FAILED, QUEUED, SKIPPED, SUCCEEDED
from scheduler.store.database import Database
from tests.builders import MINUTE, a_revision, a_schedule, a_spec, a_task, at
from tests.statements import counted


def names(database: Database, **question: Any) -> list[str]:
    return [row.facts["name"] for row in schedules_page(database, **question).rows]


def ran(minute: int, seconds: float, **fields: Any) -> dict[str, Any]:
    """The fields of a task that ran for so long, once."""
    started = at("06:00") + minute * MINUTE
    plain = {"state": SUCCEEDED, "fire_time": started, "started_at": started, "attempt": 1}
    return {**plain, "finished_at": started + dt.timedelta(seconds=seconds), **fields}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("", ["close-month", "mail-flush", "stock"], id="nothing"),
        pytest.param("stock", ["stock"], id="name"),
        pytest.param("SEND", ["mail-flush"], id="task function, in capitals"),
        pytest.param("jana", ["close-month", "stock"], id="owner"),
        pytest.param("finance", ["close-month"], id="tag"),
        pytest.param("safe twice", ["stock"], id="two words of the description"),
        pytest.param("jana finance", ["close-month"], id="all words must be there"),
        pytest.param("100%", [], id="a percent sign is itself"),
        pytest.param("mail_flush", [], id="an underscore is itself"),
        pytest.param("'; DROP TABLE schedule; --", [], id="quotes"),
    ],
)
def test_a_search_finds_words_in_what_people_know_of_a_schedule(
    database: Database, query: str, found: list[str]
) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(name="stock", owner="jana", about="Safe to run twice"))
        a_schedule(session, a_spec(name="mail-flush", task="send_mail", owner="Bob"))
        a_schedule(session, a_spec(name="close-month", owner="Jana", tags=("finance",)))

    assert names(database, query=query) == found


def test_a_state_shows_the_schedules_in_it(database: Database) -> None:
    held = {"by": "jana", "why": "deploy", "since": utc_now().isoformat(), "until": None}
    with database.write() as session:
        a_schedule(session, a_spec(name="active"))
        a_schedule(session, a_spec(name="failing"), failures_in_a_row=2)
        a_schedule(session, a_spec(name="held"), pause=held)
        a_schedule(session, a_spec(name="parked"), parked="there is no task function", pause=held)
        a_schedule(session, a_spec(name="retired"), retired_at=utc_now())

    assert names(database) == ["active", "failing", "held", "parked"]
    assert names(database, state="active") == ["active", "failing"]
    assert names(database, state="failing") == ["failing"]
    assert names(database, state="paused") == ["held"]
    assert names(database, state="parked") == ["parked"]
    assert names(database, state="retired") == ["retired"]


def test_each_schedule_has_its_last_outcomes_the_oldest_first(database: Database) -> None:
    with database.write() as session:
        schedule, other = a_schedule(session), a_schedule(session, a_spec(name="other"))
        for minute in range(OUTCOMES + 3):
            a_task(session, schedule=schedule, **ran(minute, 2))
        a_task(session, schedule=schedule, state=SKIPPED, fire_time=at("08:00"))
        a_task(session, schedule=schedule, state=QUEUED, fire_time=at("08:01"))
        a_task(session, schedule=other, state=FAILED, fire_time=at("08:00"))

    nightly, lone = schedules_page(database).rows

    assert len(nightly.outcomes) == OUTCOMES
    assert [one.state for one in nightly.outcomes[-2:]] == [SUCCEEDED, SKIPPED]
    assert nightly.outcomes[-2].at == at("07:02")
    assert (nightly.usual, nightly.last_took) == (dt.timedelta(seconds=2), dt.timedelta(seconds=2))
    assert [one.state for one in lone.outcomes] == [FAILED]
    assert (lone.usual, lone.last_took) == (None, None)


def test_what_is_usual_is_told_by_runs_that_needed_one_attempt(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session)
        for minute, seconds in enumerate((1, 2, 3, 4, 5)):
            a_task(session, schedule=schedule, **ran(minute, seconds))
        a_task(session, schedule=schedule, **ran(10, 300, attempt=3))

    [row] = schedules_page(database).rows

    assert (row.usual, row.last_took) == (dt.timedelta(seconds=3), dt.timedelta(minutes=5))


def test_many_schedules_come_in_pages_of_a_handful_of_statements_each(database: Database) -> None:
    with database.write() as session:
        revision = a_revision(session).id
        for number in range(AT_ONCE + 5):
            schedule = a_schedule(session, a_spec(name=f"s{number:03}"), revision_id=revision)
            a_task(session, schedule=schedule, **ran(number, 1))

    with counted(database) as statements:
        first = schedules_page(database)
    second = schedules_page(database, page=2)

    assert (first.found, first.page, first.pages, first.first, len(first.rows)) == (AT_ONCE + 5, 1, 2, 1, AT_ONCE)
    assert (second.first, second.rows[0].facts["name"], len(second.rows)) == (AT_ONCE + 1, f"s{AT_ONCE:03}", 5)
    assert len(statements) <= 6
    assert schedules_page(database, page=10**9).page == 2
    assert schedules_page(database, page=-3).page == 1
    assert schedules_page(database, query="nothing like it").pages == 1
