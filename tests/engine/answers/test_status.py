"""One glance: the verdict, and what it is made of. The database's clock is held at noon."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from scheduler.broker.connection import connect
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import iso
from scheduler.engine.answers.status import status_of
from scheduler.rules.mail.messages import Letter, messages_to
from scheduler.rules.spec import Contact, Retry
from scheduler.rules.states import FAILED, LOST, QUEUED, RETRYING, RUNNING, SKIPPED, SUCCEEDED
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import outbox, parts, schedules
from scheduler.store.database import Database
from scheduler.store.mail_tables import Alert, OutboxMessage
from scheduler.store.tables import Part
from tests.builders import MINUTE, a_revision, a_schedule, a_spec, a_task, at

NOON = at("12:00")


@pytest.fixture(autouse=True)
def the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "now", lambda session: NOON)


def a_part(session: Session, part: str, seconds: float = 1.0, *, since: str = "10:00", **details: Any) -> None:
    """A part that ticked so many seconds before noon."""
    name = f"{part}@here:{seconds}"
    parts.tick(session, name, part, "here", 7, details)
    ticked = {"ticked_at": NOON - dt.timedelta(seconds=seconds), "started_at": at(since)}
    session.execute(update(Part).where(Part.name == name).values(**ticked))


def a_service(session: Session) -> None:
    """All parts, ticking."""
    a_part(session, "dispatcher", 1.0)
    a_part(session, "keeper", 2.0, planner=0.4, reconcile=8.0)
    for kind in ("scheduled", "long", "adhoc"):
        a_part(session, f"worker-{kind}", 3.0)


def test_all_is_well(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        a_service(session)
        revision = a_revision(session, accepted_at=at("06:00"))
        schedule = a_schedule(session, a_spec(name="stock-sync"), revision_id=revision.id)
        a_task(session, schedule=schedule, fire_time=at("12:02:30"))
        a_task(session, schedule=schedule, state=SUCCEEDED, finished_at=at("11:55"))
        a_task(session, kind="long", state=SKIPPED, finished_at=at("11:50"))
        a_task(session, state=FAILED, finished_at=at("11:59", day="2026-11-23"))  # 24 hours and a minute ago

    status = status_of(database, room)

    assert status["verdict"] == "1 schedule, all is well; ticked 2 s ago; next: stock-sync in 2 m"
    assert status["ok"] is True
    assert status["problems"] == []
    assert status["now"] == "2026-11-24T12:00:00Z"
    assert status["counts"] == {"scheduled": {"succeeded": 1}, "long": {"skipped": 1}, "adhoc": {}}
    assert status["redis"] == {"answers": True, "message": "answers", "depths": {}}
    assert status["revision"] == {
        "id": revision.id,
        "accepted_at": "2026-11-24T06:00:00Z",
        "author": "jana",
        "file": "schedules.yaml",
    }
    assert [one["name"] for one in status["upcoming"]] == ["stock-sync"]
    assert status["upcoming"][0]["in_seconds"] == 150


def test_failing_and_late_are_in_the_verdict(database: Database) -> None:
    policy = TaskPolicy(retry=Retry(attempts=3))
    with database.write() as session:
        a_service(session)
        failing = a_schedule(session, a_spec(name="close-month", owner="jana"), failures_in_a_row=2)
        a_task(session, schedule=failing, state=FAILED, finished_at=at("08:00"))
        a_task(session, schedule=failing, state=FAILED, finished_at=at("09:00"))
        a_task(session, schedule=failing, state=SKIPPED, finished_at=at("09:30"))
        error = {"type": "ValueError", "message": "first\nlast line\n", "traceback": "…"}
        last = a_task(
            session, schedule=failing, state=LOST, attempt=3, policy=policy, error=error, finished_at=at("10:00")
        )
        late = a_task(session, schedule=a_schedule(session), state=QUEUED, due_at=at("11:58"))
        a_task(session, state=QUEUED, due_at=at("11:59:30"))  # not yet late: the queue may have a backlog

    status = status_of(database, None)

    assert status["verdict"] == "2 schedules, 1 failing, 1 late; ticked 2 s ago"
    assert status["ok"] is False
    assert status["failing"] == [
        {
            "schedule": "close-month",
            "owner": "jana",
            "failures_in_a_row": 2,
            "since": "2026-11-24T09:00:00Z",
            "task_id": last.id,
            "state": "lost",
            "attempts": 3,
            "attempts_allowed": 3,
            "error": "ValueError: last line",
        }
    ]
    assert [(one["id"], one["seconds_late"]) for one in status["late"]] == [(late.id, 120)]
    assert status["waiting"] == [{"queue": "scheduled", "depth": 2, "oldest_seconds": 120}]
    assert status["redis"] is None


def test_what_runs_is_told_with_its_progress(database: Database) -> None:
    progress = {"done": 2, "total": 4, "message": "128 px"}
    with database.write() as session:
        running = a_task(
            session,
            task="create_image_set",
            kind="long",
            state=RUNNING,
            progress=progress,
            started_at=at("11:59"),
            stop_requested_at=at("11:59:30"),
        )

    status = status_of(database, None)

    assert status["running_count"] == 1
    assert status["running"] == [
        {
            "id": running.id,
            "name": "create_image_set",
            "kind": "long",
            "attempt": 1,
            "worker": "w1",
            "progress": progress,
            "seconds": 60,
            "stop_requested": True,
        }
    ]


def test_paused_and_parked_schedules_are_told_with_the_reason(database: Database) -> None:
    pause = schedules.pause_fields("jana", "partner outage", at("11:00"), at("18:00"))
    with database.write() as session:
        a_service(session)
        a_schedule(session, a_spec(name="feed"), pause=pause)
        a_schedule(session, a_spec(name="gone"), parked="its task function is gone")
        a_schedule(session, a_spec(name="retired"), retired_at=NOON, failures_in_a_row=3)

    status = status_of(database, None)

    assert status["schedules"] == {"total": 2, "active": 0, "paused": 1, "parked": 1, "failing": 0}
    assert status["paused"] == [
        {
            "schedule": "feed",
            "schedules": 1,
            "chosen": None,
            "by": "jana",
            "why": "partner outage",
            "since": "2026-11-24T11:00:00Z",
            "until": "2026-11-24T18:00:00Z",
        }
    ]
    assert status["parked"] == [{"schedule": "gone", "why": "its task function is gone"}]
    assert status["problems"] == ["1 parked"]


def test_what_one_command_paused_is_one_line(database: Database) -> None:
    disks = {
        name: schedules.pause_fields("jana", "new disks", at(clock), None, "all")
        for name, clock in (("a", "11:00:01"), ("b", "11:00:02"))
    }
    tagged = schedules.pause_fields("max", "the warehouse moves", at("10:00"), at("18:00"), "tag etl")
    by_file = schedules.pause_fields("schedules.yaml", "", at("09:00"), None)
    with database.write() as session:
        a_service(session)
        for name, pause in disks.items():
            a_schedule(session, a_spec(name=name), pause=pause)
        a_schedule(session, a_spec(name="c"), pause=tagged)
        a_schedule(session, a_spec(name="d"), pause=disks["a"], file_pause=by_file)
        a_schedule(session, a_spec(name="e"), pause=disks["a"], retired_at=NOON)

    status = status_of(database, None)

    assert status["schedules"]["paused"] == 4
    assert [(one["schedule"], one["schedules"], one["chosen"], one["by"], one["why"]) for one in status["paused"]] == [
        (None, 2, "all", "jana", "new disks"),
        (None, 1, "tag etl", "max", "the warehouse moves"),
        ("d", 1, None, "schedules.yaml", ""),
    ]
    assert [one["since"] for one in status["paused"][:2]] == ["2026-11-24T11:00:01Z", "2026-11-24T10:00:00Z"]
    assert [one["until"] for one in status["paused"][:2]] == [None, "2026-11-24T18:00:00Z"]


def test_what_is_tried_again_is_upcoming_too(database: Database) -> None:
    with database.write() as session:
        a_task(session, task="third", due_at=at("12:03"))
        a_task(session, task="second", state=RETRYING, attempt=1, due_at=at("12:02"))
        for clock in ("12:01", "12:04", "12:05", "12:06"):
            a_task(session, due_at=at(clock))

    names = [one["name"] for one in status_of(database, None)["upcoming"]]

    assert names == ["count_words", "second", "third", "count_words", "count_words"]


# --- silence --------------------------------------------------------------------------------------------------------


def test_silence_of_all_is_said_with_the_way_to_start(database: Database) -> None:
    with database.write() as session:
        a_task(session, due_at=at("12:10"))

    verdict = status_of(database, None)["verdict"]

    assert verdict == "0 schedules, no part has ticked: is the service running? `scheduler up`"


@pytest.mark.parametrize(
    ("ticking", "problems"),
    [
        pytest.param(
            {"dispatcher": 300, "keeper": 300, "worker-scheduled": 310},
            ["no part has ticked for 5 m: is the service running? `scheduler up`"],
            id="all fell silent",
        ),
        pytest.param({"dispatcher": 1, "worker-scheduled": 1}, ["no keeper"], id="one never came"),
        pytest.param(
            {"dispatcher": 45, "keeper": 1, "worker-scheduled": 1}, ["dispatcher silent for 45 s"], id="one fell silent"
        ),
        pytest.param(
            {"dispatcher": 1, "keeper": 1, "worker-long": 1},
            ["no worker of kind scheduled"],
            id="no worker for what waits",
        ),
        pytest.param({"dispatcher": 1, "keeper": 1, "worker-scheduled": 30}, [], id="just in time"),
        pytest.param(
            {"dispatcher": 1, "keeper": 1, "worker-scheduled": 1, "web": 45},
            ["web silent for 45 s"],
            id="the page died",
        ),
    ],
)
def test_silence_of_a_part_is_a_problem(database: Database, ticking: dict[str, float], problems: list[str]) -> None:
    with database.write() as session:
        a_task(session, due_at=at("12:10"))
        for part, seconds in ticking.items():
            a_part(session, part, seconds, planner=1.0, reconcile=1.0)

    assert status_of(database, None)["problems"] == problems


@pytest.mark.parametrize(
    ("details", "since", "problems"),
    [
        pytest.param({"planner": 61.0, "reconcile": 8.0}, "10:00", ["planner stuck for 1 m"], id="planner"),
        pytest.param({"planner": 1.0, "reconcile": 300.0}, "10:00", ["reconcile stuck for 5 m"], id="reconcile"),
        pytest.param({"planner": None, "reconcile": 1.0}, "10:00", ["planner stuck"], id="never got through"),
        pytest.param({"planner": None, "reconcile": None}, "11:59:30", [], id="has just begun"),
    ],
)
def test_a_keeper_that_ticks_and_gets_nothing_done_is_a_problem(
    database: Database, details: dict[str, Any], since: str, problems: list[str]
) -> None:
    with database.write() as session:
        a_part(session, "dispatcher")
        a_part(session, "keeper", 2.0, since=since, **details)

    assert status_of(database, None)["problems"] == problems


def test_one_web_part_that_ticks_is_enough(database: Database) -> None:
    with database.write() as session:
        a_service(session)
        a_part(session, "web", 300.0)
        a_part(session, "web", 3.0)

    assert status_of(database, None)["ok"] is True


def test_one_keeper_that_gets_through_is_enough(database: Database) -> None:
    with database.write() as session:
        a_part(session, "dispatcher")
        a_part(session, "keeper", 2.0, planner=1.0, reconcile=1.0)
        a_part(session, "keeper", 3.0, planner=500.0, reconcile=None)

    assert status_of(database, None)["ok"] is True


@pytest.mark.parametrize(
    ("waited", "problems"),
    [(dt.timedelta(minutes=14), []), (dt.timedelta(minutes=22), ["mail stuck for 22 m"])],
    ids=["a while", "long"],
)
def test_mail_that_waits_for_long_is_a_problem(database: Database, waited: dt.timedelta, problems: list[str]) -> None:
    with database.write() as session:
        a_service(session)
        contact = Contact(name="ops", email=("ops@example.org",))
        outbox.queue(session, messages_to(contact, Letter("2 failing", "Text"), key="k", about="alert"))
        session.execute(update(OutboxMessage).values(created_at=NOON - waited, last_error="the server is away"))

    status = status_of(database, None)

    assert status["problems"] == problems
    assert status["outbox"] == {
        "waiting": 1,
        "oldest_seconds": waited.total_seconds(),
        "given_up": 0,
        "last_error": "the server is away",
    }


def test_what_only_an_alert_knows_is_a_problem_as_long_as_it_is_open(database: Database) -> None:
    with database.write() as session:
        a_service(session)
        plain: dict[str, Any] = {"opened_at": NOON - MINUTE, "last_at": NOON}
        late = {"schedule": "close-month", "why": "not done by 08:00", "told": ["ops"]}
        session.add(Alert(subject="schedule:1:late", event="late", details=late, told_at=NOON, **plain))
        over = {**plain, "state": "closed", "closed_at": NOON}
        session.add(Alert(subject="schedule:2:too_long", event="too_long", details={}, **over))
        session.add(Alert(subject="schedule:3:failed", event="failed", details={"schedule": "feed"}, **plain))

    status = status_of(database, None)

    assert status["problems"] == ["1 not done in time"]
    assert (status["alerts"]["open"], status["alerts"]["events"]) == (2, {"failed": 1, "late": 1})
    assert status["alerts"]["newest"][-1] == {
        "event": "late",
        "schedule": "close-month",
        "about": "close-month",
        "since": iso(NOON - MINUTE),
        "told_at": iso(NOON),
        "times": 1,
        "why": "not done by 08:00",
        "told": ["ops"],
    }


def test_redis_away_is_said_and_the_rest_is_told_all_the_same(database: Database) -> None:
    with database.write() as session:
        a_service(session)
    client = connect("redis://127.0.0.1:1/0")

    status = status_of(database, WaitingRoom(client))
    client.close()

    assert status["verdict"] == "0 schedules, Redis is away; ticked 2 s ago"
    assert status["redis"]["message"].startswith("Redis does not answer at 127.0.0.1:1 (")
