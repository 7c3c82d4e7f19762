"""What may be written under `when`, and in a calendar."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, ValidationInfo

from scheduler.rules.complaints import Complaint, shown
from scheduler.rules.file.grammar_values import (
    CronText,
    Day,
    DayCalendarName,
    Days,
    ListOf,
    LocalMoment,
    OnceMoment,
    OneOrMany,
    Sheet,
    ShortText,
    TimeOfDay,
    Weekdays,
    as_tuple,
    text_schema,
)
from scheduler.rules.spec import DayRule
from scheduler.rules.times.cron_line import never_fires, read_cron
from scheduler.rules.times.durations import parse_duration
from scheduler.rules.times.every_times import check_every


def _business_needs_calendar(value: str | None, info: ValidationInfo) -> str | None:
    days = info.data.get("days")
    if value is None and days is not None and days.business:
        raise Complaint(
            f'days "{days.business}-business" needs a calendar that says which days are business days',
            "Add calendar: and its name.",
            code="business-without-calendar",
            plain=True,
            at="days",
        )
    return value


def _match_days_fits(value: str | None, info: ValidationInfo) -> str | None:
    text = info.data.get("cron")
    if text is None:
        return value
    line = read_cron(text)
    fields = line.text.split()
    if line.both_days and value is None:
        raise Complaint(
            f"cron {shown(text)} sets both the day of the month ({fields[2]}) and the weekday ({fields[4]})",
            "Say which is meant: match_days: any (either is enough, as cron does) or match_days: all (both must hold).",
            code="match-days-missing",
            plain=True,
            at="cron",
        )
    if value is not None and not line.both_days:
        raise Complaint(
            f"match_days goes with a cron line that sets both day fields, and {shown(text)} does not",
            "Remove match_days.",
            code="match-days-idle",
            plain=True,
        )
    if value == "all" and line.never_together:
        raise never_fires(fields, at="cron")
    return value


def _between_fits(value: tuple[dt.time, ...] | None, info: ValidationInfo) -> tuple[dt.time, dt.time] | None:
    if value is not None:
        if len(value) != 2:
            raise Complaint(
                f"needs two times, got {len(value)}", 'Write between: ["07:00", "19:00"].', code="bad-between"
            )
        if value[0] == value[1]:
            raise Complaint(
                f"begins and ends at {value[0]:%H:%M}", "Leave it away for the whole day.", code="bad-between"
            )
    every = info.data.get("every")
    if every is not None:
        check_every(every, (value[0], value[1]) if value else None)
    return (value[0], value[1]) if value else None


def _whole_seconds(value: object) -> dt.timedelta:
    every = parse_duration(value)
    if every % dt.timedelta(seconds=1):
        raise Complaint(f"{shown(value)} is no whole number of seconds", "The shortest is 1s.", code="bad-duration")
    return every


_DAYS_TEXT = "Which days: mon-fri, weekends, 1, 15, last, first-mon, last-fri, first-business, last-business."
_CALENDAR_TEXT = "A calendar; days that are not in it do not count."
_OptionalDayCalendar = Annotated[
    DayCalendarName | None, AfterValidator(_business_needs_calendar), Field(validate_default=True)
]


class EveryEntry(Sheet):
    """Fires again and again from local midnight on."""

    every: Annotated[dt.timedelta, BeforeValidator(_whole_seconds), text_schema("5m", "1h")] = Field(
        description="How often, from 1s on; counted from local midnight, never from the start of a process."
    )
    between: Annotated[
        tuple[TimeOfDay, ...] | None,
        BeforeValidator(lambda value: value if value is None else as_tuple(value)),
        AfterValidator(_between_fits),
        Field(validate_default=True),
    ] = Field(default=None, description='The first and the last local time of day, such as ["07:00", "19:00"].')
    days: Days = Field(default=DayRule(), description=_DAYS_TEXT)
    calendar: _OptionalDayCalendar = Field(default=None, description=_CALENDAR_TEXT)


class AtEntry(Sheet):
    """Fires at local times of day."""

    at: OneOrMany[TimeOfDay] = Field(description='A local time of day, "HH:MM" or "HH:MM:SS", or a list of them.')
    days: Days = Field(default=DayRule(), description=_DAYS_TEXT)
    calendar: _OptionalDayCalendar = Field(default=None, description=_CALENDAR_TEXT)


class CronEntry(Sheet):
    """Fires at the times of a crontab line."""

    cron: CronText = Field(description="Five fields as in crontab(5), or @hourly, @daily, @weekly, @monthly, @yearly.")
    match_days: Annotated[
        Literal["any", "all"] | None, AfterValidator(_match_days_fits), Field(validate_default=True)
    ] = Field(default=None, description="With both day fields set: whether any of the two is enough, or all must hold.")
    calendar: DayCalendarName | None = Field(default=None, description=_CALENDAR_TEXT)


class OnceEntry(Sheet):
    """Fires once."""

    once: OnceMoment = Field(description='A local moment, "YYYY-MM-DD HH:MM" or with seconds.')


WHEN_ENTRIES: dict[str, type[Sheet]] = {"every": EveryEntry, "at": AtEntry, "cron": CronEntry, "once": OnceEntry}


def _which_when(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    named = [key for key in WHEN_ENTRIES if key in value]
    return f"<{named[0]}>" if len(named) == 1 else None


WhenEntry = Annotated[
    Annotated[EveryEntry, Tag("<every>")]
    | Annotated[AtEntry, Tag("<at>")]
    | Annotated[CronEntry, Tag("<cron>")]
    | Annotated[OnceEntry, Tag("<once>")],
    Discriminator(_which_when, custom_error_type="one-of-when", custom_error_message="give exactly one"),
]


# --- calendars ------------------------------------------------------------------------------------------------------


def _after_start(value: Any, info: ValidationInfo) -> Any:
    start = info.data.get("start")
    is_span = type(value) is dt.date  # of a span both days count, of a window the end does not
    if start is not None and (value < start if is_span else value <= start):
        form = "%Y-%m-%d" if is_span else "%Y-%m-%d %H:%M"
        message = f"ends at {value.strftime(form)} and begins at {start.strftime(form)}"
        raise Complaint(message, '"from" comes first.', code="ends-before-start")
    return value


def _not_equal_start(value: dt.time, info: ValidationInfo) -> dt.time:
    if value == info.data.get("start"):
        raise Complaint(f"begins and ends at {value:%H:%M}", "Give it some length.", code="ends-before-start")
    return value


class SpanEntry(Sheet):
    """Days from one through another."""

    start: Day = Field(alias="from", description="The first day.")
    end: Annotated[Day, AfterValidator(_after_start)] = Field(alias="to", description="The last day; it counts too.")


class WindowEntry(Sheet):
    """A span of local time."""

    start: LocalMoment = Field(alias="from", description="When it begins.")
    end: Annotated[LocalMoment, AfterValidator(_after_start)] = Field(
        alias="to", description="When it ends; this moment is no longer in it."
    )
    why: ShortText = Field(default="", description="The reason, as people will read it.")


class WeeklyEntry(Sheet):
    """A span of time that comes each week."""

    days: Weekdays = Field(description="The weekdays on which it begins, such as mon-fri.")
    start: TimeOfDay = Field(alias="from", description="When it begins.")
    end: Annotated[TimeOfDay, AfterValidator(_not_equal_start)] = Field(
        alias="to", description="When it ends; earlier than from: on the next day."
    )
    why: ShortText = Field(default="", description="The reason, as people will read it.")


def _country(value: str) -> str:
    from scheduler.rules.file.countries import check_country

    return check_country(value)


def _subdivision(value: str | None, info: ValidationInfo) -> str | None:
    from scheduler.rules.file.countries import check_subdivision

    if value is not None:
        if "country" in info.data and info.data["country"] is None:
            raise Complaint("goes with a country", "Add country: and its code.", code="unknown-subdivision")
        if info.data.get("country"):
            return check_subdivision(info.data["country"], value)
    return value


class CalendarEntry(Sheet):
    """A named set of days and of windows of time. A day is in it by any of its parts, unless `except` takes it out."""

    dates: ListOf[Day] = Field(default=(), description="Single days.")
    spans: ListOf[SpanEntry] = Field(default=(), description="Days from one through another.")
    country: Annotated[str, AfterValidator(_country)] | None = Field(
        default=None, description="The public holidays of a country, by its ISO 3166 code, such as DE."
    )
    subdivision: Annotated[str | None, AfterValidator(_subdivision)] = Field(
        default=None, description="A part of the country with holidays of its own, such as BE."
    )
    days: Weekdays = Field(default=(), description="Weekdays, such as mon-fri.")
    without: ListOf[DayCalendarName] = Field(
        default=(), alias="except", description="Calendars whose days are taken out."
    )
    windows: ListOf[WindowEntry] = Field(default=(), description="Spans of local time, for blackouts.")
    weekly: ListOf[WeeklyEntry] = Field(default=(), description="Spans of time that come each week, for blackouts.")
