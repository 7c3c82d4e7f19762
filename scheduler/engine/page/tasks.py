"""What the page of tasks shows: those of a kind, state, schedule or span, some at a time, the newest first.

Lists do not read arguments, policies or whole results: a page costs the same whatever the tasks returned.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, String, cast, func, select
from sqlalchemy.orm import Session

from scheduler.clock import from_micros, iso, to_micros
from scheduler.engine.answers.listing import Wanted, ended, to_come, under_way
from scheduler.engine.answers.views import schedule_id_of
from scheduler.errors import WrongUsage
from scheduler.rules.states import PLANNED, STATES, SUCCEEDED
from scheduler.rules.task.task_words import result_in_words
from scheduler.store.database import Database
from scheduler.store.tables import Schedule, Task

AT_ONCE = 50  # tasks of one page
LONGEST_RESULT = 4_000  # letters of a result that are read for its words
LONGEST_NOTE = 160
LONGEST_VALUE = 60  # letters of a list or mapping in it; of a longer one its size is told
GROUPS = FORECAST, GOING, ENDED = ("p", "u", "e")  # of a list, in this order; a place in it begins with one
_PLACE = re.compile(rf"([{FORECAST}{GOING}{ENDED}])\.([0-9]{{1,16}})\.([0-9]{{1,18}})")


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks; None is any. The span is about when a task ended, or is due as long as it has not."""

    kind: str | None = None
    states: tuple[str, ...] = ()  # (): all but what is only planned
    schedule: str | None = None  # its name
    since: dt.datetime | None = None  # included
    until: dt.datetime | None = None  # not included


@dataclass(frozen=True)
class TasksPage:
    tasks: tuple[dict[str, Any], ...]
    older: str | None  # where the next page begins; None on the last


@dataclass(frozen=True)
class Place:
    """Where in a list a page begins: after this task."""

    group: str
    moment: dt.datetime
    task_id: int

    def __str__(self) -> str:
        return f"{self.group}.{to_micros(self.moment)}.{self.task_id}"


def place_of(text: str) -> Place:
    """The place that a page named. Raises WrongUsage."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise WrongUsage(f'"{text[:60]}" is no place in a list of tasks; go back to the first page')
    return Place(found[1], from_micros(int(found[2])), int(found[3]))


def tasks_page(
    database: Database, wanted: TaskFilter, *, after: Place | None = None, limit: int = AT_ONCE
) -> TasksPage:
    """Tasks: the forecast if it was asked for, the soonest first; then what is going on; then what has ended.

    Raises NotFound for an unknown schedule.
    """
    with database.read() as session:
        schedule_id = None if wanted.schedule is None else schedule_id_of(session, wanted.schedule)
        states = frozenset(wanted.states) or frozenset(STATES) - {PLANNED}
        question = Wanted(states, wanted.kind, schedule_id, wanted.since, wanted.until)
        found: list[tuple[str, Row[Any]]] = []
        for group in GROUPS if after is None else GROUPS[GROUPS.index(after.group) :]:
            missing = limit + 1 - len(found)
            if missing > 0:
                beyond = (after.moment, after.task_id) if after is not None and after.group == group else None
                found += [(group, row) for row in _group(session, group, replace(question, beyond=beyond), missing)]
        zones = _zones(session, {row.schedule_id for _, row in found[:limit]} - {None})
    shown = found[:limit]
    older = None
    if len(found) > limit:
        group, row = shown[-1]
        older = str(Place(group, row.finished_at if group == ENDED else row.due_at, row.id))
    return TasksPage(tuple(listed(row, zones.get(row.schedule_id)) for _, row in shown), older)


def _group(session: Session, group: str, wanted: Wanted, limit: int) -> list[Row[Any]]:
    """The rows of one group of the list, in order."""
    if group == FORECAST:
        query = to_come(wanted, limit) if PLANNED in wanted.states else None
    else:
        query = under_way(wanted, limit) if group == GOING else ended(wanted, limit)
    ids = list(session.scalars(query)) if query is not None else []
    if not ids:
        return []
    rows = {row.id: row for row in session.execute(select(*LISTED).where(Task.id.in_(ids)))}
    return [rows[one] for one in ids if one in rows]


# What a list shows of a task.
LISTED = (
    Task.id,
    Task.kind,
    Task.origin,
    Task.schedule_id,
    Task.schedule,
    Task.task,
    Task.fire_time,
    Task.due_at,
    Task.state,
    Task.reason,
    Task.created_at,
    Task.started_at,
    Task.finished_at,
    Task.attempt,
    Task.progress,
    Task.requested_by,
    Task.retry_of,
    func.substr(cast(Task.result, String), 1, LONGEST_RESULT).label("result_text"),
)


def _zones(session: Session, ids: set[int]) -> dict[int, str]:
    if not ids:
        return {}
    query = select(Schedule.id, Schedule.spec["timezone"].as_string().label("zone")).where(Schedule.id.in_(sorted(ids)))
    return {row.id: row.zone for row in session.execute(query)}


def listed(row: Row[Any], zone: str | None) -> dict[str, Any]:
    """A row of LISTED, as lists show it; `zone` is that of its schedule."""
    return {
        "id": row.id,
        "kind": row.kind,
        "origin": row.origin,
        "schedule": row.schedule,
        "task": row.task,
        "fire_time": iso(row.fire_time),
        "due_at": iso(row.due_at),
        "state": row.state,
        "created_at": iso(row.created_at),
        "started_at": iso(row.started_at),
        "finished_at": iso(row.finished_at),
        "took_seconds": (row.finished_at - row.started_at).total_seconds()
        if row.finished_at and row.started_at
        else None,
        "attempt": row.attempt,
        "progress": row.progress,
        "requested_by": row.requested_by,
        "retry_of": row.retry_of,
        "note": _note(row),
        "timezone": zone,
    }


def _note(row: Row[Any]) -> str:
    """The one thing to know about it: what it gave, or why it ended as it did."""
    note = _result_note(row.result_text) if row.state == SUCCEEDED else str(row.reason or "")
    note = " ".join(note.split())
    return note if len(note) <= LONGEST_NOTE else note[: LONGEST_NOTE - 1] + "…"


def _result_note(text: str | None) -> str:
    if not text:
        return ""
    try:
        found = json.loads(text)
    except ValueError:  # cut in the middle
        return text
    return result_in_words({name: _in_short(value) for name, value in found.items()}) if isinstance(found, dict) else ""


def _in_short(value: Any) -> Any:
    """A long list or mapping as its size: of the pictures of a set «4 items»."""
    if not isinstance(value, list | dict) or len(json.dumps(value, ensure_ascii=False)) <= LONGEST_VALUE:
        return value
    return f"{len(value)} item{'' if len(value) == 1 else 's'}"
