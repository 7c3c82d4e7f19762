"""When each part of the service last moved."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from scheduler.store.tables import Part
from scheduler.store.types import micros, sql_now

FORGOTTEN_AFTER = dt.timedelta(hours=24)


def tick(session: Session, name: str, part: str, host: str, pid: int, details: dict[str, Any]) -> None:
    """Say that a part has moved just now."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(Part).values(
        name=name, part=part, host=host, pid=pid, started_at=sql_now(), ticked_at=sql_now(), details=details
    )
    session.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"ticked_at": sql_now(), "details": details})
    )


def leave(session: Session, name: str) -> None:
    """A part that ends in good order takes its row along; one that dies leaves it, and its silence is seen."""
    session.execute(delete(Part).where(Part.name == name))


def all_parts(session: Session) -> list[Part]:
    return list(session.scalars(select(Part).order_by(Part.part, Part.name)))


def forget_old(session: Session) -> None:
    session.execute(delete(Part).where(Part.ticked_at < sql_now() - micros(FORGOTTEN_AFTER)))
