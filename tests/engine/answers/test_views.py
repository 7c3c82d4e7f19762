"""What is asked of the tables: a task, lists, a log, schedules."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from scheduler.clock import iso, parse_iso, utc_now
from scheduler.engine.answers import schedule_views, status, views
from scheduler.engine.file.apply import apply
from scheduler.engine.pauses import hold
from scheduler.engine.planner import Planner
from scheduler.errors import NotFound
from scheduler.rules.spec import At, Once
from scheduler.rules.states import CANCELLED, FAILED, MISSED, PLANNED, QUEUED, RETRYING, RUNNING, SKIPPED, SUCCEEDED
from scheduler.store import schedules, tasks
from scheduler.store.database import Database
from scheduler.store.tables import PLANNED_FOR_EVER
from scheduler.store.tasks import AttemptEnd
from tests.builders import HOUR, MINUTE, a_book, a_schedule, a_spec, a_task, an_attempt, at

NOW = at("12:00")
TASK_KEYS = set(
    "id kind origin schedule task args fire_time due_at state reason queued_at started_at finished_at attempts result "
    "error progress queue worker retry_of reason_code idempotency_key requested_by created_at start_by result_kind "
    "artifacts".split()
)
ATTEMPT_KEYS = set(
    "number worker host pid started_at ended_at outcome error_type error_message causes traceback peak_memory".split()
)


def ids(found: list[dict[str, Any]]) -> list[int]:
    return [task["id"] for task in found]


def ended_at(clock: str, state: str = SUCCEEDED, **fields: Any) -> dict[str, Any]:
    """The fields of a task that fired and ended at that time of day."""
    return {"state": state, "fire_time": at(clock), "finished_at": at(clock), "created_at": at("00:00"), **fields}


# --- one task -------------------------------------------------------------------------------------------------------


def test_a_task_that_was_claimed_and_failed_is_told_whole(database: Database) -> None:
    with database.write() as session:
        task_id = a_task(
            session,
            args={"source": "README.md"},
            requested_by="jana",
            fire_time=at("06:30"),
            due_at=at("06:30", "2026-01-02"),
        ).id
        claimed = tasks.claim(
            session, task_id, 1, token="t1", worker="w1", host="here", pid=7, lease=dt.timedelta(minutes=1)
        )
        assert claimed is not None
        bad = AttemptEnd(FAILED, "ValueError", "no such file", "Traceback …\nValueError: no such file", 1024)
        tasks.end(session, task_id, 1, "t1", FAILED, bad, reason_code="error", reason="ValueError: no such file")

    task = views.task_of(database, task_id)

    assert set(task) == TASK_KEYS
    assert (task["state"], task["reason"], task["requested_by"]) == (FAILED, "ValueError: no such file", "jana")
    assert task["fire_time"] == "2026-11-24T06:30:00Z"
    assert task["error"] == {"type": "ValueError", "message": "no such file", "traceback": bad.traceback}
    assert parse_iso(task["started_at"]) <= parse_iso(task["finished_at"])
    [attempt] = task["attempts"]
    assert set(attempt) == ATTEMPT_KEYS
    assert (attempt["number"], attempt["worker"], attempt["pid"], attempt["outcome"]) == (1, "w1", 7, FAILED)
    assert attempt["peak_memory"] == 1024
    assert attempt["ended_at"].endswith("Z")


def test_a_task_that_is_not_there_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound) as caught:
        views.task_of(database, 17)

    assert str(caught.value) == "There is no task 17; `scheduler tasks` lists those there are"


def test_the_zone_of_a_task_is_that_of_its_schedule(database: Database) -> None:
    with database.write() as session:
        fired = a_task(session, schedule=a_schedule(session, a_spec(timezone="Europe/Berlin"))).id
        asked = a_task(session).id

    assert views.zone_of(database, fired) == "Europe/Berlin"
    assert views.zone_of(database, asked) is None


def test_a_log_is_read_as_it_was_written_whole_or_by_attempt_or_from_a_place_on(database: Database) -> None:
    with database.write() as session:
        task_id = a_task(session).id
        tasks.write_log(session, task_id, 1, ["one", "", "two"])
        tasks.write_log(session, task_id, 2, ["three"])
        tasks.write_log(session, a_task(session).id, 1, ["of another"])

    pieces = views.log_pieces(database, task_id)

    assert views.log_of(database, task_id) == ["one", "", "two", "three"]
    assert views.log_of(database, task_id, attempt=2) == ["three"]
    assert [piece.lines for piece in views.log_pieces(database, task_id, after=pieces[0].id)] == [["three"]]
    assert views.log_of(database, 99) == []


# --- lists of tasks -------------------------------------------------------------------------------------------------


def test_tasks_are_listed_by_what_happened_last_not_by_id(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session)
        daily = a_task(session, schedule=schedule, **ended_at("11:59")).id  # planned a day ago: the lowest id
        older = a_task(session, schedule=schedule, **ended_at("11:50")).id
        oldest = a_task(session, schedule=schedule, **ended_at("11:40")).id
        running = a_task(session, state=RUNNING, due_at=at("06:00")).id
        queued = a_task(session, state=QUEUED, due_at=at("11:58")).id
        a_task(session, schedule=schedule, fire_time=at("12:05"))

    assert ids(views.tasks_list(database)) == [queued, running, daily, older, oldest]
    assert ids(views.tasks_list(database, limit=3)) == [queued, running, daily]


def test_what_is_planned_is_listed_when_asked_for(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session)
        later = a_task(session, schedule=schedule, fire_time=at("13:00")).id
        soon = a_task(session, schedule=schedule, fire_time=at("12:05")).id
        last = a_task(session, schedule=schedule, fire_time=at("14:00")).id
        done = a_task(session, schedule=schedule, **ended_at("11:50")).id

    assert ids(views.tasks_list(database)) == [done]
    assert ids(views.tasks_list(database, planned=True, limit=2)) == [later, soon, done]
    assert ids(views.tasks_list(database, state=PLANNED)) == [soon, later, last]
    assert ids(views.tasks_list(database, state=(PLANNED, SUCCEEDED))) == [last, later, soon, done]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"kind": "long"}, ["long failed", "long ok"], id="by kind"),
        pytest.param({"state": FAILED}, ["long failed"], id="by state"),
        pytest.param({"state": (FAILED, QUEUED)}, ["waiting", "long failed"], id="by two states"),
        pytest.param({"schedule": "nightly"}, ["long failed", "early"], id="by schedule"),
        pytest.param({"kind": "long", "schedule": "nightly"}, ["long failed"], id="by kind and schedule"),
        pytest.param({"since": at("10:00")}, ["long failed"], id="since, included"),
        pytest.param({"since": at("07:00"), "state": CANCELLED}, ["cancelled ahead"], id="since, and a state"),
        pytest.param(
            {"until": at("10:00")}, ["waiting", "long ok", "early", "cancelled ahead"], id="until, not included"
        ),
        pytest.param({"since": at("08:00"), "until": at("10:00")}, ["waiting", "long ok", "early"], id="a span"),
        pytest.param({"kind": "adhoc"}, ["waiting"], id="none of a kind has ended"),
    ],
)
def test_tasks_are_chosen(database: Database, options: dict[str, Any], expected: list[str]) -> None:
    with database.write() as session:
        schedule = a_schedule(session)
        ahead = ended_at("23:00", CANCELLED, finished_at=at("07:00"))
        asked = {"created_at": at("09:00"), "finished_at": at("09:01"), "state": SUCCEEDED}
        names = {
            a_task(session, schedule=schedule, **ended_at("08:00", SKIPPED)).id: "early",
            a_task(session, schedule=schedule, kind="long", **ended_at("10:00", FAILED)).id: "long failed",
            a_task(session, kind="long", **asked).id: "long ok",
            a_task(session, **ahead).id: "cancelled ahead",
            a_task(session, kind="adhoc", state=QUEUED, due_at=at("09:30")).id: "waiting",
        }

    assert [names[task] for task in ids(views.tasks_list(database, **options))] == expected


def test_an_unknown_schedule_is_told_with_the_nearest(database: Database) -> None:
    with database.write() as session:
        a_schedule(session)

    with pytest.raises(NotFound) as caught:
        views.tasks_list(database, schedule="nightli")

    assert str(caught.value) == 'There is no schedule "nightli"; did you mean "nightly"?'


def test_a_list_brings_each_task_its_own_attempts(database: Database) -> None:
    with database.write() as session:
        twice = a_task(session, state=FAILED, attempt=2)
        an_attempt(session, twice, number=1, outcome=FAILED)
        an_attempt(session, twice, number=2, outcome=FAILED)
        never = a_task(session, state=MISSED)

    found = {task["id"]: [attempt["number"] for attempt in task["attempts"]] for task in views.tasks_list(database)}

    assert found == {twice.id: [1, 2], never.id: []}


def test_what_ended_since_a_moment_is_counted_by_name(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session)
        for clock, state in (("11:00", SUCCEEDED), ("11:10", SUCCEEDED), ("11:20", FAILED), ("09:00", FAILED)):
            a_task(session, schedule=schedule, **ended_at(clock, state))
        a_task(session, task="send_mail", kind="adhoc", state=SUCCEEDED, finished_at=at("11:30"))
        a_task(session, state=RUNNING)

    assert views.tasks_ended_since(database, at("10:00")) == {
        "states": {"succeeded": 3, "failed": 1},
        "tasks": [
            {"name": "nightly", "kind": "scheduled", "states": {"failed": 1, "succeeded": 2}},
            {"name": "send_mail", "kind": "adhoc", "states": {"succeeded": 1}},
        ],
    }
    assert views.tasks_ended_since(database, at("12:00")) == {"states": {}, "tasks": []}


# --- schedules ------------------------------------------------------------------------------------------------------


def test_a_schedule_tells_its_words_its_last_task_and_its_next_fire_time(database: Database) -> None:
    spec = a_spec(owner="jana", about="Feeds the mail.", tags=("prod",), timezone="Europe/Berlin")
    with database.write() as session:
        schedule = a_schedule(session, spec, failures_in_a_row=1)
        a_task(session, schedule=schedule, **ended_at("11:50"))
        last = a_task(session, schedule=schedule, **ended_at("11:55", FAILED, finished_at=at("11:56"))).id
        a_task(session, schedule=schedule, fire_time=at("12:10"))
        a_task(session, schedule=schedule, fire_time=at("12:05"))

    assert schedule_views.schedules_list(database, NOW) == [
        {
            "name": "nightly",
            "task": "count_words",
            "kind": "scheduled",
            "words": "every 5 minutes",
            "timezone": "Europe/Berlin",
            "state": "active",
            "pause": None,
            "parked": None,
            "retired_at": None,
            "last": {
                "id": last,
                "state": "failed",
                "fire_time": "2026-11-24T11:55:00Z",
                "finished_at": "2026-11-24T11:56:00Z",
            },
            "next": "2026-11-24T12:05:00Z",
            "failures_in_a_row": 1,
            "owner": "jana",
            "about": "Feeds the mail.",
            "tags": ["prod"],
        }
    ]


PAUSE = {"why": "partner outage", "since": "2026-11-24T11:00:00+00:00"}


@pytest.mark.parametrize(
    ("fields", "state", "source", "following"),
    [
        pytest.param({}, "active", None, "2026-11-25T06:30:00Z", id="nobody plans"),
        pytest.param({"planned_until": PLANNED_FOR_EVER}, "active", None, None, id="none left"),
        pytest.param({"pause": {"by": "jana", **PAUSE, "until": None}}, "paused", "operator", None, id="by a person"),
        pytest.param({"pause": {"by": "itself", **PAUSE, "until": None}}, "paused", "itself", None, id="by itself"),
        pytest.param(
            {"file_pause": {"by": "schedules.yaml", **PAUSE, "until": "2026-11-26T00:00:00+00:00"}},
            "paused",
            "file",
            "2026-11-26T06:30:00Z",
            id="by the file, until a moment",
        ),
        pytest.param({"parked": "no such function"}, "parked", None, None, id="parked"),
        pytest.param({"retired_at": NOW}, "retired", None, None, id="retired"),
    ],
)
def test_a_schedule_tells_its_state(
    database: Database, fields: dict[str, Any], state: str, source: str | None, following: str | None
) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(when=(At(at=(dt.time(6, 30),)),)), **fields)

    [found] = schedule_views.schedules_list(database, NOW)

    assert (found["state"], found["next"], found["last"]) == (state, following, None)
    assert (found["pause"] or {}).get("source") == source


def test_retired_schedules_may_be_left_out(database: Database) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(name="gone"), retired_at=NOW)
        a_schedule(session, a_spec(name="here"))

    assert [one["name"] for one in schedule_views.schedules_list(database)] == ["gone", "here"]
    assert [one["name"] for one in schedule_views.schedules_list(database, retired=False)] == ["here"]


def test_a_schedule_whose_one_time_is_over_has_no_next(database: Database) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(when=(Once(once=dt.datetime(2026, 1, 1)),)))

    assert schedule_views.schedules_list(database, NOW)[0]["next"] is None


def test_an_applied_and_planned_file_is_listed(database: Database, room: Any) -> None:
    book, text = a_book('schedules: {hourly: {task: count_words, when: {cron: "0 * * * *"}}}')
    apply(database, room, book, text)
    Planner(database, room, HOUR).step()

    [found] = schedule_views.schedules_list(database)

    following = (utc_now() + HOUR).replace(minute=0, second=0, microsecond=0)
    assert found["next"] in {iso(following), iso(following - HOUR)}  # the hour may turn while we look
    with database.write() as session:
        schedule = schedules.by_name(session, "hourly")
        assert schedule is not None
        now = schedules.now(session)
        hold(session, schedule, schedules.pause_fields("jana", "holidays", now, now + MINUTE), now)
    [found] = schedule_views.schedules_list(database)
    assert (found["state"], found["pause"]["why"]) == ("paused", "holidays")


# --- cost -----------------------------------------------------------------------------------------------------------

QUESTIONS: dict[str, Callable[[Database], Any]] = {
    "tasks": views.tasks_list,
    "tasks of a kind": lambda database: views.tasks_list(database, kind="long"),
    "tasks that failed": lambda database: views.tasks_list(database, state=FAILED),
    "tasks of a schedule": lambda database: views.tasks_list(database, schedule="nightly"),
    "tasks since": lambda database: views.tasks_list(database, since=NOW),
    "planned tasks": lambda database: views.tasks_list(database, state=PLANNED),
    "what ended": lambda database: views.tasks_ended_since(database, NOW),
    "a log": lambda database: views.log_of(database, 1),
    "schedules": schedule_views.schedules_list,
    "status": lambda database: status.status_of(database, None),
}


@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
def test_no_question_reads_the_whole_history(database: Database, ask: Callable[[Database], Any]) -> None:
    """By the plans of SQLite, whose planner has no numbers to go by here, and so does the same everywhere."""
    with database.write() as session:
        schedule = a_schedule(session, failures_in_a_row=1)
        a_task(session, schedule=schedule, state=RETRYING, attempt=1)
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        asked.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    ask(database)
    event.remove(database.engine, "before_cursor_execute", note)

    asked = [one for one in asked if re.search(r"FROM (task|attempt|log_chunk)\b", one[0])]
    assert asked
    if database.is_sqlite:
        with database.engine.connect() as connection:
            plans = [
                row[3]
                for statement, parameters in asked
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            ]
        assert [plan for plan in plans if re.match(r"SCAN (task|attempt|log_chunk)", plan)] == []
