"""What is old goes, with all that belongs to it; what is not old, has not ended, or was the last stays."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.context import Run, running
from scheduler.engine.check.doctor import examine
from scheduler.engine.planner import Planner
from scheduler.engine.retention import (
    LEAST_BATCH,
    LONGEST_BATCH,
    Ages,
    Deleted,
    delete_old,
    delete_old_audit,
    next_size,
)
from scheduler.kill_points import give_orders
from scheduler.rules.spec import Keep
from scheduler.rules.states import (
    CANCELLED,
    FAILED,
    LOST,
    MISSED,
    PLANNED,
    QUEUED,
    SKIPPED,
    SUCCEEDED,
    UNFINISHED,
)
from scheduler.settings import Settings
from scheduler.store.access_tables import AuditLine
from scheduler.store.database import Database
from scheduler.store.tables import Artifact, Attempt, Gap, LogChunk, Schedule, Task
from tasks import retention
from tasks.commons import BadArgument, Stopped
from tests.builders import HOUR, MINUTE, a_schedule, a_spec, a_task, an_attempt, at
from tests.waiting import wait_for

DAY = dt.timedelta(days=1)
NOW = at("03:00")


def ended(session: Session, days_ago: float, state: str = SUCCEEDED, **fields: Any) -> Task:
    moment = NOW - days_ago * DAY
    return a_task(session, state=state, finished_at=moment, created_at=moment, due_at=moment, **fields)


def with_all_that_belongs_to_it(session: Session, task: Task, data: Path) -> Path:
    """Gives a task an attempt, a log and an artifact; the artifact's file."""
    an_attempt(session, task, outcome=SUCCEEDED)
    session.add(LogChunk(task_id=task.id, attempt=1, written_at=NOW, lines="06:30:01 INFO hello"))
    path = f"{task.id}/1/1"
    file = data / "artifacts" / path
    file.parent.mkdir(parents=True)
    file.write_text("report")
    row = {"name": "report.txt", "media_type": "text/plain", "size": 6, "sha256": "0" * 64, "path": path}
    session.add(Artifact(task_id=task.id, attempt=1, created_at=NOW, **row))
    session.flush()
    return file


def delete(database: Database, data: Path, **more: Any) -> Deleted:
    defaults: dict[str, Any] = {"days": 90, "failed_days": 365, "batch": 500, "now": NOW}
    return delete_old(database, data, wait=lambda seconds: None, **{**defaults, **more})


def left(database: Database) -> list[int]:
    with database.read() as session:
        return list(session.scalars(select(Task.id).order_by(Task.id)))


def count(database: Database, table: Any) -> int:
    with database.read() as session:
        return session.execute(select(func.count()).select_from(table)).scalar_one()


AGES = {
    "succeeded": (None, SUCCEEDED, 90),
    "failed": (None, FAILED, 365),
    "skipped did not succeed": (None, SKIPPED, 365),
    "of a schedule that says nothing": (1, SUCCEEDED, 90),
    "of a schedule that says both": (2, SUCCEEDED, 7),
    "of a schedule that says both, failed": (2, LOST, 14),
}


@pytest.mark.parametrize(("schedule", "state", "days"), AGES.values(), ids=AGES)
def test_how_long_a_task_is_kept(schedule: int | None, state: str, days: int):
    assert Ages(90, 365, {2: (7, 14)}).keeps_days(schedule, state) == days


def test_an_old_task_goes_with_all_that_belongs_to_it(database: Database, tmp_path: Path):
    with database.write() as session:
        old, young = ended(session, 91), ended(session, 89)
        files = [with_all_that_belongs_to_it(session, task, tmp_path) for task in (old, young)]

    deleted = delete(database, tmp_path)

    assert left(database) == [young.id]
    assert [count(database, table) for table in (Attempt, LogChunk, Artifact)] == [1, 1, 1]
    assert [file.exists() for file in files] == [False, True]
    assert not files[0].parent.parent.exists()
    assert deleted.as_json() == {"deleted": {"scheduled": {"succeeded": 1}}, "tasks": 1, "gaps": 0, "audit_lines": 0}


def test_what_did_not_succeed_is_kept_longer(database: Database, tmp_path: Path):
    with database.write() as session:
        for state in (SUCCEEDED, FAILED, LOST, MISSED, SKIPPED, CANCELLED):
            ended(session, 100, state)
            ended(session, 400, state, kind="long")

    deleted = delete(database, tmp_path)

    gone = dict.fromkeys(("cancelled", "failed", "lost", "missed", "skipped", "succeeded"), 1)
    assert deleted.as_json()["deleted"] == {"long": gone, "scheduled": {"succeeded": 1}}
    assert len(left(database)) == 5


def test_the_keep_of_a_schedule_wins_also_when_it_is_retired(database: Database, tmp_path: Path):
    with database.write() as session:
        plain = a_schedule(session, a_spec(name="plain"))
        short = a_schedule(session, a_spec(name="short", keep=Keep(days=7)), retired_at=NOW)
        long = a_schedule(session, a_spec(name="long", keep=Keep(days=1000, failed_days=30)))
        rows = {
            (schedule.name, state, days): ended(session, days, state, schedule=schedule).id
            for schedule in (plain, short, long)
            for state in (SUCCEEDED, FAILED)
            for days in (50, 8, 1)
        }

    delete(database, tmp_path)

    kept = set(left(database))
    gone = {key for key, task_id in rows.items() if task_id not in kept}
    assert gone == {("short", SUCCEEDED, 50), ("short", SUCCEEDED, 8), ("long", FAILED, 50)}


def test_what_has_not_ended_stays_however_old(database: Database, tmp_path: Path):
    with database.write() as session:
        for state in UNFINISHED:
            a_task(session, state=state, created_at=NOW - 900 * DAY, due_at=NOW - 900 * DAY)

    deleted = delete(database, tmp_path, days=1, failed_days=1)

    assert (deleted.tasks.total(), len(left(database))) == (0, len(UNFINISHED))


def test_the_last_ended_task_of_each_schedule_stays(database: Database, tmp_path: Path):
    with database.write() as session:
        one, other = a_schedule(session, a_spec(name="one")), a_schedule(session, a_spec(name="other"))
        ended(session, 900, schedule=one)
        last = ended(session, 800, schedule=one)
        only = ended(session, 999, FAILED, schedule=other)
        planned = a_task(session, schedule=one, state=PLANNED)  # not ended: no reason to let the last one go

    delete(database, tmp_path, batch=1)
    delete(database, tmp_path)

    assert left(database) == [last.id, only.id, planned.id]


def test_a_newer_task_that_repeats_an_old_one_goes_on_without_it(database: Database, tmp_path: Path):
    with database.write() as session:
        old = ended(session, 900)
        retry = a_task(session, state=QUEUED, origin="retry", retry_of=old.id)

    delete(database, tmp_path)

    with database.read() as session:
        assert session.scalars(select(Task)).one().retry_of is None
    assert left(database) == [retry.id]


def test_it_goes_in_batches_and_tells_how_far_it_is(database: Database, tmp_path: Path):
    told: list[tuple[int, int, int]] = []
    with database.write() as session:
        for number in range(5):
            ended(session, 100 + number)
        ended(session, 101, FAILED)

    delete(database, tmp_path, batch=2, watch=lambda *numbers: told.append(numbers))

    assert told == [(3, 6, 2), (5, 6, 4), (6, 6, 5)]


SIZES = {
    "quick": (100, LONGEST_BATCH / 3, 200),
    "quick, as many as there may be": (400, LONGEST_BATCH / 3, 500),
    "just right": (100, LONGEST_BATCH * 0.9, 100),
    "slow": (100, LONGEST_BATCH * 2, 50),
    "slow, and none smaller": (LEAST_BATCH, 10, LEAST_BATCH),
    "slow, and fewer were asked for": (5, 10, 5),
}


@pytest.mark.parametrize(("size", "took", "expected"), SIZES.values(), ids=SIZES)
def test_the_size_of_a_batch_follows_how_long_it_takes(size: int, took: float, expected: int):
    assert next_size(size, took, most=500 if size > 5 else 5) == expected


def test_a_stop_leaves_whole_batches(database: Database, tmp_path: Path):
    def stop(looked: int, total: int, deleted: int) -> None:
        raise Stopped

    with database.write() as session:
        for number in range(5):
            ended(session, 100 + number)

    with pytest.raises(Stopped):
        delete(database, tmp_path, batch=2, watch=stop)

    assert len(left(database)) == 3


def test_more_rows_than_a_page_are_all_looked_at(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("scheduler.engine.retention.PAGE", 2)
    with database.write() as session:
        moment = 100  # all at the same moment: pages part them by their ids
        for state in (FAILED, SUCCEEDED, FAILED, SUCCEEDED, SUCCEEDED, FAILED, SUCCEEDED):
            ended(session, moment, state)

    deleted = delete(database, tmp_path, batch=1)

    assert deleted.as_json()["deleted"] == {"scheduled": {"succeeded": 4}}


def test_records_of_gaps_go_when_the_longest_time_is_over(database: Database, tmp_path: Path):
    with database.write() as session:
        schedule = a_schedule(session)
        for days in (364, 366):
            moment = NOW - days * DAY
            gap = {"first": moment - DAY, "last": moment - HOUR, "count": 2000, "recorded_at": moment}
            session.add(Gap(schedule_id=schedule.id, **gap))

    deleted = delete(database, tmp_path)

    assert (deleted.gaps, count(database, Gap)) == (1, 1)


def test_deleting_old_rows_never_lets_an_old_instant_fire_again(database: Database, room: WaitingRoom, tmp_path: Path):
    planner = Planner(database, room, 2 * MINUTE)
    with database.write() as session:
        schedule = a_schedule(session, a_spec(every=HOUR), planned_until=NOW - 3 * HOUR)
    planner.step(NOW)
    with database.write() as session:
        for task in session.scalars(select(Task)):
            task.state, task.finished_at = SUCCEEDED, NOW - 900 * DAY
    before = left(database)

    deleted = delete(database, tmp_path)
    planner.step(NOW)
    planner.step(NOW + MINUTE)

    assert deleted.tasks.total() == len(before) - 1 > 0
    assert left(database) == [before[-1]]
    with database.read() as session:
        assert session.get_one(Schedule, schedule.id).planned_until >= NOW


@pytest.mark.parametrize("point", ["planner.before_begin", "planner.after_insert", "planner.after_commit"])
def test_a_planner_held_in_the_middle_while_old_rows_go_brings_none_of_them_back(
    database: Database, room: WaitingRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
):
    planner = Planner(database, room, 2 * MINUTE)
    with database.write() as session:
        a_schedule(session, a_spec(every=HOUR, grace=5 * HOUR), planned_until=NOW - 4 * HOUR)
    planner.step(NOW - 90 * MINUTE)
    with database.write() as session:
        for task in session.scalars(select(Task).where(Task.fire_time <= NOW - 2 * HOUR)):
            task.state, task.finished_at = SUCCEEDED, NOW - 900 * DAY
    (tmp_path / "reached").mkdir()
    monkeypatch.setenv("SCHEDULER_POINT_FOLDER", str(tmp_path / "reached"))
    give_orders(f"{point}=wait:{tmp_path / 'go'}")

    with ThreadPoolExecutor(2) as pool:
        try:
            planning = pool.submit(planner.step, NOW)
            wait_for(lambda: (tmp_path / "reached" / point).exists(), what=f"{point} to be reached")
            deleting = pool.submit(delete, database, tmp_path)
            if not (database.is_sqlite and point == "planner.after_insert"):  # there the second waits for the first
                wait_for(deleting.done, what="the old rows to be gone")
        finally:
            (tmp_path / "go").touch()
            give_orders("")
        planning.result()
        deleted = deleting.result()
    planner.step(NOW)

    with database.read() as session:
        moments = session.scalars(select(Task.fire_time).order_by(Task.fire_time)).all()
    assert deleted.tasks.total() == 1
    assert moments == [NOW - 2 * HOUR, NOW - HOUR, NOW, NOW + HOUR]  # the last one that ended stays


def test_after_it_the_doctor_finds_no_fault_that_was_not_there(database: Database, room: WaitingRoom, tmp_path: Path):
    with database.write() as session:
        schedule = a_schedule(session)
        for days in (900, 800, 1):
            with_all_that_belongs_to_it(session, ended(session, days, schedule=schedule, attempt=1), tmp_path)

    def faults() -> set[str]:
        return {finding.name for finding in examine(database, room) if not finding.ok}

    before = faults()

    assert delete(database, tmp_path).tasks.total() == 2
    assert faults() <= before


def a_line(session: Session, days: float) -> None:
    session.add(
        AuditLine(
            at=NOW - days * DAY, who="jana", via="cli", address="here", action="run", subject="task 7", details={}
        )
    )


def test_lines_of_the_audit_go_when_their_time_is_over_a_few_at_a_time(database: Database):
    with database.write() as session:
        for days in (403, 402, 401.5, 401, 399):
            a_line(session, days)
    waits: list[float] = []

    deleted = delete_old_audit(database, days=400, batch=3, now=NOW, wait=waits.append)

    assert (deleted, count(database, AuditLine), len(waits)) == (4, 1, 1)


def test_nobody_changes_a_line_of_the_audit(database: Database):
    with database.write() as session:
        a_line(session, 1)

    with pytest.raises(DBAPIError, match="lines of the audit are never changed"), database.write() as session:
        session.execute(update(AuditLine).values(who="somebody else"))


def test_the_task_function_takes_what_the_settings_say(database: Database, tmp_path: Path):
    with database.write() as session:
        ended(session, 20)
        ended(session, 20, FAILED)
        ended(session, 6000)
        for days in (900, 800, 600):
            a_line(session, days)
    kept = {"keep_days": 5000, "keep_failed_days": 3000, "keep_audit_days": 700}
    settings = Settings(database_url=database.url, data=tmp_path, **kept)  # type: ignore[arg-type]
    (tmp_path / "artifacts" / "999" / "1").mkdir(parents=True)  # of a task that is gone
    told: list[dict[str, Any]] = []
    with running(Run(1, 1, "long", "retention@now", report_progress=told.append, settings=settings)):
        by_settings = retention()
        by_argument = retention(days=1)

    assert by_settings == {
        "deleted": {"scheduled": {"succeeded": 1}},
        "tasks": 1,
        "gaps": 0,
        "audit_lines": 2,
        "leftovers": 1,
    }
    assert not (tmp_path / "artifacts" / "999" / "1").exists()
    assert by_argument["deleted"] == {"scheduled": {"succeeded": 1}}
    assert told[0] == {"done": 1, "total": 1, "message": "1 old tasks deleted"}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no days": ({"days": 0}, 'days is "0"; give a whole number from 1 to 36500'),
    "less than none": ({"failed_days": -1}, 'failed_days is "-1"; give a whole number from 1 to 36500'),
    "text": ({"days": "90"}, 'days is "90"; give a whole number from 1 to 36500'),
    "all at once": ({"batch": 1_000_000}, 'batch is "1000000"; give a whole number from 1 to 5000'),
}


@pytest.mark.parametrize(("args", "message"), BAD.values(), ids=BAD)
def test_numbers_are_bounded(args: dict[str, Any], message: str):
    with pytest.raises(BadArgument) as fault:
        retention(**args)

    assert str(fault.value) == message
