"""The single values of a schedule file: names, durations, days, moments; the words of grammar.py.

Each complains in words (complaints.py). What a name refers to is told by the `Known` that the loader passes as
validation context; without one, any name is taken.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from scheduler.rules.complaints import Complaint, did_you_mean, shown
from scheduler.rules.spec import DayRule, Weekday
from scheduler.rules.times.cron_line import read_cron
from scheduler.rules.times.day_words import parse_days, parse_weekdays
from scheduler.rules.times.durations import parse_duration
from scheduler.rules.times.moments import parse_day, parse_moment, parse_time, parse_zone
from scheduler.task_functions import TaskFunction

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
NAME_RULE = "Names are made of a-z, 0-9, - and _, begin with a letter or digit, and have 64 letters at most."
Kind = Literal["scheduled", "long", "adhoc"]
KINDS: tuple[Kind, ...] = ("scheduled", "long", "adhoc")


@dataclass(frozen=True)
class Known:
    """The names that a file may refer to."""

    calendars: frozenset[str] = frozenset()
    without_days: frozenset[str] = frozenset()  # calendars that name windows alone
    retry_policies: frozenset[str] = frozenset()
    contacts: frozenset[str] = frozenset()
    functions: Mapping[str, TaskFunction] | None = None  # None: any name will do
    broken: Mapping[str, str] = field(default_factory=dict)  # modules that cannot be imported, and why


# --- single values --------------------------------------------------------------------------------------------------


def name_complaint(name: str, what: str = "name") -> tuple[Complaint, int | None] | None:
    """What is wrong with a name, and at which letter (from 0); None when nothing is."""
    if NAME.match(name):
        return None
    for place, letter in enumerate(name):
        if not re.match("[a-z0-9_-]", letter):
            is_foreign = ord(letter) > 127
            called = f"{letter} (U+{ord(letter):04X} {unicodedata.name(letter, 'without a name')})"
            told = called if is_foreign else shown(letter)
            looks = " It may look like another, yet is a letter of its own." if is_foreign and letter.isalpha() else ""
            hint = NAME_RULE + looks
            suggestion = re.sub("[^a-z0-9_-]+", "-", name.lower()).strip("-_")
            if not is_foreign and NAME.match(suggestion):
                hint = f'{NAME_RULE} How about "{suggestion}"?'
            return Complaint(
                f"{what} {shown(name)}: a name cannot hold {told}", hint, code="bad-name", plain=True
            ), place
    if not name or len(name) <= 64:
        return Complaint(
            f"{what} {shown(name)}: a name cannot begin with {shown(name[:1])}", NAME_RULE, code="bad-name", plain=True
        ), 0
    told = f"{what} {shown(name)} has {len(name)} letters"
    return Complaint(told, NAME_RULE, code="bad-name", plain=True), None


def _name(value: str) -> str:
    found = name_complaint(value)
    if found:
        raise Complaint(found[0].message, found[0].hint, code="bad-name")
    return value


def _known(info: ValidationInfo) -> Known | None:
    return info.context if isinstance(info.context, Known) else None


def _calendar(value: str, info: ValidationInfo) -> str:
    known = _known(info)
    if known is not None and value not in known.calendars:
        meant = did_you_mean(value, known.calendars)
        listed = f"Calendars of this file: {', '.join(sorted(known.calendars)[:10])}."
        hint = "" if meant else listed if known.calendars else 'Name its days under "calendars".'
        raise Complaint(f"there is no calendar {shown(value)}{meant}", hint, code="unknown-calendar", plain=True)
    return value


def _calendar_of_days(value: str, info: ValidationInfo) -> str:
    known = _known(info)
    if known is not None and value in known.without_days:
        raise Complaint(
            f"calendar {shown(value)} holds windows alone, no days",
            'It can stand under "blackout"; for days give it dates, spans, days or a country.',
            code="calendar-without-days",
            plain=True,
        )
    return value


def _retry_name(value: str, info: ValidationInfo) -> str:
    known = _known(info)
    if known is not None and value not in known.retry_policies:
        meant = did_you_mean(value, known.retry_policies)
        hint = "" if meant else f"Retry policies: {', '.join(sorted(known.retry_policies)[:10])}."
        raise Complaint(f"there is no retry policy {shown(value)}{meant}", hint, code="unknown-retry", plain=True)
    return value


def _task(value: str, info: ValidationInfo) -> str:
    known = _known(info)
    if known is None or known.functions is None or value in known.functions:
        return value
    message = f"there is no task function {shown(value)}"
    for name, reason in known.broken.items():
        if name == value:  # two functions of one name
            raise Complaint(f"task function {shown(value)} cannot be used: {reason}", code="unknown-task", plain=True)
        if name.rsplit(".", 1)[-1] == value:
            raise Complaint(
                f"{message}: its module {name} cannot be imported: {reason}", code="unknown-task", plain=True
            )
    meant = did_you_mean(value, known.functions)
    if meant:
        hint = ""
    elif "." in value or "/" in value or ":" in value:
        hint = "A task function is known by its name alone, not by a path."
    elif known.broken:
        told = "; ".join(f"{name} ({reason})" for name, reason in list(known.broken.items())[:3])
        hint = f"It may stand in a module that cannot be imported: {told}."
    elif known.functions:
        hint = f"Task functions: {', '.join(sorted(known.functions)[:12])}."
    else:
        hint = "No task functions were found at all; see the setting task_packages."
    raise Complaint(message + meant, hint, code="unknown-task", plain=True)


def _duration(value: object) -> dt.timedelta:
    return parse_duration(value)


def _duration_or_zero(value: object) -> dt.timedelta:
    return parse_duration(value, zero=True)


def _cron(value: str) -> str:
    return read_cron(value).text


def _once(value: object) -> dt.datetime:
    return parse_moment(value, time_needed=True)


def _local(value: object) -> dt.datetime:
    return parse_moment(value)


def as_tuple(value: object) -> object:
    if value is None:
        raise Complaint("has no value", code="no-value")
    return tuple(value) if isinstance(value, list) else (value,)


def _as_filled_tuple(value: object) -> object:
    if value == []:
        raise Complaint("is empty", code="no-value")
    return as_tuple(value)


@dataclass(frozen=True)
class _OneOrMany:
    """In the editor's schema: the item itself, or a list of it."""

    least: int = 0

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = {**handler(core), **({"minItems": self.least} if self.least else {})}
        return {"anyOf": [many.get("items", {}), many]}


def text_schema(*examples: Any, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **({"examples": list(examples)} if examples else {}), **more})


Item = TypeVar("Item")
ListOf = Annotated[tuple[Item, ...], BeforeValidator(as_tuple), _OneOrMany()]
OneOrMany = Annotated[tuple[Item, ...], BeforeValidator(_as_filled_tuple), _OneOrMany(least=1)]
Duration = Annotated[dt.timedelta, BeforeValidator(_duration), text_schema("90s", "5m", "1h30m", "2d")]
DurationOrZero = Annotated[dt.timedelta, BeforeValidator(_duration_or_zero), text_schema("0s", "5m")]
TimeOfDay = Annotated[dt.time, BeforeValidator(parse_time), text_schema("06:30", pattern=r"^\d{1,2}:\d{2}(:\d{2})?$")]
Day = Annotated[dt.date, BeforeValidator(parse_day), text_schema("2026-12-25", format="date")]
LocalMoment = Annotated[dt.datetime, BeforeValidator(_local), text_schema("2026-12-01", "2026-12-01 18:00")]
OnceMoment = Annotated[dt.datetime, BeforeValidator(_once), text_schema("2026-12-05 23:00")]
_DAYS_SCHEMA = {"type": ["string", "integer", "array"], "items": {"type": ["string", "integer"]}}
Days = Annotated[DayRule, BeforeValidator(parse_days), WithJsonSchema(_DAYS_SCHEMA)]
Weekdays = Annotated[tuple[Weekday, ...], BeforeValidator(parse_weekdays), WithJsonSchema(_DAYS_SCHEMA)]
CronText = Annotated[str, AfterValidator(_cron), text_schema("*/10 * * * *", "30 6 * * mon-fri", "@daily")]
Zone = Annotated[str, BeforeValidator(parse_zone), text_schema("Europe/Berlin", "UTC")]
Name = Annotated[str, AfterValidator(_name), text_schema(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")]
CalendarName = Annotated[str, AfterValidator(_calendar)]
DayCalendarName = Annotated[str, AfterValidator(_calendar), AfterValidator(_calendar_of_days)]
RetryName = Annotated[str, AfterValidator(_retry_name)]
TaskName = Annotated[str, AfterValidator(_task)]
ShortText = Annotated[str, Field(max_length=200)]
LongText = Annotated[str, Field(max_length=4000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Sheet(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
