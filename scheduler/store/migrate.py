"""Bring the database to the version that this code needs; any number of processes may do so at once.

Alembic takes a third of a second to import, so it is imported only when there is something to do.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from scheduler.errors import Refused
from scheduler.store.database import Database

HEAD = "0005"
"""The newest script in migrations/versions; a test holds the two together."""

LOCK = 0x72715F736368  # any number that only we use; on PostgreSQL it makes the migrating processes queue up


def migrate(database: Database) -> bool:
    """Whether anything had to be done. Raises Refused when the database is newer than this code."""
    with database.read() as session:
        if _version(session.connection()) == HEAD:
            return False
    with database.write_unhurried() as session:
        connection = session.connection()
        if not database.is_sqlite:  # SQLite's BEGIN IMMEDIATE is lock enough
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        found = _version(connection)
        if found == HEAD:
            return False
        _refuse_newer(found, database)
        _upgrade(connection)
    return True


def is_current(database: Database) -> bool:
    """Whether the database has the version this code needs."""
    with database.read() as session:
        return _version(session.connection()) == HEAD


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _refuse_newer(found: str | None, database: Database) -> None:
    known = {path.name.split("_")[0] for path in (Path(__file__).parent / "migrations" / "versions").glob("[0-9]*.py")}
    if found is not None and found not in known:
        raise Refused(
            f"The database at {database.place} is of version {found}, newer than this program knows ({HEAD}). "
            "Install the newer program again, or restore the database from before its upgrade."
        )


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
