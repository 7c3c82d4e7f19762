"""What happens to real rows becomes alerts and messages in the outbox: once, whoever looks and whatever dies."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event, select, update

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.cli.screens import status_screen
from scheduler.clock import iso, utc_now
from scheduler.engine.answers.status import status_of
from scheduler.engine.file.file_watch import FileWatch
from scheduler.engine.keeper import Keeper
from scheduler.engine.mail.alert_levels import levels_of
from scheduler.engine.mail.alerts import Alerts, forget_old
from scheduler.engine.pauses import release
from scheduler.engine.planner import Planner
from scheduler.engine.reconcile import Reconcile
from scheduler.engine.work.outcomes import Held, end_badly, end_well
from scheduler.rules.mail import alerts as rules
from scheduler.rules.mail.alerts import CALM, GATHER
from scheduler.rules.mail.messages import message_id
from scheduler.rules.spec import Missed, ScheduleSpec
from scheduler.rules.states import FAILED, FINAL, PLANNED, QUEUED, RUNNING, SKIPPED, SUCCEEDED
from scheduler.rules.task.policy import policy_of
from scheduler.settings import Settings
from scheduler.store import parts, schedules
from scheduler.store.database import Database
from scheduler.store.mail_tables import GIVEN_UP, Alert, Happening, OutboxMessage
from scheduler.store.tables import Attempt, Part, Revision, Schedule, Task
from scheduler.store.tasks import AttemptEnd
from scheduler.task_functions import Catalogue, TaskFunction
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task, at
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]
SECOND = dt.timedelta(seconds=1)
REALERT = 4 * HOUR
BOOM = AttemptEnd(FAILED, "ValueError", "boom\nand more")
CONTACTS = {
    "ops": {"name": "ops", "email": ["ops@example.org"]},
    "finance": {"name": "finance", "webhook": {"url_env": "HOOK_URL"}},
}


@pytest.fixture
def alerts(database: Database) -> Alerts:
    return an_alerts(database)


def an_alerts(database: Database) -> Alerts:
    return Alerts(database, service="jobs", base_url=None, realert=REALERT)


def put_in_force(database: Database, notify: Any = None, book: dict[str, Any] | None = None, **fields: Any) -> int:
    """A schedule that tells `ops` of everything, of a file with two contacts."""
    spec = a_spec(notify={"any": ("ops",)} if notify is None else notify, **fields)
    with database.write() as session:
        revision = a_revision(session, book={"contacts": CONTACTS, **(book or {})})
        return a_schedule(session, spec, revision_id=revision.id).id


def end(database: Database, schedule_id: int, *, well: bool = False, took: dt.timedelta = MINUTE) -> int:
    """A task of the schedule that has run and ends now; its id."""
    with database.write() as session:
        schedule = session.get_one(Schedule, schedule_id)
        task = a_task(session, schedule=schedule, state=RUNNING)
        started = update(Attempt).where(Attempt.task_id == task.id).values(started_at=utc_now() - took)
        session.execute(started)
        policy = policy_of(ScheduleSpec.model_validate(schedule.spec))
        held = Held(task.id, 1, task.token or "", policy, "scheduled", schedule_id, None, task.started_at)
        ended = end_well(session, held, None) if well else end_badly(session, held, BOOM)
        assert ended is not None
    return task.id


def told(database: Database) -> list[str]:
    """The subjects of all mails in the outbox, and the summaries of what goes to webhooks."""
    with database.read() as session:
        rows = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)).all()
        return [one.content.get("summary") or one.content["subject"] for one in rows]


def one_alert(database: Database) -> Alert:
    with database.read() as session:
        return session.scalars(select(Alert)).one()


# --- a schedule -----------------------------------------------------------------------------------------------------


def test_a_failure_is_one_message_a_second_is_none_a_success_is_one(database: Database, alerts: Alerts) -> None:
    nightly = put_in_force(database)
    first = end(database, nightly)
    now = utc_now()
    alerts.step(now + GATHER)
    end(database, nightly)
    alerts.step(now + HOUR)

    assert told(database) == ["[jobs] FAILED nightly: ValueError: boom"]
    assert (one_alert(database).times, one_alert(database).details["in_a_row"]) == (2, 2)

    with database.write() as session:  # as if all that had been two hours ago
        session.execute(update(Alert).values(opened_at=now - 2 * HOUR, told_at=now - 2 * HOUR, last_at=now - HOUR))
    end(database, nightly, well=True)
    alerts.step(utc_now() + GATHER)
    alerts.step(utc_now() + HOUR)

    assert told(database) == ["[jobs] FAILED nightly: ValueError: boom", "[jobs] recovered nightly after 2 h"]
    with database.read() as session:
        assert session.scalars(select(Happening)).all() == []
        opened, closed = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)).all()
    assert (opened.key, closed.key) == ("alert:1:opened:ops:email", "alert:1:closed:ops:email")
    assert closed.content["replies_to"] == [opened.message_id]
    assert f"scheduler retry {first}" in opened.content["text"]


def test_an_ordinary_success_writes_nothing_of_it(database: Database, alerts: Alerts) -> None:
    nightly = put_in_force(database)
    end(database, nightly, well=True)

    with database.read() as session:
        assert session.scalars(select(Happening)).all() == []
    assert alerts.step() == 0


def test_an_alert_is_told_again_after_the_interval(database: Database, alerts: Alerts) -> None:
    end(database, put_in_force(database))
    now = utc_now() + GATHER
    alerts.step(now)
    alerts.step(now + REALERT - SECOND)

    alerts.step(now + REALERT)

    assert told(database)[1].startswith("[jobs] STILL FAILED nightly: ValueError: boom (for 4 h")
    assert len(told(database)) == 2


def test_a_failure_is_told_from_the_one_that_the_schedule_names(database: Database, alerts: Alerts) -> None:
    nightly = put_in_force(database, failed_after=2)
    end(database, nightly)
    alerts.step(utc_now() + GATHER)
    assert told(database) == []

    end(database, nightly)
    alerts.step(utc_now() + GATHER)

    assert told(database) == ["[jobs] FAILED nightly: ValueError: boom"]


@pytest.mark.parametrize(
    ("notify", "expected"),
    [
        ({"any": ("ops",)}, ["ops", "ops"]),
        ({"failed": ("finance",)}, ["finance", "finance"]),
        ({"failed": ("finance",), "recovered": ("ops",)}, ["finance", "ops"]),
        ({"late": ("ops",)}, []),
        ({"failed": ("ops", "finance", "gone")}, ["ops", "finance", "ops", "finance"]),
    ],
    ids=["all to one", "by event", "another hears of the end", "nobody for this", "several, one unknown"],
)
def test_who_is_told_is_what_the_schedule_says(
    database: Database, alerts: Alerts, notify: dict[str, tuple[str, ...]], expected: list[str]
) -> None:
    nightly = put_in_force(database, notify)
    end(database, nightly)
    alerts.step(utc_now() + GATHER)
    end(database, nightly, well=True)
    alerts.step(utc_now() + 2 * HOUR)

    with database.read() as session:
        rows = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)).all()
    assert [one.contact for one in rows] == expected


def test_a_webhook_gets_json_at_the_place_that_the_environment_names(database: Database, alerts: Alerts) -> None:
    end(database, put_in_force(database, {"any": ("finance",)}))
    alerts.step(utc_now() + GATHER)

    with database.read() as session:
        row = session.scalars(select(OutboxMessage)).one()
    assert (row.channel, row.address) == ("webhook", {"url_env": "HOOK_URL"})
    assert (row.content["what"], row.content["schedule"], row.content["message_id"]) == (
        "opened",
        "nightly",
        row.message_id,
    )


def test_a_schedule_that_pauses_itself_is_told_until_it_goes_on(database: Database, alerts: Alerts) -> None:
    nightly = put_in_force(database, pause_after=1)
    end(database, nightly)
    alerts.step(utc_now() + GATHER)
    with database.write() as session:
        release(session, session.get_one(Schedule, nightly), schedules.now(session))
    now = utc_now()
    alerts.step(now + MINUTE)
    alerts.step(now + 2 * MINUTE)

    assert [one.split(" after ")[0] for one in told(database)] == [
        "[jobs] FAILED nightly: ValueError: boom",
        "[jobs] PAUSED ITSELF nightly: a final failure: ValueError: boom (no retry)",
        "[jobs] goes on: nightly",
    ]


def test_a_failure_is_over_with_a_success_also_after_a_person_reset_the_count(
    database: Database, alerts: Alerts
) -> None:
    nightly = put_in_force(database)
    end(database, nightly)
    alerts.step(utc_now() + GATHER)
    with database.write() as session:
        session.get_one(Schedule, nightly).failures_in_a_row = 0
    alerts.step(utc_now() + GATHER)
    assert one_alert(database).closed_at is None

    end(database, nightly, well=True)
    alerts.step(utc_now() + GATHER)

    assert one_alert(database).closed_at is not None


def test_a_success_sooner_than_too_fast_is_told(database: Database, alerts: Alerts) -> None:
    nightly = put_in_force(database, too_fast=30 * SECOND)
    end(database, nightly, well=True, took=2 * SECOND)
    alerts.step(utc_now() + GATHER)

    assert told(database) == ["[jobs] TOO FAST nightly: it took 2 s; less than 30 s is too fast"]

    end(database, nightly, well=True)
    alerts.step(utc_now() + GATHER)
    assert one_alert(database).closed_at is not None


def test_what_reconcile_finds_missed_is_one_alert_a_schedule(
    database: Database, room: WaitingRoom, alerts: Alerts
) -> None:
    nightly = put_in_force(database, missed=Missed(run="none"))
    with database.write() as session:
        schedule = session.get_one(Schedule, nightly)
        policy = policy_of(ScheduleSpec.model_validate(schedule.spec))
        for hours in (1, 2, 3):
            late = utc_now() - hours * HOUR
            a_task(session, schedule=schedule, fire_time=late, start_by=late + MINUTE, policy=policy)
    Reconcile(database, room).step()
    alerts.step(utc_now() + GATHER)

    assert told(database) == ["[jobs] MISSED nightly: 3 fire times"]


def test_what_the_planner_finds_missed_after_an_outage_is_told(
    database: Database, room: WaitingRoom, alerts: Alerts
) -> None:
    nightly = put_in_force(database, every=HOUR, missed=Missed(run="none"), grace=MINUTE)
    with database.write() as session:
        session.get_one(Schedule, nightly).planned_until = utc_now() - 5 * HOUR
    Planner(database, room, 2 * MINUTE).step()
    alerts.step(utc_now() + GATHER)

    assert told(database)[0] in ("[jobs] MISSED nightly: 4 fire times", "[jobs] MISSED nightly: 5 fire times")


@pytest.mark.parametrize(
    ("state", "now", "is_late"),
    [
        (PLANNED, "08:01", True),
        (PLANNED, "07:59", False),
        (FAILED, "08:01", True),
        (SUCCEEDED, "08:01", False),
        (SKIPPED, "08:01", False),
    ],
    ids=["has not started", "still has time", "failed", "is done", "was skipped"],
)
def test_what_has_not_succeeded_by_finish_by_is_late(
    database: Database, alerts: Alerts, state: str, now: str, is_late: bool
) -> None:
    put_in_force(database, finish_by=dt.time(8))
    with database.write() as session:
        schedule = session.scalars(select(Schedule)).one()
        ended = {"finished_at": at("07:50")} if state in FINAL else {}
        a_task(session, schedule=schedule, fire_time=at("06:30"), state=state, **ended)
    alerts.step(at(now))
    alerts.step(at(now) + GATHER)

    expected = f"[jobs] LATE nightly: not done by 08:00 UTC: {state}, its fire time was 2026-11-24 06:30 UTC"
    assert [one for one in told(database) if "LATE" in one] == ([expected] if is_late else [])


def a_task_done(
    database: Database, schedule_id: int, fire_time: dt.datetime, done_at: dt.datetime, **fields: Any
) -> int:
    """A task of the schedule that has succeeded; its id."""
    with database.write() as session:
        schedule = session.get_one(Schedule, schedule_id)
        values = {"fire_time": fire_time, "state": SUCCEEDED, "finished_at": done_at, **fields}
        return a_task(session, schedule=schedule, **values).id


@pytest.mark.parametrize(
    ("fire_time", "done_at", "expected"),
    [
        ("06:30", "08:00:04", ["[jobs] LATE nightly: done 4 s after 08:00 UTC, by which it should have ended"]),
        ("06:30", "08:00", []),
        ("08:00", "08:00:04", []),
    ],
    ids=["between two looks", "in time, looked at later", "fired at that moment: it is for the next day"],
)
def test_what_ended_soon_after_its_finish_by_is_told_once(
    database: Database, alerts: Alerts, fire_time: str, done_at: str, expected: list[str]
) -> None:
    nightly = put_in_force(database, finish_by=dt.time(8))
    alerts.step(at("07:59:58"))
    a_task_done(database, nightly, at(fire_time), at(done_at))

    for look in ("08:00:08", "08:00:18", "08:00:40", "08:40", "09:30", "12:30", "23:00"):
        alerts.step(at(look))

    assert told(database) == expected


def test_what_fires_at_the_very_moment_of_its_finish_by_has_a_day(database: Database, alerts: Alerts) -> None:
    put_in_force(database, finish_by=dt.time(8))
    with database.write() as session:
        a_task(session, schedule=session.scalars(select(Schedule)).one(), fire_time=at("08:00"), state=RUNNING)

    assert alerts.step(at("08:01")) == 0


def test_what_was_late_while_no_keeper_looked_is_told_once_when_one_comes_back(database: Database) -> None:
    nightly = put_in_force(database, finish_by=dt.time(8))
    a_task_done(database, nightly, at("06:30"), at("08:20"))

    for look in ("11:00", "11:01", "15:00"):
        an_alerts(database).step(at(look))  # each of a keeper that has just begun

    assert told(database) == ["[jobs] LATE nightly: done 20 m after 08:00 UTC, by which it should have ended"]
    assert (one_alert(database).opened_at, one_alert(database).closed_at) == (at("08:00"), at("08:20"))


def test_a_deadline_that_was_set_after_it_had_passed_was_not_missed(database: Database, alerts: Alerts) -> None:
    nightly = put_in_force(database, finish_by=dt.time(8))
    a_task_done(database, nightly, at("06:30"), at("08:20"))
    with database.write() as session:
        session.execute(update(Revision).values(accepted_at=at("09:00")))

    assert alerts.step(at("11:00")) == 0


def test_another_run_that_succeeded_in_time_is_enough(database: Database, alerts: Alerts) -> None:
    nightly = put_in_force(database, finish_by=dt.time(8))
    a_task_done(database, nightly, at("06:30"), at("09:00"))
    a_task_done(database, nightly, None, at("07:30"))  # a person ran it by hand

    assert alerts.step(at("10:00")) == 0


@pytest.mark.parametrize(
    ("day", "fire_time", "done_at", "expected"),
    [
        ("2026-10-25", at("06:30", "2026-10-24"), at("06:00", "2026-10-25"), None),
        ("2026-10-25", at("06:30", "2026-10-24"), at("07:00:04", "2026-10-25"), at("07:00", "2026-10-25")),
        ("2026-03-29", at("07:30", "2026-03-28"), at("06:00:04", "2026-03-29"), at("06:00", "2026-03-29")),
    ],
    ids=["autumn, in time", "autumn, a day of 25 hours", "spring, a day of 23 hours"],
)
def test_finish_by_is_local_time_on_the_days_of_a_change_of_the_clocks(
    database: Database,
    alerts: Alerts,
    day: str,
    fire_time: dt.datetime,
    done_at: dt.datetime,
    expected: dt.datetime | None,
) -> None:
    nightly = put_in_force(database, finish_by=dt.time(8), timezone="Europe/Berlin")
    a_task_done(database, nightly, fire_time, done_at)

    alerts.step(at("12:00", day))

    found = told(database)
    assert found == [] if expected is None else "LATE nightly: done 4 s after 08:00 Europe/Berlin" in found[0]
    assert expected is None or one_alert(database).opened_at == expected


def test_however_many_have_to_finish_by_a_time_they_are_asked_for_at_once(database: Database) -> None:
    with database.write() as session:
        revision = a_revision(session).id
        for number in range(12):
            spec = a_spec(name=f"s{number:02}", finish_by=dt.time(6 + number % 3), timezone="Europe/Berlin")
            schedule = a_schedule(session, spec, revision_id=revision)
            a_task(session, schedule=schedule, fire_time=at("03:30"), state=FAILED)
            if number % 2:
                a_task(session, schedule=schedule, state=SUCCEEDED)
    asked: list[str] = []

    event.listen(database.engine, "before_cursor_execute", lambda *of: asked.append(of[2]))
    with database.read() as session:
        levels = levels_of(session, at("12:00"))

    late = [one for one in levels.troubles if one.event == "late"]
    assert [one.schedule_id for one in late] == [1, 3, 5, 7, 9, 11]
    assert [one.at for one in late[:3]] == [at("05:00"), at("07:00"), at("06:00")]
    assert len([one for one in asked if "due(place, schedule_id, since, deadline)" in one.replace('"', "")]) == 1


def test_where_nothing_was_due_nothing_is_late(database: Database, alerts: Alerts) -> None:
    put_in_force(database, finish_by=dt.time(8))

    assert alerts.step(at("08:01")) == alerts.step(at("09:00")) == 0
    with database.read() as session:
        assert session.scalars(select(Alert)).all() == []


def test_a_late_task_that_succeeds_at_last_is_no_longer_late(database: Database, alerts: Alerts) -> None:
    nightly = put_in_force(database, finish_by=dt.time(8))
    with database.write() as session:
        schedule = session.get_one(Schedule, nightly)
        task = a_task(session, schedule=schedule, fire_time=at("06:30"), state=RUNNING)
    alerts.step(at("08:01"))
    alerts.step(at("08:02"))
    with database.write() as session:
        session.execute(update(Task).where(Task.id == task.id).values(state=SUCCEEDED, finished_at=at("08:20")))
    alerts.step(at("08:21"))
    alerts.step(at("08:22"))

    assert told(database)[-1] == "[jobs] done at last: nightly, 20 m after 08:00 UTC"


def test_a_task_that_runs_for_longer_than_warn_after_is_told(database: Database, alerts: Alerts) -> None:
    nightly = put_in_force(database, warn_after=5 * MINUTE)
    with database.write() as session:
        schedule = session.get_one(Schedule, nightly)
        a_task(session, schedule=schedule, state=RUNNING, started_at=utc_now() - 6 * MINUTE)
    alerts.step()

    assert told(database) == ["[jobs] TOO LONG nightly: runs for longer than 5 m, on w1"]


# --- the service ----------------------------------------------------------------------------------------------------


def tick(database: Database, part: str, ago: dt.timedelta, **fields: Any) -> None:
    plain = {"name": f"{part}@here:1", "host": "here", "pid": 1, "started_at": utc_now() - HOUR, "details": {}}
    with database.write() as session:
        session.add(Part(**{**plain, "part": part, "ticked_at": utc_now() - ago, **fields}))


@pytest.mark.parametrize(
    ("book", "expected"), [({}, ["finance", "ops"]), ({"notify": ["ops"]}, ["ops"])], ids=["all", "those of defaults"]
)
def test_a_kind_without_workers_is_told_to_those_of_the_service(
    database: Database, alerts: Alerts, book: dict[str, Any], expected: list[str]
) -> None:
    put_in_force(database, book=book)
    with database.write() as session:
        a_task(session, kind="long", state=QUEUED, due_at=utc_now() - 2 * MINUTE)
    now = utc_now()
    alerts.step(now)
    alerts.step(now + MINUTE)

    assert {one.removeprefix("[jobs] ") for one in told(database)} == {
        "NO WORKER long: tasks wait, and no worker of this kind ticks"
    }
    with database.read() as session:
        assert [one.contact for one in session.scalars(select(OutboxMessage).order_by(OutboxMessage.id))] == expected


def test_a_worker_that_ticks_is_all_a_kind_needs(database: Database, alerts: Alerts) -> None:
    put_in_force(database)
    tick(database, "worker-long", SECOND)
    with database.write() as session:
        a_task(session, kind="long", state=QUEUED, due_at=utc_now() - 2 * MINUTE)

    assert alerts.step(utc_now()) == 0
    with database.read() as session:
        assert session.scalars(select(Alert)).all() == []


def test_a_part_that_fell_silent_is_told_until_another_takes_its_place(database: Database, alerts: Alerts) -> None:
    put_in_force(database, book={"notify": ["ops"]})
    tick(database, "dispatcher", MINUTE)
    now = utc_now()
    alerts.step(now)
    alerts.step(now + GATHER)
    assert told(database)[0].startswith("[jobs] SILENT dispatcher on here: has not ticked since ")

    tick(database, "dispatcher", SECOND, name="dispatcher@here:2", started_at=utc_now() - 10 * SECOND)
    alerts.step(utc_now())
    with database.write() as session:
        session.execute(update(Alert).values(closed_at=now - MINUTE, told_at=now - 2 * MINUTE))
    alerts.step(utc_now())

    assert told(database)[1].startswith("[jobs] ticks again: dispatcher on here")


def test_mail_that_was_given_up_is_told(database: Database, alerts: Alerts) -> None:
    end(database, put_in_force(database, {"any": ("finance",)}, {"notify": ["ops"]}))
    now = utc_now()
    alerts.step(now + GATHER)
    with database.write() as session:
        session.execute(update(OutboxMessage).values(state=GIVEN_UP, last_error="404 Not Found"))
    alerts.step(now + GATHER)
    alerts.step(now + 2 * GATHER)

    expected = "[jobs] MAIL GIVEN UP mail: a message to finance could not be delivered: 404 Not Found"
    assert told(database)[1:] == [expected]


GOOD = """\
version: 1
timezone: UTC
contacts: {ops: {email: ops@example.org}}
schedules: {nightly: {task: count, when: {every: 1h}}}
"""


def test_a_bad_file_is_told_once_and_is_over_with_a_good_one(
    database: Database, room: WaitingRoom, alerts: Alerts, tmp_path: Path
) -> None:
    file = tmp_path / "schedules.yaml"
    watch = FileWatch(file, database, room, Catalogue({"count": TaskFunction("count", lambda: None)}))

    def reload(text: str, moment: dt.datetime) -> None:
        file.write_text(text)
        watch.step()
        watch.step()
        details = {"file": str(file), "trouble": watch.trouble, "text_hash": watch.text_hash}
        with database.write() as session:
            parts.tick(session, "keeper@here:1", "keeper", "here", 1, details)
            session.execute(update(Part).values(ticked_at=moment))

    now = utc_now()
    reload(GOOD, now)
    reload(GOOD.replace("1h", "1 hoor"), now)
    for seconds in (0, 10, 20, 30, 40, 50):
        alerts.step(now + seconds * SECOND / 2)
    alerts.step(now + GATHER)
    assert told(database) == [
        '[jobs] BAD FILE schedules.yaml: 4:50: schedule "nightly": when.every: "1 hoor" is not a duration'
    ]

    reload(GOOD, now + MINUTE)
    alerts.step(now + GATHER + SECOND)
    alerts.step(now + 2 * GATHER + SECOND)

    assert told(database)[1:] == ["[jobs] schedule file in force again: schedules.yaml after 31 s"]


# --- several at once, and death -------------------------------------------------------------------------------------


def test_two_keepers_at_once_tell_once(database: Database) -> None:
    nightly = put_in_force(database)
    for _ in range(3):
        end(database, nightly)
    now = utc_now() + GATHER
    both = [an_alerts(database), an_alerts(database)]
    start = threading.Barrier(2)

    def look(one: Alerts) -> None:
        start.wait(10)
        for number in range(5):
            one.step(now + number * SECOND)

    threads = [threading.Thread(target=look, args=(one,)) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert told(database) == ["[jobs] FAILED nightly: ValueError: boom"]
    assert one_alert(database).times == 3


def test_another_installation_marks_its_first_alert_differently(database: Database, alerts: Alerts) -> None:
    """A mail server drops what has a Message-ID that it has seen: alert 1 of the service before must not be it."""
    marks = []
    for moment in (at("02:00"), at("02:00") + dt.timedelta(microseconds=1)):
        end(database, put_in_force(database, name=f"nightly-{len(marks)}"))
        with database.write() as session:
            session.execute(update(Revision).values(accepted_at=moment))
        alerts.step(utc_now() + GATHER)
        with database.write() as session:
            [message] = session.scalars(select(OutboxMessage))
            marks.append((message.key, message.message_id))
            for table in (OutboxMessage, Alert):
                session.execute(delete(table))

    (first_key, first), (_, second) = marks
    assert first_key.endswith(":opened:ops:email")
    assert first == message_id(f"2026-11-24T02:00:00+00:00/{first_key}")
    assert first != second


@pytest.mark.parametrize(("point", "told_before"), [("alerts.before_commit", 0), ("alerts.after_commit", 1)])
def test_a_keeper_that_dies_while_it_tells_has_told_all_or_nothing(
    database: Database, database_url: str, alerts: Alerts, point: str, told_before: int
) -> None:
    end(database, put_in_force(database))
    now = utc_now() + GATHER
    subjects = ["[jobs] FAILED nightly: ValueError: boom"]

    killed = look_in_a_process(database_url, now, f"{point}=kill")

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert told(database) == subjects[:told_before]
    alerts.step(now)
    assert told(database) == subjects
    assert one_alert(database).times == 1


def look_in_a_process(database_url: str, now: dt.datetime, order: str) -> subprocess.CompletedProcess[str]:
    code = f"""if True:
        import datetime as dt
        from scheduler.engine.mail.alerts import Alerts
        from scheduler.store.database import Database
        alerts = Alerts(Database({database_url!r}), service="jobs", base_url=None, realert=dt.timedelta(hours=4))
        alerts.step(dt.datetime.fromisoformat({now.isoformat()!r}))
    """
    environment = {**os.environ, "SCHEDULER_POINT": order}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


def test_a_storm_is_one_letter(database: Database, alerts: Alerts) -> None:
    with database.write() as session:
        revision = a_revision(session, book={"contacts": CONTACTS})
        for number in range(200):
            spec = a_spec(name=f"job-{number}", notify={"any": ("ops",)})
            one = a_schedule(session, spec, revision_id=revision.id)
            details = {"error": "OSError: no route to host", "attempts": 1, "in_a_row": 1}
            session.add(
                Happening(happened_at=utc_now(), event=rules.FAILED, schedule_id=one.id, task_id=1, details=details)
            )
    now = utc_now()
    alerts.step(now)

    alerts.step(now + GATHER)

    assert told(database) == ["[jobs] FAILED: 200 schedules: OSError: no route to host"]


def test_what_flaps_is_told_once_and_that_it_is_calm_an_hour_after_its_last_change(database: Database) -> None:
    nightly = put_in_force(database)
    began = at("02:00")
    moment = began

    def happens(minutes: int, *, well: bool) -> None:
        """It ends so at that minute, and a keeper that has just begun looks then and twice again within a minute."""
        nonlocal moment
        moment = began + minutes * MINUTE
        task_id = end(database, nightly, well=well)
        with database.write() as session:
            session.execute(update(Task).where(Task.id == task_id).values(finished_at=moment))
            session.execute(update(Happening).values(happened_at=moment))
        for seconds in (0, 40, 50):
            an_alerts(database).step(moment + seconds * SECOND)

    for minutes in range(0, 12, 2):  # six changes, of which the third failure makes it flap
        happens(minutes, well=minutes % 4 == 2)

    flapping = [
        "[jobs] FAILED nightly: ValueError: boom",
        "[jobs] recovered nightly after 2 m",
        "[jobs] FAILED nightly: ValueError: boom",
        "[jobs] recovered nightly after 2 m",
        "[jobs] flapping nightly (failed): silent until it is calm for an hour",
    ]
    assert told(database) == flapping

    for minutes in (40, 69, 70):  # fails, fails again, is well; the hour begins anew
        happens(minutes, well=minutes == 70)
    for look in (CALM - 30 * MINUTE, CALM - SECOND):
        an_alerts(database).step(moment + look)
    assert told(database) == flapping

    an_alerts(database).step(moment + CALM)
    an_alerts(database).step(moment + 2 * CALM)

    assert told(database) == [*flapping, "[jobs] recovered nightly after 30 m, calm for an hour"]
    with database.read() as session:
        mails = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)).all()
    assert mails[-1].content["replies_to"] == [mails[4].message_id]

    happens(200, well=False)

    assert told(database)[6:] == ["[jobs] FAILED nightly: ValueError: boom"]


def test_alerts_that_are_long_over_are_forgotten(database: Database) -> None:
    with database.write() as session:
        for days in (89, 91):
            over = utc_now() - days * 24 * HOUR
            plain = {"event": "failed", "state": "closed", "opened_at": over, "last_at": over, "closed_at": over}
            session.add(Alert(subject=f"schedule:{days}:failed", details={}, **plain))
    with database.write() as session:
        forget_old(session)

    assert one_alert(database).subject == "schedule:89:failed"


def test_the_keeper_tells(database: Database, database_url: str, redis_url: str, tmp_path: Path) -> None:
    nightly = put_in_force(database)
    end(database, nightly)
    file = tmp_path / "schedules.yaml"
    with database.write() as session:  # half a minute ago
        session.execute(update(Happening).values(happened_at=utc_now() - GATHER))
    keeper = Keeper(
        Settings(database_url=database_url, redis_url=redis_url, file=file, data=tmp_path, task_packages=("tasks",))
    )
    timer = next(one for one in keeper.timers if one.name == "alerts")

    def tells() -> bool:
        timer.run_if_due()
        return told(database) != []

    wait_for(tells, what="the keeper to tell")
    keeper.backends.close()

    assert told(database) == ["[jobs] FAILED nightly: ValueError: boom"]


def test_the_status_lists_what_is_open(database: Database, alerts: Alerts) -> None:
    end(database, put_in_force(database))
    alerts.step(utc_now() + GATHER)

    status = status_of(database, None)

    alert = one_alert(database)
    assert status["alerts"] == {
        "open": 1,
        "events": {"failed": 1},
        "newest": [
            {
                "event": "failed",
                "schedule": "nightly",
                "about": "nightly",
                "since": iso(alert.opened_at),
                "told_at": iso(alert.told_at),
                "times": 1,
                "why": "ValueError: boom",
                "told": ["ops"],
            }
        ],
    }
    assert any(
        line.strip().startswith("alerts") and line.endswith(", told ops: ValueError: boom")
        for line in status_screen(status, 120)
    )
