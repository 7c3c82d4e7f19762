"""A crontab line, taken apart to say what is wrong with it: field, range and value.

cronsim has the last word on what a line means; it says no more than «Bad minute», hence the messages of our own.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from functools import lru_cache

from cronsim import CronSim, CronSimError

from scheduler.rules.complaints import Complaint, in_words, shown

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LONGEST_MONTH = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SOME_DAY = dt.datetime(2026, 1, 1)  # cronsim wants one to start from; parsing does not depend on it
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
FIVE = "Five fields: minute, hour, day of the month, month, weekday."


@dataclass(frozen=True)
class _Field:
    name: str
    plural: str
    low: int
    high: int
    turn: int  # after how many the count begins anew; a step that does not divide it limps
    words: tuple[str, ...] = ()  # names for low, low + 1, …


_FIELDS = (
    _Field("minute", "Minutes", 0, 59, 60),
    _Field("hour", "Hours", 0, 23, 24),
    _Field("day of the month", "Days of the month", 1, 31, 31),
    _Field("month", "Months", 1, 12, 12, tuple("jan feb mar apr may jun jul aug sep oct nov dec".split())),
    _Field("weekday", "Weekdays", 0, 7, 7, tuple("sun mon tue wed thu fri sat".split())),
)


@dataclass(frozen=True)
class CronLine:
    """A line that was understood."""

    text: str  # five fields, single spaces
    both_days: bool  # neither day field begins with a star
    never_together: bool  # no day of the months given bears the day of the month
    notes: tuple[str, ...] = ()  # what may surprise


@lru_cache(maxsize=4096)
def read_cron(text: str) -> CronLine:
    """What a crontab line says; @daily and friends spelled out. Raises Complaint."""
    line = NICKNAMES.get(text.strip().lower(), text)
    if line.startswith("@"):
        raise _nickname(line)
    fields = line.split()
    if len(fields) != 5:
        raise Complaint(
            f"cron {shown(text)} has {_count(fields)}", _hint_for_count(fields), code="bad-cron", plain=True
        )
    notes: list[str] = []
    values = [_read_field(field, given, fields, notes) for field, given in zip(_FIELDS, fields, strict=True)]
    both = not fields[2].startswith("*") and not fields[4].startswith("*")
    days, months = values[2], values[3]
    never = bool(days) and min(days) > max(_LONGEST_MONTH[month] for month in months)
    if never and not both:
        raise never_fires(fields)
    spelled = " ".join(fields)
    try:
        CronSim(spelled, _SOME_DAY)
    except CronSimError as error:
        raise Complaint(f"cron {shown(text)} cannot be read", FIVE, code="bad-cron", plain=True) from error
    return CronLine(spelled, both, never, tuple(notes))


def never_fires(fields: list[str], at: str = "") -> Complaint:
    """That a line names a day that none of its months has."""
    return Complaint(
        f"cron {shown(' '.join(fields))} never fires: month {fields[3]} has no day {fields[2]}",
        "For the last day of each month use {at: …, days: last}.",
        code="never-fires",
        plain=True,
        at=at,
    )


def _read_field(field: _Field, given: str, fields: list[str], notes: list[str]) -> set[int]:
    """The values of a field; empty when it holds what cannot be counted, such as L."""
    values: set[int] = set()
    for term in given.split(","):
        base, slash, step_text = term.partition("/")
        step = _step(field, term, step_text) if slash else 1
        if base == "*":
            found = range(field.low, field.high + (field.name != "weekday"))
            if field.turn % step:
                notes.append(_limping(field, given, found[::step]))
        elif _is_special(field, base):
            continue
        elif "-" in base:
            found = _range(field, base)
        else:
            number = _number(field, base, fields)
            if slash:
                raise _bad(
                    f'{field.name} "{term}" has a step without a range', f"Write {base}-{field.high}/{step_text}."
                )
            found = range(number, number + 1)
        values.update(found[::step])
    return values


def _step(field: _Field, term: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) == 0:
        raise _bad(
            f"{field.name} {shown(term)} has no step after the slash", "A step is a number from 1 on, as in */15."
        )
    return int(text)


def _range(field: _Field, base: str) -> range:
    first_text, _, last_text = base.partition("-")
    first, last = _number(field, first_text, None), _number(field, last_text, None)
    if last < first:
        end = min(field.high, 6) if field.name == "weekday" else field.high
        raise _bad(
            f'{field.name} "{base}" runs backwards',
            f"Write {first}-{end},{field.low}-{last}." if last > field.low else f"Write {first}-{end},{field.low}.",
        )
    return range(first, last + 1)


def _number(field: _Field, text: str, fields: list[str] | None) -> int:
    if text.lower() in field.words:
        return field.low + field.words.index(text.lower())
    if not re.fullmatch("[0-9]{1,9}", text):
        raise _bad(f"{field.name} {shown(text)} cannot be read", _hint_for_value(field, text))
    number = int(text)
    if not field.low <= number <= field.high:
        raise _bad(f"{field.name} {number} does not exist", _hint_for_number(field, number, fields))
    return number


def _hint_for_number(field: _Field, number: int, fields: list[str] | None) -> str:
    """The range; for a minute past the hour also the line that is likely meant."""
    hint = f"{field.plural} run from {field.low} to {field.high}"
    simple = fields is not None and fields[1].isdigit() and int(fields[1]) < 24 and fields[2:] == ["*", "*", "*"]
    if fields is None or not simple or field.name != "minute" or number > 60 + 59:
        return f"{hint}."
    past, hour = number - 60, int(fields[1])
    words = dict(enumerate(_NUMBERS))
    told = f"{words.get(past, past)} past {words.get(hour, hour)} every {'night' if hour < 6 else 'day'}"
    return f'{hint}; for {told} write "{past} {hour} * * *".'


def _is_special(field: _Field, base: str) -> bool:
    """Whether it is one of cronsim's words beyond numbers: L and LW for days, 5L and mon#2 for weekdays."""
    if field.name == "day of the month":
        return base.upper() in ("L", "LW")
    days = "[0-7]|" + "|".join(field.words)
    return field.name == "weekday" and re.fullmatch(rf"([0-7])L|({days})#[1-5]", base, re.IGNORECASE) is not None


def _limping(field: _Field, given: str, values: range) -> str:
    listed = [str(value) for value in values]
    told = in_words(listed, "and") if len(listed) <= 6 else f"{', '.join(listed[:3])} … {listed[-1]}"
    unit = {"day of the month": "month", "month": "year", "weekday": "week", "minute": "hour", "hour": "day"}[
        field.name
    ]
    return f"{field.name} {given} does not divide the {unit}: it means {told}, and begins anew each {unit}"


def _hint_for_value(field: _Field, text: str) -> str:
    if text == "?":
        return 'Write "*".'
    if text.upper() == "H":
        return 'Write a number, and use "spread" to share the load.'
    if field.words:
        short = text[:3].lower()
        names = f"{field.plural} run from {field.low} to {field.high}, or are {', '.join(field.words)}"
        return f"Write {short}." if short in field.words else names + "."
    return f"{field.plural} run from {field.low} to {field.high}."


def _hint_for_count(fields: list[str]) -> str:
    if len(fields) == 6:
        return f"{FIVE} There are no seconds."
    return FIVE


def _count(fields: list[str]) -> str:
    return "one field" if len(fields) == 1 else f"{len(fields)} fields" if fields else "no fields"


def _nickname(line: str) -> Complaint:
    known = in_words(NICKNAMES)
    if line.lower() == "@reboot":
        return _bad(
            '"@reboot" cannot be used', "A restart of the service is no event in time: nothing may fire because of it."
        )
    return _bad(f"there is no {shown(line)}", f"There are {known}.")


def _bad(message: str, hint: str) -> Complaint:
    return Complaint(message, hint, code="bad-cron", plain=True)
