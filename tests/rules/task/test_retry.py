"""What follows an attempt that did not succeed."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.rules.spec import Retry
from scheduler.rules.states import CANCELLED, FAILED, LOST, RETRYING, TIMED_OUT
from scheduler.rules.task.policy import TaskPolicy
from scheduler.rules.task.retry import Ended, Verdict, after_attempt, next_delay
from tests.builders import at

NOW = at("02:00")


def seconds(number: float) -> dt.timedelta:
    return dt.timedelta(seconds=number)


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        pytest.param({"attempts": 1}, [None], id="one attempt: no retry"),
        pytest.param({"attempts": 5, "first": seconds(10)}, [10, 20, 40, 80, None], id="exponential"),
        pytest.param({"attempts": 4, "first": seconds(10), "factor": 3}, [10, 30, 90, None], id="by three"),
        pytest.param({"attempts": 4, "first": seconds(10), "factor": 1}, [10, 10, 10, None], id="by one"),
        pytest.param({"attempts": 4, "first": seconds(10), "longest": seconds(15)}, [10, 15, 15, None], id="longest"),
        pytest.param({"attempts": 4, "first": seconds(10), "backoff": "linear"}, [10, 20, 30, None], id="linear"),
        pytest.param(
            {"attempts": 4, "first": seconds(10), "backoff": "linear", "longest": seconds(25)},
            [10, 20, 25, None],
            id="linear, the longest",
        ),
        pytest.param({"attempts": 3, "first": seconds(10), "backoff": "fixed"}, [10, 10, None], id="fixed"),
        pytest.param(
            {"attempts": 3, "first": seconds(90), "backoff": "fixed", "longest": seconds(60)},
            [60, 60, None],
            id="fixed, the longest",
        ),
        pytest.param({"attempts": 3, "first": seconds(0)}, [0, 0, None], id="at once"),
        pytest.param({"attempts": 3, "first": seconds(0.5)}, [0.5, 1, None], id="half a second"),
    ],
)
def test_the_delay_after_each_failed_attempt(policy: dict[str, Any], delays: list[float | None]) -> None:
    retry = Retry(**policy)

    found = [next_delay(retry, failed) for failed in range(1, len(delays) + 1)]

    assert found == [None if delay is None else seconds(delay) for delay in delays]


@given(
    first=st.timedeltas(dt.timedelta(0), dt.timedelta.max),
    longest=st.timedeltas(dt.timedelta(0), dt.timedelta(days=400)),
    factor=st.floats(1, 100),
    backoff=st.sampled_from(["exponential", "linear", "fixed"]),
    failed=st.integers(1, 999),
)
def test_a_delay_is_never_longer_than_the_longest(
    first: dt.timedelta, longest: dt.timedelta, factor: float, backoff: Any, failed: int
) -> None:
    retry = Retry(attempts=1000, first=first, longest=longest, factor=factor, backoff=backoff)

    delay = next_delay(retry, failed)

    assert delay is not None
    assert dt.timedelta(0) <= delay <= longest


GENTLE: dict[str, Any] = {"attempts": 3, "first": seconds(30)}
BOOM = {"error": "ValueError: boom", "error_names": ("ValueError", "Exception")}
SILENT = {"error": "WorkerLost: worker w1 fell silent"}


@pytest.mark.parametrize(
    ("policy", "ended", "verdict"),
    [
        pytest.param(
            {"retry": GENTLE},
            {"outcome": FAILED, "attempt": 1, **BOOM},
            Verdict(RETRYING, "error", "attempt 1 of 3 failed: ValueError: boom", at("02:00:30")),
            id="the first failed",
        ),
        pytest.param(
            {"retry": GENTLE},
            {"outcome": FAILED, "attempt": 2, **BOOM},
            Verdict(RETRYING, "error", "attempt 2 of 3 failed: ValueError: boom", at("02:01")),
            id="the second failed",
        ),
        pytest.param(
            {"retry": GENTLE},
            {"outcome": FAILED, "attempt": 3, **BOOM},
            Verdict(FAILED, "error", "ValueError: boom (after 3 attempts)"),
            id="the last failed",
        ),
        pytest.param(
            {},
            {"outcome": FAILED, "attempt": 1, **BOOM},
            Verdict(FAILED, "error", "ValueError: boom (no retry)"),
            id="no retry",
        ),
        pytest.param(
            {"retry": GENTLE},
            {"outcome": TIMED_OUT, "attempt": 1, "error": "still running after 60 s, its timeout"},
            Verdict(
                RETRYING, "timeout", "attempt 1 of 3 timed out: still running after 60 s, its timeout", at("02:00:30")
            ),
            id="timed out",
        ),
        pytest.param(
            {"retry": {**GENTLE, "never_on": ("ValueError",), "only_on": ("ValueError",)}},
            {"outcome": TIMED_OUT, "attempt": 1, "error": "too slow"},
            Verdict(RETRYING, "timeout", "attempt 1 of 3 timed out: too slow", at("02:00:30")),
            id="a timeout is no exception that only_on or never_on could mean",
        ),
        pytest.param(
            {"retry": {**GENTLE, "never_on": ("ValueError",)}},
            {"outcome": FAILED, "attempt": 1, **BOOM},
            Verdict(FAILED, "error", "ValueError: boom (no retry on ValueError)"),
            id="never on",
        ),
        pytest.param(
            {"retry": {**GENTLE, "never_on": ("Exception",)}},
            {"outcome": FAILED, "attempt": 1, **BOOM},
            Verdict(FAILED, "error", "ValueError: boom (no retry on Exception)"),
            id="never on a base",
        ),
        pytest.param(
            {"retry": {**GENTLE, "only_on": ("OSError", "KeyError")}},
            {"outcome": FAILED, "attempt": 1, **BOOM},
            Verdict(FAILED, "error", "ValueError: boom (retried only on OSError, KeyError)"),
            id="only on others",
        ),
        pytest.param(
            {"retry": {**GENTLE, "only_on": ("OSError", "ValueError")}},
            {"outcome": FAILED, "attempt": 1, **BOOM},
            Verdict(RETRYING, "error", "attempt 1 of 3 failed: ValueError: boom", at("02:00:30")),
            id="only on this",
        ),
        pytest.param(
            {"retry": {**GENTLE, "give_up_after": dt.timedelta(minutes=5)}},
            {"outcome": FAILED, "attempt": 1, "first_started_at": at("01:55:30"), **BOOM},
            Verdict(RETRYING, "error", "attempt 1 of 3 failed: ValueError: boom", at("02:00:30")),
            id="just in time",
        ),
        pytest.param(
            {"retry": {**GENTLE, "give_up_after": dt.timedelta(minutes=5)}},
            {"outcome": FAILED, "attempt": 1, "first_started_at": at("01:55:29"), **BOOM},
            Verdict(
                FAILED,
                "error",
                "ValueError: boom (given up after 1 attempts: the next would come more than 5m after the first)",
            ),
            id="given up",
        ),
        pytest.param(
            {"retry": {**GENTLE, "until_next": True}},
            {"outcome": FAILED, "attempt": 1, "next_fire_time": at("02:00:30"), **BOOM},
            Verdict(FAILED, "error", "ValueError: boom (the next occurrence is due before another attempt would be)"),
            id="the next one comes",
        ),
        pytest.param(
            {"retry": {**GENTLE, "until_next": True}},
            {"outcome": FAILED, "attempt": 1, "next_fire_time": at("02:00:31"), **BOOM},
            Verdict(RETRYING, "error", "attempt 1 of 3 failed: ValueError: boom", at("02:00:30")),
            id="before the next one",
        ),
        pytest.param(
            {"retry": GENTLE},
            {"outcome": CANCELLED, "attempt": 1},
            Verdict(CANCELLED, "stopped", "stopped while it ran"),
            id="stopped: no retry",
        ),
        pytest.param(
            {"retry": GENTLE},
            {"outcome": LOST, "attempt": 1, "lost": 1, **SILENT},
            Verdict(
                RETRYING, "worker_lost", "attempt 1 of 3 was lost: WorkerLost: worker w1 fell silent", at("02:00:30")
            ),
            id="lost, at least once",
        ),
        pytest.param(
            {"retry": {**GENTLE, "attempts": 10}},
            {"outcome": LOST, "attempt": 3, "lost": 3, **SILENT},
            Verdict(FAILED, "poison", "its worker vanished 3 times; last: WorkerLost: worker w1 fell silent"),
            id="poison",
        ),
        pytest.param(
            {"retry": {**GENTLE, "attempts": 10}},
            {"outcome": FAILED, "attempt": 4, "lost": 2, **BOOM},
            Verdict(RETRYING, "error", "attempt 4 of 10 failed: ValueError: boom", at("02:04")),
            id="a failure is no lost worker",
        ),
        pytest.param(
            {},
            {"outcome": LOST, "attempt": 1, "lost": 1, **SILENT},
            Verdict(FAILED, "worker_lost", "WorkerLost: worker w1 fell silent (no retry)"),
            id="lost, one attempt",
        ),
        pytest.param(
            {"retry": GENTLE, "delivery": "at_most_once"},
            {"outcome": LOST, "attempt": 1, "lost": 1, **SILENT},
            Verdict(
                LOST,
                "worker_lost",
                "WorkerLost: worker w1 fell silent; it may have done all, part or nothing (at_most_once)",
            ),
            id="lost, at most once",
        ),
        pytest.param(
            {},
            {"outcome": LOST, "attempt": 1, "worker_stopped": True, **SILENT},
            Verdict(RETRYING, "worker_stopped", "attempt 1 ended with its worker; runs again", NOW),
            id="its worker was told to stop",
        ),
        pytest.param(
            {"delivery": "at_most_once"},
            {"outcome": LOST, "attempt": 1, "worker_stopped": True, **SILENT},
            Verdict(
                LOST,
                "worker_lost",
                "WorkerLost: worker w1 fell silent; it may have done all, part or nothing (at_most_once)",
            ),
            id="its worker was told to stop, at most once",
        ),
        pytest.param(
            {"retry": GENTLE},
            {"outcome": FAILED, "attempt": 3, "forgiven": 1, **BOOM},
            Verdict(RETRYING, "error", "attempt 3 of 3 failed: ValueError: boom", at("02:01")),
            id="a stopped attempt is not counted",
        ),
        pytest.param(
            {"retry": GENTLE, "delivery": "at_most_once"},
            {"outcome": FAILED, "attempt": 1, **BOOM},
            Verdict(FAILED, "error", "ValueError: boom (at_most_once: no further attempt)"),
            id="failed, at most once",
        ),
        pytest.param(
            {"retry": GENTLE, "delivery": "at_most_once"},
            {"outcome": TIMED_OUT, "attempt": 1, "error": "too slow"},
            Verdict(FAILED, "timeout", "too slow (at_most_once: no further attempt)"),
            id="timed out, at most once",
        ),
    ],
)
def test_what_follows_an_attempt(policy: dict[str, Any], ended: dict[str, Any], verdict: Verdict) -> None:
    assert after_attempt(TaskPolicy(**policy), Ended(**ended), NOW) == verdict


@pytest.mark.parametrize(("luck", "due"), [(0.0, "02:00:30"), (0.5, "02:00:33"), (1.0, "02:00:36")])
def test_luck_adds_up_to_the_share_of_jitter(luck: float, due: str) -> None:
    policy = TaskPolicy(retry=Retry(**GENTLE, jitter=0.2))

    verdict = after_attempt(policy, Ended(FAILED, 1), NOW, luck)

    assert verdict.due_at == at(due)
