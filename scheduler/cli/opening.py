"""How a command that looks comes to the database: it must be there, and of the version that this program reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.errors import DatabaseAway, Refused
from scheduler.settings import Settings

if TYPE_CHECKING:
    from scheduler.engine.backends import Backends

SQLITE_FILE = "sqlite:///"


@contextmanager
def opened(settings: Settings, *, any_version: bool = False) -> Iterator[Backends]:
    """The backends inside the block. Raises DatabaseAway where there is no database, Refused for another version's."""
    with opened_if_there(settings, any_version=any_version) as backends:
        if backends is None:
            raise DatabaseAway(
                f"There is no database at {settings.database_url_or_default.removeprefix(SQLITE_FILE)} yet: "
                "`scheduler up` makes one. Another folder is named with --data."
            )
        yield backends


@contextmanager
def opened_if_there(settings: Settings, *, any_version: bool = False) -> Iterator[Backends | None]:
    """The same, or None where there is no database yet. SQLite would make an empty one by being asked."""
    from scheduler.engine.backends import Backends
    from scheduler.store.migrate import is_current

    url = settings.database_url_or_default
    if url.startswith(SQLITE_FILE) and not Path(url.removeprefix(SQLITE_FILE)).exists():
        yield None
        return
    backends = Backends(settings)
    try:
        if not any_version and not is_current(backends.database):
            raise Refused(
                f"The database at {backends.database.place} is not of the version that this program needs. "
                "`scheduler up`, or any part that starts, brings it there."
            )
        yield backends
    finally:
        backends.close()
