"""Parks schedules whose task function is not to be had, with the reason, and lets them go on once it is back.

Nothing is deleted: a parked schedule keeps its row, its history and its pauses; its fire times are written as skipped.
"""

from __future__ import annotations

import datetime as dt
import logging
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.pauses import PARKED, settle_past
from scheduler.errors import RedisAway
from scheduler.rules.states import PLANNED, QUEUED, SKIPPED
from scheduler.store import schedules, tasks
from scheduler.store.database import Database
from scheduler.store.tables import Schedule, Task
from scheduler.task_functions import Catalogue

log = logging.getLogger(__name__)

MISSING = "task function "  # how the reasons begin that are ours; those of the planner begin with other words
MOST_SHOWN = 5  # names in a line of the log; `scheduler status` and `doctor` have the others
LONGEST_REASON = 300  # letters of what a module's import said


@dataclass
class Parked:
    """What a step did, by names of schedules."""

    parked: list[str] = field(default_factory=list)
    freed: list[str] = field(default_factory=list)


class Parking:
    def __init__(self, database: Database, room: WaitingRoom, catalogue: Catalogue) -> None:
        self.database = database
        self.room = room
        self.catalogue = catalogue

    def step(self) -> Parked:
        """Hold every schedule in force against the catalogue, and write what passed for those that stay parked."""
        done = Parked()
        withdrawn: list[tuple[int, int, str]] = []
        with self.database.read() as session:  # mostly there is none, and nobody need wait for this
            odd = self._odd_ones(session)
        if not odd:
            return done
        with self.database.write() as session:
            schedules.take_turns(session)
            now = schedules.now(session)
            for schedule_id in self._odd_ones(session):
                withdrawn += self._judge(session, session.get_one(Schedule, schedule_id), now, done)
        with suppress(RedisAway):  # reconcile removes them; until then they are jobs that no row answers to
            self.room.withdraw(withdrawn)
        self._tell(done)
        return done

    def _odd_ones(self, session: Session) -> list[int]:
        """The ids of those that are parked for want of their function, or ought to be."""
        rows = session.execute(
            select(Schedule.id, Schedule.spec, Schedule.parked)
            .where(Schedule.retired_at.is_(None))
            .order_by(Schedule.id)
        )
        known = self.catalogue.functions
        return [
            row.id
            for row in rows
            if (row.parked or "").startswith(MISSING) or (row.parked is None and row.spec.get("task") not in known)
        ]

    def _judge(
        self, session: Session, schedule: Schedule, now: dt.datetime, done: Parked
    ) -> list[tuple[int, int, str]]:
        """Park it or let it go; the jobs, (task id, attempt, queue) each, that no longer ought to be in Redis."""
        why = self.why_missing(str(schedule.spec.get("task")))
        is_new = schedule.parked is None
        if why is not None:
            schedule.parked = why  # before the past is settled: what passed unseen cannot run either
        withdrawn = settle_past(session, schedule, now)
        if why is None:
            schedule.parked = None
            done.freed.append(schedule.name)
            return withdrawn
        if not is_new:
            return withdrawn
        done.parked.append(schedule.name)
        skipped = tasks.move(
            session,
            SKIPPED,
            Task.schedule_id == schedule.id,
            Task.state.in_((PLANNED, QUEUED)),
            Task.attempt == 0,
            Task.fire_time.is_not(None),
            returning=(Task.queue,),
            reason_code=PARKED,
            reason=why,
        )
        return [*withdrawn, *((row.id, 1, row.queue) for row in skipped)]

    def why_missing(self, task: str) -> str | None:
        """Why the task function is not to be had; None when it is."""
        if task in self.catalogue.functions:
            return None
        if task in self.catalogue.broken:  # two functions of one name
            why = self.catalogue.broken[task]
        elif self.catalogue.broken:
            modules = "; ".join(
                f"{module} cannot be imported: {said}" for module, said in self.catalogue.broken.items()
            )
            why = modules[:LONGEST_REASON]
        else:
            why = "no module of the task packages has it"
        return f'{MISSING}"{task}" is not to be had: {why}'

    def _tell(self, done: Parked) -> None:
        if done.parked:
            log.error(
                "Parked, because their task functions are not to be had: %s",
                _listed(done.parked),
                extra={"event": "schedules_parked"},
            )
        if done.freed:
            log.info("No longer parked: %s", _listed(done.freed), extra={"event": "schedules_freed"})


def _listed(names: list[str]) -> str:
    return ", ".join(names[:MOST_SHOWN]) + (f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else "")
