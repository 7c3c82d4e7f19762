"""The planner: fire times become rows, ahead of time; and what passed while nobody planned is written down too.

SQL first, in one transaction with how far it has got; Redis after the commit, by ids that are the same every time. If
the second half is lost, reconcile brings it. Any number of planners may work at once.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
        handled, most, until = 0, SCHEDULES_AT_ONCE, time.monotonic() + LONGEST_STEP
        ahead = self._foretell(now, most)
        while True:
            began = time.monotonic()
            some, is_more, jobs = self._plan_some(now, most, ahead)
            ended = time.monotonic()
            handled += some
            self._register(jobs)
            if not is_more or time.monotonic() > until:
                return handled
            # Where rows ended it early the next asks for few: the others are read for nothing, and while it lasts no
            # other planner gets them.
            most = SCHEDULES_AT_ONCE if some == most else min(2 * some, SCHEDULES_AT_ONCE)
            if self.database.is_sqlite:
                self.database.checkpoint()
                ahead = self._foretell(now, most)  # while others write
                pause = min(LONGEST_PAUSE, max(LEAST_PAUSE, ended - began))
                self.wait(max(0.0, ended + pause - time.monotonic()))

    def _foretell(self, now: dt.datetime | None, most: int) -> dict[int, Foretold]:
        """On SQLite the next forecasts, by schedule: a thousand occurrences are worked out before the transaction, for
        nobody else can write while one is open. PostgreSQL locks no more than the schedules: nothing."""
        if not self.database.is_sqlite:
            return {}
        with self.database.read() as session:
            moment = now or schedules.now(session)
            return foretell_some(self._behind(session, moment, most), moment, self.horizon)

    def _behind(self, session: Session, moment: dt.datetime, most: int) -> list[Schedule]:
        return schedules.to_plan(session, moment + self.horizon / 2, moment, most)

    def _plan_some(
        self, now: dt.datetime | None, most: int, ahead: Mapping[int, Foretold]
    ) -> tuple[int, bool, list[WaitingJob]]:
        """How many schedules were planned, whether more may be behind, and the jobs to register."""
        point("planner.before_begin")
        with self.database.write() as session:
            moment = now or schedules.now(session)
            behind = self._behind(session, moment, most)
            done, jobs = plan(session, behind, moment, self.horizon, ahead)
            point("planner.after_insert")
        point("planner.after_commit")
        return done, done < len(behind) or len(behind) == most, jobs

    def _register(self, jobs: list[WaitingJob]) -> None:
        try:
            self.room.register(jobs)
            point("planner.after_register")
        except RedisAway as error:
            if is_news("plan"):
                log.warning("Planned, but not yet in Redis: %s", error, extra={"event": "plan_not_registered"})


@dataclass(frozen=True)
class Foretold:
    """What is to be written of one schedule, and from what and when that was worked out."""

    basis: tuple[Any, ...]
    now: dt.datetime
    forecast: Forecast
    rows: list[dict[str, Any]]


def _basis(schedule: Schedule) -> tuple[Any, ...]:
    """All of a schedule that its forecast hangs on."""
    return (
        *(schedule.name, schedule.spec, schedule.planned_until, schedule.planned_runs),
        *(schedule.file_pause, schedule.pause),
    )


def _foretell(schedule: Schedule, now: dt.datetime, horizon: dt.timedelta) -> Foretold:
    spec = ScheduleSpec.model_validate(schedule.spec)
    foretold = _forecast(schedule, spec, now, horizon)
    made = OccurrenceRows(schedule, spec, now)
    return Foretold(_basis(schedule), now, foretold, [made.row(occurrence) for occurrence in foretold.occurrences])


def foretell_some(behind: Sequence[Schedule], now: dt.datetime, horizon: dt.timedelta) -> dict[int, Foretold]:
    """What `plan` would write of the first of these schedules, until ROWS_AT_ONCE are reached; less those that cannot
    be planned, which it parks."""
    ahead: dict[int, Foretold] = {}
    rows = 0
    for schedule in behind:
        if rows >= ROWS_AT_ONCE:
            break
        with suppress(Exception):  # `plan` meets it again, and tells
            ahead[schedule.id] = _foretell(schedule, now, horizon)
            rows += len(ahead[schedule.id].rows)
    return ahead


def plan(
    session: Session,
    behind: Sequence[Schedule],
    now: dt.datetime,
    horizon: dt.timedelta,
    ahead: Mapping[int, Foretold] | None = None,
) -> tuple[int, list[WaitingJob]]:
    """Write the occurrences of these schedules, until ROWS_AT_ONCE are reached: of how many schedules, and the jobs to
    register once the caller has committed.

    What is in `ahead`, by schedule, is written as it is, unless its schedule was changed or planned since then. A
    schedule that cannot be planned (a zone gone from the system, say) is parked with the reason; it holds up none of
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
            told = (ahead or {}).get(schedule.id)
            if told is None or told.basis != _basis(schedule):
                told = _foretell(schedule, now, horizon)
        except Exception as error:  # whatever it is, it is this schedule's alone
            error.add_note(f"Schedule {schedule.name} cannot be planned and is parked.")
            tell("planner", error)  # once for all that fail alike: ten thousand tracebacks tell no more than one
            schedule.parked = f"cannot be planned: {type(error).__name__}: {error}"
            continue
        foretold = told.forecast
        rows.extend(told.rows)
        if foretold.gap is not None:
            tasks.add_gap(session, schedule.id, foretold.gap.first, foretold.gap.last, foretold.gap.count)
        missed[schedule.id] = [one for one in foretold.occurrences if _is_told(one)]
        marks.append(schedules.Planned(schedule.id, foretold.planned_until or PLANNED_FOR_EVER, foretold.runs))
        _end_pauses(schedule, told.now)
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
