"""Which tasks a list shows, in which order: queries for their ids, each answered by an index however large the table is
and however rare what is asked for.

A filter that leaves a column open is asked once for each word that column can hold, and the answers are merged: of each
index only the first few entries are read. One query with `state IN (…)` would have all that match sorted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, String, asc, desc, or_, select, union_all

from scheduler.rules.states import FINAL, KINDS, PLANNED, UNFINISHED
from scheduler.store.tables import Task
from scheduler.store.tasks import fixed


def unindexed(column: Any) -> ColumnElement[Any]:
    """The column's value, by which no index is searched: SQLite would take that of the kind, say, and read the whole
    history of a kind for its few unfinished rows."""
    value: ColumnElement[Any] = column.concat("") if isinstance(column.type, String) else column + 0
    return value


def is_unfinished() -> ColumnElement[bool]:
    """As the indexes of unfinished tasks say it, so that SQLite sees that they will do."""
    return Task.state.in_(fixed(*sorted(UNFINISHED)))


@dataclass(frozen=True)
class Wanted:
    """Which tasks; None is any. `since` (included) and `until` (not included) are about when a task ended, or is due
    as long as it has not: what a list is sorted by, so that a span is a piece of it."""

    states: frozenset[str]
    kind: str | None = None
    schedule_id: int | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    beyond: tuple[dt.datetime, int] | None = None  # only what follows this moment and id in the list, for the next page


def to_come(wanted: Wanted, limit: int) -> Select[Any]:
    """Ids of those that are only planned, the soonest first."""
    return _merged([_unfinished(wanted, PLANNED, limit, asc)], limit, asc)


def under_way(wanted: Wanted, limit: int) -> Select[Any] | None:
    """Ids of those that are neither planned nor ended, the latest due first; None when no such state is wanted."""
    states = sorted(wanted.states & UNFINISHED - {PLANNED})
    return _merged([_unfinished(wanted, state, limit, desc) for state in states], limit, desc) if states else None


def ended(wanted: Wanted, limit: int) -> Select[Any] | None:
    """Ids of those that have ended, the last to end first; None when no such state is wanted."""
    states = sorted(wanted.states & FINAL)
    if not states:
        return None
    if wanted.kind is None and wanted.schedule_id is None and len(states) == len(FINAL):
        return _merged([_ended(wanted, limit)], limit, desc)
    kinds = KINDS if wanted.kind is None else (wanted.kind,)
    return _merged([_ended(wanted, limit, kind, state) for kind in kinds for state in states], limit, desc)


def _merged(parts: Iterable[Select[Any, Any]], limit: int, order: Any) -> Select[Any]:
    everything = union_all(*(select(part.subquery()) for part in parts)).subquery()
    return select(everything.c.id).order_by(order(everything.c.moment), order(everything.c.id)).limit(limit)


def _unfinished(wanted: Wanted, state: str, limit: int, order: Any) -> Select[Any, Any]:
    query: Select[Any, Any] = select(Task.id, Task.due_at.label("moment")).where(Task.state == fixed(state)[0])
    if wanted.kind is not None:
        query = query.where(unindexed(Task.kind) == wanted.kind)
    if wanted.schedule_id is not None:  # there is an index on schedule and state
        query = query.where(Task.schedule_id == wanted.schedule_id)
    else:
        query = query.where(is_unfinished())
    query = query.where(*_within(Task.due_at, Task.id, wanted, order))
    return query.order_by(order(Task.due_at), order(Task.id)).limit(limit)


def _ended(wanted: Wanted, limit: int, kind: str | None = None, state: str | None = None) -> Select[Any, Any]:
    query: Select[Any, Any] = select(Task.id, Task.finished_at.label("moment")).where(Task.finished_at.is_not(None))
    if kind is not None:
        query = query.where(Task.kind == kind, Task.state == state)
    if wanted.schedule_id is not None:
        query = query.where(Task.schedule_id == wanted.schedule_id)
    query = query.where(*_within(Task.finished_at, Task.id, wanted, desc))
    return query.order_by(Task.finished_at.desc(), Task.id.desc()).limit(limit)


def _within(moment: Any, task_id: Any, wanted: Wanted, order: Any) -> list[ColumnElement[bool]]:
    conditions = [] if wanted.since is None else [moment >= wanted.since]
    if wanted.until is not None:
        conditions.append(moment < wanted.until)
    if wanted.beyond is not None:
        after, last_id = wanted.beyond
        if order is asc:  # the first of the two is what an index is searched by
            conditions += [moment >= after, or_(moment > after, task_id > last_id)]
        else:
            conditions += [moment <= after, or_(moment < after, task_id < last_id)]
    return conditions
