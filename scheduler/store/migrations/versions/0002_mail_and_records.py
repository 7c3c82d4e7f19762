"""Outbox, happenings, alerts, digests; artifacts, result kinds, causes of errors; slots of kinds"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Moment = sa.BigInteger()  # microseconds since 1970
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

WAITING = sa.text("state = 'waiting'")
OPEN = sa.text("state = 'open'")
SLOT = sa.text("state = 'running' AND slot IS NOT NULL")
RETRY = sa.text("retry_of IS NOT NULL")


def upgrade() -> None:
    extend_task()
    op.add_column("attempt", sa.Column("causes", Json, nullable=True))
    create_artifact()
    create_outbox()
    create_happening()
    create_alert()
    create_digest_issue()


def extend_task() -> None:
    op.add_column("task", sa.Column("slot", sa.Integer(), nullable=True))
    op.add_column("task", sa.Column("result_kind", sa.String(8), nullable=True))
    op.create_index(
        "uq_task_kind_slot_running", "task", ["kind", "slot"], unique=True, sqlite_where=SLOT, postgresql_where=SLOT
    )
    op.create_index("ix_task_retry_of", "task", ["retry_of"], sqlite_where=RETRY, postgresql_where=RETRY)


def create_artifact() -> None:
    op.create_table(
        "artifact",
        sa.Column("id", BigId, nullable=False),
        sa.Column("task_id", BigId, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_artifact_task_id"), ondelete="CASCADE"),
    )
    op.create_index("ix_artifact_task_id", "artifact", ["task_id"])


def create_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", BigId, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("about", sa.String(8), nullable=False),
        sa.Column("channel", sa.String(8), nullable=False),
        sa.Column("contact", sa.String(64), nullable=False),
        sa.Column("address", Json, nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("next_try_at", Moment, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("token", sa.String(36), nullable=True),
        sa.Column("lease_until", Moment, nullable=True),
        sa.Column("sent_at", Moment, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("refused", Json, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("key", name=op.f("uq_outbox_key")),
        sa.CheckConstraint("about IN ('alert', 'digest', 'test')", name=op.f("ck_outbox_about")),
        sa.CheckConstraint("channel IN ('email', 'slack', 'webhook')", name=op.f("ck_outbox_channel")),
        sa.CheckConstraint("state IN ('given_up', 'sent', 'waiting')", name=op.f("ck_outbox_state")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_waiting", "outbox", ["next_try_at"], sqlite_where=WAITING, postgresql_where=WAITING)
    op.create_index("ix_outbox_created_at", "outbox", ["created_at"])


def create_happening() -> None:
    op.create_table(
        "happening",
        sa.Column("id", BigId, nullable=False),
        sa.Column("happened_at", Moment, nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("schedule_id", sa.Integer(), nullable=True),
        sa.Column("task_id", BigId, nullable=True),
        sa.Column("details", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_happening")),
        sqlite_autoincrement=True,
    )


def create_alert() -> None:
    op.create_table(
        "alert",
        sa.Column("id", BigId, nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("schedule_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("opened_at", Moment, nullable=False),
        sa.Column("last_at", Moment, nullable=False),
        sa.Column("told_at", Moment, nullable=True),
        sa.Column("closed_at", Moment, nullable=True),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("told_times", sa.Integer(), nullable=False),
        sa.Column("details", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert")),
        sa.CheckConstraint("state IN ('closed', 'open')", name=op.f("ck_alert_state")),
        sa.CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name=op.f("ck_alert_closed")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_alert_subject_open", "alert", ["subject"], unique=True, sqlite_where=OPEN, postgresql_where=OPEN
    )
    op.create_index("ix_alert_subject_closed_at", "alert", ["subject", "closed_at"])


def create_digest_issue() -> None:
    op.create_table(
        "digest_issue",
        sa.Column("id", BigId, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("covers_from", Moment, nullable=False),
        sa.Column("covers_until", Moment, nullable=False),
        sa.Column("task_id", BigId, nullable=True),
        sa.Column("made_at", Moment, nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("is_green", sa.Boolean(), nullable=False),
        sa.Column("delivered_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_digest_issue")),
        sa.UniqueConstraint("digest", "covers_until", name=op.f("uq_digest_issue_digest_covers_until")),
        sqlite_autoincrement=True,
    )
