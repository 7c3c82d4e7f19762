"""For the tests of those who write schedules and task functions: no Redis, no processes, no waiting.

`simulate` runs days of a schedule file in a moment and lists what fires, is skipped and is missed. `run_next` runs a
schedule's next occurrence in this process, at the clock of its due time, and gives its row of the Task table back.

    rows = simulate("schedules.yaml", "2026-03-28", "2026-03-30", down=[("2026-03-29T00:00", "2026-03-29T05:00")])
    task = run_next("daily-word-count", "schedules.yaml", now="2026-11-24T05:00")
    assert task.state == "succeeded"
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from freezegun import freeze_time
from sqlalchemy.orm import Session

from scheduler.clock import EPOCH, parse_iso
from scheduler.context import Run
from scheduler.engine.rows import OccurrenceRows
from scheduler.engine.work.calling import CallEnd, Caller
from scheduler.engine.work.outcomes import Held, end_badly, end_well
from scheduler.errors import FileFaults, NotFound
from scheduler.rules.file.schedule_file import load_book
from scheduler.rules.spec import Book, ScheduleSpec
from scheduler.rules.states import MISSED, PLANNED, SKIPPED
from scheduler.rules.task.policy import TaskPolicy
from scheduler.rules.times.occurrences import Occurrence, forecast
from scheduler.store import schedules, tasks
from scheduler.store.database import Database
from scheduler.store.migrate import migrate
from scheduler.store.tables import Revision, Schedule, Task
from scheduler.store.tasks import Claimed
from scheduler.task_functions import Catalogue, find_task_functions

Moment = str | dt.datetime
"""A moment: aware, or ISO 8601 (UTC where it has no offset)."""

FIRED = "fired"


@dataclass(frozen=True)
class Simulated:
    """What became of one fire time."""

    schedule: str
    fire_time: dt.datetime
    state: str  # fired, skipped, missed
    starts_at: dt.datetime | None  # None unless it fired
    reason: str = ""


def simulate(
    file: str | Path,
    start: Moment,
    end: Moment,
    *,
    down: Sequence[tuple[Moment, Moment]] = (),
    takes: Mapping[str, dt.timedelta] | None = None,
) -> list[Simulated]:
    """All fire times after `start`, up to and with `end`, in the order of time.

    The service is away during each span of `down`; what passes then is caught up or missed as each schedule says.
    `takes` gives how long the runs of a schedule last (nothing otherwise): what would overlap is treated as the
    schedule says; exclusive groups are left out of account. Raises FileFaults.
    """
    book = _book(Path(file), None, _moment(start))
    found: list[Simulated] = []
    for spec in book.schedules.values():
        occurrences = _occurrences(spec, _moment(start), _moment(end), _spans(down))
        found.extend(_with_overlap(spec, occurrences, (takes or {}).get(spec.name, dt.timedelta(0))))
    return sorted(found, key=lambda one: (one.fire_time, one.schedule))


def run_next(
    name: str,
    file: str | Path = "schedules.yaml",
    *,
    now: Moment,
    task_packages: Sequence[str] = ("tasks",),
    database_url: str | None = None,
) -> Task:
    """Run the next occurrence of a schedule after `now`, in this process; its row, as the service would leave it.

    The function sees a clock that starts at the occurrence's due time. The row's own moments (`started_at` and such)
    are the database's, and real. Raises FileFaults, and NotFound for a schedule that the file does not have or that
    does not fire any more.
    """
    catalogue = find_task_functions(task_packages)
    book = _book(Path(file), catalogue, _moment(now))
    if name not in book.schedules:
        raise NotFound(f'There is no schedule "{name}" in {file}')
    spec = book.schedules[name]
    planned = forecast(spec, planned_until=_moment(now), now=_moment(now), horizon=dt.timedelta(0)).occurrences
    if not planned:
        raise NotFound(f'Schedule "{name}" does not fire after {_moment(now):%Y-%m-%d %H:%M} UTC')
    if database_url is not None:
        return _run(spec, planned[0], catalogue, database_url)
    with tempfile.TemporaryDirectory(prefix="scheduler-testing-") as folder:
        return _run(spec, planned[0], catalogue, f"sqlite:///{folder}/scheduler.db")


# --- simulate -------------------------------------------------------------------------------------------------------


def _occurrences(
    spec: ScheduleSpec, start: dt.datetime, end: dt.datetime, down: Sequence[tuple[dt.datetime, dt.datetime]]
) -> list[Occurrence]:
    """The occurrences as a planner writes them that is awake but for the spans of `down`."""
    found: dict[dt.datetime, Occurrence] = {}
    planned_until = start
    for wakes_at, sleeps_at in _awake(start, end, down):
        foretold = forecast(spec, planned_until=planned_until, now=wakes_at, horizon=sleeps_at - wakes_at)
        # Of what is foretold for later than the next standstill, the rest of the day after it will tell.
        found.update({one.fire_time: one for one in foretold.occurrences if one.fire_time <= sleeps_at})
        planned_until = sleeps_at
    return [found[moment] for moment in sorted(found)]


def _awake(
    start: dt.datetime, end: dt.datetime, down: Sequence[tuple[dt.datetime, dt.datetime]]
) -> list[tuple[dt.datetime, dt.datetime]]:
    spans, wakes_at = [], start
    for from_, until in sorted(down):
        if from_ > wakes_at:
            spans.append((wakes_at, min(from_, end)))
        wakes_at = max(wakes_at, until)
    if wakes_at <= end:
        spans.append((wakes_at, end))
    return spans


def _with_overlap(spec: ScheduleSpec, occurrences: list[Occurrence], takes: dt.timedelta) -> list[Simulated]:
    found: list[Simulated] = []
    free_at, waiting = EPOCH, 0
    for one in occurrences:
        if one.state != PLANNED:
            found.append(Simulated(spec.name, one.fire_time, one.state, None, one.reason or ""))
            continue
        starts_at = one.due_at
        if spec.overlap != "allow" and starts_at < free_at:
            waiting = sum(row.starts_at is not None and row.starts_at > starts_at for row in found)
            if spec.overlap == "skip" or (spec.overlap == "queue-one" and waiting):
                found.append(Simulated(spec.name, one.fire_time, SKIPPED, None, f"overlap: {spec.overlap}"))
                continue
            if spec.overlap != "replace":
                starts_at = free_at
        if one.start_by is not None and starts_at > one.start_by:
            found.append(Simulated(spec.name, one.fire_time, MISSED, None, "could not start within its grace"))
            continue
        free_at = starts_at + takes
        found.append(Simulated(spec.name, one.fire_time, FIRED, starts_at, one.reason or ""))
    return found


# --- run_next -------------------------------------------------------------------------------------------------------


def _run(spec: ScheduleSpec, occurrence: Occurrence, catalogue: Catalogue, url: str) -> Task:
    database = Database(url)
    try:
        migrate(database)
        with database.write() as session:
            task_id = _plan(session, spec, occurrence)
            claimed = tasks.claim(
                session,
                task_id,
                1,
                token="testing",
                worker="testing",
                host=socket.gethostname(),
                pid=os.getpid(),
                lease=dt.timedelta(days=1),
            )
        assert claimed is not None
        held = Held(
            task_id,
            1,
            claimed.token,
            TaskPolicy.model_validate(claimed.policy),
            spec.queue,
            claimed.schedule_id,
            claimed.fire_time,
            claimed.started_at,
        )
        ended, progress = _call(spec, occurrence, catalogue, claimed)
        values: dict[str, Any] = {} if progress is None else {"progress": progress}
        with database.write() as session:
            if ended.is_success:
                end_well(session, held, ended.result, result_kind=ended.result_kind, files=ended.files, **values)
            else:
                end_badly(session, held, ended.as_attempt_end(), error_names=ended.error_names, **values)
            row = session.get(Task, task_id, populate_existing=True)
            assert row is not None
            session.expunge(row)
            return row
    finally:
        database.close()


def _plan(session: Session, spec: ScheduleSpec, occurrence: Occurrence) -> int:
    now = schedules.now(session)
    revision = Revision(accepted_at=now, author="testing", host="", file="", text="", text_hash="", changes={}, book={})
    session.add(revision)
    session.flush()
    schedule = Schedule(
        name=spec.name,
        spec=spec.model_dump(mode="json"),
        fingerprint=spec.fingerprint(),
        revision_id=revision.id,
        in_force_since=now,
        planned_until=occurrence.fire_time,
    )
    session.add(schedule)
    session.flush()
    # The function's clock is frozen, SQL's is not: to it the occurrence is neither early nor late.
    ready = replace(occurrence, due_at=min(occurrence.due_at, now), start_by=None)
    row = OccurrenceRows(schedule, spec, now).row(ready)
    return int(tasks.add(session, [row])[0].id)


def _call(
    spec: ScheduleSpec, occurrence: Occurrence, catalogue: Catalogue, claimed: Claimed
) -> tuple[CallEnd, dict[str, Any] | None]:
    latest: list[dict[str, Any]] = []
    run = Run(
        task_id=claimed.task_id,
        attempt=1,
        kind=claimed.kind,
        idempotency_key=claimed.idempotency_key,
        schedule=claimed.schedule,
        fire_time=claimed.fire_time,
        deadline=occurrence.due_at + spec.timeout.soft,
        report_progress=latest.append,
    )
    caller = Caller(catalogue)
    before = caller.listen()
    try:
        with freeze_time(occurrence.due_at, tick=True):
            ended = caller.call(claimed.task, claimed.args, run, spec.timeout.soft.total_seconds())
    finally:
        caller.deafen(before)
    return ended, latest[-1] if latest else None


# --- what they share ------------------------------------------------------------------------------------------------


def _book(file: Path, catalogue: Catalogue | None, now: dt.datetime) -> Book:
    loaded = load_book(
        file.read_bytes(),
        file=str(file),
        functions=None if catalogue is None else catalogue.functions,
        broken={} if catalogue is None else catalogue.broken,
        now=now,
    )
    if loaded.book is None:
        raise FileFaults(loaded.faults)
    return loaded.book


def _spans(down: Sequence[tuple[Moment, Moment]]) -> list[tuple[dt.datetime, dt.datetime]]:
    return [(_moment(from_), _moment(until)) for from_, until in down]


def _moment(moment: Moment) -> dt.datetime:
    if isinstance(moment, str):
        return parse_iso(moment)
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return moment.astimezone(dt.UTC)
