"""How much work a call does: for tests that hold that it is bounded. How fast it is, benchmarks/ says."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


def calls_made_by(action: Callable[[], object]) -> int:
    """How many functions, of Python and of C, `action` calls: the same number on every machine, however busy.

    >>> calls_made_by(lambda: [abs(number) for number in range(100)]) >= 100
    True
    """
    made, before = 0, sys.getprofile()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return made


@dataclass
class Work:
    seconds: float = 0.0


@contextmanager
def work_done() -> Iterator[Work]:
    """Processor time of the block, for what has no end if it is wrong (a pattern that goes back and forth, say).

    Neighbours do not count, nor does the collector: in a process that has run a thousand tests it alone may take a
    second.
    """
    work, was_on = Work(), gc.isenabled()
    gc.disable()
    began = time.process_time()
    try:
        yield work
    finally:
        work.seconds = time.process_time() - began
        if was_on:
            gc.enable()
