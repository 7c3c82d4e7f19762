"""The dispatcher: sleeps until the first job is due, then moves what is due to the queues, in one go inside Redis.

Any number may work at once; the script decides who moves what. Rows are marked `queued` afterwards, in bulk: a worker
may claim a row before its mark is made, so a mark that is late or lost does no harm.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from scheduler.broker import keys
from scheduler.broker.connection import answering
from scheduler.broker.keys import parse_job_id
from scheduler.broker.waiting_room import BATCH, WaitingRoom, seconds_until
from scheduler.engine.handover import settle_handover
from scheduler.errors import DatabaseAway
from scheduler.kill_points import point
from scheduler.store import tasks
from scheduler.store.database import Database

log = logging.getLogger(__name__)

LONGEST_SLEEP = 1.0  # seconds; a wake-up message may get lost
MOST_MARKS = 50_000  # kept while SQL is away; a mark that is dropped does no harm
FENCE_EVERY = 10.0
LONGEST_BURST = 5.0  # seconds that marks wait for


class Dispatcher:
    def __init__(self, database: Database, room: WaitingRoom) -> None:
        self.database = database
        self.room = room
        self.moved = 0
        self.steps = 0
        self._to_mark: list[bytes] = []  # ids of jobs
        self._lock = threading.Lock()
        self._at_rest = threading.Event()
        self._at_rest.set()
        self._fenced_at = 0.0
        self._wake = room.redis.pubsub(ignore_subscribe_messages=True)

    def step(self) -> float:
        """Move all that is due; how long to sleep, in seconds, until the next is. Raises RedisAway."""
        self._keep_fence()
        self.steps += 1
        self._at_rest.clear()
        try:
            return self._move_all()
        finally:
            self._at_rest.set()

    def _move_all(self) -> float:
        while True:
            point("dispatcher.before_script")
            moved = self.room.move_due()
            point("dispatcher.after_script")
            self._remember(moved.ids)
            if moved.handed_over:
                settle_handover(self.database, self.room)
            if moved.looked_at < BATCH:
                return seconds_until(moved, LONGEST_SLEEP)

    def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until a job arrives that is due earlier than all others. Raises RedisAway."""
        if seconds <= 0:
            return
        with answering(self.room.redis):
            if not self._wake.subscribed:
                self._wake.subscribe(keys.WAKE)
            # Waiting in the client: a blocking command's time-out would only be looked at ten times a second.
            self._wake.get_message(timeout=seconds)

    def mark(self) -> None:
        """Mark the rows of moved jobs as queued. May be called from another thread: SQL must not hold up Redis, nor, as
        threads of one process take turns, take time from moving what is due.

        Raises DatabaseAway; the marks are kept for the next call then.
        """
        self._at_rest.wait(LONGEST_BURST)
        with self._lock:
            ids, self._to_mark = self._to_mark, []
        if not ids:
            return
        point("dispatcher.before_mark")
        try:
            with self.database.write() as session:
                tasks.mark_queued(session, (job for job in map(parse_job_id, ids) if job is not None))
            point("dispatcher.after_mark")
        except DatabaseAway:
            with self._lock:
                self._to_mark = [*ids, *self._to_mark][-MOST_MARKS:]
            raise

    def close(self) -> None:
        with suppress(DatabaseAway):  # a mark that is lost does no harm
            self.mark()
        self._wake.close()

    def _remember(self, ids: tuple[bytes, ...]) -> None:
        with self._lock:
            self._to_mark.extend(ids)
        self.moved += len(ids)

    def _keep_fence(self) -> None:
        if time.monotonic() - self._fenced_at > FENCE_EVERY:
            self.room.acquire_lock()
            self._fenced_at = time.monotonic()
