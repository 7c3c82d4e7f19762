"""What the page Now shows: the status, and beside it what is missed, how runs compare with usual ones, the queues with
their workers, and what comes within the hour.

Asked again each second while somebody looks: no question grows with history.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import iso, parse_iso
from scheduler.engine.answers.status import (
    MAIL_STUCK_AFTER,
    MOST,
    SERVICE_DOWN,
    SPAN,
    alive,
    silent_web,
    stalled,
    status_of,
)
from scheduler.engine.page.schedules import last_outcomes, usual_of
from scheduler.rules.brief import brief
from scheduler.rules.mail import alerts
from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.states import MISSED, PLANNED
from scheduler.rules.task.pace import pace_of
from scheduler.rules.times.words import in_words
from scheduler.store.database import Database
from scheduler.store.tables import Attempt, Schedule, Task

COMING_WITHIN = dt.timedelta(hours=1)
MOST_COMING = 15  # schedules; each stands once, with its next run
MOST_COMING_ROWS = 300  # looked through for them: what fires each second must not hide the others for ever
MOST_MISSED_ROWS = 300  # looked through; more of one standstill tell nothing new
OUTCOMES = 40  # looked back through for what is usual

Told = dict[str, Any]


def now_of(database: Database, room: WaitingRoom | None, *, with_faults: bool = True) -> Told:
    """The answer of answers/status.py, with "troubles", "missed", "queues" and "coming" added, and to each that is
    running its "usual" and "left" seconds. Faults of the file quote it: not everyone is shown them."""
    told = status_of(database, room)
    now = parse_iso(told["now"])
    with database.read() as session:
        _compare_with_usual(session, told["running"])
        told["missed"] = _missed(session, now)
        told["coming"] = _coming(session, now)
    told["missed_count"] = sum(counts.get(MISSED, 0) for counts in told["counts"].values())
    told["queues"] = queues_of(told)
    if not with_faults:
        _hide_faults(told["alerts"]["newest"])
    told["troubles"] = troubles_of(told, with_faults)
    return told


def _hide_faults(open_alerts: Sequence[Told]) -> None:
    """The fault of a file quotes its line."""
    for one in open_alerts:
        if one["event"] == alerts.BAD_FILE:
            one["why"] = ""


# --- running --------------------------------------------------------------------------------------------------------


def _compare_with_usual(session: Session, running: Sequence[Told]) -> None:
    rows = _rows(session, [one["id"] for one in running])
    schedule_ids = {row.id: row.schedule_id for row in rows}
    started = {row.id: iso(row.started_at) for row in rows}
    known = sorted({one for one in schedule_ids.values() if one is not None})
    outcomes = last_outcomes(session, known, OUTCOMES)
    for one in running:
        schedule_id = schedule_ids.get(one["id"])
        usual = usual_of(outcomes.get(schedule_id, ())) if schedule_id is not None else None
        one["is_of_schedule"] = schedule_id is not None
        one["started_at"] = started.get(one["id"])
        one["usual"] = usual.total_seconds() if usual is not None else None
        one |= _pace(one)


def _rows(session: Session, ids: Sequence[int]) -> Sequence[Any]:
    """Of each task its schedule, and when its attempt began."""
    if not ids:
        return []
    attempt = and_(Attempt.task_id == Task.id, Attempt.number == Task.attempt)
    query = select(Task.id, Task.schedule_id, Attempt.started_at).outerjoin(Attempt, attempt).where(Task.id.in_(ids))
    return session.execute(query).all()


def _pace(one: Told) -> Told:
    """How far it is (`share`, 0 to 1) and for how long it will go on (`left`): by what it tells itself, else by what is
    usual; None where neither says it."""
    seconds = one["seconds"]
    elapsed = dt.timedelta(seconds=seconds) if seconds is not None else None
    pace = pace_of(one["progress"], elapsed)
    left = pace.left.total_seconds() if pace.left is not None else None
    if pace.share is None and one["usual"] is not None and seconds is not None:
        left = max(0.0, one["usual"] - seconds)
    return {"share": pace.share, "left": left, "slow": bool(one["usual"] and (seconds or 0) > 2 * one["usual"])}


# --- missed ---------------------------------------------------------------------------------------------------------


def _missed(session: Session, now: dt.datetime) -> list[Told]:
    """What was missed within SPAN, the newest first; a schedule stands once, with how often and why the last time."""
    query = (
        select(Task.id, Task.schedule, Task.task, Task.fire_time, Task.finished_at, Task.reason)
        .where(Task.state == MISSED)
        .order_by(Task.id.desc())
        .limit(MOST_MISSED_ROWS)
    )
    found: dict[str, Told] = {}
    for row in session.execute(query):
        if row.finished_at < now - SPAN:
            continue
        name = row.schedule or row.task
        newest = {"id": row.id, "name": name, "fire_time": iso(row.fire_time), "reason": row.reason or ""}
        found.setdefault(name, {**newest, "times": 0})["times"] += 1
    return list(found.values())[:MOST]


# --- what comes -----------------------------------------------------------------------------------------------------


def _coming(session: Session, now: dt.datetime) -> list[Told]:
    """The next run of each schedule that has one within the hour, the soonest first."""
    query = (
        select(Task.id, Task.schedule_id, Task.schedule, Task.task, Task.due_at)
        .where(Task.state == PLANNED, Task.due_at > now, Task.due_at <= now + COMING_WITHIN)
        .order_by(Task.due_at, Task.id)
        .limit(MOST_COMING_ROWS)
    )
    first: dict[tuple[int | None, str], Told] = {}
    for row in session.execute(query):
        found = {"id": row.id, "schedule_id": row.schedule_id, "due_at": iso(row.due_at)}
        name = row.schedule or row.task
        first.setdefault((row.schedule_id, name), {**found, "name": name, "is_of_schedule": bool(row.schedule)})
    coming = list(first.values())[:MOST_COMING]
    words = _words(session, [one["schedule_id"] for one in coming if one["schedule_id"] is not None])
    return [{**one, "words": words.get(one["schedule_id"], "")} for one in coming]


def _words(session: Session, ids: Sequence[int]) -> dict[int, str]:
    if not ids:
        return {}
    query = select(Schedule.id, Schedule.spec).where(Schedule.id.in_(ids))
    return {row.id: in_words(ScheduleSpec.model_validate(row.spec)) for row in session.execute(query)}


# --- queues ---------------------------------------------------------------------------------------------------------


def queues_of(status: Told) -> list[Told]:
    """Every queue that has a worker or something waiting: how much is due, since when the oldest, who works on it."""
    depths = {one["queue"]: one for one in status["waiting"]}
    workers = [one for one in status["parts"] if one["part"].startswith("worker-")]
    names = sorted({*depths, *(_queue_of(one) for one in workers)})
    return [_queue(name, depths.get(name), [one for one in workers if _queue_of(one) == name]) for name in names]


def _queue_of(worker: Told) -> str:
    return str(worker["details"].get("queue") or worker["part"].removeprefix("worker-"))


def _queue(name: str, waiting: Told | None, workers: Sequence[Told]) -> Told:
    living = [one for one in workers if not one["silent"]]
    return {
        "queue": name,
        "depth": waiting["depth"] if waiting else 0,
        "oldest_seconds": waiting["oldest_seconds"] if waiting else None,
        "workers": len(living),
        "busy": sum(one["details"].get("task") is not None for one in living),
        "silent": len(workers) - len(living),
    }


# --- what must not be overlooked ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Banner:
    """What must not be overlooked, and the page that tells more of it."""

    text: str
    page: str = ""


def troubles_of(status: Told, with_faults: bool) -> list[Banner]:
    """A sentence for each thing that is wrong with the service itself, the worst first; [] when it is well."""
    found = [Banner(text, "/workers") for text in still_parts(status["parts"])]
    if status["redis"] is not None and not status["redis"]["answers"]:
        found.append(Banner(f"{status['redis']['message']} Nothing new starts until it is back; nothing is lost."))
    for one in status["files"]:
        why = one["message"] if with_faults else "it was refused" if one["refused"] else "another text is"
        found.append(Banner(f"The schedule file is not in force: {why}", "/file"))
    mail = status["outbox"]
    if (mail["oldest_seconds"] or 0) > MAIL_STUCK_AFTER.total_seconds():
        why = f": {mail['last_error']}" if mail["last_error"] else ""
        stuck = _brief(mail["oldest_seconds"])
        found.append(Banner(f"Mail has been stuck for {stuck}, {mail['waiting']} waiting{why}"))
    return found


def still_parts(seen: Sequence[Told]) -> list[str]:
    """Which of the parts that the service cannot do without stand still."""
    if not seen:
        return [f"No part of the service has ticked: nothing starts; {SERVICE_DOWN}"]
    if all(one["silent"] for one in seen):
        youngest = _brief(min(one["seconds_since_tick"] for one in seen))
        return [f"No part of the service has ticked for {youngest}: nothing starts; {SERVICE_DOWN}"]
    effects = {
        "dispatcher": "nothing that falls due goes to its queue",
        "keeper": "nothing new is planned, and what is lost is not mended",
    }
    found = []
    for part, effect in effects.items():
        if not alive(seen, part):
            ages = [one["seconds_since_tick"] for one in seen if one["part"] == part]
            since = f"has not ticked for {_brief(min(ages))}" if ages else "is not running"
            found.append(f"The {part} {since}: {effect}")
    if (web := silent_web(seen)) is not None:
        found.append(f"The web part has not ticked for {_brief(web)}: its pages and its HTTP interface do not answer")
    for timer, age in stalled(seen).items():
        found.append(f"The {timer} is stuck" + (f" since {_brief(age)}" if age is not None else ""))
    return found


def _brief(seconds: float) -> str:
    return brief(dt.timedelta(seconds=seconds))
