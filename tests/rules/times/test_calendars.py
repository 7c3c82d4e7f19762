"""Days and blackouts. 2026-11-01 is a Sunday."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.rules.spec import WEEKDAYS, Blackout, Calendar, DateSpan, DayRule, WeeklyWindow, Window
from scheduler.rules.times.calendars import (
    LONGEST_BLACKOUT,
    Blackedout,
    blackout_at,
    day_is_in,
    holidays_of,
    matches_day,
)

BERLIN = "Europe/Berlin"


def the(*calendars: Calendar) -> dict[str, Calendar]:
    return {calendar.name: calendar for calendar in calendars}


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def wall(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def berlin(text: str) -> dt.datetime:
    return wall(text).replace(tzinfo=ZoneInfo(BERLIN)).astimezone(dt.UTC)


CALENDARS = the(
    Calendar(name="dates", dates=(day("2026-12-25"),)),
    Calendar(name="spans", spans=(DateSpan(first=day("2026-12-24"), last=day("2027-01-01")),)),
    Calendar(name="germany", country="DE"),
    Calendar(name="berlin", country="DE", subdivision="BE"),
    Calendar(name="business", weekdays=WEEKDAYS[:5], without=("berlin", "spans")),
    Calendar(name="odd", weekdays=WEEKDAYS[:5], without=("business",)),
    Calendar(name="empty"),
    Calendar(name="only-without", without=("dates",)),
)


# --- days -----------------------------------------------------------------------------------------------------------

MEMBERSHIP = {
    "a date": ("dates", "2026-12-25", True),
    "a day beside it": ("dates", "2026-12-26", False),
    "the first day of a span": ("spans", "2026-12-24", True),
    "the last day of a span": ("spans", "2027-01-01", True),
    "the day after a span": ("spans", "2027-01-02", False),
    "a holiday of a country": ("germany", "2026-10-03", True),
    "a holiday of another part": ("germany", "2026-03-08", False),
    "a holiday of a part": ("berlin", "2026-03-08", True),
    "a weekday": ("business", "2026-11-02", True),
    "a Sunday": ("business", "2026-11-01", False),
    "a weekday that another calendar takes away": ("business", "2026-12-28", False),
    "without of without": ("odd", "2026-12-28", True),
    "an empty calendar": ("empty", "2026-12-25", False),
    "nothing to take away from": ("only-without", "2026-12-26", False),
}


@pytest.mark.parametrize(("name", "date", "expected"), MEMBERSHIP.values(), ids=MEMBERSHIP.keys())
def test_a_day_is_in_a_calendar_or_not(name, date, expected):
    assert day_is_in(name, CALENDARS, day(date)) is expected


def test_a_calendar_that_is_not_there_is_no_empty_one():
    with pytest.raises(KeyError):
        day_is_in("holidais", CALENDARS, day("2026-11-02"))


def test_a_country_that_is_not_known_is_refused():
    with pytest.raises(NotImplementedError):  # the holidays package's own word for it; nothing of ours is unfinished
        holidays_of("XX", None, 2026)


def test_holidays_have_english_names():
    assert holidays_of("DE", "BE", 2026)[day("2026-12-25")] == "Christmas Day"


RULES = {
    "no condition": ({}, "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30"),
    "weekdays": ({"weekdays": ("sat", "sun")}, "1 7 8 14 15 21 22 28 29"),
    "days of the month": ({"month_days": (1, 15, 31)}, "1 15"),
    "the last day": ({"month_days": (-1,)}, "30"),
    "the third Monday": ({"nth_weekdays": ((3, "mon"),)}, "16"),
    "the fifth Monday": ({"nth_weekdays": ((5, "mon"),)}, "30"),
    "a fifth Friday that is not": ({"nth_weekdays": ((5, "fri"),)}, ""),
    "the last Sunday, the last but one Monday": ({"nth_weekdays": ((-1, "sun"), (-2, "mon"))}, "23 29"),
    "the first business day": ({"business": "first", "calendar": "open"}, "4"),
    "the last business day": ({"business": "last", "calendar": "open"}, "27"),
    "the last business day of no calendar": ({"business": "last"}, "30"),
    "a calendar": ({"calendar": "closed"}, "2 3 30"),
    "all that is given must hold": ({"weekdays": ("mon",), "month_days": (2, 3, 9), "calendar": "open"}, "9"),
    "a last business day that is no Monday": ({"business": "last", "calendar": "open", "weekdays": ("mon",)}, ""),
    "the last business day of an empty calendar": ({"business": "last", "calendar": "empty"}, ""),
}


@pytest.mark.parametrize(("rule", "expected"), RULES.values(), ids=RULES.keys())
def test_a_rule_matches_days_of_november(rule, expected):
    calendars = the(
        Calendar(name="closed", dates=(day("2026-11-02"), day("2026-11-03"), day("2026-11-30"))),
        Calendar(name="open", weekdays=WEEKDAYS[:5], without=("closed",)),
        Calendar(name="empty"),
    )
    november = [dt.date(2026, 11, number) for number in range(1, 31)]

    matching = [str(one.day) for one in november if matches_day(DayRule(**rule), calendars, one)]

    assert " ".join(matching) == expected


# --- blackouts ------------------------------------------------------------------------------------------------------


def at_moment(calendars: dict[str, Calendar], moment: dt.datetime, *during: str) -> Blackedout | None:
    blackout = Blackout(during=during or tuple(calendars), then="run-after")
    return blackout_at(blackout, calendars, BERLIN, moment)


def a_freeze(*windows: tuple[str, str]) -> Calendar:
    return Calendar(
        name="freeze",
        windows=tuple(Window(start=wall(start), end=wall(end), why=f"freeze {start[8:10]}") for start, end in windows),
    )


def test_a_window_ends_where_local_clocks_show_its_end():
    calendars = the(a_freeze(("2026-12-21 18:00", "2027-01-04 06:00")))

    blackedout = at_moment(calendars, berlin("2026-12-24 12:00"))

    assert blackedout == Blackedout(end=berlin("2027-01-04 06:00"), why="freeze 21", calendar="freeze")


def test_a_window_has_its_start_and_not_its_end():
    calendars = the(a_freeze(("2026-12-21 18:00", "2027-01-04 06:00")))

    assert at_moment(calendars, berlin("2026-12-21 17:59:59")) is None
    assert at_moment(calendars, berlin("2026-12-21 18:00")) is not None
    assert at_moment(calendars, berlin("2027-01-04 05:59:59")) is not None
    assert at_moment(calendars, berlin("2027-01-04 06:00")) is None


def test_windows_that_touch_or_overlap_are_left_together():
    calendars = the(
        a_freeze(
            ("2026-12-01 10:00", "2026-12-01 12:00"),
            ("2026-12-01 12:00", "2026-12-01 14:00"),
            ("2026-12-01 13:00", "2026-12-01 16:00"),
            ("2026-12-01 16:01", "2026-12-01 20:00"),
        )
    )

    blackedout = at_moment(calendars, berlin("2026-12-01 11:00"))

    assert blackedout.end == berlin("2026-12-01 16:00")
    assert at_moment(calendars, blackedout.end) is None


def test_windows_of_several_calendars_are_left_together():
    calendars = the(
        a_freeze(("2026-12-24 18:00", "2026-12-25 00:00")),
        Calendar(name="holidays", country="DE"),
        Calendar(name="not-asked", dates=(day("2026-12-27"),)),
    )

    blackedout = at_moment(calendars, berlin("2026-12-24 20:00"), "freeze", "holidays")

    assert blackedout.end == berlin("2026-12-27 00:00")
    assert (blackedout.why, blackedout.calendar) == ("freeze 24", "freeze")


WHOLE_DAYS = {
    "a date says its day": (Calendar(name="shut", dates=(day("2026-12-25"),)), "shut: 2026-12-25"),
    "a holiday says its name": (Calendar(name="shut", country="DE", dates=()), "shut: Christmas Day"),
}


@pytest.mark.parametrize(("calendar", "why"), WHOLE_DAYS.values(), ids=WHOLE_DAYS.keys())
def test_a_whole_day_lasts_from_midnight_to_midnight_and_says_why(calendar, why):
    assert at_moment(the(calendar), berlin("2026-12-24 23:59:59")) is None
    assert at_moment(the(calendar), berlin("2026-12-25 00:00")).why == why


WEEKLY = {
    "within a day": ("fri", "12:00", "14:00", "2026-11-06 13:00", "2026-11-06 14:00"),
    "past midnight, in the evening": ("fri", "22:00", "04:00", "2026-11-06 23:00", "2026-11-07 04:00"),
    "past midnight, in the morning": ("fri", "22:00", "04:00", "2026-11-07 03:59", "2026-11-07 04:00"),
    "past midnight, not the morning before": ("fri", "22:00", "04:00", "2026-11-06 03:59", None),
    "from midnight to midnight": ("fri", "00:00", "00:00", "2026-11-06 12:00", "2026-11-07 00:00"),
    "another day": ("fri", "12:00", "14:00", "2026-11-05 13:00", None),
}


@pytest.mark.parametrize(("weekday", "start", "end", "moment", "expected"), WEEKLY.values(), ids=WEEKLY.keys())
def test_a_weekly_window_comes_each_week(weekday, start, end, moment, expected):
    window = WeeklyWindow(weekdays=(weekday,), start=dt.time.fromisoformat(start), end=dt.time.fromisoformat(end))
    calendars = the(Calendar(name="maintenance", weekly=(window,)))

    blackedout = at_moment(calendars, berlin(moment))

    assert (blackedout and blackedout.end) == (expected and berlin(expected))


# Berlin, 2026: 02:00 to 02:59 is skipped on March 29th (gap's end 01:00 UTC) and comes twice on October 25th.
CLOCK_CHANGES = {
    "a window that ends in a gap": ("2026-03-29 01:00", "2026-03-29 02:30", "2026-03-29 00:30", "2026-03-29 01:00"),
    "a window within a gap is none": ("2026-03-29 02:10", "2026-03-29 02:30", "2026-03-29 01:00", None),
    "a window that ends in a fold": ("2026-10-25 01:00", "2026-10-25 02:30", "2026-10-25 00:45", "2026-10-25 01:30"),
    "a window that starts in a fold": ("2026-10-25 02:30", "2026-10-25 04:00", "2026-10-25 00:30", "2026-10-25 03:00"),
}


@pytest.mark.parametrize(("start", "end", "moment", "expected"), CLOCK_CHANGES.values(), ids=CLOCK_CHANGES.keys())
def test_a_window_knows_clock_changes(start, end, moment, expected):
    blackedout = at_moment(the(a_freeze((start, end))), utc(moment))

    assert (blackedout and blackedout.end) == (expected and utc(expected))


def test_a_blackout_without_end_says_so():
    calendars = the(Calendar(name="always", weekdays=WEEKDAYS))
    moment = berlin("2026-11-02 12:00")

    blackedout = at_moment(calendars, moment)

    assert blackedout.endless
    assert blackedout.end > moment + LONGEST_BLACKOUT


@given(
    windows=st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 900)), max_size=6),
    days=st.sets(st.sampled_from(WEEKDAYS), max_size=6),
    minute=st.integers(0, 5000),
    start=st.sampled_from(["2026-03-27 00:00", "2026-10-23 00:00"]),
)
def test_the_end_of_a_blackout_lies_outside_and_all_before_it_inside(windows, days, minute, start):
    begin = wall(start)
    freeze = a_freeze(
        *(
            (str(begin + dt.timedelta(minutes=first)), str(begin + dt.timedelta(minutes=first + length)))
            for first, length in windows
        )
    )
    calendars = the(freeze, Calendar(name="shut", weekdays=tuple(day for day in WEEKDAYS if day in days)))
    moment = begin.replace(tzinfo=dt.UTC) + dt.timedelta(minutes=minute)

    blackedout = at_moment(calendars, moment)

    end = blackedout.end if blackedout else moment
    assert at_moment(calendars, end) is None
    for share in range(10):
        between = moment + (end - moment) * share / 10
        assert between == end or at_moment(calendars, between).end == end
