"""Whether a history is as promised: schedules, the task table and the diary of what really ran, side by side.

Shares no code with what it judges: fire times come from plain arithmetic or the slow oracle of tests/rules, and what
ran from the lines that the task functions wrote themselves.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from scheduler.rules.spec import When
from tests.rules.times.slow_oracle import slow_fire_times

ENDS = {"succeeded", "failed", "skipped", "missed", "cancelled", "lost"}
MILLISECOND = dt.timedelta(milliseconds=1)  # the diary's
AT_WORK = dt.timedelta(seconds=1)  # after its end was recorded: what a kill may take
AFTER_WAKING = dt.timedelta(seconds=1)  # until a process that was frozen beyond its lease stops itself
# A claim this near to a crash of PostgreSQL may be taken back by it, where that breaks no promise: docs/promise.md, 6.
NEAR_A_CRASH = dt.timedelta(seconds=1)
AFTER_FAULT = dt.timedelta(seconds=90)  # within which all is as it was

FireTimes = Callable[[dt.datetime, dt.datetime], Iterable[dt.datetime]]


@dataclass(frozen=True)
class Plan:
    """What a schedule should do; `fire_times(after, until)` gives its fire times, `until` included."""

    fire_times: FireTimes
    may_overlap: bool = False
    at_most_once: bool = False
    patience: dt.timedelta = dt.timedelta(seconds=2)  # from the fire time to the first start, when nothing is broken


@dataclass(frozen=True)
class Row:
    """A task, as the table has it."""

    id: int
    schedule: str
    fire_time: dt.datetime
    state: str


@dataclass(frozen=True)
class Try:
    """An attempt, as the table has it."""

    task_id: int
    number: int
    outcome: str | None
    ended_at: dt.datetime | None


@dataclass(frozen=True)
class Line:
    """A line of the diary."""

    word: str  # start, end
    task_id: int
    attempt: int
    moment: dt.datetime


@dataclass(frozen=True)
class History:
    """What was, and should have been, after `since` up to `until`; faults are spans in which something was broken."""

    plans: dict[str, Plan]
    rows: Sequence[Row]
    tries: Sequence[Try]
    diary: Sequence[Line]
    since: dt.datetime
    until: dt.datetime
    faults: Sequence[tuple[dt.datetime, dt.datetime]] = field(default=())
    woken: Sequence[dt.datetime] = field(default=())  # when frozen processes went on
    crashes: Sequence[dt.datetime] = field(default=())  # when PostgreSQL crashed


@dataclass(frozen=True)
class Finding:
    """A broken promise: empty, missing, stray, doubled, early, late, overlapping, lost or zombie."""

    kind: str
    what: str


def every(seconds: int) -> FireTimes:
    """The fire times of `every: <seconds>s` in UTC: on a grid from midnight."""

    def fire_times(after: dt.datetime, until: dt.datetime) -> Iterator[dt.datetime]:
        day = after.replace(hour=0, minute=0, second=0, microsecond=0)
        first = int((after - day).total_seconds()) // seconds * seconds  # all before it lie before the span
        while day <= until:
            for second in range(first, 86_400, seconds):
                moment = day + dt.timedelta(seconds=second)
                if moment > until:
                    return
                if moment > after:
                    yield moment
            day, first = day + dt.timedelta(days=1), 0

    return fire_times


def by_oracle(when: tuple[When, ...], zone: str) -> FireTimes:
    """The fire times of entries without a calendar, minute by minute."""

    def fire_times(after: dt.datetime, until: dt.datetime) -> Iterator[dt.datetime]:
        minute = after.replace(second=0, microsecond=0) - dt.timedelta(minutes=1)
        return (moment for moment in slow_fire_times(when, zone, {}, minute, until) if after < moment <= until)

    return fire_times


def judge(history: History) -> list[Finding]:
    """All that is wrong with it; empty for a history as promised."""
    return [
        Finding(kind, what)
        for kind, look in (
            ("empty", _empty),
            ("missing", _missing),
            ("stray", _stray),
            ("doubled", _doubled),
            ("early", _early),
            ("late", _late),
            ("overlapping", _overlapping),
            ("lost", _lost),
            ("zombie", _zombie),
        )
        for what in look(history)
    ]


def _expected(history: History, schedule: str) -> set[dt.datetime]:
    return set(history.plans[schedule].fire_times(history.since, history.until))


def _rows_in_span(history: History) -> list[Row]:
    return [row for row in history.rows if history.since < row.fire_time <= history.until]


def _started(history: History) -> dict[int, dict[int, dt.datetime]]:
    """Task id -> attempt -> first start."""
    starts: dict[int, dict[int, dt.datetime]] = defaultdict(dict)
    for line in sorted(history.diary, key=lambda line: line.moment):
        if line.word == "start":
            starts[line.task_id].setdefault(line.attempt, line.moment)
    return starts


def _empty(history: History) -> Iterator[str]:
    """A judge who has seen nothing must not acquit."""
    if not any(_expected(history, name) for name in history.plans):
        yield "nothing was to happen"
    if not history.rows:
        yield "no tasks"
    if not any(line.word == "start" for line in history.diary):
        yield "nothing started"


def _missing(history: History) -> Iterator[str]:
    have = {(row.schedule, row.fire_time) for row in history.rows}
    for name in history.plans:
        for moment in sorted(_expected(history, name)):
            if (name, moment) not in have:
                yield f"{name} at {moment}: no task"


def _stray(history: History) -> Iterator[str]:
    expected = {name: _expected(history, name) for name in history.plans}
    for row in _rows_in_span(history):
        if row.fire_time not in expected.get(row.schedule, set()):
            yield f"task {row.id}: {row.schedule} does not fire at {row.fire_time}"


def _doubled(history: History) -> Iterator[str]:
    for (name, moment), number in Counter((row.schedule, row.fire_time) for row in history.rows).items():
        if number > 1:
            yield f"{name} at {moment}: {number} tasks"
    starts: dict[tuple[int, int], list[dt.datetime]] = defaultdict(list)
    for line in sorted(history.diary, key=lambda line: line.moment):
        if line.word == "start":
            starts[line.task_id, line.attempt].append(line.moment)
    may_be_taken_back = {row.id for row in history.rows if _may_be_taken_back(history.plans.get(row.schedule))}
    for (task_id, attempt), moments in starts.items():
        taken_back = task_id in may_be_taken_back and all(_is_near_a_crash(history, one) for one in moments[:-1])
        if len(moments) > 1 and not taken_back:
            yield f"task {task_id} attempt {attempt}: started {len(moments)} times"
    once = {row.id for row in history.rows if row.schedule in history.plans and _is_once(history, row)}
    for task_id, attempts in _started(history).items():
        if task_id in once and len(attempts) > 1:
            yield f"task {task_id}: {len(attempts)} attempts, at most one allowed"
    succeeded = {(one.task_id, one.number) for one in history.tries if one.outcome == "succeeded"}
    for task_id, attempt in sorted(succeeded):
        if any(number > attempt for number in _started(history).get(task_id, {})):
            yield f"task {task_id}: started again after attempt {attempt} had succeeded"


def _may_be_taken_back(plan: Plan | None) -> bool:
    return plan is not None and plan.may_overlap and not plan.at_most_once


def _is_near_a_crash(history: History, moment: dt.datetime) -> bool:
    return any(abs(moment - crash) <= NEAR_A_CRASH for crash in history.crashes)


def _is_once(history: History, row: Row) -> bool:
    return history.plans[row.schedule].at_most_once


def _early(history: History) -> Iterator[str]:
    starts = _started(history)
    for row in history.rows:
        for attempt, moment in starts.get(row.id, {}).items():
            if moment < row.fire_time - MILLISECOND:
                yield f"task {row.id} attempt {attempt}: started {row.fire_time - moment} before its fire time"


def _late(history: History) -> Iterator[str]:
    starts = _started(history)
    for row in _rows_in_span(history):
        if row.schedule not in history.plans or row.id not in starts:
            continue
        lateness = min(starts[row.id].values()) - row.fire_time
        excused = any(
            begin <= row.fire_time + lateness and row.fire_time <= end + AFTER_FAULT for begin, end in history.faults
        )
        if lateness > history.plans[row.schedule].patience and not excused:
            yield f"task {row.id}: started {lateness} after its fire time"


def _overlapping(history: History) -> Iterator[str]:
    schedule_of = {row.id: row.schedule for row in history.rows}
    ended = {(one.task_id, one.number): one.ended_at for one in history.tries if one.ended_at is not None}
    for line in history.diary:
        if line.word == "end" and not _has_just_woken(history, line):  # what the function itself says comes first
            ended[line.task_id, line.attempt] = line.moment
    spans: dict[str, list[tuple[dt.datetime, dt.datetime, str]]] = defaultdict(list)
    for task_id, attempts in _started(history).items():
        name = schedule_of.get(task_id, "")
        if name in history.plans and not history.plans[name].may_overlap:
            for attempt, began in attempts.items():
                if _has_just_woken(history, Line("start", task_id, attempt, began)):
                    continue
                end = ended.get((task_id, attempt)) or max(history.until, began)
                spans[name].append((began, end, f"task {task_id} attempt {attempt}"))
    for name, ones in spans.items():
        for (_, end, one), (began, _, other) in itertools.pairwise(sorted(ones)):
            if began < end - MILLISECOND:
                yield f"{name}: {other} started {end - began} before {one} had ended"


def _lost(history: History) -> Iterator[str]:
    starts = _started(history)
    known = {(one.task_id, one.number) for one in history.tries}
    ends = {(line.task_id, line.attempt) for line in history.diary if line.word == "end"}
    for row in _rows_in_span(history):
        if row.state not in ENDS:
            yield f"task {row.id}: {row.schedule} at {row.fire_time} is still {row.state}"
    for one in history.tries:
        if one.outcome == "succeeded" and (one.task_id, one.number) not in ends:
            yield f"task {one.task_id} attempt {one.number}: succeeded, but its function never ended"
    for task_id, attempts in sorted(starts.items()):
        for attempt in attempts:
            if (task_id, attempt) not in known:
                yield f"task {task_id} attempt {attempt}: started, and the table knows nothing of it"


def _zombie(history: History) -> Iterator[str]:
    ended = {(one.task_id, one.number): one.ended_at for one in history.tries if one.ended_at is not None}
    for line in history.diary:
        end = ended.get((line.task_id, line.attempt))
        if end is not None and line.moment > end + AT_WORK and not _has_just_woken(history, line):
            yield f"task {line.task_id} attempt {line.attempt}: «{line.word}» {line.moment - end} after its end"


def _has_just_woken(history: History, line: Line) -> bool:
    """Whether a line may be of a process that was frozen: the one exception of docs/promise.md, clause 7."""
    return any(moment <= line.moment <= moment + AFTER_WAKING for moment in history.woken)
