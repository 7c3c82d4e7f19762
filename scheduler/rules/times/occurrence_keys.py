"""The idempotency key of an occurrence: the same for each attempt of it, and for each later run that makes it good."""

from __future__ import annotations

import datetime as dt

from scheduler.clock import iso, parse_iso


def occurrence_key(schedule: str, fire_time: dt.datetime) -> str:
    """
    >>> occurrence_key("nightly", dt.datetime(2026, 11, 24, 2, tzinfo=dt.UTC))
    'nightly@2026-11-24T02:00:00Z'
    """
    return f"{schedule}@{iso(fire_time)}"


def fire_time_of(key: str) -> dt.datetime | None:
    """The fire time that a key names; None for the key of a run that no fire time asked for.

    >>> fire_time_of("nightly@2026-11-24T02:00:00Z")
    datetime.datetime(2026, 11, 24, 2, 0, tzinfo=datetime.timezone.utc)
    >>> fire_time_of("nightly@2026-11-24T02:00:00+00:00 manual")
    """
    moment = key.rpartition("@")[2]
    if not moment.endswith("Z"):
        return None
    try:
        return parse_iso(moment)
    except ValueError:
        return None
