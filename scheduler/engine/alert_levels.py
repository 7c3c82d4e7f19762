"""What is wrong right now, as opposed to what has happened: late, too long, no worker, a silent part, a bad file, mail
that was given up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sqlalchemy import BigInteger, Integer, and_, column, exists, func, select, type_coerce, values
from sqlalchemy.orm import Session, aliased

from scheduler.clock import EPOCH, to_micros
from scheduler.engine.listing import unindexed
from scheduler.engine.status import alive, files_not_in_force, parts_of, stalled
from scheduler.rules import alerts
from scheduler.rules.alerts import Trouble, subject_of
from scheduler.rules.brief import brief
from scheduler.rules.durations import parse_duration
from scheduler.rules.moments import zone_named
from scheduler.rules.states import CANCELLED, KINDS, PLANNED, QUEUED, RETRYING, RUNNING, SKIPPED, SUCCEEDED
from scheduler.rules.zones import first_moment
from scheduler.store.mail_tables import GIVEN_UP, OutboxMessage
from scheduler.store.tables import Attempt, Schedule, Task

DAY = dt.timedelta(days=1)
AT_ONCE = 400  # schedules in one query; SQLite takes 32,000 parameters
WAITED = dt.timedelta(seconds=60)  # a task that is due for so long ought to have found a worker


@dataclass(frozen=True)
class Levels:
    troubles: tuple[Trouble, ...]
    unknown: frozenset[str]  # events about which nothing can be said right now


def levels_of(session: Session, now: dt.datetime) -> Levels:
    """Everything that is wrong at `now`."""
    seen = parts_of(session, now)
    watching = [one for one in seen if one["part"] == "keeper" and not one["silent"]]
    # A keeper that has just begun has not judged its file; nor has one that is not there.
    judged = any(one["details"].get("text_hash") is not None for one in watching)
    troubles = (
        *_late(session, now),
        *_too_long(session, now),
        *_no_worker(session, seen, now),
        *_silent_parts(seen, now),
        *_bad_file(session, seen, now),
        *_mail_given_up(session, now),
        *_broken_promises(seen, now),
    )
    examined = any(one["details"].get("broken") is not None for one in watching)
    unknown = {alerts.BAD_FILE: not judged, alerts.BROKEN_PROMISE: not examined}
    return Levels(troubles, frozenset(event for event, is_unknown in unknown.items() if is_unknown))


def _late(session: Session, now: dt.datetime) -> Iterator[Trouble]:
    """Schedules whose last fire time before `finish_by` has not succeeded, since `finish_by` has passed."""
    finish_by, zone = Schedule.spec["finish_by"].as_string(), Schedule.spec["timezone"].as_string()
    query = select(Schedule.id, finish_by.label("finish_by"), zone.label("zone"))
    rows = list(session.execute(query.where(Schedule.retired_at.is_(None), finish_by.is_not(None))))
    deadlines = {row.id: _last_deadline(dt.time.fromisoformat(row.finish_by), row.zone, now) for row in rows}
    promised = {row.id: row.finish_by[:5] for row in rows}
    for start in range(0, len(rows), AT_ONCE):
        some = {row.id: deadlines[row.id] for row in rows[start : start + AT_ONCE]}
        for task in session.execute(_not_done_by(some)):
            why = f"not done by {promised[task.schedule_id]}: {task.state}, its fire time was "
            why += f"{task.fire_time:%Y-%m-%d %H:%M} UTC"
            subject = subject_of(alerts.LATE, task.schedule_id)
            details = {"why": why, "task_id": task.id}
            yield Trouble(subject, alerts.LATE, deadlines[task.schedule_id], task.schedule_id, details)


def _not_done_by(deadlines: dict[int, dt.datetime]) -> Any:
    """Of each of these schedules its last task that fired within the day before its deadline, unless that, or a later
    one, has succeeded; one query for all of them."""
    pairs = [(schedule_id, to_micros(deadline)) for schedule_id, deadline in deadlines.items()]
    due = values(column("schedule_id", Integer), column("deadline", BigInteger), name="due").data(pairs).cte("due")
    last, newer = aliased(Task), aliased(Task)
    fired = type_coerce(last.fire_time, BigInteger)
    last_id = (
        select(last.id)
        .where(last.schedule_id == due.c.schedule_id, fired > due.c.deadline - to_micros(EPOCH + DAY))
        .where(fired <= due.c.deadline)
        .order_by(last.fire_time.desc())
        .limit(1)
        .correlate(due)
        .scalar_subquery()
    )
    succeeded_since = exists(
        select(newer.id)
        # By the index of the schedule's ended tasks, of which few are newer.
        .where(newer.schedule_id == Task.schedule_id, newer.id > Task.id, newer.finished_at.is_not(None))
        .where(unindexed(newer.state) == SUCCEEDED)
        .correlate(Task)
    )
    return (
        select(Task.id, Task.schedule_id, Task.state, Task.fire_time)
        .select_from(due)
        .join(Task, Task.id == last_id)
        .where(unindexed(Task.state).not_in((SUCCEEDED, SKIPPED, CANCELLED)), ~succeeded_since)
        .order_by(Task.schedule_id)
    )


def _last_deadline(finish_by: dt.time, zone_name: str, now: dt.datetime) -> dt.datetime:
    zone = zone_named(zone_name)
    today = now.astimezone(zone).date()
    deadline = first_moment(dt.datetime.combine(today, finish_by), zone)
    return deadline if deadline <= now else first_moment(dt.datetime.combine(today - DAY, finish_by), zone)


def _too_long(session: Session, now: dt.datetime) -> Iterator[Trouble]:
    warn_after = Schedule.spec["warn_after"].as_string()
    query = (
        select(Task.id, Task.schedule_id, Task.worker, Attempt.started_at, warn_after.label("warn_after"))
        .join(Schedule, Schedule.id == Task.schedule_id)
        .join(Attempt, and_(Attempt.task_id == Task.id, Attempt.number == Task.attempt))
        .where(Task.state == RUNNING, warn_after.is_not(None))
        .order_by(Task.id)
    )
    for row in session.execute(query):
        limit = parse_duration(row.warn_after)
        if now - row.started_at > limit:
            why = f"runs for longer than {brief(limit, 2)}, on {row.worker}"
            subject = subject_of(alerts.TOO_LONG, row.schedule_id)
            details = {"why": why, "task_id": row.id}
            yield Trouble(subject, alerts.TOO_LONG, row.started_at + limit, row.schedule_id, details)


def _no_worker(session: Session, seen: Sequence[dict[str, Any]], now: dt.datetime) -> Iterator[Trouble]:
    kind = unindexed(Task.kind)
    waiting = Task.state.in_((PLANNED, QUEUED, RETRYING)), Task.due_at < now - WAITED
    query = select(kind.label("kind"), func.min(Task.due_at).label("oldest")).where(*waiting).group_by(kind)
    oldest = {row.kind: row.oldest for row in session.execute(query)}
    for name in KINDS:
        if name in oldest and not alive(seen, f"worker-{name}"):
            why = "tasks wait, and no worker of this kind ticks"
            yield Trouble(f"kind:{name}:no_worker", alerts.NO_WORKER, now, None, {"name": name, "why": why})


def _silent_parts(seen: Sequence[dict[str, Any]], now: dt.datetime) -> Iterator[Trouble]:
    """Parts that fell silent without leaving in order, unless another has taken their place since."""
    found = {}
    for one in seen:
        if one["silent"] and not any(_replaces(other, one) for other in seen):
            name = f"{one['part']} on {one['host']}"
            why = f"has not ticked since {now - dt.timedelta(seconds=one['seconds_since_tick']):%Y-%m-%d %H:%M:%S} UTC"
            found[f"part:{one['part']}@{one['host']}:silent_part"] = {"name": name, "why": why}
    for timer in stalled(seen):
        found[f"part:keeper/{timer}:silent_part"] = {"name": f"{timer} of the keeper", "why": "does not get through"}
    for subject, details in found.items():
        yield Trouble(subject, alerts.SILENT_PART, now, None, details)


def _replaces(other: dict[str, Any], silent: dict[str, Any]) -> bool:
    is_later = other["seconds_since_start"] < silent["seconds_since_tick"]
    return bool(other["part"] == silent["part"] and not other["silent"] and is_later)


def _bad_file(session: Session, seen: Sequence[dict[str, Any]], now: dt.datetime) -> Iterator[Trouble]:
    refused = [one for one in files_not_in_force(session, seen) if one["refused"]]
    if refused:
        file, message = str(refused[0]["file"]), str(refused[0]["message"])
        why = message.removeprefix(f"{file}:")  # line, column and what is wrong; the path would fill the subject
        details = {"name": PurePath(file).name, "why": why, "file": file, "host": refused[0]["host"]}
        yield Trouble("file:bad_file", alerts.BAD_FILE, now, None, details)


def _broken_promises(seen: Sequence[dict[str, Any]], now: dt.datetime) -> Iterator[Trouble]:
    """What a keeper that ticks has found by examining the service itself."""
    keepers = [one for one in seen if one["part"] == "keeper" and not one["silent"]]
    found = {one["name"]: one["message"] for keeper in keepers for one in keeper["details"].get("broken") or ()}
    for name, message in found.items():
        details = {"name": name, "why": message}
        yield Trouble(f"promise:{name}:broken_promise", alerts.BROKEN_PROMISE, now, None, details)


def _mail_given_up(session: Session, now: dt.datetime) -> Iterator[Trouble]:
    given_up = OutboxMessage.state == GIVEN_UP, OutboxMessage.created_at > now - DAY
    row = session.execute(
        select(OutboxMessage.contact, OutboxMessage.last_error)
        .where(*given_up)
        .order_by(OutboxMessage.created_at.desc())
        .limit(1)
    ).first()
    if row is not None:
        why = f"a message to {row.contact or 'an address'} could not be delivered: {row.last_error or 'no reason told'}"
        yield Trouble("mail:mail_given_up", alerts.MAIL_GIVEN_UP, now, None, {"name": "mail", "why": why[:500]})
