"""Which rows a schedule's fire times become: planned, skipped or missed, each with its reason.

Pure: the caller brings the moments. `forecast` is what the planner writes; `judge_late` is what becomes of rows that
could not start within their grace.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scheduler.rules.spec import Missed, ScheduleSpec
from scheduler.rules.states import MISSED, PLANNED, SKIPPED
from scheduler.rules.times.calendars import Blackedout, blackout_at
from scheduler.rules.times.durations import format_duration
from scheduler.rules.times.fire_times import fire_times, spread_offset
from scheduler.rules.times.pause import Pause

MOST_ROWS = 1000  # rows of one schedule for one standstill; older ones become one gap record (promise 1)


@dataclass(frozen=True)
class Occurrence:
    """What one fire time becomes."""

    fire_time: dt.datetime
    state: str  # planned, skipped, missed
    due_at: dt.datetime
    start_by: dt.datetime | None = None
    origin: str = "schedule"
    reason_code: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Gap:
    """Fire times of a long standstill that get no row of their own."""

    first: dt.datetime
    last: dt.datetime
    count: int


@dataclass(frozen=True)
class Forecast:
    occurrences: tuple[Occurrence, ...]
    planned_until: dt.datetime | None  # None: the schedule has no fire time left
    gap: Gap | None = None
    runs: int = 0  # fire times that were not skipped: what `runs_left` is counted down by


def forecast(
    spec: ScheduleSpec,
    *,
    planned_until: dt.datetime,
    now: dt.datetime,
    horizon: dt.timedelta,
    pauses: Sequence[Pause] = (),
    runs_left: int | None = None,
) -> Forecast:
    """The occurrences after `planned_until`: all up to `now + horizon`, and at least the next one, so that each
    schedule always shows when it fires next.

    Several pauses may be on at once. While one is, only what is past is told (as skipped): a resume must find the
    future open. At most `MOST_ROWS` of the past get a row.
    """
    paused = _pause_over(pauses, now) is not None
    last = now if paused else now + horizon
    past = _Past()
    future: list[Occurrence] = []
    until: dt.datetime | None = None
    runs = 0
    for fire_time, following in _with_next(fire_times(spec, planned_until, None)):
        if runs == runs_left:
            break
        if fire_time > last and (paused or future):
            until = last
            break
        occurrence = _occurrence(spec, fire_time, following, pauses)
        runs += occurrence.state == PLANNED
        (past if fire_time <= now else future).append(occurrence)
        if fire_time > last:  # the one beyond the horizon that shows when the schedule fires next
            until = fire_time
            break
    return Forecast((*_caught_up(spec, past.newest, now), *future), until, past.gap, runs)


class _Past:
    """The newest MOST_ROWS of what is appended, and the gap that the older ones make."""

    def __init__(self) -> None:
        self.newest: deque[Occurrence] = deque(maxlen=MOST_ROWS)
        self.gap: Gap | None = None

    def append(self, occurrence: Occurrence) -> None:
        if len(self.newest) == MOST_ROWS:
            dropped = self.newest[0].fire_time
            first, count = (self.gap.first, self.gap.count) if self.gap else (dropped, 0)
            self.gap = Gap(first, dropped, count + 1)
        self.newest.append(occurrence)


def _with_next(moments: Iterator[dt.datetime]) -> Iterator[tuple[dt.datetime, dt.datetime | None]]:
    """Each moment with the one after it; None after the last."""
    current = next(moments, None)
    while current is not None:
        following = next(moments, None)
        yield current, following
        current = following


def _occurrence(
    spec: ScheduleSpec, fire_time: dt.datetime, following: dt.datetime | None, pauses: Sequence[Pause]
) -> Occurrence:
    pause = _pause_over(pauses, fire_time)
    if pause is not None:
        return Occurrence(fire_time, SKIPPED, fire_time, reason_code="paused", reason=str(pause))
    due_at = fire_time + spread_offset(spec, fire_time, following)
    if spec.blackout is not None:
        blacked_out = blackout_at(spec.blackout, spec.calendars, spec.timezone, fire_time)
        if blacked_out is not None and (spec.blackout.then == "skip" or blacked_out.endless):
            return Occurrence(fire_time, SKIPPED, fire_time, reason_code="blackout", reason=_because(blacked_out))
        if blacked_out is not None and following is not None and following < blacked_out.end:
            reason = f"{_because(blacked_out)}; a later one runs after it"
            return Occurrence(fire_time, SKIPPED, fire_time, reason_code="blackout", reason=reason)
        if blacked_out is not None:
            due_at = max(due_at, blacked_out.end)
    return Occurrence(fire_time, PLANNED, due_at, start_by=due_at + spec.grace)


def _because(blacked_out: Blackedout) -> str:
    return "blackout" + (f": {blacked_out.why}" if blacked_out.why else "")


def _pause_over(pauses: Sequence[Pause], moment: dt.datetime) -> Pause | None:
    return next((pause for pause in pauses if pause.covers(moment)), None)


def _caught_up(spec: ScheduleSpec, past: Iterable[Occurrence], now: dt.datetime) -> Iterator[Occurrence]:
    """The past ones: those still within their grace as they are, the late ones as `missed` says."""
    past = tuple(past)
    late = {
        one.fire_time: one.due_at
        for one in past
        if one.state == PLANNED and one.start_by is not None and one.start_by < now
    }
    fates = judge_late(spec.missed, late, now)
    for one in past:
        fate = fates.get(one.fire_time)
        if fate is None:
            yield one
        elif fate.start_by is not None:
            yield Occurrence(
                one.fire_time, PLANNED, one.due_at, fate.start_by, "catch_up", fate.reason_code, fate.reason
            )
        else:
            yield Occurrence(one.fire_time, MISSED, one.due_at, None, "schedule", fate.reason_code, fate.reason)


@dataclass(frozen=True)
class Fate:
    """What becomes of a late occurrence: it may still start until `start_by`, or (None) it is missed."""

    start_by: dt.datetime | None
    reason_code: str
    reason: str


def judge_late(policy: Missed, late: Mapping[dt.datetime, dt.datetime], now: dt.datetime) -> dict[dt.datetime, Fate]:
    """The fate of each fire time of one schedule that could not start within its grace, by the schedule's policy.

    `late` has, by fire time, the moment each was due: its lateness is counted from there, since a blackout that it had
    to wait for may be longer than `within`. A late one that still counts may start as long as it is `within`; without
    that limit, for another day at a time.
    """
    limit = policy.within
    young = sorted(moment for moment, due_at in late.items() if limit is None or now - due_at <= limit)
    counted = set({"none": [], "latest": young[-1:], "all": young[-policy.most :]}[policy.run])
    still_young = set(young)  # a thousand late ones looked up in lists of a thousand would be a million looks
    fates = {}
    for moment, due_at in late.items():
        behind = format_duration(dt.timedelta(seconds=round((now - due_at).total_seconds())))
        if moment in counted:
            start_by = now + dt.timedelta(days=1) if limit is None else due_at + limit
            fates[moment] = Fate(start_by, "catch_up", f"caught up {behind} late (missed: {policy.run})")
        else:
            fates[moment] = Fate(None, *_why_missed(policy, moment in still_young, behind))
    return fates


def _why_missed(policy: Missed, is_young: bool, behind: str) -> tuple[str, str]:
    if policy.run == "none":
        return "late", f"could not start within its grace, {behind} late (missed: none)"
    if not is_young and policy.within is not None:
        return "too_old", f"{behind} late, older than {format_duration(policy.within)} (missed: {policy.run}, within)"
    if policy.run == "latest":
        return "superseded", f"{behind} late, and a later one counts instead (missed: latest)"
    return "too_many", f"{behind} late, and {policy.most} newer ones count instead (missed: all, max)"
