"""Durations as people write them: `5m`, `1h30m`, `2 days`, `1.5h`, and ISO 8601 such as `PT5M`."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

from scheduler.rules.complaints import Complaint, shown

LONGEST = dt.timedelta(days=3660)  # ten years; whatever is longer is a slip of the keyboard
HOW = "Write a number with a unit, such as 90s, 5m, 1h30m or 2d."

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
}
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,6})?"
_PART = re.compile(rf"({_NUMBER})\s*([A-Za-z]+)\s*")
_ISO = re.compile(
    rf"P(?:(?P<w>{_NUMBER})W|(?:(?P<d>{_NUMBER})D)?(?:T(?:(?P<h>{_NUMBER})H)?(?:(?P<m>{_NUMBER})M)?(?:(?P<s>{_NUMBER})S)?)?)\Z"
)


def parse_duration(text: object, *, zero: bool = False, longest: dt.timedelta = LONGEST) -> dt.timedelta:
    """How long `text` says. Raises Complaint, a ValueError, also for a bare number, and for zero unless it is welcome.

    >>> parse_duration("1h30m")
    datetime.timedelta(seconds=5400)
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise _complaint(f"expected a duration, got {shown(text)}", HOW)
    if not isinstance(text, str) or re.fullmatch(r"[+-]?[0-9.]+", text):
        given = str(text)[:20]
        if given.startswith("-"):
            raise _complaint(f"{given} is negative", "A duration is longer than nothing, such as 5m.")
        raise _complaint(f"{given} has no unit", f"Write {given}s for seconds or {given}m for minutes.")
    seconds = _iso_seconds(text) if text.startswith("P") else _plain_seconds(text)
    if seconds > longest.total_seconds():
        raise _complaint(f"{shown(text)} is too long", f"{format_duration(longest)} is the most.")
    duration = dt.timedelta(microseconds=int(seconds * 1_000_000))
    if not duration and not zero:
        raise _complaint(f"{shown(text)} is no time at all", "A duration is longer than nothing, such as 5m.")
    return duration


def format_duration(duration: dt.timedelta) -> str:
    """The short form, which parse_duration reads back: `5m`, `1h30m`, `1m30s`, `3d`; `0s` for none.

    >>> format_duration(dt.timedelta(seconds=90))
    '1m30s'
    """
    if duration < dt.timedelta(0):
        return "-" + format_duration(-duration)
    hours, rest = divmod(duration.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    counts = ((duration.days, "d"), (hours, "h"), (minutes, "m"))
    short = "".join(f"{count}{unit}" for count, unit in counts if count)
    if duration.microseconds:
        short += f"{seconds}.{duration.microseconds:06d}".rstrip("0") + "s"
    elif seconds or not short:
        short += f"{seconds}s"
    return short


def _plain_seconds(text: str) -> Decimal:
    total, place, left = Decimal(0), 0, None
    stripped = text.strip()
    if stripped.startswith("-"):
        raise _complaint(f"{shown(text)} is negative", "A duration is longer than nothing, such as 5m.")
    while place < len(stripped):
        part = _PART.match(stripped, place)
        if part is None:
            raise _complaint(f"{shown(text)} is not a duration", _hint_for(stripped))
        number, word = part.groups()
        unit = _UNITS.get(word)
        if unit is None:
            raise _complaint(f"{shown(text)} is not a duration", _hint_for_unit(number, word))
        if left is not None and _SECONDS[unit] >= left:
            raise _complaint(f"{shown(text)} is not a duration", "Give each unit once, the longest first: 1d2h30m.")
        left = _SECONDS[unit]
        total += Decimal(number) * left
        place = part.end()
    if left is None:
        raise _complaint(f"{shown(text)} is not a duration", HOW)
    return total


def _iso_seconds(text: str) -> Decimal:
    found = _ISO.match(text)
    counts = {unit: number for unit, number in found.groupdict().items() if number} if found else {}
    if not counts or text.endswith("T"):
        raise _complaint(
            f"{shown(text)} is not a duration", "ISO 8601 goes PT5M, P1DT2H or P2W; months and years have no length."
        )
    return sum((Decimal(number) * _SECONDS[unit] for unit, number in counts.items()), Decimal(0))


def _hint_for(text: str) -> str:
    if ":" in text:
        return "That is a time of day; a duration goes 1h30m."
    if re.fullmatch(r"[0-9]+,[0-9]+\s*[a-z]+", text):
        return f"Write a point, not a comma: {text.replace(',', '.')}."
    return HOW


def _hint_for_unit(number: str, word: str) -> str:
    if word.lower() in {"mo", "month", "months", "y", "year", "years"}:
        return "Months and years have no fixed length; give days, such as 30d."
    if word.lower() in _UNITS:
        return f"Units are lower case: {number}{_UNITS[word.lower()]}."
    if word in {"ms", "us", "ns"}:
        return "The shortest unit is a second: 0.5s."
    return f'There is no unit "{word[:20]}"; there are s, m, h, d and w.'


def _complaint(message: str, hint: str) -> Complaint:
    return Complaint(message, hint, code="bad-duration")
