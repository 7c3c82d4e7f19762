"""The triggers: which moments a schedule's `when` names.

Each answers two questions: APScheduler's `get_next_fire_time`, and our own `next_after` and `fire_times`, in which
«after» is always strict. Fire times are aware, UTC, whole seconds. Clock changes are treated as Debian's cron does:
a wall time that a gap skips fires at the gap's end, one that a fold repeats fires the first time; `every`, and a cron
line with a star in hour or minute, follow real time.
"""

from __future__ import annotations

import datetime as dt
import heapq
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from zoneinfo import ZoneInfo

from scheduler.clock import MICROSECOND
from scheduler.rules.spec import At, Calendar, Cron, DayRule, Every, Once, ScheduleSpec, When
from scheduler.rules.times.calendars import matches_day
from scheduler.rules.times.crontab import crontab_of
from scheduler.rules.times.trigger_base import Trigger, all_days
from scheduler.rules.times.zones import DAY, SECOND, first_moment, stretches

EVERY_DAY = DayRule()


class WallTimeTrigger(Trigger):
    """Given wall times on given local days, each fired once."""

    follows_real_time = False

    def __init__(self, zone: ZoneInfo, times: Sequence[dt.timedelta]) -> None:
        self.zone = zone
        self.times = tuple(times)  # since midnight, sorted

    @abstractmethod
    def _days(self, first: dt.date, last: dt.date) -> Iterator[dt.date]:
        """The local days that count, from `first` through `last`."""

    def wall_times(self, first: dt.date, last: dt.date) -> Iterator[dt.datetime]:
        if self.follows_real_time:
            return
        for day in self._days(first, last):
            midnight = dt.datetime.combine(day, dt.time())
            yield from (midnight + time for time in self.times)

    def _search(self, after: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
        # What local clocks have shown already has fired: first_moment never decreases.
        shown = after.astimezone(self.zone).replace(tzinfo=None, fold=0)
        # One day more: where a fold passes midnight, `end` may be back on the day before.
        for day in self._days(shown.date(), end.astimezone(self.zone).date() + DAY):
            midnight = dt.datetime.combine(day, dt.time())
            for time in self.times[bisect_right(self.times, shown - midnight) :]:
                fire_time = first_moment(midnight + time, self.zone)
                if fire_time > end:
                    return
                yield fire_time


class AtTrigger(WallTimeTrigger):
    """Fires at local times of day."""

    def __init__(self, at: At, zone: ZoneInfo, calendars: Mapping[str, Calendar] | None = None) -> None:
        super().__init__(zone, sorted({_since_midnight(time) for time in at.at}))
        self.days = at.days
        self.calendars = dict(calendars or {})

    def _days(self, first: dt.date, last: dt.date) -> Iterator[dt.date]:
        return _filtered(all_days(first, last), self.days, self.calendars)


class CronTrigger(WallTimeTrigger):
    """Fires at the times of a five-field crontab line, as Debian's cron reads it (crontab(5), cron(8) NOTES).

    With a star in hour or minute it fires whenever local clocks show a time that matches: in both comings of a
    repeated hour, and not at all for a skipped one. Raises ValueError for a line that cannot be read.
    """

    def __init__(self, cron: Cron, zone: ZoneInfo, calendars: Mapping[str, Calendar] | None = None) -> None:
        self.crontab = crontab_of(cron.cron, cron.match_days)
        self.follows_real_time = self.crontab.follows_real_time
        super().__init__(zone, self.crontab.times)
        self.days = cron.days
        self.calendars = dict(calendars or {})

    def _days(self, first: dt.date, last: dt.date) -> Iterator[dt.date]:
        return _filtered(self.crontab.days(first, last), self.days, self.calendars)

    def _search(self, after: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
        if not self.follows_real_time:
            yield from super()._search(after, end)
            return
        for stretch in stretches(self.zone, after, end):
            begin = max(after + MICROSECOND, stretch.start)
            for day in self._days((begin + stretch.offset).date(), (stretch.end + stretch.offset).date()):
                midnight = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC) - stretch.offset
                for time in self.times[bisect_right(self.times, begin - MICROSECOND - midnight) :]:
                    fire_time = midnight + time
                    if fire_time >= stretch.end:
                        break
                    if fire_time > end:
                        return
                    yield fire_time


class EveryTrigger(Trigger):
    """Fires each `every` of elapsed time from local midnight on; the grid starts anew at each local midnight.

    Where midnight does not exist the day starts with its first moment. A whole number of days counts local days from
    1970-01-01 and fires at their midnights; what is longer than a day and no whole number of days counts elapsed time
    from the local midnight of 1970-01-01. Bounds of `between` are wall time, both included; the part of a window that
    lies past midnight belongs to the day on which the window began.
    """

    follows_real_time = True

    def __init__(self, every: Every, zone: ZoneInfo, calendars: Mapping[str, Calendar] | None = None) -> None:
        if every.every < SECOND or every.every % SECOND:
            raise ValueError(f"every {every.every} is not a whole number of seconds, at least one")
        self.every = every.every
        self.between = every.between
        self.days = every.days
        self.calendars = dict(calendars or {})
        self.zone = zone

    def wall_times(self, first: dt.date, last: dt.date) -> Iterator[dt.datetime]:
        """The midnights at which the grid starts anew: the only wall times it asks for."""
        if self.every <= DAY or not self.every % DAY:
            for day in all_days(first, last):
                yield dt.datetime.combine(day, dt.time())

    def _search(self, after: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
        for candidate in self._grid(after, end):
            if candidate > end:
                return
            if candidate > after and self._counts(candidate):
                yield candidate

    def _grid(self, after: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
        """The bare grid from about `after` to `end`, less whole days that cannot count."""
        if self.every > DAY and self.every % DAY:
            anchor = self._day_start(dt.date(1970, 1, 1))
            yield from _steps(anchor, self.every, after, end + SECOND)
            return
        first, last = after.astimezone(self.zone).date(), end.astimezone(self.zone).date() + DAY
        if self.every >= DAY:
            whole_days = self.every // DAY
            for day in all_days(first, last):
                if (day - dt.date(1970, 1, 1)).days % whole_days == 0:
                    yield self._day_start(day)
            return
        day_start = self._day_start(first)
        for day in all_days(first, last):
            next_start = self._day_start(day + DAY)
            # The day before counts as well: its window may pass midnight, or a fold lead back into it.
            if self._day_counts(day) or self._day_counts(day - DAY):
                yield from _steps(day_start, self.every, after, next_start)
            day_start = next_start

    def _counts(self, moment: dt.datetime) -> bool:
        if self.between is None and self.days == EVERY_DAY:
            return True
        local = moment.astimezone(self.zone)
        day, time = local.date(), local.time()
        if self.between is not None:
            first, last = self.between
            if first <= last:
                if not first <= time <= last:
                    return False
            elif time <= last:
                day -= DAY
            elif time < first:
                return False
        return self._day_counts(day)

    def _day_counts(self, day: dt.date) -> bool:
        return self.days == EVERY_DAY or matches_day(self.days, self.calendars, day)

    def _day_start(self, day: dt.date) -> dt.datetime:
        return first_moment(dt.datetime.combine(day, dt.time()), self.zone)


class OnceTrigger(Trigger):
    """Fires at one local moment; in a gap at its end, in a fold the first time."""

    follows_real_time = False

    def __init__(self, once: Once, zone: ZoneInfo) -> None:
        self.wall = once.once.replace(microsecond=0)
        self.fire_time = first_moment(self.wall, zone)

    def wall_times(self, first: dt.date, last: dt.date) -> Iterator[dt.datetime]:
        if first <= self.wall.date() <= last:
            yield self.wall

    def _search(self, after: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
        if after < self.fire_time <= end:
            yield self.fire_time

    def next_after(self, moment: dt.datetime) -> dt.datetime | None:
        """The fire time, if it is still to come; however far away."""
        return self.fire_time if moment < self.fire_time else None


class UnionTrigger(Trigger):
    """Fires when any of its parts does, equal instants once; not before `start`, and before `until`."""

    def __init__(
        self, parts: Sequence[Trigger], start: dt.datetime | None = None, until: dt.datetime | None = None
    ) -> None:
        self.parts = tuple(parts)
        self.follows_real_time = any(part.follows_real_time for part in self.parts)
        self.start = start
        self.until = until

    def _search(self, after: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
        return heapq.merge(*(part._search(after, end) for part in self.parts))

    def fire_times(self, after: dt.datetime, until: dt.datetime | None = None) -> Iterator[dt.datetime]:
        if self.start is not None:
            after = max(after, self.start - MICROSECOND)
        if self.until is not None:
            until = self.until - MICROSECOND if until is None else min(until, self.until - MICROSECOND)
        return super().fire_times(after, until)


def trigger_of(spec: ScheduleSpec) -> UnionTrigger:
    """The trigger of a schedule: the union of its `when` entries within its bounds. `max_runs` is the engine's."""
    return _compiled(spec.when, spec.timezone, tuple(spec.calendars.items()), spec.start, spec.until)


@lru_cache(maxsize=20_000)  # twice the schedules one service is built for; a trigger holds about a kilobyte
def _compiled(
    when: tuple[When, ...],
    timezone: str,
    calendars: tuple[tuple[str, Calendar], ...],
    start: dt.datetime | None,
    until: dt.datetime | None,
) -> UnionTrigger:
    zone = ZoneInfo(timezone)
    parts = [part_of(entry, zone, dict(calendars)) for entry in when]
    return UnionTrigger(parts, start, until)


def part_of(entry: When, zone: ZoneInfo, calendars: Mapping[str, Calendar]) -> Trigger:
    """The trigger of one `when` entry."""
    if isinstance(entry, Every):
        return EveryTrigger(entry, zone, calendars)
    if isinstance(entry, At):
        return AtTrigger(entry, zone, calendars)
    if isinstance(entry, Cron):
        return CronTrigger(entry, zone, calendars)
    return OnceTrigger(entry, zone)


def _steps(anchor: dt.datetime, step: dt.timedelta, after: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
    """anchor, anchor + step, …: those after `after` and before `end`."""
    moment = anchor if after < anchor else anchor + ((after - anchor) // step + 1) * step
    while moment < end:
        yield moment
        moment += step


def _filtered(days: Iterator[dt.date], rule: DayRule, calendars: Mapping[str, Calendar]) -> Iterator[dt.date]:
    if rule == EVERY_DAY:
        return days
    return (day for day in days if matches_day(rule, calendars, day))


def _since_midnight(time: dt.time) -> dt.timedelta:
    return dt.timedelta(hours=time.hour, minutes=time.minute, seconds=time.second)
