"""Local time and UTC: which moment a wall time names, and where a zone's offset changes.

The zone database is asked only for offsets; nothing here searches for longer than a fixed number of steps.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

SECOND = dt.timedelta(seconds=1)
DAY = dt.timedelta(days=1)


class Stretch(NamedTuple):
    """A span of UTC, `end` not included, in which a zone's offset stays the same."""

    start: dt.datetime
    end: dt.datetime
    offset: dt.timedelta


def offset_at(moment: dt.datetime, zone: ZoneInfo) -> dt.timedelta:
    """How far local clocks are ahead of UTC at that moment."""
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def first_moment(wall: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """The first moment at which local clocks show `wall` (naive) or later.

    So a wall time that a gap skips gives the gap's end, and one that a fold repeats its first coming. Never
    decreases as `wall` grows.
    """
    before, after = _offsets(wall, zone)
    if before < after:
        return _change_within(_as_utc(wall - after), _as_utc(wall - before), zone)
    return _as_utc(wall - before)


def last_moment(wall: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """The moment from which on local clocks never again show less than `wall` (naive)."""
    before, after = _offsets(wall, zone)
    if before < after:
        return _change_within(_as_utc(wall - after), _as_utc(wall - before), zone)
    return _as_utc(wall - after)


def is_skipped(wall: dt.datetime, zone: ZoneInfo) -> bool:
    """Whether no local clock ever shows `wall`."""
    before, after = _offsets(wall, zone)
    return before < after


def is_repeated(wall: dt.datetime, zone: ZoneInfo) -> bool:
    """Whether local clocks show `wall` twice."""
    before, after = _offsets(wall, zone)
    return before > after


def stretches(zone: ZoneInfo, start: dt.datetime, end: dt.datetime) -> Iterator[Stretch]:
    """What lies between `start` and `end`, in order and without holes; the first and last may reach beyond."""
    for year in range(start.year, end.year + 1):
        for stretch in _stretches_of_year(zone, year):
            if stretch.end > start and stretch.start <= end:
                yield stretch


@lru_cache(maxsize=4096)  # some 100 zones for 40 years; a year costs a third of a millisecond to find
def _stretches_of_year(zone: ZoneInfo, year: int) -> tuple[Stretch, ...]:
    year_end = dt.datetime(year + 1, 1, 1, tzinfo=dt.UTC)
    begin = moment = dt.datetime(year, 1, 1, tzinfo=dt.UTC)
    offset = offset_at(moment, zone)
    found = []
    while moment < year_end:
        # A look a day: no zone has ever changed its clocks twice within a day.
        following = moment + DAY
        if following < year_end or offset_at(year_end - SECOND, zone) != offset:
            look = min(following, year_end - SECOND)
            if offset_at(look, zone) != offset:
                change = _change_within(moment, look, zone)
                found.append(Stretch(begin, change, offset))
                begin, offset = change, offset_at(look, zone)
        moment = following
    found.append(Stretch(begin, year_end, offset))
    return tuple(found)


def _offsets(wall: dt.datetime, zone: ZoneInfo) -> tuple[dt.timedelta, dt.timedelta]:
    """The offsets before and after the change that `wall` falls into; twice the same where there is none."""
    before = wall.replace(tzinfo=zone, fold=0).utcoffset()
    after = wall.replace(tzinfo=zone, fold=1).utcoffset()
    assert before is not None  # a ZoneInfo always knows
    assert after is not None
    return before, after


def _as_utc(naive: dt.datetime) -> dt.datetime:
    return naive.replace(tzinfo=dt.UTC, fold=0)


def _change_within(low: dt.datetime, high: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """The first whole second after `low` that has the offset of `high`; halves the span, so 17 steps a day."""
    new = offset_at(high, zone)
    seconds_low, seconds_high = 0, (high - low) // SECOND
    while seconds_high - seconds_low > 1:
        middle = (seconds_low + seconds_high) // 2
        if offset_at(low + middle * SECOND, zone) == new:
            seconds_high = middle
        else:
            seconds_low = middle
    return low + seconds_high * SECOND
