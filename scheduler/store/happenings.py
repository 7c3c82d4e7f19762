"""Happenings: what someone may want to hear of, written in the transaction that makes it so, deleted once heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, exists, select, text
from sqlalchemy.orm import Session

from scheduler.store.mail_tables import Happening
from scheduler.store.types import sql_now

LOCK = 0x72715F616C  # of the keeper that turns them into alerts, on PostgreSQL; any number that only we use
LONGEST_TEXT = 500  # letters of an error kept for a mail; the task's row has all of it


def tell(session: Session, event: str, schedule_id: int | None, task_id: int | None, **details: Any) -> None:
    """Write a happening; the caller commits, along with what it tells."""
    short = {name: value[:LONGEST_TEXT] if isinstance(value, str) else value for name, value in details.items()}
    session.add(Happening(happened_at=sql_now(), event=event, schedule_id=schedule_id, task_id=task_id, details=short))
    session.flush()


def has_any(session: Session) -> bool:
    return bool(session.execute(select(exists().where(Happening.id > 0))).scalar())


def oldest(session: Session, limit: int) -> list[Happening]:
    return list(session.scalars(select(Happening).order_by(Happening.id).limit(limit)))


def forget(session: Session, heard: Sequence[Happening]) -> None:
    """Delete those that were heard, and no others: one with a lower id may have been committed since."""
    for start in range(0, len(heard), 500):
        ids = [one.id for one in heard[start : start + 500]]
        statement = delete(Happening).where(Happening.id.in_(ids))
        session.execute(statement.execution_options(synchronize_session=False))


def is_our_turn(session: Session) -> bool:
    """Whether nobody else turns happenings into alerts right now; until the transaction ends it is ours (on SQLite
    the writer is alone anyway)."""
    if session.get_bind().dialect.name != "postgresql":
        return True
    return bool(session.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}).scalar())
