"""What the HTTP interface asks beyond what pages and commands do: lists by cursor, and a file that is only proposed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select

from scheduler.clock import iso
from scheduler.engine.answers.schedule_views import schedules_list
from scheduler.engine.answers.usual_durations import usual_durations
from scheduler.engine.file.changes import Difference
from scheduler.engine.file.schedule_files import load_schedule_file
from scheduler.engine.page.schedules import holds, in_state
from scheduler.errors import NotFound
from scheduler.rules.complaints import did_you_mean
from scheduler.rules.file.schedule_file import Loaded, load_book
from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.times.fire_times import dst_note, fire_times
from scheduler.rules.times.words import in_words
from scheduler.settings import Settings
from scheduler.store import audit, schedules
from scheduler.store.database import Database
from scheduler.store.tables import Schedule
from scheduler.task_functions import Catalogue

PROPOSED = "schedules.yaml"  # what faults of a text call the file that it may become
MOST_WORDS = 8  # of a search


@dataclass(frozen=True)
class Page:
    """Some of a list, and where the next begins; None on the last page."""

    rows: list[dict[str, Any]]
    next_cursor: Any = None


def schedules_after(database: Database, after: str | None, limit: int, *, query: str = "", state: str = "") -> Page:
    """Schedules by name, after the name `after`: those that hold all words of `query`, in one of SHOWN states."""
    conditions = [*in_state(state), *map(holds, query.lower().split()[:MOST_WORDS])]
    if after is not None:
        conditions.append(Schedule.name > after)
    wanted = select(Schedule.id).where(*conditions).order_by(Schedule.name).limit(limit + 1)
    with database.read() as session:
        ids = list(session.scalars(wanted))
    rows = schedules_list(database, ids=ids[:limit])
    return Page(rows, rows[-1]["name"] if len(ids) > limit else None)


def schedule_named(database: Database, name: str) -> dict[str, Any]:
    """One schedule, also one that the file no longer has. Raises NotFound."""
    with database.read() as session:
        schedule = _schedule(session, name)
    return schedules_list(database, ids=[schedule.id])[0]


def coming(database: Database, name: str, after: dt.datetime | None, count: int) -> dict[str, Any]:
    """The next fire times of a schedule by the version in force. Raises NotFound."""
    with database.read() as session:
        schedule = _schedule(session, name)
        now = schedules.now(session)
    spec = ScheduleSpec.model_validate(schedule.spec)
    zone = ZoneInfo(spec.timezone)
    found = [] if schedule.retired_at is not None else list(islice(fire_times(spec, after or now), count))
    return {
        "schedule": name,
        "timezone": spec.timezone,
        "words": in_words(spec),
        "fire_times": [
            {"fire_time": iso(one), "local": one.astimezone(zone).isoformat(), "note": dst_note(spec, one)}
            for one in found
        ],
    }


def audit_page(database: Database, before: int | None, limit: int) -> Page:
    """Who did what, the newest first."""
    with database.read() as session:
        found = list(audit.newest(session, limit + 1, before=before))
    rows = [
        {
            "id": line.id,
            "at": iso(line.at),
            "who": line.who,
            "via": line.via,
            "address": line.address,
            "action": line.action,
            "subject": line.subject,
            "details": line.details,
        }
        for line in found[:limit]
    ]
    return Page(rows, rows[-1]["id"] if len(found) > limit else None)


def proposed(settings: Settings, text: str | None, catalogue: Catalogue, now: dt.datetime) -> tuple[bytes, Loaded]:
    """The text of a schedule file and what it means; the file on the disk where none is given. Raises FileFaults."""
    usual = usual_durations(settings)
    if text is None:
        return load_schedule_file(settings.file, catalogue, now, usual=usual)
    content = text.encode("utf-8", "surrogatepass")
    loaded = load_book(
        content, file=PROPOSED, functions=catalogue.functions, broken=catalogue.broken, now=now, usual=usual
    )
    return content, loaded


def told_difference(found: Difference) -> dict[str, Any]:
    """What a file would change, as documents have it."""
    diff = found.diff
    return {
        "revision": found.revision,
        "differs": bool(diff.schedules) or not found.same_text,
        "mass_removal": diff.is_mass_removal,
        **{how: [one.name for one in diff.of(how)] for how in ("added", "removed", "changed", "described")},
        "renamed": {one.was: one.name for one in diff.of("renamed")},
        "unchanged": diff.unchanged,
        "fires_until": iso(diff.until),
        "caught_up": [],
        "schedules": [{**one.as_json(), "held": found.held.get(one.was or one.name)} for one in diff.schedules],
    }


def _schedule(session: Any, name: str) -> Schedule:
    schedule = schedules.by_name(session, name)
    if schedule is None:
        known = session.scalars(select(Schedule.name).order_by(Schedule.name).limit(1000))
        raise NotFound(f'There is no schedule "{name}"{did_you_mean(name, known)}')
    return schedule
