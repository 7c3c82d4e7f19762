"""What a new row of the Task table holds, for an occurrence of a schedule and for a run that somebody asked for."""

from __future__ import annotations

import datetime as dt
from typing import Any

from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.states import FINAL, PLANNED
from scheduler.rules.task.policy import TaskPolicy, lane_of, policy_of, policy_when_asked
from scheduler.rules.times.occurrence_keys import occurrence_key
from scheduler.rules.times.occurrences import Occurrence
from scheduler.store.tables import Schedule


class OccurrenceRows:
    """The rows of one schedule's occurrences; what they share is made once."""

    def __init__(self, schedule: Schedule, spec: ScheduleSpec, now: dt.datetime) -> None:
        self._name = schedule.name
        self._now = now
        self._shared = {
            "kind": spec.kind,
            "schedule_id": schedule.id,
            "schedule": schedule.name,
            "task": spec.task,
            "args": spec.args,
            "policy": policy_of(spec).model_dump(mode="json"),
            "lane": lane_of(spec, schedule.id),
            "queue": spec.queue,
            "attempt": 0,
            "created_at": now,
        }

    def row(self, occurrence: Occurrence) -> dict[str, Any]:
        return {
            **self._shared,
            "origin": occurrence.origin,
            "idempotency_key": occurrence_key(self._name, occurrence.fire_time),
            "fire_time": occurrence.fire_time,
            "due_at": occurrence.due_at,
            "start_by": occurrence.start_by,
            "state": occurrence.state,
            "reason_code": occurrence.reason_code,
            "reason": occurrence.reason,
            "finished_at": self._now if occurrence.state in FINAL else None,
        }


def asked_row(
    *,
    origin: str,
    task: str,
    args: dict[str, Any],
    kind: str,
    queue: str,
    policy: TaskPolicy,
    now: dt.datetime,
    start_by: dt.datetime | None,
    requested_by: str,
    idempotency_key: str,
    schedule: Schedule | None = None,
    lane: str | None = None,
    retry_of: int | None = None,
) -> dict[str, Any]:
    """A row for a run that no fire time asked for."""
    return {
        "kind": kind,
        "origin": origin,
        "schedule_id": schedule.id if schedule else None,
        "schedule": schedule.name if schedule else None,
        "task": task,
        "args": args,
        "policy": policy.model_dump(mode="json"),
        "lane": lane,
        "queue": queue,
        "attempt": 0,
        "created_at": now,
        "idempotency_key": idempotency_key,
        "fire_time": None,
        "due_at": now,
        "start_by": start_by,
        "state": PLANNED,
        "requested_by": requested_by,
        "retry_of": retry_of,
    }


def asked_of_schedule(schedule: Schedule, spec: ScheduleSpec) -> tuple[TaskPolicy, str | None]:
    """Policies and lane of a run of a schedule that a person asks for."""
    return policy_when_asked(spec), lane_of(spec, schedule.id)
