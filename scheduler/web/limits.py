"""How often one may ask: kept in the memory of the web process, forgotten when it ends."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MOST_KEPT = 10_000  # callers; beyond it those who have not asked lately are forgotten


@dataclass(frozen=True)
class Limit:
    most: int
    seconds: float


LOG_IN, BAD_TOKEN, READ, ACT = "log in", "bad token", "read", "act"
LIMITS: Mapping[str, Limit] = {
    LOG_IN: Limit(20, 300),  # tries of one account, and wrong ones from one address
    BAD_TOKEN: Limit(60, 60),  # from one address
    READ: Limit(1200, 60),  # of one caller
    ACT: Limit(120, 60),  # what changes something, of one caller
}


class Limits:
    def __init__(self, limits: Mapping[str, Limit] = LIMITS, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._seen: dict[tuple[str, str], deque[float]] = {}
        self._lock = threading.Lock()

    def take(self, what: str, who: str) -> int | None:
        """Count one more; None when that is allowed, else the seconds to wait."""
        limit, now = self._limits[what], self._clock()
        with self._lock:
            times = self._seen.setdefault((what, who), deque())
            while times and times[0] <= now - limit.seconds:
                times.popleft()
            if len(times) >= limit.most:
                return max(1, math.ceil(times[0] + limit.seconds - now))
            times.append(now)
            if len(self._seen) > MOST_KEPT:
                self._forget(now)
            return None

    def give_back(self, what: str, who: str) -> None:
        """Forget what was counted: it was in order."""
        with self._lock:
            self._seen.pop((what, who), None)

    def _forget(self, now: float) -> None:
        over = [
            key for key, times in self._seen.items() if not times or times[-1] <= now - self._limits[key[0]].seconds
        ]
        for key in over or list(self._seen)[: MOST_KEPT // 10]:
            del self._seen[key]
