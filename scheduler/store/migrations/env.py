"""Alembic's entry: runs the scripts on the connection that store/migrate.py hands in, inside its transaction."""

from __future__ import annotations

from alembic import context

from scheduler.kill_points import point
from scheduler.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,
    on_version_apply=lambda **told: point("migrate.mid"),
)
context.run_migrations()
