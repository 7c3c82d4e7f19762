"""The page of tasks: what it lists, in which order, and how it goes on."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from scheduler.engine.page.tasks import Place, TaskFilter, TasksPage, place_of, tasks_page
from scheduler.errors import NotFound, WrongUsage
from scheduler.rules.states import CANCELLED, FAILED, MISSED, PLANNED, QUEUED, RUNNING, SUCCEEDED
from scheduler.store.database import Database
from tests.builders import a_schedule, a_spec, a_task, at
from tests.statements import counted


def ended(clock: str, state: str = SUCCEEDED, **fields: Any) -> dict[str, Any]:
    return {"state": state, "fire_time": at(clock), "due_at": at(clock), "finished_at": at(clock), **fields}


def ids(page: TasksPage) -> list[int]:
    return [task["id"] for task in page.tasks]


def all_ids(database: Database, wanted: TaskFilter, limit: int) -> list[int]:
    """Page by page to the end."""
    found: list[int] = []
    after: Place | None = None
    while True:
        page = tasks_page(database, wanted, after=after, limit=limit)
        found += ids(page)
        if page.older is None:
            return found
        after = place_of(page.older)


def test_what_goes_on_comes_before_what_has_ended_and_a_forecast_only_when_asked_for(database: Database) -> None:
    with database.write() as session:
        older, newer = a_task(session, **ended("10:00")).id, a_task(session, **ended("11:00")).id
        planned = a_task(session, fire_time=at("13:00")).id
        waiting = a_task(session, state=QUEUED, due_at=at("11:30")).id
        running = a_task(session, state=RUNNING, due_at=at("11:40")).id

    assert ids(tasks_page(database, TaskFilter())) == [running, waiting, newer, older]
    assert ids(tasks_page(database, TaskFilter(states=(PLANNED,)))) == [planned]
    assert ids(tasks_page(database, TaskFilter(states=(PLANNED, QUEUED, SUCCEEDED)))) == [
        planned,
        waiting,
        newer,
        older,
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_pages_follow_each_other_without_a_gap_or_a_twin(database: Database, limit: int) -> None:
    with database.write() as session:
        planned = [a_task(session, fire_time=at("13:00")).id for _ in range(3)]
        waiting = [a_task(session, state=QUEUED, due_at=at("11:30")).id for _ in range(3)]
        done = [a_task(session, **ended("10:00")).id for _ in range(4)]

    found = all_ids(database, TaskFilter(states=(PLANNED, QUEUED, SUCCEEDED)), limit)

    assert found == [*planned, *reversed(waiting), *reversed(done)]


def test_a_list_is_narrowed_by_kind_state_schedule_and_span(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session, a_spec(timezone="Europe/Berlin"))
        fired = a_task(session, schedule=schedule, **ended("10:00")).id
        failed = a_task(session, schedule=schedule, **ended("11:00", FAILED, reason="ValueError: no")).id
        long = a_task(session, kind="long", **ended("11:10")).id
        missed = a_task(session, **ended("11:20", MISSED)).id

    assert ids(tasks_page(database, TaskFilter(kind="long"))) == [long]
    assert ids(tasks_page(database, TaskFilter(states=(FAILED, MISSED)))) == [missed, failed]
    assert ids(tasks_page(database, TaskFilter(schedule="nightly"))) == [failed, fired]
    assert ids(tasks_page(database, TaskFilter(since=at("11:00"), until=at("11:20")))) == [long, failed]


def test_a_row_tells_what_came_of_it_and_the_zone_of_its_schedule(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session, a_spec(timezone="Europe/Berlin"))
        a_task(session, schedule=schedule, **ended("10:00", result={"file": "README.md", "words": 120}))
        a_task(session, **ended("10:01", result={"text": "x" * 9000}))
        images = [{"file": f"/data/images/lighthouse-{size}.png", "width": size} for size in (64, 128)]
        a_task(session, **ended("10:01:30", result={"images": images, "into": "a"}))
        a_task(session, **ended("10:02", CANCELLED, reason="cancelled\nby jana"))

    cancelled, pictures, cut, done = tasks_page(database, TaskFilter()).tasks

    assert (done["note"], done["timezone"], done["schedule"]) == (
        "words 120, file README.md",
        "Europe/Berlin",
        "nightly",
    )
    assert (len(cut["note"]), cut["note"][-1], cut["timezone"]) == (160, "…", None)
    assert pictures["note"] == "images 2 items, into a"
    assert cancelled["note"] == "cancelled by jana"


def test_a_page_is_a_handful_of_statements(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session)
        for minute in range(59):
            a_task(session, schedule=schedule, **ended(f"10:{minute:02}"))

    with counted(database) as statements:
        page = tasks_page(database, TaskFilter(schedule="nightly"))

    assert len(page.tasks) == 50
    assert len(statements) <= 6


def test_an_unknown_schedule_and_a_bad_place_are_told(database: Database) -> None:
    with database.write() as session:
        a_schedule(session)

    with pytest.raises(NotFound) as unknown:
        tasks_page(database, TaskFilter(schedule="nigthly"))
    with pytest.raises(WrongUsage) as bad:
        place_of("x.1.2")

    assert str(unknown.value) == 'There is no schedule "nigthly"; did you mean "nightly"?'
    assert str(bad.value) == '"x.1.2" is no place in a list of tasks; go back to the first page'
    assert place_of(str(Place("e", at("10:00"), 7))) == Place("e", at("10:00"), 7)


@pytest.mark.parametrize("text", ["", "e.1", "e.1.1; drop table task", "e.-1.1", "e.1.1\n"])
def test_a_place_is_read_strictly(text: str) -> None:
    with pytest.raises(WrongUsage):
        place_of(text)


def test_a_span_begins_with_its_first_moment_and_ends_before_its_last(database: Database) -> None:
    with database.write() as session:
        first = a_task(session, **ended("10:00")).id
        a_task(session, **ended("11:00"))

    page = tasks_page(database, TaskFilter(since=at("10:00"), until=at("10:00") + dt.timedelta(hours=1)))

    assert ids(page) == [first]
