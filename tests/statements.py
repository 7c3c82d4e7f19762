"""The statements that are sent to a database, to be counted or looked at; and whether one waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, text

from scheduler.store.database import Database


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """The texts of what is sent inside the block, in order; those that begin and end transactions are left out."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not statement.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def is_anybody_blocked(database: Database) -> bool:
    """Whether a transaction waits for the lock of another (PostgreSQL)."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with database.read() as session:
        return session.execute(text(waiting)).first() is not None
