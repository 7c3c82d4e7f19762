"""Saying what is wrong without flooding the log, and waiting longer and longer before the next try."""

from __future__ import annotations

import logging
import time

from scheduler.errors import PartAway

log = logging.getLogger(__name__)

TELL_EVERY = 10.0  # seconds between two lines about the same trouble of the same part
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two tries

_told_at: dict[str, float] = {}


def tell(part: str, error: Exception) -> None:
    """Log a trouble of `part`: a line when SQL or Redis is away, the whole traceback when it is a fault of ours."""
    if not is_news(f"{part}: {type(error).__name__}"):
        return
    if isinstance(error, PartAway):
        log.warning("%s: %s", part, error, extra={"event": "part_away"})
    else:
        log.error("%s: a step failed", part, exc_info=error, extra={"event": "step_failed"})


def is_news(trouble: str) -> bool:
    """Whether this process has not told of it within the last seconds; whoever hears so tells it now."""
    now = time.monotonic()
    if now - _told_at.get(trouble, -TELL_EVERY) < TELL_EVERY:
        return False
    _told_at[trouble] = now
    return True


def forget_what_was_told() -> None:
    """All is news again."""
    _told_at.clear()


class Pauses:
    """How long to wait before the next try: twice as long each time, until one gets through."""

    def __init__(self, first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE) -> None:
        self._first = first
        self._longest = longest
        self._last = 0.0

    def next(self) -> float:
        self._last = min(max(self._first, self._last * 2), self._longest)
        return self._last

    def reset(self) -> None:
        self._last = 0.0
