"""The end of an attempt, whoever tells it: the child that ran it, the parent that saw the child die, or the keeper that
found its lease ended. One transaction: the task, its attempt, its schedule."""

from __future__ import annotations

import datetime as dt
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.troubles import is_news
from scheduler.engine.work import artifacts
from scheduler.errors import RedisAway
from scheduler.kill_points import point
from scheduler.rules.brief import brief
from scheduler.rules.mail import alerts
from scheduler.rules.states import CANCELLED, FAILED, LOST, RETRYING, SUCCEEDED
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.task.policy import TaskPolicy
from scheduler.rules.task.results import JSON
from scheduler.rules.task.retry import Ended, Verdict, after_attempt
from scheduler.store import happenings, schedules, tasks
from scheduler.store.tables import Attempt, Schedule, Task
from scheduler.store.tasks import AttemptEnd

log = logging.getLogger(__name__)


WORKER_STOPPED = "WorkerStopped"
"""The error type of an attempt whose worker was told to stop while it ran."""


@dataclass(frozen=True)
class Held:
    """An attempt under way, as whoever ends it knows it."""

    task_id: int
    attempt: int
    token: str
    policy: TaskPolicy
    queue: str
    schedule_id: int | None
    fire_time: dt.datetime | None
    first_started_at: dt.datetime | None


@dataclass(frozen=True)
class FollowUp:
    """What is left to do once an end is committed (`follow`)."""

    jobs: Sequence[WaitingJob] = ()  # to be put into Redis
    withdrawn: Sequence[tuple[int, int, str]] = ()  # (task id, attempt, queue) each: to be taken out
    pause: str = ""  # which schedule paused itself, and why


def end_well(
    session: Session,
    held: Held,
    result: dict[str, Any] | None,
    *,
    result_kind: str | None = None,
    files: Sequence[artifacts.Kept] = (),
    **values: Any,
) -> list[WaitingJob] | None:
    """Record a success with its result; the jobs to register after the commit, None when the attempt was superseded."""
    values["result_kind"] = kind_of(result, result_kind)
    was_failing = held.schedule_id is not None and schedules.lock_if_failing(session, held.schedule_id)
    attempt_end = AttemptEnd(SUCCEEDED, peak_memory=values.pop("peak_memory", None))
    done = tasks.end(
        session, held.task_id, held.attempt, held.token, SUCCEEDED, attempt_end, result=result, error=None, **values
    )
    if not done:
        return None
    artifacts.record(session, held.task_id, held.attempt, files)
    if held.schedule_id is not None:
        if was_failing and schedules.clear_failures(session, held.schedule_id):
            happenings.tell(session, alerts.RECOVERED, held.schedule_id, held.task_id)
        if held.policy.too_fast is not None:
            _tell_if_too_fast(session, held, held.policy.too_fast)
    return _those_who_wait(session, held)


def kind_of(result: dict[str, Any] | None, kind: str | None) -> str | None:
    """The kind of a result as its row has it."""
    return kind or (None if result is None else JSON)


def end_badly(
    session: Session, held: Held, attempt_end: AttemptEnd, *, error_names: Sequence[str] = (), **values: Any
) -> tuple[Verdict, FollowUp] | None:
    """Record an attempt that did not succeed and what follows by policy, with what is to be done after the commit; None
    when the attempt was superseded."""
    now = schedules.now(session)
    verdict = _verdict(session, held, attempt_end, error_names, now)
    if verdict.due_at is not None:
        values["due_at"] = verdict.due_at
    failing = held.schedule_id if verdict.state in (FAILED, LOST) else None
    if failing is not None:
        schedules.lock(session, failing)  # before the task, as everybody does
    done = tasks.end(
        session,
        held.task_id,
        held.attempt,
        held.token,
        verdict.state,
        attempt_end,
        reason_code=verdict.reason_code,
        reason=verdict.reason,
        **values,
    )
    if not done:
        return None
    paused = FollowUp()
    if failing is not None:
        paused = _count_failure(session, held, verdict, attempt_end, now)
    jobs = _those_who_wait(session, held)
    if verdict.state == RETRYING and verdict.due_at is not None:
        jobs.append(WaitingJob(held.task_id, held.attempt + 1, held.queue, verdict.due_at, RETRYING))
    point("outcomes.before_commit")
    return verdict, replace(paused, jobs=jobs)


def follow(room: WaitingRoom, done: FollowUp) -> None:
    """Say what has happened, and let Redis know; when it is away reconcile will."""
    if done.pause:
        log.warning("Schedule %s", done.pause, extra={"event": "schedule_paused_itself"})
    register(room, done.jobs)
    with suppress(RedisAway):
        room.withdraw(done.withdrawn)


def register(room: WaitingRoom, jobs: Sequence[WaitingJob]) -> None:
    """Put jobs into Redis after the commit; when Redis is away reconcile will."""
    if not jobs:
        return
    point("outcomes.before_register")
    try:
        room.register(jobs, force=True)
    except RedisAway as error:
        if is_news("follow-up"):
            log.warning("Not yet in Redis: %s", error, extra={"event": "follow_up_not_registered"})


def _verdict(
    session: Session, held: Held, attempt_end: AttemptEnd, error_names: Sequence[str], now: dt.datetime
) -> Verdict:
    message = attempt_end.error_message or ""
    first_line = message.splitlines()[0] if message else ""
    shown = f"{attempt_end.error_type}: {first_line}" if attempt_end.error_type else first_line
    stopped = attempt_end.error_type == WORKER_STOPPED
    lost, forgiven = tasks.lost_attempts(session, held.task_id, WORKER_STOPPED)
    ended = Ended(
        attempt_end.outcome,
        held.attempt,
        lost=lost + (attempt_end.outcome == LOST and not stopped),
        worker_stopped=stopped,
        forgiven=forgiven,
        error_names=tuple(error_names),
        error=shown[:300],
        first_started_at=held.first_started_at,
        next_fire_time=_next_fire_time(session, held),
    )
    verdict = after_attempt(held.policy, ended, now, luck=random.random())
    if verdict.state == RETRYING and _is_stop_requested(session, held):
        return Verdict(CANCELLED, "stopped", "asked to stop while it ran")
    return verdict


def _is_stop_requested(session: Session, held: Held) -> bool:
    query = select(Task.stop_requested_at).where(Task.id == held.task_id)
    return session.execute(query).scalar() is not None


def _next_fire_time(session: Session, held: Held) -> dt.datetime | None:
    if not held.policy.retry.until_next or held.schedule_id is None or held.fire_time is None:
        return None
    return session.execute(
        select(Task.fire_time)
        .where(Task.schedule_id == held.schedule_id, Task.fire_time > held.fire_time)
        .order_by(Task.fire_time)
        .limit(1)
    ).scalar()


def _those_who_wait(session: Session, held: Held) -> list[WaitingJob]:
    """Let the tasks that wait for this one's lane, or its place among its kind, come now instead of at their next
    look."""
    now = schedules.now(session)
    waiting = tasks.waiting_for_lane(session, held.task_id)
    if held.policy.max_running is not None:
        known = {job.task_id for job in waiting}
        waiting += [job for job in tasks.waiting_for_slot(session, held.task_id) if job.task_id not in known]
    for job in waiting:
        tasks.put_off(session, job.task_id, now, "its turn has come")
    return [WaitingJob(job.task_id, job.attempt, job.queue, now, job.state) for job in waiting]


def _tell_if_too_fast(session: Session, held: Held, least: dt.timedelta) -> None:
    attempt = select(Attempt.started_at, Attempt.ended_at)
    row = session.execute(attempt.where(Attempt.task_id == held.task_id, Attempt.number == held.attempt)).one()
    took = row.ended_at - row.started_at
    if took < least:
        why = f"it took {brief(took)}; less than {brief(least)} is too fast"
        happenings.tell(session, alerts.TOO_FAST, held.schedule_id, held.task_id, why=why)


def _error_line(attempt_end: AttemptEnd) -> str:
    lines = [line.strip() for line in (attempt_end.error_message or "").splitlines() if line.strip()]
    return ": ".join(filter(None, (attempt_end.error_type, lines[0] if lines else "")))


def _count_failure(
    session: Session, held: Held, verdict: Verdict, attempt_end: AttemptEnd, now: dt.datetime
) -> FollowUp:
    """Count a final failure, with which the schedule may pause itself."""
    assert held.schedule_id is not None
    failures = schedules.count_failure(session, held.schedule_id)
    happenings.tell(
        session,
        alerts.FAILED if verdict.state == FAILED else alerts.LOST,
        held.schedule_id,
        held.task_id,
        in_a_row=failures,
        attempts=held.attempt,
        error=_error_line(attempt_end),
        why=verdict.reason,
    )
    most = held.policy.pause_after
    if most is None or failures < most:
        return FollowUp()
    in_a_row = "a final failure" if failures == 1 else f"{failures} final failures in a row; last"
    why = f"{in_a_row}: {verdict.reason}"
    schedule = session.get(Schedule, held.schedule_id, with_for_update=True, populate_existing=True)
    if schedule is None or schedule.pause is not None or schedule.retired_at is not None:
        return FollowUp()
    from scheduler.engine.pauses import hold  # here: it brings the planner along, which a worker seldom needs

    withdrawn = hold(session, schedule, schedules.pause_fields("itself", why, now, None), now)
    happenings.tell(session, alerts.PAUSED, held.schedule_id, held.task_id, why=why)
    return FollowUp(withdrawn=withdrawn, pause=f"{schedule.name} paused itself: {why}")
