"""The outbox: what is to be told, until it is sent or given up. Written in the transaction of what it tells."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from scheduler.rules.messages import Message
from scheduler.store.mail_tables import OutboxMessage
from scheduler.store.types import sql_now


def queue(session: Session, messages: Sequence[Message]) -> list[str]:
    """Queue messages to be sent at once; those whose key is known are left out. The keys of those that are new; the
    caller commits."""
    if not messages:
        return []
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(OutboxMessage).on_conflict_do_nothing().returning(OutboxMessage.key)
    rows = [{**vars(message), "created_at": sql_now(), "next_try_at": sql_now()} for message in messages]
    return [key for row in rows for key in session.execute(statement.values(**row)).scalars()]
