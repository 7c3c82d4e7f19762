from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from scheduler.clock import utc_now
from scheduler.engine.page.day import LANES, MOST_MARKS, Day, Span, day_of
from scheduler.rules.spec import At, Blackout, Calendar, Every, WeeklyWindow
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.mail_tables import Alert
from tests.builders import HOUR, MINUTE, a_schedule, a_spec, a_task, at
from tests.statements import counted

YESTERDAY = utc_now().date() - dt.timedelta(days=1)
TODAY, TOMORROW = YESTERDAY + dt.timedelta(days=1), YESTERDAY + dt.timedelta(days=2)
SECOND = dt.timedelta(seconds=1)


def on(date: dt.date, clock: str) -> dt.datetime:
    return at(clock, date.isoformat())


def day(database: Database, date: dt.date = YESTERDAY, **options: Any) -> Day:
    return day_of(database, "UTC", date, **options)


def test_a_lane_shows_each_run_of_the_day_as_long_as_it_took(database: Database) -> None:
    fire_time = on(YESTERDAY, "06:00")
    with database.write() as session:
        schedule = a_schedule(session)
        task = a_task(
            session,
            schedule=schedule,
            fire_time=fire_time,
            created_at=fire_time - HOUR,
            state="succeeded",
            started_at=fire_time + SECOND,
            finished_at=fire_time + MINUTE,
        )
        a_task(session, schedule=schedule, fire_time=on(YESTERDAY, "00:00") - SECOND, state="succeeded")
        a_task(session, schedule=schedule, fire_time=on(TODAY, "00:00"), state="succeeded")

    (lane,) = day(database).lanes

    assert [(mark.state, mark.start, mark.end, mark.task_id) for mark in lane.marks] == [
        ("succeeded", fire_time + SECOND, fire_time + MINUTE, task.id)
    ]
    assert not lane.is_summed


def test_a_run_that_is_going_on_reaches_to_now(database: Database) -> None:
    now = utc_now()
    with database.write() as session:
        schedule = a_schedule(session, a_spec(every=HOUR), parked="no such task function")
        a_task(session, schedule=schedule, fire_time=now - SECOND, state="running", started_at=now - SECOND)

    found = day_of(database, "UTC", (now - SECOND).date())

    assert [(mark.state, mark.end) for mark in found.lanes[0].marks] == [("running", found.now)]


def test_what_is_to_come_is_foretold_and_not_told_twice(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session, a_spec(when=(At(at=(dt.time(6), dt.time(18))),)))
        a_task(session, schedule=schedule, fire_time=on(TOMORROW, "06:00"))

    (lane,) = day(database, TOMORROW).lanes

    assert [(mark.state, mark.start, mark.task_id is None) for mark in lane.marks] == [
        ("planned", on(TOMORROW, "06:00"), False),
        ("planned", on(TOMORROW, "18:00"), True),
    ]


def test_what_fires_often_is_counted_by_quarters_of_an_hour(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session, a_spec(every=MINUTE))
        for minute in range(MOST_MARKS + 6):
            fire_time = on(YESTERDAY, "06:00") + minute * MINUTE
            state = "failed" if minute == 20 else "succeeded"
            a_task(session, schedule=schedule, fire_time=fire_time, state=state)

    (lane,) = day(database).lanes

    assert lane.is_summed
    assert sorted((mark.start, mark.state, mark.count) for mark in lane.marks) == [
        (on(YESTERDAY, "06:00"), "succeeded", 15),
        (on(YESTERDAY, "06:15"), "failed", 1),
        (on(YESTERDAY, "06:15"), "succeeded", 14),
    ]


def test_of_what_fires_without_end_the_quarters_are_told_in_which_it_will(database: Database) -> None:
    with database.write() as session:
        every = Every(every=SECOND, between=(dt.time(9, 10), dt.time(9, 40)))
        a_schedule(session, a_spec(when=(every,)))

    (lane,) = day(database, TOMORROW).lanes

    assert lane.is_summed
    assert [(mark.state, mark.start, mark.count) for mark in lane.marks] == [
        ("planned", on(TOMORROW, "09:00"), 0),
        ("planned", on(TOMORROW, "09:15"), 0),
        ("planned", on(TOMORROW, "09:30"), 0),
    ]


@pytest.mark.parametrize(
    ("held", "state", "marks"),
    [
        pytest.param({"parked": "no such task function"}, "parked", 0, id="parked"),
        pytest.param({"pause": {"until": None}}, "paused", 0, id="paused-for-good"),
        pytest.param({"pause": {"until": on(TOMORROW, "12:00").isoformat()}}, "paused", 11, id="paused-until-noon"),
    ],
)
def test_nothing_is_foretold_for_as_long_as_a_schedule_is_held(
    database: Database, held: dict[str, Any], state: str, marks: int
) -> None:
    if "pause" in held:
        held = {"pause": {"by": "jana", "why": "", "since": utc_now().isoformat(), **held["pause"]}}
    with database.write() as session:
        a_schedule(session, a_spec(every=HOUR), **held)

    (lane,) = day(database, TOMORROW).lanes

    assert (lane.state, len(lane.marks)) == (state, marks)


def test_blackouts_are_told_as_far_as_they_reach_into_the_day(database: Database) -> None:
    weekday = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[YESTERDAY.weekday()]
    night = WeeklyWindow(weekdays=(weekday,), start=dt.time(22), end=dt.time(2), why="deployment")  # type: ignore[arg-type]
    freeze = Calendar(name="freeze", weekly=(night,))
    spec = a_spec(calendars={"freeze": freeze}, blackout=Blackout(during=("freeze",), then="skip"))
    with database.write() as session:
        a_schedule(session, spec)

    (before,), (after,) = day(database).lanes, day(database, TODAY).lanes

    assert before.blackouts == (Span(on(YESTERDAY, "22:00"), on(TODAY, "00:00"), "deployment"),)
    assert after.blackouts == (Span(on(TODAY, "00:00"), on(TODAY, "02:00"), "deployment"),)


def test_what_a_blackout_will_skip_is_told_as_skipped(database: Database) -> None:
    weekday = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[TOMORROW.weekday()]
    window = WeeklyWindow(weekdays=(weekday,), start=dt.time(6), end=dt.time(12), why="deployment")  # type: ignore[arg-type]
    freeze = Calendar(name="freeze", weekly=(window,))
    with database.write() as session:
        for then in ("skip", "run-after"):
            held = Blackout(during=("freeze",), then=then)  # type: ignore[arg-type]
            a_schedule(session, a_spec(name=then, every=4 * HOUR, calendars={"freeze": freeze}, blackout=held))

    put_off, left_out = day(database, TOMORROW).lanes

    assert [mark.state for mark in put_off.marks] == ["planned"] * 6
    assert [mark.state for mark in left_out.marks] == ["planned", "planned", "skipped", "planned", "planned", "planned"]


def test_a_standstill_is_seen_by_rows_that_were_written_after_their_time(database: Database) -> None:
    back = on(YESTERDAY, "07:00")
    with database.write() as session:
        schedule = a_schedule(session, a_spec(every=5 * MINUTE))
        for minutes in (30, 20, 10):
            a_task(session, schedule=schedule, fire_time=back - minutes * MINUTE, created_at=back, state="missed")
        for hours, fields in enumerate(({"state": "skipped"}, {"state": "succeeded", "origin": "backfill"}), 3):
            a_task(session, schedule=schedule, fire_time=back - hours * HOUR, created_at=back, **fields)

    assert day(database).outages == (Span(back - 30 * MINUTE, back, "nobody planned: the service was down"),)


def test_gaps_and_silence_are_outages_and_those_that_touch_are_one(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session, a_spec(every=SECOND))
        tasks.add_gap(session, schedule.id, on(YESTERDAY, "01:00"), on(YESTERDAY, "02:00"), 3600)
        session.add(
            Alert(
                subject="part:dispatcher@here:silent_part",
                event="silent_part",
                state="closed",
                opened_at=on(YESTERDAY, "02:00:30"),
                last_at=on(YESTERDAY, "02:00:30"),
                closed_at=on(YESTERDAY, "02:10"),
                details={"name": "dispatcher"},
            )
        )

    found = day(database)

    gap = "3,600 fire times passed in a standstill, too many for a row each"
    assert found.lanes[0].gaps == (Span(on(YESTERDAY, "01:00"), on(YESTERDAY, "02:00"), gap),)
    assert found.outages == (
        Span(
            on(YESTERDAY, "01:00"),
            on(YESTERDAY, "02:10"),
            f"{gap}; a part of the service was silent: dispatcher",
        ),
    )


def test_many_schedules_come_on_several_pages_and_can_be_searched(database: Database) -> None:
    with database.write() as session:
        for number in range(LANES + 3):
            a_schedule(session, a_spec(name=f"s{number:02}"), revision_id=None)
        a_schedule(session, a_spec(name="gone"), retired_at=utc_now())

    last, beyond, searched = day(database, page=2), day(database, page=99), day(database, query="S1%")

    assert ([lane.name for lane in last.lanes], last.pages, last.found) == (["s20", "s21", "s22"], 2, LANES + 3)
    assert (beyond.page, beyond.lanes) == (2, last.lanes)
    assert searched.found == 0
    assert [lane.name for lane in day(database, query="S1").lanes] == [f"s1{digit}" for digit in range(10)]


def test_the_day_is_that_of_the_zone(database: Database) -> None:
    found = day_of(database, "America/New_York", dt.date(2026, 11, 1))

    assert (found.span.start, found.span.end) == (at("04:00", "2026-11-01"), at("05:00", "2026-11-02"))
    assert [change.why for change in found.clock_changes] == ["clocks go back, 02:00 becomes 01:00"]


def test_a_day_takes_the_same_few_statements_however_many_lanes_and_runs(database: Database) -> None:
    def fill(first: int, last: int) -> None:
        with database.write() as session:
            for number in range(first, last):
                schedule = a_schedule(session, a_spec(name=f"s{number:02}"))
                for hour in range(6):
                    a_task(session, schedule=schedule, fire_time=on(YESTERDAY, f"{hour:02}:00"), state="succeeded")

    fill(0, 2)
    with counted(database) as few:
        day(database)
    fill(2, LANES)
    with counted(database) as many:
        day(database)

    assert len(many) == len(few) <= 8
