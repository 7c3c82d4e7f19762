"""A schedule as a frozen value, with every default filled in: what the file means, as opposed to what it says.

The loader (schedule_file.py) makes specs; the Schedule row keeps each as JSON, so that the service needs no file to
go on. `ScheduleSpec.model_validate(spec.model_dump(mode="json")) == spec`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MINUTE = dt.timedelta(minutes=1)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


# --- when -----------------------------------------------------------------------------------------------------------

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class DayRule(Frozen):
    """Which local days count. All conditions given must hold; none given: every day."""

    weekdays: tuple[Weekday, ...] = ()  # () is any
    month_days: tuple[int, ...] = ()  # 1 to 31, and -1 for the last
    nth_weekdays: tuple[tuple[int, Weekday], ...] = ()  # (1, "mon") first Monday … (-1, "fri") last Friday of the month
    business: Literal["first", "last"] | None = None  # the first or last day of the month that the calendar has
    calendar: str | None = None  # a key of ScheduleSpec.calendars


class Every(Frozen):
    """Each `every` of elapsed time from local midnight on (an hour skipped by the clock is not elapsed time)."""

    type: Literal["every"] = "every"
    every: dt.timedelta
    between: tuple[dt.time, dt.time] | None = None  # local; the second bound is included; may pass midnight
    days: DayRule = DayRule()


class At(Frozen):
    """Local times of day."""

    type: Literal["at"] = "at"
    at: tuple[dt.time, ...]  # sorted, no twins
    days: DayRule = DayRule()


class Cron(Frozen):
    """A five-field crontab line, read as Debian's cron reads it."""

    type: Literal["cron"] = "cron"
    cron: str  # five fields; @daily and friends already spelled out
    match_days: Literal["any", "all"] | None = None  # None unless both day fields are set
    days: DayRule = DayRule()  # a further condition


class Once(Frozen):
    """One local moment."""

    type: Literal["once"] = "once"
    once: dt.datetime  # naive: local time of the schedule's zone


When = Annotated[Every | At | Cron | Once, Field(discriminator="type")]


# --- calendars ------------------------------------------------------------------------------------------------------


class DateSpan(Frozen):
    """Local days from `first` through `last`, both included."""

    first: dt.date
    last: dt.date


class Window(Frozen):
    """Local time from `start` (included) to `end` (not included)."""

    start: dt.datetime  # naive
    end: dt.datetime  # naive
    why: str = ""


class WeeklyWindow(Frozen):
    """A window that comes each week on `weekdays`; may pass midnight."""

    weekdays: tuple[Weekday, ...]
    start: dt.time
    end: dt.time
    why: str = ""


class Calendar(Frozen):
    """A named set of local days, and of windows of time.

    A day belongs to it when it is one of `dates`, `spans`, the holidays of `country`, or of `weekdays`, and is in none
    of the calendars `without`.
    """

    name: str
    dates: tuple[dt.date, ...] = ()
    spans: tuple[DateSpan, ...] = ()
    country: str | None = None  # ISO 3166 code, as the holidays package knows it
    subdivision: str | None = None
    weekdays: tuple[Weekday, ...] = ()
    without: tuple[str, ...] = ()  # names of calendars
    windows: tuple[Window, ...] = ()
    weekly: tuple[WeeklyWindow, ...] = ()


class Blackout(Frozen):
    """No start while one of the calendars' windows, or a whole day of theirs, is on."""

    during: tuple[str, ...]  # names of calendars
    then: Literal["skip", "run-after"]


# --- policies -------------------------------------------------------------------------------------------------------


class Retry(Frozen):
    """How often a failing task is tried, and how long it waits in between."""

    name: str = "none"
    attempts: int = Field(default=1, ge=1, le=1000)  # the first one counts
    backoff: Literal["exponential", "linear", "fixed"] = "exponential"
    first: dt.timedelta = dt.timedelta(seconds=30)
    longest: dt.timedelta = dt.timedelta(hours=1)
    factor: float = Field(default=2.0, ge=1, le=100)
    jitter: float = Field(default=0.0, ge=0, le=1)  # a share of the delay, added at random
    give_up_after: dt.timedelta | None = None  # since the first start
    until_next: bool = False  # no attempt once the schedule's next fire is due
    only_on: tuple[str, ...] = ()  # exception class names; () is any
    never_on: tuple[str, ...] = ()


class Missed(Frozen):
    """Which fire times that could not start within their grace still count."""

    run: Literal["none", "latest", "all"] = "latest"
    within: dt.timedelta | None = dt.timedelta(hours=1)  # older ones do not count; None: no limit
    most: int = Field(default=100, ge=1, le=1000)  # with run: all


class Timeout(Frozen):
    """`soft` is raised inside the function; at `hard` its process is killed."""

    soft: dt.timedelta
    hard: dt.timedelta


class FilePause(Frozen):
    """What the file says about a pause. Absent from the spec, the operator's pause stands."""

    paused: bool
    until: dt.datetime | None = None  # aware, UTC
    why: str = ""


# --- the whole ------------------------------------------------------------------------------------------------------


class Keep(Frozen):
    """How many days the rows of ended tasks are kept; None: as the settings say."""

    days: int | None = None
    failed_days: int | None = None  # for tasks that did not succeed


class Hook(Frozen):
    """An address that takes messages by HTTPS, as it stands or in a variable of the environment."""

    url: str | None = None  # one of the two
    url_env: str | None = None
    secret_env: str | None = None  # the variable that holds the secret which messages are signed with


class Contact(Frozen):
    """Who is told, and on which ways."""

    name: str
    email: tuple[str, ...] = ()
    webhook: Hook | None = None
    slack: Hook | None = None


class Digest(Frozen):
    """A mail about a span of time."""

    name: str
    to: tuple[str, ...]  # names of contacts
    when: tuple[When, ...]
    timezone: str
    calendars: dict[str, Calendar] = Field(default_factory=dict)  # all that `when` needs
    covers: dt.timedelta | None = None  # None: since the last one that was delivered
    when_green: Literal["full", "one-line", "skip"] = "one-line"
    tags: tuple[str, ...] = ()  # of these, of all schedules when ()
    kinds: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


Isolation = Literal["warm", "fork"]
ISOLATION: dict[str, Isolation] = {"scheduled": "warm", "long": "fork", "adhoc": "warm"}
"""How a kind's tasks are kept apart unless the file says it: one process for many, or one each."""


class KindSpec(Frozen):
    """A kind of task: its queue, and its limits unless the schedule or the task function sets others."""

    name: str
    queue: str
    timeout: Timeout
    warn_after: dt.timedelta | None = None
    max_running: int | None = None
    isolation: Isolation | None = None  # None in what was stored before there was a choice: as ISOLATION has it


# What may change without touching occurrences already planned.
DESCRIPTIVE = frozenset(
    {"owner", "about", "tags", "was", "finish_by", "too_fast", "warn_after", "keep", "notify", "failed_after"}
)


class ScheduleSpec(Frozen):
    """One entry of the schedule file, whole."""

    name: str
    task: str  # the name of a task function
    args: dict[str, Any] = Field(default_factory=dict)
    kind: Literal["scheduled", "long", "adhoc"] = "scheduled"
    queue: str = "scheduled"
    when: tuple[When, ...]
    timezone: str  # an IANA name
    calendars: dict[str, Calendar] = Field(default_factory=dict)  # all that `when` and `blackout` need, none else
    start: dt.datetime | None = None  # aware; no fire time before it (`from` in the file)
    until: dt.datetime | None = None  # aware; no fire time at or after it
    max_runs: int | None = None
    spread: dt.timedelta = dt.timedelta(0)
    grace: dt.timedelta = dt.timedelta(minutes=10)
    missed: Missed = Missed()
    overlap: Literal["skip", "queue-one", "queue-all", "replace", "allow"] = "skip"
    exclusive: str | None = None
    max_running: int | None = None  # tasks of its kind at once
    retry: Retry = Retry()
    timeout: Timeout = Timeout(soft=15 * MINUTE, hard=15 * MINUTE + dt.timedelta(seconds=10))
    delivery: Literal["at_least_once", "at_most_once"] = "at_least_once"
    blackout: Blackout | None = None
    paused: FilePause | None = None
    pause_after: int | None = None  # final failures in a row
    failed_after: int = 1  # final failures in a row until somebody is told
    finish_by: dt.time | None = None  # local
    too_fast: dt.timedelta | None = None
    warn_after: dt.timedelta | None = None
    keep: Keep = Keep()
    notify: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # event, or "any" -> names of contacts
    owner: str = ""
    about: str = ""
    tags: tuple[str, ...] = ()
    was: str | None = None

    def fingerprint(self) -> str:
        """Changes when, and only when, an occurrence might come out differently. The operator's and the file's pause
        is no part of it: a pause is applied by itself."""
        meaning = self.model_dump(mode="json", exclude=set(DESCRIPTIVE) | {"paused"})
        if self.max_running is None:
            del meaning["max_running"]  # which versions before it did not know: nothing has changed for them
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


class Book(Frozen):
    """A whole schedule file, as taken."""

    file: str
    timezone: str
    kinds: dict[str, KindSpec]
    retry_policies: dict[str, Retry] = Field(default_factory=dict)
    calendars: dict[str, Calendar] = Field(default_factory=dict)
    schedules: dict[str, ScheduleSpec] = Field(default_factory=dict)
    contacts: dict[str, Contact] = Field(default_factory=dict)
    digests: dict[str, Digest] = Field(default_factory=dict)
    notify: tuple[str, ...] = ()  # contacts for what concerns the service itself, of defaults.notify; (): all contacts
