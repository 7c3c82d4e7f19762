"""How fast a run goes, and when it will be done."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from scheduler.rules.task.pace import Pace, pace_of

SECONDS = dt.timedelta(seconds=1)
INFINITE, NONE_AT_ALL = float("inf"), float("nan")

PACES: dict[str, tuple[dict[str, Any] | None, dt.timedelta | None, Pace, str]] = {
    "half way": (
        {"done": 50, "total": 100},
        10 * SECONDS,
        Pace(0.5, 5.0, 10 * SECONDS),
        "5 a second, 10 s left",
    ),
    "slow": (
        {"done": 1, "total": 4},
        60 * SECONDS,
        Pace(0.25, 1 / 60, 180 * SECONDS),
        "0.017 a second, 3 m left",
    ),
    "fast": ({"done": 12_345, "total": 12_345}, SECONDS, Pace(1.0, 12_345.0, 0 * SECONDS), "12,345 a second"),
    "no total": ({"done": 32, "total": None}, 10 * SECONDS, Pace(None, 3.2, None), "3.2 a second"),
    "nothing done yet": ({"done": 0, "total": 10}, 10 * SECONDS, Pace(0.0), ""),
    "more than all": ({"done": 12, "total": 10}, 6 * SECONDS, Pace(1.0, 2.0, 0 * SECONDS), "2 a second"),
    "a total of nothing": ({"done": 3, "total": 0}, 3 * SECONDS, Pace(None, 1.0, None), "1 a second"),
    "before it began": ({"done": 5, "total": 10}, -1 * SECONDS, Pace(0.5), ""),
    "no time has passed": ({"done": 5, "total": 10}, 0 * SECONDS, Pace(0.5), ""),
    "it is not known since when": ({"done": 5, "total": 10}, None, Pace(0.5), ""),
    "nothing told": (None, SECONDS, Pace(), ""),
    "an empty word": ({}, SECONDS, Pace(), ""),
    "less than nothing": ({"done": -1, "total": 10}, SECONDS, Pace(), ""),
    "a text": ({"done": "5", "total": 10}, SECONDS, Pace(), ""),
    "true": ({"done": True, "total": 10}, SECONDS, Pace(), ""),
    "no number": ({"done": NONE_AT_ALL, "total": 10}, SECONDS, Pace(), ""),
    "an endless total": ({"done": 5, "total": INFINITE}, SECONDS, Pace(None, 5.0, None), "5 a second"),
    "beyond a float": ({"done": 10**400, "total": 1}, SECONDS, Pace(), ""),
    "left for ages": ({"done": 1, "total": 10**15}, SECONDS, Pace(1e-15, 1.0, None), "1 a second"),
    "hardly anything done": ({"done": 5e-324, "total": 1e300}, 9 * SECONDS, Pace(0.0), ""),
}


@pytest.mark.parametrize(("progress", "elapsed", "pace", "words"), PACES.values(), ids=PACES)
def test_the_pace_of_a_run(progress: dict[str, Any] | None, elapsed: dt.timedelta | None, pace: Pace, words: str):
    found = pace_of(progress, elapsed)

    assert (found.share, found.left) == (pace.share, pace.left)
    assert (found.per_second or 0) == pytest.approx(pace.per_second or 0)
    assert str(found) == words
