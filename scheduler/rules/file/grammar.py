"""What may be written in a schedule file. The editor's schema is made of these models too.

Single values stand in grammar_values.py, the entries of `when` and of calendars in grammar_when.py.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Discriminator, Field, JsonValue, Tag, ValidationInfo

from scheduler.rules.complaints import Complaint, shown
from scheduler.rules.file.grammar_mail import (
    ContactEntry,
    DigestEntry,
    Notify,
    NotifyEntry,
    OnlyEntry,
    SlackEntry,
    WebhookEntry,
)
from scheduler.rules.file.grammar_values import (
    CalendarName,
    Count,
    Duration,
    DurationOrZero,
    Kind,
    ListOf,
    LocalMoment,
    LongText,
    Name,
    OneOrMany,
    RetryName,
    Sheet,
    ShortText,
    TaskName,
    TimeOfDay,
    Zone,
    text_schema,
)
from scheduler.rules.file.grammar_when import (
    WHEN_ENTRIES,
    CalendarEntry,
    SpanEntry,
    WeeklyEntry,
    WhenEntry,
    WindowEntry,
)
from scheduler.rules.times.durations import format_duration


def _mapping_or(tag: str, other: str) -> Discriminator:
    return Discriminator(lambda value: tag if isinstance(value, dict | BaseModel) else other)


# --- policies -------------------------------------------------------------------------------------------------------


def _not_shorter_than_soft(value: dt.timedelta | None, info: ValidationInfo) -> dt.timedelta | None:
    soft = info.data.get("soft")
    if value is not None and soft is not None and value < soft:
        raise Complaint(
            f"hard ({format_duration(value)}) is shorter than soft ({format_duration(soft)})",
            "soft is raised inside the function first; at hard its process is killed.",
            code="bad-timeout",
            plain=True,
        )
    return value


class TimeoutEntry(Sheet):
    """How long an attempt may take."""

    soft: Duration = Field(description="After this an error is raised inside the function.")
    hard: Annotated[Duration | None, AfterValidator(_not_shorter_than_soft)] = Field(
        default=None, description="After this its process is killed; 10 seconds after soft unless given."
    )


Timeout = Annotated[
    Annotated[Duration, Tag("<plain>")] | Annotated[TimeoutEntry, Tag("<limits>")], _mapping_or("<limits>", "<plain>")
]


def _shorter_than_timeout(value: dt.timedelta | None, info: ValidationInfo) -> dt.timedelta | None:
    timeout = info.data.get("timeout")
    soft = timeout.soft if isinstance(timeout, TimeoutEntry) else timeout
    if value is not None and soft is not None and value >= soft:
        raise Complaint(
            f"warn_after ({format_duration(value)}) is not shorter than timeout ({format_duration(soft)})",
            "It would never warn: the timeout ends the attempt first.",
            code="bad-warn-after",
            plain=True,
        )
    return value


WarnAfter = Annotated[Duration | None, AfterValidator(_shorter_than_timeout)]


class KindEntry(Sheet):
    """A kind of task: where it queues, and how long it may take."""

    queue: Name | None = Field(default=None, description="The RQ queue; named as the kind unless given.")
    timeout: Timeout | None = Field(default=None, description="How long a task of this kind may take.")
    warn_after: WarnAfter = Field(default=None, description="Tell when a task of this kind runs for longer.")
    max_running: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="No more tasks of this kind at once."
    )
    isolation: Literal["warm", "fork"] | None = Field(
        default=None, description="One process for many tasks (warm), or a new one for each (fork)."
    )


class KindsEntry(Sheet):
    """The three kinds of task."""

    scheduled: KindEntry | None = Field(default=None, description="Fired by a schedule.")
    long: KindEntry | None = Field(default=None, description="Takes long, shows its progress, may be cancelled.")
    adhoc: KindEntry | None = Field(default=None, description="Asked for by a person, the API or code.")


class RetryEntry(Sheet):
    """How often a failing task is tried, and how long it waits in between."""

    attempts: Annotated[int, Field(ge=1, le=1000)] = Field(default=1, description="The first one counts.")
    backoff: Literal["exponential", "linear", "fixed"] = Field(
        default="exponential", description="How the delays grow."
    )
    first: Duration = Field(default=dt.timedelta(seconds=30), description="The delay after the first failed attempt.")
    longest: Duration = Field(default=dt.timedelta(hours=1), alias="max", description="No delay is longer.")
    factor: Annotated[float, Field(ge=1, le=100)] = Field(
        default=2.0, description="How much longer each exponential delay is than the one before."
    )
    jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="A share of the delay that is added at random, 0 to 1."
    )
    give_up_after: Duration | None = Field(default=None, description="No attempt begins later than this.")
    until_next: bool = Field(default=False, description="No attempt once the schedule fires again.")
    only_on: ListOf[ShortText] = Field(default=(), description="Class names of the errors that are tried again.")
    never_on: ListOf[ShortText] = Field(default=(), description="Class names of the errors that are final.")


Retry = Annotated[
    Annotated[RetryName, Tag("<plain>")] | Annotated[RetryEntry, Tag("<policy>")], _mapping_or("<policy>", "<plain>")
]
MissedWord = Literal["none", "latest", "all"]


class MissedEntry(Sheet):
    """Which fire times that could not start within their grace still count."""

    run: MissedWord = Field(description="None, the latest, or all.")
    within: Duration | None = Field(
        default=dt.timedelta(hours=1), description="Older ones do not count; null for no limit."
    )
    most: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=100, alias="max", description="With run: all, no more than these."
    )


Missed = Annotated[
    Annotated[MissedWord, Tag("<plain>")] | Annotated[MissedEntry, Tag("<missed>")], _mapping_or("<missed>", "<plain>")
]


class BlackoutEntry(Sheet):
    """No start while a calendar's window, or one of its days, is on."""

    during: OneOrMany[CalendarName] = Field(description="Names of calendars.")
    then: Literal["skip", "run-after"] = Field(description="Skip the fire time, or start it when the blackout ends.")


class PauseEntry(Sheet):
    """Paused, until a moment or for good."""

    until: LocalMoment | None = Field(default=None, description="Local day or moment at which it goes on.")
    why: ShortText = Field(default="", description="The reason, as people will read it.")


KeptDays = Annotated[int, Field(ge=1, le=36_500)]
Paused = Annotated[
    Annotated[bool, Tag("<plain>")] | Annotated[PauseEntry, Tag("<pause>")], _mapping_or("<pause>", "<plain>")
]


class KeepEntry(Sheet):
    """How long the rows of ended tasks are kept."""

    days: KeptDays | None = Field(default=None, description="Days after the end of a task.")
    failed_days: KeptDays | None = Field(default=None, description="The same for tasks that did not succeed.")


def _gap(value: str) -> str:
    if value != "run-after":
        raise Complaint(
            f"{shown(value)} is not offered; run-after is all there is",
            "A time that the spring change skips fires where the skipped hour ends, as Debian's cron does it; "
            "to be clear of it, choose a time outside the hour.",
            code="bad-dst",
        )
    return value


def _fold(value: str) -> str:
    if value != "once":
        raise Complaint(
            f"{shown(value)} is not offered; once is all there is",
            "A time that the autumn change repeats fires the first time, as Debian's cron does it; "
            'to fire in both hours, use "every".',
            code="bad-dst",
        )
    return value


class DstEntry(Sheet):
    """What clock changes do to local times; there is one way, which may be written down."""

    gap: Annotated[str, AfterValidator(_gap), text_schema(enum=["run-after"])] = Field(
        default="run-after", description="A time that is skipped fires right after the gap."
    )
    fold: Annotated[str, AfterValidator(_fold), text_schema(enum=["once"])] = Field(
        default="once", description="A time that comes twice fires the first time."
    )


# --- the whole ------------------------------------------------------------------------------------------------------

Overlap = Literal["skip", "queue-one", "queue-all", "replace", "allow"]
Delivery = Literal["at_least_once", "at_most_once"]


def _after_from(value: dt.datetime | None, info: ValidationInfo) -> dt.datetime | None:
    start = info.data.get("start")
    if value is not None and start is not None and value <= start:
        message = f"until ({value:%Y-%m-%d %H:%M}) is not after from ({start:%Y-%m-%d %H:%M})"
        raise Complaint(message, "It would never fire.", code="ends-before-start", plain=True)
    return value


class SharedKeys(Sheet):
    """What a schedule may say, and `defaults` for all of them."""

    kind: Kind | None = Field(default=None, description="scheduled, long or adhoc: which workers take it.")
    retry: Retry | None = Field(default=None, description="The name of a retry policy, or one written out.")
    overlap: Overlap | None = Field(default=None, description="What to do while an earlier one still runs.")
    missed: Missed | None = Field(default=None, description="Which missed fire times still count.")
    grace: Duration | None = Field(default=None, description="How late it may start; later, it is missed.")
    timeout: Timeout | None = Field(default=None, description="How long an attempt may take: soft, or soft and hard.")
    delivery: Delivery | None = Field(
        default=None, description="When a worker falls silent: run again, or leave it lost."
    )
    spread: DurationOrZero | None = Field(
        default=None, description="A stable offset of at most this, made of the schedule's name."
    )
    blackout: BlackoutEntry | None = Field(default=None, description="When nothing may start; null for never.")
    pause_after: Count | None = Field(
        default=None, description="So many final failures in a row pause the schedule; null for never."
    )
    failed_after: Count | None = Field(
        default=None, description="Tell of failures from this many final ones in a row; 1 unless given."
    )
    warn_after: WarnAfter = Field(default=None, description="Tell when it runs for longer.")
    notify: Notify | None = Field(default=None, description="Whom to tell, by name or by event; null for nobody.")
    keep: KeepEntry | None = Field(default=None, description="How long its ended tasks are kept.")
    dst: DstEntry | None = Field(default=None, description="Clock changes: gap: run-after, fold: once.")
    owner: ShortText | None = Field(default=None, description="Who knows about it.")
    tags: ListOf[ShortText] | None = Field(default=None, description="Words to find it by.")


class DefaultsEntry(SharedKeys):
    """What every schedule inherits; each may say otherwise."""


class ScheduleEntry(SharedKeys):
    """A task function, and when it is called."""

    task: TaskName = Field(description="The name of a task function.")
    args: dict[str, Any] | None = Field(default=None, description="Its arguments, by name; checked at load.")
    when: OneOrMany[WhenEntry] = Field(
        description="When it fires; a list is a union, equal instants fire once.",
        examples=[{"every": "5m"}, {"at": "06:30", "days": "mon-fri"}, {"cron": "0 22 * * sun"}],
    )
    timezone: Zone | None = Field(default=None, description="The IANA zone of its times, if not that of the file.")
    start: LocalMoment | None = Field(default=None, alias="from", description="No fire time before this.")
    until: Annotated[LocalMoment | None, AfterValidator(_after_from)] = Field(
        default=None, description="No fire time at this moment or later."
    )
    max_runs: Count | None = Field(default=None, description="After so many fire times it is over.")
    finish_by: TimeOfDay | None = Field(default=None, description="Tell when it has not ended by this local time.")
    too_fast: Duration | None = Field(default=None, description="Tell when it succeeds sooner than this.")
    exclusive: Name | None = Field(default=None, description="Never two schedules of this group at once.")
    paused: Paused | None = Field(default=None, description="Absent, the operator's pause stands.")
    was: Name | None = Field(default=None, description="Its former name: keeps history and pause.")
    about: LongText = Field(default="", description="What a reader should know.")


# pydantic says what belongs under a good name; editors need to be told that no other will do.
_NAMES_ONLY: dict[str, JsonValue] = {"additionalProperties": False}


class FileEntry(Sheet):
    """A schedule file."""

    version: Literal[1] = Field(description="The version of this grammar: 1.")
    timezone: Zone = Field(description="The IANA zone of all times in the file; the host's is never used.")
    defaults: DefaultsEntry = Field(default=DefaultsEntry(), description="What every schedule inherits.")
    kinds: KindsEntry = Field(default=KindsEntry(), description="Queues and limits of the kinds of task.")
    retry_policies: dict[Name, RetryEntry] = Field(
        default={}, description="Retry policies by name.", json_schema_extra=_NAMES_ONLY
    )
    calendars: dict[Name, CalendarEntry] = Field(
        default={}, description="Calendars by name.", json_schema_extra=_NAMES_ONLY
    )
    contacts: dict[Name, ContactEntry] = Field(
        default={}, description="Who gets mail, by name.", json_schema_extra=_NAMES_ONLY
    )
    schedules: dict[Name, ScheduleEntry] = Field(description="Schedules by name.", json_schema_extra=_NAMES_ONLY)
    digests: dict[Name, DigestEntry] = Field(
        default={}, description="Mails about a span of time, by name.", json_schema_extra=_NAMES_ONLY
    )


# Which model reads what stands under a key, to name the keys that it could have.
SHEETS: dict[str, type[Sheet]] = {
    "": FileEntry,
    "defaults": DefaultsEntry,
    "kinds": KindsEntry,
    "missed": MissedEntry,
    "blackout": BlackoutEntry,
    "spans": SpanEntry,
    "windows": WindowEntry,
    "weekly": WeeklyEntry,
    "<limits>": TimeoutEntry,
    "<policy>": RetryEntry,
    "<pause>": PauseEntry,
    "<notify>": NotifyEntry,
    "keep": KeepEntry,
    "dst": DstEntry,
    "only": OnlyEntry,
    "webhook": WebhookEntry,
    "slack": SlackEntry,
    **{f"<{key}>": sheet for key, sheet in WHEN_ENTRIES.items()},
}


def keys_of(sheet: type[Sheet]) -> tuple[str, ...]:
    """The keys that may be written, in order."""
    return tuple(field.alias or name for name, field in sheet.model_fields.items())


def required_keys_of(sheet: type[Sheet]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in sheet.model_fields.items() if field.is_required())
