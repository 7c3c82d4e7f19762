"""The way of a task through time: each step with the moment, and how long it took from the one before.

Pure; the task is a dict as engine/answers/views.py tells it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scheduler.clock import parse_iso
from scheduler.rules.states import FINAL


@dataclass(frozen=True)
class Step:
    """One step; `after` is None for the first."""

    word: str
    at: dt.datetime
    after: dt.timedelta | None = None


def timeline_of(task: Mapping[str, Any]) -> list[Step]:
    """The steps that have a moment, the first one first; attempts that failed on the way stand between."""
    known = sorted(_steps(task), key=lambda step: step.at)  # equal moments stay in the order of the steps
    befores = [None, *(step.at for step in known)]
    return [
        Step(step.word, step.at, None if before is None else step.at - before)
        for step, before in zip(known, befores, strict=False)
    ]


def _steps(task: Mapping[str, Any]) -> Iterator[Step]:
    fired = task["fire_time"]
    yield Step("planned" if fired else "asked for", parse_iso(task["created_at"]))
    if fired:
        yield Step("fire time", parse_iso(fired))
    if task["due_at"] != (fired or task["created_at"]):
        yield Step("due", parse_iso(task["due_at"]))
    if task["queued_at"]:
        yield Step("queued", parse_iso(task["queued_at"]))
    attempts = task["attempts"]
    for attempt in attempts:
        number = f" (attempt {attempt['number']})" if len(attempts) > 1 else ""
        yield Step(f"claimed{number}", parse_iso(attempt["started_at"]))
        if attempt["ended_at"] and (attempt is not attempts[-1] or task["state"] not in FINAL):
            yield Step(f"{attempt['outcome']}{number}".replace("_", " "), parse_iso(attempt["ended_at"]))
    if task["finished_at"]:
        yield Step(task["state"], parse_iso(task["finished_at"]))
