"""The way of a task through time."""

from __future__ import annotations

from typing import Any

from scheduler.rules.task.timeline import timeline_of


def a_task(**fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "created_at": "2026-11-24T06:28:00Z",
        "fire_time": "2026-11-24T06:30:00Z",
        "due_at": "2026-11-24T06:30:00Z",
        "queued_at": "2026-11-24T06:30:00.010000Z",
        "finished_at": None,
        "state": "queued",
        "attempts": [],
    }
    return {**plain, **fields}


def attempt(number: int, started: str, ended: str | None, outcome: str | None) -> dict[str, Any]:
    return {"number": number, "started_at": started, "ended_at": ended, "outcome": outcome}


def told(task: dict[str, Any]) -> list[tuple[str, str, float | None]]:
    return [
        (step.word, f"{step.at:%H:%M:%S}", None if step.after is None else step.after.total_seconds())
        for step in timeline_of(task)
    ]


def test_a_task_is_planned_fires_is_queued_claimed_and_ends() -> None:
    task = a_task(
        state="succeeded",
        finished_at="2026-11-24T06:30:05Z",
        attempts=[attempt(1, "2026-11-24T06:30:00.015000Z", "2026-11-24T06:30:05Z", "succeeded")],
    )

    assert told(task) == [
        ("planned", "06:28:00", None),
        ("fire time", "06:30:00", 120.0),
        ("queued", "06:30:00", 0.01),
        ("claimed", "06:30:00", 0.005),
        ("succeeded", "06:30:05", 4.985),
    ]


def test_attempts_that_failed_stand_between_with_their_numbers() -> None:
    task = a_task(
        state="retrying",
        due_at="2026-11-24T06:31:00Z",
        attempts=[
            attempt(1, "2026-11-24T06:30:01Z", "2026-11-24T06:30:02Z", "timed_out"),
            attempt(2, "2026-11-24T06:30:32Z", "2026-11-24T06:30:33Z", "failed"),
        ],
    )

    assert [word for word, _, _ in told(task)] == [
        "planned",
        "fire time",
        "queued",
        "claimed (attempt 1)",
        "timed out (attempt 1)",
        "claimed (attempt 2)",
        "failed (attempt 2)",
        "due",
    ]


def test_what_a_person_asked_for_has_no_fire_time() -> None:
    task = a_task(fire_time=None, due_at="2026-11-24T06:28:00Z", queued_at=None)

    assert told(task) == [("asked for", "06:28:00", None)]
