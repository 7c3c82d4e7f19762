"""The planner: fire times become rows, ahead of time; and what passed while nobody planned is written down too.

SQL first, in one transaction with how far it has got; Redis after the commit, by ids that are the same every time. If
the second half is lost, reconcile brings it. Any number of planners may work at once.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.rows import OccurrenceRows
from scheduler.engine.troubles import is_news, tell
from scheduler.errors import RedisAway
from scheduler.kill_points import point
from scheduler.rules.mail import alerts
from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.states import MISSED, PLANNED
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.times.occurrences import Forecast, Occurrence, forecast
from scheduler.rules.times.pause import stored_pause
from scheduler.store import happenings, schedules, tasks
from scheduler.store.database import Database
from scheduler.store.schedules import pauses_of
from scheduler.store.tables import PLANNED_FOR_EVER, Schedule

log = logging.getLogger(__name__)

# In one transaction, so that claims wait a fraction of a second at most on SQLite, where one writes at a time. After a
# standstill a single schedule may have a thousand rows; it ends the transaction.
SCHEDULES_AT_ONCE, ROWS_AT_ONCE = 250, 1000
# Seconds between two transactions on SQLite, as long as one took: those that wait for it look again every 25 ms at
# first, and every 100 ms at last.
LEAST_PAUSE, LONGEST_PAUSE = 0.06, 0.11
LONGEST_STEP = 10.0  # seconds; then the rest is left to the next step, for the keeper has more to do


class Planner:
    def __init__(
        self,
        database: Database,
        room: WaitingRoom,
        horizon: dt.timedelta,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.database = database
        self.room = room
        self.horizon = horizon
        self.wait = wait

    def step(self, now: dt.datetime | None = None) -> int:
        """Plan every schedule that is planned less than half a horizon ahead; how many there were.

        `now` is the database's unless given, so that planners on several hosts agree. What is not done within
        LONGEST_STEP is left to the next step.
        """
        handled, until = 0, time.monotonic() + LONGEST_STEP
        while True:
            began = time.monotonic()
            some, is_more, jobs = self._plan_some(now)
            took = time.monotonic() - began
            handled += some
            self._register(jobs)
            if not is_more or time.monotonic() > until:
                return handled
            if self.database.is_sqlite:
                self.database.checkpoint()
                self.wait(min(LONGEST_PAUSE, max(LEAST_PAUSE, took)))

    def _plan_some(self, now: dt.datetime | None) -> tuple[int, bool, list[WaitingJob]]:
        """How many schedules were planned, whether more may be behind, and the jobs to register."""
        point("planner.before_begin")
        with self.database.write() as session:
            moment = now or schedules.now(session)
            behind = schedules.to_plan(session, moment + self.horizon / 2, moment, SCHEDULES_AT_ONCE)
            done, jobs = plan(session, behind, moment, self.horizon)
            point("planner.after_insert")
        point("planner.after_commit")
        return done, done < len(behind) or len(behind) == SCHEDULES_AT_ONCE, jobs

    def _register(self, jobs: list[WaitingJob]) -> None:
        try:
            self.room.register(jobs)
            point("planner.after_register")
        except RedisAway as error:
            if is_news("plan"):
                log.warning("Planned, but not yet in Redis: %s", error, extra={"event": "plan_not_registered"})


def plan(
    session: Session, behind: Sequence[Schedule], now: dt.datetime, horizon: dt.timedelta
) -> tuple[int, list[WaitingJob]]:
    """Write the occurrences of these schedules, until ROWS_AT_ONCE are reached: of how many schedules, and the jobs to
    register once the caller has committed.

    A schedule that cannot be planned (a zone gone from the system, say) is parked with the reason; it holds up none of
    the others.
    """
    rows: list[dict[str, Any]] = []
    marks: list[schedules.Planned] = []
    missed: dict[int, list[Occurrence]] = {}
    done = 0
    for schedule in behind:
        if len(rows) >= ROWS_AT_ONCE:
            break
        done += 1
        try:
            spec = ScheduleSpec.model_validate(schedule.spec)
            foretold = _forecast(schedule, spec, now, horizon)
        except Exception as error:  # whatever it is, it is this schedule's alone
            error.add_note(f"Schedule {schedule.name} cannot be planned and is parked.")
            tell("planner", error)  # once for all that fail alike: ten thousand tracebacks tell no more than one
            schedule.parked = f"cannot be planned: {type(error).__name__}: {error}"
            continue
        made = OccurrenceRows(schedule, spec, now)
        rows.extend(made.row(occurrence) for occurrence in foretold.occurrences)
        if foretold.gap is not None:
            tasks.add_gap(session, schedule.id, foretold.gap.first, foretold.gap.last, foretold.gap.count)
        missed[schedule.id] = [one for one in foretold.occurrences if _is_told(one)]
        marks.append(schedules.Planned(schedule.id, foretold.planned_until or PLANNED_FOR_EVER, foretold.runs))
        _end_pauses(schedule, now)
    added = tasks.add(session, rows)
    schedules.move_planned_until(session, marks)
    if added:
        _tell_missed(session, missed, min(row.id for row in added))
    return done, [WaitingJob(row.id, 1, row.queue, row.due_at) for row in added if row.state == PLANNED]


def _is_told(occurrence: Occurrence) -> bool:
    """Whether somebody may want to hear of it: it was missed, and no later fire time counts instead."""
    return occurrence.state == MISSED and occurrence.reason_code != "superseded"


def _tell_missed(session: Session, missed: dict[int, list[Occurrence]], first_id: int) -> None:
    """A happening for each schedule that missed something; a success from the row `first_id` on ends it."""
    for schedule_id, ones in missed.items():
        if ones:
            happenings.tell(session, alerts.MISSED, schedule_id, first_id, count=len(ones), why=ones[-1].reason)


def _forecast(schedule: Schedule, spec: ScheduleSpec, now: dt.datetime, horizon: dt.timedelta) -> Forecast:
    runs_left = None if spec.max_runs is None else max(0, spec.max_runs - schedule.planned_runs)
    return forecast(
        spec,
        planned_until=schedule.planned_until,
        now=now,
        horizon=horizon,
        pauses=pauses_of(schedule),
        runs_left=runs_left,
    )


def _end_pauses(schedule: Schedule, now: dt.datetime) -> None:
    """Drop the pauses whose time is over; what they skipped has just been written."""
    if schedule.file_pause is not None and _is_over(schedule.file_pause, now):
        schedule.file_pause = None
    if schedule.pause is not None and _is_over(schedule.pause, now):
        schedule.pause = None


def _is_over(held: dict[str, Any], now: dt.datetime) -> bool:
    until = stored_pause(held).until
    return until is not None and until <= now
