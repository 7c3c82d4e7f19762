"""When the steps of a part come."""

from __future__ import annotations

import time

import pytest

from scheduler.engine.loops import Timer, between_seconds


@pytest.mark.parametrize("every", [1.0, 5.0, 60.0])
def test_a_step_comes_half_past_a_second(every: float) -> None:
    now = time.monotonic()

    due = between_seconds(now + every, now)

    assert every - 0.5 <= due - now <= every + 0.5
    assert (time.time() + due - time.monotonic()) % 1.0 == pytest.approx(0.5, abs=0.05)


def test_a_timer_goes_on_at_its_pace() -> None:
    steps: list[float] = []
    timer = Timer("planner", 1.0, lambda: steps.append(1))

    timer.run_if_due()
    first = timer.due
    timer.run_if_due()  # not due yet
    timer.due = 0.0
    timer.run_if_due()

    assert len(steps) == 2
    assert timer.due - first in (pytest.approx(0.0, abs=0.05), pytest.approx(1.0, abs=0.05))
