"""What the page of one schedule shows: how it has done, what it will do, what is set and where, who edited it.

However long its history is, a bounded part of it is read: the ledger by pages, the calendar from the newest runs.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, String, and_, cast, func, not_, select, type_coerce
from sqlalchemy.orm import Session

from scheduler.clock import from_micros, iso
from scheduler.engine.answers.listing import unindexed
from scheduler.engine.answers.schedule_views import schedules_list
from scheduler.engine.page.schedules import OUTCOMES, ScheduleRow, last_outcomes
from scheduler.engine.page.tasks import LISTED, listed
from scheduler.errors import NotFound
from scheduler.rules.file.setting_sources import FileKeys, ResolvedSetting, file_keys, resolved_settings
from scheduler.rules.file.several_files import gather
from scheduler.rules.file.yaml_reader import MAX_BYTES
from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.states import PLANNED, UNFINISHED
from scheduler.rules.times.coming_up import Coming, coming_up
from scheduler.rules.times.moments import zone_named
from scheduler.rules.times.words import in_words
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.schedules import pauses_of
from scheduler.store.tables import Gap, Revision, Schedule, Task
from scheduler.task_functions import Catalogue, TaskFunction

UPCOMING = 10
LEDGER = 30  # tasks of one page
EDITS = 10
EDITS_LOOKED_AT = 300  # revisions; an older edit is found on the page of the file
CALENDAR = dt.timedelta(days=26 * 7)
CALENDAR_RUNS = 20_000  # the newest so many are counted; more would take longer than a page may
QUARTER = 15 * 60 * 1_000_000  # microseconds; the offset of every zone is a multiple of it
GAPS = 3


@dataclass(frozen=True)
class SchedulePage:
    row: ScheduleRow
    spec: ScheduleSpec
    coming: tuple[Coming, ...]
    edits: tuple[dict[str, Any], ...]
    gaps: tuple[dict[str, Any], ...]  # standstills so long that not every fire time got a row


@dataclass(frozen=True)
class Ledger:
    """Some of a schedule's tasks, the newest first."""

    tasks: tuple[dict[str, Any], ...]
    older: int | None  # the next page is of what has ended with an id below this; None on the last


@dataclass(frozen=True)
class Calendar:
    """How many runs ended how, by local day."""

    days: dict[dt.date, dict[str, int]]
    first: dt.date
    last: dt.date
    is_cut: bool  # there are older runs in that span that were not counted


def schedule_page(database: Database, name: str) -> SchedulePage:
    """Raises NotFound for a name that no schedule has or had."""
    with database.read() as session:
        schedule = _schedule(session, name)
        spec = ScheduleSpec.model_validate(schedule.spec)
        outcomes = last_outcomes(session, [schedule.id], OUTCOMES).get(schedule.id, [])
        coming = tuple(_coming(schedule, spec, schedules.now(session)))
        edits, gaps = tuple(_edits(session, name)), tuple(_gaps(session, schedule.id))
    [facts] = schedules_list(database, ids=[schedule.id])
    return SchedulePage(ScheduleRow(facts, tuple(outcomes)), spec, coming, edits, gaps)


def ledger(database: Database, name: str, *, before: int | None = None, limit: int = LEDGER) -> Ledger:
    """What of it has not ended, then what has, by id, which is the order in which its fire times were planned.

    Of what is only planned the next one: more would hide what happens. Raises NotFound.
    """
    with database.read() as session:
        schedule = _schedule(session, name)
        of_schedule = select(*LISTED).where(Task.schedule_id == schedule.id)
        ended = of_schedule.where(Task.finished_at.is_not(None)).order_by(Task.id.desc()).limit(limit + 1)
        # By the value of the id, lest PostgreSQL walk through all tasks backwards for the few that have not ended.
        unfinished = of_schedule.where(Task.state.in_(sorted(UNFINISHED)))
        is_forecast = and_(Task.state == PLANNED, Task.due_at > schedules.now(session))
        going = unfinished.where(not_(is_forecast)).order_by(unindexed(Task.id).desc()).limit(limit)
        following = unfinished.where(is_forecast).order_by(Task.due_at).limit(1)
        rows = list(session.execute(ended if before is None else ended.where(Task.id < before)))
        older = rows[limit - 1].id if len(rows) > limit else None
        first = [*session.execute(following), *session.execute(going)] if before is None else []
    zone = str(schedule.spec["timezone"])
    return Ledger(tuple(listed(row, zone) for row in (*first, *rows[:limit])), older)


def calendar(database: Database, name: str, *, most: int = CALENDAR_RUNS) -> Calendar:
    """The last half year, of at most the newest `most` runs. Raises NotFound."""
    with database.read() as session:
        schedule = _schedule(session, name)
        now = schedules.now(session)
        zone = zone_named(str(schedule.spec["timezone"]))
        moment = type_coerce(func.coalesce(Task.fire_time, Task.finished_at), BigInteger)
        newest = (
            select(Task.state, moment.label("moment"))
            .where(Task.schedule_id == schedule.id, Task.finished_at.is_not(None))
            .order_by(Task.id.desc())
            .limit(most)
            .subquery()
        )
        quarter = (newest.c.moment // QUARTER).label("quarter")
        query = select(quarter, newest.c.state, func.count().label("count")).group_by(quarter, newest.c.state)
        rows = session.execute(query).all()
    days: dict[dt.date, Counter[str]] = {}
    for row in rows:
        day = from_micros(int(row.quarter) * QUARTER).astimezone(zone).date()
        days.setdefault(day, Counter())[row.state] += row._mapping["count"]
    last = now.astimezone(zone).date()
    first = last - CALENDAR
    is_cut = sum(int(row._mapping["count"]) for row in rows) == most and min(days, default=last) > first
    return Calendar({day: dict(counts) for day, counts in sorted(days.items()) if first <= day}, first, last, is_cut)


def settings_in_force(database: Database, spec: ScheduleSpec, function: TaskFunction | None) -> list[ResolvedSetting]:
    """The schedule's settings, each with where it comes from, by the text of the revision in force."""
    with database.read() as session:
        latest = session.execute(select(func.max(Revision.id))).scalar()
    keys = FileKeys() if latest is None else _keys_of(database, latest)
    return list(resolved_settings(spec, keys, function))


def _schedule(session: Session, name: str) -> Schedule:
    schedule = schedules.by_name(session, name)
    if schedule is None:
        raise NotFound(f'There is and was no schedule "{name}"')
    return schedule


def _coming(schedule: Schedule, spec: ScheduleSpec, now: dt.datetime) -> list[Coming]:
    if schedule.retired_at is not None:
        return []
    runs_left = None if spec.max_runs is None else spec.max_runs - schedule.planned_runs
    return coming_up(spec, now, UPCOMING, pauses=pauses_of(schedule), runs_left=runs_left)


def _edits(session: Session, name: str) -> Iterator[dict[str, Any]]:
    """The latest revisions that touched the schedule, the newest first."""
    columns = (Revision.id, Revision.accepted_at, Revision.author, Revision.host, Revision.changes)
    latest = session.execute(select(func.max(Revision.id))).scalar() or 0
    named = cast(Revision.changes, String).contains(f'"{name}"', autoescape=True)
    query = select(*columns).where(Revision.id > latest - EDITS_LOOKED_AT, named)
    for row in session.execute(query.order_by(Revision.id.desc()).limit(EDITS)):
        how, old_name = _how_edited(row.changes, name)
        if how:
            yield {
                "revision": row.id,
                "accepted_at": iso(row.accepted_at),
                "author": row.author,
                "host": row.host,
                "how": how,
                "was": old_name,
                "rollback_to": row.changes.get("rollback_to"),
                "keys": row.changes.get("keys", {}).get(name, []),
            }


def _how_edited(changes: dict[str, Any], name: str) -> tuple[str, str | None]:
    renamed = {new: old for old, new in changes.get("renamed", {}).items()}
    if name in renamed:
        return "renamed", renamed[name]
    return next((how for how in ("added", "changed", "described", "removed") if name in changes.get(how, [])), ""), None


def _gaps(session: Session, schedule_id: int) -> Iterator[dict[str, Any]]:
    query = select(Gap).where(Gap.schedule_id == schedule_id).order_by(Gap.id.desc()).limit(GAPS)
    for gap in session.scalars(query):
        yield {"first": iso(gap.first), "last": iso(gap.last), "count": gap.count}


@lru_cache(maxsize=4)  # of 10,000 schedules it takes half a second, and a revision never changes
def _keys_of(database: Database, revision_id: int) -> FileKeys:
    with database.read() as session:
        text = session.execute(select(Revision.text).where(Revision.id == revision_id)).scalar_one()
    document = gather(text, "schedules.yaml", max_bytes=MAX_BYTES).document
    return file_keys(document.data if document is not None else None)


# --- what can be run ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runnable:
    """A schedule or a task function that a person may ask for."""

    name: str
    task: str  # the name of the task function
    args: dict[str, Any]  # the schedule's; none of a function
    timezone: str | None = None  # the schedule's; None: it is a function
    words: str = ""  # when the schedule fires
    function: TaskFunction | None = None  # None where it is not known here


def runnable(database: Database, catalogue: Catalogue | None, name: str) -> Runnable:
    """What the name stands for: a schedule of the file, else a task function. Raises NotFound.

    Without a catalogue only schedules are looked for.
    """
    functions = {} if catalogue is None else catalogue.functions
    with database.read() as session:
        schedule = schedules.by_name(session, name)
    if schedule is not None and schedule.retired_at is None:
        spec = ScheduleSpec.model_validate(schedule.spec)
        return Runnable(name, spec.task, dict(spec.args), spec.timezone, in_words(spec), functions.get(spec.task))
    if name in functions:
        return Runnable(name, name, {}, function=functions[name])
    raise NotFound(
        f'There is no schedule "{name}"' if catalogue is None else f'Nothing that can be run is named "{name}"'
    )
