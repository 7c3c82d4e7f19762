"""One glance at the whole service: is all well, and if not, what is wrong."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, case, exists, func, not_, or_, select
from sqlalchemy.orm import Session

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import iso
from scheduler.engine.answers.listing import unindexed
from scheduler.errors import RedisAway
from scheduler.rules.brief import brief
from scheduler.rules.file import digests
from scheduler.rules.mail import alerts
from scheduler.rules.states import FAILED, KINDS, LOST, PLANNED, QUEUED, RETRYING, RUNNING, UNFINISHED
from scheduler.rules.times.pause import Pause, stored_pause
from scheduler.store import outbox, parts, schedules
from scheduler.store.database import Database
from scheduler.store.mail_tables import OPEN, Alert
from scheduler.store.schedules import pause_of
from scheduler.store.tables import Attempt, Part, Revision, Schedule, Task

SILENT_AFTER = dt.timedelta(seconds=30)  # six ticks; a part that has not ticked for so long is dead or stuck
LATE_AFTER = dt.timedelta(seconds=60)  # the promise: what is due starts within 60 s, but for the queue's own backlog
SLOWEST = {"planner": dt.timedelta(seconds=60), "reconcile": dt.timedelta(seconds=120)}  # since they last got through
MAIL_STUCK_AFTER = dt.timedelta(minutes=15)  # of the oldest message; a server that is away for less is everyday
SPAN = dt.timedelta(hours=24)  # of the counts
MOST = 20  # of any list
MOST_FAILURES = 500  # looked back through for the moment a schedule began to fail
# What nothing else here would show, by the words of the verdict.
ONLY_AN_ALERT = {
    alerts.LATE: "not done in time",
    alerts.TOO_LONG: "running too long",
    alerts.TOO_FAST: "done too fast",
    alerts.BROKEN_PROMISE: "of the promises broken",
}
SERVICE_DOWN = "is the service running? `scheduler up`"


def status_of(database: Database, room: WaitingRoom | None) -> dict[str, Any]:
    """The state of everything, with a verdict in one sentence; without `room` Redis is not asked."""
    with database.read() as session:
        now = schedules.now(session)
        status: dict[str, Any] = {
            "now": iso(now),
            "schedules": _count_schedules(session),
            "counts": _counts(session, now - SPAN),
            "failing": _failing(session),
            "late": _late(session, now),
            "running": _running(session, now),
            "waiting": waiting_tasks(session, now),
            "upcoming": _upcoming(session, now),
            "paused": _paused(session),
            "parked": parked_schedules(session),
            "parts": parts_of(session, now),
            "revision": _revision(session),
            "alerts": open_alerts(session),
        }
        status["files"] = files_not_in_force(session, status["parts"])
        status["watchdog"] = _watchdog(status["parts"])
        status["outbox"] = _outbox(session, now)
        status["late_count"] = _late_count(session, now)
        status["running_count"] = _count(session, Task.state == RUNNING)
        idle = kinds_without_worker(session, status["parts"])
    status["redis"] = _redis(room, [one["queue"] for one in status["waiting"]])
    status["problems"] = _problems(status, idle)
    status["ok"] = not status["problems"]
    status["verdict"] = _verdict(status)
    return status


def alive(parts_seen: Iterable[dict[str, Any]], part: str) -> bool:
    """Whether a part of that name has ticked lately."""
    return any(one["part"] == part and not one["silent"] for one in parts_seen)


def silent_web(parts_seen: Iterable[dict[str, Any]]) -> float | None:
    """For how many seconds the web part has been silent; None while one ticks, or when none was left behind."""
    ages = {one["seconds_since_tick"]: one["silent"] for one in parts_seen if one["part"] == "web"}
    return min(ages) if ages and all(ages.values()) else None


def stalled(parts_seen: Iterable[dict[str, Any]]) -> dict[str, float | None]:
    """Those of the keeper's timers that no living keeper has got through lately, with the seconds since it did."""
    keepers = [one for one in parts_seen if one["part"] == "keeper" and not one["silent"]]
    found: dict[str, float | None] = {}
    for timer, limit in SLOWEST.items():
        ages = [(one, _age(one, timer)) for one in keepers]
        if not ages or any(
            (one["seconds_since_start"] if age is None else age) <= limit.total_seconds() for one, age in ages
        ):
            continue
        found[timer] = min((age for _, age in ages if age is not None), default=None)
    return found


def _age(keeper: dict[str, Any], timer: str) -> float | None:
    age = keeper["details"].get(timer)
    return age + keeper["seconds_since_tick"] if isinstance(age, int | float) else None


# --- schedules ------------------------------------------------------------------------------------------------------


def _count_schedules(session: Session) -> dict[str, int]:
    held = or_(Schedule.pause.is_not(None), Schedule.file_pause.is_not(None))
    state = case((Schedule.parked.is_not(None), "parked"), (held, "paused"), else_="active")
    of_file = Schedule.retired_at.is_(None) & ~Schedule.name.startswith(digests.PREFIX)  # no digest is a schedule of it
    query = select(state, func.count()).where(of_file).group_by(state)
    found = {name: int(number) for name, number in session.execute(query)}
    failing = select(func.count()).where(Schedule.retired_at.is_(None), Schedule.failures_in_a_row > 0)
    return {
        "total": sum(found.values()),
        **{name: found.get(name, 0) for name in ("active", "paused", "parked")},
        "failing": session.execute(failing).scalar_one(),
    }


def _failing(session: Session) -> list[dict[str, Any]]:
    query = (
        select(Schedule.id, Schedule.name, Schedule.failures_in_a_row, Schedule.spec)
        .where(Schedule.retired_at.is_(None), Schedule.failures_in_a_row > 0)
        .order_by(Schedule.failures_in_a_row.desc(), Schedule.name)
        .limit(MOST)
    )
    return [_failing_one(session, row) for row in session.execute(query)]


def _failing_one(session: Session, row: Row[Any]) -> dict[str, Any]:
    bad = (
        select(Task.id, Task.state, Task.attempt, Task.policy, Task.error, Task.reason, Task.finished_at)
        # By the index of the schedule's ended tasks: of one that fails now the newest are what is looked for.
        .where(Task.schedule_id == row.id, Task.finished_at.is_not(None), unindexed(Task.state).in_((FAILED, LOST)))
        .order_by(Task.id.desc())
    )
    last = session.execute(bad.limit(1)).first()
    first = session.execute(bad.offset(min(row.failures_in_a_row, MOST_FAILURES) - 1).limit(1)).first() or last
    return {
        "schedule": row.name,
        "owner": row.spec.get("owner") or "",
        "failures_in_a_row": row.failures_in_a_row,
        "since": iso(first.finished_at) if first else None,
        "task_id": last.id if last else None,
        "state": last.state if last else None,
        "attempts": last.attempt if last else None,
        "attempts_allowed": last.policy.get("retry", {}).get("attempts") if last else None,
        "error": _last_error(last.error, last.reason) if last else "",
    }


def _last_error(error: dict[str, Any] | None, reason: str | None) -> str:
    """The error in one line: its type, and the last line of its message that says something."""
    if not error:
        return reason or ""
    lines = [line.strip() for line in str(error.get("message") or "").splitlines() if line.strip()]
    return ": ".join(filter(None, (str(error.get("type") or ""), lines[-1] if lines else "")))


def _paused(session: Session) -> list[dict[str, Any]]:
    """What is paused: first those that one command paused together, a line for all of them, then one by one."""
    together = and_(Schedule.pause["chosen"].as_string().is_not(None), Schedule.file_pause.is_(None))
    alone = (
        select(Schedule)
        .where(Schedule.retired_at.is_(None), or_(Schedule.pause.is_not(None), Schedule.file_pause.is_not(None)))
        .where(not_(together))
        .order_by(Schedule.name)
        .limit(MOST)
    )
    found = _paused_together(session, together)
    for schedule in session.scalars(alone):
        pause = pause_of(schedule)
        assert pause is not None
        found.append({"schedule": schedule.name, "schedules": 1, "chosen": None, **_told_pause(pause)})
    return found


def _paused_together(session: Session, together: ColumnElement[bool]) -> list[dict[str, Any]]:
    held = ("chosen", "by", "why", "until")
    columns = [Schedule.pause[key].as_string().label(key) for key in held]
    query = (
        select(*columns, func.min(Schedule.pause["since"].as_string()), func.count())
        .where(Schedule.retired_at.is_(None), together)
        .group_by(*held)
        .order_by(func.count().desc())
        .limit(MOST)
    )
    found = []
    rows: Sequence[Any] = session.execute(query).all()
    for chosen, by, why, until, since, number in rows:
        pause = stored_pause({"by": by, "why": why, "until": until, "since": since})
        found.append({"schedule": None, "schedules": int(number), "chosen": chosen, **_told_pause(pause)})
    return found


def _told_pause(pause: Pause) -> dict[str, Any]:
    return {"by": pause.by, "why": pause.why, "since": iso(pause.since), "until": iso(pause.until)}


def parked_schedules(session: Session) -> list[dict[str, Any]]:
    """Those that the file wants and that cannot fire, with the reason; at most MOST."""
    query = (
        select(Schedule.name, Schedule.parked)
        .where(Schedule.retired_at.is_(None), Schedule.parked.is_not(None))
        .order_by(Schedule.name)
        .limit(MOST)
    )
    return [{"schedule": row.name, "why": row.parked} for row in session.execute(query)]


def open_alerts(session: Session) -> dict[str, Any]:
    """How many alerts are open, of which events, and the newest of them."""
    is_open = Alert.state == OPEN
    counted = select(Alert.event, func.count()).where(is_open).group_by(Alert.event).order_by(Alert.event)
    events = {event: int(number) for event, number in session.execute(counted)}
    query = (
        select(Alert.event, Alert.opened_at, Alert.told_at, Alert.times, Alert.details)
        .where(is_open)
        .order_by(Alert.opened_at.desc(), Alert.id.desc())
        .limit(MOST)
    )
    return {
        "open": sum(events.values()),
        "events": events,
        "newest": [
            {
                "event": row.event,
                "schedule": row.details.get("schedule"),
                "about": row.details.get("schedule") or row.details.get("name") or "",
                "since": iso(row.opened_at),
                "told_at": iso(row.told_at),
                "times": row.times,
                "why": row.details.get("error") or row.details.get("why") or "",
                "told": row.details.get("told", []),
            }
            for row in session.execute(query)
        ],
    }


def _revision(session: Session) -> dict[str, Any] | None:
    query = select(Revision.id, Revision.accepted_at, Revision.author, Revision.file)
    row = session.execute(query.order_by(Revision.id.desc()).limit(1)).first()
    if row is None:
        return None
    return {"id": row.id, "accepted_at": iso(row.accepted_at), "author": row.author, "file": row.file}


# --- tasks ----------------------------------------------------------------------------------------------------------


def _counts(session: Session, since: dt.datetime) -> dict[str, dict[str, int]]:
    kind = unindexed(Task.kind)
    query = (
        select(kind.label("kind"), Task.state, func.count().label("number"))
        .where(Task.finished_at >= since)
        .group_by(kind, Task.state)
    )
    counts: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for row in session.execute(query):
        counts[row.kind][row.state] = row.number
    return counts


def _count(session: Session, *conditions: Any) -> int:
    return session.execute(select(func.count()).select_from(Task).where(*conditions)).scalar_one()


def _is_late(now: dt.datetime) -> Any:
    return and_(Task.state.in_((PLANNED, QUEUED, RETRYING)), Task.due_at < now - LATE_AFTER)


def _late_count(session: Session, now: dt.datetime) -> int:
    return _count(session, _is_late(now))


def _late(session: Session, now: dt.datetime) -> list[dict[str, Any]]:
    query = (
        select(Task.id, Task.schedule, Task.task, Task.kind, Task.queue, Task.state, Task.due_at)
        .where(_is_late(now))
        .order_by(Task.due_at)
        .limit(MOST)
    )
    return [
        {
            "id": row.id,
            "name": row.schedule or row.task,
            "kind": row.kind,
            "queue": row.queue,
            "state": row.state,
            "due_at": iso(row.due_at),
            "seconds_late": _seconds(now - row.due_at),
        }
        for row in session.execute(query)
    ]


def _running(session: Session, now: dt.datetime) -> list[dict[str, Any]]:
    query = (
        select(
            Task.id,
            Task.schedule,
            Task.task,
            Task.kind,
            Task.progress,
            Task.attempt,
            Task.worker,
            Task.stop_requested_at,
            Attempt.started_at,
        )
        .outerjoin(Attempt, and_(Attempt.task_id == Task.id, Attempt.number == Task.attempt))
        .where(Task.state == RUNNING)
        .order_by(Task.started_at, Task.id)
        .limit(MOST)
    )
    return [
        {
            "id": row.id,
            "name": row.schedule or row.task,
            "kind": row.kind,
            "attempt": row.attempt,
            "worker": row.worker,
            "progress": row.progress,
            "seconds": _seconds(now - row.started_at) if row.started_at else None,
            "stop_requested": row.stop_requested_at is not None,
        }
        for row in session.execute(query)
    ]


def waiting_tasks(session: Session, now: dt.datetime) -> list[dict[str, Any]]:
    """By queue, how many tasks are due and have not started, and since when the oldest is."""
    query = (
        select(Task.queue, func.count().label("number"), func.min(Task.due_at).label("oldest"))
        .where(Task.state.in_((PLANNED, QUEUED, RETRYING)), Task.due_at <= now)
        .group_by(Task.queue)
        .order_by(Task.queue)
    )
    return [
        {"queue": row.queue, "depth": row.number, "oldest_seconds": _seconds(now - row.oldest)}
        for row in session.execute(query)
    ]


def _upcoming(session: Session, now: dt.datetime) -> list[dict[str, Any]]:
    rows: list[Row[Any]] = []
    for state in (PLANNED, RETRYING):  # one by one: the index (state, due_at) then gives the first five at once
        query = (
            select(Task.id, Task.schedule, Task.task, Task.kind, Task.state, Task.due_at)
            .where(Task.state == state, Task.due_at > now)
            .order_by(Task.due_at, Task.id)
            .limit(5)
        )
        rows.extend(session.execute(query))
    rows.sort(key=lambda row: (row.due_at, row.id))
    return [
        {
            "id": row.id,
            "name": row.schedule or row.task,
            "kind": row.kind,
            "state": row.state,
            "due_at": iso(row.due_at),
            "in_seconds": _seconds(row.due_at - now),
        }
        for row in rows[:5]
    ]


# --- parts ----------------------------------------------------------------------------------------------------------


def parts_of(session: Session, now: dt.datetime) -> list[dict[str, Any]]:
    """Every part that has ticked within a day or so, and how long ago."""
    return [_part(part, now) for part in parts.all_parts(session)]


def _part(part: Part, now: dt.datetime) -> dict[str, Any]:
    return {
        "part": part.part,
        "name": part.name,
        "host": part.host,
        "pid": part.pid,
        "seconds_since_tick": _seconds(now - part.ticked_at),
        "seconds_since_start": _seconds(now - part.started_at),
        "silent": now - part.ticked_at > SILENT_AFTER,
        "details": dict(part.details),
    }


def files_not_in_force(session: Session, seen: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The schedule files that living keepers watch and that are not what is in force, each with the reason: it was
    refused, or another text has been taken since, by a rollback or from another host."""
    latest = session.execute(select(Revision.id, Revision.text_hash).order_by(Revision.id.desc()).limit(1)).first()
    found = []
    for one in seen:
        if one["part"] != "keeper" or one["silent"]:
            continue
        file, trouble, text_hash = (one["details"].get(key) for key in ("file", "trouble", "text_hash"))
        message = trouble["message"] if trouble else None
        if message is None and latest is not None and text_hash not in (None, latest.text_hash):
            message = f"{file} is not the text of revision {latest.id}, which is in force"
        if message is not None:
            since = trouble["since"] if trouble else None
            told = {"host": one["host"], "file": file, "refused": bool(trouble), "message": message, "since": since}
            found.append({**told, "faults": trouble["faults"] if trouble else []})
    return found


def _outbox(session: Session, now: dt.datetime) -> dict[str, Any]:
    found = outbox.counts(session, now)
    return {
        "waiting": found.waiting,
        "oldest_seconds": None if found.oldest is None else _seconds(found.oldest),
        "given_up": found.given_up,
        "last_error": found.last_error,
    }


def _watchdog(seen: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """When a keeper last called the watchdog, and what kept it from that since; None when none is set."""
    told = [one["details"].get("watchdog") for one in seen if one["part"] == "keeper" and not one["silent"]]
    known: list[dict[str, Any]] = [one for one in told if one]
    return max(known, key=lambda one: one["pinged_at"] or "", default=None)


def kinds_without_worker(session: Session, seen: list[dict[str, Any]]) -> list[str]:
    """The kinds that have tasks to run, now or later, and no worker that ticks."""
    return [
        kind
        for kind in KINDS
        if not alive(seen, f"worker-{kind}")
        and session.execute(select(exists().where(unindexed(Task.kind) == kind, _is_unfinished()))).scalar()
    ]


def _is_unfinished() -> Any:
    return Task.state.in_(sorted(UNFINISHED))


def _redis(room: WaitingRoom | None, queues: Iterable[str]) -> dict[str, Any] | None:
    if room is None:
        return None
    try:
        room.is_planted()
        return {"answers": True, "message": "answers", "depths": {queue: room.depth(queue) for queue in queues}}
    except RedisAway as error:
        return {"answers": False, "message": str(error), "depths": {}}


# --- the verdict ----------------------------------------------------------------------------------------------------


def _problems(status: dict[str, Any], idle: list[str]) -> list[str]:
    count = status["schedules"]
    found = [
        f"{number} {word}"
        for number, word in (
            (count["failing"], "failing"),
            (status["late_count"], "late"),
            (count["parked"], "parked"),
            *((status["alerts"]["events"].get(event, 0), words) for event, words in ONLY_AN_ALERT.items()),
        )
        if number
    ]
    if any(one["refused"] for one in status["files"]):
        found.append("schedule file refused")
    mail_age = status["outbox"]["oldest_seconds"] or 0.0
    if mail_age > MAIL_STUCK_AFTER.total_seconds():
        found.append(f"mail stuck for {_brief(mail_age)}")
    seen = status["parts"]
    if not any(not one["silent"] for one in seen):
        return [*found, f"{_silence(seen)}: {SERVICE_DOWN}"]
    if status["redis"] is not None and not status["redis"]["answers"]:
        found.append("Redis is away")
    for part in ("dispatcher", "keeper"):
        if not alive(seen, part):
            own = [one for one in seen if one["part"] == part]
            found.append(_silence(own, f"no {part}", part))
    if (web := silent_web(seen)) is not None:
        found.append(f"web silent for {_brief(web)}")
    for timer, age in stalled(seen).items():
        found.append(f"{timer} stuck" + (f" for {_brief(age)}" if age is not None else ""))
    found.extend(f"no worker of kind {kind}" for kind in idle)
    return found


def _silence(seen: list[dict[str, Any]], nobody: str = "no part has ticked", somebody: str = "") -> str:
    if not seen:
        return nobody
    age = _brief(min(one["seconds_since_tick"] for one in seen))
    return f"{somebody} silent for {age}" if somebody else f"{nobody} for {age}"


def _verdict(status: dict[str, Any]) -> str:
    """Such as «41 schedules, 2 failing, 1 late; ticked 1 s ago; next: stock-sync in 2 m»."""
    total = status["schedules"]["total"]
    head = "1 schedule" if total == 1 else f"{total} schedules"
    clauses = [", ".join((head, *(status["problems"] or ["all is well"])))]
    ages = [
        min((one["seconds_since_tick"] for one in status["parts"] if one["part"] == part), default=None)
        for part in ("dispatcher", "keeper")
    ]
    known = [age for age in ages if age is not None]
    if len(known) == len(ages) and max(known) <= SILENT_AFTER.total_seconds():
        clauses.append(f"ticked {_whole(max(known))} ago")
    if status["upcoming"] and any(not one["silent"] for one in status["parts"]):
        first = status["upcoming"][0]
        clauses.append(f"next: {first['name']} in {_whole(first['in_seconds'])}")
    return "; ".join(clauses)


def _seconds(duration: dt.timedelta) -> float:
    return round(duration.total_seconds(), 1)


def _whole(seconds: float) -> str:
    """In a sentence that is read again each second tenths only flicker."""
    return _brief(int(seconds)) if seconds >= 1 else "0 s"


def _brief(seconds: float) -> str:
    return brief(dt.timedelta(seconds=seconds))
