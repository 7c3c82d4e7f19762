"""When a schedule fires, how far its starts are spread, and what clock changes do to it.

Pure: the caller brings the moments.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

from scheduler.clock import MICROSECOND
from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.times.trigger_base import Trigger
from scheduler.rules.times.triggers import trigger_of
from scheduler.rules.times.zones import SECOND, is_repeated, offset_at

MILLISECOND = dt.timedelta(milliseconds=1)


def fire_times(spec: ScheduleSpec, after: dt.datetime, until: dt.datetime | None = None) -> Iterator[dt.datetime]:
    """The fire times after `after`, up to and including `until`; lazily, in order, each once.

    Keeps to the spec's own bounds, but not to `max_runs`: how many there have been stands in SQL.
    """
    return trigger_of(spec).fire_times(after, until)


def spread_offset(
    spec: ScheduleSpec, fire_time: dt.datetime, next_fire_time: dt.datetime | None = None
) -> dt.timedelta:
    """How long after `fire_time` the occurrence is due; whole milliseconds, less than `spec.spread`.

    A fixed share, from the hash of the schedule's name, of the spread or of the time until the next fire time,
    whichever is shorter: so no due time ever reaches the next fire time.
    """
    span = spec.spread
    if next_fire_time is not None:
        span = min(span, next_fire_time - fire_time)
    share = int.from_bytes(hashlib.sha256(spec.name.encode()).digest()[:4])  # of 2 ** 32
    return (max(span, dt.timedelta(0)) // MILLISECOND * share >> 32) * MILLISECOND


def dst_note(spec: ScheduleSpec, fire_time: dt.datetime) -> str:
    """What a clock change does to this fire time, for people; "" when nothing, as nearly always.

    Such as «clocks go forward: 02:30 does not exist, runs at 03:00».
    """
    zone = ZoneInfo(spec.timezone)
    wall = fire_time.astimezone(zone).replace(tzinfo=None)
    first_pass = wall.replace(fold=0)
    step = offset_at(fire_time, zone) - offset_at(fire_time - SECOND, zone)
    if step > dt.timedelta(0):
        return _note_forward(_parts_firing(spec, fire_time), first_pass - step, first_pass)
    if is_repeated(first_pass, zone):
        return _note_back(_parts_firing(spec, fire_time), wall)
    return ""


def _parts_firing(spec: ScheduleSpec, fire_time: dt.datetime) -> list[Trigger]:
    return [
        part
        for part in trigger_of(spec).parts
        if next(part.fire_times(fire_time - MICROSECOND, fire_time), None) is not None
    ]


def _note_forward(parts: Sequence[Trigger], gap_start: dt.datetime, gap_end: dt.datetime) -> str:
    """`gap_start` is the first local time that is skipped, `gap_end` the first that is not."""
    skipped: set[dt.datetime] = set()
    for part in parts:
        skipped.update(
            wall for wall in part.wall_times(gap_start.date(), gap_end.date()) if gap_start <= wall < gap_end
        )
    if not skipped:
        return ""
    walls = sorted(skipped)
    runs_at = _clock_face(gap_end) + (" the next day" if walls[0].date() < gap_end.date() else "")
    if len(walls) == 1:
        return f"clocks go forward: {_clock_face(walls[0])} does not exist, runs at {runs_at}"
    names = f"{_clock_face(walls[0])} and {_clock_face(walls[1])}"
    if len(walls) > 2:
        names = f"{_clock_face(walls[0])} to {_clock_face(walls[-1])}"
    return f"clocks go forward: {names} do not exist, runs once at {runs_at}"


def _note_back(parts: Sequence[Trigger], wall: dt.datetime) -> str:
    """`wall` is a local time that comes twice; its `fold` tells which coming this is."""
    twice = f"clocks go back: {_clock_face(wall)} comes twice, "
    if not any(part.follows_real_time for part in parts):
        return twice + "runs the first time"
    return twice + ("this is the second time" if wall.fold else "this is the first time")


def _clock_face(wall: dt.datetime) -> str:
    return f"{wall:%H:%M:%S}" if wall.second else f"{wall:%H:%M}"
