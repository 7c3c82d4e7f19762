"""Which local days count, and when no start is allowed.

A calendar is a set of local days plus windows of local time (spec.Calendar); a blackout forbids starts while a window,
or a whole day, of its calendars is on. Holidays of a country come from the holidays package, loaded when first needed.
"""

from __future__ import annotations

import calendar as months
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo

from scheduler.rules.spec import WEEKDAYS, Blackout, Calendar, DayRule
from scheduler.rules.times.zones import DAY, first_moment, last_moment

# A blackout longer than this is taken to have no end: a start that far away helps nobody, and the search must stop.
LONGEST_BLACKOUT = 2 * 366 * DAY

MIDNIGHT = dt.time()


@dataclass(frozen=True)
class Blackedout:
    """Why nothing may start at a moment, and from when on it may again."""

    end: dt.datetime  # aware, UTC; the first moment outside all windows that touch each other
    why: str
    calendar: str
    endless: bool = False  # longer than LONGEST_BLACKOUT; `end` then is where the search stopped


# --- days -----------------------------------------------------------------------------------------------------------


def day_is_in(calendar_name: str, calendars: Mapping[str, Calendar], day: dt.date) -> bool:
    """Whether the calendar has that local day. Raises KeyError for a calendar that is not among `calendars`."""
    calendar = calendars[calendar_name]
    return _has_day(calendar, day) and not any(day_is_in(name, calendars, day) for name in calendar.without)


def matches_day(rule: DayRule, calendars: Mapping[str, Calendar], day: dt.date) -> bool:
    """Whether all the rule's conditions hold for that local day.

    `business: last` is the last day of the month that is in the rule's calendar; without one, the last of Monday to
    Friday.
    """
    if rule.weekdays and WEEKDAYS[day.weekday()] not in rule.weekdays:
        return False
    if rule.month_days and not (day.day in rule.month_days or day.day - _month_length(day) - 1 in rule.month_days):
        return False
    if rule.nth_weekdays and not _is_nth_weekday(rule, day):
        return False
    if rule.business is not None:
        return _is_outermost(rule, calendars, day)
    return rule.calendar is None or day_is_in(rule.calendar, calendars, day)


def _has_day(calendar: Calendar, day: dt.date) -> bool:
    return (
        day in calendar.dates
        or (bool(calendar.weekdays) and WEEKDAYS[day.weekday()] in calendar.weekdays)
        or any(span.first <= day <= span.last for span in calendar.spans)
        or (calendar.country is not None and day in holidays_of(calendar.country, calendar.subdivision, day.year))
    )


def _is_nth_weekday(rule: DayRule, day: dt.date) -> bool:
    weekday = WEEKDAYS[day.weekday()]
    from_start = (day.day + 6) // 7
    from_end = -((_month_length(day) - day.day) // 7 + 1)
    return (from_start, weekday) in rule.nth_weekdays or (from_end, weekday) in rule.nth_weekdays


def _is_outermost(rule: DayRule, calendars: Mapping[str, Calendar], day: dt.date) -> bool:
    def counts(candidate: dt.date) -> bool:
        if rule.calendar is None:
            return candidate.weekday() < 5
        return day_is_in(rule.calendar, calendars, candidate)

    if not counts(day):
        return False
    beyond = range(1, day.day) if rule.business == "first" else range(day.day + 1, _month_length(day) + 1)
    return not any(counts(day.replace(day=number)) for number in beyond)


def _month_length(day: dt.date) -> int:
    return months.monthrange(day.year, day.month)[1]


@lru_cache(maxsize=4096)
def holidays_of(country: str, subdivision: str | None, year: int) -> Mapping[dt.date, str]:
    """The public holidays of a country (ISO 3166 code) in that year, with their English names where there are such.

    Raises what the holidays package raises for a country or subdivision that it does not know, NotImplementedError:
    nothing of ours is unfinished here; who reads a file asks first (file/countries.py).
    """
    import holidays  # here, because it costs a tenth of a second and most files name no country

    found = holidays.country_holidays(country, subdiv=subdivision, years=year, language="en_US")
    return dict(found.items())


# --- blackouts ------------------------------------------------------------------------------------------------------


def blackout_at(
    blackout: Blackout, calendars: Mapping[str, Calendar], zone: str | ZoneInfo, moment: dt.datetime
) -> Blackedout | None:
    """What forbids a start at `moment`; None when nothing does. `zone` is the schedule's.

    Windows that touch or overlap count as one, so that `end` lies outside all of them. In a repeated hour a window
    starts with the first coming of its start and ends with the last coming of its end.
    """
    zone = ZoneInfo(zone) if isinstance(zone, str) else zone
    window = _longest_at(blackout, calendars, zone, moment)
    if window is None:
        return None
    end, why, name = window
    end, endless = _end_of_chain(blackout, tuple(calendars.items()), zone, end)
    return Blackedout(end=end, why=why, calendar=name, endless=endless)


def blackout_windows(
    blackout: Blackout, calendars: Mapping[str, Calendar], zone: str | ZoneInfo, start: dt.datetime, end: dt.datetime
) -> list[tuple[dt.datetime, dt.datetime, str]]:
    """Start, end and reason of each window that reaches into the span, cut to it, in order; for about a day."""
    zone = ZoneInfo(zone) if isinstance(zone, str) else zone
    found = {
        (max(begins, start), min(ends, end), why)
        for name in blackout.during
        for begins, ends, why in _windows_near(name, calendars, zone, start + (end - start) / 2)
        if begins < end and ends > start
    }
    return sorted(found)


@lru_cache(maxsize=4096)  # the fire times of one day mostly ask for the same
def _end_of_chain(
    blackout: Blackout, calendars: tuple[tuple[str, Calendar], ...], zone: ZoneInfo, end: dt.datetime
) -> tuple[dt.datetime, bool]:
    """Where the last of the windows ends that follow on `end` without a hole, and whether the search stopped there."""
    by_name, stop = dict(calendars), end + LONGEST_BLACKOUT
    while (following := _longest_at(blackout, by_name, zone, end)) is not None:
        end = following[0]
        if end > stop:
            return end, True
    return end, False


def _longest_at(
    blackout: Blackout, calendars: Mapping[str, Calendar], zone: ZoneInfo, moment: dt.datetime
) -> tuple[dt.datetime, str, str] | None:
    """End, reason and calendar of the window at `moment` that ends last."""
    holding = [
        (end, why, name)
        for name in blackout.during
        for start, end, why in _windows_near(name, calendars, zone, moment)
        if start <= moment < end
    ]
    return max(holding, key=lambda window: window[0], default=None)


def _windows_near(
    name: str, calendars: Mapping[str, Calendar], zone: ZoneInfo, moment: dt.datetime
) -> Iterator[tuple[dt.datetime, dt.datetime, str]]:
    """Start, end (UTC, not included) and reason of every window of a calendar that could hold `moment`."""
    calendar = calendars[name]
    for window in calendar.windows:
        yield first_moment(window.start, zone), last_moment(window.end, zone), window.why or name
    today = moment.astimezone(zone).date()
    # Yesterday's window may pass midnight; tomorrow has begun already where midnight is repeated.
    for day in (today - DAY, today, today + DAY):
        midnight = dt.datetime.combine(day, MIDNIGHT)
        for weekly in calendar.weekly:
            if WEEKDAYS[day.weekday()] in weekly.weekdays:
                last_day = day if weekly.start < weekly.end else day + DAY
                start = first_moment(dt.datetime.combine(day, weekly.start), zone)
                yield start, last_moment(dt.datetime.combine(last_day, weekly.end), zone), weekly.why or name
        if day_is_in(name, calendars, day):
            yield first_moment(midnight, zone), last_moment(midnight + DAY, zone), _why_day(calendar, day)


def _why_day(calendar: Calendar, day: dt.date) -> str:
    if calendar.country is not None:
        holiday = holidays_of(calendar.country, calendar.subdivision, day.year).get(day)
        if holiday:
            return f"{calendar.name}: {holiday}"
    return f"{calendar.name}: {day.isoformat()}"
