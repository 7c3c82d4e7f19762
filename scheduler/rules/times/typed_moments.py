"""Moments as people type them, on a page or a command line: local time of a zone, with an offset, or so long from now.

Pure: the caller brings the moment that is now.
"""

from __future__ import annotations

import datetime as dt
import re
from zoneinfo import ZoneInfo

from scheduler.errors import WrongUsage
from scheduler.rules.complaints import Complaint
from scheduler.rules.times.durations import parse_duration
from scheduler.rules.times.moments import parse_moment, parse_time
from scheduler.rules.times.zones import first_moment

_OFFSET = re.compile(r"(?:Z|[+-][0-9]{2}:?[0-9]{2})\Z")
_NAMED_DAY = re.compile(r"(?:(yesterday|today|tomorrow)\b)? *([0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)?\Z")
_DAYS_ON = {"yesterday": -1, "today": 0, "tomorrow": 1}
_UTC = ("UTC", "Etc/UTC")
_BEYOND = (dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC))


def typed_moment(text: str, zone: ZoneInfo, now: dt.datetime) -> dt.datetime:
    """The moment, UTC, of `2026-12-01 06:30`, of a day alone, of `06:30` (today), `yesterday 06:30` or `tomorrow`, all
    local time of `zone`; or of `2026-12-01T06:30Z`, `in 2h`, `2h ago`. Raises WrongUsage.

    >>> typed_moment("2026-12-01 06:30", ZoneInfo("Europe/Berlin"), _BEYOND[0]).isoformat()
    '2026-12-01T05:30:00+00:00'
    """
    words = text.strip()
    try:
        moment = _moment(words, zone, now)
    except (ValueError, OverflowError):
        moment = _BEYOND[1]
    if not _BEYOND[0] <= moment < _BEYOND[1]:
        raise WrongUsage(
            f'"{words[:60]}" is no moment; give one such as 2026-12-01 06:30 or "yesterday 06:30" '
            f'({"UTC" if zone.key in _UTC else f"local time of {zone.key}"}), 2026-12-01T06:30Z, "in 2h" or "2h ago"'
        )
    return moment


def _moment(words: str, zone: ZoneInfo, now: dt.datetime) -> dt.datetime:
    if words.startswith("in "):
        return now + parse_duration(words[3:])
    if words.endswith(" ago"):
        return now - parse_duration(words[:-4])
    if _OFFSET.search(words) and len(words) > 10:  # more than a day, whose last part looks like one
        return dt.datetime.fromisoformat(words).astimezone(dt.UTC)
    try:
        return first_moment(_of_named_day(words, zone, now) or parse_moment(words), zone)
    except Complaint as error:
        raise ValueError(str(error)) from error


def _of_named_day(words: str, zone: ZoneInfo, now: dt.datetime) -> dt.datetime | None:
    """A naive local moment of `yesterday 06:30`, `tomorrow` (its midnight) or `06:30`, which is today's; None for what
    is written otherwise."""
    found = _NAMED_DAY.match(words)
    if found is None or not any(found.groups()):
        return None
    day = now.astimezone(zone).date() + dt.timedelta(days=_DAYS_ON[found[1] or "today"])
    return dt.datetime.combine(day, parse_time(found[2]) if found[2] else dt.time())
