"""The words of `days:`: `mon-fri`, `weekends`, `15`, `last`, `first-mon`, `last-business`."""

from __future__ import annotations

import re
from functools import lru_cache

from scheduler.rules.complaints import Complaint, did_you_mean, in_words, shown
from scheduler.rules.spec import WEEKDAYS, DayRule, Weekday

_FULL: dict[str, Weekday] = {
    **{day: day for day in WEEKDAYS},
    **dict(zip(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"), WEEKDAYS, strict=True)),
}
_GROUPS: dict[str, tuple[Weekday, ...]] = {"weekdays": WEEKDAYS[:5], "weekends": WEEKDAYS[5:], "weekend": WEEKDAYS[5:]}
_EVERY_DAY = frozenset({"daily", "every-day", "all"})
_NTH = {
    **{word: n for n, word in enumerate(("first", "second", "third", "fourth", "fifth"), 1)},
    **{word: n for n, word in enumerate(("1st", "2nd", "3rd", "4th", "5th"), 1)},
    "last": -1,
}
_WORDS = (*_FULL, *_GROUPS, *_EVERY_DAY, "last", "first-business", "last-business")
HOW = "Write weekdays (mon-fri, sat), days of the month (1, 15, last), first-mon, last-fri or last-business."


def parse_days(value: object) -> DayRule:
    """Which days `value` names: a word, a number, several with commas, or a list of these. Raises Complaint."""
    words = value if isinstance(value, list | tuple) else [value]
    for word in words:
        if isinstance(word, bool) or not isinstance(word, str | int):
            raise _complaint(f"{shown(word)} is not a day", HOW)
    return _rule(tuple(str(word) for word in words))


@lru_cache(maxsize=2048)
def _rule(words: tuple[str, ...]) -> DayRule:
    weekdays: set[Weekday] = set()
    month_days: set[int] = set()
    nth: set[tuple[int, Weekday]] = set()
    business: set[str] = set()
    daily = False
    terms = [term.strip() for word in words for term in word.split(",")]
    for term in terms:
        low = term.lower()
        if low in _EVERY_DAY:
            daily = True
        elif low in ("first-business", "last-business"):
            business.add(low.removesuffix("-business"))
        elif low == "last":
            month_days.add(-1)
        elif re.fullmatch(r"-?[0-9]{1,9}(-[0-9]{1,9})?", low):
            month_days.update(_month_days(low))
        elif "-" in low and low.split("-", 1)[0] in _NTH:
            count, _, day = low.partition("-")
            nth.add((_NTH[count], _weekday(day, term)))
        else:
            weekdays.update(_weekdays(low, term))
    named = [bool(weekdays), bool(month_days), bool(nth), bool(business), daily]
    if sum(named) > 1:
        raise _complaint(
            f"{shown(', '.join(words))} mixes kinds of days",
            'It is not clear whether one or all must hold; make it two entries under "when".',
        )
    if len(business) > 1:
        raise _complaint('"first-business" and "last-business" together', 'Make it two entries under "when".')
    order = WEEKDAYS.index
    return DayRule(
        weekdays=tuple(sorted(weekdays, key=order)),
        month_days=tuple(sorted(month_days, key=lambda day: (day < 0, day))),
        nth_weekdays=tuple(sorted(nth, key=lambda pair: (pair[0] < 0, pair[0], order(pair[1])))),
        business=("first" if "first" in business else "last") if business else None,
    )


def parse_weekdays(value: object) -> tuple[Weekday, ...]:
    """Weekdays alone, in order; `daily` is all seven. Raises Complaint."""
    rule = parse_days(value)
    if rule.month_days or rule.nth_weekdays or rule.business:
        raise _complaint(f"{shown(value)} is more than weekdays", "Only weekdays can stand here, such as mon-fri.")
    return rule.weekdays or WEEKDAYS


def _month_days(term: str) -> range:
    if term.startswith("-"):
        raise _complaint(f"day {term} does not exist", 'For the last day of the month write "last".')
    first, _, last = term.partition("-")
    days = range(int(first), int(last or first) + 1)
    for day in (int(first), int(last or first)):
        if not 1 <= day <= 31:
            raise _complaint(f"day {day} does not exist", "Days of the month run from 1 to 31.")
    if not days:
        raise _complaint(f'"{term}" runs backwards', f"Write {last}-{first}.")
    return days


def _weekdays(low: str, term: str) -> tuple[Weekday, ...]:
    if low in _GROUPS:
        return _GROUPS[low]
    first, dash, last = low.partition("-")
    if not dash:
        return (_weekday(low, term),)
    start, end = (WEEKDAYS.index(_weekday(word.strip(), term)) for word in (first, last))
    count = (end - start) % 7 + 1  # fri-mon goes over the weekend
    return tuple(WEEKDAYS[(start + step) % 7] for step in range(count))


def _weekday(word: str, term: str) -> Weekday:
    day = _FULL.get(word)
    if day is None:
        meant = did_you_mean(word, WEEKDAYS if len(word) <= 4 else _WORDS)
        raise _complaint(f"{shown(term)} is not a day{meant}", f"Weekdays are {in_words(WEEKDAYS)}." if meant else HOW)
    return day


def _complaint(message: str, hint: str) -> Complaint:
    return Complaint(message, hint, code="bad-days")
