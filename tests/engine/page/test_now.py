from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from scheduler.clock import iso, utc_now
from scheduler.engine.page.frame import service_zone
from scheduler.engine.page.now import Banner, now_of
from scheduler.store import parts
from scheduler.store.database import Database
from scheduler.store.mail_tables import OutboxMessage
from scheduler.store.tables import Part
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task

SECOND = dt.timedelta(seconds=1)


def tick(session: Session, part: str, silent_for: dt.timedelta = dt.timedelta(0), **details: Any) -> None:
    name = f"{part}@here:1"
    parts.tick(session, name, part, "here", 1, details)
    session.execute(update(Part).where(Part.name == name).values(ticked_at=utc_now() - silent_for))


def all_parts(session: Session, **silent_for: dt.timedelta) -> None:
    for part in ("dispatcher", "keeper", "worker-scheduled"):
        details = {"planner": 1.0, "reconcile": 1.0} if part == "keeper" else {}
        tick(session, part, silent_for.get(part, dt.timedelta(0)), **details)


def troubles(database: Database, arrange: Callable[[Session], None]) -> list[str]:
    with database.write() as session:
        arrange(session)
    return [one.text for one in now_of(database, None)["troubles"]]


# --- running --------------------------------------------------------------------------------------------------------


def test_a_run_is_compared_with_what_is_usual_for_its_schedule(database: Database) -> None:
    now = utc_now()
    with database.write() as session:
        schedule = a_schedule(session)
        for number in range(6):
            start = now - (number + 1) * HOUR
            a_task(
                session,
                schedule=schedule,
                fire_time=start,
                state="succeeded",
                attempt=1,
                started_at=start,
                finished_at=start + 100 * SECOND,
            )
        a_task(session, schedule=schedule, fire_time=now, state="running", started_at=now - 40 * SECOND)
        a_task(session, task="count_words", kind="adhoc", state="running", started_at=now - 10 * SECOND)

    first, second = now_of(database, None)["running"]

    assert (first["name"], first["usual"], first["share"], first["slow"]) == ("nightly", 100.0, None, False)
    assert 0 < first["left"] <= 60
    assert first["started_at"] == iso(now - 40 * SECOND)
    assert (second["name"], second["usual"], second["left"], second["is_of_schedule"]) == (
        "count_words",
        None,
        None,
        False,
    )


def test_a_run_that_tells_how_far_it_is_is_believed_before_what_is_usual(database: Database) -> None:
    now = utc_now()
    with database.write() as session:
        a_task(session, state="running", started_at=now - 100 * SECOND, progress={"done": 50, "total": 100})

    (told,) = now_of(database, None)["running"]

    assert told["share"] == 0.5
    assert 100 <= told["left"] < 130


# --- missed and coming ----------------------------------------------------------------------------------------------


def test_what_was_missed_within_a_day_is_told_newest_first_and_a_schedule_once(database: Database) -> None:
    now = utc_now()
    with database.write() as session:
        other = a_schedule(session, a_spec(name="other"))
        a_task(session, schedule=other, fire_time=now - HOUR, state="missed", finished_at=now - HOUR, reason="1 h")
        schedule = a_schedule(session)
        for hours in (30, 3, 2):
            ended = now - hours * HOUR
            a_task(session, schedule=schedule, fire_time=ended, state="missed", finished_at=ended, reason=f"{hours} h")

    told = now_of(database, None)

    assert [(one["name"], one["times"], one["reason"]) for one in told["missed"]] == [
        ("nightly", 2, "2 h"),
        ("other", 1, "1 h"),
    ]
    assert told["missed_count"] == 3


def test_each_schedule_stands_once_among_what_comes(database: Database) -> None:
    now = utc_now()
    with database.write() as session:
        often = a_schedule(session, a_spec(name="often", every=MINUTE))
        hourly = a_schedule(session, a_spec(name="hourly", every=HOUR))
        for minutes in (1, 2, 3):
            a_task(session, schedule=often, fire_time=now + minutes * MINUTE)
        a_task(session, schedule=hourly, fire_time=now + 30 * MINUTE)
        a_task(session, schedule=a_schedule(session, a_spec(name="later")), fire_time=now + 2 * HOUR)

    coming = now_of(database, None)["coming"]

    assert [(one["name"], one["words"], one["due_at"]) for one in coming] == [
        ("often", "every minute", iso(now + MINUTE)),
        ("hourly", "every hour", iso(now + 30 * MINUTE)),
    ]


# --- queues ---------------------------------------------------------------------------------------------------------


def test_a_queue_is_told_with_what_waits_and_who_works_on_it(database: Database) -> None:
    now = utc_now()
    with database.write() as session:
        a_task(session, state="queued", due_at=now - 10 * SECOND, queue="scheduled")
        a_task(session, state="queued", due_at=now - 3 * SECOND, queue="scheduled")
        a_task(session, state="queued", due_at=now - 3 * SECOND, queue="nobody", kind="adhoc")
        tick(session, "worker-scheduled", queue="scheduled", task=1)
        parts.tick(session, "second", "worker-scheduled", "here", 2, {"queue": "scheduled", "task": None})
        tick(session, "worker-long", silent_for=MINUTE, queue="long")

    told = {one["queue"]: one for one in now_of(database, None)["queues"]}

    assert list(told) == ["long", "nobody", "scheduled"]
    assert {name: told["scheduled"][name] for name in ("depth", "workers", "busy", "silent")} == {
        "depth": 2,
        "workers": 2,
        "busy": 1,
        "silent": 0,
    }
    assert 10 <= told["scheduled"]["oldest_seconds"] < 40
    assert (told["nobody"]["depth"], told["nobody"]["workers"]) == (1, 0)
    assert (told["long"]["depth"], told["long"]["workers"], told["long"]["silent"]) == (0, 0, 1)


# --- troubles -------------------------------------------------------------------------------------------------------


def test_a_service_that_is_well_has_no_troubles(database: Database) -> None:
    assert troubles(database, all_parts) == []


def test_a_service_that_never_ticked_is_no_service(database: Database) -> None:
    told = troubles(database, lambda session: None)

    assert told == ["No part of the service has ticked: nothing starts; is the service running? `scheduler up`"]


def test_a_service_that_died_is_told(database: Database) -> None:
    def all_silent(session: Session) -> None:
        all_parts(session, **dict.fromkeys(("dispatcher", "keeper", "worker-scheduled"), 3 * MINUTE))

    assert troubles(database, all_silent) == [
        "No part of the service has ticked for 3 m: nothing starts; is the service running? `scheduler up`"
    ]


def test_a_dead_dispatcher_is_told_though_everything_else_lives_and_the_web_part_too(database: Database) -> None:
    def dispatcher_silent(session: Session) -> None:
        all_parts(session, dispatcher=2 * MINUTE)
        tick(session, "web")

    assert troubles(database, dispatcher_silent) == [
        "The dispatcher has not ticked for 2 m: nothing that falls due goes to its queue"
    ]
    assert now_of(database, None)["ok"] is False


def test_a_web_part_that_lives_alone_is_not_taken_for_a_service(database: Database) -> None:
    told = troubles(database, lambda session: tick(session, "web"))

    assert told == [
        "The dispatcher is not running: nothing that falls due goes to its queue",
        "The keeper is not running: nothing new is planned, and what is lost is not mended",
    ]
    assert now_of(database, None)["ok"] is False


def test_a_silent_web_part_is_told(database: Database) -> None:
    def web_silent(session: Session) -> None:
        all_parts(session)
        tick(session, "web", 2 * MINUTE)

    assert troubles(database, web_silent) == [
        "The web part has not ticked for 2 m: its pages and its HTTP interface do not answer"
    ]


def test_a_refused_file_and_mail_that_is_stuck_are_told(database: Database) -> None:
    def refused_and_stuck(session: Session) -> None:
        all_parts(session)
        trouble = {"message": "schedules.yaml:4:18: minute 61 does not exist", "since": iso(utc_now()), "faults": []}
        tick(session, "keeper", planner=1.0, reconcile=1.0, file="schedules.yaml", trouble=trouble, text_hash=None)
        plain = {"message_id": "m", "about": "alert", "channel": "email", "contact": "ops", "address": {}}
        before = utc_now() - 20 * MINUTE
        session.add(
            OutboxMessage(
                key="k", content={}, created_at=before, next_try_at=utc_now(), last_error="connection refused", **plain
            )
        )

    assert troubles(database, refused_and_stuck) == [
        "The schedule file is not in force: schedules.yaml:4:18: minute 61 does not exist",
        "Mail has been stuck for 20 m, 1 waiting: connection refused",
    ]
    assert now_of(database, None, with_faults=False)["troubles"][0] == Banner(
        "The schedule file is not in force: it was refused", "/file"
    )


# --- the frame ------------------------------------------------------------------------------------------------------


def test_the_zone_of_the_service_is_that_of_the_file_in_force(database: Database) -> None:
    before = service_zone(database)
    with database.write() as session:
        a_revision(session, book={"timezone": "Asia/Tokyo"})
        a_revision(session, book={"timezone": "Europe/Berlin"})

    assert (before, service_zone(database)) == ("UTC", "Europe/Berlin")


def test_without_an_answer_of_sql_the_zone_is_utc() -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")

    assert service_zone(away) == "UTC"
