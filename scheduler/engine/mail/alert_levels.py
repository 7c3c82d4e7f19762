"""What is wrong right now, as opposed to what has happened: late, too long, no worker, a silent part, a bad file, mail
that was given up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from scheduler.engine.answers.listing import unindexed
from scheduler.engine.answers.status import alive, files_not_in_force, parts_of, stalled
from scheduler.engine.mail.deadlines import not_done, passed_deadlines
from scheduler.rules.brief import brief
from scheduler.rules.mail import alerts
from scheduler.rules.mail.alerts import Over, Passed, Trouble, subject_of
from scheduler.rules.states import KINDS, PLANNED, QUEUED, RETRYING, RUNNING
from scheduler.rules.times.durations import parse_duration
from scheduler.store.mail_tables import GIVEN_UP, Alert, OutboxMessage
from scheduler.store.tables import Attempt, Schedule, Task

DAY = dt.timedelta(days=1)
AT_ONCE = 400  # subjects in one query; SQLite takes 32,000 parameters
WAITED = dt.timedelta(seconds=60)  # a task that is due for so long ought to have found a worker


@dataclass(frozen=True)
class Levels:
    troubles: tuple[Trouble, ...]
    unknown: frozenset[str]  # events about which nothing can be said right now
    passed: tuple[Passed, ...] = ()  # troubles that are over, and of which no alert has told


def levels_of(session: Session, now: dt.datetime) -> Levels:
    """Everything that is wrong at `now`."""
    late, passed = _late(session, now)
    seen = parts_of(session, now)
    watching = [one for one in seen if one["part"] == "keeper" and not one["silent"]]
    # A keeper that has just begun has not judged its file; nor has one that is not there.
    judged = any(one["details"].get("text_hash") is not None for one in watching)
    troubles = (
        *late,
        *_too_long(session, now),
        *_no_worker(session, seen, now),
        *_silent_parts(seen, now),
        *_bad_file(session, seen, now),
        *_mail_given_up(session, now),
        *_broken_promises(seen, now),
    )
    examined = any(one["details"].get("broken") is not None for one in watching)
    unknown = {alerts.BAD_FILE: not judged, alerts.BROKEN_PROMISE: not examined}
    not_known = frozenset(event for event, is_unknown in unknown.items() if is_unknown)
    return Levels(troubles, not_known, untold(session, passed))


def untold(session: Session, passed: Sequence[Passed]) -> tuple[Passed, ...]:
    """Those of which no alert tells, or has told: one that was open at that moment or since."""
    found: list[Passed] = []
    for start in range(0, len(passed), AT_ONCE):
        some = passed[start : start + AT_ONCE]
        query = select(Alert.subject, Alert.closed_at).where(Alert.subject.in_([one.trouble.subject for one in some]))
        since = min(one.trouble.at for one in some)
        told = session.execute(query.where(or_(Alert.closed_at.is_(None), Alert.closed_at >= since))).all()
        for one in some:
            subject, at = one.trouble.subject, one.trouble.at
            if not any(row.subject == subject and (row.closed_at is None or row.closed_at >= at) for row in told):
                found.append(one)
    return tuple(found)


def _late(session: Session, now: dt.datetime) -> tuple[list[Trouble], list[Passed]]:
    """Schedules that have not succeeded although their `finish_by` has passed, and those that did so since."""
    so_now, passed = [], []
    for one in not_done(session, passed_deadlines(session, None, now)):
        deadline = one.deadline
        fire_time = f"{one.fire_time:%Y-%m-%d %H:%M} UTC"
        why = f"not done by {deadline.words}: {one.state}, its fire time was {fire_time}"
        details = {"why": why, "task_id": one.task_id, "finish_by": deadline.words, "fire_time": fire_time}
        subject = subject_of(alerts.LATE, deadline.schedule_id)
        trouble = Trouble(subject, alerts.LATE, deadline.at, deadline.schedule_id, details)
        if one.done_at is None:
            so_now.append(trouble)
        else:
            passed.append(Passed(trouble, Over(subject, one.done_at, details={"ended_by": one.done_by})))
    return so_now, passed


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


def fallen_silent(seen: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts that fell silent without leaving in order, unless another has taken their place since."""
    return [one for one in seen if one["silent"] and not any(_replaces(other, one) for other in seen)]


def _silent_parts(seen: Sequence[dict[str, Any]], now: dt.datetime) -> Iterator[Trouble]:
    found = {}
    for one in fallen_silent(seen):
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
