"""Backfill: a task for each past fire time of a schedule that has not succeeded, because somebody asks for it.

A fire time has one row for ever, so a backfill adds a row of its own beside it, as a retry does: without a fire time,
with the occurrence's idempotency key, and naming the row that it makes good where there is one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.clock import iso
from scheduler.engine.actions import Actions
from scheduler.engine.rows import asked_of_schedule, asked_row
from scheduler.errors import NotFound, Refused, WrongUsage
from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.states import SUCCEEDED, UNFINISHED
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.times.fire_times import fire_times
from scheduler.rules.times.occurrence_keys import occurrence_key
from scheduler.store import audit, schedules, tasks
from scheduler.store.schedules import pause_of
from scheduler.store.tables import Schedule, Task

MOST = 1000  # fire times at once: they share the schedule's queue with what fires meanwhile
MICROSECOND = dt.timedelta(microseconds=1)
APART = dt.timedelta(milliseconds=1)  # between the due times, so that the oldest goes first


@dataclass(frozen=True)
class Backfilled:
    """What a backfill made, or would make."""

    schedule: str
    fire_times: tuple[dt.datetime, ...]
    left_out: int  # fire times of the span that succeeded, or have a task that has not ended
    task_ids: tuple[int, ...] = ()  # as `fire_times`; none when it was only tried
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        ids: Sequence[int | None] = self.task_ids or [None] * len(self.fire_times)
        return {
            "schedule": self.schedule,
            "count": len(self.fire_times),
            "first": iso(self.fire_times[0]) if self.fire_times else None,
            "last": iso(self.fire_times[-1]) if self.fire_times else None,
            "left_out": self.left_out,
            "tasks": [
                {"id": task_id, "occurrence": iso(moment)} for task_id, moment in zip(ids, self.fire_times, strict=True)
            ],
            "warnings": list(self.warnings),
        }


class Backfills(Actions):
    def backfill(
        self, name: str, first: dt.datetime, last: dt.datetime, *, everything: bool = False, dry_run: bool = False
    ) -> Backfilled:
        """A task for each fire time from `first` through `last`, by the version in force; the oldest is due first.

        Left out are fire times that have a task which succeeded, here or in a retry, unless `everything`; and always
        those with a task that has not ended. The tasks go through the schedule's lane, one after the other unless it
        lets runs overlap. Raises NotFound, Refused or WrongUsage.
        """
        with self.database.write() as session:
            schedule = _schedule(session, name)
            spec = ScheduleSpec.model_validate(schedule.spec)
            _check_span(first, last, schedules.now(session))
            all_times = _fire_times(name, spec, first, last)
            done, old = _those_with_tasks(session, schedule, all_times, everything)
            wanted = tuple(moment for moment in all_times if moment not in done)
            warnings = _pause_warning(schedule)
            left_out = len(all_times) - len(wanted)
            if dry_run or not wanted:
                return Backfilled(name, wanted, left_out, (), warnings)
            rows = list(self._rows(schedule, spec, wanted, old, schedules.now(session)))
            added = tasks.add(session, rows)
            warnings = (*warnings, *self._no_worker(session, spec.kind))
            by_due_time = sorted(added, key=lambda row: row.due_at)
            made = Backfilled(name, wanted, left_out, tuple(row.id for row in by_due_time), warnings)
            details = {"from": iso(first), "to": iso(last), "all": everything, "count": len(wanted)}
            audit.record(
                session, self.asker, "backfill", f"schedule {name}", details, answer=made.as_json(), status=201
            )
        jobs = [WaitingJob(row.id, 1, row.queue, row.due_at) for row in by_due_time]
        return replace(made, warnings=(*warnings, *self._register(jobs)))

    def _rows(
        self,
        schedule: Schedule,
        spec: ScheduleSpec,
        moments: Sequence[dt.datetime],
        old: dict[dt.datetime, int],
        now: dt.datetime,
    ) -> Iterator[dict[str, Any]]:
        policy, lane = asked_of_schedule(schedule, spec)
        for number, moment in enumerate(moments):
            row = asked_row(
                origin="backfill",
                task=spec.task,
                args=spec.args,
                kind=spec.kind,
                queue=spec.queue,
                policy=policy,
                now=now,
                start_by=None,  # the last of many starts when those before it are done, however long that takes
                requested_by=self.by,
                idempotency_key=occurrence_key(schedule.name, moment),
                schedule=schedule,
                lane=lane,
                retry_of=old.get(moment),
            )
            yield {**row, "due_at": now + number * APART}


def _schedule(session: Session, name: str) -> Schedule:
    schedule = schedules.by_name(session, name, lock=True)  # so that of two at once the second finds the first one's
    if schedule is None:
        raise NotFound(f'There is no schedule "{name}"; `scheduler schedules` lists them')
    if schedule.retired_at is not None:
        raise Refused(
            f'Schedule "{name}" was taken out of the file at {iso(schedule.retired_at)}; '
            "put it back to run what it missed"
        )
    if schedule.parked is not None:
        raise Refused(f'Schedule "{name}" is parked, so its tasks could not run: {schedule.parked}')
    return schedule


def _check_span(first: dt.datetime, last: dt.datetime, now: dt.datetime) -> None:
    if first > last:
        raise WrongUsage(f"from {iso(first)} is later than to {iso(last)}; give the earlier one first")
    if last > now:
        raise WrongUsage(f"to {iso(last)} is not past yet; what is to come fires by itself")


def _fire_times(name: str, spec: ScheduleSpec, first: dt.datetime, last: dt.datetime) -> list[dt.datetime]:
    found = list(islice(fire_times(spec, first - MICROSECOND, last), MOST + 1))
    if len(found) > MOST:
        raise Refused(
            f'Schedule "{name}" has more than {MOST:,} fire times in that span; {MOST:,} may be asked for at once: '
            f"begin with a span to {iso(found[MOST - 1])}"
        )
    return found


def _those_with_tasks(
    session: Session, schedule: Schedule, moments: Sequence[dt.datetime], everything: bool
) -> tuple[set[dt.datetime], dict[dt.datetime, int]]:
    """The fire times to leave out; and by fire time the task that its row is."""
    if not moments:
        return set(), {}
    columns = (Task.id, Task.fire_time, Task.idempotency_key, Task.state)
    of_schedule = select(*columns).where(Task.schedule_id == schedule.id)
    fired = session.execute(of_schedule.where(Task.fire_time >= moments[0], Task.fire_time <= moments[-1])).all()
    asked = session.execute(of_schedule.where(Task.fire_time.is_(None))).all()
    by_key = {occurrence_key(schedule.name, moment): moment for moment in moments}
    # A schedule may have had another name when its row was written: such a row is known by its fire time.
    found = [(row.fire_time, row) for row in fired] + [(by_key.get(row.idempotency_key), row) for row in asked]
    ends = UNFINISHED if everything else UNFINISHED | {SUCCEEDED}
    done = {moment for moment, row in found if moment is not None and row.state in ends}
    return done, {row.fire_time: row.id for row in fired}


def _pause_warning(schedule: Schedule) -> tuple[str, ...]:
    pause = pause_of(schedule)
    return () if pause is None else (f"the schedule is {pause}; what is asked for runs all the same",)
