"""What stands round every page: the time zone of the service."""

from __future__ import annotations

from sqlalchemy import select

from scheduler.errors import DatabaseAway
from scheduler.store.database import Database
from scheduler.store.tables import Revision


def service_zone(database: Database) -> str:
    """The zone that the file in force names first; UTC when there is none, or SQL does not answer."""
    query = select(Revision.book["timezone"].as_string()).order_by(Revision.id.desc()).limit(1)
    try:
        with database.read() as session:
            return session.execute(query).scalar() or "UTC"
    except DatabaseAway:
        return "UTC"  # a page that says what is wrong is worth more than the right hour on it
