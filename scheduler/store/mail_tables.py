"""The tables of what is told: happenings, the alerts they lead to, the digests, and the outbox that all mail waits in.

Whoever changes a task's state in a way that someone may want to hear of writes a happening in the same transaction;
the keeper turns happenings into alerts, and alerts and digests into rows of the outbox; a mailer sends those.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import CheckConstraint, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.store.base import Base, BigId, one_of
from scheduler.store.types import FixedJson

ABOUT = ("alert", "digest", "test")
CHANNELS = ("email", "slack", "webhook")
WAITING, SENT, GIVEN_UP = "waiting", "sent", "given_up"
OPEN, CLOSED = "open", "closed"


class OutboxMessage(Base):
    """One message to one address or group of addresses, until it is sent or given up."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)  # what it tells and to whom; the same thing is never queued twice
    message_id: Mapped[str]  # of the mail's header, or the webhook's delivery; the same however often it is sent
    about: Mapped[str] = mapped_column(String(8))
    channel: Mapped[str] = mapped_column(String(8))
    contact: Mapped[str] = mapped_column(String(64))  # the contact's name; "" for an address given by hand
    address: Mapped[dict[str, Any]] = mapped_column(FixedJson)  # notify/: how it is reached
    content: Mapped[dict[str, Any]] = mapped_column(FixedJson)  # a letter, or the body of a hook
    created_at: Mapped[dt.datetime]
    next_try_at: Mapped[dt.datetime]
    tries: Mapped[int] = mapped_column(default=0)
    state: Mapped[str] = mapped_column(String(8), default=WAITING)
    token: Mapped[str | None] = mapped_column(String(36))  # of the mailer that is at it
    lease_until: Mapped[dt.datetime | None]
    sent_at: Mapped[dt.datetime | None]
    last_error: Mapped[str | None]
    refused: Mapped[dict[str, Any] | None] = mapped_column(FixedJson)  # recipient -> what the server said

    __table_args__ = (
        CheckConstraint(one_of("about", ABOUT), name="about"),
        CheckConstraint(one_of("channel", CHANNELS), name="channel"),
        CheckConstraint(one_of("state", (WAITING, SENT, GIVEN_UP)), name="state"),
        Index(
            "ix_outbox_waiting",
            "next_try_at",
            sqlite_where=text(f"state = '{WAITING}'"),
            postgresql_where=text(f"state = '{WAITING}'"),
        ),
        Index("ix_outbox_created_at", "created_at"),
        {"sqlite_autoincrement": True},
    )


class Happening(Base):
    """Something that someone may want to hear of, written with what it is about; deleted once alerts have heard it."""

    __tablename__ = "happening"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    happened_at: Mapped[dt.datetime]
    event: Mapped[str] = mapped_column(String(16))  # rules/mail/alerts.py: EVENTS
    schedule_id: Mapped[int | None]
    task_id: Mapped[int | None] = mapped_column(BigId)
    details: Mapped[dict[str, Any]] = mapped_column(FixedJson)

    __table_args__ = ({"sqlite_autoincrement": True},)


class Alert(Base):
    """Something wrong that has been told, from its beginning to its end."""

    __tablename__ = "alert"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    subject: Mapped[str]  # what is wrong: "schedule:17:failed", "kind:long:no_worker", "file:bad_file"
    event: Mapped[str] = mapped_column(String(16))
    schedule_id: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(8), default=OPEN)
    opened_at: Mapped[dt.datetime]
    last_at: Mapped[dt.datetime]  # when it last happened
    told_at: Mapped[dt.datetime | None]  # when it was last told
    closed_at: Mapped[dt.datetime | None]
    times: Mapped[int] = mapped_column(default=1)  # how often it has happened since it was opened
    told_times: Mapped[int] = mapped_column(default=0)
    details: Mapped[dict[str, Any]] = mapped_column(FixedJson)

    __table_args__ = (
        CheckConstraint(one_of("state", (OPEN, CLOSED)), name="state"),
        CheckConstraint(f"(state = '{CLOSED}') = (closed_at IS NOT NULL)", name="closed"),
        Index(
            "uq_alert_subject_open",
            "subject",
            unique=True,
            sqlite_where=text(f"state = '{OPEN}'"),
            postgresql_where=text(f"state = '{OPEN}'"),
        ),
        Index("ix_alert_subject_closed_at", "subject", "closed_at"),
        {"sqlite_autoincrement": True},
    )


class DigestIssue(Base):
    """One issue of a digest: what it covered, and whether it reached anyone."""

    __tablename__ = "digest_issue"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    covers_from: Mapped[dt.datetime]
    covers_until: Mapped[dt.datetime]
    task_id: Mapped[int | None] = mapped_column(BigId)
    made_at: Mapped[dt.datetime]
    subject: Mapped[str]
    is_green: Mapped[bool]
    delivered_at: Mapped[dt.datetime | None]  # when its first message was taken; None: not yet, or never

    __table_args__ = (
        UniqueConstraint("digest", "covers_until"),
        {"sqlite_autoincrement": True},
    )
