"""The Schedule table and the revisions of the file.

On PostgreSQL, where writers do not pass one at a time, rows are locked in one order, so that no two wait for each
other: schedules before tasks. Several schedules are locked only by those who take turns (`take_turns`) or pass over
what another holds; and who holds a task waits for no task of another schedule (ends, marks and retention pass over
those that are held). tests/engine/test_locks.py holds each transaction before each of its statements.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, func, or_, select, text, true, type_coerce, update
from sqlalchemy.orm import Session, aliased

from scheduler.rules.states import SUCCEEDED
from scheduler.rules.times.pause import Pause, stored_pause
from scheduler.store.tables import Revision, Schedule, Task
from scheduler.store.types import sql_now

LOCK = 0x72715F6170  # of those who apply a file or change a pause, on PostgreSQL; any number that only we use
LOOKED_BACK = 2
AT_ONCE = 500  # ids in one IN (…)
PAUSED_STEP = dt.timedelta(seconds=30)  # how often the fire times that pass during a pause are written down


def now(session: Session) -> dt.datetime:
    """The database's clock."""
    return session.execute(select(sql_now())).scalar_one()


def take_turns(session: Session) -> None:
    """Let those who change schedules pass one at a time, until the transaction ends (on SQLite writers do anyway)."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})


def lock(session: Session, schedule_id: int) -> None:
    """Hold a schedule until the transaction ends. Who changes both locks it before its tasks."""
    session.execute(select(Schedule.id).where(Schedule.id == schedule_id).with_for_update(key_share=True))


def lock_if_failing(session: Session, schedule_id: int) -> bool:
    """The same for a schedule that has failures in a row; whether it has."""
    failing = select(Schedule.id).where(Schedule.id == schedule_id, Schedule.failures_in_a_row > 0)
    return session.execute(failing.with_for_update(key_share=True)).first() is not None


def lock_free(session: Session, schedule_ids: Collection[int]) -> set[int]:
    """Those of these schedules that nobody else holds, held until the transaction ends."""
    ids, free = sorted(schedule_ids), set[int]()
    for start in range(0, len(ids), AT_ONCE):
        some = select(Schedule.id).where(Schedule.id.in_(ids[start : start + AT_ONCE]))
        free.update(session.scalars(some.with_for_update(skip_locked=True, key_share=True)))
    return free


def latest_revision(session: Session) -> Revision | None:
    return session.scalars(select(Revision).order_by(Revision.id.desc()).limit(1)).first()


def last_accepted(session: Session, text_hash: str) -> Revision | None:
    """The newest revision of exactly this text."""
    query = select(Revision).where(Revision.text_hash == text_hash).order_by(Revision.id.desc()).limit(1)
    return session.scalars(query).first()


def all_schedules(session: Session, *, retired: bool = False) -> list[Schedule]:
    """The schedules by name; with the retired ones if asked."""
    query = select(Schedule).order_by(Schedule.name)
    return list(session.scalars(query if retired else query.where(Schedule.retired_at.is_(None))))


def by_name(session: Session, name: str, *, lock: bool = False) -> Schedule | None:
    query = select(Schedule).where(Schedule.name == name)
    return session.scalars(query.with_for_update() if lock else query).first()


def kind_of() -> ColumnElement[str]:
    """The kind that a schedule has now: together with its id and a state it finds its runs by an index, in the order
    in which they ended."""
    return func.coalesce(Schedule.spec["kind"].as_string(), "scheduled")


def recent_runs(session: Session, most: int) -> list[tuple[str, dt.timedelta]]:
    """How long the last `most` runs of each schedule that succeeded took, by its name; of those that did so at the
    first attempt, since another's time has the waiting before a retry in it.

    Each schedule's runs are read backwards by an index, LOOKED_BACK for each that is wanted: the cost does not grow
    with history, also where hardly a run succeeds at once.
    """
    run = aliased(Task)
    newest = (
        select(run.id)
        .where(
            *(run.schedule_id == Schedule.id, run.state == SUCCEEDED, run.kind == kind_of()),
            run.finished_at.is_not(None),
        )
        .order_by(run.finished_at.desc(), run.id.desc())
        .limit(most * LOOKED_BACK)
        .correlate(Schedule)
    )
    lasted = type_coerce(Task.finished_at, BigInteger) - type_coerce(Task.started_at, BigInteger)
    query = select(Schedule.name, lasted, Task.attempt).select_from(Schedule).where(Schedule.retired_at.is_(None))
    if session.get_bind().dialect.name == "postgresql":
        runs = newest.lateral()
        query = query.join(runs, true()).join(Task, Task.id == runs.c.id)
    else:  # SQLite knows no LATERAL
        query = query.join(Task, Task.id.in_(newest))
    found: dict[str, list[dt.timedelta]] = {}
    for name, micros, attempt in session.execute(query.order_by(Task.finished_at.desc(), Task.id.desc())):
        runs_of_it = found.setdefault(name, [])
        if attempt == 1 and len(runs_of_it) < most:
            runs_of_it.append(dt.timedelta(microseconds=micros))
    return [(name, took) for name, runs_of_it in found.items() for took in runs_of_it]


def to_plan(session: Session, before: dt.datetime, moment: dt.datetime, limit: int) -> list[Schedule]:
    """Schedules planned less far than `before`, the most behind first. On PostgreSQL they stay locked until the
    transaction ends and those another planner has are passed over: two planners share the work."""
    query = (
        select(Schedule)
        .where(
            Schedule.retired_at.is_(None),
            Schedule.parked.is_(None),
            Schedule.planned_until < before,
            or_(
                and_(Schedule.pause.is_(None), Schedule.file_pause.is_(None)),
                Schedule.planned_until < moment - PAUSED_STEP,
                _is_over(Schedule.pause, moment),
                _is_over(Schedule.file_pause, moment),
            ),
        )
        .order_by(Schedule.planned_until, Schedule.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list(session.scalars(query))


def _is_over(pause: Any, moment: dt.datetime) -> ColumnElement[bool]:
    """Whether a pause has an end and that is past: what fires next must not wait for PAUSED_STEP."""
    ended: ColumnElement[bool] = pause["until"].as_string() <= moment.astimezone(dt.UTC).isoformat()
    return ended


@dataclass(frozen=True)
class Planned:
    """How far a schedule has been planned by a step of the planner."""

    schedule_id: int
    planned_until: dt.datetime
    new_runs: int


def move_planned_until(session: Session, planned: Sequence[Planned]) -> None:
    """Move the marks on; never back, whatever raced."""
    if not planned:
        return
    columns = Schedule.__table__.c  # of the table: SQLAlchemy's ORM takes no conditions for many rows in one go
    until = bindparam("until", type_=columns.planned_until.type)
    session.execute(
        Schedule.__table__.update()  # type: ignore[attr-defined]
        .where(columns.id == bindparam("schedule"), columns.planned_until < until)
        .values(planned_until=until, planned_runs=columns.planned_runs + bindparam("runs")),
        [{"schedule": one.schedule_id, "until": one.planned_until, "runs": one.new_runs} for one in planned],
    )


def unpark(session: Session, *, but_not: str) -> None:
    """Give every parked schedule another chance, save those whose reason begins with `but_not`; it is parked again,
    with the reason, if nothing has changed. One that somebody is at gets it the next time."""
    parked = select(Schedule.id).where(
        Schedule.parked.is_not(None), ~Schedule.parked.startswith(but_not, autoescape=True)
    )
    free = session.scalars(parked.with_for_update(skip_locked=True, key_share=True)).all()
    for start in range(0, len(free), AT_ONCE):
        some = update(Schedule).where(Schedule.id.in_(free[start : start + AT_ONCE])).values(parked=None)
        session.execute(some.execution_options(synchronize_session=False))


def count_failure(session: Session, schedule_id: int) -> int:
    """One more final failure in a row; how many there are now."""
    return session.execute(
        update(Schedule)
        .where(Schedule.id == schedule_id)
        .values(failures_in_a_row=Schedule.failures_in_a_row + 1)
        .returning(Schedule.failures_in_a_row)
        .execution_options(synchronize_session=False)
    ).scalar_one()


def clear_failures(session: Session, schedule_id: int) -> bool:
    """Whether there were any in a row."""
    statement = (
        update(Schedule)
        .where(Schedule.id == schedule_id, Schedule.failures_in_a_row > 0)
        .values(failures_in_a_row=0)
        .returning(Schedule.id)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).first() is not None


def pause_fields(by: str, why: str, since: dt.datetime, until: dt.datetime | None, chosen: str = "") -> dict[str, Any]:
    """A pause as its column holds it; all in UTC, so that SQL can compare the texts. `chosen`: what it was chosen by,
    where many were paused at once (engine/pause_many.py)."""
    ends_at = until.astimezone(dt.UTC).isoformat() if until else None
    held = {"by": by, "why": why, "since": since.astimezone(dt.UTC).isoformat(), "until": ends_at}
    return {**held, "chosen": chosen} if chosen else held


def pause_of(schedule: Schedule) -> Pause | None:
    """The pause that holds a schedule: the file's before the operator's."""
    return next(iter(pauses_of(schedule)), None)


def pauses_of(schedule: Schedule) -> list[Pause]:
    """The file's pause and the operator's; each holds the schedule by itself, and for its own time."""
    return [stored_pause(held) for held in (schedule.file_pause, schedule.pause) if held is not None]
