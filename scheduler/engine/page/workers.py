"""Who works: the parts of the service with the age of their last tick, the workers with what they do, the queues."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import iso
from scheduler.engine.answers.status import SLOWEST, kinds_without_worker, parts_of, waiting_tasks
from scheduler.engine.page.now import queues_of, still_parts
from scheduler.errors import RedisAway
from scheduler.rules.states import KINDS, RUNNING
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.tables import Task

Told = dict[str, Any]


def workers_of(database: Database, room: WaitingRoom | None) -> Told:
    """{"now", "parts", "workers", "queues", "kinds", "redis", "troubles"}; without `room` Redis is not asked."""
    with database.read() as session:
        now = schedules.now(session)
        seen = parts_of(session, now)
        told: Told = {
            "now": iso(now),
            "parts": [_part(one, now) for one in seen if not _is_worker(one)],
            "workers": _workers(session, [one for one in seen if _is_worker(one)], now),
            "queues": queues_of({"waiting": waiting_tasks(session, now), "parts": seen}),
            "kinds": _kinds(session),
            "idle_kinds": kinds_without_worker(session, seen),
        }
    told["troubles"] = still_parts(seen)
    _ask_redis(told, room)
    return told


def _is_worker(part: Told) -> bool:
    return str(part["part"]).startswith("worker-")


def _part(part: Told, now: dt.datetime) -> Told:
    """A part, when it ticked and began as moments, and what it says of itself in a few words."""
    return {
        **part,
        "ticked_at": iso(now - dt.timedelta(seconds=part["seconds_since_tick"])),
        "started_at": iso(now - dt.timedelta(seconds=part["seconds_since_start"])),
        "said": _said(part),
    }


def _said(part: Told) -> str:
    details = part["details"]
    if part["part"] == "dispatcher" and isinstance(details.get("moved"), int):
        return f"moved {details['moved']:,} tasks to their queues"
    if part["part"] == "keeper":
        ages = [
            f"{timer} {details[timer]:.0f} s ago" for timer in SLOWEST if isinstance(details.get(timer), int | float)
        ]
        return ", ".join(ages)
    if isinstance(details.get("url"), str):
        return str(details["url"])
    return ""


def _workers(session: Session, seen: Sequence[Told], now: dt.datetime) -> list[Told]:
    ids = [one["details"]["task"] for one in seen if isinstance(one["details"].get("task"), int)]
    query = select(Task.id, Task.schedule, Task.task, Task.state, Task.started_at).where(Task.id.in_(ids))
    tasks = {row.id: row for row in session.execute(query)} if ids else {}
    found = []
    for one in seen:
        row = tasks.get(one["details"].get("task"))
        doing = None
        if row is not None and row.state == RUNNING:  # a tick is a few seconds old: it may have ended since
            doing = {"id": row.id, "name": row.schedule or row.task, "since": iso(row.started_at)}
        kind = one["part"].removeprefix("worker-")
        queue = one["details"].get("queue") or kind
        found.append({**_part(one, now), "kind": kind, "queue": queue, "doing": doing})
    return found


def _kinds(session: Session) -> list[Told]:
    """Each kind with its queue and limits as the file in force has them, and how many run."""
    revision = schedules.latest_revision(session)
    limits = (revision.book.get("kinds") or {}) if revision is not None else {}
    query = select(Task.kind, func.count().label("number")).where(Task.state == RUNNING).group_by(Task.kind)
    running = {row.kind: row.number for row in session.execute(query)}
    return [
        {
            "kind": kind,
            "queue": (limits.get(kind) or {}).get("queue") or kind,
            "max_running": (limits.get(kind) or {}).get("max_running"),
            "running": running.get(kind, 0),
        }
        for kind in KINDS
    ]


def _ask_redis(told: Told, room: WaitingRoom | None) -> None:
    """How long the queues are in Redis, which a task reaches when it is moved there; None when it does not answer."""
    told["redis"] = None
    for one in told["queues"]:
        one["in_redis"] = None
    if room is None:
        return
    try:
        for one in told["queues"]:
            one["in_redis"] = room.depth(one["queue"])
        told["redis"] = "answers"
    except RedisAway as error:
        told["redis"] = str(error)
        told["troubles"].append(str(error))
