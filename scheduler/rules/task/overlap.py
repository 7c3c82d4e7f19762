"""What to do with a task whose lane is taken: another of its schedule, or of its exclusive group, is going."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scheduler.rules.task.policy import TaskPolicy


@dataclass(frozen=True)
class Busy:
    """Who holds the lane of a task that wants to start."""

    holder_id: int
    holder_state: str  # running, or waiting between two attempts
    same_schedule: bool  # False: of the same exclusive group
    others_waiting: int = 0  # tasks of the same schedule that came before this one and wait for the lane too


@dataclass(frozen=True)
class Decision:
    do: Literal["skip", "wait", "replace"]
    reason: str


def decide(policy: TaskPolicy, busy: Busy) -> Decision:
    """Skip it, let it wait for the lane, or have the holder stopped so that it can start."""
    going = "running" if busy.holder_state == "running" else "between two attempts"
    if not busy.same_schedule:
        return Decision("wait", f"waits for task {busy.holder_id} of its exclusive group, which is {going}")
    if policy.overlap == "replace":
        return Decision("replace", f"waits for task {busy.holder_id}, which it replaces, to stop")
    if policy.overlap in ("queue-all", "allow"):
        return Decision("wait", f"waits for task {busy.holder_id} of its schedule, which is {going}")
    if policy.overlap == "queue-one":
        if busy.others_waiting == 0:
            return Decision("wait", f"waits for task {busy.holder_id} of its schedule, which is {going}")
        return Decision("skip", f"task {busy.holder_id} was {going} and another one waits already (overlap: queue-one)")
    return Decision("skip", f"task {busy.holder_id} of this schedule was {going} (overlap: skip)")
