"""A trouble is told once in ten seconds, and tried again later and later."""

from __future__ import annotations

import pytest

from scheduler.engine.loops import Timer
from scheduler.engine.troubles import TELL_EVERY, Pauses, is_news, tell
from scheduler.errors import DatabaseAway, RedisAway


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("troubles", "loops"):
        monkeypatch.setattr(f"scheduler.engine.{module}.time", clock)
    return clock


def test_a_trouble_is_told_once_in_ten_seconds(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        tell("planner", RedisAway())
        clock.now += TELL_EVERY / 40

    assert caplog.messages == ["planner: Redis does not answer."] * 3


def test_another_trouble_and_that_of_another_part_are_told_too(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    tell("planner", RedisAway())
    tell("planner", DatabaseAway())
    tell("dispatcher", RedisAway())

    assert caplog.messages == [
        "planner: Redis does not answer.",
        "planner: The database does not answer.",
        "dispatcher: Redis does not answer.",
    ]


def test_a_fault_of_ours_is_told_with_where_it_happened(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise KeyError("x")
    except KeyError as error:
        tell("planner", error)

    assert caplog.messages == ["planner: a step failed"]
    assert "raise KeyError" in caplog.text


def test_what_has_been_told_is_no_news(clock: Clock) -> None:
    assert [is_news("plan"), is_news("plan"), is_news("renewal")] == [True, False, True]
    clock.now += TELL_EVERY
    assert is_news("plan")


def test_pauses_grow_until_one_gets_through() -> None:
    pauses = Pauses()

    assert [pauses.next() for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    pauses.reset()
    assert pauses.next() == 0.5


def test_a_step_that_fails_is_tried_later_and_later(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    tries: list[float] = []

    def step() -> None:
        tries.append(clock.now - 1000)
        raise DatabaseAway

    timer = Timer("planner", 1.0, step)
    while clock.now < 1060:
        timer.run_if_due()
        clock.now += 0.25

    assert tries == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 25.5, 35.5, 45.5, 55.5]
    assert len(caplog.messages) == 6
