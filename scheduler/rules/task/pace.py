"""How fast a run goes and when it will be done, from the last that it told of its progress."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scheduler.rules.brief import brief

LONGEST_LEFT = dt.timedelta(days=1000)  # beyond it a guess tells nobody anything


@dataclass(frozen=True)
class Pace:
    """Each is None where it cannot be known."""

    share: float | None = None  # 0 to 1
    per_second: float | None = None  # units of the run's own
    left: dt.timedelta | None = None

    def __str__(self) -> str:
        """Such as «3.2 a second, 2 m left»; "" when nothing is known."""
        told = [f"{_rounded(self.per_second)} a second"] if self.per_second else []
        if self.left is not None and self.share != 1:
            told.append(f"{brief(self.left)} left")
        return ", ".join(told)


def pace_of(progress: Mapping[str, Any] | None, elapsed: dt.timedelta | None) -> Pace:
    """The pace of a run that told `progress` ({done, total}) when it had been going for `elapsed`.

    What is left is guessed as if the rest went as fast as what is done.

    >>> str(pace_of({"done": 30, "total": 90}, dt.timedelta(seconds=10)))
    '3 a second, 20 s left'
    """
    done, total = (_number((progress or {}).get(name)) for name in ("done", "total"))
    if done is None or done < 0:
        return Pace()
    share = min(1.0, done / total) if total is not None and total > 0 else None
    seconds = elapsed.total_seconds() if elapsed is not None else 0.0
    if seconds <= 0 or done == 0:
        return Pace(share)
    per_second = done / seconds
    if total is None or share is None or per_second <= 0:
        return Pace(share, per_second)
    seconds_left = max(0.0, total - done) / per_second
    left = dt.timedelta(seconds=seconds_left) if seconds_left <= LONGEST_LEFT.total_seconds() else None
    return Pace(share, per_second, left)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _rounded(rate: float) -> str:
    """Two digits at least, no more than are needed: 0.034, 3.2, 1,234."""
    if rate >= 10:
        return f"{rate:,.0f}"
    return f"{rate:.2g}"
