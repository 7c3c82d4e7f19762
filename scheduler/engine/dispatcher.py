"""The dispatcher: sleeps until the first job is due, then moves what is due to the queues, in one go inside Redis.

Any number may work at once; the script decides who moves what. Rows are marked `queued` afterwards, in bulk: a worker
may claim a row before its mark is made, so a mark that is late or lost does no harm.
"""

from __future__ import annotations

import logging
import time

from scheduler.broker import keys
from scheduler.broker.connection import answering
from scheduler.broker.waiting_room import BATCH, WaitingRoom, seconds_until
from scheduler.engine.handover import settle_handover
from scheduler.errors import DatabaseAway
from scheduler.store import tasks
from scheduler.store.database import Database

log = logging.getLogger(__name__)

LONGEST_SLEEP = 1.0  # seconds; a wake-up message may get lost
MARK_AFTER = 0.5  # seconds: by then a worker with nothing else to do has claimed the row, and no mark is needed
MOST_MARKS = 50_000  # kept while SQL is away; a mark that is dropped does no harm
FENCE_EVERY = 10.0


class Dispatcher:
    def __init__(self, database: Database, room: WaitingRoom) -> None:
        self.database = database
        self.room = room
        self.moved = 0
        self._to_mark: list[tuple[int, int]] = []
        self._oldest_mark = 0.0
        self._fenced_at = 0.0
        self._wake = room.redis.pubsub(ignore_subscribe_messages=True)

    def step(self) -> float:
        """Move all that is due; how long to sleep, in seconds, until the next is. Raises RedisAway."""
        self._keep_fence()
        while True:
            moved = self.room.move_due()
            self._remember(moved.jobs)
            if moved.handed_over:
                settle_handover(self.database, self.room)
            if moved.looked_at < BATCH:
                break
            self.mark(only_if_late=True)
        self.mark(only_if_late=True)
        return seconds_until(moved, LONGEST_SLEEP)

    def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until a job arrives that is due earlier than all others. Raises RedisAway."""
        if seconds <= 0:
            return
        if self._to_mark:
            seconds = min(seconds, MARK_AFTER)
        with answering(self.room.redis):
            if not self._wake.subscribed:
                self._wake.subscribe(keys.WAKE)
            # Waiting in the client: a blocking command's time-out would only be looked at ten times a second.
            self._wake.get_message(timeout=seconds)

    def mark(self, *, only_if_late: bool = False) -> None:
        """Mark the rows of moved jobs as queued."""
        if not self._to_mark or (only_if_late and time.monotonic() - self._oldest_mark < MARK_AFTER):
            return
        jobs, self._to_mark = self._to_mark, []
        try:
            with self.database.write() as session:
                tasks.mark_queued(session, jobs)
        except DatabaseAway as error:
            self._to_mark = jobs[-MOST_MARKS:]
            self._oldest_mark = time.monotonic() + 5  # not in a tight loop
            log.warning("Rows of queued jobs not marked yet: %s", error, extra={"event": "marks_delayed"})

    def close(self) -> None:
        self.mark()
        self._wake.close()

    def _remember(self, jobs: tuple[tuple[int, int], ...]) -> None:
        if jobs and not self._to_mark:
            self._oldest_mark = time.monotonic()
        self._to_mark.extend(jobs)
        self.moved += len(jobs)

    def _keep_fence(self) -> None:
        if time.monotonic() - self._fenced_at > FENCE_EVERY:
            self.room.acquire_lock()
            self._fenced_at = time.monotonic()
