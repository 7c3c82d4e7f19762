"""The page of one schedule: its ledger, its calendar, what comes, what is set, who edited it."""

from __future__ import annotations

import datetime as dt

import pytest

from scheduler.clock import utc_now
from scheduler.engine.file.apply import apply
from scheduler.engine.page.schedule import calendar, ledger, runnable, schedule_page, settings_in_force
from scheduler.errors import NotFound
from scheduler.rules.states import FAILED, MISSED, QUEUED, SKIPPED, SUCCEEDED
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.task_functions import Catalogue, TaskFunction
from tests.builders import HOUR, MINUTE, a_book, a_schedule, a_spec, a_task, at
from tests.statements import counted

DAY = dt.timedelta(days=1)
FIRST = "schedules:\n  nightly: {task: count_words, when: {every: 1h}, owner: jana}\n"
SECOND = "schedules:\n  nightly: {task: count_words, when: {every: 2h}, owner: jana}\n"
THIRD = "schedules:\n  evening: {task: count_words, when: {every: 2h}, owner: jana, was: nightly}\n"


def test_the_ledger_has_every_task_with_its_reason_the_newest_first(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session, a_spec(timezone="Europe/Berlin"))
        a_task(session, schedule=schedule, state=SUCCEEDED, fire_time=at("10:00"))
        a_task(session, schedule=schedule, state=SKIPPED, fire_time=at("11:00"), reason="an earlier run was going")
        a_task(session, schedule=schedule, state=MISSED, fire_time=at("12:00"), reason="late")
        a_task(session, schedule=schedule, fire_time=at("13:00"))
        a_task(session, state=FAILED)

    found = ledger(database, "nightly")

    assert [(task["state"], task["note"]) for task in found.tasks] == [
        ("planned", ""),
        ("missed", "late"),
        ("skipped", "an earlier run was going"),
        ("succeeded", ""),
    ]
    assert {task["timezone"] for task in found.tasks} == {"Europe/Berlin"}
    assert found.older is None


def test_the_ledger_tells_the_next_forecast_and_no_more_lest_they_hide_what_goes_on(database: Database) -> None:
    soon = utc_now() + MINUTE
    with database.write() as session:
        schedule = a_schedule(session)
        queued = a_task(session, schedule=schedule, state=QUEUED, fire_time=soon - HOUR).id
        overdue = a_task(session, schedule=schedule, fire_time=soon - 2 * MINUTE).id
        ahead = [a_task(session, schedule=schedule, fire_time=soon + n * MINUTE).id for n in range(9)]

    found = ledger(database, "nightly", limit=3)

    assert [task["id"] for task in found.tasks] == [ahead[0], overdue, queued]


def test_the_ledger_goes_on_page_by_page(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session)
        ids = [
            a_task(session, schedule=schedule, state=SUCCEEDED, fire_time=at("10:00") + n * HOUR).id for n in range(7)
        ]
        planned = a_task(session, schedule=schedule, fire_time=at("23:00")).id

    first = ledger(database, "nightly", limit=3)
    second = ledger(database, "nightly", before=first.older, limit=3)
    third = ledger(database, "nightly", before=second.older, limit=3)

    assert [task["id"] for page in (first, second, third) for task in page.tasks] == [planned, *reversed(ids)]
    assert third.older is None


def test_the_calendar_counts_by_the_schedules_own_days(database: Database) -> None:
    today = utc_now().replace(hour=12, minute=0, second=0, microsecond=0)
    late = today.replace(hour=23, minute=30) - 5 * DAY  # in Tokyo it is the next day
    with database.write() as session:
        schedule = a_schedule(session, a_spec(timezone="Asia/Tokyo"))
        a_task(session, schedule=schedule, state=SUCCEEDED, fire_time=late - 400 * DAY, finished_at=late)
        a_task(session, schedule=schedule, state=SUCCEEDED, fire_time=late, finished_at=late)
        a_task(session, schedule=schedule, state=FAILED, fire_time=late + HOUR, finished_at=late)
        a_task(session, schedule=schedule, state=MISSED, fire_time=late - 3 * DAY, finished_at=late)

    found = calendar(database, "nightly")

    assert found.days == {
        (late - 2 * DAY).date(): {MISSED: 1},
        (late + DAY).date(): {SUCCEEDED: 1, FAILED: 1},
    }
    assert not found.is_cut
    assert calendar(database, "nightly", most=1).is_cut


def test_what_comes_is_told_with_notes_and_the_standstill_too(database: Database) -> None:
    held = {"by": "jana", "why": "deploy", "since": utc_now().isoformat(), "until": None}
    with database.write() as session:
        schedule = a_schedule(session, pause=held)
        tasks.add_gap(session, schedule.id, at("01:00"), at("02:00"), 1200)

    found = schedule_page(database, "nightly")

    assert len(found.coming) == 10
    assert {one.note for one in found.coming} == {"is skipped: paused by jana: deploy"}
    assert found.gaps == ({"first": "2026-11-24T01:00:00Z", "last": "2026-11-24T02:00:00Z", "count": 1200},)


def test_edits_are_told_with_what_they_changed(database: Database) -> None:
    for text in (FIRST, SECOND, THIRD):
        apply(database, None, *a_book(text), author="jana")

    found = schedule_page(database, "evening")

    assert [(edit["how"], edit["was"]) for edit in found.edits] == [("renamed", "nightly")]


def test_an_edit_of_a_name_is_not_that_of_a_longer_one(database: Database) -> None:
    apply(database, None, *a_book(FIRST), author="jana")
    apply(database, None, *a_book(FIRST + "  nightly-2: {task: count_words, when: {every: 1h}}\n"), author="bob")
    apply(database, None, *a_book(SECOND + "  nightly-2: {task: count_words, when: {every: 1h}}\n"), author="lena")

    found = schedule_page(database, "nightly")

    assert [(edit["author"], edit["how"]) for edit in found.edits] == [("lena", "changed"), ("jana", "added")]
    assert found.edits[0]["keys"] == [{"key": "when", "old": "every hour", "new": "every 2 hours"}]


def test_settings_are_told_by_the_text_in_force(database: Database) -> None:
    apply(database, None, *a_book("defaults: {grace: 5m}\n" + FIRST), author="jana")
    spec = schedule_page(database, "nightly").spec

    found = {one.key: (one.value, one.source) for one in settings_in_force(database, spec, None)}

    assert (found["owner"], found["grace"]) == (("jana", "schedule"), ("5 minutes", "defaults"))


def test_a_page_is_a_handful_of_statements(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session)
        for hour in range(50):
            a_task(session, schedule=schedule, state=SUCCEEDED, fire_time=at("00:00") + hour * HOUR)

    with counted(database) as statements:
        schedule_page(database, "nightly")
        ledger(database, "nightly")
        calendar(database, "nightly")

    assert len(statements) <= 16


def test_an_unknown_schedule_is_not_found(database: Database) -> None:
    for ask in (schedule_page, ledger, calendar):
        with pytest.raises(NotFound) as caught:
            ask(database, "nigthly")

        assert str(caught.value) == 'There is and was no schedule "nigthly"'


def test_what_can_be_run_is_a_schedule_of_the_file_or_a_task_function(database: Database) -> None:
    function = TaskFunction("count_words", len)
    catalogue = Catalogue({"count_words": function})
    with database.write() as session:
        a_schedule(session, a_spec(args={"source": "a"}))
        a_schedule(session, a_spec(name="gone"), retired_at=utc_now())

    scheduled, alone = runnable(database, catalogue, "nightly"), runnable(database, catalogue, "count_words")

    assert (scheduled.args, scheduled.timezone, scheduled.function) == ({"source": "a"}, "UTC", function)
    assert (alone.args, alone.timezone, alone.function) == ({}, None, function)
    with pytest.raises(NotFound):
        runnable(database, catalogue, "gone")
    with pytest.raises(NotFound):
        runnable(database, None, "count_words")
