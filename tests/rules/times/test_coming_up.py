"""The next fire times of a schedule, with what will become of them."""

from __future__ import annotations

import datetime as dt

from scheduler.rules.spec import At, Blackout, Calendar, Window
from scheduler.rules.times.coming_up import coming_up
from scheduler.rules.times.pause import Pause
from tests.builders import HOUR, a_spec, at

NOW = at("12:00")


def test_as_many_as_asked_for_come_up_and_no_more_than_are_left() -> None:
    spec = a_spec(every=HOUR)

    assert [one.fire_time for one in coming_up(spec, NOW, 2)] == [at("13:00"), at("14:00")]
    assert len(coming_up(spec, NOW, 5, runs_left=3)) == 3
    assert coming_up(spec, NOW, 5, runs_left=-1) == []


def test_a_pause_and_a_blackout_are_noted_where_they_hold() -> None:
    freeze = Calendar(
        name="freeze",
        windows=(Window(start=dt.datetime(2026, 11, 24, 14), end=dt.datetime(2026, 11, 24, 15), why="year end"),),
    )
    spec = a_spec(every=HOUR, calendars={"freeze": freeze}, blackout=Blackout(during=("freeze",), then="skip"))
    pause = Pause(since=at("11:00"), by="jana", why="deploy", until=at("13:30"))

    notes = [one.note for one in coming_up(spec, NOW, 3, pauses=[pause])]

    assert notes == [
        "is skipped: paused by jana until 2026-11-24 13:30 UTC: deploy",
        "is skipped: blackout (year end)",
        "",
    ]


def test_a_clock_change_is_noted() -> None:
    spec = a_spec(when=(At(at=(dt.time(2, 30),)),), timezone="Europe/Berlin")

    [one] = coming_up(spec, at("12:00", "2027-03-27"), 1)

    assert one.note == "clocks go forward: 02:30 does not exist, runs at 03:00"
