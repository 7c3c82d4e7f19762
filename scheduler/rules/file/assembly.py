"""From what is written to what it means: entries of the file into the frozen values of spec.py, defaults filled in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, cast
from zoneinfo import ZoneInfo

from scheduler.rules import spec
from scheduler.rules.file.grammar import (
    BlackoutEntry,
    DefaultsEntry,
    KeepEntry,
    KindEntry,
    MissedEntry,
    PauseEntry,
    RetryEntry,
    ScheduleEntry,
    TimeoutEntry,
)
from scheduler.rules.file.grammar_mail import ContactEntry, DigestEntry, NotifyEntry, OnlyEntry, span_of
from scheduler.rules.file.grammar_values import Kind
from scheduler.rules.file.grammar_when import AtEntry, CalendarEntry, CronEntry, EveryEntry, OnceEntry
from scheduler.rules.times.durations import parse_duration
from scheduler.rules.times.moments import zone_named
from scheduler.rules.times.zones import first_moment
from scheduler.task_functions import TaskFunction

Value = TypeVar("Value")

# At `soft` the function gets an error and may tidy up; these seconds are for that.
HARD_AFTER_SOFT = dt.timedelta(seconds=10)
KIND_TIMEOUTS: dict[Kind, dt.timedelta] = {
    "scheduled": dt.timedelta(minutes=15),
    "long": dt.timedelta(hours=6),
    "adhoc": dt.timedelta(minutes=10),
}
RETRY_POLICIES = {
    "none": spec.Retry(name="none"),
    "gentle": spec.Retry(
        name="gentle", attempts=3, first=dt.timedelta(seconds=30), longest=dt.timedelta(minutes=10), jitter=0.2
    ),
    "stubborn": spec.Retry(
        name="stubborn",
        attempts=8,
        first=dt.timedelta(minutes=1),
        longest=dt.timedelta(hours=2),
        give_up_after=dt.timedelta(hours=12),
        never_on=("ValueError",),
    ),
}


@dataclass(frozen=True)
class Surroundings:
    """What a schedule takes from the rest of the file."""

    timezone: str
    defaults: DefaultsEntry
    kinds: Mapping[str, spec.KindSpec]
    retry_policies: Mapping[str, spec.Retry]
    calendars: Mapping[str, spec.Calendar]


def kind_spec(name: Kind, entry: KindEntry | None) -> spec.KindSpec:
    """A kind, with what the file does not say filled in."""
    queue = entry.queue if entry is not None and entry.queue else name
    limit = entry.timeout if entry is not None and entry.timeout is not None else KIND_TIMEOUTS[name]
    return spec.KindSpec(
        name=name,
        queue=queue,
        timeout=timeout_spec(limit),
        warn_after=entry.warn_after if entry is not None else None,
        max_running=entry.max_running if entry is not None else None,
        isolation=(entry.isolation if entry is not None else None) or spec.ISOLATION[name],
    )


def timeout_spec(entry: dt.timedelta | TimeoutEntry) -> spec.Timeout:
    if isinstance(entry, TimeoutEntry):
        return spec.Timeout(soft=entry.soft, hard=entry.hard or entry.soft + HARD_AFTER_SOFT)
    return spec.Timeout(soft=entry, hard=entry + HARD_AFTER_SOFT)


def retry_spec(name: str, entry: RetryEntry) -> spec.Retry:
    return spec.Retry(name=name, **{key: getattr(entry, key) for key in RetryEntry.model_fields})


def calendar_spec(name: str, entry: CalendarEntry) -> spec.Calendar:
    return spec.Calendar(
        name=name,
        dates=tuple(sorted(set(entry.dates))),
        spans=tuple(spec.DateSpan(first=span.start, last=span.end) for span in entry.spans),
        country=entry.country,
        subdivision=entry.subdivision,
        weekdays=entry.days,
        without=entry.without,
        windows=tuple(spec.Window(start=w.start, end=w.end, why=w.why) for w in entry.windows),
        weekly=tuple(spec.WeeklyWindow(weekdays=w.days, start=w.start, end=w.end, why=w.why) for w in entry.weekly),
    )


def when_spec(entry: EveryEntry | AtEntry | CronEntry | OnceEntry) -> spec.When:
    if isinstance(entry, OnceEntry):
        return spec.Once(once=entry.once)
    if isinstance(entry, CronEntry):
        return spec.Cron(cron=entry.cron, match_days=entry.match_days, days=spec.DayRule(calendar=entry.calendar))
    days = entry.days if entry.calendar is None else entry.days.model_copy(update={"calendar": entry.calendar})
    if isinstance(entry, AtEntry):
        return spec.At(at=tuple(sorted(set(entry.at))), days=days)
    return spec.Every(every=entry.every, between=cast("tuple[dt.time, dt.time] | None", entry.between), days=days)


def schedule_spec(
    name: str, entry: ScheduleEntry, around: Surroundings, function: TaskFunction | None
) -> spec.ScheduleSpec:
    """The whole meaning of an entry. What it leaves open its task function says, else defaults, else its kind."""
    defaults = around.defaults
    given = entry.model_fields_set
    kind = entry.kind or _declared_kind(function) or defaults.kind or "scheduled"
    zone = zone_named(entry.timezone or around.timezone)
    blackout = entry.blackout if "blackout" in given else defaults.blackout
    when = tuple(when_spec(part) for part in entry.when)
    return spec.ScheduleSpec(
        name=name,
        task=entry.task,
        args=entry.args or {},
        kind=kind,
        queue=around.kinds[kind].queue,
        when=when,
        timezone=zone.key,
        calendars=_calendars_needed(when, blackout, around.calendars),
        start=None if entry.start is None else first_moment(entry.start, zone),
        until=None if entry.until is None else first_moment(entry.until, zone),
        max_runs=entry.max_runs,
        spread=_first(entry.spread, defaults.spread, dt.timedelta(0)),
        grace=_first(entry.grace, defaults.grace, dt.timedelta(minutes=10)),
        missed=_missed(_first(entry.missed, defaults.missed, "none" if kind == "adhoc" else "latest")),
        overlap=_first(entry.overlap, defaults.overlap, "skip"),
        exclusive=entry.exclusive,
        max_running=around.kinds[kind].max_running,
        retry=_retry(entry, function, around),
        timeout=_timeout(entry, function, defaults) or around.kinds[kind].timeout,
        delivery=_first(entry.delivery, defaults.delivery, "at_least_once"),
        blackout=None if blackout is None else spec.Blackout(during=blackout.during, then=blackout.then),
        paused=_paused(entry.paused, zone),
        pause_after=entry.pause_after if "pause_after" in given else defaults.pause_after,
        failed_after=_first(entry.failed_after, defaults.failed_after, 1),
        finish_by=entry.finish_by,
        too_fast=entry.too_fast,
        warn_after=entry.warn_after or defaults.warn_after or around.kinds[kind].warn_after,
        keep=_keep(entry.keep or defaults.keep),
        notify=_notify(entry.notify if "notify" in given else defaults.notify),
        owner=_first(entry.owner, defaults.owner, ""),
        about=entry.about,
        tags=_first(entry.tags, defaults.tags, ()),
        was=entry.was,
    )


def contact_spec(name: str, entry: ContactEntry) -> spec.Contact:
    return spec.Contact(
        name=name,
        email=entry.email or (),
        webhook=None if entry.webhook is None else spec.Hook(**entry.webhook.model_dump()),
        slack=None if entry.slack is None else spec.Hook(**entry.slack.model_dump()),
    )


def service_contacts(defaults: DefaultsEntry) -> tuple[str, ...]:
    """Who is told of what concerns the service itself: those of `defaults.notify`, if it names them for everything."""
    return _notify(defaults.notify).get("any", ())


def digest_spec(name: str, entry: DigestEntry, around: Surroundings) -> spec.Digest:
    when = tuple(when_spec(part) for part in entry.when)
    only = entry.only or OnlyEntry()
    return spec.Digest(
        name=name,
        to=entry.to,
        when=when,
        timezone=around.timezone,
        calendars=_calendars_needed(when, None, around.calendars),
        covers=span_of(entry.covers),
        when_green=entry.when_green,
        tags=only.tags,
        kinds=only.kinds,
        owners=only.owner,
    )


def calendars_closure(names: Iterable[str], calendars: Mapping[str, spec.Calendar]) -> dict[str, spec.Calendar]:
    """The calendars of these names and all that they take out, by name, in order."""
    found: dict[str, spec.Calendar] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found and name in calendars:
            found[name] = calendars[name]
            waiting.extend(calendars[name].without)
    return dict(sorted(found.items()))


def _calendars_needed(
    when: Iterable[spec.When], blackout: BlackoutEntry | None, calendars: Mapping[str, spec.Calendar]
) -> dict[str, spec.Calendar]:
    names = [part.days.calendar for part in when if not isinstance(part, spec.Once) and part.days.calendar]
    if blackout is not None:
        names.extend(blackout.during)
    return calendars_closure(names, calendars) if names else {}


def _keep(entry: KeepEntry | None) -> spec.Keep:
    return spec.Keep() if entry is None else spec.Keep(days=entry.days, failed_days=entry.failed_days)


def _notify(entry: NotifyEntry | tuple[str, ...] | None) -> dict[str, tuple[str, ...]]:
    if entry is None:
        return {}
    if isinstance(entry, NotifyEntry):
        return {event: names for event in NotifyEntry.model_fields if (names := getattr(entry, event))}
    return {"any": entry}


def _first(value: Value | None, default: Value | None, otherwise: Value) -> Value:
    return value if value is not None else default if default is not None else otherwise


def _declared_kind(function: TaskFunction | None) -> Kind | None:
    return cast("Kind | None", function.kind) if function is not None else None


def _missed(entry: str | MissedEntry) -> spec.Missed:
    if isinstance(entry, MissedEntry):
        return spec.Missed(run=entry.run, within=entry.within, most=entry.most)
    return spec.Missed(run=cast("Literal['none', 'latest', 'all']", entry))


def _retry(entry: ScheduleEntry, function: TaskFunction | None, around: Surroundings) -> spec.Retry:
    declared = function.retry if function is not None else None
    chosen = entry.retry or declared or around.defaults.retry or "none"
    return retry_spec("inline", chosen) if isinstance(chosen, RetryEntry) else around.retry_policies[chosen]


def _timeout(entry: ScheduleEntry, function: TaskFunction | None, defaults: DefaultsEntry) -> spec.Timeout | None:
    declared = parse_duration(function.timeout) if function is not None and function.timeout is not None else None
    chosen = entry.timeout or declared or defaults.timeout
    return None if chosen is None else timeout_spec(chosen)


def _paused(entry: bool | PauseEntry | None, zone: ZoneInfo) -> spec.FilePause | None:
    if entry is None:
        return None
    if isinstance(entry, PauseEntry):
        until = None if entry.until is None else first_moment(entry.until, zone)
        return spec.FilePause(paused=True, until=until, why=entry.why)
    return spec.FilePause(paused=entry)
