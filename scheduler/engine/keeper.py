"""The keeper: plans, reconciles, watches the file, tells alerts, sends mail, and keeps order.

A module of its own, so that no worker and no dispatcher imports what only the keeper needs.
"""

from __future__ import annotations

import datetime as dt
import logging
import time

from scheduler.engine.access import LONGEST
from scheduler.engine.backends import Backends
from scheduler.engine.check.self_examination import SelfExamination
from scheduler.engine.check.watchdog import PING_EVERY, Watchdog
from scheduler.engine.file.file_watch import FileWatch
from scheduler.engine.file.parking import MISSING, Parking
from scheduler.engine.loops import Stop, Ticker, Timer
from scheduler.engine.mail.alerts import Alerts
from scheduler.engine.mail.alerts import forget_old as forget_old_alerts
from scheduler.engine.mail.mailer import MailThreads
from scheduler.engine.planner import Planner
from scheduler.engine.reconcile import Mended, Reconcile
from scheduler.settings import Settings
from scheduler.store import audit, outbox, parts, schedules, users
from scheduler.task_functions import find_task_functions

log = logging.getLogger(__name__)

PLAN_EVERY = 1.0  # seconds
LOOK_FOR_MEMORY_EVERY = 1.0
LOOK_AT_FILE_EVERY = 1.0
PARK_EVERY = 60.0  # within it the fire times that pass while a schedule is parked get their rows
ALERT_EVERY = 10.0
FORGET_EVERY = 3600.0
FIRST_PING_AFTER = 20.0  # by then the other parts, started along with the keeper, have ticked


class Keeper:
    """Plans, reconciles, watches the file and keeps order."""

    def __init__(self, settings: Settings) -> None:
        self.backends = Backends(settings)
        self.planner = Planner(
            self.backends.database, self.backends.room, dt.timedelta(seconds=settings.horizon_seconds)
        )
        self.reconcile = Reconcile(self.backends.database, self.backends.room)
        catalogue = find_task_functions(settings.task_packages)
        self.file_watch = FileWatch(settings.file, self.backends.database, self.backends.room, catalogue)
        self.parking = Parking(self.backends.database, self.backends.room, catalogue)
        self.alerts = Alerts(
            self.backends.database,
            service=settings.name,
            base_url=settings.base_url,
            realert=dt.timedelta(seconds=settings.realert_seconds),
        )
        self.mending = Timer("reconcile", settings.reconcile_seconds, self._mend)
        self.timers = [
            Timer("file", LOOK_AT_FILE_EVERY, self.file_watch.step),
            Timer("parking", PARK_EVERY, self.parking.step),
            Timer("planner", PLAN_EVERY, self.planner.step),
            Timer("memory", LOOK_FOR_MEMORY_EVERY, self._look_for_memory),
            self.mending,
            Timer("alerts", ALERT_EVERY, self.alerts.step),
            Timer("housekeeping", FORGET_EVERY, self._keep_order),
        ]
        self.mail = MailThreads(self.backends.database, settings)
        self.examination = SelfExamination(self.backends.database, self.backends.room)
        self.watchdog: Watchdog | None = None
        if settings.watchdog_url is not None:
            self.watchdog = Watchdog(self.backends.database, settings.watchdog_url)
            self.timers.append(Timer("watchdog", PING_EVERY, self.watchdog.step))
            self.timers[-1].due = time.monotonic() + FIRST_PING_AFTER
        self.ticker = Ticker(self.backends.database, "keeper")

    def run(self, stop: Stop) -> None:
        """Go on until told to stop. Schedules that could not be planned get another chance: the program may be new."""
        self.mail.start(stop)
        self.examination.start(stop)
        while not stop.is_set:
            for timer in self.timers:
                timer.run_if_due()
            self.ticker.tick(
                {
                    **self._ages(),
                    "file": str(self.file_watch.path),
                    "trouble": self.file_watch.trouble,
                    "text_hash": self.file_watch.text_hash,
                    "watchdog": self.watchdog.details() if self.watchdog else None,
                    "broken": self.examination.broken,
                }
            )
            stop.wait(0.2)
        self.mail.join()
        self.examination.join()
        self.ticker.leave()
        self.backends.close()

    def _mend(self) -> None:
        mended = self.reconcile.step()
        if mended != Mended():
            log.info("Reconcile: %s", mended, extra={"event": "reconciled"})

    def _look_for_memory(self) -> None:
        """Reconcile at once when Redis has lost its memory, instead of at its next time."""
        if not self.backends.room.is_planted():
            self.mending.due = 0.0

    def _keep_order(self) -> None:
        with self.backends.database.write() as session:
            parts.forget_old(session)
            forget_old_alerts(session)
            outbox.forget_old(session)
            audit.forget_old_keys(session)
            users.forget_old_sessions(session, LONGEST)
            schedules.unpark(session, but_not=MISSING)

    def _ages(self) -> dict[str, float | None]:
        """Seconds since each timer last got through."""
        now = time.monotonic()
        return {
            timer.name: None if timer.last_done is None else round(now - timer.last_done, 1)
            for timer in (*self.timers, *self.mail.timers)
        }


def run_keeper(settings: Settings, stop: Stop) -> None:
    Keeper(settings).run(stop)
