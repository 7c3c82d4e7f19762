"""The tables of who may come in: users, their sessions, tokens for programs; what they did, and what they asked twice.

No secret stands in them: a password is kept as its scrypt hash, a session and a token as the SHA-256 of a random text
that only its holder has.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.rules.roles import ROLES
from scheduler.store.base import Base, BigId, one_of
from scheduler.store.types import FixedJson


class User(Base):
    """A person who may log in."""

    __tablename__ = "web_user"  # «user» alone is a word of SQL

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str]  # engine/passwords.py
    role: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[dt.datetime]
    disabled_at: Mapped[dt.datetime | None]

    __table_args__ = (CheckConstraint(one_of("role", ROLES), name="role"),)


class WebSession(Base):
    """A browser in which a user has logged in; deleted when it is over."""

    __tablename__ = "web_session"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)  # of the cookie's value
    user_id: Mapped[int] = mapped_column(ForeignKey("web_user.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime]
    seen_at: Mapped[dt.datetime]
    address: Mapped[str]


class ApiToken(Base):
    """What a program shows instead of a password."""

    __tablename__ = "api_token"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(8))  # it may never do more than its user
    user_id: Mapped[int] = mapped_column(ForeignKey("web_user.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime]
    expires_at: Mapped[dt.datetime | None]
    used_at: Mapped[dt.datetime | None]  # to the minute

    __table_args__ = (CheckConstraint(one_of("role", ROLES), name="role"),)


class AuditLine(Base):
    """Who did what, when and from where; written in the transaction that does it, never changed."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[dt.datetime]
    who: Mapped[str]
    via: Mapped[str] = mapped_column(String(16))  # session, token, proxy, open, cli, file
    address: Mapped[str]  # of the browser or program; the host's name for the command line
    action: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str]  # "schedule nightly", "task 17", "user jana"
    details: Mapped[dict[str, Any]] = mapped_column(FixedJson)  # secrets masked

    __table_args__ = (
        Index("ix_audit_subject_id", "subject", "id"),
        {"sqlite_autoincrement": True},
    )


class IdempotencyKey(Base):
    """What was answered to a request that a program may repeat; written in the transaction that does what it asks."""

    __tablename__ = "idempotency_key"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    caller: Mapped[str]
    key: Mapped[str] = mapped_column(String(128))
    request_hash: Mapped[str] = mapped_column(String(64))
    status: Mapped[int] = mapped_column(Integer)
    body: Mapped[dict[str, Any]] = mapped_column(FixedJson)
    created_at: Mapped[dt.datetime]

    __table_args__ = (UniqueConstraint("caller", "key"), Index("ix_idempotency_key_created_at", "created_at"))
