"""The watchdog outside: a URL that is called each minute while the service really moves. It cannot tell its own death;
whoever waits for the calls tells it.

Each keeper calls by itself. A keeper that hangs does not call, nor one that sees another part stand still.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError

from sqlalchemy.orm import Session

from scheduler.clock import iso, utc_now
from scheduler.engine.answers.status import SILENT_AFTER, alive, kinds_without_worker, parts_of, stalled
from scheduler.rules.states import KINDS
from scheduler.store import schedules
from scheduler.store.database import Database

log = logging.getLogger(__name__)

PING_EVERY = 60.0  # seconds
ANSWERS_WITHIN = 10.0


class Watchdog:
    """Calls `url`, in a thread of its own: a slow answer delays nothing."""

    def __init__(self, database: Database, url: str, answers_within: float = ANSWERS_WITHIN) -> None:
        self.database = database
        self.pinged_at: dt.datetime | None = None
        self.trouble: str | None = None
        self._url = url
        self._answers_within = answers_within
        self._thread: threading.Thread | None = None

    def step(self) -> None:
        """Call when everything moves; else say what stands still, and since when. Raises DatabaseAway."""
        with self.database.read() as session:
            standing = list(standing_still(session))
        if standing:
            self.trouble = "; ".join(standing)
            log.error("The watchdog is not pinged: %s", self.trouble, extra={"event": "watchdog_not_pinged"})
        elif self._thread is not None and self._thread.is_alive():
            self._fail("the call before is still not answered")
        else:
            self._thread = threading.Thread(target=self._ping, name="watchdog", daemon=True)
            self._thread.start()

    def details(self) -> dict[str, Any]:
        """For the keeper's tick."""
        return {"pinged_at": iso(self.pinged_at), "trouble": self.trouble}

    def _ping(self) -> None:
        request = urllib.request.Request(self._url, headers={"User-Agent": "rq-schedules"})
        try:
            with urllib.request.urlopen(request, timeout=self._answers_within):  # its scheme is checked in settings.py
                pass  # what the answer says is nobody's concern; its status is
        except (URLError, HTTPException, OSError, ValueError) as error:
            self._fail(_why(error))
            return
        self.trouble, self.pinged_at = None, utc_now()

    def _fail(self, why: str) -> None:
        """The URL is a secret: whoever knows it can call in our place."""
        self.trouble = f"no answer: {why}"
        log.warning("The watchdog was called in vain: %s", why, extra={"event": "watchdog_in_vain"})


def standing_still(session: Session) -> Iterator[str]:
    """What does not move: dispatcher, planner, reconcile, and the workers of each kind that has tasks to run."""
    now = schedules.now(session)
    seen = parts_of(session, now)
    if not alive(seen, "dispatcher"):
        yield _since(seen, "dispatcher", now)
    for timer, age in stalled(seen).items():
        yield f"{timer} has not got through" + ("" if age is None else f" since {_moment(now, age)}")
    without = kinds_without_worker(session, seen)
    for kind in KINDS:
        if kind in without:
            yield _since(seen, f"worker-{kind}", now)
        else:
            yield from _stuck_workers(seen, f"worker-{kind}", now)


def _stuck_workers(seen: list[dict[str, Any]], part: str, now: dt.datetime) -> Iterator[str]:
    """When all workers of a kind that tick have a child that should say each other second that it waits, and does
    not."""
    ages = [_silence_of_child(one) for one in seen if one["part"] == part and not one["silent"]]
    stuck = [age for age in ages if age is not None]
    if stuck and len(stuck) == len(ages):
        yield f"{part} takes no jobs since {_moment(now, min(stuck))}"


def _silence_of_child(worker: dict[str, Any]) -> float | None:
    silent = worker["details"].get("silent_seconds")
    if worker["details"].get("task") is not None or silent is None or silent <= SILENT_AFTER.total_seconds():
        return None
    return float(silent) + float(worker["seconds_since_tick"])


def _since(seen: list[dict[str, Any]], part: str, now: dt.datetime) -> str:
    ages = [one["seconds_since_tick"] for one in seen if one["part"] == part]
    return f"{part} has not moved since {_moment(now, min(ages))}" if ages else f"there is no {part}"


def _moment(now: dt.datetime, seconds_ago: float) -> str:
    return f"{now - dt.timedelta(seconds=seconds_ago):%Y-%m-%d %H:%M:%S} UTC"


def _why(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"status {error.code}"
    return str(getattr(error, "reason", None) or error) or type(error).__name__
