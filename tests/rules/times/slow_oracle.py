"""Fire times found the slow way, to hold the triggers against: minute by minute of UTC, looking at the local clock.

Shares nothing with scheduler.rules but the spec's values. The walk is Debian's cron with an eye that never closes: it
sees which local minutes have come up for the first time since it last looked. An entry without a star fires when any of
those is its own (several when a gap skips some, none while a fold repeats old ones); an entry with a star fires
whenever the local minute at hand is its own. Only whole minutes, only dates since 1980 (older offsets
have odd seconds).
"""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

from scheduler.rules.spec import At, Calendar, Cron, DayRule, Every, Once, When

MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
RUN_UP = 26 * 60 * MINUTE  # walked before the span, to know what local clocks have shown; the longest day has 25 hours
WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def slow_fire_times(
    entries: tuple[When, ...], zone: str, calendars: Mapping[str, Calendar], after: dt.datetime, until: dt.datetime
) -> list[dt.datetime]:
    """All fire times of the union after `after`, up to and including `until`; `after` is a whole minute."""
    found: set[dt.datetime] = set()
    for entry in entries:
        found.update(_walk(entry, ZoneInfo(zone), calendars, after, until))
    return sorted(found)


@cache
def clock_changes(zone: str, year: int) -> tuple[dt.datetime, ...]:
    """The moments, to the minute, at which the zone changes its clocks in that year."""
    info, found = ZoneInfo(zone), []
    moment = dt.datetime(year, 1, 1, tzinfo=dt.UTC)
    while moment.year == year:
        if moment.astimezone(info).utcoffset() != (moment + 60 * MINUTE).astimezone(info).utcoffset():
            minute = moment
            while minute.astimezone(info).utcoffset() == moment.astimezone(info).utcoffset():
                minute += MINUTE
            found.append(minute)
        moment += 60 * MINUTE
    return tuple(found)


def _walk(
    entry: When, zone: ZoneInfo, calendars: Mapping[str, Calendar], after: dt.datetime, until: dt.datetime
) -> Iterator[dt.datetime]:
    moment = after - RUN_UP
    seen = moment.astimezone(zone).replace(tzinfo=None, fold=0)  # the latest local minute shown so far
    day_began: dt.datetime | None = None  # the moment at which the local day did; None until the walk has met one
    while moment < until:
        moment += MINUTE
        local = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        fresh = []
        while seen < local:
            seen += MINUTE
            fresh.append(seen)
        midnights = [minute.date() for minute in fresh if minute.time() == dt.time()]
        if midnights:
            day_began = moment
        if moment <= after:
            continue
        if isinstance(entry, Every):
            if day_began is None:
                raise AssertionError("the run-up held no midnight")
            fires = _on_grid(entry, zone, moment, day_began, midnights) and _is_allowed(entry, calendars, local)
        elif isinstance(entry, Cron) and (entry.cron.startswith("*") or entry.cron.split()[1].startswith("*")):
            fires = _is_named(entry, calendars, local)
        else:
            fires = any(_is_named(entry, calendars, minute) for minute in fresh)
        if fires:
            yield moment


def _on_grid(
    entry: Every, zone: ZoneInfo, moment: dt.datetime, day_began: dt.datetime, midnights: list[dt.date]
) -> bool:
    if entry.every < DAY:
        return (moment - day_began) % entry.every == dt.timedelta(0)
    if entry.every % DAY == dt.timedelta(0):
        return any(midnight.toordinal() % entry.every.days == _EPOCH % entry.every.days for midnight in midnights)
    return (moment - dt.datetime(1970, 1, 1, tzinfo=zone).astimezone(dt.UTC)) % entry.every == dt.timedelta(0)


_EPOCH = dt.date(1970, 1, 1).toordinal()


def _is_allowed(entry: Every, calendars: Mapping[str, Calendar], local: dt.datetime) -> bool:
    day = local.date()
    if entry.between is not None:
        first, last = entry.between
        window = {"in the day": first <= local.time() <= last}
        if first > last:
            window = {"evening": local.time() >= first, "morning": local.time() <= last}
        if not any(window.values()):
            return False
        if window.get("morning"):
            day -= DAY
    return _day_matches(entry.days, calendars, day)


def _is_named(entry: At | Cron | Once, calendars: Mapping[str, Calendar], minute: dt.datetime) -> bool:
    if isinstance(entry, Once):
        return minute == entry.once
    if isinstance(entry, At):
        return minute.time() in entry.at and _day_matches(entry.days, calendars, minute.date())
    return _cron_matches(entry, minute) and _day_matches(entry.days, calendars, minute.date())


# --- days -----------------------------------------------------------------------------------------------------------


def _day_matches(rule: DayRule, calendars: Mapping[str, Calendar], day: dt.date) -> bool:
    month = _month_of(day)
    allowed = set(month)
    if rule.weekdays:
        allowed &= {one for one in month if WEEK[one.weekday()] in rule.weekdays}
    if rule.month_days:
        allowed &= {one for one in month if one.day in rule.month_days or (-1 in rule.month_days and one == month[-1])}
    if rule.nth_weekdays:
        chosen = set()
        for nth, weekday in rule.nth_weekdays:
            same = [one for one in month if WEEK[one.weekday()] == weekday]
            chosen |= set(same[nth - 1 : nth] if nth > 0 else same[nth : nth + 1 or None])
        allowed &= chosen
    if rule.calendar:
        allowed &= {one for one in month if _calendar_has(rule.calendar, calendars, one)}
    if rule.business:
        working = [one for one in month if not rule.calendar or _calendar_has(rule.calendar, calendars, one)]
        if not rule.calendar:
            working = [one for one in month if one.isoweekday() <= 5]
        allowed &= set(working[:1] if rule.business == "first" else working[-1:])
    return day in allowed


def _calendar_has(name: str, calendars: Mapping[str, Calendar], day: dt.date) -> bool:
    one = calendars[name]
    spans = any(span.first <= day <= span.last for span in one.spans)
    has = day in one.dates or spans or WEEK[day.weekday()] in one.weekdays
    return has and not any(_calendar_has(other, calendars, day) for other in one.without)


@lru_cache(maxsize=64)
def _month_of(day: dt.date) -> list[dt.date]:
    return [day.replace(day=number) for number in range(1, calendar.monthrange(day.year, day.month)[1] + 1)]


# --- crontab lines --------------------------------------------------------------------------------------------------


def _cron_matches(entry: Cron, minute: dt.datetime) -> bool:
    minutes, hours, month_days, months, weekdays = entry.cron.lower().split()
    if minute.minute not in _numbers(minutes, 0, 59) or minute.hour not in _numbers(hours, 0, 23):
        return False
    if minute.month not in _numbers(months, 1, 12, MONTHS):
        return False
    in_month = _month_day_matches(month_days, minute.date())
    in_week = _weekday_matches(weekdays, minute.date())
    if month_days == "*" or weekdays == "*" or entry.match_days == "all":
        return in_month and in_week
    if entry.match_days is None and (month_days.startswith("*") or weekdays.startswith("*")):
        return in_month and in_week
    return in_month or in_week


@cache
def _numbers(field: str, low: int, high: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    found: set[int] = set()
    for term in field.split(","):
        body, _, step = term.partition("/")
        if body == "*":
            first, last = low, high
        elif "-" in body:
            first, last = (_number(end, low, names) for end in body.split("-"))
        else:
            first = _number(body, low, names)
            last = high if step and body.isdigit() else first
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, low: int, names: tuple[str, ...]) -> int:
    return names.index(text) + low if text in names else int(text)


def _month_day_matches(field: str, day: dt.date) -> bool:
    month = _month_of(day)
    for term in field.split(","):
        if term == "l":
            if day == month[-1]:
                return True
        elif term == "lw":
            if day == [one for one in month if one.isoweekday() <= 5][-1]:
                return True
        elif day.day in _numbers(term, 1, 31):
            return True
    return False


def _weekday_matches(field: str, day: dt.date) -> bool:
    same = [one for one in _month_of(day) if one.weekday() == day.weekday()]
    sunday_first = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
    numbers = {day.isoweekday(), day.isoweekday() % 7}  # Sunday is 7 and 0
    for term in field.split(","):
        name, _, nth = term.partition("#")
        if nth:
            if same[int(nth) - 1 : int(nth)] == [day] and numbers & _numbers(name, 0, 7, sunday_first):
                return True
        elif term.endswith("l"):
            if same[-1] == day and int(term[:-1]) in numbers:
                return True
        elif numbers & _numbers(term, 0, 7, sunday_first):
            return True
    return False
