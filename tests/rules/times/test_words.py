"""Schedules and durations in words."""

from __future__ import annotations

import datetime as dt

import pytest

from scheduler.rules.spec import WEEKDAYS, At, Cron, DayRule, Every, Once, ScheduleSpec, When
from scheduler.rules.times.words import cron_in_words, duration_in_words, in_words


def a_spec(*when: When, zone: str = "America/New_York") -> ScheduleSpec:
    return ScheduleSpec(name="nightly", task="count_words", when=when, timezone=zone)


def every(minutes: float, between: tuple[str, str] | None = None, **days: object) -> Every:
    bounds = between and (dt.time.fromisoformat(between[0]), dt.time.fromisoformat(between[1]))
    return Every(every=dt.timedelta(minutes=minutes), between=bounds, days=DayRule(**days))


def at(*times: str, **days: object) -> At:
    return At(at=tuple(dt.time.fromisoformat(time) for time in times), days=DayRule(**days))


ENTRIES = {
    "every": (every(5), "every 5 minutes"),
    "every, one of a unit": (every(60), "every hour"),
    "every, in the unit that divides it": (every(36 * 60), "every 36 hours"),
    "every, an hour and a half": (every(90), "every 90 minutes"),
    "every, seconds": (every(0.5), "every 30 seconds"),
    "every, between and days": (
        every(15, ("07:00", "19:00"), weekdays=WEEKDAYS[:6]),
        "every 15 minutes from 07:00 to 19:00, Monday to Saturday",
    ),
    "every, on some days": (
        every(15, weekdays=("mon", "thu"), calendar="de-business"),
        "every 15 minutes, Mondays and Thursdays, only on days of de-business",
    ),
    "at": (at("06:30"), "every day at 06:30"),
    "at, several": (at("07:00", "13:00", "19:00"), "every day at 07:00, 13:00 and 19:00"),
    "at, with seconds": (at("06:30:15"), "every day at 06:30:15"),
    "at, weekdays": (at("06:30", weekdays=WEEKDAYS[:5]), "weekdays at 06:30"),
    "at, all seven": (at("06:30", weekdays=WEEKDAYS), "every day at 06:30"),
    "at, a weekend": (at("06:30", weekdays=("sat", "sun")), "Saturdays and Sundays at 06:30"),
    "at, days in a row": (at("06:30", weekdays=("tue", "wed", "thu")), "Tuesday to Thursday at 06:30"),
    "at, a calendar": (at("06:30", calendar="de-business"), "on days of de-business at 06:30"),
    "at, weekdays of a calendar": (
        at("06:30", weekdays=WEEKDAYS[:5], calendar="de-business"),
        "weekdays at 06:30, only on days of de-business",
    ),
    "at, last business day": (
        at("19:30", business="last", calendar="de-business"),
        "on the last business day (de-business) at 19:30",
    ),
    "at, last business day of no calendar": (at("19:30", business="last"), "on the last business day at 19:30"),
    "at, days of the month": (
        at("06:30", month_days=(1, 2, 3, 11, 22, -1)),
        "on the 1st, the 2nd, the 3rd, the 11th, the 22nd and the last day of the month at 06:30",
    ),
    "at, nth weekdays": (
        at("06:30", nth_weekdays=((1, "mon"), (-1, "fri"))),
        "on the first Monday and the last Friday of the month at 06:30",
    ),
    "at, Friday the 13th": (
        at("06:30", weekdays=("fri",), month_days=(13,)),
        "Fridays at 06:30, only on the 13th of the month",
    ),
    "once": (Once(once=dt.datetime(2026, 12, 5, 23, 0)), "once on 2026-12-05 at 23:00"),
    "cron with a condition": (
        Cron(cron="0 22 * * *", days=DayRule(calendar="de-business")),
        "at 22:00, only on days of de-business",
    ),
}


@pytest.mark.parametrize(("entry", "words"), ENTRIES.values(), ids=ENTRIES.keys())
def test_an_entry_in_words(entry, words):
    assert in_words(a_spec(entry)) == words


def test_a_union_is_parted_by_semicolons():
    assert in_words(a_spec(every(15), Cron(cron="0 22 * * sun"))) == "every 15 minutes; at 22:00, only on Sunday"


def test_the_zone_is_named_when_asked_for():
    assert in_words(a_spec(at("06:30")), with_zone=True) == "every day at 06:30 (America/New_York)"


LINES = {
    "*/5 * * * *": "every 5 minutes",
    "30 6 * * 1-5": "at 06:30, Monday through Friday",
    "0 22 * * 7": "at 22:00, only on Sunday",
    "1 * * * *": "at 1 minute past the hour",
    "0 0 L * *": "at 00:00, on the last day of the month",
    "0 0 * * 5L": "at 00:00, on the last Friday of the month",
    "0 0 * * 2#3": "at 00:00, on the third Tuesday of the month",
    "0 0 13 * 5": "at 00:00, on day 13 of the month, or on Friday",
    "0 9 1 * 1-5": "at 09:00, on day 1 of the month, or Monday through Friday",
    "0 9 1 1 mon": "at 09:00, on day 1 of the month, or on Monday, only in January",
    "0 9 */2 * mon": "at 09:00, every 2 days from the 1st, and only on Monday",
    "0 9 1-7 * */7": "at 09:00, between day 1 and 7 of the month, and only on Sunday",
    "0 0 * * */2": "at 00:00, only on Sunday, Tuesday, Thursday, and Saturday",
    "20-20/1 4 * * *": "at 04:20",
    "0 9 * jul,aug *": "at 09:00, only in July and August",
    "0 9 * * mon,wed#2": 'at the times of "0 9 * * mon,wed#2"',
    "1,*/30 2 * * *": 'at the times of "1,*/30 2 * * *"',
}


@pytest.mark.parametrize(("line", "words"), LINES.items(), ids=LINES.keys())
def test_a_crontab_line_in_words(line, words):
    assert cron_in_words(Cron(cron=line)) == words


def test_match_days_decides_between_and_and_or():
    assert cron_in_words(Cron(cron="0 9 13 * fri", match_days="all")).endswith(
        "day 13 of the month, and only on Friday"
    )
    assert cron_in_words(Cron(cron="0 9 13 * fri", match_days="any")).endswith("day 13 of the month, or on Friday")
    assert cron_in_words(Cron(cron="0 9 */2 * fri", match_days="any")).endswith(
        "every 2 days from the 1st, or on Friday"
    )


DURATIONS = {
    dt.timedelta(0): "0 seconds",
    dt.timedelta(seconds=1): "1 second",
    dt.timedelta(seconds=90): "1 minute and 30 seconds",
    dt.timedelta(minutes=5): "5 minutes",
    dt.timedelta(hours=36): "1 day and 12 hours",
    dt.timedelta(days=2, hours=1, minutes=1, seconds=1, milliseconds=999): "2 days, 1 hour, 1 minute and 1 second",
}


@pytest.mark.parametrize(("duration", "words"), DURATIONS.items(), ids=DURATIONS.values())
def test_a_duration_in_words(duration, words):
    assert duration_in_words(duration) == words
