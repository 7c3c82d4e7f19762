"""What every trigger can answer, however it finds its fire times; and where a search for one ends."""

from __future__ import annotations

import datetime as dt
from abc import abstractmethod
from collections.abc import Iterator

from apscheduler.triggers.base import BaseTrigger

from scheduler.clock import MICROSECOND
from scheduler.rules.times.zones import DAY

# How far a search for the next fire time looks. The rarest rule people write, the 29th of February on one weekday,
# comes after 40 years when a century without leap day lies between.
SEARCH = 41 * 366 * DAY

# Spans of this length are searched first, longer ones while nothing is found: so that an entry that fires next in
# years does not hold up the others of its union.
FIRST_SPAN = 64 * DAY

# Outside these no arithmetic with zones is safe from overflow, and nothing is ever planned.
EARLIEST = dt.datetime(1900, 1, 1, tzinfo=dt.UTC)
LATEST = dt.datetime(9900, 1, 1, tzinfo=dt.UTC)


class Trigger(BaseTrigger):  # type: ignore[misc]  # APScheduler carries no types
    """A rule that yields fire times."""

    follows_real_time: bool  # so that it fires in both comings of a repeated hour

    @abstractmethod
    def _search(self, after: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
        """All fire times after `after`, up to and including `end` (UTC), in order; may name one twice in a row."""

    def fire_times(self, after: dt.datetime, until: dt.datetime | None = None) -> Iterator[dt.datetime]:
        """The fire times after `after`, up to and including `until`; lazily, in order, each once.

        Ends when 41 years bring none.
        """
        stop = LATEST if until is None else max(EARLIEST, min(until, LATEST)).astimezone(dt.UTC)
        previous = begin = max(EARLIEST, min(after, LATEST)).astimezone(dt.UTC)
        span, quiet = FIRST_SPAN, 0 * DAY
        while begin < stop and quiet < SEARCH:
            end = min(begin + span, stop)
            for fire_time in self._search(begin, end):
                if fire_time > previous:
                    previous = fire_time
                    yield fire_time
            if previous > begin:
                quiet = 0 * DAY
            else:
                span, quiet = 2 * span, quiet + span
            begin = end

    def wall_times(self, first: dt.date, last: dt.date) -> Iterator[dt.datetime]:
        """The naive local times asked for from day `first` through `last`, whether or not clocks show them.

        Empty for what follows real time.
        """
        return iter(())

    def next_after(self, moment: dt.datetime) -> dt.datetime | None:
        """The first fire time after `moment`; None when 41 years bring none."""
        return next(self.fire_times(moment), None)

    def get_next_fire_time(self, previous_fire_time: dt.datetime | None, now: dt.datetime) -> dt.datetime | None:
        """APScheduler's question. Once there is a previous time `now` is not read: a planner looks ahead of it."""
        if previous_fire_time is not None:
            return self.next_after(previous_fire_time)
        return self.next_after(now - MICROSECOND)


def all_days(first: dt.date, last: dt.date) -> Iterator[dt.date]:
    """The days from `first` through `last`."""
    for number in range(first.toordinal(), last.toordinal() + 1):
        yield dt.date.fromordinal(number)
