"""The Task table: planned, claimed, ended. The only place that writes a task's state.

Every function takes a session and leaves the commit to the caller, so that what belongs together is one transaction.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Dialect,
    Insert,
    Integer,
    Row,
    Select,
    String,
    Table,
    Update,
    and_,
    bindparam,
    case,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from scheduler.rules.states import (
    CANCELLED,
    FINAL,
    LOST,
    PLANNED,
    QUEUED,
    RETRYING,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    UNFINISHED,
    sources_of,
)
from scheduler.rules.task.jobs import WaitingJob
from scheduler.store.tables import Attempt, Gap, LogChunk, Schedule, Task
from scheduler.store.types import Instant, micros, sql_now

WAITING = "waiting"  # the reason code of a task that is due and waits for its lane
AT_ONCE = 500  # ids in one IN (…); SQLite takes some 32,000 parameters, a plan with fewer is found faster


def move(
    session: Session, new: str, *conditions: ColumnElement[bool], returning: Sequence[Any] = (), **values: Any
) -> list[Row[Any]]:
    """Bring the tasks that meet `conditions` into state `new` where the state machine allows it; the rows that moved.

    A task that someone else moved first meets nothing and is not in the answer: the row count says who won. The
    answer has each task's id, then the columns of `returning`. The caller commits.
    """
    return list(session.execute(_moving(new, *conditions, returning=returning, **values)))


def _moving(
    new: str, *conditions: ColumnElement[bool], returning: Sequence[Any] = (), **values: Any
) -> ReturningUpdate[Any]:
    """The statement of `move`."""
    if new in FINAL:
        values.setdefault("finished_at", sql_now())
        values.setdefault("lease_until", null())
    if new != RUNNING:
        values["slot"] = null()
    return (
        update(Task)
        .where(*conditions, Task.state.in_(fixed(*sources_of(new))))
        .values(state=new, **values)
        .returning(Task.id, *returning)
        .execution_options(synchronize_session=False)
    )


def fixed(*words: str) -> list[ColumnElement[str]]:
    """Words of ours, such as states, that stand in a statement as they are, not as parameters: without them in the text
    neither database sees that an index on some states will do, once the statement is prepared."""
    return [literal_column(f"'{word}'", String) for word in words]


_RUNNING = fixed(RUNNING)[0]
_WAITS = fixed(PLANNED, QUEUED, RETRYING)
_UNFINISHED = fixed(*sorted(UNFINISHED))
_WAITING = fixed(WAITING)[0]


# --- planning -------------------------------------------------------------------------------------------------------


def add(session: Session, rows: Sequence[dict[str, Any]]) -> list[Row[Any]]:
    """Insert tasks; those whose (schedule, fire time) has a row already are left out. Gives back id, queue, due_at and
    state of those that are new."""
    if not rows:
        return []
    dialect = session.get_bind().dialect
    if dialect.name == "postgresql" and len(rows) > 1:
        names = tuple(rows[0])
        return list(session.execute(_adding_many(names), {"given": _as_json(rows, names, dialect)}))
    insert_into = (postgresql if dialect.name == "postgresql" else sqlite).insert
    return list(session.execute(_new_ones(insert_into(_TABLE)), list(rows)))


def _new_ones(statement: Any) -> ReturningInsert[Any]:
    added: ReturningInsert[Any] = statement.on_conflict_do_nothing().returning(*_ADDED)
    return added


_TABLE: Table = Task.__table__  # type: ignore[assignment]  # without the ORM, which asks each row for its mapper
_ADDED = [_TABLE.c[name] for name in ("id", "queue", "due_at", "state")]


@cache
def _adding_many(names: tuple[str, ...]) -> ReturningInsert[Any]:
    """All rows in one parameter: PostgreSQL takes them apart in a fraction of the time in which SQLAlchemy and psycopg
    write and read a statement with a place for each value."""
    columns = [_TABLE.c[name] for name in names]
    given = (
        func.jsonb_to_recordset(bindparam("given", type_=postgresql.JSONB))
        .table_valued(*(column(one.name, one.type) for one in columns))
        .render_derived(name="given", with_types=True)
    )
    return _new_ones(postgresql.insert(_TABLE).from_select(names, select(*given.c)))


def _as_json(rows: Sequence[dict[str, Any]], names: Sequence[str], dialect: Dialect) -> list[dict[str, Any]]:
    """Rows that JSON can hold: moments as the numbers that their columns hold. All have the same keys."""
    moments = [name for name in names if isinstance(_TABLE.c[name].type, Instant)]
    to_stored = Instant().process_bind_param
    return [{**row, **{name: to_stored(row[name], dialect) for name in moments}} for row in rows]


def add_gap(session: Session, schedule_id: int, first: dt.datetime, last: dt.datetime, count: int) -> None:
    session.execute(
        insert(Gap).values(schedule_id=schedule_id, first=first, last=last, count=count, recorded_at=sql_now())
    )


def withdraw_forecast(session: Session, schedule_ids: Sequence[int], after: dt.datetime) -> list[tuple[int, int, str]]:
    """Delete the rows that only foretold fire times later than `after`; their jobs, (task id, attempt, queue) each."""
    withdrawn: list[tuple[int, int, str]] = []
    for some in _batches(schedule_ids):
        statement = (
            Task.__table__.delete()  # type: ignore[attr-defined]
            .where(Task.schedule_id.in_(some), Task.state == PLANNED, Task.fire_time > after, Task.attempt == 0)
            .returning(Task.id, Task.queue)
        )
        withdrawn.extend((row.id, 1, row.queue) for row in session.execute(statement))
    return withdrawn


# --- queueing -------------------------------------------------------------------------------------------------------


def mark_queued(session: Session, jobs: Iterable[tuple[int, int]]) -> int:
    """Mark tasks whose jobs, (task id, attempt) each, went to their queues; how many were marked.

    Late or lost marks do no harm: a planned row can be claimed all the same. So rows that another holds are passed
    over on PostgreSQL: who marks thousands would hold some of them while it waits.
    """
    is_postgres = session.get_bind().dialect.name == "postgresql"
    by_attempt: dict[int, list[int]] = {}
    for task_id, attempt in jobs:
        by_attempt.setdefault(attempt, []).append(task_id)
    marked = 0
    for attempt, ids in by_attempt.items():
        for some in _batches(ids):
            marked += len(
                move(
                    session,
                    QUEUED,
                    Task.id.in_(free(session, Task.id.in_(some)) if is_postgres else some),
                    Task.attempt == attempt - 1,
                    Task.state != RUNNING,  # a job of its next attempt does not end this one
                    queued_at=sql_now(),
                    # A task may have been put off before its mark came: that it waits for its lane must stay known.
                    reason_code=case((Task.reason_code == WAITING, Task.reason_code)),
                    reason=case((Task.reason_code == WAITING, Task.reason)),
                )
            )
    return marked


def free(session: Session, condition: ColumnElement[bool]) -> Sequence[int]:
    """Those of these tasks that nobody else holds, held until the transaction ends. A statement of its own: as part of
    another PostgreSQL may join the two row by row."""
    return session.scalars(select(Task.id).where(condition).with_for_update(skip_locked=True, key_share=True)).all()


def wanted_jobs(session: Session, after_id: int = 0, limit: int = 5000) -> list[WaitingJob]:
    """The jobs that Redis ought to hold, by task id, a page at a time."""
    rows = session.execute(
        select(Task.id, Task.attempt, Task.queue, Task.due_at, Task.state)
        .where(Task.state.in_((PLANNED, QUEUED, RETRYING)), Task.id > after_id)
        .order_by(Task.id)
        .limit(limit)
    )
    return [WaitingJob(row.id, row.attempt + 1, row.queue, row.due_at, row.state) for row in rows]


# --- claiming -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claimed:
    """What a worker gets to know of the task that is now its own."""

    task_id: int
    attempt: int
    token: str
    kind: str
    task: str
    args: dict[str, Any]
    policy: dict[str, Any]
    idempotency_key: str
    schedule: str | None
    schedule_id: int | None
    fire_time: dt.datetime | None
    started_at: dt.datetime  # of the first attempt


# The columns of a task that its worker is told.
TOLD = (
    Task.kind,
    Task.task,
    Task.args,
    Task.policy,
    Task.idempotency_key,
    Task.schedule,
    Task.schedule_id,
    Task.fire_time,
    Task.started_at,
)


def claim(
    session: Session,
    task_id: int,
    attempt: int,
    *,
    token: str,
    worker: str,
    host: str,
    pid: int,
    lease: dt.timedelta,
) -> Claimed | None:
    """Make attempt number `attempt` of the task this worker's own; None when it is not to be had.

    Not to be had: gone, ended, another attempt's turn, not due yet, later than its grace, asked to stop, its lane is
    taken, or as many of its kind run as may (see `why_refused`). Two claims of one lane, or of one slot, at the same
    moment: the unique index refuses the second with IntegrityError, which the caller reads as a taken lane.
    """
    parameters = claim_parameters(task_id, attempt, token=token, worker=worker, host=host, pid=pid, lease=lease)
    rows = list(session.execute(claiming(), parameters))
    if not rows:
        return None
    session.execute(beginning(), parameters)
    return _claimed(rows[0], attempt, token)


def claim_parameters(
    task_id: int, attempt: int, *, token: str, worker: str, host: str, pid: int, lease: dt.timedelta
) -> dict[str, Any]:
    """What `claiming` and `beginning` are executed with."""
    return {
        "the_task": task_id,
        "the_attempt": attempt,
        "attempt_before": attempt - 1,
        "the_token": token,
        "the_worker": worker,
        "the_host": host,
        "the_pid": pid,
        "lease_micros": lease // dt.timedelta(microseconds=1),
    }


@cache
def claiming() -> ReturningUpdate[Any]:
    """The statement of a claim; the row has the id and `TOLD`. Made once: to put it together takes longer than all
    else of a claim."""
    return _moving(
        RUNNING,
        Task.id == bindparam("the_task", type_=BigInteger),
        Task.attempt == bindparam("attempt_before", type_=Integer),
        Task.stop_requested_at.is_(None),
        Task.due_at <= sql_now(),  # Redis may be an older copy, or its clock ahead: never early is held here
        or_(Task.attempt > 0, Task.start_by.is_(None), Task.start_by >= sql_now()),
        ~_lane_taken(),
        or_(_MAX_RUNNING.is_(None), _running_of_kind() < _MAX_RUNNING),
        returning=TOLD,
        attempt=bindparam("the_attempt", type_=Integer),
        token=bindparam("the_token", type_=String),
        worker=bindparam("the_worker", type_=String),
        lease_until=sql_now() + bindparam("lease_micros", type_=BigInteger),
        slot=case((_MAX_RUNNING.is_not(None), _lowest_free_slot())),
        queued_at=func.coalesce(Task.queued_at, sql_now()),  # the dispatcher's mark may come too late
        started_at=func.coalesce(Task.started_at, sql_now()),
        reason_code=null(),
        reason=null(),
        progress=null(),
    )


@cache
def beginning() -> Insert:
    """The statement that writes the attempt of a claim."""
    return insert(Attempt).values(
        task_id=bindparam("the_task", type_=BigInteger),
        number=bindparam("the_attempt", type_=Integer),
        token=bindparam("the_token", type_=String),
        worker=bindparam("the_worker", type_=String),
        host=bindparam("the_host", type_=String),
        pid=bindparam("the_pid", type_=Integer),
        started_at=sql_now(),
    )


def claim_again(session: Session, task_id: int, attempt: int, token: str, lease: dt.timedelta) -> Claimed | None:
    """A claim that went through although its reply was lost, read back; None when its lease is over by now."""
    if renew(session, task_id, token, lease) is None:
        return None
    return _claimed(session.execute(select(Task.id, *TOLD).where(Task.id == task_id)).one(), attempt, token)


def give_back(session: Session, task_id: int, attempt: int, token: str) -> list[Row[Any]]:
    """Undo a claim whose function has not begun: it waits in its queue as if nobody had come, and may be tried again
    also where it runs at most once. Where it was asked to stop meanwhile it is cancelled instead.

    The row's state tells which; no row when the claim no longer holds the task. The caller commits.
    """
    held = [Task.id == task_id, Task.attempt == attempt, Task.token == token, Task.state == RUNNING]
    values: dict[str, Any] = {
        "attempt": attempt - 1,
        "token": null(),
        "worker": null(),
        "lease_until": null(),
        "returning": (Task.state, Task.queue, Task.due_at),
    }
    if attempt == 1:
        values["started_at"] = null()
    stopped = "asked to stop before it began"
    given = move(session, QUEUED, *held, Task.stop_requested_at.is_(None), **values) or move(
        session, CANCELLED, *held, reason_code="stopped", reason=stopped, **values
    )
    if given:
        session.execute(delete(Attempt).where(Attempt.task_id == task_id, Attempt.number == attempt))
    return given


def _claimed(row: Any, attempt: int, token: str) -> Claimed:
    return Claimed(
        row.id,
        attempt,
        token,
        row.kind,
        row.task,
        dict(row.args),
        dict(row.policy),
        row.idempotency_key,
        row.schedule,
        row.schedule_id,
        row.fire_time,
        row.started_at,
    )


@cache
def _lane_taken() -> ColumnElement[bool]:
    """Whether another task of the same lane runs, or of the same schedule waits between two attempts."""
    other = aliased(Task)
    between_attempts = and_(
        other.schedule_id == Task.schedule_id,
        other.attempt > 0,
        other.state.in_(fixed(RETRYING, QUEUED)),
        other.id < Task.id,
    )
    return _any(
        select(other.id).where(
            other.lane == Task.lane,
            other.id != Task.id,
            other.state.in_(fixed(QUEUED, RETRYING, RUNNING)),
            other.state.in_(_UNFINISHED),  # word for word as the lane's index has it, else SQLite does not take it
            or_(other.state == _RUNNING, between_attempts),
        )
    )


def _any(query: Select[Any]) -> ColumnElement[bool]:
    """EXISTS, answered for one task after the other. Of EXISTS itself PostgreSQL makes a join; where it does not know
    how many tasks wait, it reads them all to join them by lane."""
    first: ColumnElement[Any] = query.correlate(Task).limit(1).scalar_subquery()
    return first.is_not(None)


_MAX_RUNNING = Task.policy["max_running"].as_integer()  # NULL: no limit


@cache
def _running_of_kind() -> ColumnElement[int]:
    """How many tasks of the same kind run, also those that were claimed before the kind had a limit."""
    other = aliased(Task)
    query = select(func.count(other.id)).where(other.kind == Task.kind, other.state == _RUNNING)
    return query.correlate(Task).scalar_subquery()


@cache
def _lowest_free_slot() -> ColumnElement[int]:
    """1, or the lowest that follows a taken one; no higher than the limit when fewer than the limit run."""
    holder, next_holder, first = aliased(Task), aliased(Task), aliased(Task)
    follows = exists(
        select(next_holder.id)
        .where(next_holder.kind == Task.kind, next_holder.state == _RUNNING, next_holder.slot == holder.slot + 1)
        .correlate(Task, holder)
    )
    after_a_taken_one = (
        select(func.min(holder.slot) + 1)
        .where(holder.kind == Task.kind, holder.state == _RUNNING, holder.slot.is_not(None), ~follows)
        .correlate(Task)
        .scalar_subquery()
    )
    first_is_taken = exists(
        select(first.id).where(first.kind == Task.kind, first.state == _RUNNING, first.slot == 1).correlate(Task)
    )
    return case((first_is_taken, after_a_taken_one), else_=1)


@dataclass(frozen=True)
class Refusal:
    """Why a claim changed no row."""

    why: str  # gone, stale, mine, early, late, stopped, busy, full, freed
    policy: dict[str, Any] | None = None
    holder_id: int | None = None
    holder_state: str = ""
    same_schedule: bool = True
    others_waiting: int = 0
    due_in: dt.timedelta | None = None  # early: by SQL's clock
    kind: str = ""  # full: the kind, and how many of it run
    running: int = 0


def why_refused(session: Session, task_id: int, attempt: int, token: str) -> Refusal:
    """Read back why a claim was refused; `mine` when it went through after all and only its reply was lost."""
    row = session.execute(
        select(
            Task.state,
            Task.attempt,
            Task.token,
            Task.lane,
            Task.schedule_id,
            Task.start_by,
            Task.due_at,
            Task.stop_requested_at,
            Task.policy,
            Task.kind,
            _running_of_kind().label("running"),
            sql_now().label("now"),
        ).where(Task.id == task_id)
    ).first()
    if row is None:
        return Refusal("gone")
    if row.state == RUNNING and row.token == token:
        return Refusal("mine")
    if row.state not in (PLANNED, QUEUED, RETRYING) or row.attempt != attempt - 1:
        return Refusal("stale")
    if row.stop_requested_at is not None:
        return Refusal("stopped")
    if row.attempt == 0 and row.start_by is not None and row.start_by < row.now:
        return Refusal("late")
    if row.due_at > row.now:
        return Refusal("early", due_in=row.due_at - row.now)
    return _busy(session, task_id, row) or _full(row) or Refusal("freed")


def _full(row: Row[Any]) -> Refusal | None:
    most = row.policy.get("max_running")
    if most is None or row.running < most:
        return None
    return Refusal("full", dict(row.policy), kind=row.kind, running=row.running)


def _busy(session: Session, task_id: int, row: Row[Any]) -> Refusal | None:
    """Who holds the lane; None when what stood in its way is gone, so that the claim may be tried again."""
    between_attempts = and_(
        Task.schedule_id == row.schedule_id,
        Task.attempt > 0,
        Task.state.in_(fixed(RETRYING, QUEUED)),
        Task.id < task_id,
    )
    holder = session.execute(
        select(Task.id, Task.state, Task.schedule_id)
        .where(
            Task.lane == row.lane,
            Task.id != task_id,
            Task.state.in_(_UNFINISHED),
            or_(Task.state == _RUNNING, between_attempts),
        )
        .order_by(case((Task.state == _RUNNING, 0), else_=1), Task.id)
        .limit(1)
    ).first()
    if row.lane is None or holder is None:
        return None
    waiting = session.execute(
        select(func.count())
        .select_from(Task)
        .where(
            Task.lane == row.lane,
            Task.schedule_id == row.schedule_id,
            Task.id < task_id,
            Task.attempt == 0,
            Task.reason_code == WAITING,
            Task.state.in_(fixed(PLANNED, QUEUED)),
            Task.state.in_(_UNFINISHED),
        )
    ).scalar_one()
    same_schedule = holder.schedule_id == row.schedule_id
    return Refusal("busy", dict(row.policy), holder.id, holder.state, same_schedule, waiting)


def put_off(session: Session, task_id: int, due_at: dt.datetime, reason: str) -> bool:
    """Let a task that is due wait until `due_at`: its lane is taken, or its kind full. Its state stays."""
    statement = (
        update(Task)
        .where(Task.id == task_id, Task.state.in_(_WAITS))
        .values(due_at=due_at, reason_code=WAITING, reason=reason)
        .returning(Task.id)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).first() is not None


def waiting_for_lane(session: Session, task_id: int) -> list[WaitingJob]:
    """The tasks that wait for the lane which this task has just left, the oldest first; at most a few.

    Locked until the transaction ends. Those that another holds are passed over: somebody is at them already, and who
    ends a task must not wait for another's (see store/schedules.py).
    """
    lane = select(Task.lane).where(Task.id == task_id).scalar_subquery()
    return _waiting(session, Task.lane == lane)


def waiting_for_slot(session: Session, task_id: int) -> list[WaitingJob]:
    """The tasks that wait only for fewer of their kind to run, which this task was of; the same way."""
    kind = select(Task.kind).where(Task.id == task_id).scalar_subquery()
    return _waiting(session, Task.kind == kind, _MAX_RUNNING.is_not(None), ~_lane_taken())


def _waiting(session: Session, *conditions: ColumnElement[bool]) -> list[WaitingJob]:
    rows = session.execute(
        select(Task.id, Task.attempt, Task.queue, Task.due_at, Task.state)
        .where(*conditions, Task.state.in_(_WAITS), Task.state.in_(_UNFINISHED), Task.reason_code == _WAITING)
        .order_by(Task.id)
        .limit(2)
        .with_for_update(of=Task, skip_locked=True, key_share=True)
    )
    return [WaitingJob(row.id, row.attempt + 1, row.queue, row.due_at, row.state) for row in rows]


# --- while it runs --------------------------------------------------------------------------------------------------


def renew(session: Session, task_id: int, token: str, lease: dt.timedelta) -> Any | None:
    """Hold the task for another `lease`; None when it is no longer ours. The row has `stop_requested_at`."""
    statement = (
        update(Task)
        .where(Task.id == task_id, Task.token == token, Task.state == RUNNING, Task.lease_until >= sql_now())
        .values(lease_until=sql_now() + micros(lease))
        .returning(Task.id, Task.stop_requested_at, Task.stop_requested_by)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).first()


def write_progress(session: Session, task_id: int, token: str, progress: dict[str, Any]) -> None:
    session.execute(
        update(Task)
        .where(Task.id == task_id, Task.token == token, Task.state == RUNNING)
        .values(progress=progress)
        .execution_options(synchronize_session=False)
    )


def write_log(session: Session, task_id: int, attempt: int, lines: Sequence[str]) -> None:
    session.execute(
        insert(LogChunk).values(task_id=task_id, attempt=attempt, written_at=sql_now(), lines="\n".join(lines))
    )


def request_stop(session: Session, task_id: int, by: str) -> bool:
    """Ask the worker that runs the task to stop it; False when it does not run."""
    statement = (
        update(Task)
        .where(Task.id == task_id, Task.state == RUNNING)
        .values(
            stop_requested_at=func.coalesce(Task.stop_requested_at, sql_now()),
            stop_requested_by=func.coalesce(Task.stop_requested_by, by),
        )
        .returning(Task.id)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).first() is not None


# --- ending ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended, as its row will say."""

    outcome: str
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    peak_memory: int | None = None
    causes: Sequence[dict[str, str]] = ()  # {type, message}, the nearest first

    def as_error(self) -> dict[str, Any] | None:
        if self.error_type is None:
            return None
        error = {"type": self.error_type, "message": self.error_message or "", "traceback": self.traceback or ""}
        return {**error, "causes": list(self.causes)} if self.causes else error


def end(
    session: Session, task_id: int, attempt: int, token: str, new: str, attempt_end: AttemptEnd, **values: Any
) -> bool:
    """End the attempt that holds `token` and bring its task into state `new`; False when it no longer holds the task.

    Both in the caller's transaction: a result and its attempt are stored together or not at all. A success counts only
    while the lease lasts; another attempt may be on its way.
    """
    error = attempt_end.as_error()
    if error is not None:
        values.setdefault("error", error)
    # Running: one that is between two attempts still has the token of the attempt that has ended.
    held = [Task.id == task_id, Task.token == token, Task.attempt == attempt, Task.state == RUNNING]
    if new == SUCCEEDED:
        held.append(Task.lease_until >= sql_now())
    moved = move(session, new, *held, lease_until=None, **values)
    if not moved:
        return False
    session.execute(
        update(Attempt)
        .where(Attempt.task_id == task_id, Attempt.number == attempt)
        .values(
            ended_at=sql_now(),
            outcome=attempt_end.outcome,
            error_type=attempt_end.error_type,
            error_message=attempt_end.error_message,
            traceback=attempt_end.traceback,
            causes=list(attempt_end.causes) or None,
            peak_memory=attempt_end.peak_memory,
        )
        .execution_options(synchronize_session=False)
    )
    return True


@cache
def ending_plainly() -> ReturningUpdate[Any]:
    """The statement that ends a task with success where nothing follows from it: nobody waits for its lane, and its
    schedule has no failures to forget. No row: the attempt no longer holds the task, or something follows; `end` tells
    which."""
    waiting = aliased(Task)
    somebody_waits = _any(
        select(waiting.id)
        .where(waiting.lane == Task.lane, waiting.state.in_(_WAITS), waiting.state.in_(_UNFINISHED))
        .where(waiting.reason_code == _WAITING)
    )
    has_failures = _any(select(Schedule.id).where(Schedule.id == Task.schedule_id, Schedule.failures_in_a_row > 0))
    return _moving(
        SUCCEEDED,
        Task.id == bindparam("the_task", type_=BigInteger),
        Task.token == bindparam("the_token", type_=String),
        Task.attempt == bindparam("the_attempt", type_=Integer),
        Task.state == _RUNNING,
        Task.lease_until >= sql_now(),
        ~somebody_waits,
        ~has_failures,
        lease_until=null(),
        result=bindparam("the_result", type_=Task.result.type),
        result_kind=bindparam("the_result_kind", type_=String),
        error=null(),
    )


@cache
def attempt_ending_plainly() -> Update:
    """The statement that ends the attempt along with it."""
    return (
        update(Attempt)
        .where(
            Attempt.task_id == bindparam("the_task", type_=BigInteger),
            Attempt.number == bindparam("the_attempt", type_=Integer),
        )
        .values(
            ended_at=sql_now(),
            outcome=literal_column(f"'{SUCCEEDED}'", String),
            peak_memory=bindparam("the_peak_memory", type_=BigInteger),
        )
        .execution_options(synchronize_session=False)
    )


def skip(session: Session, conditions: Sequence[ColumnElement[bool]], code: str, reason: str) -> list[int]:
    return [row.id for row in move(session, SKIPPED, *conditions, reason_code=code, reason=reason)]


def cancel_waiting(session: Session, *conditions: ColumnElement[bool], code: str, reason: str) -> list[Row[Any]]:
    """Cancel tasks that do not run (planned, queued, between two attempts); ids, attempts, queues of those it hit."""
    return move(
        session,
        CANCELLED,
        *conditions,
        Task.state.in_((PLANNED, QUEUED, RETRYING)),
        returning=(Task.attempt, Task.queue),
        reason_code=code,
        reason=reason,
    )


# --- what the keeper looks for --------------------------------------------------------------------------------------


def silent(session: Session, grace: dt.timedelta, limit: int = 200) -> list[Task]:
    """Running tasks whose lease ended more than `grace` ago: their worker is dead, frozen, or cut off."""
    return list(
        session.scalars(
            select(Task)
            .where(Task.state == RUNNING, Task.lease_until < sql_now() - micros(grace))
            .order_by(Task.id)
            .limit(limit)
        )
    )


def late(session: Session, limit: int = 5000) -> list[Row[Any]]:
    """Tasks that were to start and did not within their grace, and those that are caught up and have not started yet
    (a newer one may take their place); by schedule and fire time."""
    return list(
        session.execute(
            select(
                Task.id,
                Task.schedule_id,
                Task.fire_time,
                Task.due_at,
                Task.start_by,
                Task.origin,
                Task.policy,
                Task.queue,
            )
            .where(
                Task.state.in_((PLANNED, QUEUED)),
                Task.attempt == 0,
                or_(and_(Task.start_by < sql_now(), Task.due_at < sql_now()), Task.origin == "catch_up"),
            )
            .order_by(Task.schedule_id, Task.fire_time)
            .limit(limit)
        )
    )


def extend_start(
    session: Session, task_id: int, old_start_by: dt.datetime, start_by: dt.datetime, code: str, reason: str
) -> bool:
    """Let a late task still start until `start_by`, as a caught-up one; False when somebody was first."""
    statement = (
        update(Task)
        .where(Task.id == task_id, Task.state.in_((PLANNED, QUEUED)), Task.start_by == old_start_by)
        .values(start_by=start_by, origin="catch_up", reason_code=code, reason=reason)
        .returning(Task.id)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).first() is not None


def lost_attempts(session: Session, task_id: int, forgiven_type: str) -> tuple[int, int]:
    """How many attempts of the task have been lost so far: by fault, and with the error type `forgiven_type`."""
    types = session.scalars(select(Attempt.error_type).where(Attempt.task_id == task_id, Attempt.outcome == LOST)).all()
    forgiven = sum(one == forgiven_type for one in types)
    return len(types) - forgiven, forgiven


def was_lost(session: Session, task_id: int, attempt: int, token: str) -> bool:
    """Whether this very attempt has been ended as lost."""
    query = select(Attempt.id).where(
        Attempt.task_id == task_id, Attempt.number == attempt, Attempt.token == token, Attempt.outcome == LOST
    )
    return session.execute(query).first() is not None


def _batches(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
