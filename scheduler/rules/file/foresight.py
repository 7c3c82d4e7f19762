"""What the fire times to come of a whole file will bring: crowds, collisions, schedules that never fire, clock changes.

Pure: the caller brings the moment. The cost is bounded: schedules that fire alike are looked at once, dense ones are
left out of crowds, and after so many fire times, or days of calendars, the rest of the file is not looked at.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Generic, TypeVar

from scheduler.errors import Fault
from scheduler.rules.complaints import shown
from scheduler.rules.file.yaml_reader import Document
from scheduler.rules.spec import At, Book, Every, Once, ScheduleSpec
from scheduler.rules.times.durations import format_duration
from scheduler.rules.times.fire_times import dst_note, fire_times
from scheduler.rules.times.moments import zone_named
from scheduler.rules.times.triggers import trigger_of
from scheduler.rules.times.zones import SECOND, first_moment, stretches

CROWD = 10  # schedules in one minute; fewer start within seconds on a service of a few workers
CROWD_AHEAD = dt.timedelta(hours=24)
DENSE = 24  # fire times in that span; what fires more often meets others all day long, and no spread helps
MOST_LOOKED_AT = 40_000  # fire times; a second, when no two schedules fire alike
MOST_CROWDS = 10  # told; the rest is counted
MOST_CALENDAR_DAYS = 2_000_000  # days looked up in calendars; a second, however long their chains are
MONTH = dt.timedelta(days=31)  # has seen all monthly times
ENOUGH_FIRES = 100  # fire times among which the shortest interval of a schedule is sought
GROUP_FIRES = 200  # of one schedule
YEAR = dt.timedelta(days=366)
MINUTE = dt.timedelta(minutes=1)
EVE = dt.timedelta(microseconds=1)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ClockNote:
    """What a clock change does to a schedule."""

    schedule: str
    fire_time: dt.datetime
    local: dt.datetime
    note: str


def forewarnings(document: Document, book: Book, now: dt.datetime) -> Iterator[Fault]:
    """What is allowed, and will surprise in times to come."""
    yield from _never(document, book, now)
    yield from _crowds(document, book, now)
    yield from _collisions(document, book, now)


def too_long_runs(
    document: Document, book: Book, now: dt.datetime, usual: Mapping[str, dt.timedelta]
) -> Iterator[Fault]:
    """Schedules that fire again before a usual run of theirs is over; `usual` tells how long that is, by name.

    What fires at its own moments, once, is not looked at; a renamed schedule has the runs of its former name.
    """
    intervals = _Intervals(now)
    for name, spec in book.schedules.items():
        run = usual.get(name) or (usual.get(spec.was) if spec.was else None)
        if run is None or _is_held(spec) or run <= _least_interval(spec):
            continue
        if intervals.looked_at > MOST_LOOKED_AT:
            return
        found = intervals.shorter_than(run, spec)
        if found is None:
            continue
        place, interval = found
        message = (
            f"schedule {shown(name)} usually runs {_rounded(run)}, but fires again after {format_duration(interval)} "
            "(its shortest interval)"
        )
        path = ("schedules", name, "when")
        at = (*path, place) if place is not None and (*path, place) in document.marks else path
        yield document.fault(at, "longer-than-interval", message, _MEANWHILE[spec.overlap], schedule=name)


_MEANWHILE = {
    "skip": "With overlap: skip, what falls due meanwhile is skipped; give it a longer interval, or make it faster.",
    "queue-one": "With overlap: queue-one, one waits and the others are skipped; give it a longer interval.",
    "queue-all": "With overlap: queue-all, they pile up until their grace ends; give it a longer interval.",
    "replace": "With overlap: replace, each start ends the one before, and none may finish; give it a longer interval.",
    "allow": "With overlap: allow, they run beside each other; give it a longer interval, or say overlap: skip.",
}


def clock_notes(book: Book, now: dt.datetime) -> list[ClockNote]:
    """What the clock changes of the next 12 months do to schedules that keep to local time; by time, then by name.

    One note a schedule and change. What follows real time goes on through both, and gets none.
    """
    touched = _AskedOnce(lambda spec: _touched(spec, now))
    notes = [
        ClockNote(name, fire_time, fire_time.astimezone(zone_named(spec.timezone)), note)
        for name, spec in book.schedules.items()
        for fire_time, note in touched(spec)
    ]
    return sorted(notes, key=lambda note: (note.fire_time, note.schedule))


class _AskedOnce(Generic[Answer]):
    """An answer for each schedule, sought once for all that fire alike."""

    def __init__(self, ask: Callable[[ScheduleSpec], Answer]) -> None:
        self.ask = ask
        self.answers: dict[object, Answer] = {}

    def __call__(self, spec: ScheduleSpec) -> Answer:
        # by name, a calendar is the same one in the whole file
        key = (spec.when, spec.timezone, spec.start, spec.until)
        if key not in self.answers:
            self.answers[key] = self.ask(spec)
        return self.answers[key]


# --- warnings -------------------------------------------------------------------------------------------------------


def _never(document: Document, book: Book, now: dt.datetime) -> Iterator[Fault]:
    """Schedules without a fire time for a year; not those that are paused, that begin later or have ended, and no
    one-offs: whoever writes a day knows it."""
    looked_at = 0

    def ask(spec: ScheduleSpec) -> bool:
        nonlocal looked_at
        for span in (MONTH, YEAR):
            looked_at += span.days * len(spec.calendars)
            if next(fire_times(spec, now, now + span), None) is not None:
                return True
        return False

    fires = _AskedOnce(ask)
    for name, spec in book.schedules.items():
        if _is_held(spec) or (spec.start is not None and spec.start > now) or _is_over(spec, now):
            continue
        if all(isinstance(entry, Once) for entry in spec.when):
            continue
        if looked_at > MOST_CALENDAR_DAYS:
            return
        if not fires(spec):
            message = f"schedule {shown(name)} never fires within the next year"
            hint = "Look at its when, its calendar and until; if it is not wanted now, say paused: true."
            yield document.fault(("schedules", name, "when"), "never-in-a-year", message, hint, schedule=name)


def _is_held(spec: ScheduleSpec) -> bool:
    return spec.paused is not None and spec.paused.paused


def _is_over(spec: ScheduleSpec, now: dt.datetime) -> bool:
    """Whether its end, or all its moments, are past: of that the file's own keys tell (schedule_checks.py)."""
    zone = zone_named(spec.timezone)
    return (spec.until is not None and spec.until <= now) or all(
        isinstance(part, Once) and first_moment(part.once, zone) <= now for part in spec.when
    )


def _crowds(document: Document, book: Book, now: dt.datetime) -> Iterator[Fault]:
    """Minutes in which many schedules fire; minutes in which the same ones do are told of once."""
    ahead = _AskedOnce(lambda spec: tuple(islice(fire_times(spec, now, now + CROWD_AHEAD), DENSE + 1)))
    crowds: defaultdict[dt.datetime, list[str]] = defaultdict(list)
    looked_at = 0
    for name, spec in book.schedules.items():
        if _is_held(spec) or spec.spread >= MINUTE:
            continue
        if looked_at > MOST_LOOKED_AT:
            break
        known = len(ahead.answers)
        moments = ahead(spec)
        looked_at += len(moments) if len(ahead.answers) > known else 0
        if len(moments) <= DENSE:
            for minute in {_minute(moment) for moment in moments}:
                crowds[minute].append(name)
    alike: defaultdict[tuple[str, ...], list[dt.datetime]] = defaultdict(list)
    for minute, crowd in sorted(crowds.items()):
        if len(crowd) >= CROWD:
            alike[tuple(crowd)].append(minute)
    fullest = sorted(alike.items(), key=lambda one: (-len(one[0]), one[1]))
    for number, (names, minutes) in enumerate(fullest[:MOST_CROWDS], start=1):
        more = f" and in {len(minutes) - 1} more of the next 24 hours" if len(minutes) > 1 else ""
        message = (
            f"{len(names):,} schedules fire in one minute, {_told(minutes[0], book.timezone)}{more}: {_few(names)}"
        )
        hint = "Give them (or defaults) spread: 5m, so that their starts lie apart."
        if number == MOST_CROWDS and len(fullest) > MOST_CROWDS:
            hint += f" {len(fullest) - MOST_CROWDS:,} further crowds are not listed."
        yield document.fault(("schedules", names[0], "when"), "crowded-minute", message, hint, schedule=names[0])


def _collisions(document: Document, book: Book, now: dt.datetime) -> Iterator[Fault]:
    """Schedules of one exclusive group that fire in the same minute; the first minute of each pair."""
    groups: defaultdict[str, list[ScheduleSpec]] = defaultdict(list)
    for spec in book.schedules.values():
        if spec.exclusive is not None and not _is_held(spec) and spec.spread < MINUTE:
            groups[spec.exclusive].append(spec)
    ahead = _AskedOnce(
        lambda spec: [_minute(moment) for moment in islice(fire_times(spec, now, now + MONTH), GROUP_FIRES)]
    )
    looked_at = 0
    for group, members in groups.items():
        if len(members) < 2:
            continue
        first: dict[dt.datetime, str] = {}
        for spec in members:
            if looked_at > MOST_LOOKED_AT:
                return
            minutes = ahead(spec)
            looked_at += len(minutes) + 5 * len(spec.calendars)  # to look up a month's days in one costs as much as 5
            shared = next((minute for minute in minutes if minute in first), None)
            for minute in minutes:
                first.setdefault(minute, spec.name)
            if shared is not None:
                message = (
                    f"schedule {shown(spec.name)} and schedule {shown(first[shared])} of the group {shown(group)} fire "
                    f"in the same minute, {_told(shared, book.timezone)}"
                )
                hint = "One waits for the other, and its grace runs meanwhile; give one of them another time."
                yield document.fault(
                    ("schedules", spec.name, "exclusive"), "same-minute", message, hint, schedule=spec.name
                )


# --- intervals ------------------------------------------------------------------------------------------------------


class _Intervals:
    """The shortest intervals of schedules, among so many fire times of the next month."""

    def __init__(self, now: dt.datetime) -> None:
        self.now = now
        self.looked_at = 0  # fire times
        self.shortest = _AskedOnce(self._shortest)

    def shorter_than(self, run: dt.timedelta, spec: ScheduleSpec) -> tuple[int | None, dt.timedelta] | None:
        """An interval, and which entry of `when` has it; None for the entry: two of them together."""
        for number, entry in enumerate(spec.when if len(spec.when) > 1 else ()):
            interval = self.shortest(spec.model_copy(update={"when": (entry,)}))
            if interval is not None and interval < run:
                return number, interval
        interval = self.shortest(spec)
        return (None, interval) if interval is not None and interval < run else None

    def _shortest(self, spec: ScheduleSpec) -> dt.timedelta | None:
        moments = list(islice(fire_times(spec, self.now, self.now + MONTH), ENOUGH_FIRES))
        self.looked_at += len(moments) + 5 * len(spec.calendars)
        return min((later - earlier for earlier, later in pairwise(moments)), default=None)


def _least_interval(spec: ScheduleSpec) -> dt.timedelta:
    """No interval is shorter, as far as can be told without looking for fire times."""
    if len(spec.when) > 1:
        return SECOND
    entry = spec.when[0]
    if isinstance(entry, Every):  # one that does not divide the day starts anew at midnight
        return SECOND if dt.timedelta(days=1) % entry.every else entry.every
    if isinstance(entry, At) and len(entry.at) == 1:
        return dt.timedelta(hours=20)  # a day, less what a clock change may take of it
    return MINUTE


def _rounded(run: dt.timedelta) -> str:
    """Such as 18m, 1h20m, 45s: nobody needs the seconds of hours."""
    unit = 60 if run >= dt.timedelta(minutes=10) else 1
    return format_duration(dt.timedelta(seconds=max(1, round(run.total_seconds() / unit) * unit)))


def _minute(moment: dt.datetime) -> dt.datetime:
    return moment.replace(second=0, microsecond=0)


def _told(moment: dt.datetime, timezone: str) -> str:
    return f"{moment.astimezone(zone_named(timezone)):%Y-%m-%d %H:%M} ({timezone})"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


# --- clock changes --------------------------------------------------------------------------------------------------


def _touched(spec: ScheduleSpec, now: dt.datetime) -> list[tuple[dt.datetime, str]]:
    """The first fire time that each change touches, and what happens to it."""
    zone = zone_named(spec.timezone)
    parts = [part for part in trigger_of(spec).parts if not part.follows_real_time]
    found = []
    for before, after in pairwise(stretches(zone, now, now + YEAR)):
        change, step = before.end, after.offset - before.offset
        if not now < change <= now + YEAR or not step:
            continue
        # local times that are skipped, or come twice, lie between these two
        low = (change + min(before.offset, after.offset)).replace(tzinfo=None)
        high = low + abs(step)
        days = (low.date(), high.date())
        if not any(low <= wall < high for part in parts for wall in part.wall_times(*days)):
            continue
        begin, end = (change, change) if step > dt.timedelta(0) else (change + step, change - SECOND)
        touched = [(at, note) for at in fire_times(spec, begin - EVE, end) if _is_news(note := dst_note(spec, at))]
        if touched:
            more = f" (and {len(touched) - 1} more like it)" if len(touched) > 1 else ""
            found.append((touched[0][0], touched[0][1] + more))
    return found


def _is_news(note: str) -> bool:
    return bool(note) and "this is the" not in note
