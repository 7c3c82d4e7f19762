"""What people and programs ask of the tables, as plain dicts: a task, lists of tasks and schedules, a task's log.

Keys are those of the command line's JSON; moments are ISO 8601 texts, UTC, ending in Z. No question here costs more as
history grows: each follows an index, or looks at unfinished rows or at schedules only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scheduler.clock import iso
from scheduler.engine.answers.listing import Wanted, ended, to_come, under_way
from scheduler.errors import NotFound
from scheduler.rules.states import PLANNED, STATES
from scheduler.rules.task.masking import mask_arguments
from scheduler.rules.task.results import FILE
from scheduler.store.database import Database
from scheduler.store.tables import Artifact, Attempt, LogChunk, Schedule, Task

# --- one task -------------------------------------------------------------------------------------------------------


def task_of(database: Database, task_id: int) -> dict[str, Any]:
    """The whole task. Raises NotFound."""
    with database.read() as session:
        task = session.get(Task, task_id)
        if task is None:
            raise NotFound(f"There is no task {task_id}; `scheduler tasks` lists those there are")
        return _tasks(session, [task])[0]


def zone_of(database: Database, task_id: int) -> str | None:
    """The time zone of the schedule that the task belongs to; None for a run of a task function."""
    query = select(Schedule.spec["timezone"].as_string()).join(Task, Task.schedule_id == Schedule.id)
    with database.read() as session:
        return session.execute(query.where(Task.id == task_id)).scalar()


@dataclass(frozen=True)
class LogPiece:
    """Some lines of a task's log, as they were written in one go; `id` grows."""

    id: int
    attempt: int
    lines: list[str]


def log_pieces(database: Database, task_id: int, attempt: int | None = None, after: int = 0) -> list[LogPiece]:
    """What the task's attempts (or one of them) logged, the oldest first; only pieces whose id is above `after`."""
    query = select(LogChunk.id, LogChunk.attempt, LogChunk.lines).where(
        LogChunk.task_id == task_id, LogChunk.id > after
    )
    if attempt is not None:
        query = query.where(LogChunk.attempt == attempt)
    with database.read() as session:
        rows = session.execute(query.order_by(LogChunk.id)).all()
    return [LogPiece(row.id, row.attempt, row.lines.split("\n")) for row in rows]


def log_of(database: Database, task_id: int, attempt: int | None = None) -> list[str]:
    """The lines of the task's log. New lines come at the end."""
    return [line for piece in log_pieces(database, task_id, attempt) for line in piece.lines]


# --- lists of tasks -------------------------------------------------------------------------------------------------


def tasks_list(
    database: Database,
    *,
    kind: str | None = None,
    state: str | Sequence[str] | None = None,
    schedule: str | None = None,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    limit: int = 20,
    planned: bool = False,
) -> list[dict[str, Any]]:
    """Tasks, newest first: what is going on, by when it was due, then what has ended, by its end.

    Not by id: the row of a daily schedule is written a day before it fires. What is only planned is left out unless
    `planned`, or PLANNED is among the states: then the next `limit` of it come first (alone: the soonest first).
    `since` (included) and `until` (not included) are about when it ended, or is due as long as it has not. Raises
    NotFound for an unknown schedule.
    """
    states = frozenset([state] if isinstance(state, str) else state or STATES)
    if state is None and not planned:
        states -= {PLANNED}
    with database.read() as session:
        schedule_id = None if schedule is None else schedule_id_of(session, schedule)
        wanted = Wanted(states, kind, schedule_id, since, until)
        ids: list[int] = []
        if PLANNED in states:
            soonest = list(session.scalars(to_come(wanted, limit)))
            ids.extend(soonest if states == {PLANNED} else reversed(soonest))
        missing = limit
        for query in (under_way(wanted, limit), ended(wanted, limit)):
            if query is not None and missing > 0:
                found = list(session.scalars(query.limit(missing)))
                ids.extend(found)
                missing -= len(found)
        return _tasks(session, _in_order(session, ids))


def _in_order(session: Session, ids: Sequence[int]) -> list[Task]:
    tasks: dict[int, Task] = {}
    for start in range(0, len(ids), 500):
        some = select(Task).where(Task.id.in_(ids[start : start + 500]))
        tasks.update((one.id, one) for one in session.scalars(some))
    return [tasks[task_id] for task_id in ids if task_id in tasks]


def tasks_ended_since(database: Database, since: dt.datetime) -> dict[str, Any]:
    """What ended since then: {"states": {state: count}, "tasks": [{"name", "kind", "states": {…}}]}, by name."""
    name = func.coalesce(Task.schedule, Task.task)
    query = (
        select(name.label("name"), Task.kind, Task.state, func.count().label("count"))
        .where(Task.finished_at >= since)
        .group_by(name, Task.kind, Task.state)
        .order_by(name, Task.kind, Task.state)
    )
    states: dict[str, int] = {}
    tasks: dict[tuple[str, str], dict[str, int]] = {}
    with database.read() as session:
        for row in session.execute(query):
            number = int(row._mapping["count"])
            states[row.state] = states.get(row.state, 0) + number
            tasks.setdefault((row.name, row.kind), {})[row.state] = number
    return {
        "states": {state: states[state] for state in STATES if state in states},
        "tasks": [{"name": name, "kind": kind, "states": counts} for (name, kind), counts in tasks.items()],
    }


def schedule_id_of(session: Session, name: str) -> int:
    """Raises NotFound, naming the nearest schedule."""
    found = session.execute(select(Schedule.id).where(Schedule.name == name)).scalar()
    if found is None:
        near = get_close_matches(name, session.scalars(select(Schedule.name)), n=1)
        raise NotFound(f'There is no schedule "{name}"' + (f'; did you mean "{near[0]}"?' if near else ""))
    return found


def _tasks(session: Session, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    attempts: dict[int, list[dict[str, Any]]] = {}
    ids = [task.id for task in tasks]
    for start in range(0, len(ids), 500):
        query = select(Attempt).where(Attempt.task_id.in_(ids[start : start + 500]))
        for one in session.scalars(query.order_by(Attempt.task_id, Attempt.number)):
            attempts.setdefault(one.task_id, []).append(_attempt(one))
    files = _artifacts(session, [task.id for task in tasks if task.result_kind == FILE])
    return [_task(task, attempts.get(task.id, []), files.get(task.id, [])) for task in tasks]


def _artifacts(session: Session, ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    files: dict[int, list[dict[str, Any]]] = {}
    for start in range(0, len(ids), 500):
        query = select(Artifact).where(Artifact.task_id.in_(ids[start : start + 500])).order_by(Artifact.id)
        for one in session.scalars(query):
            files.setdefault(one.task_id, []).append(_artifact(one))
    return files


def _artifact(artifact: Artifact) -> dict[str, Any]:
    return {
        "id": artifact.id,
        "attempt": artifact.attempt,
        "name": artifact.name,
        "media_type": artifact.media_type,
        "size": artifact.size,
        "sha256": artifact.sha256,
        "path": artifact.path,
        "created_at": iso(artifact.created_at),
    }


def _task(task: Task, attempts: list[dict[str, Any]], artifacts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": task.id,
        "kind": task.kind,
        "origin": task.origin,
        "schedule": task.schedule,
        "task": task.task,
        "args": mask_arguments(task.args),
        "fire_time": iso(task.fire_time),
        "due_at": iso(task.due_at),
        "start_by": iso(task.start_by),
        "state": task.state,
        "reason_code": task.reason_code,
        "reason": task.reason,
        "created_at": iso(task.created_at),
        "queued_at": iso(task.queued_at),
        "started_at": iso(task.started_at),
        "finished_at": iso(task.finished_at),
        "attempts": attempts,
        "result": task.result,
        "result_kind": task.result_kind,
        "artifacts": artifacts,
        "error": task.error,
        "progress": task.progress,
        "queue": task.queue,
        "worker": task.worker,
        "requested_by": task.requested_by,
        "retry_of": task.retry_of,
        "idempotency_key": task.idempotency_key,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "worker": attempt.worker,
        "host": attempt.host,
        "pid": attempt.pid,
        "started_at": iso(attempt.started_at),
        "ended_at": iso(attempt.ended_at),
        "outcome": attempt.outcome,
        "error_type": attempt.error_type,
        "error_message": attempt.error_message,
        "causes": attempt.causes or [],
        "traceback": attempt.traceback,
        "peak_memory": attempt.peak_memory,
    }
