"""The file becomes rows: whole or not at all, and nothing fires after the fact."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from scheduler.broker.connection import connect
from scheduler.broker.keys import job_id
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.file.apply import Applied, apply
from scheduler.engine.file.schedule_files import load_schedule_file, read_schedule_file
from scheduler.engine.planner import Planner, plan
from scheduler.errors import FileFaults, Refused
from scheduler.rules.spec import At, FilePause, Missed, Once, ScheduleSpec
from scheduler.rules.states import CANCELLED, FINAL, PLANNED, QUEUED, RETRYING, RUNNING, SKIPPED
from scheduler.rules.task.jobs import WaitingJob
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.schedules import pause_fields
from scheduler.store.tables import Revision, Schedule, Task
from scheduler.task_functions import Catalogue
from tests.builders import HOUR, MINUTE, a_book, a_book_of, a_spec, a_task
from tests.waiting import wait_for

SECOND = dt.timedelta(seconds=1)
HORIZON = 2 * MINUTE


def put(database: Database, *specs: ScheduleSpec, room: WaitingRoom | None = None, **options: Any) -> Applied:
    book, text = a_book_of(*specs)
    return apply(database, room, book, text, author="jana", **options)


def schedule(database: Database, name: str = "nightly") -> Schedule:
    with database.read() as session:
        found = schedules.by_name(session, name)
        assert found is not None
        return found


def let_pass(database: Database, span: dt.timedelta, name: str = "nightly") -> None:
    """As if the schedule had been planned and in force for some time longer, and the planner down meanwhile."""
    with database.write() as session:
        found = schedules.by_name(session, name)
        assert found is not None
        found.planned_until -= span
        found.in_force_since -= span
        for held in (found.pause, found.file_pause):
            if held is not None:
                held["since"] = (dt.datetime.fromisoformat(held["since"]) - span).isoformat()


def states(database: Database) -> dict[int, str]:
    with database.read() as session:
        return {row.id: row.state for row in session.execute(select(Task.id, Task.state).order_by(Task.id))}


def foretold(database: Database) -> list[dt.datetime]:
    with database.read() as session:
        query = select(Task.fire_time).where(Task.state == PLANNED).order_by(Task.fire_time)
        return [moment for moment in session.scalars(query) if moment is not None]


# --- new ------------------------------------------------------------------------------------------------------------


def test_a_file_becomes_schedules_and_a_revision(database: Database) -> None:
    book, text = a_book("schedules: {nightly: {task: count_words, args: {source: x}, when: {every: 5m}, owner: jana}}")

    applied = apply(database, None, book, text, author="jana")

    assert str(applied) == "1 added, 0 unchanged"
    with database.read() as session:
        revision = session.scalars(select(Revision)).one()
        now = schedules.now(session)
    assert applied == Applied(revision=revision.id, added=["nightly"])
    assert (revision.author, revision.file, revision.text) == ("jana", "schedules.yaml", text.decode())
    assert revision.changes["added"] == ["nightly"]
    assert revision.book["timezone"] == "UTC"
    assert "schedules" not in revision.book
    made = schedule(database)
    assert ScheduleSpec.model_validate(made.spec) == book.schedules["nightly"]
    assert made.in_force_since == made.planned_until == revision.accepted_at
    assert abs(now - revision.accepted_at) < SECOND


def test_a_new_schedule_fires_nothing_that_is_past(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec(every=SECOND, grace=HOUR, missed=Missed(run="all", within=None)))
    accepted_at = schedule(database).in_force_since

    Planner(database, room, HORIZON).step()

    assert foretold(database)
    assert all(moment > accepted_at for moment in foretold(database))


def test_the_same_file_again_changes_nothing(database: Database) -> None:
    put(database, a_spec())
    before = schedule(database)

    applied = put(database, a_spec())

    assert applied == Applied(unchanged=1)
    after = schedule(database)
    assert (after.revision_id, after.planned_until) == (before.revision_id, before.planned_until)


def test_other_bytes_of_the_same_meaning_are_a_revision_that_cancels_nothing(
    database: Database, room: WaitingRoom
) -> None:
    book, text = a_book_of(a_spec())
    apply(database, None, book, text)
    Planner(database, room, HORIZON).step()
    before = foretold(database)

    applied = apply(database, room, book, b"# a comment\n" + text)

    assert applied.revision is not None
    assert (applied.unchanged, applied.cancelled) == (1, 0)
    assert foretold(database) == before


# --- edited ---------------------------------------------------------------------------------------------------------


def test_an_edit_takes_the_forecast_back_and_plans_by_the_new_version(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec(every=MINUTE))
    planner = Planner(database, room, HORIZON)
    planner.step()
    old = foretold(database)

    applied = put(database, a_spec(every=15 * SECOND), room=room)

    assert str(applied) == "1 changed, 0 unchanged"
    assert old
    assert foretold(database) == []
    planner.step()
    new = foretold(database)
    changed_at = schedule(database).in_force_since
    assert len(new) == 8
    assert all(moment > changed_at for moment in new)


def test_an_edit_cancels_what_has_not_started_and_nothing_else(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec())
    now = utc_now()
    with database.write() as session:
        nightly = schedules.by_name(session, "nightly")
        fired = {"schedule": nightly, "due_at": now - SECOND, "start_by": now + HOUR}
        planned = a_task(session, fire_time=now - 9 * SECOND, **fired).id
        queued = a_task(session, fire_time=now - 8 * SECOND, state=QUEUED, **fired).id
        running = a_task(session, fire_time=now - 7 * SECOND, state=RUNNING, **fired).id
        retrying = a_task(session, fire_time=now - 6 * SECOND, state=RETRYING, attempt=1, **fired).id
        asked_for = a_task(session, fire_time=None, origin="manual", **fired).id
        another = a_task(session).id

    applied = put(database, a_spec(every=HOUR), room=room)

    assert applied.cancelled == 2
    assert states(database) == {
        planned: CANCELLED,
        queued: CANCELLED,
        running: RUNNING,
        retrying: RETRYING,
        asked_for: PLANNED,
        another: PLANNED,
    }
    with database.read() as session:
        task = session.get_one(Task, queued)
    assert (task.reason_code, task.reason) == ("edited", "its schedule was edited before it started")


def test_what_passed_before_an_edit_is_settled_by_the_old_version(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec(every=MINUTE, grace=SECOND, missed=Missed(run="none")))
    let_pass(database, 10 * MINUTE)

    put(database, a_spec(every=7 * MINUTE, grace=HOUR), room=room)

    with database.read() as session:
        found = session.scalars(select(Task)).all()
    assert len(found) == 10
    assert {task.state for task in found} <= FINAL
    assert {task.fire_time.second for task in found if task.fire_time} == {0}


def test_an_edit_begins_to_count_runs_anew(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec(every=MINUTE, max_runs=3, grace=HOUR))
    let_pass(database, 10 * MINUTE)  # three fire times are past, and none of them is planned yet

    put(database, a_spec(every=30 * SECOND, max_runs=3), room=room)

    assert schedule(database).planned_runs == 0
    Planner(database, room, HORIZON).step()
    assert len(foretold(database)) == 3


def test_an_edit_of_words_cancels_nothing(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec(owner="jana"))
    Planner(database, room, HORIZON).step()
    before = states(database)

    applied = put(database, a_spec(owner="otto", about="counts", tags=("prod",)), room=room)

    assert (applied.described, applied.changed, applied.unchanged) == (["nightly"], [], 0)
    assert states(database) == before
    assert schedule(database).spec["owner"] == "otto"


def test_an_edited_schedule_that_was_parked_gets_another_chance(database: Database) -> None:
    put(database, a_spec())
    with database.write() as session:
        found = schedules.by_name(session, "nightly")
        assert found is not None
        found.parked = "its function is gone"

    put(database, a_spec(every=HOUR))

    assert schedule(database).parked is None


# --- removed and renamed --------------------------------------------------------------------------------------------


def test_a_removal_keeps_the_history_and_leaves_alone_what_runs(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec(), a_spec(name="other"))
    planner = Planner(database, room, HORIZON)
    planner.step()
    with database.write() as session:
        nightly = schedules.by_name(session, "nightly")
        kept = [a_task(session, schedule=nightly, fire_time=utc_now() - HOUR, state=state).id for state in (RUNNING,)]
        gone = [
            a_task(session, schedule=nightly, fire_time=utc_now() - 2 * HOUR, state=RETRYING, attempt=1).id,
            a_task(session, schedule=nightly, fire_time=None, origin="manual").id,
            a_task(session, schedule=nightly, fire_time=utc_now() - MINUTE, start_by=utc_now() + HOUR).id,
        ]

    applied = put(database, a_spec(name="other"), room=room)

    assert (applied.removed, applied.unchanged, applied.cancelled) == (["nightly"], 1, 3)
    assert schedule(database).retired_at is not None
    found = states(database)
    assert [found[task_id] for task_id in kept] == [RUNNING]
    assert [found[task_id] for task_id in gone] == [CANCELLED] * 3
    assert planner.step() == 0
    with database.read() as session:
        left = session.scalars(select(Task.schedule).where(Task.state == PLANNED)).all()
    assert set(left) == {"other"}


def test_a_schedule_that_comes_back_fires_nothing_of_the_time_between(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec(every=SECOND), a_spec(name="other"))
    old = schedule(database)
    put(database, a_spec(name="other"))
    let_pass(database, HOUR)

    applied = put(database, a_spec(every=SECOND, grace=HOUR), a_spec(name="other"))

    back = schedule(database)
    assert (applied.added, back.id, back.retired_at) == (["nightly"], old.id, None)
    Planner(database, room, HORIZON).step()
    assert all(moment > back.in_force_since for moment in foretold(database))


def test_a_rename_keeps_history_and_pause(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec())
    held = pause_fields("jana", "why", utc_now(), None)
    with database.write() as session:
        old = schedules.by_name(session, "nightly")
        assert old is not None
        old.pause = held
        task_id = a_task(session, schedule=old, fire_time=utc_now() - HOUR, state=RUNNING).id

    applied = put(database, a_spec(name="daily", was="nightly"), room=room)

    assert applied.renamed == {"nightly": "daily"}
    assert applied.removed == []
    renamed = schedule(database, "daily")
    assert (renamed.id, renamed.pause) == (old.id, held)
    with database.read() as session:
        assert session.get_one(Task, task_id).schedule_id == renamed.id
        assert schedules.by_name(session, "nightly") is None


def test_an_old_name_that_is_still_in_the_file_is_no_rename(database: Database) -> None:
    put(database, a_spec())

    applied = put(database, a_spec(), a_spec(name="daily", was="nightly"))

    assert (applied.renamed, applied.added) == ({}, ["daily"])


def test_a_renamed_schedule_is_renamed_once(database: Database) -> None:
    put(database, a_spec())
    put(database, a_spec(name="daily", was="nightly"))

    assert put(database, a_spec(name="daily", was="nightly")) == Applied(unchanged=1)


@pytest.mark.parametrize(
    ("before", "after", "is_refused"),
    [
        pytest.param(4, 0, True, id="all four"),
        pytest.param(3, 0, False, id="all three"),
        pytest.param(8, 4, False, id="half"),
        pytest.param(9, 4, True, id="more than half"),
        pytest.param(100, 97, False, id="three"),
        pytest.param(7, 3, True, id="four of seven"),
    ],
)
def test_a_removal_of_many_asks_for_a_confirmation(
    database: Database, before: int, after: int, is_refused: bool
) -> None:
    put(database, *(a_spec(name=f"s{number:03}") for number in range(before)))
    rest = [a_spec(name=f"s{number:03}") for number in range(after)]

    if is_refused:
        with pytest.raises(Refused) as refused:
            put(database, *rest)
        assert str(refused.value).startswith(f"{before - after} of {before} schedules would vanish (s")
        with database.read() as session:
            assert len(schedules.all_schedules(session)) == before
            assert len(session.scalars(select(Revision)).all()) == 1
    assert len(put(database, *rest, confirm=True).removed) == before - after


def test_what_is_asked_before_a_mass_removal(database: Database) -> None:
    put(database, *(a_spec(name=name) for name in "abcdefg"))

    with pytest.raises(Refused) as refused:
        put(database)

    assert str(refused.value) == (
        "7 of 7 schedules would vanish (a, b, c, d, e, …); nothing was changed. "
        "If that is meant, say so: `scheduler apply --confirm`."
    )


def test_many_that_are_renamed_do_not_vanish(database: Database) -> None:
    put(database, *(a_spec(name=name) for name in "abcdef"))

    applied = put(database, *(a_spec(name=f"{name}2", was=name) for name in "abcdef"))

    assert len(applied.renamed) == 6


# --- what the file says of pauses -----------------------------------------------------------------------------------


def test_a_pause_in_the_file_holds_a_schedule(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec(every=SECOND))
    planner = Planner(database, room, HORIZON)
    planner.step()

    applied = put(database, a_spec(every=SECOND, paused=FilePause(paused=True, why="partner is down")), room=room)

    assert (applied.described, applied.cancelled) == (["nightly"], 0)
    held = schedule(database).file_pause
    assert held is not None
    assert (held["by"], held["why"], held["until"]) == ("schedules.yaml", "partner is down", None)
    assert foretold(database) == []
    planner.step()
    assert set(states(database).values()) <= {SKIPPED}


@pytest.mark.parametrize("paused", [None, FilePause(paused=False)], ids=["taken out", "paused: false"])
def test_the_end_of_the_files_pause_lets_the_future_go(
    database: Database, room: WaitingRoom, paused: FilePause | None
) -> None:
    put(database, a_spec(every=SECOND, grace=HOUR, paused=FilePause(paused=True)))
    let_pass(database, MINUTE)

    put(database, a_spec(every=SECOND, grace=HOUR, paused=paused), room=room)

    assert schedule(database).file_pause is None
    since = schedule(database).planned_until
    Planner(database, room, HORIZON).step()
    assert foretold(database)
    assert all(moment > since for moment in foretold(database))


@pytest.mark.parametrize(
    ("paused", "stands"), [(None, True), (FilePause(paused=True), True), (FilePause(paused=False), False)]
)
def test_the_operators_pause_stands_unless_the_file_says_no(
    database: Database, paused: FilePause | None, stands: bool
) -> None:
    put(database, a_spec())
    held = pause_fields("jana", "", utc_now(), None)
    with database.write() as session:
        found = schedules.by_name(session, "nightly")
        assert found is not None
        found.pause = held

    put(database, a_spec(owner="otto", paused=paused))

    assert schedule(database).pause == (held if stands else None)


def test_a_pause_of_the_file_that_is_over_holds_nothing(database: Database) -> None:
    put(database, a_spec(paused=FilePause(paused=True, until=utc_now() - HOUR)))

    assert schedule(database).file_pause is None


def test_an_edit_of_a_paused_schedule_leaves_it_paused(database: Database, room: WaitingRoom) -> None:
    pause = FilePause(paused=True, why="w")
    put(database, a_spec(every=MINUTE, paused=pause))
    let_pass(database, 5 * MINUTE)

    put(database, a_spec(every=SECOND, paused=pause), room=room)
    Planner(database, room, HORIZON).step()

    assert schedule(database).file_pause is not None
    assert set(states(database).values()) <= {SKIPPED, CANCELLED}
    assert foretold(database) == []


# --- Redis ----------------------------------------------------------------------------------------------------------


def test_what_is_cancelled_is_taken_out_of_redis(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec())
    with database.write() as session:
        nightly = schedules.by_name(session, "nightly")
        task = a_task(session, schedule=nightly, fire_time=utc_now() - SECOND, start_by=utc_now() + HOUR)
        task_id = task.id
        job = WaitingJob(task.id, 1, task.queue, task.due_at)
    room.register([job])
    assert room.waiting_ids() == {job_id(task_id, 1)}

    put(database, a_spec(every=HOUR), room=room)

    assert room.waiting_ids() == set()


@pytest.mark.parametrize(
    "specs",
    [
        pytest.param([a_spec(every=HOUR)], id="edited"),
        pytest.param([], id="removed"),
        pytest.param([a_spec(paused=FilePause(paused=True, why="stocktaking"))], id="paused"),
    ],
)
def test_what_was_foretold_is_taken_out_of_redis_at_once(
    database: Database, room: WaitingRoom, specs: list[ScheduleSpec]
) -> None:
    put(database, a_spec())
    Planner(database, room, HORIZON).step()
    assert len(room.waiting_ids()) == 1

    put(database, *specs, room=room)

    assert room.waiting_ids() == set()


def test_without_redis_the_file_is_taken_all_the_same(database: Database) -> None:
    away = WaitingRoom(connect("redis://127.0.0.1:1/0"))
    put(database, a_spec())
    with database.write() as session:
        nightly = schedules.by_name(session, "nightly")
        a_task(session, schedule=nightly, fire_time=utc_now() - SECOND, start_by=utc_now() + HOUR)

    applied = put(database, a_spec(every=HOUR), room=away)

    assert (applied.changed, applied.cancelled) == (["nightly"], 1)


# --- races ----------------------------------------------------------------------------------------------------------


def test_an_edit_waits_for_a_planner_that_is_at_the_schedule(database: Database, room: WaitingRoom) -> None:
    # Else rows of the old version, written but not yet committed, would stand in the way of the new one's.
    put(database, a_spec(every=MINUTE))
    Planner(database, room, HORIZON).step()
    with ThreadPoolExecutor(1) as pool:
        with database.write() as planning:
            now = schedules.now(planning)
            behind = schedules.to_plan(planning, now + 2 * HORIZON, now, 10)
            plan(planning, behind, now, 2 * HORIZON)

            applying = pool.submit(put, database, a_spec(every=7 * MINUTE))
            if not database.is_sqlite:
                wait_for(lambda: waits_for_a_lock(database), what="the apply to wait for the planner")
        applying.result()

    made = schedule(database)
    assert made.planned_until == made.in_force_since
    with database.read() as session:
        left = session.execute(select(Task.fire_time, Task.state).where(Task.fire_time > made.in_force_since)).all()
    assert left == []


def waits_for_a_lock(database: Database) -> bool:
    with database.read() as session:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(session.connection().exec_driver_sql(query).scalar())


def test_a_planner_passes_over_what_is_being_edited(database: Database, room: WaitingRoom) -> None:
    put(database, a_spec(every=MINUTE))
    put(database, a_spec(every=MINUTE), a_spec(name="other"))
    with ThreadPoolExecutor(4) as pool:
        planner = Planner(database, room, HORIZON)
        planning = [pool.submit(planner.step) for _ in range(3)]
        applying = pool.submit(put, database, a_spec(every=7 * MINUTE), a_spec(name="other"))
        for step in planning:
            step.result()
        applying.result()
    planner.step()

    with database.read() as session:
        query = select(Task.fire_time).where(Task.schedule == "nightly", Task.state == PLANNED)
        moments = [moment for moment in session.scalars(query) if moment]
    assert moments
    assert all((moment.hour * 60 + moment.minute) % 7 == 0 for moment in moments)


def test_two_that_apply_the_same_file_make_one_revision(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: put(database, a_spec()), range(4)))

    assert sorted(one.revision is None for one in applied) == [False, True, True, True]
    with database.read() as session:
        assert len(session.scalars(select(Revision)).all()) == 1
        assert len(schedules.all_schedules(session)) == 1


def test_what_fails_half_way_changes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    put(database, a_spec(), a_spec(name="other"))
    before = schedule(database)
    monkeypatch.setattr("scheduler.engine.file.apply._Applying._remove", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        put(database, a_spec(every=HOUR))

    after = schedule(database)
    assert (after.fingerprint, after.planned_until) == (before.fingerprint, before.planned_until)
    with database.read() as session:
        assert len(session.scalars(select(Revision)).all()) == 1


# --- reading the file -----------------------------------------------------------------------------------------------


def test_a_missing_file_is_told_with_a_way_to_mend_it(tmp_path: Path) -> None:
    path = tmp_path / "schedules.yaml"

    with pytest.raises(FileFaults) as faults:
        read_schedule_file(path)

    assert str(faults.value) == (
        f"{path}:1:1: there is no such file\n    Write one, or name another with --file or SCHEDULER_FILE."
    )


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileFaults) as faults:
        read_schedule_file(tmp_path)

    assert str(faults.value) == (
        f"{tmp_path}:1:1: this is a folder\n    Name the file in it with --file or SCHEDULER_FILE."
    )


def test_a_file_is_read_with_all_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "schedules.yaml"
    path.write_text("version: 1\ntimezone: Nowhere\nschedules: {a: {task: x, when: {every: 0s}}}\n")

    text, loaded = load_schedule_file(path, Catalogue(), utc_now())

    assert text == path.read_bytes()
    assert loaded.book is None
    assert len(loaded.faults) >= 2


def test_a_far_fire_time_and_one_that_is_past_are_both_planned_for_ever(database: Database, room: WaitingRoom) -> None:
    past = a_spec(name="past", when=(Once(once=dt.datetime(2020, 1, 1)),))
    daily = a_spec(name="daily", when=(At(at=(dt.time(3),)),))
    put(database, past, daily)

    planner = Planner(database, room, HORIZON)
    planner.step()

    assert len(foretold(database)) == 1
    assert planner.step() == 0
