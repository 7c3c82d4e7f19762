"""Fire times become rows, once each, whoever plans and whatever stood still."""

from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.broker.connection import connect
from scheduler.broker.keys import job_id
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.planner import SCHEDULES_AT_ONCE, Planner, foretell_some, plan
from scheduler.rules.spec import Cron, Every, Missed, Once, ScheduleSpec
from scheduler.rules.states import CANCELLED, MISSED, PLANNED, SKIPPED
from scheduler.store import schedules, tasks
from scheduler.store.database import Database
from scheduler.store.schedules import pause_fields, pause_of
from scheduler.store.tables import PLANNED_FOR_EVER, Gap, Schedule, Task
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task, at

SECOND = dt.timedelta(seconds=1)
HORIZON = 2 * MINUTE


@pytest.fixture
def planner(database: Database, room: WaitingRoom) -> Planner:
    return Planner(database, room, HORIZON)


def put_in_force(database: Database, spec: ScheduleSpec | None = None, **fields: Any) -> int:
    with database.write() as session:
        return a_schedule(session, spec, **{"planned_until": at("02:00"), **fields}).id


def rows(database: Database) -> list[tuple[str, str]]:
    """(fire time, state) of all tasks, in their order."""
    with database.read() as session:
        found = session.execute(select(Task.fire_time, Task.state).order_by(Task.fire_time, Task.id))
        return [(f"{row.fire_time:%H:%M:%S}", row.state) for row in found]


def fire_times_of(database: Database, state: str) -> list[str]:
    return [moment for moment, found in rows(database) if found == state]


def one_schedule(database: Database) -> Schedule:
    with database.read() as session:
        return session.scalars(select(Schedule)).one()


# --- ahead ----------------------------------------------------------------------------------------------------------


def test_a_fire_time_becomes_a_row_and_a_waiting_job(database: Database, room: WaitingRoom, planner: Planner) -> None:
    spec = a_spec(every=MINUTE, args={"source": "README.md"}, queue="q", kind="long", exclusive="billing", max_runs=9)
    schedule_id = put_in_force(database, spec)

    handled = planner.step(at("02:00:30"))

    assert handled == 1
    with database.read() as session:
        first, second = session.scalars(select(Task).order_by(Task.fire_time))
    assert (first.fire_time, second.fire_time) == (at("02:01"), at("02:02"))
    assert (first.due_at, first.start_by) == (at("02:01"), at("02:11"))
    assert (first.kind, first.queue, first.task, first.args) == ("long", "q", "count_words", {"source": "README.md"})
    assert (first.schedule_id, first.schedule, first.lane) == (schedule_id, "nightly", "group:billing")
    assert (first.state, first.origin, first.attempt, first.created_at) == (PLANNED, "schedule", 0, at("02:00:30"))
    assert first.idempotency_key == "nightly@2026-11-24T02:01:00Z"
    assert first.policy["overlap"] == "skip"
    assert room.waiting_ids() == {job_id(first.id, 1), job_id(second.id, 1)}
    schedule = one_schedule(database)
    assert (schedule.planned_until, schedule.planned_runs) == (at("02:02:30"), 2)


def test_planning_again_adds_nothing(database: Database, planner: Planner) -> None:
    put_in_force(database, a_spec(every=30 * SECOND))
    planner.step(at("02:00"))
    before = rows(database)

    assert planner.step(at("02:00")) == 0
    assert planner.step(at("02:00:30")) == 0
    assert rows(database) == before


def test_a_row_that_is_there_already_is_left_alone(database: Database, planner: Planner) -> None:
    schedule_id = put_in_force(database, a_spec(every=MINUTE))
    with database.write() as session:
        a_task(session, schedule_id=schedule_id, fire_time=at("02:01"), state=CANCELLED)

    planner.step(at("02:00"))

    assert rows(database) == [("02:01:00", CANCELLED), ("02:02:00", PLANNED)]


def test_step_after_step_each_fire_time_has_one_row(database: Database, planner: Planner) -> None:
    put_in_force(database, a_spec(every=7 * SECOND))

    for second in range(0, 600, 11):
        planner.step(at("02:00") + second * SECOND)

    fire_times = [moment for moment, _ in rows(database)]
    with database.read() as session:
        moments = session.scalars(select(Task.fire_time).order_by(Task.fire_time)).all()
    gaps = {later - earlier for earlier, later in pairwise(moments) if later and earlier}
    assert len(fire_times) == len(set(fire_times)) > 80
    assert gaps <= {7 * SECOND, 3 * SECOND}  # the grid begins anew where the hour does not divide by seven


def test_a_clock_that_is_set_back_repeats_nothing(database: Database, planner: Planner) -> None:
    put_in_force(database, a_spec(every=MINUTE))
    planner.step(at("02:05"))
    before = rows(database)

    for clock in ("01:00", "01:30", "02:04"):
        assert planner.step(at(clock)) == 0
    assert rows(database) == before

    planner.step(at("02:07"))  # and goes on where it was
    moments = [moment for moment, _ in rows(database)]
    assert moments == sorted(set(moments))
    assert moments[len(before) :] == ["02:08:00", "02:09:00"]


def test_a_clock_that_is_set_forward_is_an_outage_of_that_length(database: Database, planner: Planner) -> None:
    put_in_force(database, a_spec(every=10 * MINUTE, grace=MINUTE, missed=Missed(run="none")))
    planner.step(at("02:00"))

    planner.step(at("03:05"))

    assert rows(database)[1:] == [
        (f"{moment}:00", MISSED) for moment in ("02:20", "02:30", "02:40", "02:50", "03:00")
    ] + [("03:10:00", PLANNED)]


def test_the_next_fire_time_is_shown_however_far(database: Database, planner: Planner) -> None:
    put_in_force(database, a_spec(when=(Cron(cron="0 9 * * *"),)))

    planner.step(at("02:00"))
    planner.step(at("08:58:30"))

    assert rows(database) == [("09:00:00", PLANNED)]


def test_a_schedule_that_is_through_is_not_looked_at_again(database: Database, planner: Planner) -> None:
    put_in_force(database, a_spec(when=(Once(once=dt.datetime(2026, 11, 24, 2, 1)),)))

    assert planner.step(at("02:00")) == 1
    assert planner.step(at("03:00")) == 0
    assert one_schedule(database).planned_until == PLANNED_FOR_EVER
    assert rows(database) == [("02:01:00", PLANNED)]


@pytest.mark.parametrize("fields", [{"retired_at": at("01:00")}, {"parked": "its function is gone"}])
def test_what_does_not_fire_is_not_planned(database: Database, planner: Planner, fields: dict[str, Any]) -> None:
    put_in_force(database, **fields)

    assert planner.step(at("02:00")) == 0
    assert rows(database) == []


def test_a_schedule_that_cannot_be_planned_holds_up_none_of_the_others(database: Database, planner: Planner) -> None:
    with database.write() as session:
        revision = a_revision(session).id
        good, bad = a_spec(name="good"), a_spec(name="bad")
        broken = bad.model_dump(mode="json") | {"timezone": "Nowhere/Atlantis"}
        a_schedule(session, bad, planned_until=at("01:00"), revision_id=revision).spec = broken
        a_schedule(session, good, planned_until=at("02:00"), revision_id=revision)

    planner.step(at("02:00"))

    assert rows(database) == [("02:05:00", PLANNED)]
    with database.read() as session:
        parked = session.scalars(select(Schedule.parked).where(Schedule.name == "bad")).one()
    assert parked is not None
    assert parked.startswith("cannot be planned: ")
    assert "Nowhere/Atlantis" in parked
    assert planner.step(at("02:00")) == 0


def test_without_redis_it_plans_all_the_same(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    put_in_force(database)
    planner = Planner(database, WaitingRoom(connect("redis://127.0.0.1:1/0")), HORIZON)

    planner.step(at("02:00"))

    assert rows(database) == [("02:05:00", PLANNED)]
    assert "Planned, but not yet in Redis: Redis does not answer at 127.0.0.1:1" in caplog.text


def test_without_a_moment_the_databases_clock_counts(database: Database, planner: Planner) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(every=MINUTE), planned_until=schedules.now(session))

    planner.step()

    with database.read() as session:
        now = schedules.now(session)
        moments = [moment for moment in session.scalars(select(Task.fire_time)) if moment]
    assert len(moments) == 2
    assert all(now - MINUTE < moment < now + 3 * MINUTE for moment in moments)


# --- after a standstill ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "caught_up"),
    [
        pytest.param(Missed(run="none"), [], id="none"),
        pytest.param(Missed(run="latest", within=None), ["01:50"], id="the latest"),
        pytest.param(Missed(run="latest", within=5 * MINUTE), [], id="the latest is too old"),
        pytest.param(Missed(run="all", within=None), ["01:10", "01:20", "01:30", "01:40", "01:50"], id="all"),
        pytest.param(Missed(run="all", within=25 * MINUTE), ["01:40", "01:50"], id="all within"),
    ],
)
def test_each_occurrence_of_a_standstill_has_its_row(
    database: Database, room: WaitingRoom, planner: Planner, missed: Missed, caught_up: list[str]
) -> None:
    spec = a_spec(every=10 * MINUTE, grace=MINUTE, missed=missed)
    put_in_force(database, spec, planned_until=at("01:00"))

    planner.step(at("02:00"))

    with database.read() as session:
        tasks_found = session.scalars(select(Task).order_by(Task.fire_time)).all()
    assert [f"{one.fire_time:%H:%M}" for one in tasks_found] == [
        *("01:10", "01:20", "01:30", "01:40", "01:50", "02:00", "02:10"),
    ]
    assert [f"{one.fire_time:%H:%M}" for one in tasks_found if one.origin == "catch_up"] == caught_up
    assert all((one.state == MISSED) == (one.finished_at is not None) for one in tasks_found)
    assert all(one.reason for one in tasks_found if one.state == MISSED or one.origin == "catch_up")
    wanted = {job_id(one.id, 1) for one in tasks_found if one.state == PLANNED}
    assert room.waiting_ids() == wanted
    assert len(wanted) == len(caught_up) + 2


def test_after_a_long_standstill_the_newest_have_rows_and_the_rest_is_one_gap(
    database: Database, planner: Planner
) -> None:
    spec = a_spec(every=SECOND, grace=MINUTE, missed=Missed(run="none"))
    put_in_force(database, spec, planned_until=at("01:00"))

    planner.step(at("02:00"))

    with database.read() as session:
        gap = session.scalars(select(Gap)).one()
    assert (gap.first, gap.last, gap.count) == (at("01:00:01"), at("01:43:20"), 2600)
    assert len(rows(database)) == 1000 + 120
    assert fire_times_of(database, MISSED)[0] == "01:43:21"
    assert planner.step(at("02:00")) == 0


def test_no_more_than_max_runs_are_ever_planned(database: Database, planner: Planner) -> None:
    put_in_force(database, a_spec(every=MINUTE, max_runs=5))

    for minute in range(30):
        planner.step(at("02:00") + minute * MINUTE)

    assert [moment for moment, _ in rows(database)] == [f"02:0{minute}:00" for minute in range(1, 6)]
    assert one_schedule(database).planned_until == PLANNED_FOR_EVER


def test_missed_runs_count_for_max_runs_also_after_a_standstill(database: Database, planner: Planner) -> None:
    spec = a_spec(every=10 * MINUTE, grace=MINUTE, missed=Missed(run="none"), max_runs=5)
    put_in_force(database, spec, planned_until=at("01:25"))

    planner.step(at("02:00"))
    for minute in range(5, 60, 5):
        planner.step(at("02:00") + minute * MINUTE)

    assert fire_times_of(database, MISSED) == ["01:30:00", "01:40:00", "01:50:00"]
    assert fire_times_of(database, PLANNED) == ["02:00:00", "02:10:00"]


# --- pauses ---------------------------------------------------------------------------------------------------------


def test_what_passes_during_a_pause_is_skipped_with_its_reason(database: Database, planner: Planner) -> None:
    put_in_force(database, a_spec(every=MINUTE), pause=pause_fields("jana", "partner is down", at("02:00"), None))

    planner.step(at("02:03:30"))

    assert rows(database) == [(f"02:0{minute}:00", SKIPPED) for minute in (1, 2, 3)]
    with database.read() as session:
        task = session.scalars(select(Task)).first()
    assert task is not None
    assert (task.reason_code, task.reason) == ("paused", "paused by jana: partner is down")
    assert one_schedule(database).planned_until == at("02:03:30")


def test_a_pause_ends_by_itself_and_nothing_fires_after_the_fact(database: Database, planner: Planner) -> None:
    held = pause_fields("jana", "", at("02:00"), at("02:02:30"))
    put_in_force(database, a_spec(every=MINUTE), pause=held)

    planner.step(at("02:01:30"))
    planner.step(at("02:02:31"))

    assert rows(database) == [
        *[("02:01:00", SKIPPED), ("02:02:00", SKIPPED)],
        *[("02:03:00", PLANNED), ("02:04:00", PLANNED)],
    ]
    assert pause_of(one_schedule(database)) is None


def test_the_end_of_a_pause_is_seen_at_once(database: Database, planner: Planner) -> None:
    held = pause_fields("jana", "", at("02:00"), at("02:02:30"))
    put_in_force(database, a_spec(every=MINUTE), pause=held)
    planner.step(at("02:02:29"))  # has just been here

    assert planner.step(at("02:02:30")) == 1


def test_when_the_files_pause_ends_the_operators_still_holds(database: Database, planner: Planner) -> None:
    by_file = pause_fields("schedules.yaml", "", at("02:00"), at("02:01:20"))
    by_jana = pause_fields("jana", "", at("02:00:10"), None)
    put_in_force(database, a_spec(every=MINUTE), file_pause=by_file, pause=by_jana)

    for second in range(0, 300, 15):
        planner.step(at("02:00") + second * SECOND)

    assert {state for _, state in rows(database)} == {SKIPPED}
    schedule = one_schedule(database)
    assert schedule.file_pause is None
    assert schedule.pause == by_jana


# --- many planners --------------------------------------------------------------------------------------------------


def test_two_planners_at_once_write_each_row_once(database: Database, redis_url: str) -> None:
    names = [f"s{number}" for number in range(40)]
    with database.write() as session:
        revision = a_revision(session).id
        for name in names:
            spec = a_spec(name=name, every=10 * SECOND, max_runs=9)
            a_schedule(session, spec, planned_until=at("02:00"), revision_id=revision)
    start = threading.Barrier(4)

    def plan_on() -> int:
        client = connect(redis_url)
        planner = Planner(database, WaitingRoom(client), HORIZON)
        start.wait()
        handled = sum(planner.step(at("02:00") + second * SECOND) for second in range(0, 90, 10))
        client.close()
        return handled

    with ThreadPoolExecutor(4) as pool:
        handled = list(pool.map(lambda _: plan_on(), range(4)))

    assert sum(handled) >= len(names)
    with database.read() as session:
        found = session.execute(select(Task.schedule, Task.fire_time)).all()
        counted = session.scalars(select(Schedule.planned_runs)).all()
    assert len(found) == len(set(found)) == 9 * len(names)
    assert set(counted) == {9}


def test_a_planner_that_died_after_its_insert_is_continued(
    database: Database, room: WaitingRoom, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_force(database, a_spec(every=MINUTE))

    def die(session: Session, planned: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(schedules, "move_planned_until", die)
        with pytest.raises(KeyboardInterrupt):
            planner.step(at("02:00"))

    assert rows(database) == []  # one transaction: neither rows nor mark
    planner.step(at("02:00"))
    assert len(rows(database)) == 2


def test_more_schedules_than_go_into_one_transaction(
    database: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.engine.planner.SCHEDULES_AT_ONCE", 3)
    with database.write() as session:
        revision = a_revision(session).id
        for number in range(8):
            a_schedule(session, a_spec(name=f"s{number}"), planned_until=at("02:00"), revision_id=revision)

    assert planner.step(at("02:00")) == 8
    assert len(rows(database)) == 8


def test_a_long_standstill_of_many_is_written_a_few_schedules_at_a_time(
    database: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.engine.planner.ROWS_AT_ONCE", 100)
    with database.write() as session:
        revision = a_revision(session).id
        for number in range(4):
            spec = a_spec(name=f"s{number}", every=MINUTE, missed=Missed(run="none"))
            a_schedule(session, spec, planned_until=at("00:00"), revision_id=revision)

    with database.write() as session:
        behind = schedules.to_plan(session, at("01:00"), at("01:00"), 10)
        done, _ = plan(session, behind, at("01:00"), HORIZON)
    with database.read() as session:
        far = sorted(session.scalars(select(Schedule.planned_until)))

    assert done == 2
    assert len(rows(database)) == 2 * 62  # rows and marks of the same two
    assert far[:2] == [at("00:00")] * 2
    assert planner.step(at("01:00")) == 2
    assert len(rows(database)) == 4 * 62


def test_forecasts_made_ahead_are_not_written_of_a_schedule_that_was_paused_meanwhile(database: Database) -> None:
    put_in_force(database, a_spec(every=MINUTE))
    with database.read() as session:
        ahead = foretell_some(schedules.to_plan(session, at("02:01"), at("02:00"), 10), at("02:00"), HORIZON)
    with database.write() as session:
        session.scalars(select(Schedule)).one().pause = pause_fields("jana", "", at("02:00:20"), None)

    with database.write() as session:
        behind = schedules.to_plan(session, at("02:02"), at("02:01"), 10)
        plan(session, behind, at("02:01"), HORIZON, ahead)

    assert [len(one.rows) for one in ahead.values()] == [2]
    assert rows(database) == [("02:01:00", SKIPPED)]


def test_forecasts_made_ahead_are_written_as_they_are(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_force(database, a_spec(every=MINUTE))
    with database.read() as session:
        ahead = foretell_some(schedules.to_plan(session, at("02:01"), at("02:00"), 10), at("02:00"), HORIZON)
    monkeypatch.setattr("scheduler.engine.planner.forecast", None)  # nothing is worked out while others wait

    with database.write() as session:
        plan(session, schedules.to_plan(session, at("02:01"), at("02:00"), 10), at("02:00"), HORIZON, ahead)

    assert rows(database) == [("02:01:00", PLANNED), ("02:02:00", PLANNED)]
    assert one_schedule(database).planned_until == at("02:02")


def test_where_rows_end_a_transaction_early_the_next_asks_for_few_schedules(
    database: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.engine.planner.ROWS_AT_ONCE", 10)
    planner.wait = lambda seconds: None
    with database.write() as session:
        revision = a_revision(session).id
        for number in range(6):
            spec = a_spec(name=f"s{number}", every=MINUTE, missed=Missed(run="none"))
            a_schedule(session, spec, planned_until=at("01:30"), revision_id=revision)
    asked: list[int] = []
    to_plan = schedules.to_plan

    def noting(session: Session, before: dt.datetime, moment: dt.datetime, limit: int) -> list[Schedule]:
        asked.append(limit)
        return to_plan(session, before, moment, limit)

    monkeypatch.setattr("scheduler.store.schedules.to_plan", noting)

    assert planner.step(at("02:00")) == 6
    assert sorted(set(asked)) == [2, SCHEDULES_AT_ONCE]
    assert len(rows(database)) == 6 * 32


def test_a_step_ends_in_time_for_the_keepers_other_work(
    database: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.engine.planner.SCHEDULES_AT_ONCE", 1)
    monkeypatch.setattr("scheduler.engine.planner.LONGEST_STEP", -1.0)
    with database.write() as session:
        revision = a_revision(session).id
        for number in range(3):
            a_schedule(session, a_spec(name=f"s{number}"), planned_until=at("02:00"), revision_id=revision)

    assert [planner.step(at("02:00")) for _ in range(4)] == [1, 1, 1, 0]


def test_a_withdrawn_forecast_is_planned_anew(database: Database, planner: Planner) -> None:
    schedule_id = put_in_force(database, a_spec(when=(Every(every=MINUTE),)))
    planner.step(at("02:00"))
    with database.write() as session:
        tasks.withdraw_forecast(session, [schedule_id], at("02:00"))
        session.get_one(Schedule, schedule_id).planned_until = at("02:00")

    planner.step(at("02:00"))

    assert rows(database) == [("02:01:00", PLANNED), ("02:02:00", PLANNED)]


def test_an_hour_of_grace_survives_a_standstill_of_half(database: Database, planner: Planner) -> None:
    put_in_force(database, a_spec(every=10 * MINUTE, grace=HOUR), planned_until=at("01:30"))

    planner.step(at("02:00"))

    assert fire_times_of(database, PLANNED) == ["01:40:00", "01:50:00", "02:00:00", "02:10:00"]
