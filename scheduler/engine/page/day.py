"""A day, schedule by schedule: what ran, what did not, what is still to come, and what stood in the way.

The cost is bounded: some schedules at a time, and of those that fire often only how many of which state each quarter
of an hour has.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, ColumnElement, and_, case, func, or_, select, type_coerce
from sqlalchemy.orm import Session

from scheduler.clock import MICROSECOND, to_micros
from scheduler.engine.answers.status import SILENT_AFTER
from scheduler.rules.mail import alerts
from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.states import PLANNED, RUNNING, SKIPPED
from scheduler.rules.times.calendars import blackout_windows
from scheduler.rules.times.fire_times import fire_times
from scheduler.rules.times.words import in_words
from scheduler.rules.times.zones import first_moment, stretches
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.mail_tables import Alert
from scheduler.store.schedules import pause_of
from scheduler.store.tables import Gap, Schedule, Task

DAY = dt.timedelta(days=1)
LANES = 20  # of one page: with all their marks it stays below 100 kB
MOST_MARKS = 24  # of a lane, one by one; what fires more often is shown by quarters of an hour
QUARTER = dt.timedelta(minutes=15)
MOST_AHEAD = 100  # fire times of one schedule that are foretold; of more only the quarters that have any
WRITTEN_LATE = dt.timedelta(seconds=60)  # a row written so long after its fire time: nobody planned at the time


@dataclass(frozen=True)
class Span:
    """A stretch of the day, and what it is."""

    start: dt.datetime
    end: dt.datetime
    why: str = ""


@dataclass(frozen=True)
class LaneMark:
    """One run, or `count` of them in the same quarter of an hour (0: nobody has counted); without a task it is still
    to come."""

    state: str
    start: dt.datetime
    end: dt.datetime
    count: int = 1
    task_id: int | None = None


@dataclass(frozen=True)
class Lane:
    """A schedule's day."""

    name: str
    words: str
    state: str  # active, paused, parked
    marks: tuple[LaneMark, ...]
    is_summed: bool  # whether marks stand for quarters of an hour
    blackouts: tuple[Span, ...]
    gaps: tuple[Span, ...]


@dataclass(frozen=True)
class Day:
    date: dt.date
    zone: str
    span: Span
    now: dt.datetime
    lanes: tuple[Lane, ...]
    clock_changes: tuple[Span, ...]  # `start` is the moment, `why` what happens
    outages: tuple[Span, ...]
    found: int
    page: int  # from 1
    pages: int


def day_of(database: Database, zone_name: str, date: dt.date | None = None, query: str = "", page: int = 1) -> Day:
    """The local day `date` in that zone, today unless given; of the schedules whose name holds `query`."""
    zone = ZoneInfo(zone_name)
    with database.read() as session:
        now = schedules.now(session)
        date = date or now.astimezone(zone).date()
        span = span_of(date, zone)
        conditions = [Schedule.retired_at.is_(None), *_holds(query)]
        found = session.execute(select(func.count()).select_from(Schedule).where(*conditions)).scalar_one()
        pages = max(1, -(-found // LANES))
        page = min(max(page, 1), pages)
        some = session.scalars(
            select(Schedule).where(*conditions).order_by(Schedule.name).limit(LANES).offset((page - 1) * LANES)
        ).all()
        past = _Past(session, [one.id for one in some], span, now)
        lanes = tuple(_lane(one, past, span, now) for one in some)
        outages = _merged([*_silences(session, span, now), *past.standstills()])
    return Day(date, zone_name, span, now, lanes, tuple(clock_changes(zone, span)), outages, found, page, pages)


def span_of(date: dt.date, zone: ZoneInfo) -> Span:
    """From midnight to midnight: 23, 24 or 25 hours."""
    start, end = (first_moment(dt.datetime.combine(day, dt.time()), zone) for day in (date, date + DAY))
    return Span(start, end)


def clock_changes(zone: ZoneInfo, span: Span) -> Iterator[Span]:
    """Each change of the clocks within the span, with what it does to local time."""
    before: dt.timedelta | None = None
    for stretch in stretches(zone, span.start, span.end):
        if before is not None and span.start <= stretch.start < span.end:
            was, becomes = ((stretch.start + offset).strftime("%H:%M") for offset in (before, stretch.offset))
            way = "forward" if stretch.offset > before else "back"
            yield Span(stretch.start, stretch.start, f"clocks go {way}, {was} becomes {becomes}")
        before = stretch.offset


def _holds(query: str) -> list[ColumnElement[bool]]:
    return [Schedule.name.icontains(query, autoescape=True)] if query else []


# --- a lane ---------------------------------------------------------------------------------------------------------


def _lane(schedule: Schedule, past: _Past, span: Span, now: dt.datetime) -> Lane:
    spec = ScheduleSpec.model_validate(schedule.spec)
    pause = pause_of(schedule)
    state = "parked" if schedule.parked is not None else "active" if pause is None else "paused"
    blackout = spec.blackout
    windows = blackout_windows(blackout, spec.calendars, spec.timezone, span.start, span.end) if blackout else []
    ahead = [] if state == "parked" else _ahead(schedule, spec, past, span, now)
    if blackout is not None and blackout.then == "skip":
        ahead = [_skipped_within(mark, windows) for mark in ahead]
    marks = [*past.marks(schedule.id), *ahead]
    is_summed = past.is_summed(schedule.id) or len(ahead) > MOST_MARKS or any(mark.count == 0 for mark in ahead)
    return Lane(
        schedule.name,
        in_words(spec),
        state,
        tuple(marks),
        is_summed,
        tuple(Span(*window) for window in windows),
        tuple(past.gaps(schedule.id)),
    )


def _ahead(schedule: Schedule, spec: ScheduleSpec, past: _Past, span: Span, now: dt.datetime) -> list[LaneMark]:
    """The fire times still to come; of too many, the quarters of an hour that have any."""
    after = max(span.start - MICROSECOND, now, schedule.in_force_since)
    pause = pause_of(schedule)
    if pause is not None:
        if pause.until is None:
            return []
        after = max(after, pause.until)
    last, has_row = span.end - MICROSECOND, past.ahead(schedule.id)
    foretold = list(islice(fire_times(spec, after, last), MOST_AHEAD + 1))
    if len(foretold) <= MOST_AHEAD:
        return [LaneMark(PLANNED, moment, moment) for moment in foretold if moment not in has_row]
    return list(_quarters_ahead(spec, after, span))


def _skipped_within(mark: LaneMark, windows: Iterable[tuple[dt.datetime, dt.datetime, str]]) -> LaneMark:
    """The same, as what a blackout will make of it."""
    is_held = any(start <= mark.start < end for start, end, _ in windows)
    return replace(mark, state=SKIPPED) if is_held else mark


def _quarters_ahead(spec: ScheduleSpec, after: dt.datetime, span: Span) -> Iterator[LaneMark]:
    start = span.start
    while start < span.end:
        end = min(start + QUARTER, span.end)
        if end > after and next(fire_times(spec, max(start - MICROSECOND, after), end - MICROSECOND), None):
            yield LaneMark(PLANNED, start, end, 0)
        start = end


# --- what is on record ----------------------------------------------------------------------------------------------


class _Past:
    """The rows of some schedules whose fire time is in the span."""

    def __init__(self, session: Session, ids: Sequence[int], span: Span, now: dt.datetime) -> None:
        self._span = span
        self._now = now
        self._sums: dict[int, list[LaneMark]] = {}
        self._rows: dict[int, list[Any]] = {}
        self._gaps: dict[int, list[Span]] = {}
        self._late: list[tuple[dt.datetime, dt.datetime]] = []  # from the first fire time until its row was written
        if ids:
            self._count(session, ids)
            few = [one for one in ids if sum(mark.count for mark in self._sums.get(one, ())) <= MOST_MARKS]
            self._read(session, few)
            self._read_gaps(session, ids)

    def marks(self, schedule_id: int) -> list[LaneMark]:
        if self.is_summed(schedule_id):
            return self._sums[schedule_id]
        return [self._mark(row) for row in self._rows.get(schedule_id, ())]

    def _mark(self, row: Any) -> LaneMark:
        start = row.started_at or row.fire_time
        end = self._now if row.state == RUNNING else row.finished_at or row.fire_time
        return LaneMark(row.state, start, max(start, end), 1, row.id)

    def is_summed(self, schedule_id: int) -> bool:
        return schedule_id in self._sums and schedule_id not in self._rows

    def ahead(self, schedule_id: int) -> set[dt.datetime]:
        """Fire times to come that have a row, and so a mark, already."""
        return {row.fire_time for row in self._rows.get(schedule_id, ())}

    def gaps(self, schedule_id: int) -> list[Span]:
        return self._gaps.get(schedule_id, [])

    def standstills(self) -> Iterator[Span]:
        """When nobody planned: rows that were written long after their fire times tell it."""
        for began, ended in self._late:
            yield Span(began, ended, "nobody planned: the service was down")
        for gaps in self._gaps.values():
            yield from gaps

    def _count(self, session: Session, ids: Sequence[int]) -> None:
        quarter = (_number(Task.fire_time) - to_micros(self._span.start)) // (QUARTER // MICROSECOND)
        is_late = and_(
            Task.origin.in_(("schedule", "catch_up")),
            Task.state != SKIPPED,
            _number(Task.created_at) - _number(Task.fire_time) > WRITTEN_LATE // MICROSECOND,
        )
        query = (
            select(
                Task.schedule_id,
                quarter.label("quarter"),
                Task.state,
                func.count().label("number"),
                func.min(case((is_late, Task.fire_time))).label("late_from"),
                func.max(case((is_late, Task.created_at))).label("late_until"),
            )
            .where(*self._within(ids))
            .group_by(Task.schedule_id, quarter, Task.state)
            .order_by(quarter)
        )
        for row in session.execute(query):
            start = self._span.start + row.quarter * QUARTER
            mark = LaneMark(row.state, start, start + QUARTER, row.number)
            self._sums.setdefault(row.schedule_id, []).append(mark)
            if row.late_from is not None:
                self._late.append((row.late_from, row.late_until))

    def _read(self, session: Session, ids: Sequence[int]) -> None:
        columns = (Task.id, Task.schedule_id, Task.state, Task.fire_time, Task.started_at, Task.finished_at)
        query = select(*columns).where(*self._within(ids)).order_by(Task.fire_time)
        for row in session.execute(query) if ids else ():
            self._rows.setdefault(row.schedule_id, []).append(row)

    def _read_gaps(self, session: Session, ids: Sequence[int]) -> None:
        query = select(Gap.schedule_id, Gap.first, Gap.last, Gap.count).where(
            Gap.schedule_id.in_(ids), Gap.first < self._span.end, Gap.last >= self._span.start
        )
        for row in session.execute(query):
            why = f"{row.count:,} fire times passed in a standstill, too many for a row each"
            self._gaps.setdefault(row.schedule_id, []).append(_cut(Span(row.first, row.last, why), self._span))

    def _within(self, ids: Sequence[int]) -> list[ColumnElement[bool]]:
        return [Task.schedule_id.in_(ids), Task.fire_time >= self._span.start, Task.fire_time < self._span.end]


def _number(column: Any) -> Any:
    return type_coerce(column, BigInteger)


# --- outages --------------------------------------------------------------------------------------------------------

SILENCES = {
    alerts.SILENT_PART: "a part of the service was silent",
    alerts.NO_WORKER: "a kind had no worker",
}


def _silences(session: Session, span: Span, now: dt.datetime) -> Iterator[Span]:
    query = (
        select(Alert.event, Alert.opened_at, Alert.closed_at, Alert.details)
        .where(
            Alert.event.in_(SILENCES),
            Alert.opened_at < span.end,
            or_(Alert.closed_at.is_(None), Alert.closed_at > span.start),
        )
        .order_by(Alert.opened_at)
        .limit(100)
    )
    for row in session.execute(query):
        name = row.details.get("name") or ""
        why = SILENCES[row.event] + (f": {name}" if name else "")
        before = SILENT_AFTER if row.event == alerts.SILENT_PART else dt.timedelta(0)  # it is told so much later
        yield _cut(Span(row.opened_at - before, row.closed_at or now, why), span)


def _cut(one: Span, span: Span) -> Span:
    return Span(max(one.start, span.start), min(one.end, span.end), one.why)


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Those that touch as one, with all their reasons."""
    merged: list[Span] = []
    for one in sorted(spans, key=lambda span: span.start):
        if merged and one.start <= merged[-1].end:
            last = merged[-1]
            why = last.why if one.why in last.why else f"{last.why}; {one.why}"
            merged[-1] = Span(last.start, max(last.end, one.end), why)
        else:
            merged.append(one)
    return tuple(merged)
