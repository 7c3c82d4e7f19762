"""A schedule's `when`, and durations, in words for people.

Crontab lines are worded by cron-descriptor, loaded when first needed; how its two day fields combine is ours to say,
since it does not know `match_days`, nor that a leading star means «and».
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from scheduler.rules.spec import WEEKDAYS, At, Cron, DayRule, Every, Once, ScheduleSpec, Weekday, When
from scheduler.rules.times.crontab import Crontab, crontab_of

if TYPE_CHECKING:
    from cron_descriptor import ExpressionDescriptor

_NAMES = dict(
    zip(WEEKDAYS, ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"), strict=True)
)
_NTH = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", -1: "last"}
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def in_words(spec: ScheduleSpec, *, with_zone: bool = False) -> str:
    """When the schedule fires, such as «every 15 minutes from 07:00 to 19:00, Monday to Saturday»."""
    words = "; ".join(entry_in_words(entry) for entry in spec.when)
    return f"{words} ({spec.timezone})" if with_zone else words


def entry_in_words(entry: When) -> str:
    """One entry of `when`."""
    if isinstance(entry, Every):
        return _every(entry)
    if isinstance(entry, At):
        return _at(entry)
    if isinstance(entry, Cron):
        return ", ".join((cron_in_words(entry), *_conditions(entry.days)))
    return _once(entry)


def cron_in_words(cron: Cron) -> str:
    """A crontab line alone, such as «at 22:00, only on Sunday»; the line itself where no words are to be had."""
    return _cron(crontab_of(cron.cron, cron.match_days))


def duration_in_words(duration: dt.timedelta) -> str:
    """Such as «5 minutes», «1 day and 12 hours»; rounded down to seconds."""
    left = abs(duration) // dt.timedelta(seconds=1)
    parts = []
    for unit, seconds in _UNITS:
        number, left = divmod(left, seconds)
        if number:
            parts.append(f"{number} {unit}" + ("" if number == 1 else "s"))
    return _listed(parts) or "0 seconds"


def _every(entry: Every) -> str:
    words = "every " + _period(entry.every)
    if entry.between is not None:
        words += f" from {_clock_face(entry.between[0])} to {_clock_face(entry.between[1])}"
    return ", ".join((words, *_conditions(entry.days)))


def _period(duration: dt.timedelta) -> str:
    """In one unit, as people say it: «minute», «90 minutes», «36 hours»."""
    left = duration // dt.timedelta(seconds=1)
    unit, seconds = next((unit, seconds) for unit, seconds in _UNITS if left % seconds == 0)
    return unit if left == seconds else f"{left // seconds} {unit}s"


def _at(entry: At) -> str:
    first, *more = _conditions(entry.days) or ["every day"]
    if entry.days.weekdays:
        first = _habit(entry.days.weekdays)
    elif first.startswith("only "):
        first = first.removeprefix("only ")
    return ", ".join((f"{first} at {_listed([_clock_face(time) for time in entry.at])}", *more))


def _once(entry: Once) -> str:
    return f"once on {entry.once.date().isoformat()} at {_clock_face(entry.once.time())}"


def _conditions(rule: DayRule) -> list[str]:
    """Each condition on the day, as it stands after a comma."""
    found = []
    if rule.weekdays:
        found.append(_weekdays(rule.weekdays))
    if rule.nth_weekdays:
        names = [f"the {_NTH.get(nth, f'{nth}th')} {_NAMES[weekday]}" for nth, weekday in rule.nth_weekdays]
        found.append(f"only on {_listed(names)} of the month")
    if rule.month_days:
        found.append(f"only on {_listed([_month_day(number) for number in rule.month_days])} of the month")
    if rule.business is not None:
        found.append(f"only on the {rule.business} business day" + (f" ({rule.calendar})" if rule.calendar else ""))
    elif rule.calendar is not None:
        found.append(f"only on days of {rule.calendar}")
    return found


def _weekdays(weekdays: Sequence[Weekday]) -> str:
    """«Monday to Saturday», «Mondays and Thursdays»."""
    numbers = sorted({WEEKDAYS.index(weekday) for weekday in weekdays})
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{_NAMES[WEEKDAYS[numbers[0]]]} to {_NAMES[WEEKDAYS[numbers[-1]]]}"
    return _listed([_NAMES[WEEKDAYS[number]] + "s" for number in numbers])


def _habit(weekdays: Sequence[Weekday]) -> str:
    """The same as the start of a sentence: «weekdays», «Mondays and Thursdays»."""
    words = _weekdays(weekdays)
    return {"Monday to Sunday": "every day", "Monday to Friday": "weekdays"}.get(words, words)


def _month_day(number: int) -> str:
    if number < 0:
        return "the last day" if number == -1 else f"day {-number} from the end"
    ending = "th" if 11 <= number <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"the {number}{ending}"


@lru_cache(maxsize=1024)  # cron-descriptor takes about a millisecond a line
def _cron(crontab: Crontab) -> str:
    minute, hour, month_day, month, weekday = fields = crontab.spelled_out()
    if any("," in field and re.search("[/#]|L", field) for field in (minute, hour, month_day.upper(), weekday.upper())):
        # cron-descriptor words a list of unlike terms wrongly: «mon,wed#2» as the second Monday and Wednesday.
        return f'at the times of "{crontab.line}"'
    try:
        if "*" in (month_day, weekday):
            words = _describe(*fields).get_full_description()
        else:
            on_weekday = _describe("0", "0", "*", "*", weekday).get_day_of_week_description()
            words = _describe(minute, hour, "*", "*", "*").get_full_description()
            words += _describe("0", "0", month_day, "*", "*").get_day_of_month_description()
            words += ", and only " if crontab.needs_both_days else ", or "
            words += on_weekday.removeprefix(", ").removeprefix("only ")
            words += _describe("0", "0", "*", month, "*").get_month_description()
    except _not_described():
        return f'at the times of "{crontab.line}"'
    if month_day.startswith("*/"):
        words = re.sub(r"\bevery (\d+) days\b", r"every \1 days from the 1st", words)
    words = re.sub(r"\bevery 1 minutes\b", "every minute", words, flags=re.IGNORECASE)
    words = re.sub(r"\b1 minutes\b", "1 minute", words)
    return words[0].lower() + words[1:]


def _describe(*fields: str) -> ExpressionDescriptor:
    from cron_descriptor import ExpressionDescriptor, Options  # here, because it costs 40 ms

    options = Options()
    options.use_24hour_time_format = True
    options.locale_code = "en_US"
    return ExpressionDescriptor(" ".join(fields), options)


def _not_described() -> tuple[type[Exception], ...]:
    """What cron-descriptor raises for a line that cronsim takes and it does not."""
    from cron_descriptor import FormatException, MissingFieldException, WrongArgumentException

    return FormatException, MissingFieldException, WrongArgumentException, ValueError, LookupError


def _listed(words: Sequence[str]) -> str:
    """«a», «a and b», «a, b and c»."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _clock_face(time: dt.time) -> str:
    return f"{time:%H:%M:%S}" if time.second else f"{time:%H:%M}"
