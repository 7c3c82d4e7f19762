"""Builders for tests: each makes one thing that is whole, and takes by name only what matters to the test."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy.orm import Session

from scheduler.clock import EPOCH, utc_now
from scheduler.errors import FileFaults
from scheduler.rules.file.schedule_file import load_book, source_text_hash
from scheduler.rules.spec import Book, Every, KindSpec, ScheduleSpec, Timeout
from scheduler.rules.states import FINAL, PLANNED, RUNNING
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store.tables import Attempt, Revision, Schedule, Task

MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)
A_LONG_LEASE = HOUR


def at(clock: str, day: str = "2026-11-24") -> dt.datetime:
    """A moment by its time of day, UTC: `at("02:00")`, `at("02:00:30")`."""
    return dt.datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=dt.UTC)


def a_spec(**fields: Any) -> ScheduleSpec:
    """A schedule that fires every five minutes, in UTC, unless told otherwise; `every` is short for `when`."""
    every = fields.pop("every", dt.timedelta(minutes=5))
    plain: dict[str, Any] = {"name": "nightly", "task": "count_words", "when": (Every(every=every),), "timezone": "UTC"}
    return ScheduleSpec(**{**plain, **fields})


def a_book(text: str) -> tuple[Book, bytes]:
    """The book that a schedule file holds, and its bytes; the head of the file is added. Raises FileFaults."""
    whole = f"version: 1\ntimezone: UTC\n{text}".encode()
    loaded = load_book(whole, file="schedules.yaml", functions=None, now=utc_now())
    if loaded.book is None:
        raise FileFaults(loaded.faults)
    return loaded.book, whole


def a_book_of(*specs: ScheduleSpec, **fields: Any) -> tuple[Book, bytes]:
    """A book that holds these schedules, and bytes that differ where the book does."""
    hard = Timeout(soft=MINUTE, hard=2 * MINUTE)
    kinds = {kind: KindSpec(name=kind, queue=kind, timeout=hard) for kind in ("scheduled", "long", "adhoc")}
    plain: dict[str, Any] = {"file": "schedules.yaml", "timezone": "UTC", "kinds": kinds}
    book = Book(**{**plain, "schedules": {spec.name: spec for spec in specs}, **fields})
    return book, book.model_dump_json().encode()


def a_revision(session: Session, **fields: Any) -> Revision:
    plain = {
        "accepted_at": EPOCH,
        "author": "jana",
        "host": "here",
        "file": "schedules.yaml",
        "text": "",
        "text_hash": source_text_hash(""),
        "changes": {},
        "book": {},
    }
    revision = Revision(**{**plain, **fields})
    session.add(revision)
    session.flush()
    return revision


def a_schedule(session: Session, spec: ScheduleSpec | None = None, **fields: Any) -> Schedule:
    """A schedule in force, planned up to now unless told otherwise."""
    spec = spec or a_spec()
    now = utc_now()
    plain = {
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "fingerprint": spec.fingerprint(),
        "in_force_since": now,
        "planned_until": now,
    }
    revision_id = fields.pop("revision_id", None) or a_revision(session).id
    schedule = Schedule(**{**plain, "revision_id": revision_id, **fields})
    session.add(schedule)
    session.flush()
    return schedule


def a_task(session: Session, **fields: Any) -> Task:
    """A task that is due; what its state asks for (a token and a lease, a moment of its end) is filled in.

    `policy` may be a TaskPolicy.
    """
    now = utc_now()
    state = fields.get("state", PLANNED)
    policy = fields.pop("policy", TaskPolicy())
    plain: dict[str, Any] = {
        "kind": "scheduled",
        "origin": "schedule",
        "task": "count_words",
        "args": {},
        "policy": policy.model_dump(mode="json"),
        "idempotency_key": f"nightly@{uuid.uuid4()}",
        "due_at": fields.get("fire_time") or now - MINUTE,
        "queue": "scheduled",
        "state": state,
        "attempt": 0,
        "created_at": now,
    }
    if state in FINAL:
        plain["finished_at"] = now
    if state == RUNNING:
        plain |= {"attempt": 1, "token": str(uuid.uuid4()), "worker": "w1", "started_at": now}
        plain["lease_until"] = now + A_LONG_LEASE
    if isinstance(fields.get("schedule"), Schedule):
        schedule = fields.pop("schedule")
        plain |= {"schedule_id": schedule.id, "schedule": schedule.name}
    task = Task(**{**plain, **fields})
    session.add(task)
    session.flush()
    if state == RUNNING:
        an_attempt(session, task, number=task.attempt)
    return task


def an_attempt(session: Session, task: Task, **fields: Any) -> Attempt:
    plain: dict[str, Any] = {"number": 1, "token": task.token or "", "worker": "w1", "host": "here", "pid": 1}
    plain |= {"started_at": task.started_at or utc_now()}
    if fields.get("outcome"):
        plain["ended_at"] = utc_now()
    attempt = Attempt(task_id=task.id, **{**plain, **fields})
    session.add(attempt)
    session.flush()
    return attempt
