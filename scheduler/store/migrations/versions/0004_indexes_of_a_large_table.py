"""Indexes for a table that stays fast: history by what it is asked for, and only once a task has ended"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ENDED = sa.text("finished_at IS NOT NULL")
UNFINISHED = sa.text("state IN ('planned', 'queued', 'retrying', 'running')")
WAITING = sa.text("reason_code = 'waiting'")
OF_SCHEDULES = sa.text("schedule_id IS NOT NULL")
IN_SPAN = (
    "finished_at",
    "id",
    "schedule_id",
    "kind",
    "state",
    "attempt",
    "started_at",
    "due_at",
    "task",
    "reason_code",
)


def upgrade() -> None:
    for name in ("ix_task_kind_id", "ix_task_schedule_id_id", "ix_task_finished_at", "ix_task_unfinished"):
        op.drop_index(name, "task")
    for name, columns, condition in (
        ("ix_task_unfinished", ("state", "due_at", "id", "kind", "schedule_id"), UNFINISHED),
        ("ix_task_waiting", ("kind", "id"), WAITING),
        ("ix_task_schedule_state", ("schedule_id", "state", "kind", "finished_at", "id"), OF_SCHEDULES),
        ("ix_task_ended", IN_SPAN, ENDED),
        ("ix_task_ended_kind", ("kind", "state", "finished_at", "id"), ENDED),
        ("ix_task_ended_of_schedule", ("schedule_id", "id"), ENDED),
    ):
        op.create_index(name, "task", list(columns), sqlite_where=condition, postgresql_where=condition)
