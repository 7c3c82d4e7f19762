"""Spans of fire times, the spread, and the notes on clock changes (facts about zones: test_triggers.py)."""

from __future__ import annotations

import datetime as dt
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.rules.spec import At, Cron, Every, Once, ScheduleSpec, When
from scheduler.rules.times.fire_times import dst_note, fire_times, spread_offset


def a_spec(*when: When, name: str = "nightly", zone: str = "Europe/Berlin", **more: object) -> ScheduleSpec:
    return ScheduleSpec(name=name, task="count_words", when=when, timezone=zone, **more)


def at(*times: str) -> At:
    return At(at=tuple(dt.time.fromisoformat(time) for time in times))


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


# --- spans ----------------------------------------------------------------------------------------------------------


def test_a_span_leaves_out_its_start_and_has_its_end():
    fires = fire_times(a_spec(at("07:00")), after=utc("2026-11-02 06:00"), until=utc("2026-11-04 06:00"))

    assert list(fires) == [utc("2026-11-03 06:00"), utc("2026-11-04 06:00")]


def test_spans_that_follow_on_each_other_lose_and_double_nothing():
    spec = a_spec(Every(every=dt.timedelta(minutes=20)), Cron(cron="*/30 * * * *"), at("02:30"))
    borders = [utc("2026-10-24 20:00") + dt.timedelta(minutes=37 * number) for number in range(20)]

    pieces = [moment for after, until in pairwise(borders) for moment in fire_times(spec, after, until)]

    assert pieces == list(fire_times(spec, borders[0], borders[-1]))


def test_a_span_without_end_is_lazy():
    assert len(list(islice(fire_times(a_spec(Every(every=dt.timedelta(seconds=1))), utc("2026-11-01")), 3))) == 3


def test_a_schedule_keeps_to_its_own_bounds():
    spec = a_spec(at("07:00"), start=utc("2026-12-01"), until=utc("2026-12-03"))

    fires = list(fire_times(spec, utc("2026-01-01"), utc("2027-01-01")))

    assert fires == [utc("2026-12-01 06:00"), utc("2026-12-02 06:00")]


# --- spread ---------------------------------------------------------------------------------------------------------


def test_the_spread_is_the_same_each_time_and_never_changes_with_a_release():
    spec = a_spec(at("07:00"), spread=dt.timedelta(minutes=5))

    offsets = {spread_offset(spec, utc(f"2026-11-0{day} 06:00"), None) for day in range(1, 9)}

    # 300 s * 0x2a3b… / 2**32, from sha256("nightly"); another figure would move every schedule of every installation.
    assert offsets == {dt.timedelta(seconds=49, milliseconds=490)}


def test_no_spread_is_no_offset():
    assert spread_offset(a_spec(at("07:00")), utc("2026-11-02 06:00"), None) == dt.timedelta(0)


def test_schedules_are_spread_evenly():
    specs = [a_spec(at("07:00"), name=f"job-{number}", spread=dt.timedelta(minutes=10)) for number in range(2000)]

    minutes = [spread_offset(spec, utc("2026-11-02 06:00")) // dt.timedelta(minutes=1) for spec in specs]

    assert set(minutes) == set(range(10))
    assert all(140 < minutes.count(minute) < 260 for minute in range(10))  # 200 each, give or take 4.5 sigma


@given(
    name=st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,20}\Z"),
    spread=st.integers(0, 7200),
    gap=st.integers(1, 7200),
)
def test_a_due_time_never_reaches_the_next_fire_time(name, spread, gap):
    spec = a_spec(at("07:00"), name=name, spread=dt.timedelta(seconds=spread))
    fire_time = utc("2026-11-02 06:00")
    following = fire_time + dt.timedelta(seconds=gap)

    offset = spread_offset(spec, fire_time, following)

    assert dt.timedelta(0) <= offset < max(spec.spread, dt.timedelta(microseconds=1))
    assert fire_time + offset < following


# --- notes on clock changes -----------------------------------------------------------------------------------------

EVERY_HALF_HOUR = Every(every=dt.timedelta(minutes=30))
NOTES = {
    "an ordinary day": (at("02:30"), "Europe/Berlin", "2026-11-02 01:30", ""),
    "a gap": (
        at("02:30"),
        "Europe/Berlin",
        "2026-03-29 01:00",
        "clocks go forward: 02:30 does not exist, runs at 03:00",
    ),
    "two times in a gap": (
        at("02:15", "02:30", "03:00"),
        "Europe/Berlin",
        "2026-03-29 01:00",
        "clocks go forward: 02:15 and 02:30 do not exist, runs once at 03:00",
    ),
    "many times in a gap": (
        Cron(cron="0,15,30,45 2 * * *"),
        "Europe/Berlin",
        "2026-03-29 01:00",
        "clocks go forward: 02:00 to 02:45 do not exist, runs once at 03:00",
    ),
    "the end of a gap, asked for": (at("03:00"), "Europe/Berlin", "2026-03-29 01:00", ""),
    "a star at the end of a gap": (Cron(cron="*/30 * * * *"), "Europe/Berlin", "2026-03-29 01:00", ""),
    "every at the end of a gap": (EVERY_HALF_HOUR, "Europe/Berlin", "2026-03-29 01:00", ""),
    "half an hour's gap": (
        at("02:10"),
        "Australia/Lord_Howe",
        "2026-10-03 15:30",
        "clocks go forward: 02:10 does not exist, runs at 02:30",
    ),
    "once in a gap": (
        Once(once=dt.datetime(2026, 3, 29, 2, 30)),
        "Europe/Berlin",
        "2026-03-29 01:00",
        "clocks go forward: 02:30 does not exist, runs at 03:00",
    ),
    "every where there is no midnight": (
        Every(every=dt.timedelta(hours=6)),
        "America/Santiago",
        "2026-09-06 04:00",
        "clocks go forward: 00:00 does not exist, runs at 01:00",
    ),
    "a day that does not exist": (
        at("09:00"),
        "Pacific/Apia",
        "2011-12-30 10:00",
        "clocks go forward: 09:00 does not exist, runs at 00:00 the next day",
    ),
    "a fold": (
        at("02:30"),
        "Europe/Berlin",
        "2026-10-25 00:30",
        "clocks go back: 02:30 comes twice, runs the first time",
    ),
    "a star in a fold, first": (
        Cron(cron="*/30 * * * *"),
        "Europe/Berlin",
        "2026-10-25 00:30",
        "clocks go back: 02:30 comes twice, this is the first time",
    ),
    "a star in a fold, second": (
        Cron(cron="*/30 * * * *"),
        "Europe/Berlin",
        "2026-10-25 01:30",
        "clocks go back: 02:30 comes twice, this is the second time",
    ),
    "every in a fold": (
        EVERY_HALF_HOUR,
        "Europe/Berlin",
        "2026-10-25 01:00",
        "clocks go back: 02:00 comes twice, this is the second time",
    ),
    "just after a fold": (at("03:00"), "Europe/Berlin", "2026-10-25 02:00", ""),
}


@pytest.mark.parametrize(("entry", "zone", "fire_time", "note"), NOTES.values(), ids=NOTES.keys())
def test_a_clock_change_is_noted(entry, zone, fire_time, note):
    spec = a_spec(entry, zone=zone)
    assert utc(fire_time) in fire_times(spec, utc(fire_time) - dt.timedelta(days=1), utc(fire_time))

    assert dst_note(spec, utc(fire_time)) == note


def test_a_note_speaks_only_of_the_entries_that_fire_then():
    spec = a_spec(at("02:30"), EVERY_HALF_HOUR)

    assert dst_note(spec, utc("2026-03-29 01:00")) == "clocks go forward: 02:30 does not exist, runs at 03:00"
    assert dst_note(spec, utc("2026-10-25 00:00")) == "clocks go back: 02:00 comes twice, this is the first time"
