"""What the page of all schedules shows: those that a search finds, some at a time, each with its last outcomes.

One page is a handful of statements, however many schedules there are and however long their history is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Row, Select, and_, func, not_, or_, select, true, type_coerce
from sqlalchemy.orm import Session, aliased

from scheduler.clock import from_micros
from scheduler.engine.answers.schedule_views import schedules_list
from scheduler.engine.answers.usual_durations import FEWEST_RUNS, LAST_RUNS
from scheduler.rules.states import SUCCEEDED
from scheduler.store.database import Database
from scheduler.store.tables import Schedule, Task

AT_ONCE = 30  # schedules of one page: with their strips it stays below 100 kB
OUTCOMES = 60  # of each schedule in its strip
ACTIVE, PAUSED, PARKED, FAILING, RETIRED = SHOWN = ("active", "paused", "parked", "failing", "retired")
MOST_WORDS = 8  # of a search; each is a condition


@dataclass(frozen=True)
class Outcome:
    """How one task of a schedule ended."""

    task_id: int
    state: str
    at: dt.datetime  # its fire time, or when it was asked for
    took: dt.timedelta | None  # None when it never started
    first_attempt: bool  # it began once


@dataclass(frozen=True)
class ScheduleRow:
    """A schedule as engine/answers/views.py tells it, and how it has done lately."""

    facts: dict[str, Any]
    outcomes: tuple[Outcome, ...]  # the oldest first

    @property
    def usual(self) -> dt.timedelta | None:
        """How long a run of it usually takes; None when there were too few to say."""
        return usual_of(self.outcomes)

    @property
    def last_took(self) -> dt.timedelta | None:
        """How long its last run took that was one."""
        return next((one.took for one in reversed(self.outcomes) if one.took is not None), None)


@dataclass(frozen=True)
class SchedulesPage:
    rows: tuple[ScheduleRow, ...]
    found: int  # by the search, on all pages
    page: int  # from 1
    pages: int  # at least 1

    @property
    def first(self) -> int:
        """The number of its first row among all that were found."""
        return (self.page - 1) * AT_ONCE + 1


def schedules_page(
    database: Database, *, query: str = "", state: str = "", page: int = 1, now: dt.datetime | None = None
) -> SchedulesPage:
    """The schedules whose name, task function, owner, tags or description hold all words of `query`, by name.

    `state` is one of SHOWN, or "" for all that the file has. A page beyond the last one is the last one.
    """
    conditions = [*in_state(state), *map(holds, query.lower().split()[:MOST_WORDS])]
    with database.read() as session:
        ids, found = _some(session, conditions, page := max(page, 1))
        pages = max(1, -(-found // AT_ONCE))
        if page > pages:
            ids, found = _some(session, conditions, page := pages)
        outcomes = last_outcomes(session, list(ids.values()), OUTCOMES)
    facts = schedules_list(database, now, ids=list(ids.values()))
    rows = tuple(ScheduleRow(one, tuple(outcomes.get(ids[one["name"]], ()))) for one in facts)
    return SchedulesPage(rows, found, page, pages)


def _some(session: Session, conditions: list[ColumnElement[bool]], page: int) -> tuple[dict[str, int], int]:
    """The schedules of one page, name by id, and how many there are on all pages; counted along, since what a search
    costs is to look into each schedule once."""
    counted = select(Schedule.id, Schedule.name, func.count().over().label("found")).where(*conditions)
    some = counted.order_by(Schedule.name).limit(AT_ONCE).offset((page - 1) * AT_ONCE)
    rows = session.execute(some).all()
    if rows or page == 1:
        return {row.name: row.id for row in rows}, rows[0].found if rows else 0
    return {}, session.execute(select(func.count()).select_from(Schedule).where(*conditions)).scalar_one()


def usual_of(outcomes: Sequence[Outcome]) -> dt.timedelta | None:
    """The median of the last runs that succeeded at the first attempt, as `check` has it."""
    took = [one.took for one in outcomes if one.state == SUCCEEDED and one.first_attempt and one.took is not None]
    return median_low(took[-LAST_RUNS:]) if len(took) >= FEWEST_RUNS else None


def last_outcomes(session: Session, ids: Sequence[int], most: int) -> dict[int, list[Outcome]]:
    """The last `most` tasks of each schedule that have ended, the oldest first, by the schedule's id.

    Each schedule's tasks are read backwards by their index: the cost does not grow with history.
    """
    if not ids:
        return {}
    found: dict[int, list[Outcome]] = {}
    for row in session.execute(_last_tasks(session, ids, most)):
        found.setdefault(row.schedule_id, []).append(_outcome(row))
    for outcomes in found.values():
        outcomes.sort(key=lambda one: one.task_id)
    return found


def _last_tasks(session: Session, ids: Sequence[int], most: int) -> Select[Any]:
    run = aliased(Task)
    newest = (
        select(*_columns(run))
        .where(run.schedule_id == Schedule.id, run.finished_at.is_not(None))
        .order_by(run.id.desc())
        .limit(most)
        .correlate(Schedule)
    )
    if session.get_bind().dialect.name == "postgresql":
        runs = newest.lateral()
        return select(*runs.c).select_from(Schedule).join(runs, true()).where(Schedule.id.in_(ids))
    # SQLite knows no LATERAL
    chosen = Task.id.in_(newest.with_only_columns(run.id))
    return select(*_columns(Task)).select_from(Schedule).join(Task, chosen).where(Schedule.id.in_(ids))


def _columns(task: Any) -> tuple[Any, ...]:
    """What an Outcome needs; moments as numbers, of which thousands are read."""
    return (
        task.schedule_id,
        task.id.label("task_id"),
        task.state,
        task.attempt,
        type_coerce(func.coalesce(task.fire_time, task.created_at), BigInteger).label("at"),
        (type_coerce(task.finished_at, BigInteger) - type_coerce(task.started_at, BigInteger)).label("took"),
    )


def _outcome(row: Row[Any]) -> Outcome:
    took = None if row.took is None else dt.timedelta(microseconds=row.took)
    return Outcome(row.task_id, row.state, from_micros(row.at), took, row.attempt == 1)


# --- the search -----------------------------------------------------------------------------------------------------


def in_state(state: str) -> list[ColumnElement[bool]]:
    """Conditions for one of SHOWN; for anything else, all that the file has."""
    held = or_(Schedule.pause.is_not(None), Schedule.file_pause.is_not(None))
    parked = Schedule.parked.is_not(None)
    here = Schedule.retired_at.is_(None)
    conditions: dict[str, list[ColumnElement[bool]]] = {
        ACTIVE: [here, not_(parked), not_(held)],
        PAUSED: [here, and_(not_(parked), held)],
        PARKED: [here, parked],
        FAILING: [here, Schedule.failures_in_a_row > 0],
        RETIRED: [not_(here)],
    }
    return conditions.get(state, [here])


def holds(word: str) -> ColumnElement[bool]:
    """Whether the word stands in the schedule's name, or in what its spec says for people."""
    spec = Schedule.spec
    texts = (Schedule.name, *(spec[key].as_string() for key in ("task", "kind", "owner", "about", "tags")))
    return or_(*(func.coalesce(text, "").icontains(word, autoescape=True) for text in texts))
