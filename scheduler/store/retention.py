"""Which ended tasks are old, and their deletion, a few at a time.

What belongs to a task (attempts, log, artifacts) goes with its row, by the foreign keys. Every function takes a
session and leaves the commit to the caller.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, and_, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from scheduler.rules.states import FINAL
from scheduler.store import tasks
from scheduler.store.tables import Gap, Schedule, Task


def keeps(session: Session) -> dict[int, dict[str, Any]]:
    """What each schedule, retired ones too, says of how long it is kept; by its id, where it says anything."""
    rows = session.execute(select(Schedule.id, Schedule.spec["keep"]))
    return {schedule_id: keep for schedule_id, keep in rows if keep and any(keep.values())}


def count_ended_before(session: Session, before: dt.datetime) -> int:
    return session.execute(select(func.count()).select_from(Task).where(Task.finished_at < before)).scalar_one()


def ended_before(
    session: Session, before: dt.datetime, after: tuple[dt.datetime, int] | None, limit: int
) -> list[Row[Any]]:
    """Tasks that ended before a moment, the oldest first, a page at a time: those that follow (finished_at, id)."""
    query = select(Task.id, Task.schedule_id, Task.state, Task.finished_at).where(Task.finished_at < before)
    if after is not None:
        moment, task_id = after
        query = query.where(
            Task.finished_at >= moment,
            or_(Task.finished_at > moment, and_(Task.finished_at == moment, Task.id > task_id)),
        )
    return list(session.execute(query.order_by(Task.finished_at, Task.id).limit(limit)))


def delete_ended(session: Session, ids: Sequence[int]) -> list[Row[Any]]:
    """Delete those of these tasks that have ended, save the last ended one of each schedule; kind, state and id of
    those that are gone. Tasks that repeat one of them go on without it. One that somebody is at, or a repetition of
    which somebody is at, stays until the next time: who holds tasks waits for no others."""
    newer = aliased(Task)
    is_followed = exists(
        select(newer.id)
        .where(newer.schedule_id == Task.schedule_id, newer.id > Task.id, newer.finished_at.is_not(None))
        .correlate(Task)
    )
    old = select(Task.id).where(Task.id.in_(ids), Task.state.in_(FINAL), or_(Task.schedule_id.is_(None), is_followed))
    # Locked, so that whoever is about to repeat one of them has done so before, and is let go of below.
    going = set(session.scalars(old.with_for_update(of=Task, skip_locked=True)))
    if not going:
        return []
    let_go = update(Task).where(Task.id.in_(tasks.free(session, Task.retry_of.in_(going)))).values(retry_of=None)
    session.execute(let_go.execution_options(synchronize_session=False))
    going.difference_update(session.scalars(select(Task.retry_of).where(Task.retry_of.in_(going))))
    # An end never changes, and a newer row that ended stays: what was found above is still so.
    statement = delete(Task).where(Task.id.in_(going)).returning(Task.kind, Task.state, Task.id)
    return list(session.execute(statement.execution_options(synchronize_session=False)))


def delete_gaps(session: Session, before: dt.datetime) -> int:
    """Delete the records of gaps that were made before a moment; how many."""
    statement = delete(Gap).where(Gap.recorded_at < before).returning(Gap.id)
    return len(session.execute(statement.execution_options(synchronize_session=False)).all())
