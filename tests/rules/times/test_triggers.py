"""The triggers, held against clock changes worked out by hand and against the slow oracle.

Facts about zones are lines of `zdump -v -c 2026,2027 ZONE` (tz database 2026), cut to what changes; local times are
given as the clock on the wall shows them, with the offset.
"""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Iterator
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.base import BaseTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.rules.spec import WEEKDAYS, At, Calendar, Cron, DateSpan, DayRule, Every, Once, ScheduleSpec, When
from scheduler.rules.times.trigger_base import Trigger
from scheduler.rules.times.triggers import AtTrigger, CronTrigger, EveryTrigger, OnceTrigger, UnionTrigger, trigger_of
from tests.rules.times.slow_oracle import clock_changes, slow_fire_times

BERLIN = "Europe/Berlin"


def a_spec(*when: When, zone: str = BERLIN, **more: object) -> ScheduleSpec:
    return ScheduleSpec(name="nightly", task="count_words", when=when, timezone=zone, **more)


def at(*times: str, **days: object) -> At:
    return At(at=tuple(dt.time.fromisoformat(time) for time in times), days=DayRule(**days))


def every(between: tuple[str, str] | None = None, days: DayRule | None = None, **duration: float) -> Every:
    bounds = between and (dt.time.fromisoformat(between[0]), dt.time.fromisoformat(between[1]))
    return Every(every=dt.timedelta(**duration), between=bounds, days=days or DayRule())


def cron(line: str, match_days: str | None = None, **days: object) -> Cron:
    return Cron(cron=line, match_days=match_days, days=DayRule(**days))


def once(moment: str) -> Once:
    return Once(once=dt.datetime.fromisoformat(moment))


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def local_fires(spec: ScheduleSpec, first: str, last: str) -> list[str]:
    """The fire times from local midnight of day `first` to that of the day after `last`, as local clocks show them."""
    zone = ZoneInfo(spec.timezone)
    after = dt.datetime.fromisoformat(first).replace(tzinfo=zone) - dt.timedelta(microseconds=1)
    until = (dt.datetime.fromisoformat(last) + dt.timedelta(days=1)).replace(tzinfo=zone)
    until = until.astimezone(dt.UTC) - dt.timedelta(microseconds=1)
    fires = [moment.astimezone(zone) for moment in trigger_of(spec).fire_times(after, until)]
    if first == last:
        return [f"{moment:%H:%M%z}"[:-2] if moment.second == 0 else f"{moment:%H:%M:%S}" for moment in fires]
    return [f"{moment:%d %H:%M}" for moment in fires]


# --- clock changes, by hand -----------------------------------------------------------------------------------------

# Europe/Berlin       Sun Mar 29 01:00:00 2026 UT = Sun Mar 29 03:00:00 CEST, before that 01:59:59 CET: no 02:00–02:59
# Europe/Berlin       Sun Oct 25 01:00:00 2026 UT = Sun Oct 25 02:00:00 CET, before that 02:59:59 CEST: 02:00–59 twice
# America/New_York    Sun Mar  8 07:00:00 2026 UT = 03:00:00 EDT, before that 01:59:59 EST: no 02:00–02:59
# America/New_York    Sun Nov  1 06:00:00 2026 UT = 01:00:00 EST, before that 01:59:59 EDT: 01:00–01:59 twice
# America/St_Johns    Sun Nov  1 04:30:00 2026 UT = 01:00:00 -0330, before that 01:59:59 -0230
# Australia/Lord_Howe Sat Oct  3 15:30:00 2026 UT = Sun Oct  4 02:30:00 +11, before that 01:59:59 +1030: no 02:00–02:29
# Australia/Lord_Howe Sat Apr  4 15:00:00 2026 UT = Sun Apr  5 01:30:00 +1030, before that 01:59:59 +11
# Pacific/Chatham     Sat Sep 26 14:00:00 2026 UT = Sun Sep 27 03:45:00 +1345, before that 02:44:59 +1245
# Pacific/Chatham     Sat Apr  4 14:00:00 2026 UT = Sun Apr  5 02:45:00 +1245, before that 03:44:59 +1345
# America/Santiago    Sun Sep  6 04:00:00 2026 UT = Sun Sep  6 01:00:00 -03, before that Sat Sep  5 23:59:59 -04
# America/Santiago    Sun Apr  5 03:00:00 2026 UT = Sat Apr  4 23:00:00 -04, before that Sat Apr  4 23:59:59 -03
# Africa/Cairo        Thu Apr 23 22:00:00 2026 UT = Fri Apr 24 01:00:00 +03, before that Thu Apr 23 23:59:59 +02
CLOCK_CHANGES = {
    "gap, its own time runs at the end": (at("02:30"), BERLIN, "2026-03-29", ["03:00+02"]),
    "gap, two times fall into it": (at("02:00", "02:30"), BERLIN, "2026-03-29", ["03:00+02"]),
    "gap, its end is asked for too": (at("02:30", "03:00", "03:30"), BERLIN, "2026-03-29", ["03:00+02", "03:30+02"]),
    "fold, the first time only": (at("02:30"), BERLIN, "2026-10-25", ["02:30+02"]),
    "fold, its end comes once": (at("01:59", "03:00"), BERLIN, "2026-10-25", ["01:59+02", "03:00+01"]),
    "cron without a star, gap": (cron("0,30 2 * * *"), BERLIN, "2026-03-29", ["03:00+02"]),
    "cron without a star, fold": (cron("0,30 2 * * *"), BERLIN, "2026-10-25", ["02:00+02", "02:30+02"]),
    "cron with all hours spelled out is no star": (
        cron("30 0-3 * * *"),
        BERLIN,
        "2026-10-25",
        ["00:30+02", "01:30+02", "02:30+02", "03:30+01"],
    ),
    "cron with a star, gap: nothing extra": (cron("*/30 2 * * *"), BERLIN, "2026-03-29", []),
    "cron with a star, fold: both": (
        cron("*/30 2 * * *"),
        BERLIN,
        "2026-10-25",
        ["02:00+02", "02:30+02", "02:00+01", "02:30+01"],
    ),
    "cron with a star, round the gap": (
        cron("*/30 1-3 * * *"),
        BERLIN,
        "2026-03-29",
        ["01:00+01", "01:30+01", "03:00+02", "03:30+02"],
    ),
    "New York, gap": (at("02:15"), "America/New_York", "2026-03-08", ["03:00-04"]),
    "New York, fold": (at("01:15"), "America/New_York", "2026-11-01", ["01:15-04"]),
    "Saint John's, fold": (cron("45 1 1 11 *"), "America/St_Johns", "2026-11-01", ["01:45-02"]),
    "Lord Howe, half an hour's gap": (at("02:10", "02:30"), "Australia/Lord_Howe", "2026-10-04", ["02:30+11"]),
    "Lord Howe, half an hour's fold": (
        cron("*/20 1 * * *"),
        "Australia/Lord_Howe",
        "2026-04-05",
        ["01:00+11", "01:20+11", "01:40+11", "01:40+10"],
    ),
    "Lord Howe, the fold without a star": (at("01:40"), "Australia/Lord_Howe", "2026-04-05", ["01:40+11"]),
    "Chatham, gap": (at("02:44", "02:45", "03:44"), "Pacific/Chatham", "2026-09-27", ["02:44+12", "03:45+13"]),
    "Chatham, fold": (at("02:50", "03:40"), "Pacific/Chatham", "2026-04-05", ["02:50+13", "03:40+13"]),
    # cronsim 2.8 never returns for this one
    "Chatham, star in the fold": (
        cron("52 */3 * * 0"),
        "Pacific/Chatham",
        "2026-04-05",
        ["00:52+13", "03:52+12", "06:52+12", "09:52+12", "12:52+12", "15:52+12", "18:52+12", "21:52+12"],
    ),
    "Santiago, midnight is skipped": (at("00:00", "00:30"), "America/Santiago", "2026-09-06", ["01:00-03"]),
    "Santiago, the hour before midnight comes twice": (at("23:30"), "America/Santiago", "2026-04-04", ["23:30-03"]),
    "Santiago, the same with a star": (
        cron("30 */23 4 4 *"),
        "America/Santiago",
        "2026-04-04",
        ["00:30-03", "23:30-03", "23:30-04"],
    ),
    "Cairo, midnight is skipped": (cron("5 0 * * fri"), "Africa/Cairo", "2026-04-24", ["01:00+03"]),
    "every, spring": (every(hours=6), BERLIN, "2026-03-29", ["00:00+01", "07:00+02", "13:00+02", "19:00+02"]),
    "every, autumn": (
        every(hours=6),
        BERLIN,
        "2026-10-25",
        ["00:00+02", "05:00+01", "11:00+01", "17:00+01", "23:00+01"],
    ),
    "every, the fold's hour counts": (
        every(("01:30", "02:30"), minutes=30),
        BERLIN,
        "2026-10-25",
        ["01:30+02", "02:00+02", "02:30+02", "02:00+01", "02:30+01"],
    ),
    "every, no midnight: from the day's first moment": (
        every(hours=8),
        "America/Santiago",
        "2026-09-06",
        ["01:00-03", "09:00-03", "17:00-03"],
    ),
    "every day, autumn: once": (every(hours=24), BERLIN, "2026-10-25", ["00:00+02"]),
    "once in a gap": (once("2026-03-29 02:30"), BERLIN, "2026-03-29", ["03:00+02"]),
    "once in a fold": (once("2026-10-25 02:30"), BERLIN, "2026-10-25", ["02:30+02"]),
    "once at a midnight that is skipped": (once("2026-09-06 00:00"), "America/Santiago", "2026-09-06", ["01:00-03"]),
}


@pytest.mark.parametrize(("entry", "zone", "day", "expected"), CLOCK_CHANGES.values(), ids=CLOCK_CHANGES.keys())
def test_a_clock_change_is_treated_as_debian_does(entry, zone, day, expected):
    assert local_fires(a_spec(entry, zone=zone), day, day) == expected


# America/St_Johns Sun Nov  7 02:31:00 2010 UT = Sat Nov  6 23:01:00 NST, before that Sun Nov  7 00:00:59 NDT
# Pacific/Apia     Fri Dec 30 10:00:00 2011 UT = Sat Dec 31 00:00:00 +14, before that Thu Dec 29 23:59:59 -10
PECULIAR = {
    "a fold back into the day before: a time of that day fires once": (
        at("00:00", "23:30"),
        "America/St_Johns",
        ("2010-11-06", "2010-11-07"),
        ["06 00:00", "06 23:30", "07 00:00", "07 23:30"],
    ),
    "the same with a star": (
        cron("*/30 0,23 6,7 11 *"),
        "America/St_Johns",
        ("2010-11-06", "2010-11-07"),
        [
            "06 00:00",
            "06 00:30",
            "06 23:00",
            "06 23:30",
            "07 00:00",
            "06 23:30",
            "07 00:00",
            "07 00:30",
            "07 23:00",
            "07 23:30",
        ],
    ),
    "the same, every: the grid goes on from the first midnight": (
        every(hours=12),
        "America/St_Johns",
        ("2010-11-06", "2010-11-07"),
        ["06 00:00", "06 12:00", "07 00:00", "07 11:00", "07 23:00"],
    ),
    "a day that is skipped whole runs as the next begins": (
        at("09:00"),
        "Pacific/Apia",
        ("2011-12-29", "2011-12-31"),
        ["29 09:00", "31 00:00", "31 09:00"],
    ),
    "a day that is skipped whole has no grid": (
        every(hours=12),
        "Pacific/Apia",
        ("2011-12-29", "2011-12-31"),
        ["29 00:00", "29 12:00", "31 00:00", "31 12:00"],
    ),
}


@pytest.mark.parametrize(("entry", "zone", "days", "expected"), PECULIAR.values(), ids=PECULIAR.keys())
def test_a_peculiar_clock_change_is_treated_alike(entry, zone, days, expected):
    assert local_fires(a_spec(entry, zone=zone), *days) == expected


# --- the entries ----------------------------------------------------------------------------------------------------

# 2026-11-01 is a Sunday.
BUSINESS = {
    "holidays": Calendar(name="holidays", dates=(dt.date(2026, 11, 30),)),
    "business": Calendar(name="business", weekdays=WEEKDAYS[:5], without=("holidays",)),
}
ENTRIES = {
    "every 7 h starts anew each midnight": (
        every(hours=7),
        "02",
        "03",
        "02 00:00, 02 07:00, 02 14:00, 02 21:00, 03 00:00, 03 07:00, 03 14:00, 03 21:00",
    ),
    "every between": (
        every(("07:00", "08:00"), minutes=30),
        "02",
        "03",
        "02 07:00, 02 07:30, 02 08:00, 03 07:00, 03 07:30, 03 08:00",
    ),
    "every past midnight belongs to the evening's day": (
        every(("23:00", "01:00"), DayRule(weekdays=("fri",)), hours=1),
        "05",
        "08",
        "06 23:00, 07 00:00, 07 01:00",
    ),
    "every 2 days, counted from 1970": (every(hours=48), "01", "06", "01 00:00, 03 00:00, 05 00:00"),
    "every 36 h, counted from 1970": (every(hours=36), "01", "05", "01 12:00, 03 00:00, 04 12:00"),
    "at on weekdays": (at("06:30", weekdays=WEEKDAYS[:5]), "06", "09", "06 06:30, 09 06:30"),
    "at on the last day of the month": (at("06:30", month_days=(-1,)), "01", "30", "30 06:30"),
    "at on the second Monday and the last Friday": (
        at("06:30", nth_weekdays=((2, "mon"), (-1, "fri"))),
        "01",
        "30",
        "09 06:30, 27 06:30",
    ),
    "at on the last business day": (at("19:30", business="last", calendar="business"), "01", "30", "27 19:30"),
    "at on the first business day": (at("19:30", business="first", calendar="business"), "01", "30", "02 19:30"),
    "cron, weekday 0 is Sunday": (cron("0 9 * * 0"), "01", "09", "01 09:00, 08 09:00"),
    "cron, weekday 7 is Sunday": (cron("0 9 * * 7"), "01", "09", "01 09:00, 08 09:00"),
    "cron, either day field": (cron("0 9 3 * fri"), "01", "08", "03 09:00, 06 09:00"),
    "cron, any of the day fields": (cron("0 9 3 * fri", "any"), "01", "08", "03 09:00, 06 09:00"),
    "cron, all of the day fields": (cron("0 9 13 * fri", "all"), "01", "30", "13 09:00"),
    "cron, a leading star means and": (cron("0 9 */2 * fri"), "01", "30", "13 09:00, 27 09:00"),
    "cron, a leading star, yet any": (
        cron("0 9 */10 * fri", "any"),
        "01",
        "13",
        "01 09:00, 06 09:00, 11 09:00, 13 09:00",
    ),
    "cron, last day and last weekday": (cron("0 9 L,LW * *"), "01", "30", "30 09:00"),
    "cron, last Friday and second Monday": (cron("0 9 * * 5L,1#2"), "01", "30", "09 09:00, 27 09:00"),
    "cron, a range of one is that one": (cron("0 9-9/2 2-2/3 11 *"), "01", "30", "02 09:00"),
    "cron with a further condition": (
        cron("0 9 27,30 * *", business="last", calendar="business"),
        "01",
        "30",
        "27 09:00",
    ),
}


@pytest.mark.parametrize(("entry", "first", "last", "expected"), ENTRIES.values(), ids=ENTRIES.keys())
def test_an_entry_names_its_moments(entry, first, last, expected):
    spec = a_spec(entry, calendars=BUSINESS)

    fires = local_fires(spec, f"2026-11-{first}", f"2026-11-{last}")

    assert fires == expected.split(", ")


def test_every_fires_within_a_minute_too():
    fires = trigger_of(a_spec(every(seconds=25))).fire_times(utc("2026-11-01 23:00:10"), utc("2026-11-01 23:01:15"))

    assert [f"{moment:%M:%S}" for moment in fires] == ["00:25", "00:50", "01:15"]


def test_every_36_hours_goes_on_over_a_clock_change():
    fires = list(trigger_of(a_spec(every(hours=36))).fire_times(utc("2026-03-20 00:00"), utc("2026-04-10 00:00")))

    assert {after - before for before, after in pairwise(fires)} == {dt.timedelta(hours=36)}


@pytest.mark.parametrize(
    "duration", [dt.timedelta(0), dt.timedelta(milliseconds=1500), dt.timedelta(seconds=-5)], ids=str
)
def test_every_refuses_what_is_no_whole_number_of_seconds(duration):
    with pytest.raises(ValueError, match="whole number of seconds"):
        EveryTrigger(Every(every=duration), ZoneInfo(BERLIN))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("61 2 * * *", '"61 2 * * *" is no crontab line: Bad minute'),
        ("0 2 * *", '"0 2 * *" has 4 fields; a crontab line has five'),
        ("0 0 30 2 *", '"0 0 30 2 *" is no crontab line: Bad day-of-month'),
        ("0 0 * * 5#6", '"0 0 * * 5#6" is no crontab line: Bad day-of-week'),
    ],
    ids=["minute 61", "four fields", "30th of February", "sixth Friday"],
)
def test_a_crontab_line_that_cannot_be_read_is_refused(line, message):
    with pytest.raises(ValueError) as refusal:
        CronTrigger(Cron(cron=line), ZoneInfo(BERLIN))

    assert str(refusal.value) == message


# --- searches end ---------------------------------------------------------------------------------------------------


def test_the_29th_of_february_on_a_monday_is_found_beyond_a_century_without_leap_day():
    trigger = trigger_of(a_spec(cron("0 0 29 2 mon", "all"), zone="UTC"))

    assert list(islice(trigger.fire_times(utc("2072-03-01 00:00")), 2)) == [utc("2112-02-29"), utc("2140-02-29")]


NEVER = {
    "cron": cron("0 0 30 2 mon", "all"),
    "at": at("06:30", calendar="never"),
    "every, no day": every(days=DayRule(calendar="never"), minutes=5),
    "every, no time": every(("00:10", "00:20"), hours=1),
    "every 36 h, no time": every(("00:10", "00:20"), hours=36),
    "cron with a star": cron("* * * * *", month_days=(31,), nth_weekdays=((1, "mon"),)),
}


@pytest.mark.parametrize("entry", NEVER.values(), ids=NEVER.keys())
def test_a_rule_that_never_fires_ends(entry):
    calendars = {"never": Calendar(name="never")}

    assert trigger_of(a_spec(entry, calendars=calendars)).next_after(utc("2026-11-01")) is None


@pytest.mark.parametrize("year", [1, 1850, 9950, 9999])
def test_the_ends_of_the_calendar_raise_nothing(year):
    moment = dt.datetime(year, 12, 31, 23, 59, tzinfo=dt.UTC)

    following = trigger_of(a_spec(at("06:30"), every(hours=1), cron("* * * * *"))).next_after(moment)

    assert (following is None) == (year > 9900)


# --- bounds, unions, interfaces -------------------------------------------------------------------------------------


def test_start_is_included_and_until_is_not():
    bounds = {"start": utc("2026-11-02 06:00"), "until": utc("2026-11-04 06:00")}
    trigger = trigger_of(a_spec(at("07:00"), **bounds))

    assert list(trigger.fire_times(utc("2020-01-01"))) == [utc("2026-11-02 06:00"), utc("2026-11-03 06:00")]


def test_the_end_of_the_span_is_included_and_its_start_is_not():
    trigger = trigger_of(a_spec(at("07:00")))

    fires = trigger.fire_times(utc("2026-11-02 06:00"), utc("2026-11-04 06:00"))

    assert list(fires) == [utc("2026-11-03 06:00"), utc("2026-11-04 06:00")]


def test_an_empty_span_holds_nothing():
    trigger = trigger_of(a_spec(every(seconds=1)))

    assert list(trigger.fire_times(utc("2026-11-02"), utc("2026-11-02"))) == []
    assert list(trigger.fire_times(utc("2026-11-02"), utc("2026-11-01"))) == []


def test_equal_instants_of_a_union_fire_once():
    spec = a_spec(every(minutes=30), at("06:30"), cron("30 6 * * *"), once("2026-11-02 06:30"))

    fires = local_fires(spec, "2026-11-02", "2026-11-02")

    assert len(fires) == 48
    assert fires.count("06:30+01") == 1


def test_two_times_that_meet_at_the_end_of_a_gap_fire_once_in_a_union():
    assert local_fires(a_spec(at("02:15"), at("02:45"), at("03:00")), "2026-03-29", "2026-03-29") == ["03:00+02"]


def test_apscheduler_is_answered_with_the_first_time_at_or_after_now():
    trigger = trigger_of(a_spec(at("07:00")))

    assert isinstance(trigger, BaseTrigger)
    assert trigger.get_next_fire_time(None, utc("2026-11-02 06:00")) == utc("2026-11-02 06:00")
    assert trigger.get_next_fire_time(None, utc("2026-11-02 06:00:01")) == utc("2026-11-03 06:00")


def test_a_new_year_that_has_come_elsewhere_only_is_no_matter():
    tokyo = dt.datetime(2027, 1, 1, 0, 30, tzinfo=ZoneInfo("Asia/Tokyo"))  # 2026-12-31 15:30 UTC

    assert trigger_of(a_spec(cron("0 * * * *"))).next_after(tokyo) == utc("2026-12-31 16:00")


class NeverTrigger(Trigger):
    """Fires never, and remembers how long it was asked to search."""

    follows_real_time = False

    def __init__(self) -> None:
        self.searched = dt.timedelta(0)

    def _search(self, after: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
        self.searched += end - after
        return iter(())


def test_an_entry_that_never_fires_holds_up_no_other():
    never = NeverTrigger()
    union = UnionTrigger([never, EveryTrigger(every(minutes=5), ZoneInfo(BERLIN))])

    assert union.next_after(utc("2026-11-02 06:00")) == utc("2026-11-02 06:05")
    assert never.searched < dt.timedelta(days=100)


def test_now_is_not_read_once_there_is_a_previous_time():
    trigger = trigger_of(a_spec(at("07:00")))

    following = trigger.get_next_fire_time(utc("2026-11-02 06:00"), utc("2020-01-01"))

    assert following == utc("2026-11-03 06:00")


def test_a_moment_of_another_zone_is_understood():
    tokyo = dt.datetime(2026, 11, 2, 15, 0, tzinfo=ZoneInfo("Asia/Tokyo"))  # 06:00 UTC

    following = trigger_of(a_spec(at("07:00"))).next_after(tokyo)

    assert following == utc("2026-11-03 06:00")
    assert following.tzinfo is dt.UTC


@pytest.mark.parametrize("kind", [AtTrigger, CronTrigger, EveryTrigger, OnceTrigger, UnionTrigger])
def test_a_trigger_survives_pickling(kind):
    whole = trigger_of(a_spec(at("07:00"), cron("0 9 * * 1-5"), every(minutes=90), once("2026-11-02 06:30")))
    trigger = next(one for one in (whole, *whole.parts) if isinstance(one, kind))

    copy = pickle.loads(pickle.dumps(trigger))  # noqa: S301

    begin, end = utc("2026-11-01"), utc("2026-11-09")
    assert list(copy.fire_times(begin, end)) == list(trigger.fire_times(begin, end)) != []


def test_a_trigger_is_built_once_for_equal_specs():
    assert trigger_of(a_spec(at("07:00"))) is trigger_of(a_spec(at("07:00")))


# --- against the slow oracle ----------------------------------------------------------------------------------------

ZONES = (
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/St_Johns",
    "America/Santiago",
    "America/Havana",
    "America/Sao_Paulo",
    "America/Asuncion",
    "America/Scoresbysund",
    "America/Nuuk",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Tehran",
    "Asia/Amman",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Antarctica/Troll",
    "Asia/Kathmandu",
    "UTC",
)
YEARS = (2006, 2010, 2011, 2016, 2019, 2023, 2024, 2026, 2027, 2030)
MINUTES = ("*", "*/15", "*/7", "0", "30", "52", "0,30", "15,45", "1-59/20", "20-20/1", "5/15", "10-12", "1,*/30")
HOURS = ("*", "*/3", "*/2", "0", "1", "2", "3", "23", "0,2", "1-3", "0-23", "22-23,0-2", "2/5")
MONTH_DAYS = ("*", "*", "*", "*", "*/2", "1-15", "16-31", "L", "LW", "1,25-31", "29")
CRON_WEEKDAYS = ("*", "*", "*", "0", "7", "mon-fri", "sun", "*/2", "sat,sun", "0L", "7#1", "1-5,7#4")
CALENDARS = {
    "closed": Calendar(
        name="closed", weekdays=("sun",), spans=(DateSpan(first=dt.date(2026, 3, 27), last=dt.date(2026, 3, 28)),)
    ),
    "open": Calendar(name="open", weekdays=WEEKDAYS, without=("closed",)),
}

times = st.builds(
    dt.time, st.sampled_from([0, 0, 1, 1, 2, 2, 3, 6, 12, 22, 23]), st.sampled_from([0, 1, 15, 30, 44, 45, 59])
)
day_rules = st.one_of(
    st.just(DayRule()),
    st.just(DayRule()),
    st.builds(
        DayRule,
        weekdays=st.sampled_from([(), ("sun",), WEEKDAYS[:5], ("sat", "sun", "mon")]),
        month_days=st.sampled_from([(), (), (-1,), (1, 29, 30, 31), tuple(range(1, 32, 2))]),
        nth_weekdays=st.sampled_from([(), (), ((-1, "sun"), (1, "sun")), ((2, "sun"), (4, "sat"), (-2, "sun"))]),
        business=st.sampled_from([None, None, None, "first", "last"]),
        calendar=st.sampled_from([None, "closed", "open"]),
    ),
)
entries = st.one_of(
    st.builds(
        At,
        at=st.lists(times, min_size=1, max_size=4, unique=True).map(lambda some: tuple(sorted(some))),
        days=day_rules,
    ),
    st.builds(
        lambda fields, match_days, days: Cron(cron=" ".join(fields), match_days=match_days, days=days),
        st.tuples(
            *(
                st.sampled_from(field)
                for field in (MINUTES, HOURS, MONTH_DAYS, ("*", "*", "*/3", "mar,oct-nov"), CRON_WEEKDAYS)
            )
        ),
        st.sampled_from([None, None, "any", "all"]),
        day_rules,
    ),
    st.builds(
        Every,
        every=st.sampled_from([1, 5, 7, 15, 25, 60, 90, 360, 420, 1000, 1439, 1440, 1500, 2160, 2880, 4320]).map(
            lambda minutes: dt.timedelta(minutes=minutes)
        ),
        between=st.none() | st.tuples(times, times),
        days=day_rules,
    ),
)


@st.composite
def spans_near_a_change(draw: st.DrawFn) -> tuple[str, dt.datetime, dt.datetime]:
    """A zone and a day or two of it, mostly round a clock change."""
    zone = draw(st.sampled_from(ZONES))
    changes = [change for year in YEARS for change in clock_changes(zone, year)]
    change = draw(st.sampled_from(changes or [utc("2026-03-29 01:00"), utc("2024-02-29 12:00")]))
    after = change - dt.timedelta(minutes=draw(st.integers(0, 2000)))
    return zone, after, after + dt.timedelta(minutes=draw(st.integers(1, 3000)))


@st.composite
def unions_near_a_change(draw: st.DrawFn) -> tuple[ScheduleSpec, dt.datetime, dt.datetime]:
    zone, after, until = draw(spans_near_a_change())
    onces = st.integers(0, 3000).map(
        lambda minutes: Once(once=(after + dt.timedelta(minutes=minutes)).replace(tzinfo=None))
    )
    when = draw(st.lists(st.one_of(entries, entries, entries, onces), min_size=1, max_size=3))
    return a_spec(*when, zone=zone, calendars=CALENDARS), after, until


@given(unions_near_a_change())
@settings(max_examples=250)
def test_fire_times_are_those_of_the_slow_oracle(case):
    spec, after, until = case

    fires = list(trigger_of(spec).fire_times(after, until))

    assert fires == slow_fire_times(spec.when, spec.timezone, spec.calendars, after, until)


@given(unions_near_a_change())
def test_fire_times_only_ever_go_up_and_have_whole_seconds(case):
    spec, after, until = case

    fires = list(trigger_of(spec).fire_times(after, until))

    assert all(before < later for before, later in pairwise([after, *fires]))
    assert all(moment <= until and moment.microsecond == 0 and moment.tzinfo is dt.UTC for moment in fires)


@given(unions_near_a_change())
def test_asking_one_by_one_gives_the_same_as_asking_for_all(case):
    spec, after, until = case
    trigger = trigger_of(spec)
    fires = list(islice(trigger.fire_times(after, until), 40))

    stepped, moment = [], after
    while len(stepped) < len(fires):
        moment = trigger.get_next_fire_time(moment, until)
        stepped.append(moment)

    assert stepped == fires
