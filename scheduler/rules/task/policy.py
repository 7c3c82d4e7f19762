"""What a task row carries of its schedule's policies, so that a worker and the keeper need nothing else to decide.

A row keeps the policies it was planned with: an edit of the schedule makes new rows, it does not bend old ones.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal

from scheduler.rules.spec import Frozen, Missed, Retry, ScheduleSpec, Timeout

GRACE_OF_KILL = dt.timedelta(seconds=10)


class TaskPolicy(Frozen):
    """The policies of one task."""

    retry: Retry = Retry()
    timeout: Timeout = Timeout(soft=dt.timedelta(minutes=10), hard=dt.timedelta(minutes=10) + GRACE_OF_KILL)
    delivery: Literal["at_least_once", "at_most_once"] = "at_least_once"
    overlap: Literal["skip", "queue-one", "queue-all", "replace", "allow"] = "skip"
    missed: Missed = Missed()
    grace: dt.timedelta | None = None  # a late row tells by it when it was due; None: asked for
    pause_after: int | None = None
    too_fast: dt.timedelta | None = None  # a success sooner than this is told
    max_running: int | None = None  # tasks of its kind at once; it waits for its turn, however it overlaps


def policy_of(spec: ScheduleSpec) -> TaskPolicy:
    """The policies of a task that the schedule fired."""
    return TaskPolicy(
        retry=spec.retry,
        timeout=spec.timeout,
        delivery=spec.delivery,
        overlap=spec.overlap,
        missed=spec.missed,
        grace=spec.grace,
        pause_after=spec.pause_after,
        too_fast=spec.too_fast,
        max_running=spec.max_running,
    )


def policy_when_asked(spec: ScheduleSpec) -> TaskPolicy:
    """The policies of a task of the schedule that a person asked for: it waits its turn, and is never skipped."""
    overlap: Literal["allow", "queue-all"] = "allow" if spec.overlap == "allow" else "queue-all"
    return policy_of(spec).model_copy(update={"overlap": overlap, "missed": Missed(run="none"), "grace": None})


def lane_of(spec: ScheduleSpec, schedule_id: int) -> str | None:
    """The name of what may run only once at a time: the schedule itself, or its exclusive group; None for neither."""
    if spec.exclusive is not None:
        return f"group:{spec.exclusive}"
    if spec.overlap == "allow":
        return None
    return f"schedule:{schedule_id}"
