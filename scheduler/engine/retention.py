"""Deletes what is old: ended tasks with all that belongs to them, records of gaps, and lines of the audit.

In batches with pauses between them, so that a claim never waits for long. Nothing here touches how far a schedule is
planned: a fire time whose row is gone does not come again.
"""

from __future__ import annotations

import datetime as dt
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scheduler.engine.work.artifacts import FOLDER
from scheduler.rules.states import SUCCEEDED
from scheduler.store import audit, retention, schedules
from scheduler.store.database import Database

PAGE = 2000  # rows looked at in one reading
FIRST_BATCH = 100
LEAST_BATCH = 20  # where each commit is slow by itself, smaller ones would only make more of them
LONGEST_BATCH = 0.04  # seconds; after one that took longer the next is smaller: on SQLite all writers wait for it
LEAST_PAUSE = 0.06  # seconds between two batches; those that wait for SQLite look again every 25 ms, then less often


@dataclass(frozen=True)
class Ages:
    """How many days tasks are kept: those that succeeded, and those that did not."""

    days: int
    failed_days: int
    of_schedules: dict[int, tuple[int, int]] = field(default_factory=dict)  # where a schedule says it itself

    @property
    def all_days(self) -> Iterator[int]:
        for pair in ((self.days, self.failed_days), *self.of_schedules.values()):
            yield from pair

    def keeps_days(self, schedule_id: int | None, state: str) -> int:
        days, failed_days = self.days, self.failed_days
        if schedule_id is not None:
            days, failed_days = self.of_schedules.get(schedule_id, (days, failed_days))
        return days if state == SUCCEEDED else failed_days


@dataclass
class Deleted:
    """How much is gone, by kind and state."""

    tasks: Counter[tuple[str, str]] = field(default_factory=Counter)
    gaps: int = 0
    audit_lines: int = 0

    def as_json(self) -> dict[str, Any]:
        by_kind: dict[str, dict[str, int]] = {}
        for (kind, state), count in sorted(self.tasks.items()):
            by_kind.setdefault(kind, {})[state] = count
        return {"deleted": by_kind, "tasks": self.tasks.total(), "gaps": self.gaps, "audit_lines": self.audit_lines}


def delete_old(
    database: Database,
    data: Path,
    *,
    days: int,
    failed_days: int,
    batch: int,
    now: dt.datetime | None = None,
    watch: Callable[[int, int, int], None] = lambda looked, total, deleted: None,
    wait: Callable[[float], None] = time.sleep,
) -> Deleted:
    """Delete the ended tasks that are older than they are kept, and gaps older than the longest; what is gone.

    `watch` is told after each batch how many rows were looked at, of how many, and how many deleted; what it raises
    ends the work, and what was deleted by then stays deleted. `batch` is how many rows a transaction deletes at most.
    """
    with database.read() as session:
        moment = now or schedules.now(session)
        ages = Ages(days, failed_days, _ages_of_schedules(retention.keeps(session), days, failed_days))
        newest = moment - dt.timedelta(days=min(ages.all_days))
        total = retention.count_ended_before(session, newest)
    deleted, looked, size = Deleted(), 0, min(FIRST_BATCH, batch)
    for page in _pages(database, newest):
        old = [
            row.id
            for row in page
            if row.finished_at < moment - dt.timedelta(days=ages.keeps_days(row.schedule_id, row.state))
        ]
        looked += len(page) - len(old)
        while old:
            some, old = old[:size], old[size:]
            took = _delete(database, data, some, deleted)
            looked += len(some)
            watch(looked, total, deleted.tasks.total())
            database.checkpoint()
            size = next_size(size, took, batch)
            wait(max(LEAST_PAUSE, took))
    with database.write() as session:
        deleted.gaps = retention.delete_gaps(session, moment - dt.timedelta(days=max(ages.all_days)))
    return deleted


def delete_old_audit(
    database: Database,
    *,
    days: int,
    batch: int,
    now: dt.datetime | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Delete the lines of the audit that are older than so many days, `batch` in one transaction; how many."""
    with database.read() as session:
        before = (now or schedules.now(session)) - dt.timedelta(days=days)
    deleted = 0
    while True:
        began = time.monotonic()
        with database.write() as session:
            gone = audit.delete_oldest(session, before, batch)
        deleted += gone
        if gone < batch:
            return deleted
        wait(max(LEAST_PAUSE, time.monotonic() - began))


def next_size(size: int, took: float, most: int) -> int:
    """How many rows the next batch has, after one of `size` that took so many seconds; `most` at most.

    >>> next_size(100, took=0.01, most=500), next_size(100, took=0.03, most=500), next_size(100, took=0.2, most=500)
    (200, 100, 50)
    """
    if took > LONGEST_BATCH:
        return min(most, max(LEAST_BATCH, size // 2))
    return min(most, size * 2) if took < LONGEST_BATCH / 2 else size


def _ages_of_schedules(keeps: dict[int, dict[str, Any]], days: int, failed_days: int) -> dict[int, tuple[int, int]]:
    return {
        schedule_id: (keep.get("days") or days, keep.get("failed_days") or failed_days)
        for schedule_id, keep in keeps.items()
    }


def _pages(database: Database, before: dt.datetime) -> Iterator[Sequence[Any]]:
    after: tuple[dt.datetime, int] | None = None
    while True:
        with database.read() as session:
            page = retention.ended_before(session, before, after, PAGE)
        if not page:
            return
        after = (page[-1].finished_at, page[-1].id)
        yield page


def _delete(database: Database, data: Path, ids: Sequence[int], deleted: Deleted) -> float:
    """Delete one batch, and after its commit the files of its tasks; how many seconds SQL was at it."""
    began = time.monotonic()
    with database.write() as session:
        gone = retention.delete_ended(session, ids)
    took = time.monotonic() - began
    deleted.tasks.update((row.kind, row.state) for row in gone)
    folder = data.resolve() / FOLDER
    if folder.is_dir():
        for row in gone:
            shutil.rmtree(folder / str(row.id), ignore_errors=True)  # what stays here has no row; `sweep` finds it
    return took
