"""How long runs of each schedule usually take, for `check`, `diff` and `apply` to warn of shorter intervals.

Only reads, and only where a database is already: none is made, or brought to another version, to know it.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from pathlib import Path
from statistics import median_low

from scheduler.errors import SchedulerError
from scheduler.settings import Settings

LAST_RUNS = 20  # the median of so many is what is usual
FEWEST_RUNS = 5  # less is no habit
SQLITE = "sqlite:///"
MOST_MS = 3000  # that PostgreSQL may take over it: a warning is not worth more


def usual_durations(settings: Settings) -> dict[str, dt.timedelta]:
    """By the schedules' names; of nothing where there is no database, it does not answer, or is of another version."""
    try:
        url = settings.database_url_or_default
        if url.startswith(SQLITE) and not _has_content(Path(url.removeprefix(SQLITE))):
            return {}
        return _asked(settings)
    except SchedulerError:
        return {}


def _has_content(file: Path) -> bool:
    try:
        return file.stat().st_size > 0  # SQLite makes a database of an empty file
    except OSError:
        return False


def _asked(settings: Settings) -> dict[str, dt.timedelta]:
    # here, since a check without a database does without SQLAlchemy, which takes a quarter of a second
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from scheduler.engine.backends import Backends
    from scheduler.store import schedules
    from scheduler.store.migrate import is_current

    backends = Backends(settings)
    try:
        if not is_current(backends.database):
            return {}
        with backends.database.read() as session:
            if not backends.database.is_sqlite:
                session.execute(text("SET TRANSACTION READ ONLY"))
                session.execute(text(f"SET LOCAL statement_timeout = {MOST_MS}"))
            runs = schedules.recent_runs(session, LAST_RUNS)
    except SQLAlchemyError:  # no database of ours, or one that may not be read: that is for others to say
        return {}
    finally:
        backends.close()
    took = defaultdict(list)
    for name, duration in runs:
        took[name].append(duration)
    return {name: median_low(durations) for name, durations in took.items() if len(durations) >= FEWEST_RUNS}
