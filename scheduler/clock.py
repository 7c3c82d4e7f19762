"""Moments: aware, UTC. Everything else in the house takes `now` as an argument.

SQL keeps a moment as a whole number of microseconds since 1970 (see store/types.py); people read ISO 8601 with a Z.
"""

from __future__ import annotations

import datetime as dt

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def to_micros(moment: dt.datetime) -> int:
    """Microseconds since 1970; exact, unlike `timestamp()`. Refuses a moment without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return (moment - EPOCH) // MICROSECOND


def from_micros(micros: int) -> dt.datetime:
    return EPOCH + dt.timedelta(microseconds=micros)


def iso(moment: dt.datetime | None) -> str | None:
    """`2026-11-24T06:30:00Z`; fractions only where there are some; None stays None."""
    if moment is None:
        return None
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def parse_iso(text: str) -> dt.datetime:
    """A moment from ISO 8601; without an offset it is read as UTC. Raises ValueError."""
    moment = dt.datetime.fromisoformat(text.strip())
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
