"""The facts of a digest, from SQL: a handful of queries, each along an index, none that reads old history."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    and_,
    case,
    cast,
    func,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.orm import Session, aliased

from scheduler.clock import EPOCH, MICROSECOND, from_micros, to_micros
from scheduler.engine.answers.listing import unindexed
from scheduler.engine.answers.status import files_not_in_force, kinds_without_worker, parts_of, stalled
from scheduler.engine.mail.alert_levels import fallen_silent
from scheduler.engine.mail.deadlines import NotDone, not_done, passed_deadlines
from scheduler.rules.brief import brief
from scheduler.rules.file.digests import is_digest
from scheduler.rules.mail.digest import (
    Bar,
    Change,
    Coming,
    Facts,
    Failing,
    Held,
    KindCount,
    Recovered,
    Slow,
    Strip,
    TooFast,
    Unrun,
)
from scheduler.rules.spec import Digest, ScheduleSpec
from scheduler.rules.states import CANCELLED, FAILED, FINAL, KINDS, LOST, MISSED, PLANNED, QUEUED, SKIPPED, SUCCEEDED
from scheduler.rules.task.masking import Masker
from scheduler.rules.task.policy import TaskPolicy
from scheduler.rules.times.noteworthy import worth_a_word
from scheduler.store.mail_tables import GIVEN_UP, WAITING, OutboxMessage
from scheduler.store.schedules import kind_of, now, pauses_of
from scheduler.store.tables import Attempt, Gap, Revision, Schedule, Task
from scheduler.store.types import Instant

BARS = 12  # of the trend and of a strip
MOST_STRIPS = 10
LATE_AFTER = dt.timedelta(seconds=60)  # the promise; what a spread or a blackout adds is no lateness
SLOW_FACTOR, SLOW_LEAST = 2, dt.timedelta(seconds=30)  # twice as long as usual, and not by a blink
AHEAD = dt.timedelta(hours=24)
MOST_LOOKED_AT = 500  # schedules whose next fire times are computed
MOST_CHANGES = 50  # revisions read
MAIL_WAITS = dt.timedelta(minutes=30)  # a mail that has waited for longer is told
BAD = (FAILED, LOST)
AT_ONCE = 500  # ids in one query; SQLite takes 32,000 parameters
ENDS = (SUCCEEDED, *sorted(FINAL - {SUCCEEDED}))  # the commonest first: it is looked for first


def facts_of(
    session: Session, digest: Digest, *, service: str, covers_from: dt.datetime, covers_until: dt.datetime
) -> Facts:
    """All but what the issues before this one tell; the caller adds that."""
    chosen = _chosen(session, digest)
    ended, counted = _ended(session, chosen, covers_from, covers_until)
    before, _ = _ended(session, chosen, covers_from - (covers_until - covers_from), covers_from, bars=1)
    failing = _failing(session, chosen)
    length = (covers_until - covers_from) / BARS
    starts = [covers_from + length * number for number in range(BARS)]
    unrun = _unrun(session, chosen, covers_from, covers_until)
    too_fast = _too_fast(session, chosen, covers_from, covers_until)
    slow = _slow(chosen, ended, before, _waiting(session, covers_until))
    slow = _with_overruns(chosen, slow, not_done(session, passed_deadlines(session, covers_from, covers_until)))
    recovered = _with_errors(session, chosen, _recovered(chosen, ended), covers_from, covers_until)
    groups = (failing, unrun, too_fast, slow, recovered)
    troubled = dict.fromkeys(one.name for group in groups for one in group if getattr(one, "schedule", True))
    strip_names = set(list(troubled)[:MOST_STRIPS])
    return Facts(
        service=service,
        zone=digest.timezone,
        covers_from=covers_from,
        covers_until=covers_until,
        schedules=len(chosen.rows),
        failing=(*failing, *_ad_hoc(session, chosen, ended)),
        unrun=unrun,
        too_fast=too_fast,
        slow=slow,
        recovered=recovered,
        held=tuple(_held(chosen)),
        kinds=tuple(_kinds(ended, before)),
        coming=tuple(_coming(session, chosen, covers_until)),
        bars=_bars(counted, None, starts),
        strips=tuple(
            Strip(one.name, _bars(counted, one.id, starts))
            for one in chosen.rows.values()
            if one.name in strip_names and _bars(counted, one.id, starts)
        ),
        changes=_changes(session, digest, covers_from, covers_until),
        health=tuple(_health(session, covers_from, covers_until)),
        only=_only(digest),
        when_green=digest.when_green,
    )


@dataclass
class _Chosen:
    """The schedules that the digest is about, by id, and whether it is about all tasks of some kinds."""

    rows: dict[int, Schedule]
    kinds: frozenset[str]
    is_narrow: bool  # by tag or owner: then what no schedule fired is left out

    def has(self, schedule_id: int | None, kind: str) -> bool:
        if kind not in self.kinds:
            return False
        return not self.is_narrow if schedule_id is None else schedule_id in self.rows


def _chosen(session: Session, digest: Digest) -> _Chosen:
    kinds = frozenset(digest.kinds or KINDS)
    rows = {
        one.id: one
        for one in session.scalars(select(Schedule).where(Schedule.retired_at.is_(None)).order_by(Schedule.name))
        if not is_digest(one.name) and _is_about(digest, kinds, one.spec)
    }
    return _Chosen(rows, kinds, bool(digest.tags or digest.owners))


def _is_about(digest: Digest, kinds: Iterable[str], spec: dict[str, Any]) -> bool:
    return (
        spec.get("kind", "scheduled") in kinds
        and (not digest.tags or bool(set(digest.tags) & set(spec.get("tags") or ())))
        and (not digest.owners or spec.get("owner") in digest.owners)
    )


def _only(digest: Digest) -> str:
    told = (("tagged", digest.tags), ("of kind", digest.kinds), ("of", digest.owners))
    return ", ".join(f"{word} {' or '.join(names)}" for word, names in told if names)


# --- what ended -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ended:
    """The tasks of one schedule (or function), kind and state that ended in a span."""

    schedule_id: int | None
    name: str
    kind: str
    state: str
    count: int
    took: dt.timedelta  # all together
    longest: dt.timedelta
    latest_start: dt.timedelta
    last: dt.datetime


Counted = dict[tuple[int | None, int], dict[str, int]]  # (schedule id, or None for all; bar) -> word -> number


def _ended(
    session: Session, chosen: _Chosen, since: dt.datetime, until: dt.datetime, bars: int = BARS
) -> tuple[list[_Ended], Counted]:
    """What ended in the span, and how much of it in each of its parts: one walk over the rows for both."""
    width = max(1, (until - since) // MICROSECOND // bars)
    passed = (_number(Task.finished_at) - to_micros(since)) // width
    # One number to group by: to sort or hash five columns of a million rows takes half as long again.
    group: Any = func.coalesce(Task.schedule_id, 0)
    for number, size in (
        (case(_places(KINDS), value=Task.kind), len(KINDS)),
        (case(_places(ENDS), value=Task.state), len(ENDS)),
        (case((passed < bars, passed), else_=bars - 1), bars),
    ):
        group = group * size + number
    name = case((Task.schedule_id.is_(None), Task.task), else_="")
    took = func.coalesce(_number(Task.finished_at) - _number(Task.started_at), 0)
    # A retry moves due_at on: only of a first attempt do the two tell how late it began.
    late = case((Task.attempt == 1, _number(Task.started_at) - _number(Task.due_at)), else_=0)
    query = (
        select(
            type_coerce(group, BigInteger).label("group_key"),
            name.label("name"),
            func.count(),
            func.sum(cast(took, Double)),
            func.max(took),
            func.max(late),
            func.max(_number(Task.finished_at)),
        )
        .where(Task.finished_at > since, Task.finished_at <= until)
        .group_by("group_key", "name")
    )
    found: dict[tuple[Any, ...], list[int]] = {}
    counted: Counted = defaultdict(lambda: defaultdict(int))
    for group_key, name_, number, took_, longest, late_, last in session.execute(query):
        rest, bar = divmod(group_key, bars)
        rest, state = divmod(rest, len(ENDS))
        schedule_id, kind = divmod(rest, len(KINDS))
        schedule_id, kind, state = schedule_id or None, KINDS[kind], ENDS[state]
        if not chosen.has(schedule_id, kind):
            continue
        known = found.setdefault((schedule_id, name_, kind, state), [0] * 5)
        known[0] += number
        known[1] += int(took_ or 0)
        known[2:] = map(max, known[2:], (longest or 0, late_ or 0, last))
        if state != CANCELLED:
            word = "ok" if state == SUCCEEDED else "bad" if state in BAD else "other"
            for whose in {None, schedule_id}:
                counted[whose, bar][word] += number
    return [_ended_of(key, sums, chosen) for key, sums in found.items()], counted


def _places(words: Sequence[str]) -> dict[str, int]:
    return {word: place for place, word in enumerate(words)}


def _ended_of(key: tuple[Any, ...], sums: Sequence[int], chosen: _Chosen) -> _Ended:
    schedule_id, name, kind, state = key
    count, *durations, last = sums
    took, longest, late = (duration * MICROSECOND for duration in durations)
    if schedule_id in chosen.rows:
        name = chosen.rows[schedule_id].name
    return _Ended(schedule_id, name, kind, state, count, took, longest, late, from_micros(last))


def _bars(counted: Counted, whose: int | None, starts: Sequence[dt.datetime]) -> tuple[Bar, ...]:
    """The bars of one schedule, or of all; none where nothing ended."""
    if not any(key == whose for key, _ in counted):
        return ()
    return tuple(Bar(start, **counted.get((whose, number), {})) for number, start in enumerate(starts))


def _number(column: Any) -> Any:
    """A moment as the number that it is in SQL, so that two can be subtracted."""
    return type_coerce(column, BigInteger)


def _waiting(session: Session, until: dt.datetime) -> dict[int, dt.timedelta]:
    """By schedule, for how long its oldest task has been due without a start; what is on time is left out."""
    query = (
        select(Task.schedule_id, func.min(Task.due_at).label("oldest"))
        .where(Task.state.in_((PLANNED, QUEUED)), Task.due_at < until - LATE_AFTER, Task.schedule_id.is_not(None))
        .group_by(Task.schedule_id)
    )
    return {row.schedule_id: until - row.oldest for row in session.execute(query)}


def _slow(
    chosen: _Chosen, ended: Sequence[_Ended], before: Sequence[_Ended], waiting: Mapping[int, dt.timedelta]
) -> tuple[Slow, ...]:
    usual = {
        one.schedule_id: one.took / one.count
        for one in before
        if one.state == SUCCEEDED and one.schedule_id is not None
    }
    late = {chosen.rows[one].name: waits for one, waits in waiting.items() if one in chosen.rows}
    found = {name: Slow(name, waits=waits) for name, waits in late.items()}
    for one in ended:
        if one.schedule_id is None or one.state not in (SUCCEEDED, *BAD):
            continue
        known = found.get(one.name, Slow(one.name))
        if one.latest_start > LATE_AFTER:
            known = replace(known, late=max(one.latest_start, known.late or one.latest_start))
        mean = usual.get(one.schedule_id)
        if one.state == SUCCEEDED and mean is not None and one.longest > max(SLOW_FACTOR * mean, mean + SLOW_LEAST):
            known = replace(known, took=one.longest, usual=mean)
        if known != Slow(one.name):
            found[one.name] = known
    return tuple(found[name] for name in sorted(found))


def _with_overruns(chosen: _Chosen, slow: Iterable[Slow], overruns: Iterable[NotDone]) -> tuple[Slow, ...]:
    found = {one.name: one for one in slow}
    for one in sorted(overruns, key=lambda one: one.deadline.at):
        if one.deadline.schedule_id in chosen.rows:
            name = chosen.rows[one.deadline.schedule_id].name
            known = found.get(name, Slow(name))
            after = one.done_at - one.deadline.at if one.done_at else None
            found[name] = replace(known, finish_by=one.deadline.at, overruns=known.overruns + 1, done_after=after)
    return tuple(found[name] for name in sorted(found))


def _recovered(chosen: _Chosen, ended: Sequence[_Ended]) -> tuple[Recovered, ...]:
    failed: dict[int, list[_Ended]] = defaultdict(list)
    for one in ended:
        if one.state in BAD and one.schedule_id is not None:
            failed[one.schedule_id].append(one)
    return tuple(
        Recovered(one.name, sum(bad.count for bad in failed[one.schedule_id]), one.last)
        for one in sorted(ended, key=lambda one: one.name)
        if one.state == SUCCEEDED
        and one.schedule_id in failed
        and chosen.rows[one.schedule_id].failures_in_a_row == 0
        and one.last > max(bad.last for bad in failed[one.schedule_id])
    )


def _with_errors(
    session: Session, chosen: _Chosen, recovered: Sequence[Recovered], since: dt.datetime, until: dt.datetime
) -> tuple[Recovered, ...]:
    """The same with the error of the last failure of each."""
    names = {one.name for one in recovered}
    ids = [schedule_id for schedule_id, schedule in chosen.rows.items() if schedule.name in names]
    newest: dict[int, str] = {}
    for start in range(0, len(ids), AT_ONCE):
        failed = _ended_of_these(ids[start : start + AT_ONCE], chosen, BAD, since, until)
        query = select(Task.schedule_id, func.max(Task.id).label("id")).where(*failed).group_by(Task.schedule_id)
        newest.update((row.id, chosen.rows[row.schedule_id].name) for row in session.execute(query))
    rows = _errors_of(session, sorted(newest))
    errors = {newest[row.id]: _last_line(row.error, row.reason) for row in rows.values()}
    return tuple(replace(one, error=errors.get(one.name, "")) for one in recovered)


def _ended_of_these(
    ids: Sequence[int], chosen: _Chosen, states: Sequence[str], since: dt.datetime, until: dt.datetime
) -> tuple[ColumnElement[bool], ...]:
    """What so ended of some schedules in the span: stretches of an index."""
    so_ended = Task.schedule_id.in_(ids), Task.state.in_(states), Task.kind.in_(sorted(chosen.kinds))
    return *so_ended, Task.finished_at > since, Task.finished_at <= until


def _too_fast(session: Session, chosen: _Chosen, since: dt.datetime, until: dt.datetime) -> tuple[TooFast, ...]:
    """The schedules that succeeded sooner than their `too_fast`: each run by the limit that it was planned with, as
    an alert judges it."""
    ids = [schedule_id for schedule_id, one in chosen.rows.items() if one.spec.get("too_fast") is not None]
    limit = Task.policy["too_fast"].as_string()
    found: list[TooFast] = []
    for start in range(0, len(ids), AT_ONCE):
        some = _ended_of_these(ids[start : start + AT_ONCE], chosen, (SUCCEEDED,), since, until)
        limits = {}
        for text in session.scalars(select(limit).where(*some, limit.is_not(None)).distinct()):
            limits[text] = TaskPolicy.model_validate({"too_fast": text}).too_fast or dt.timedelta(0)
        for row in session.execute(_too_fast_by(some, limit, limits)) if limits else ():
            slower_at = from_micros(row.slower_at) if row.slower_at else None
            found.append(
                TooFast(
                    chosen.rows[row.schedule_id].name,
                    row.number,
                    row.finished_at,
                    row.shortest * MICROSECOND,
                    limits[row.limit],
                    row.newest,
                    slower_at if slower_at and slower_at > row.finished_at else None,
                )
            )
    return tuple(sorted(found, key=lambda one: one.name))


def _too_fast_by(some: Sequence[ColumnElement[bool]], limit: Any, limits: Mapping[str, dt.timedelta]) -> Any:
    """A row for each of the schedules that was too fast; of a task with several attempts the last one counts."""
    took = _number(Attempt.ended_at) - _number(Attempt.started_at)
    least = case({text: length // MICROSECOND for text, length in limits.items()}, value=limit)  # NULL: it had none
    groups = (
        select(
            Task.schedule_id,
            func.count(case((took < least, 1))).label("number"),
            func.min(case((took < least, took))).label("shortest"),
            func.max(case((took < least, Task.id))).label("newest"),
            func.max(case((took >= least, _number(Task.finished_at)))).label("slower_at"),
        )
        .join(Attempt, and_(Attempt.task_id == Task.id, Attempt.number == Task.attempt))
        .where(*some)
        .group_by(Task.schedule_id)
        .subquery()
    )
    return select(groups, Task.finished_at, limit.label("limit")).join(Task, Task.id == groups.c.newest)


def _kinds(ended: Sequence[_Ended], before: Sequence[_Ended]) -> Iterator[KindCount]:
    for kind in KINDS:
        here, then = ([one for one in span if one.kind == kind] for span in (ended, before))
        if any(one.state in (SUCCEEDED, *BAD) for one in (*here, *then)):
            good = [one for one in here if one.state == SUCCEEDED]
            yield KindCount(
                kind,
                ok=_sum(good),
                bad=_sum([one for one in here if one.state in BAD]),
                average=_mean(good),
                longest=max((one.longest for one in good), default=None),
                ok_before=_sum([one for one in then if one.state == SUCCEEDED]),
                bad_before=_sum([one for one in then if one.state in BAD]),
                average_before=_mean([one for one in then if one.state == SUCCEEDED]),
            )


def _sum(ended: Iterable[_Ended]) -> int:
    return sum(one.count for one in ended)


def _mean(ended: Sequence[_Ended]) -> dt.timedelta | None:
    count = _sum(ended)
    return sum((one.took for one in ended), dt.timedelta(0)) / count if count else None


# --- failing --------------------------------------------------------------------------------------------------------


def _failing(session: Session, chosen: _Chosen) -> tuple[Failing, ...]:
    """The schedules whose last runs failed, since the first failure after the last success."""
    columns = [
        column
        for state in BAD
        for column in (_first_bad(state).label(f"{state}_since"), _newest_bad(state).label(f"{state}_id"))
    ]
    query = (
        select(Schedule.id, Schedule.failures_in_a_row, *columns)
        .where(Schedule.retired_at.is_(None), Schedule.failures_in_a_row > 0)
        .order_by(Schedule.name)
    )
    rows = [row for row in session.execute(query) if row.id in chosen.rows]
    newest = {row.id: max((row.failed_id or 0, row.lost_id or 0)) for row in rows}
    errors = _errors_of(session, sorted(newest.values()))
    found = []
    for row in rows:
        bad = errors.get(newest[row.id])
        found.append(
            Failing(
                chosen.rows[row.id].name,
                owner=chosen.rows[row.id].spec.get("owner") or "",
                since=min(filter(None, (row.failed_since, row.lost_since)), default=None),
                failures=row.failures_in_a_row,
                attempts=bad.attempt if bad else 0,
                error=_last_line(bad.error, bad.reason) if bad else "",
                task_id=bad.id if bad else None,
            )
        )
    return tuple(found)


def _of_schedule(task: Any, state: str) -> tuple[ColumnElement[bool], ...]:
    """The runs of each schedule that so ended: a stretch of an index, sorted by their ends."""
    return task.schedule_id == Schedule.id, task.state == state, task.kind == kind_of(), task.finished_at.is_not(None)


def _first_bad(state: str) -> Any:
    good, bad = aliased(Task), aliased(Task)
    last_good = select(good.finished_at).where(*_of_schedule(good, SUCCEEDED)).order_by(good.finished_at.desc())
    after = func.coalesce(last_good.limit(1).correlate(Schedule).scalar_subquery(), literal(EPOCH, Instant()))
    first = select(bad.finished_at).where(*_of_schedule(bad, state), bad.finished_at > after).order_by(bad.finished_at)
    return first.limit(1).correlate(Schedule).scalar_subquery()


def _newest_bad(state: str) -> Any:
    bad = aliased(Task)
    newest = select(bad.id).where(*_of_schedule(bad, state)).order_by(bad.finished_at.desc(), bad.id.desc())
    return newest.limit(1).correlate(Schedule).scalar_subquery()


def _errors_of(session: Session, ids: Sequence[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for start in range(0, len(ids), AT_ONCE):
        query = select(Task.id, Task.attempt, Task.error, Task.reason).where(Task.id.in_(ids[start : start + AT_ONCE]))
        found.update((row.id, row) for row in session.execute(query))
    return found


def _ad_hoc(session: Session, chosen: _Chosen, ended: Sequence[_Ended]) -> tuple[Failing, ...]:
    """What no schedule fired, and failed; its last error is the only thing asked for again."""
    failed = [one for one in ended if one.schedule_id is None and one.state in BAD]
    found = []
    for one in sorted(failed, key=lambda one: (-one.count, one.name)):
        query = select(Task.id, Task.attempt, Task.error, Task.reason).where(
            Task.finished_at == one.last, Task.task == one.name, unindexed(Task.state) == one.state
        )
        row = session.execute(query.limit(1)).first()
        if row is not None:
            error = _last_line(row.error, row.reason)
            found.append(Failing(one.name, "", None, one.count, row.attempt, error, row.id, schedule=False))
    return tuple(found[:50])


def _last_line(error: dict[str, Any] | None, reason: str | None) -> str:
    """The error in a line: its type, and the last line of its message that says something; no secrets in it."""
    if not error:
        return Masker().text(reason or "")
    lines = [line.strip() for line in str(error.get("message") or "").splitlines() if line.strip()]
    return Masker().text(": ".join(filter(None, (str(error.get("type") or ""), lines[-1] if lines else ""))))


# --- what did not run -----------------------------------------------------------------------------------------------


def _unrun(session: Session, chosen: _Chosen, since: dt.datetime, until: dt.datetime) -> tuple[Unrun, ...]:
    code = func.coalesce(Task.reason_code, "")
    groups = (
        select(
            Task.schedule_id,
            Task.kind,
            Task.state,
            code.label("code"),
            func.count().label("number"),
            func.max(Task.id).label("newest"),
        )
        .where(Task.finished_at > since, Task.finished_at <= until)
        .where(unindexed(Task.state).in_((MISSED, SKIPPED, LOST)))
        .where(code != "paused", Task.schedule_id.is_not(None))
        .group_by(Task.schedule_id, Task.kind, Task.state, code)
        .subquery()
    )
    query = select(groups, Task.fire_time, Task.reason, Task.finished_at).join(Task, Task.id == groups.c.newest)
    return tuple(
        Unrun(
            chosen.rows[row.schedule_id].name,
            row.state,
            row.number,
            row.fire_time or row.finished_at,
            row.reason or "",
            row.newest,
            row.code,
        )
        for row in session.execute(query)
        if chosen.has(row.schedule_id, row.kind)
    )


def _held(chosen: _Chosen) -> Iterator[Held]:
    for schedule in chosen.rows.values():
        if schedule.parked is not None:
            yield Held(schedule.name, "the service", schedule.parked, parked=True)
            continue
        for pause in pauses_of(schedule)[:1]:
            yield Held(schedule.name, pause.by, pause.why, pause.since, pause.until)


# --- to come, and what changed --------------------------------------------------------------------------------------


def _coming(session: Session, chosen: _Chosen, after: dt.datetime) -> Iterator[Coming]:
    ended = select(Task.id).where(Task.schedule_id == Schedule.id, Task.finished_at.is_not(None)).correlate(Schedule)
    fresh = set(session.scalars(select(Schedule.id).where(Schedule.retired_at.is_(None), ~ended.exists())))
    found = []
    for schedule in islice(_not_held(chosen), MOST_LOOKED_AT):
        try:
            spec = ScheduleSpec.model_validate(schedule.spec)
        except ValueError:  # written by another version of this program
            continue
        told = worth_a_word(spec, after, after + AHEAD, has_run=schedule.id not in fresh)
        if told is not None:
            found.append(Coming(schedule.name, *told))
    yield from sorted(found, key=lambda one: (one.at, one.name))


def _not_held(chosen: _Chosen) -> Iterator[Schedule]:
    return (one for one in chosen.rows.values() if one.parked is None and not pauses_of(one))


def _changes(session: Session, digest: Digest, since: dt.datetime, until: dt.datetime) -> tuple[Change, ...]:
    """The revisions of the span; to a digest of some schedules those alone that touched these."""
    query = (
        select(Revision.id, Revision.accepted_at, Revision.author, Revision.changes)
        .where(Revision.accepted_at > since, Revision.accepted_at <= until)
        .order_by(Revision.id.desc())
        .limit(MOST_CHANGES)
    )
    rows = [(row, _names(row.changes)) for row in session.execute(query)]
    if digest.tags or digest.kinds or digest.owners:
        about = _names_about(session, digest)
        touching = [(row, _of_these(names, about)) for row, names in rows]
        rows = [(row, names) for row, names in touching if names]
    return tuple(
        Change(row.id, row.accepted_at, row.author, _what(names, row.changes.get("rollback_to"))) for row, names in rows
    )


def _names(changes: dict[str, Any]) -> dict[str, list[str]]:
    """The schedules that a revision touched, by how; one that was renamed as «old to new»."""
    found = {word: list(changes.get(word) or ()) for word in ("added", "changed", "described", "removed")}
    return {**found, "renamed": [f"{old} to {new}" for old, new in dict(changes.get("renamed") or {}).items()]}


def _of_these(names: dict[str, list[str]], about: frozenset[str]) -> dict[str, list[str]]:
    found = {word: [one for one in ones if one.split(" ")[-1] in about] for word, ones in names.items()}
    return found if any(found.values()) else {}


def _names_about(session: Session, digest: Digest) -> frozenset[str]:
    """The names of all schedules that it is about, of those that are no more, too."""
    kinds = frozenset(digest.kinds or KINDS)
    rows = session.execute(select(Schedule.name, Schedule.spec))
    return frozenset(row.name for row in rows if not is_digest(row.name) and _is_about(digest, kinds, row.spec))


def _what(names: dict[str, list[str]], rollback_to: int | None) -> str:
    told = [f"back to revision {rollback_to}"] if rollback_to else []
    for word, ones in names.items():
        if ones:
            more = f" … and {len(ones) - 5} more" if len(ones) > 5 else ""
            told.append(f"{word} {', '.join(ones[:5])}{more}")
    return "; ".join(told) or "settings and words alone"


def _health(session: Session, since: dt.datetime, until: dt.datetime) -> Iterator[str]:
    """What is wrong with the service itself, and what it could not do in the span."""
    seen = parts_of(session, now(session))  # not `until`, which is past when the digest itself is late
    for one in fallen_silent(seen):
        age = brief(dt.timedelta(seconds=one["seconds_since_tick"]), 2)
        yield f"{one['part']} on {one['host']} has been silent for {age}"
    for timer in stalled(seen):
        yield f"the {timer} does not get through"
    for kind in kinds_without_worker(session, seen):
        yield f"no worker of kind {kind} ticks, and tasks wait for one"
    for file in files_not_in_force(session, seen):
        if file["refused"]:
            yield f"the schedule file on {file['host']} is refused: {file['message']}"
    for row in session.execute(
        select(Schedule.name, Gap.first, Gap.last, Gap.count)
        .join(Schedule, Schedule.id == Gap.schedule_id)
        .where(Gap.recorded_at > since, Gap.recorded_at <= until)
        .limit(20)
    ):
        yield f"{row.name}: {row.count:,} fire times passed while the service was down, too many for a row each"
    yield from _mail_health(session, since, until)


def _mail_health(session: Session, since: dt.datetime, until: dt.datetime) -> Iterator[str]:
    waiting = select(func.min(OutboxMessage.created_at), func.count()).where(OutboxMessage.state == WAITING)
    oldest, number = session.execute(waiting).one()
    if oldest is not None and until - oldest > MAIL_WAITS:
        yield f"{number} mails wait to be sent, the oldest for {brief(until - oldest, 2)}"
    given_up = session.execute(
        select(func.count()).where(
            and_(OutboxMessage.state == GIVEN_UP, OutboxMessage.created_at > since, OutboxMessage.created_at <= until)
        )
    ).scalar_one()
    if given_up:
        yield f"{given_up} mail{'' if given_up == 1 else 's'} could not be sent"
