"""The tables: schedules and their revisions, tasks and their attempts, logs, artifacts, and the parts that tick. Those
of mail stand in mail_tables.py, those of users in access_tables.py.

Every change here needs a migration (store/migrations/versions); a test holds the two together.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.rules.states import FINAL, KINDS, ORIGINS, OUTCOMES, RUNNING, STATES, UNFINISHED
from scheduler.store.access_tables import ApiToken, AuditLine, IdempotencyKey, User, WebSession
from scheduler.store.base import Base, BigId, one_of
from scheduler.store.mail_tables import Alert, DigestIssue, Happening, OutboxMessage
from scheduler.store.types import FixedJson

__all__ = [
    "Alert",
    "ApiToken",
    "Artifact",
    "Attempt",
    "AuditLine",
    "Base",
    "DigestIssue",
    "Gap",
    "Happening",
    "IdempotencyKey",
    "LogChunk",
    "OutboxMessage",
    "Part",
    "Revision",
    "Schedule",
    "Task",
    "User",
    "WebSession",
]

PLANNED_FOR_EVER = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
"""`Schedule.planned_until` of a schedule that has no fire time left."""


def _of_ended(name: str, *columns: str) -> Index:
    """An index on ended tasks alone. A question that is to be answered by it says `finished_at IS NOT NULL` too."""
    is_ended = text("finished_at IS NOT NULL")
    return Index(name, *columns, sqlite_where=is_ended, postgresql_where=is_ended)


class Revision(Base):
    """One version of the schedule file as it was taken."""

    __tablename__ = "revision"

    id: Mapped[int] = mapped_column(primary_key=True)
    accepted_at: Mapped[dt.datetime]
    author: Mapped[str]
    host: Mapped[str]
    file: Mapped[str]
    text: Mapped[str]
    text_hash: Mapped[str] = mapped_column(String(64))
    changes: Mapped[dict[str, Any]]  # {"added": [...], "changed": [...], "removed": [...], "renamed": {...}}
    book: Mapped[dict[str, Any]]  # rules/spec.py: Book without its schedules: zone, kinds, retry policies, calendars


class Schedule(Base):
    """A schedule as it is in force, and how far its occurrences are planned."""

    __tablename__ = "schedule"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    spec: Mapped[dict[str, Any]] = mapped_column(FixedJson)  # rules/spec.py: ScheduleSpec
    fingerprint: Mapped[str] = mapped_column(String(64))
    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id"))
    in_force_since: Mapped[dt.datetime]
    planned_until: Mapped[dt.datetime]  # every fire time up to and with it has a row, or had one
    planned_runs: Mapped[int] = mapped_column(default=0)  # rows made since it is in force, for max_runs
    pause: Mapped[dict[str, Any] | None]  # the operator's, or its own after failures: {by, why, since, until}
    file_pause: Mapped[dict[str, Any] | None]  # what the file says; the same shape. Either of the two holds it
    failures_in_a_row: Mapped[int] = mapped_column(default=0)
    parked: Mapped[str | None]  # why it cannot fire although the file wants it: its task function is gone
    retired_at: Mapped[dt.datetime | None]  # since when the file no longer has it; history stays

    __table_args__ = (Index("ix_schedule_planned_until", "planned_until", sqlite_where=text("retired_at IS NULL")),)


class Task(Base):
    """One occurrence of a schedule, or one run somebody asked for; whatever became of it.

    Written through store/tasks.py only.
    """

    __tablename__ = "task"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    origin: Mapped[str] = mapped_column(String(16))
    schedule_id: Mapped[int | None] = mapped_column(ForeignKey("schedule.id"))
    schedule: Mapped[str | None] = mapped_column(String(64))  # the name, as it was when the row was made
    task: Mapped[str] = mapped_column(String(64))  # the task function's name
    args: Mapped[dict[str, Any]]
    policy: Mapped[dict[str, Any]]  # rules/task/policy.py: TaskPolicy
    idempotency_key: Mapped[str]
    fire_time: Mapped[dt.datetime | None]  # None for what no schedule fired
    due_at: Mapped[dt.datetime]  # when it may next go to its queue
    start_by: Mapped[dt.datetime | None]  # a first attempt does not start after it; None: no limit
    lane: Mapped[str | None] = mapped_column(String(80))  # never two running of one lane; None: no such limit
    queue: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    reason_code: Mapped[str | None] = mapped_column(String(32))  # for machines
    reason: Mapped[str | None]  # for people
    attempt: Mapped[int] = mapped_column(default=0)  # attempts begun
    token: Mapped[str | None] = mapped_column(String(36))  # of the attempt that holds it
    lease_until: Mapped[dt.datetime | None]
    stop_requested_at: Mapped[dt.datetime | None]
    stop_requested_by: Mapped[str | None]
    created_at: Mapped[dt.datetime]
    queued_at: Mapped[dt.datetime | None]
    started_at: Mapped[dt.datetime | None]  # of the first attempt
    finished_at: Mapped[dt.datetime | None]
    worker: Mapped[str | None]
    slot: Mapped[int | None]  # 1 to max_running of its kind while it runs; None: the kind has no such limit
    result: Mapped[dict[str, Any] | None]
    result_kind: Mapped[str | None] = mapped_column(String(8))  # rules/task/results.py: RESULT_KINDS
    error: Mapped[dict[str, Any] | None]  # of the last attempt that failed: {type, message, traceback}
    progress: Mapped[dict[str, Any] | None]  # {done, total, message, at}
    requested_by: Mapped[str | None]
    retry_of: Mapped[int | None] = mapped_column(BigId, ForeignKey("task.id"))

    __table_args__ = (
        UniqueConstraint("schedule_id", "fire_time"),
        CheckConstraint(one_of("state", STATES), name="state"),
        CheckConstraint(one_of("kind", KINDS), name="kind"),
        CheckConstraint(one_of("origin", ORIGINS), name="origin"),
        CheckConstraint("attempt >= 0", name="attempt"),
        CheckConstraint(
            f"state <> '{RUNNING}' OR (token IS NOT NULL AND lease_until IS NOT NULL AND attempt > 0)", name="running"
        ),
        CheckConstraint(f"({one_of('state', FINAL)}) = (finished_at IS NOT NULL)", name="finished"),
        # Overlap is held by the database: of two claims of one lane the second fails here, whatever raced.
        Index(
            "uq_task_lane_running",
            "lane",
            unique=True,
            sqlite_where=text(f"state = '{RUNNING}'"),
            postgresql_where=text(f"state = '{RUNNING}'"),
        ),
        # So is max_running of a kind: each of its running tasks has a slot, and no two the same.
        Index(
            "uq_task_kind_slot_running",
            "kind",
            "slot",
            unique=True,
            sqlite_where=text(f"state = '{RUNNING}' AND slot IS NOT NULL"),
            postgresql_where=text(f"state = '{RUNNING}' AND slot IS NOT NULL"),
        ),
        # Retention lets go of those that point to what it deletes.
        Index(
            "ix_task_retry_of",
            "retry_of",
            sqlite_where=text("retry_of IS NOT NULL"),
            postgresql_where=text("retry_of IS NOT NULL"),
        ),
        # The keeper and the status page ask for unfinished rows; history does not slow them.
        Index(
            "ix_task_unfinished",
            *("state", "due_at", "id", "kind", "schedule_id"),
            sqlite_where=text(one_of("state", UNFINISHED)),
            postgresql_where=text(one_of("state", UNFINISHED)),
        ),
        Index(
            "ix_task_lane_unfinished",
            "lane",
            "state",
            sqlite_where=text(one_of("state", UNFINISHED)),
            postgresql_where=text(one_of("state", UNFINISHED)),
        ),
        # Those that wait for a place among their kind: each end of a task of it asks for the first of them.
        Index(
            "ix_task_waiting",
            *("kind", "id"),
            sqlite_where=text("reason_code = 'waiting'"),
            postgresql_where=text("reason_code = 'waiting'"),
        ),
        Index("ix_task_state_id", "state", "id"),
        # Whole, since those who withdraw the waiting tasks of a schedule find them by it as well.
        Index(
            "ix_task_schedule_state",
            *("schedule_id", "state", "kind", "finished_at", "id"),
            sqlite_where=text("schedule_id IS NOT NULL"),
            postgresql_where=text("schedule_id IS NOT NULL"),
        ),
        # History. A task comes into these once, when it ends; on PostgreSQL every change writes to all that have it.
        # The first holds all that a digest and the counts need: a day of history is read without a look at its rows.
        _of_ended(
            "ix_task_ended",
            *("finished_at", "id", "schedule_id", "kind", "state", "attempt", "started_at", "due_at", "task"),
            "reason_code",
        ),
        _of_ended("ix_task_ended_kind", "kind", "state", "finished_at", "id"),
        _of_ended("ix_task_ended_of_schedule", "schedule_id", "id"),
        # An id is never given twice, also when the newest row was a forecast and is deleted: Redis may still know it.
        {"sqlite_autoincrement": True},
    )


class Gap(Base):
    """Fire times of a long standstill that were too many to get a row each."""

    __tablename__ = "gap"

    id: Mapped[int] = mapped_column(primary_key=True)
    schedule_id: Mapped[int] = mapped_column(ForeignKey("schedule.id"), index=True)
    first: Mapped[dt.datetime]
    last: Mapped[dt.datetime]
    count: Mapped[int]
    recorded_at: Mapped[dt.datetime]


class Attempt(Base):
    """One start of a task's function, and how it ended."""

    __tablename__ = "attempt"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    task_id: Mapped[int] = mapped_column(BigId, ForeignKey("task.id", ondelete="CASCADE"))
    number: Mapped[int]  # 1, 2, …
    token: Mapped[str] = mapped_column(String(36))
    worker: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(16))
    error_type: Mapped[str | None]
    error_message: Mapped[str | None]
    traceback: Mapped[str | None]
    causes: Mapped[list[dict[str, Any]] | None] = mapped_column(FixedJson)  # [{type, message}], the nearest first
    peak_memory: Mapped[int | None] = mapped_column(BigInteger)  # bytes; 2 GiB is no rarity

    __table_args__ = (
        UniqueConstraint("task_id", "number"),
        CheckConstraint(f"outcome IS NULL OR {one_of('outcome', OUTCOMES)}", name="outcome"),
        CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="ended"),
        # `doctor` asks which are open; there are never more than there are workers.
        Index(
            "ix_attempt_open",
            "task_id",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )


class LogChunk(Base):
    """Some lines that an attempt logged, as they came."""

    __tablename__ = "log_chunk"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    task_id: Mapped[int] = mapped_column(BigId, ForeignKey("task.id", ondelete="CASCADE"), index=True)
    attempt: Mapped[int]
    written_at: Mapped[dt.datetime]
    lines: Mapped[str]  # one line of the log a line: "06:30:01 INFO message"


class Artifact(Base):
    """A file that a run left as its result; found by its id, never by its name."""

    __tablename__ = "artifact"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    task_id: Mapped[int] = mapped_column(BigId, ForeignKey("task.id", ondelete="CASCADE"), index=True)
    attempt: Mapped[int]
    name: Mapped[str]  # as the function called it; for display alone
    media_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)  # bytes
    sha256: Mapped[str] = mapped_column(String(64))
    path: Mapped[str]  # in <data>/artifacts when relative; absolute for a file that was left where it is
    created_at: Mapped[dt.datetime]


class Part(Base):
    """A process of the service and when it last moved: silence is told, not guessed."""

    __tablename__ = "part"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)  # "dispatcher@host:pid"
    part: Mapped[str] = mapped_column(String(32))  # dispatcher, planner, reconcile, worker-long, …
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[dt.datetime]
    ticked_at: Mapped[dt.datetime]
    details: Mapped[dict[str, Any]]
