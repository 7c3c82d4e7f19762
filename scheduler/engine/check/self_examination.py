"""The service asks the doctor's questions of itself: a promise that is broken is said, shown and mailed, not only found
by whoever happens to run `scheduler doctor`.

In a thread of its own, since some questions look at a hundred thousand tasks. What is on its way between SQL and Redis
may look broken for a moment, so a promise counts as broken once two looks in a row found the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.check.doctor import broken_invariants
from scheduler.engine.loops import Stop
from scheduler.engine.troubles import Pauses, tell
from scheduler.store.database import Database

log = logging.getLogger(__name__)

LOOK_EVERY = 300.0  # seconds
LOOK_AGAIN_AFTER = 30.0  # when something was found, or was there before


class SelfExamination:
    def __init__(self, database: Database, room: WaitingRoom) -> None:
        self.database = database
        self.room = room
        self.broken: Sequence[Mapping[str, str]] | None = None  # name and message of each; None: not known yet
        self._found_before: frozenset[str] = frozenset()
        self._thread: threading.Thread | None = None

    def start(self, stop: Stop) -> None:
        self._thread = threading.Thread(target=self._run, args=(stop,), name="promises", daemon=True)
        self._thread.start()

    def join(self, seconds: float = 2.0) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def step(self) -> float:
        """One look; how long until the next, in seconds. Raises DatabaseAway, RedisAway: what was known stays."""
        found = {one.name: one.message for one in broken_invariants(self.database, self.room)}
        known = {one["name"] for one in self.broken or ()}
        confirmed = [
            {"name": name, "message": message} for name, message in found.items() if name in self._found_before
        ]
        if self.broken is not None or confirmed or not found:
            self.broken = confirmed
        self._found_before = frozenset(found)
        for one in confirmed:
            if one["name"] not in known:
                log.error("A promise is broken: %s", one["message"], extra={"event": "promise_broken"})
        return LOOK_AGAIN_AFTER if found or known else LOOK_EVERY

    def _run(self, stop: Stop) -> None:
        pauses = Pauses(LOOK_AGAIN_AFTER, LOOK_EVERY)
        wait = LOOK_AGAIN_AFTER  # by then all has begun
        while True:
            stop.wait(wait)
            if stop.is_set:
                return
            try:
                wait = self.step()
                pauses.reset()
            except Exception as error:  # a loop logs and goes on
                tell("promises", error)
                wait = pauses.next()
