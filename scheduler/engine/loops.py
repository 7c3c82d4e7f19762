"""How a part goes on: its steps at their times, through faults of SQL and Redis, until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable
from types import FrameType
from typing import Any

from scheduler.engine.troubles import Pauses, tell
from scheduler.errors import DatabaseAway
from scheduler.store import parts
from scheduler.store.database import Database

log = logging.getLogger(__name__)

TICK_EVERY = 5.0


class Stop:
    """Set by SIGTERM and SIGINT; a loop looks at it between two steps."""

    def __init__(self) -> None:
        self.is_set = False

    def listen(self) -> Stop:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        return self

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True

    def wait(self, seconds: float) -> None:
        """Sleep, at most until it is set."""
        until = time.monotonic() + seconds
        while not self.is_set and (rest := until - time.monotonic()) > 0:
            time.sleep(min(rest, 0.1))


def between_seconds(due: float, now: float) -> float:
    """The moment nearest to `due`, of the clock that shows `now`, that is half past a second of the world's clock.

    Most fire times are full seconds: what a part writes by its own clock is not to stand in their way, least of all on
    SQLite, which has one writer at a time.
    """
    past = (time.time() + due - now) % 1.0
    return due + 0.5 - past


class Timer:
    """Calls a step each `every` seconds, a whole number, between full seconds; after a fault, later and later."""

    def __init__(self, name: str, every: float, step: Callable[[], Any]) -> None:
        self.name = name
        self.every = every
        self.step = step
        self.due = 0.0
        self.last_done: float | None = None
        self._pauses = Pauses()

    def run_if_due(self) -> None:
        if time.monotonic() < self.due:
            return
        try:
            self.step()
        except Exception as error:  # a loop logs and goes on
            tell(self.name, error)
            self.due = time.monotonic() + self._pauses.next()
            return
        self._pauses.reset()
        self.last_done = now = time.monotonic()
        self.due = between_seconds(now + self.every, now)


class Ticker:
    """Writes down that a part has moved, with its details, every few seconds."""

    def __init__(self, database: Database, part: str) -> None:
        self.database = database
        self.part = part
        self.host = socket.gethostname()
        self.name = f"{part}@{self.host}:{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._due = 0.0

    def tick(self, details: dict[str, Any]) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = between_seconds(now + TICK_EVERY, now)
        try:
            with self.database.write() as session:
                parts.tick(session, self.name, self.part, self.host, os.getpid(), details)
        except DatabaseAway as error:
            log.debug("No tick: %s", error)  # the part's own steps say it louder

    def leave(self) -> None:
        leave(self.database, self.name)


def leave(database: Database, name: str) -> None:
    """Take a part's row along; where that cannot be, its silence will be seen."""
    try:
        with database.write() as session:
            parts.leave(session, name)
    except DatabaseAway as error:
        log.info("%s left without a word: %s", name, error, extra={"event": "left_silently"})
