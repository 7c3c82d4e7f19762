"""The facts of a digest, from SQL: a handful of queries, each along an index, none that reads old history."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import BigInteger, Double, and_, case, cast, func, select, text, type_coerce
from sqlalchemy.orm import Session, aliased

from scheduler.clock import MICROSECOND, to_micros
from scheduler.engine.planner import pauses_of
from scheduler.engine.status import files_not_in_force, parts_of, stalled
from scheduler.rules.brief import brief
from scheduler.rules.digest import Bar, Change, Coming, Facts, Failing, Held, KindCount, Recovered, Slow, Strip, Unrun
from scheduler.rules.digest_coming import worth_a_word
from scheduler.rules.digests import is_digest
from scheduler.rules.masking import Masker
from scheduler.rules.spec import Digest, ScheduleSpec
from scheduler.rules.states import CANCELLED, FAILED, KINDS, LOST, MISSED, SKIPPED, SUCCEEDED
from scheduler.store.mail_tables import GIVEN_UP, WAITING, OutboxMessage
from scheduler.store.schedules import now
from scheduler.store.tables import Gap, Revision, Schedule, Task

BARS = 12  # of the trend and of a strip
MOST_STRIPS = 10
LATE_AFTER = dt.timedelta(seconds=60)  # the promise; what a spread or a blackout adds is no lateness
SLOW_FACTOR, SLOW_LEAST = 2, dt.timedelta(seconds=30)  # twice as long as usual, and not by a blink
AHEAD = dt.timedelta(hours=24)
MOST_LOOKED_AT = 500  # schedules whose next fire times are computed
MOST_CHANGES = 50  # revisions read
MAIL_WAITS = dt.timedelta(minutes=30)  # a mail that has waited for longer is told
BAD = (FAILED, LOST)


def facts_of(
    session: Session, digest: Digest, *, service: str, covers_from: dt.datetime, covers_until: dt.datetime
) -> Facts:
    """All but what the issues before this one tell; the caller adds that."""
    if session.get_bind().dialect.name == "postgresql":
        # With its 4 MB a million rows are sorted on disk to be grouped; the groups themselves are few.
        session.execute(text("SET LOCAL work_mem = '64MB'"))
    chosen = _chosen(session, digest)
    ended, counted = _ended(session, chosen, covers_from, covers_until)
    before, _ = _ended(session, chosen, covers_from - (covers_until - covers_from), covers_from, bars=1)
    failing = _failing(session, chosen)
    length = (covers_until - covers_from) / BARS
    starts = [covers_from + length * number for number in range(BARS)]
    unrun = _unrun(session, chosen, covers_from, covers_until)
    slow = _slow(chosen, ended, before)
    recovered = _recovered(chosen, ended)
    troubled = dict.fromkeys(
        one.name for group in (failing, unrun, slow, recovered) for one in group if getattr(one, "schedule", True)
    )
    strip_names = set(list(troubled)[:MOST_STRIPS])
    return Facts(
        service=service,
        zone=digest.timezone,
        covers_from=covers_from,
        covers_until=covers_until,
        schedules=len(chosen.rows),
        failing=(*failing, *_ad_hoc(session, chosen, ended)),
        unrun=unrun,
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
        changes=_changes(session, covers_from, covers_until),
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

    def joined(self, other: _Ended) -> _Ended:
        """Both as one."""
        return replace(
            self,
            count=self.count + other.count,
            took=self.took + other.took,
            longest=max(self.longest, other.longest),
            latest_start=max(self.latest_start, other.latest_start),
            last=max(self.last, other.last),
        )


Counted = dict[tuple[int | None, int], dict[str, int]]  # (schedule id, or None for all; bar) -> word -> number


def _ended(
    session: Session, chosen: _Chosen, since: dt.datetime, until: dt.datetime, bars: int = BARS
) -> tuple[list[_Ended], Counted]:
    """What ended in the span, and how much of it in each of its parts: one walk over the rows for both."""
    width = max(1, (until - since) // MICROSECOND // bars)
    name = case((Task.schedule_id.is_(None), Task.task), else_="")
    bar = (_number(Task.finished_at) - to_micros(since)) // width
    took = func.coalesce(_number(Task.finished_at) - _number(Task.started_at), 0)
    # A retry moves due_at on: only of a first attempt do the two tell how late it began.
    late = case((Task.attempt == 1, _number(Task.started_at) - _number(Task.due_at)), else_=0)
    query = (
        select(
            Task.schedule_id,
            name.label("name"),
            Task.kind,
            Task.state,
            bar.label("bar"),
            func.count().label("number"),
            func.sum(cast(took, Double)).label("took"),
            func.max(took).label("longest"),
            func.max(late).label("late"),
            func.max(Task.finished_at).label("last"),
        )
        .where(Task.finished_at > since, Task.finished_at <= until)
        .group_by("schedule_id", "name", Task.kind, Task.state, "bar")
    )
    found: dict[tuple[Any, ...], _Ended] = {}
    counted: Counted = defaultdict(lambda: defaultdict(int))
    for row in session.execute(query):
        if not chosen.has(row.schedule_id, row.kind):
            continue
        one = _ended_of(row, chosen)
        key = (one.schedule_id, one.name, one.kind, one.state)
        found[key] = found[key].joined(one) if key in found else one
        if one.state != CANCELLED:
            word = "ok" if one.state == SUCCEEDED else "bad" if one.state in BAD else "other"
            for whose in {None, one.schedule_id}:
                counted[whose, min(int(row.bar), bars - 1)][word] += one.count
    return list(found.values()), counted


def _ended_of(row: Any, chosen: _Chosen) -> _Ended:
    return _Ended(
        row.schedule_id,
        chosen.rows[row.schedule_id].name if row.schedule_id in chosen.rows else row.name,
        row.kind,
        row.state,
        row.number,
        int(row.took or 0) * MICROSECOND,
        int(row.longest or 0) * MICROSECOND,
        int(row.late or 0) * MICROSECOND,
        row.last,
    )


def _bars(counted: Counted, whose: int | None, starts: Sequence[dt.datetime]) -> tuple[Bar, ...]:
    """The bars of one schedule, or of all; none where nothing ended."""
    if not any(key == whose for key, _ in counted):
        return ()
    return tuple(Bar(start, **counted.get((whose, number), {})) for number, start in enumerate(starts))


def _number(column: Any) -> Any:
    """A moment as the number that it is in SQL, so that two can be subtracted."""
    return type_coerce(column, BigInteger)


def _slow(chosen: _Chosen, ended: Sequence[_Ended], before: Sequence[_Ended]) -> tuple[Slow, ...]:
    usual = {
        one.schedule_id: one.took / one.count
        for one in before
        if one.state == SUCCEEDED and one.schedule_id is not None
    }
    found: dict[str, Slow] = {}
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
    """The schedules whose last runs failed. Each looks back to its last success, along the index of its own tasks."""
    good, bad, last = aliased(Task), aliased(Task), aliased(Task)
    last_good = func.coalesce(
        select(good.id)
        .where(good.schedule_id == Schedule.id, good.state == SUCCEEDED)
        .order_by(good.id.desc())
        .limit(1)
        .correlate(Schedule)
        .scalar_subquery(),
        0,
    )
    since = (
        select(func.min(bad.finished_at))
        .where(bad.schedule_id == Schedule.id, bad.id > last_good, bad.state.in_(BAD))
        .correlate(Schedule)
        .scalar_subquery()
    )
    newest = (
        select(last.id)
        .where(last.schedule_id == Schedule.id, last.state.in_(BAD))
        .order_by(last.id.desc())
        .limit(1)
        .correlate(Schedule)
        .scalar_subquery()
    )
    query = (
        select(Schedule.id, Schedule.failures_in_a_row, since.label("since"), Task.id.label("task_id"))
        .add_columns(Task.attempt, Task.error, Task.reason)
        .outerjoin(Task, Task.id == newest)
        .where(Schedule.retired_at.is_(None), Schedule.failures_in_a_row > 0)
        .order_by(Schedule.name)
    )
    return tuple(
        Failing(
            chosen.rows[row.id].name,
            owner=chosen.rows[row.id].spec.get("owner") or "",
            since=row.since,
            failures=row.failures_in_a_row,
            attempts=row.attempt or 0,
            error=_last_line(row.error, row.reason),
            task_id=row.task_id,
        )
        for row in session.execute(query)
        if row.id in chosen.rows
    )


def _ad_hoc(session: Session, chosen: _Chosen, ended: Sequence[_Ended]) -> tuple[Failing, ...]:
    """What no schedule fired, and failed; its last error is the only thing asked for again."""
    failed = [one for one in ended if one.schedule_id is None and one.state in BAD]
    found = []
    for one in sorted(failed, key=lambda one: (-one.count, one.name)):
        query = select(Task.id, Task.attempt, Task.error, Task.reason).where(
            Task.finished_at == one.last, Task.task == one.name, Task.state == one.state
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
        .where(Task.finished_at > since, Task.finished_at <= until, Task.state.in_((MISSED, SKIPPED, LOST)))
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


def _changes(session: Session, since: dt.datetime, until: dt.datetime) -> tuple[Change, ...]:
    query = (
        select(Revision.id, Revision.accepted_at, Revision.author, Revision.changes)
        .where(Revision.accepted_at > since, Revision.accepted_at <= until)
        .order_by(Revision.id.desc())
        .limit(MOST_CHANGES)
    )
    return tuple(Change(row.id, row.accepted_at, row.author, _what(row.changes)) for row in session.execute(query))


def _what(changes: dict[str, Any]) -> str:
    told = [f"back to revision {changes['rollback_to']}"] if changes.get("rollback_to") else []
    for word in ("added", "changed", "described", "removed", "renamed"):
        names = list(changes.get(word) or ())
        if names:
            more = f" … and {len(names) - 5} more" if len(names) > 5 else ""
            told.append(f"{word} {', '.join(names[:5])}{more}")
    return "; ".join(told) or "settings and words alone"


def _health(session: Session, since: dt.datetime, until: dt.datetime) -> Iterator[str]:
    """What is wrong with the service itself, and what it could not do in the span."""
    seen = parts_of(session, now(session))  # not `until`, which is past when the digest itself is late
    for one in seen:
        if one["silent"]:
            age = brief(dt.timedelta(seconds=one["seconds_since_tick"]), 2)
            yield f"{one['part']} on {one['host']} has been silent for {age}"
    for timer in stalled(seen):
        yield f"the {timer} does not get through"
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
