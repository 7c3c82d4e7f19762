"""Waiting for a condition with a limit: the only place in the tests that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

Value = TypeVar("Value")


def wait_for(
    condition: Callable[[], Value], *, seconds: float = 20, every: float = 0.05, what: str = "the condition"
) -> Value:
    """The first true value that `condition()` gives; fails the test, with the last value, after `seconds`.

    What the condition raises is passed on at once: a condition that may fail for a while catches that itself.

    >>> wait_for(lambda: "ready", what="an answer")
    'ready'
    """
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            pytest.fail(f"Waited {seconds:g} s in vain for {what}; the last value was {value!r}.")
        time.sleep(every)
