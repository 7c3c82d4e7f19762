"""Jobs that the dispatch script could not move: each is decided by itself, from SQL, and holds up no other."""

from __future__ import annotations

import logging

from sqlalchemy import select

from scheduler.broker.keys import parse_job_id
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.troubles import is_news
from scheduler.errors import DatabaseAway
from scheduler.rules.states import PLANNED, QUEUED, RETRYING
from scheduler.rules.task.jobs import WaitingJob
from scheduler.store.database import Database
from scheduler.store.tables import Task

log = logging.getLogger(__name__)


def settle_handover(database: Database, room: WaitingRoom) -> int:
    """Register again what SQL still wants, drop the rest; how many were settled. When SQL is away they stay."""
    settled = 0
    while ids := room.handed_over():
        ours = {one: job for one in ids if (job := parse_job_id(one)) is not None}
        try:
            wanted = _wanted(database, list(ours.values()))
        except DatabaseAway as error:
            if is_news("handover"):
                log.warning("Odd jobs stay where they are: %s", error, extra={"event": "handover_delayed"})
            return settled
        for one in ids:
            if one not in ours:
                log.warning("Dropped %r: no job of this service", one, extra={"event": "foreign_job_dropped"})
        mend_keys(room, {job.queue for job in wanted})
        room.register(wanted, force=True)
        room.clear_handed_over(ids)
        settled += len(ids)
    return settled


def mend_keys(room: WaitingRoom, queues: set[str]) -> None:
    """Delete those of our keys that hold something of another type: garbage in one must not stop the others."""
    for key in room.mend_types(queues):
        log.warning("Deleted %s: it held something of another type", key, extra={"event": "key_mended"})


def _wanted(database: Database, jobs: list[tuple[int, int]]) -> list[WaitingJob]:
    asked = set(jobs)
    with database.read() as session:
        rows = session.execute(
            select(Task.id, Task.attempt, Task.queue, Task.due_at, Task.state).where(
                Task.id.in_({task_id for task_id, _ in asked}), Task.state.in_((PLANNED, QUEUED, RETRYING))
            )
        )
        return [
            WaitingJob(row.id, row.attempt + 1, row.queue, row.due_at, row.state)
            for row in rows
            if (row.id, row.attempt + 1) in asked
        ]
