"""The first tables"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The types and words as they were at this revision: a later change of store/tables.py must not change what this made.
Moment = sa.BigInteger()  # microseconds since 1970
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

STATES = "state IN ('cancelled', 'failed', 'lost', 'missed', 'planned', 'queued', 'retrying', 'running', 'skipped', 'succeeded')"
FINISHED = "(state IN ('cancelled', 'failed', 'lost', 'missed', 'skipped', 'succeeded')) = (finished_at IS NOT NULL)"
KINDS = "kind IN ('adhoc', 'long', 'scheduled')"
ORIGINS = "origin IN ('api', 'backfill', 'catch_up', 'manual', 'retry', 'schedule')"
HELD = "state <> 'running' OR (token IS NOT NULL AND lease_until IS NOT NULL AND attempt > 0)"
OUTCOMES = "outcome IS NULL OR outcome IN ('cancelled', 'failed', 'lost', 'succeeded', 'timed_out')"
ENDED = "(outcome IS NULL) = (ended_at IS NULL)"
UNFINISHED = sa.text("state IN ('planned', 'queued', 'retrying', 'running')")
RUNNING = sa.text("state = 'running'")


def upgrade() -> None:
    create_revision()
    create_schedule()
    create_task()
    create_gap()
    create_attempt()
    create_log_chunk()
    create_part()


def create_revision() -> None:
    op.create_table(
        "revision",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("accepted_at", Moment, nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_hash", sa.String(64), nullable=False),
        sa.Column("changes", Json, nullable=False),
        sa.Column("book", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revision")),
    )


def create_schedule() -> None:
    op.create_table(
        "schedule",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("in_force_since", Moment, nullable=False),
        sa.Column("planned_until", Moment, nullable=False),
        sa.Column("planned_runs", sa.Integer(), nullable=False),
        sa.Column("pause", Json, nullable=True),
        sa.Column("file_pause", Json, nullable=True),
        sa.Column("failures_in_a_row", sa.Integer(), nullable=False),
        sa.Column("parked", sa.Text(), nullable=True),
        sa.Column("retired_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
        sa.UniqueConstraint("name", name=op.f("uq_schedule_name")),
        sa.ForeignKeyConstraint(["revision_id"], ["revision.id"], name=op.f("fk_schedule_revision_id")),
    )
    op.create_index(
        "ix_schedule_planned_until", "schedule", ["planned_until"], sqlite_where=sa.text("retired_at IS NULL")
    )


def create_task() -> None:
    op.create_table(
        "task",
        sa.Column("id", BigId, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("schedule_id", sa.Integer(), nullable=True),
        sa.Column("schedule", sa.String(64), nullable=True),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("args", Json, nullable=False),
        sa.Column("policy", Json, nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("fire_time", Moment, nullable=True),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("start_by", Moment, nullable=True),
        sa.Column("lane", sa.String(80), nullable=True),
        sa.Column("queue", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason_code", sa.String(32), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(36), nullable=True),
        sa.Column("lease_until", Moment, nullable=True),
        sa.Column("stop_requested_at", Moment, nullable=True),
        sa.Column("stop_requested_by", sa.Text(), nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("queued_at", Moment, nullable=True),
        sa.Column("started_at", Moment, nullable=True),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("result", Json, nullable=True),
        sa.Column("error", Json, nullable=True),
        sa.Column("progress", Json, nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("retry_of", BigId, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
        sa.UniqueConstraint("schedule_id", "fire_time", name=op.f("uq_task_schedule_id_fire_time")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_task_schedule_id")),
        sa.ForeignKeyConstraint(["retry_of"], ["task.id"], name=op.f("fk_task_retry_of")),
        sa.CheckConstraint(STATES, name=op.f("ck_task_state")),
        sa.CheckConstraint(KINDS, name=op.f("ck_task_kind")),
        sa.CheckConstraint(ORIGINS, name=op.f("ck_task_origin")),
        sa.CheckConstraint("attempt >= 0", name=op.f("ck_task_attempt")),
        sa.CheckConstraint(HELD, name=op.f("ck_task_running")),
        sa.CheckConstraint(FINISHED, name=op.f("ck_task_finished")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_task_lane_running", "task", ["lane"], unique=True, sqlite_where=RUNNING, postgresql_where=RUNNING
    )
    for name, columns in (
        ("ix_task_unfinished", ["state", "due_at"]),
        ("ix_task_lane_unfinished", ["lane", "state"]),
    ):
        op.create_index(name, "task", columns, sqlite_where=UNFINISHED, postgresql_where=UNFINISHED)
    for name, columns in (
        ("ix_task_kind_id", ["kind", "id"]),
        ("ix_task_state_id", ["state", "id"]),
        ("ix_task_schedule_id_id", ["schedule_id", "id"]),
        ("ix_task_finished_at", ["finished_at"]),
    ):
        op.create_index(name, "task", columns)


def create_gap() -> None:
    op.create_table(
        "gap",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("schedule_id", sa.Integer(), nullable=False),
        sa.Column("first", Moment, nullable=False),
        sa.Column("last", Moment, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("recorded_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gap")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_gap_schedule_id")),
    )
    op.create_index("ix_gap_schedule_id", "gap", ["schedule_id"])


def create_attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("id", BigId, nullable=False),
        sa.Column("task_id", BigId, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(36), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("ended_at", Moment, nullable=True),
        sa.Column("outcome", sa.String(16), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("peak_memory", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
        sa.UniqueConstraint("task_id", "number", name=op.f("uq_attempt_task_id_number")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_attempt_task_id"), ondelete="CASCADE"),
        sa.CheckConstraint(OUTCOMES, name=op.f("ck_attempt_outcome")),
        sa.CheckConstraint(ENDED, name=op.f("ck_attempt_ended")),
    )
    is_open = sa.text("ended_at IS NULL")
    op.create_index("ix_attempt_open", "attempt", ["task_id"], sqlite_where=is_open, postgresql_where=is_open)


def create_log_chunk() -> None:
    op.create_table(
        "log_chunk",
        sa.Column("id", BigId, nullable=False),
        sa.Column("task_id", BigId, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("written_at", Moment, nullable=False),
        sa.Column("lines", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_chunk")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_log_chunk_task_id"), ondelete="CASCADE"),
    )
    op.create_index("ix_log_chunk_task_id", "log_chunk", ["task_id"])


def create_part() -> None:
    op.create_table(
        "part",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("part", sa.String(32), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("ticked_at", Moment, nullable=False),
        sa.Column("details", Json, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_part")),
    )
