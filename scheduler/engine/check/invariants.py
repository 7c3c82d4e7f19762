"""What must be true of the tables and of Redis at any moment, as queries: each must find nothing.

The list is that of docs/promise.md. Rules about history look at the newest tasks only, so that a look costs the same
however long the service has run: what was broken longer ago was found then.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal, or_, select
from sqlalchemy.orm import Session

from scheduler.broker.connection import answering
from scheduler.broker.keys import SCHEDULED, job_id, parse_job_id
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import MICROSECOND, iso
from scheduler.engine.answers.listing import unindexed
from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.states import FINAL, PLANNED, QUEUED, RETRYING, RUNNING, SUCCEEDED, UNFINISHED
from scheduler.rules.times.fire_times import fire_times
from scheduler.store import schedules
from scheduler.store.mail_tables import WAITING, OutboxMessage
from scheduler.store.outbox import GIVE_UP_AFTER, LEASE, LONGEST_PAUSE
from scheduler.store.tables import Attempt, Revision, Schedule, Task
from scheduler.store.types import Instant, micros

RECENT = 50_000  # tasks: the newest, that rules about history look at; each in a tenth of a second
RECENT_DAYS = dt.timedelta(days=7)  # the same for attempts that overlap
LEASE_LIMIT = dt.timedelta(seconds=90)  # the longest that a lost attempt may go unnoticed
LATE_LIMIT = dt.timedelta(seconds=60)  # after its grace, until a row that did not start is ended
PLAN_LIMIT = dt.timedelta(minutes=5)
EARLY_LIMIT = dt.timedelta(seconds=2)  # by which the clocks of SQL and Redis may differ
MAIL_LIMIT = GIVE_UP_AFTER + LONGEST_PAUSE + LEASE  # by then the last try, at most a pause and a lease later, was made
UNKNOWN_LIMIT = dt.timedelta(seconds=30)  # more than two rounds of reconcile
MOST = 1000  # offenders looked for, of one rule
FORECASTS = 1000  # planned rows whose fire time is computed anew

END_OF_TIME = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)

Offenders = Iterator[str]


@dataclass(frozen=True)
class Invariant:
    """`find` gives the offenders, in words; a healthy service has none."""

    name: str
    promise: str  # what holds when there is none
    find: Callable[[Session, dt.datetime], Offenders]
    remedy: str


@dataclass(frozen=True)
class RedisInvariant:
    """The same for what SQL and Redis hold together."""

    name: str
    promise: str
    find: Callable[[Session, WaitingRoom, dt.datetime], Offenders]
    remedy: str


# --- history --------------------------------------------------------------------------------------------------------


def _recent() -> ColumnElement[bool]:
    """Of the newest tasks: a range of the primary key."""
    return Task.id > select(func.coalesce(func.max(Task.id), 0) - RECENT).scalar_subquery()


def _recent_attempt() -> ColumnElement[bool]:
    return Attempt.id > select(func.coalesce(func.max(Attempt.id), 0) - RECENT).scalar_subquery()


def _told(session: Session, query: Any, words: str) -> Offenders:
    """Each row of the query, put into `words` by its columns' names."""
    for row in session.execute(query.limit(MOST)):
        yield words.format(**row._mapping)


def _duplicates(session: Session, now: dt.datetime) -> Offenders:
    schedule_id = unindexed(Task.schedule_id)
    query = (
        select(schedule_id.label("schedule_id"), Task.fire_time, func.count().label("number"))
        .where(schedule_id.is_not(None), Task.fire_time.is_not(None), _recent())
        .group_by(schedule_id, Task.fire_time)
        .having(func.count() > 1)
    )
    for row in session.execute(query.limit(MOST)):
        yield f"schedule {row.schedule_id} at {iso(row.fire_time)}: {row.number} tasks"


def _open_attempts_of_ended(session: Session, now: dt.datetime) -> Offenders:
    query = (
        select(Attempt.task_id, Attempt.number, Task.state)
        .join(Task, Task.id == Attempt.task_id)
        .where(Attempt.ended_at.is_(None), unindexed(Task.state).in_(sorted(FINAL)))
        .order_by(Attempt.task_id)
    )
    return _told(session, query, "task {task_id} is {state}, its attempt {number} is open")


def _running_without_one_attempt(session: Session, now: dt.datetime) -> Offenders:
    open_attempts = (
        select(func.count())
        .select_from(Attempt)
        .where(Attempt.task_id == Task.id, Attempt.ended_at.is_(None))
        .correlate(Task)
        .scalar_subquery()
    )
    query = select(Task.id, open_attempts.label("number")).where(Task.state == RUNNING, open_attempts != 1)
    return _told(session, query.order_by(Task.id), "task {id} runs with {number} open attempts")


def _open_between_attempts(session: Session, now: dt.datetime) -> Offenders:
    query = (
        select(Task.id, Attempt.number, Task.state)
        .join(Attempt, Attempt.task_id == Task.id)
        .where(Task.state.in_((PLANNED, QUEUED, RETRYING)), Task.attempt > 0, Attempt.ended_at.is_(None))
        .order_by(Task.id)
    )
    return _told(session, query, "task {id} is {state}, its attempt {number} is open")


def _attempt_numbers(session: Session, now: dt.datetime) -> Offenders:
    count, first, last = func.count(Attempt.id), func.min(Attempt.number), func.max(Attempt.number)
    query = (
        select(Task.id, Task.attempt, count.label("number"), first.label("first"), last.label("last"))
        .outerjoin(Attempt, Attempt.task_id == Task.id)
        .where(_recent())
        .group_by(Task.id, Task.attempt)
        .having(or_(count != Task.attempt, and_(count > 0, or_(first != 1, last != Task.attempt))))
        .order_by(Task.id)
    )
    return _told(session, query, "task {id} has begun {attempt} attempts; {number} are known, from {first} to {last}")


def _started_twice(session: Session, now: dt.datetime) -> Offenders:
    query = (
        select(Task.id, Task.attempt)
        .where(Task.attempt > 1, Task.policy["delivery"].as_string() == "at_most_once", _recent())
        .order_by(Task.id)
    )
    return _told(session, query, "task {id} began {attempt} times")


def _overlaps(session: Session, now: dt.datetime) -> Offenders:
    """Of each lane the attempts by their start: none may start before all earlier ones have ended."""
    ended = func.max(func.coalesce(Attempt.ended_at, literal(END_OF_TIME, Instant()))).over(
        partition_by=Task.lane, order_by=(Attempt.started_at, Attempt.id), rows=(None, -1)
    )
    attempts = (
        select(Task.lane, Attempt.task_id, Attempt.number, Attempt.started_at, ended.label("earlier_ended"))
        .join(Task, Task.id == Attempt.task_id)
        .where(Task.lane.is_not(None), Attempt.started_at > now - RECENT_DAYS, _recent_attempt())
        .subquery()
    )
    query = select(attempts).where(attempts.c.started_at < attempts.c.earlier_ended).order_by(attempts.c.task_id)
    return _told(session, query, "task {task_id} attempt {number} began while another of lane {lane} ran")


def _two_ends(session: Session, now: dt.datetime) -> Offenders:
    number, task_id = func.count(Attempt.id), unindexed(Attempt.task_id)
    query = (
        select(task_id.label("task_id"), number.label("number"))
        .where(Attempt.outcome == SUCCEEDED, _recent_attempt())
        .group_by(task_id)
        .having(number > 1)
        .order_by(task_id)
    )
    return _told(session, query, "task {task_id} succeeded {number} times")


def _ends_that_differ(session: Session, now: dt.datetime) -> Offenders:
    succeeded = case((Task.state == SUCCEEDED, 1), else_=0)
    last_succeeded = case((Attempt.outcome == SUCCEEDED, 1), else_=0)
    query = (
        select(Task.id, Task.state, Attempt.outcome)
        .outerjoin(Attempt, and_(Attempt.task_id == Task.id, Attempt.number == Task.attempt))
        .where(_recent(), succeeded != last_succeeded)
        .order_by(Task.id)
    )
    return _told(session, query, "task {id} is {state}, its last attempt ended as {outcome}")


def _early(session: Session, now: dt.datetime) -> Offenders:
    query = (
        select(Task.id, Task.fire_time, Task.started_at)
        .where(_recent(), Task.started_at < Task.fire_time - micros(EARLY_LIMIT))
        .order_by(Task.id)
    )
    for row in session.execute(query.limit(MOST)):
        yield f"task {row.id} began at {iso(row.started_at)}, before its fire time {iso(row.fire_time)}"


def _above_limit(session: Session, now: dt.datetime) -> Offenders:
    """Running tasks without a slot within their limit; that no two of a kind have the same is the index's to hold.

    Each was planned with the limit of its time: those that ran when it was lowered may stay.
    """
    most = Task.policy["max_running"].as_integer()
    query = (
        select(Task.id, Task.kind, func.coalesce(Task.slot, 0).label("slot"), most.label("most"))
        .where(Task.state == RUNNING, most.is_not(None), or_(Task.slot.is_(None), Task.slot > most))
        .order_by(Task.id)
    )
    return _told(session, query, "task {id} of kind {kind} runs in place {slot} of {most}")


# --- what is going on -----------------------------------------------------------------------------------------------


def _old_leases(session: Session, now: dt.datetime) -> Offenders:
    query = select(Task.id, Task.worker, Task.lease_until).where(
        Task.state == RUNNING, Task.lease_until < now - LEASE_LIMIT
    )
    for row in session.execute(query.order_by(Task.id).limit(MOST)):
        yield f"task {row.id}: the lease of {row.worker} ended at {iso(row.lease_until)}"


def _late(session: Session, now: dt.datetime) -> Offenders:
    query = select(Task.id, Task.schedule, Task.task, Task.start_by).where(
        Task.state.in_((PLANNED, QUEUED)),
        Task.attempt == 0,
        Task.start_by < now - LATE_LIMIT,
        Task.due_at < now - LATE_LIMIT,
    )
    for row in session.execute(query.order_by(Task.id).limit(MOST)):
        yield f"task {row.id} of {row.schedule or row.task} was to start by {iso(row.start_by)}"


def _old_mail(session: Session, now: dt.datetime) -> Offenders:
    query = (
        select(OutboxMessage.id, OutboxMessage.about, OutboxMessage.contact, OutboxMessage.created_at)
        .where(OutboxMessage.state == WAITING, OutboxMessage.created_at < now - MAIL_LIMIT)
        .order_by(OutboxMessage.id)
    )
    for row in session.execute(query.limit(MOST)):
        whom = row.contact or "an address"
        yield f"outbox row {row.id}, {row.about} to {whom}, has waited since {iso(row.created_at)}"


def _left_of_retired(session: Session, now: dt.datetime) -> Offenders:
    query = (
        select(Task.id, Task.state, Schedule.name)
        .join(Schedule, Schedule.id == Task.schedule_id)
        .where(
            Task.state.in_((PLANNED, QUEUED)),
            Task.attempt == 0,
            Task.fire_time.is_not(None),
            Schedule.retired_at.is_not(None),
        )
        .order_by(Task.id)
    )
    return _told(session, query, "task {id} of {name}, which was removed, is still {state}")


def _behind(session: Session, now: dt.datetime) -> Offenders:
    query = select(Schedule.name, Schedule.planned_until).where(
        Schedule.retired_at.is_(None),
        Schedule.parked.is_(None),
        Schedule.pause.is_(None),
        Schedule.file_pause.is_(None),
        Schedule.planned_until < now - PLAN_LIMIT,
    )
    for row in session.execute(query.order_by(Schedule.name).limit(MOST)):
        yield f"{row.name} is planned until {iso(row.planned_until)} only"


def _no_occurrences(session: Session, now: dt.datetime) -> Offenders:
    """Planned rows whose fire time the version in force does not have: it would fire at a time nobody asked for."""
    query = (
        select(Task.id, Task.fire_time, Schedule.name, Schedule.id.label("schedule_id"))
        .join(Schedule, Schedule.id == Task.schedule_id)
        .where(
            Task.state == PLANNED,
            Task.attempt == 0,
            Task.origin.in_(("schedule", "catch_up")),
            Task.fire_time > Schedule.in_force_since,
            Schedule.retired_at.is_(None),
            Schedule.parked.is_(None),
        )
        .order_by(Task.due_at, Task.id)
        .limit(FORECASTS)
    )
    specs: dict[int, ScheduleSpec] = {}
    for row in session.execute(query):
        if row.schedule_id not in specs:
            schedule = session.get_one(Schedule, row.schedule_id)
            specs[row.schedule_id] = ScheduleSpec.model_validate(schedule.spec)
        if next(fire_times(specs[row.schedule_id], row.fire_time - MICROSECOND, row.fire_time), None) is None:
            yield f"task {row.id}: {row.name} does not fire at {iso(row.fire_time)}"


# --- SQL and Redis --------------------------------------------------------------------------------------------------


def _unknown_to_redis(session: Session, room: WaitingRoom, now: dt.datetime) -> Offenders:
    """Queued rows, long enough so, that no place of Redis has: nothing will ever start them but reconcile."""
    query = select(Task.id, Task.attempt, Task.queue).where(
        Task.state == QUEUED, Task.queued_at < now - UNKNOWN_LIMIT, Task.due_at < now - UNKNOWN_LIMIT
    )
    rows = session.execute(query.order_by(Task.id)).all()
    if not rows:
        return
    queues = {row.queue for row in rows}
    known = room.waiting_ids() | room.queued_ids(queues) | room.under_way_ids(queues) | set(room.handed_over(MOST))
    missing = [row.id for row in rows if job_id(row.id, row.attempt + 1) not in known]
    for start in range(0, len(missing), 500):  # once more: a worker may have begun it in between
        some = missing[start : start + 500]
        still = session.scalars(query.with_only_columns(Task.id).where(Task.id.in_(some)))
        yield from (f"task {one} is queued, and Redis does not have it" for one in still)


def _unknown_to_sql(session: Session, room: WaitingRoom, now: dt.datetime) -> Offenders:
    """Ids in Redis that no task answers to.

    Those of tasks withdrawn or ended a moment ago are left to reconcile: it removes them within two rounds.
    """
    waiting = room.waiting_ids()
    queued = room.queued_ids(_queues(session))
    for name in sorted(waiting | queued):
        if parse_job_id(name) is None:
            yield f"{name!r} is no job of this service"
    ours = {job: name for name in waiting | queued if (job := parse_job_id(name)) is not None}
    rows = _rows_of(session, sorted({task_id for task_id, _ in ours}))
    for (task_id, attempt), name in sorted(ours.items()):
        row = rows.get(task_id)
        if row is None and (name in queued or _was_due(room, name, now - LATE_LIMIT)):
            yield f"{name}: there is no such task"
        elif row is not None and name in waiting and row.state in FINAL and row.finished_at < now - LATE_LIMIT:
            yield f"{name} waits, and its task is {row.state}"
        elif row is not None and attempt > row.attempt + 1:
            yield f"{name} waits, and its task has begun {row.attempt} attempts"


def _was_due(room: WaitingRoom, name: str, moment: dt.datetime) -> bool:
    with answering(room.redis):
        score = room.redis.zscore(SCHEDULED, name)
    return score is not None and float(score) < moment.timestamp()


def _queues(session: Session) -> set[str]:
    """Those of the file in force, and those that unfinished tasks name."""
    book = session.execute(select(Revision.book).order_by(Revision.id.desc()).limit(1)).scalar() or {}
    queues = {str(kind["queue"]) for kind in (book.get("kinds") or {}).values()}
    return queues | set(session.scalars(select(Task.queue).where(Task.state.in_(sorted(UNFINISHED))).distinct()))


def _rows_of(session: Session, ids: Sequence[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for start in range(0, len(ids), 500):
        query = select(Task.id, Task.state, Task.attempt, Task.finished_at)
        rows = session.execute(query.where(Task.id.in_(ids[start : start + 500])))
        found.update((row.id, row) for row in rows)
    return found


# --- the list -------------------------------------------------------------------------------------------------------

WRITE_TO_US = (
    "This must never be: keep the database as it is and report it, with the output of `scheduler doctor --json`."
)
KEEPER = "The keeper mends this within a minute: see that `scheduler up`, or `scheduler start keeper`, runs."

INVARIANTS: tuple[Invariant, ...] = (
    Invariant("one-row", "each fire time has one task", _duplicates, WRITE_TO_US),
    Invariant("ended-means-ended", "no ended task has an open attempt", _open_attempts_of_ended, WRITE_TO_US),
    Invariant(
        "running-has-one-attempt", "each running task has one open attempt", _running_without_one_attempt, WRITE_TO_US
    ),
    Invariant("waiting-has-no-attempt", "no waiting task has an open attempt", _open_between_attempts, WRITE_TO_US),
    Invariant("attempts-count-up", "attempts are numbered 1, 2, …", _attempt_numbers, WRITE_TO_US),
    Invariant("at-most-once", "no at_most_once task began twice", _started_twice, WRITE_TO_US),
    Invariant("no-overlap", "no two attempts of one lane ran at once", _overlaps, WRITE_TO_US),
    Invariant("max-running", "of no kind more run than may", _above_limit, WRITE_TO_US),
    Invariant("one-end", "no task succeeded twice", _two_ends, WRITE_TO_US),
    Invariant("ends-agree", "tasks and their last attempts tell the same end", _ends_that_differ, WRITE_TO_US),
    Invariant("never-early", "no task began before its fire time", _early, "Set the clocks of the hosts by NTP."),
    Invariant("leases-end", "no lease ended more than 90 s ago", _old_leases, KEEPER),
    Invariant("late-is-told", "no task is past its grace by more than 60 s", _late, KEEPER),
    Invariant(
        "removed-is-removed", "no removed schedule has tasks to start", _left_of_retired, "Apply the file again."
    ),
    Invariant("planned-ahead", "each schedule is planned at least up to 5 min ago", _behind, KEEPER),
    Invariant("mail-goes", "no message has waited in the outbox for more than 24 h", _old_mail, KEEPER),
    Invariant("fires-as-written", "planned tasks fire when their schedules say", _no_occurrences, WRITE_TO_US),
)

REDIS_INVARIANTS: tuple[RedisInvariant, ...] = (
    RedisInvariant("redis-has-the-queued", "Redis has every queued task", _unknown_to_redis, KEEPER),
    RedisInvariant("redis-has-no-strangers", "Redis has no job without a task", _unknown_to_sql, KEEPER),
)


def offenders(session: Session, invariant: Invariant) -> list[str]:
    return list(invariant.find(session, schedules.now(session)))


def redis_offenders(session: Session, room: WaitingRoom, invariant: RedisInvariant) -> list[str]:
    """Raises RedisAway."""
    return list(invariant.find(session, room, schedules.now(session)))
