"""Reconcile: what SQL wants and Redis lacks is put back, what Redis holds and SQL does not want is removed; attempts
whose worker fell silent are ended; what could not start within its grace is caught up or missed.

Right when two of them run, and when one dies in the middle: every write is conditional, a job's id always the same.
"""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from pydantic import ValidationError
from sqlalchemy.orm import Session

from scheduler.broker.keys import job_id, parse_job_id
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.handover import mend_keys, settle_handover
from scheduler.engine.troubles import tell
from scheduler.engine.work.outcomes import Held, end_badly, follow
from scheduler.kill_points import point
from scheduler.rules.mail import alerts
from scheduler.rules.states import LOST, MISSED
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.task.policy import TaskPolicy
from scheduler.rules.times.occurrences import judge_late
from scheduler.store import happenings, schedules, tasks
from scheduler.store.database import Database
from scheduler.store.tables import Task
from scheduler.store.tasks import AttemptEnd

log = logging.getLogger(__name__)

KILL_GRACE = dt.timedelta(seconds=5)
"""After a lease has ended: the time its worker needs to stop what runs. No second attempt begins before."""

PAGE = 5000


@dataclass
class Mended:
    """What a round found to mend."""

    put_back: int = 0
    removed: int = 0
    marked: int = 0
    lost: int = 0
    caught_up: int = 0
    missed: int = 0

    def __str__(self) -> str:
        found = [f"{count} {name.replace('_', ' ')}" for name, count in vars(self).items() if count]
        return ", ".join(found) or "nothing to mend"


class Reconcile:
    def __init__(self, database: Database, room: WaitingRoom) -> None:
        self.database = database
        self.room = room
        self._missing_before: set[str] = set()
        self._unknown_before: set[str] = set()

    def step(self) -> Mended:
        """One round over everything. Raises RedisAway, DatabaseAway."""
        mended = Mended()
        self.end_silent(mended)
        self.judge_late(mended)
        self.mend_redis(mended)
        return mended

    # --- Redis from SQL ---------------------------------------------------------------------------------------------

    def mend_redis(self, mended: Mended) -> None:
        """Make Redis hold what SQL wants.

        A job may be on its way between two places while we look: what seems missing or unknown is believed at once only
        where belief is harmless, else when the next round sees it again.
        """
        lost_memory = not self.room.is_planted()
        wanted = self._wanted()
        queues = {job.queue for job in wanted.values()} | self._known_queues()
        mend_keys(self.room, queues)
        # In this order: a job moves from the sorted set to its queue, so it is seen at least once.
        waiting = self.room.waiting_ids()
        queued = self.room.queued_ids(queues)
        missing = {name for name in wanted if name not in waiting and name not in queued}
        twice_missing = missing & self._missing_before
        point("reconcile.after_read")
        mended.put_back += self.room.register(wanted[name] for name in missing - twice_missing)
        point("reconcile.mid_repair")
        mended.put_back += self.room.register((wanted[name] for name in twice_missing), force=True)
        if lost_memory:
            log.warning("Redis had lost its memory; %d jobs put back", len(missing), extra={"event": "redis_refilled"})
            self.room.plant()
        self._missing_before = missing - twice_missing
        self._remove_unknown(wanted, waiting, mended)
        mended.marked += self._mark([wanted[name] for name in queued if name in wanted])
        settle_handover(self.database, self.room)
        point("reconcile.after_repair")

    def _wanted(self) -> dict[str, WaitingJob]:
        wanted: dict[str, WaitingJob] = {}
        after = 0
        while True:
            with self.database.read() as session:
                page = tasks.wanted_jobs(session, after, PAGE)
            wanted.update((job_id(job.task_id, job.attempt), job) for job in page)
            if len(page) < PAGE:
                return wanted
            after = page[-1].task_id

    def _known_queues(self) -> set[str]:
        with self.database.read() as session:
            revision = schedules.latest_revision(session)
            kinds: dict[str, Any] = revision.book.get("kinds", {}) if revision else {}
            return {str(kind["queue"]) for kind in kinds.values()}

    def _remove_unknown(self, wanted: dict[str, WaitingJob], waiting: set[str], mended: Mended) -> None:
        unknown = {name for name in waiting if name not in wanted}
        gone = unknown & self._unknown_before
        foreign = {name for name in gone if parse_job_id(name) is None}
        for name in sorted(foreign)[:10]:
            log.warning("Removed %r: no job of this service", name, extra={"event": "foreign_job_removed"})
        self.room.drop(gone)
        mended.removed += len(gone)
        self._unknown_before = unknown - gone

    def _mark(self, jobs: list[WaitingJob]) -> int:
        """Mark rows whose jobs are in their queues, for a dispatcher that died before it could."""
        unmarked = [(job.task_id, job.attempt) for job in jobs if job.state != "queued"]
        if not unmarked:
            return 0
        with self.database.write() as session:
            return tasks.mark_queued(session, unmarked)

    # --- silent workers ---------------------------------------------------------------------------------------------

    def end_silent(self, mended: Mended) -> None:
        """End the attempts whose lease is over: their worker is dead, frozen, or cut off from SQL.

        Each in a transaction of its own: who has ended one, and holds its schedule and those that wait for it, would
        else wait for the schedule of the next.
        """
        with self.database.read() as session:
            silent = tasks.silent(session, KILL_GRACE)
        for task in silent:
            held = _held(task)
            if held is None:
                continue
            with self.database.write() as session:
                followed = end_badly(session, held, _silence_of(task))
            if followed is None:
                continue
            verdict, left = followed
            mended.lost += 1
            log.warning(
                "Task %d attempt %d: %s fell silent; now %s",
                task.id,
                task.attempt,
                task.worker,
                verdict.state,
                extra={"event": "attempt_lost", "task_id": task.id},
            )
            follow(self.room, left)
        point("reconcile.after_silent")

    # --- late ones --------------------------------------------------------------------------------------------------

    def judge_late(self, mended: Mended) -> None:
        """Catch up or miss what could not start within its grace, by each schedule's policy. A schedule that somebody
        is at comes in the next round."""
        withdrawn: list[tuple[int, int, str]] = []
        with self.database.write() as session:
            now = schedules.now(session)
            late = tasks.late(session)
            of = schedules.lock_free(session, {row.schedule_id for row in late if row.schedule_id is not None})
            free = [row for row in late if row.schedule_id is None or row.schedule_id in of]
            for _, rows in groupby(free, key=_judged_with):
                withdrawn.extend(_judge(session, list(rows), now, mended))
        point("reconcile.after_late")
        if withdrawn:
            self.room.withdraw(withdrawn)


def _judged_with(row: Any) -> tuple[str, int]:
    """The occurrences of a schedule are judged together, each run that was asked for by itself."""
    return ("task", row.id) if row.fire_time is None else ("schedule", row.schedule_id)


def _judge(session: Session, rows: list[Any], now: dt.datetime, mended: Mended) -> list[tuple[int, int, str]]:
    """Judge the late rows of one schedule (or one late run that was asked for); the jobs no longer wanted.

    Those that are caught up and wait are judged along: of two that became late one after the other, `latest` means one.
    """
    policy = _policy_of(rows[-1].id, rows[-1].policy)
    if policy is None:
        return []
    moments = [row.fire_time or row.due_at for row in rows]
    fates = judge_late(policy.missed, {one: _due_at(row, policy) for one, row in zip(moments, rows, strict=True)}, now)
    withdrawn = []
    missed: list[int] = []
    for row, moment in zip(rows, moments, strict=True):
        fate = fates[moment]
        if fate.start_by is not None and row.start_by >= now:
            continue
        if fate.start_by is not None and fate.start_by > row.start_by:
            mended.caught_up += tasks.extend_start(
                session, row.id, row.start_by, fate.start_by, fate.reason_code, fate.reason
            )
            continue
        code, reason = fate.reason_code, fate.reason
        if fate.start_by is not None:
            code, reason = "late", f"could not start by {row.start_by:%Y-%m-%d %H:%M:%S} UTC, when its time was over"
        ended = tasks.move(
            session,
            MISSED,
            Task.id == row.id,
            Task.attempt == 0,
            Task.start_by == row.start_by,
            reason_code=code,
            reason=reason,
        )
        if ended:
            mended.missed += 1
            withdrawn.append((row.id, 1, row.queue))
            if code != "superseded":  # a later fire time counts instead, as the schedule wants it
                missed.append(row.id)
    if missed and rows[-1].schedule_id is not None:
        happenings.tell(session, alerts.MISSED, rows[-1].schedule_id, missed[-1], count=len(missed), why=reason)
    return withdrawn


def _due_at(row: Any, policy: TaskPolicy) -> dt.datetime:
    """When a late task was first due: its row's `due_at` moves on while it waits for its lane."""
    if row.fire_time is None:
        return cast("dt.datetime", row.due_at)
    allowed = policy.missed.within if row.origin == "catch_up" else policy.grace
    return cast("dt.datetime", row.fire_time if allowed is None else row.start_by - allowed)


def _policy_of(task_id: int, policy: dict[str, Any]) -> TaskPolicy | None:
    """The policies of a row; None when another version of the program wrote what this one cannot read. Such a row is
    left to that version: it must not hold up the others."""
    try:
        return TaskPolicy.model_validate(policy)
    except ValidationError as error:
        error.add_note(f"Task {task_id} is left alone: its policies are not of this version of the program.")
        tell("reconcile", error)
        return None


def _held(task: Task) -> Held | None:
    policy = _policy_of(task.id, task.policy)
    if policy is None:
        return None
    return Held(
        task.id,
        task.attempt,
        task.token or "",
        policy,
        task.queue,
        task.schedule_id,
        task.fire_time,
        task.started_at,
    )


def _silence_of(task: Task) -> AttemptEnd:
    return AttemptEnd(LOST, "WorkerLost", f"worker {task.worker} fell silent: no sign of life until its lease ended")
