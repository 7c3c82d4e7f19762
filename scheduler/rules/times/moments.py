"""Local times of day, days and moments as the file writes them, and the names of time zones.

None carries an offset: each is local time in the zone of its schedule.
"""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from functools import cache, lru_cache

from scheduler.rules.complaints import Complaint, did_you_mean, nearest, shown

_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\Z")
_MOMENT = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[ T]([0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?))?\Z")
_OFFSET = re.compile(r"(?:Z|[+-][0-9]{2}:?[0-9]{2})\Z")
_YEARS = range(1970, 2200)

# Names that the zone files hold and that would mean «whatever this host is set to», or nothing at all.
_NO_ZONES = frozenset({"localtime", "Factory", "posixrules"})


def parse_time(text: object) -> dt.time:
    """A time of day from `06:30` or `06:30:15`. Raises Complaint."""
    found = _TIME.match(text) if isinstance(text, str) else None
    if found is None:
        raise _complaint(f"{shown(text)} is not a time of day", 'Write "HH:MM" or "HH:MM:SS", such as "06:30".')
    hour, minute, second = (int(part or 0) for part in found.groups())
    if hour == 24 and not minute and not second:
        raise _complaint(f"{shown(text)} does not exist", 'Midnight is "00:00".')
    for name, value, most in (("hour", hour, 23), ("minute", minute, 59), ("second", second, 59)):
        if value > most:
            raise _complaint(
                f"{shown(text)} is not a time of day: {name} {value} does not exist",
                f"{name.capitalize()}s run from 0 to {most}.",
            )
    return dt.time(hour, minute, second)


def parse_day(text: object) -> dt.date:
    """A day from `2026-12-25`. Raises Complaint."""
    found = _MOMENT.match(text) if isinstance(text, str) else None
    if found is None or found[4]:
        raise _complaint(f"{shown(text)} is not a day", 'Write "YYYY-MM-DD", such as "2026-12-25".')
    return _day(text, found)


def parse_moment(text: object, *, time_needed: bool = False) -> dt.datetime:
    """A naive local moment from `2026-12-05 23:00`; a day alone is its midnight unless `time_needed`.

    Raises Complaint.
    """
    found = _MOMENT.match(text) if isinstance(text, str) else None
    if found is None or (time_needed and not found[4]):
        hint = 'Write "YYYY-MM-DD HH:MM", such as "2026-12-05 23:00".'
        if isinstance(text, str) and _OFFSET.search(text) and len(text) > 10:
            hint = "It is local time in the zone of the schedule: leave the offset away."
        raise _complaint(f"{shown(text)} is not a moment", hint)
    return dt.datetime.combine(_day(text, found), parse_time(found[4]) if found[4] else dt.time())


def parse_zone(text: object) -> str:
    """An IANA name such as `Europe/Berlin`, as it stands in the zone files. Raises Complaint."""
    known = known_zones()
    if isinstance(text, str) and text in known:
        return text
    message = f"there is no time zone {shown(text)}"
    if isinstance(text, str) and text in _NO_ZONES:
        hint = "The host's own zone is never used: write an IANA name, such as Europe/Berlin or UTC."
        raise Complaint(message, hint, code="unknown-zone")
    if isinstance(text, str) and (same := _zones_by_lower_case().get(text.lower())):
        raise Complaint(f'{message}; did you mean "{same}"?', code="unknown-zone")
    # the city is what people remember: «Berlin» is nearest to Europe/Berlin by its last part
    cities = {name.rsplit("/", 1)[-1].lower(): name for name in sorted(known) if "/" in name}
    city = nearest(text.rsplit("/", 1)[-1], cities) if isinstance(text, str) else None
    meant = f'; did you mean "{cities[city]}"?' if city else did_you_mean(str(text), sorted(known))
    raise Complaint(message + meant, "Write an IANA name, such as Europe/Berlin or UTC.", code="unknown-zone")


@cache
def known_zones() -> frozenset[str]:
    """The IANA names that zoneinfo knows here."""
    return frozenset(zoneinfo.available_timezones()) - _NO_ZONES


@lru_cache(maxsize=1024)
def zone_named(name: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(name)


@cache
def _zones_by_lower_case() -> dict[str, str]:
    return {name.lower(): name for name in known_zones()}


def _day(text: object, found: re.Match[str]) -> dt.date:
    year, month, day = (int(found[group]) for group in (1, 2, 3))
    if year not in _YEARS:
        raise _complaint(f"{shown(text)}: year {year} is out of reach", "Years run from 1970 to 2199.")
    try:
        return dt.date(year, month, day)
    except ValueError as error:
        raise _complaint(f"{shown(text)} does not exist", "Look at a calendar: the month has no such day.") from error


def _complaint(message: str, hint: str) -> Complaint:
    return Complaint(message, hint, code="bad-time")
