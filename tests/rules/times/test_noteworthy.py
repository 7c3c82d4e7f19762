"""What of the next day a digest foretells."""

from __future__ import annotations

import datetime as dt

import pytest

from scheduler.rules.spec import At, Blackout, Calendar, Cron, DateSpan, DayRule, Every, Once, ScheduleSpec
from scheduler.rules.times.noteworthy import worth_a_word
from tests.builders import a_spec

THURSDAY = dt.datetime(2026, 12, 24, 8, tzinfo=dt.UTC)
HOLIDAY = dt.date(2026, 12, 25)
OFFICE = {"office": Calendar(name="office", weekdays=("mon", "tue", "wed", "thu"))}
FREEZE = {"freeze": Calendar(name="freeze", spans=(DateSpan(first=HOLIDAY, last=HOLIDAY),))}
SIX = (dt.time(6),)


def told(spec: ScheduleSpec, after: dt.datetime = THURSDAY, *, has_run: bool = True) -> str | None:
    found = worth_a_word(spec, after, after + dt.timedelta(hours=24), has_run=has_run)
    return None if found is None else f"{found[0]:%d %H:%M} {found[1]}"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(a_spec(when=(At(at=SIX),)), None, id="as on every day"),
        pytest.param(a_spec(when=(At(at=SIX),), kind="long"), "25 06:00 long", id="long"),
        pytest.param(
            a_spec(when=(Once(once=dt.datetime(2026, 12, 24, 23)),)),
            "24 23:00 one-off",
            id="one-off",
        ),
        pytest.param(
            a_spec(when=(At(at=SIX, days=DayRule(calendar="office")),), calendars=OFFICE),
            "25 06:00 does not run: no day of office",
            id="left out by a calendar on a working day",
        ),
        pytest.param(
            a_spec(when=(At(at=SIX, days=DayRule(business="last", calendar="office")),), calendars=OFFICE),
            None,
            id="not its day of the month",
        ),
        pytest.param(
            a_spec(
                when=(At(at=SIX),), calendars=FREEZE, blackout=Blackout(during=("freeze",), then="skip"), kind="long"
            ),
            "25 06:00 long, is skipped: blackout (freeze: 2026-12-25)",
            id="in a blackout",
        ),
        pytest.param(a_spec(when=(Every(every=dt.timedelta(hours=1)),)), None, id="often"),
        pytest.param(a_spec(when=(Every(every=dt.timedelta(hours=1)),), kind="long"), None, id="long, but often"),
        pytest.param(
            a_spec(when=(Every(every=dt.timedelta(hours=8)),), kind="long"), "24 16:00 long", id="three times a day"
        ),
    ],
)
def test_what_is_not_as_on_other_days_is_told(spec: ScheduleSpec, words: str | None) -> None:
    assert told(spec) == words


def test_a_weekend_that_a_calendar_leaves_out_is_not_told() -> None:
    spec = a_spec(when=(At(at=SIX, days=DayRule(calendar="office")),), calendars=OFFICE)

    assert told(spec, THURSDAY + dt.timedelta(days=1)) is None


def test_the_first_run_ever_is_told() -> None:
    assert told(a_spec(when=(At(at=SIX),)), has_run=False) == "25 06:00 its first run"


def test_what_a_clock_change_moves_is_told() -> None:
    spec = a_spec(when=(Cron(cron="30 2 * * *"),), timezone="Europe/Berlin")

    words = told(spec, dt.datetime(2027, 3, 27, 8, tzinfo=dt.UTC))

    assert words == "28 01:00 clocks go forward: 02:30 does not exist, runs at 03:00"
