"""A task for each past fire time that has not succeeded, beside the row that it has."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from scheduler.broker.connection import connect
from scheduler.broker.keys import job_id
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.backfill import Backfilled, Backfills
from scheduler.engine.check.doctor import examine
from scheduler.errors import NotFound, Refused, WrongUsage
from scheduler.rules.states import CANCELLED, FAILED, MISSED, PLANNED, QUEUED, SKIPPED, SUCCEEDED
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.schedules import pause_fields
from scheduler.store.tables import Task
from tests.builders import HOUR, a_schedule, a_spec, a_task, at

FIRST, LAST = at("01:00", "2026-11-02"), at("04:00", "2026-11-02")
HOURS = [FIRST + number * HOUR for number in range(4)]


@pytest.fixture
def backfills(database: Database, room: WaitingRoom) -> Backfills:
    return Backfills(database, room, by="jana@desk")


def in_force(database: Database, name: str = "hourly", **fields: Any) -> int:
    with database.write() as session:
        return a_schedule(session, a_spec(name=name, every=HOUR, args={"source": "a"}), **fields).id


def a_row(database: Database, schedule_id: int, **fields: Any) -> int:
    with database.write() as session:
        key = f"hourly@{fields['fire_time']:%Y-%m-%dT%H:%M:%SZ}" if fields.get("fire_time") else "hourly@x manual"
        row = {"schedule_id": schedule_id, "schedule": "hourly", "idempotency_key": key, **fields}
        return a_task(session, **row).id


def rows_of(database: Database, made: Backfilled) -> list[Task]:
    with database.read() as session:
        return list(session.scalars(select(Task).where(Task.id.in_(made.task_ids)).order_by(Task.due_at)))


def test_each_fire_time_of_the_span_gets_a_task(database: Database, room: WaitingRoom, backfills: Backfills):
    schedule_id = in_force(database)

    made = backfills.backfill("hourly", FIRST, LAST)

    rows = rows_of(database, made)
    assert (list(made.fire_times), made.left_out) == (HOURS, 0)
    assert [row.idempotency_key for row in rows] == [f"hourly@2026-11-02T0{hour}:00:00Z" for hour in (1, 2, 3, 4)]
    assert {(row.origin, row.state, row.fire_time, row.requested_by, row.retry_of) for row in rows} == {
        ("backfill", PLANNED, None, "jana@desk", None)
    }
    assert {(row.task, row.args["source"], row.schedule, row.schedule_id) for row in rows} == {
        ("count_words", "a", "hourly", schedule_id)
    }
    assert {row.start_by for row in rows} == {None}
    assert {job_id(task_id, 1) for task_id in made.task_ids} == room.waiting_ids()
    assert made.warnings == ("no worker of kind scheduled has been seen lately; it waits until one is started",)


def test_they_wait_for_one_another_and_none_is_skipped(database: Database, backfills: Backfills):
    schedule_id = in_force(database)

    rows = rows_of(database, backfills.backfill("hourly", FIRST, LAST))

    assert {row.lane for row in rows} == {f"schedule:{schedule_id}"}
    assert {row.policy["overlap"] for row in rows} == {"queue-all"}
    assert [row.due_at for row in rows] == sorted({row.due_at for row in rows})


def test_what_succeeded_or_has_not_ended_is_left_out(database: Database, backfills: Backfills):
    schedule_id = in_force(database)
    a_row(database, schedule_id, fire_time=HOURS[0], state=SUCCEEDED)
    failed = a_row(database, schedule_id, fire_time=HOURS[1], state=FAILED)
    a_row(database, schedule_id, fire_time=HOURS[2], state=QUEUED)
    missed = a_row(database, schedule_id, fire_time=HOURS[3], state=MISSED)

    made = backfills.backfill("hourly", FIRST, LAST)

    assert (list(made.fire_times), made.left_out) == ([HOURS[1], HOURS[3]], 2)
    assert [row.retry_of for row in rows_of(database, made)] == [failed, missed]


def test_with_all_what_succeeded_runs_again_but_not_what_has_not_ended(database: Database, backfills: Backfills):
    schedule_id = in_force(database)
    done = a_row(database, schedule_id, fire_time=HOURS[0], state=SUCCEEDED)
    a_row(database, schedule_id, fire_time=HOURS[1], state=QUEUED)

    made = backfills.backfill("hourly", HOURS[0], HOURS[1], everything=True)

    assert (list(made.fire_times), made.left_out) == ([HOURS[0]], 1)
    assert [row.retry_of for row in rows_of(database, made)] == [done]


def test_a_second_backfill_finds_what_the_first_one_made(database: Database, backfills: Backfills):
    in_force(database)

    first = backfills.backfill("hourly", FIRST, LAST)
    second = backfills.backfill("hourly", FIRST, LAST, everything=True)

    assert (len(first.task_ids), second.task_ids, second.left_out) == (4, (), 4)


def test_of_two_at_once_one_makes_the_tasks(database: Database, room: WaitingRoom):
    in_force(database)
    made: list[Backfilled] = []

    def backfill() -> None:
        made.append(Backfills(database, room, by="jana").backfill("hourly", FIRST, LAST))

    threads = [threading.Thread(target=backfill) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(len(one.task_ids) for one in made) == [0, 0, 4]


def test_what_a_retry_made_good_is_left_out(database: Database, backfills: Backfills):
    schedule_id = in_force(database)
    failed = a_row(database, schedule_id, fire_time=HOURS[0], state=FAILED)
    key = "hourly@2026-11-02T01:00:00Z"
    a_row(database, schedule_id, origin="retry", state=SUCCEEDED, retry_of=failed, idempotency_key=key)

    made = backfills.backfill("hourly", HOURS[0], HOURS[0])

    assert (made.fire_times, made.left_out) == ((), 1)


@pytest.mark.parametrize("state", [SKIPPED, CANCELLED, MISSED])
def test_what_did_not_run_is_made_good(database: Database, backfills: Backfills, state: str):
    schedule_id = in_force(database)
    old = a_row(database, schedule_id, fire_time=HOURS[0], state=state)

    made = backfills.backfill("hourly", HOURS[0], HOURS[0])

    assert [row.retry_of for row in rows_of(database, made)] == [old]


def test_a_dry_run_makes_nothing(database: Database, backfills: Backfills):
    in_force(database)

    made = backfills.backfill("hourly", FIRST, LAST, dry_run=True)

    assert (list(made.fire_times), made.task_ids) == (HOURS, ())
    with database.read() as session:
        assert session.scalars(select(Task)).all() == []


def test_a_paused_schedule_is_told_and_runs_all_the_same(database: Database, backfills: Backfills):
    with database.write() as session:
        now = schedules.now(session)
    in_force(database, pause=pause_fields("jana", "partner away", now, None))

    made = backfills.backfill("hourly", FIRST, FIRST, dry_run=True)

    assert made.warnings == ("the schedule is paused by jana: partner away; what is asked for runs all the same",)
    assert made.fire_times == (FIRST,)


def refused(backfills: Backfills, first: dt.datetime = FIRST, last: dt.datetime = LAST, name: str = "hourly") -> str:
    with pytest.raises((Refused, WrongUsage, NotFound)) as fault:
        backfills.backfill(name, first, last)
    return str(fault.value)


def test_what_cannot_be_is_refused(database: Database, backfills: Backfills):
    in_force(database)
    in_force(database, "gone", retired_at=at("05:00", "2026-11-01"))
    in_force(database, "parked", parked="task function count_words is not to be had")
    tomorrow = at("00:00", "2999-01-01")

    assert refused(backfills, LAST, FIRST) == (
        "from 2026-11-02T04:00:00Z is later than to 2026-11-02T01:00:00Z; give the earlier one first"
    )
    assert refused(backfills, FIRST, tomorrow) == (
        "to 2999-01-01T00:00:00Z is not past yet; what is to come fires by itself"
    )
    assert refused(backfills, FIRST - 1000 * HOUR, FIRST) == (
        'Schedule "hourly" has more than 1,000 fire times in that span; 1,000 may be asked for at once: '
        "begin with a span to 2026-11-02T00:00:00Z"
    )
    assert refused(backfills, name="hurly") == 'There is no schedule "hurly"; `scheduler schedules` lists them'
    assert refused(backfills, name="gone") == (
        'Schedule "gone" was taken out of the file at 2026-11-01T05:00:00Z; put it back to run what it missed'
    )
    assert refused(backfills, name="parked") == (
        'Schedule "parked" is parked, so its tasks could not run: task function count_words is not to be had'
    )
    with database.read() as session:
        assert session.scalars(select(Task)).all() == []


def test_a_thousand_at_once_may_be_asked_for(database: Database, backfills: Backfills):
    in_force(database)

    assert len(backfills.backfill("hourly", FIRST - 999 * HOUR, FIRST, dry_run=True).fire_times) == 1000


def test_the_doctor_finds_no_fault_in_what_is_made(database: Database, room: WaitingRoom, backfills: Backfills):
    in_force(database)
    before = {finding.name for finding in examine(database, room) if not finding.ok}

    made = backfills.backfill("hourly", FIRST - 99 * HOUR, FIRST)

    assert len(made.task_ids) == 100
    assert {finding.name for finding in examine(database, room) if not finding.ok} <= before


def test_without_redis_they_are_recorded(database: Database, tmp_path: Path):
    in_force(database)
    away = connect(f"unix://{tmp_path}/no-redis.sock")

    made = Backfills(database, WaitingRoom(away), by="jana").backfill("hourly", FIRST, LAST)

    assert len(made.task_ids) == 4
    assert made.warnings[-1].startswith("recorded, but not queued yet: ")
    away.close()
