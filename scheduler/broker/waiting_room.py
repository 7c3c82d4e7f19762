"""The sorted set where jobs wait, and the dispatch from there to the queues.

A subclass of rq-scheduler's Scheduler that keeps its sorted set, its names and its registration, so that its users
and tools see our jobs, and replaces what loses and doubles jobs: its lock, its loop over single jobs, its `cron` and
`schedule`. Several may work at once; none leads.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import redis
from rq_scheduler import Scheduler

from scheduler.broker import keys, scripts
from scheduler.broker.connection import answering
from scheduler.broker.job import TaskJob, job_data
from scheduler.broker.keys import job_id, parse_job_id, rq_time
from scheduler.errors import Refused
from scheduler.rules.task.jobs import WaitingJob

BATCH = 500  # jobs a script call moves: some 2.5 ms of the server's time, so that nobody else waits long
REGISTER_AT_ONCE = 500
READ_AT_ONCE = 5000
FENCE_SECONDS = 30  # a stock `rqscheduler` started by mistake finds its lock taken and does nothing


@dataclass(frozen=True)
class Moved:
    """What one call of the dispatch script did."""

    ids: tuple[bytes, ...]  # of the jobs now in their queues; not read yet, since moving must not wait for it
    looked_at: int
    dropped: int  # no longer wanted: queued, under way, done or cancelled
    handed_over: int  # could not be moved: unreadable, or not ours
    next_due: float | None  # unix seconds
    server_time: float

    @property
    def jobs(self) -> list[tuple[int, int]]:
        """(task id, attempt) of those now in their queues."""
        return [job for job in map(parse_job_id, self.ids) if job is not None]


class WaitingRoom(Scheduler):  # type: ignore[misc]
    """Where the jobs of planned and retrying tasks wait for their time."""

    redis_scheduler_namespace_prefix = f"{keys.RQ_KEY_PREFIX}:scheduler_instance:"
    scheduler_key = f"{keys.RQ_KEY_PREFIX}:scheduler"
    scheduler_lock_key = f"{keys.RQ_KEY_PREFIX}:scheduler_lock"
    scheduled_jobs_key = keys.SCHEDULED
    job_class = TaskJob

    def __init__(self, connection: redis.Redis, name: str | None = None) -> None:
        super().__init__(connection=connection, job_class=TaskJob, interval=FENCE_SECONDS, name=name)
        self.redis = connection
        self._register = connection.register_script(scripts.REGISTER)
        self._dispatch = connection.register_script(scripts.DISPATCH)
        self._withdraw = connection.register_script(scripts.WITHDRAW)

    # --- in ---------------------------------------------------------------------------------------------------------

    def register(self, jobs: Iterable[WaitingJob], *, force: bool = False) -> int:
        """Let jobs wait here until they are due; how many were new.

        Those in a queue or under way are left alone, unless `force`: then they wait here again, whatever was.
        """
        put = 0
        for some in _batches(jobs, REGISTER_AT_ONCE):
            arguments: list[Any] = [keys.JOB_PREFIX, rq_time(), keys.WAKE, "force" if force else ""]
            for job in some:
                arguments += [
                    job_id(job.task_id, job.attempt),
                    repr(job.due_at.timestamp()),
                    job.queue,
                    job_data(job.task_id, job.attempt),
                ]
            with answering(self.redis):
                put += int(self._register(keys=[keys.SCHEDULED, keys.PLANTED], args=arguments))
        return put

    # --- out --------------------------------------------------------------------------------------------------------

    def move_due(self, limit: int = BATCH) -> Moved:
        """Move at most `limit` due jobs to their queues."""
        with answering(self.redis):
            answer = self._dispatch(
                keys=[keys.SCHEDULED, keys.QUEUES, keys.HANDOVER],
                args=[limit, keys.JOB_PREFIX, keys.QUEUE_PREFIX, rq_time()],
            )
        following, now, looked_at, dropped, handed_over, *ids = answer
        next_due = float(following) if following else None
        return Moved(tuple(ids), int(looked_at), int(dropped), int(handed_over), next_due, float(now))

    def enqueue_jobs(self) -> list[str]:
        """Move all that is due; the ids of the jobs. rq-scheduler's name for it."""
        ids: list[str] = []
        while True:
            moved = self.move_due()
            ids.extend(map(_text, moved.ids))
            if moved.looked_at < BATCH:
                return ids

    def withdraw(self, jobs: Iterable[tuple[int, int, str]]) -> int:
        """Take jobs, (task id, attempt, queue) each, out of wherever they wait; how many were found."""
        found = 0
        for some in _batches(jobs, REGISTER_AT_ONCE):
            arguments: list[Any] = [keys.JOB_PREFIX, keys.QUEUE_PREFIX]
            for task_id, attempt, queue in some:
                arguments += [job_id(task_id, attempt), queue]
            with answering(self.redis):
                found += int(self._withdraw(keys=[keys.SCHEDULED, keys.HANDOVER], args=arguments))
        return found

    def now(self) -> dt.datetime:
        """The server's clock: what due-ness is measured by here."""
        with answering(self.redis):
            seconds, micros = self.redis.time()
        return dt.datetime.fromtimestamp(seconds, dt.UTC) + dt.timedelta(microseconds=micros)

    # --- what is where ----------------------------------------------------------------------------------------------

    def waiting_ids(self) -> set[str]:
        """The ids in the sorted set; none when the key holds something else."""
        with answering(self.redis):
            return set(self._sorted_set_ids(keys.SCHEDULED))

    def queued_ids(self, queues: Iterable[str]) -> set[str]:
        """The ids in these queues."""
        with answering(self.redis):
            return {one for queue in queues for one in self._list_ids(f"{keys.QUEUE_PREFIX}{queue}")}

    def under_way_ids(self, queues: Iterable[str]) -> set[str]:
        """The ids that workers have taken and not finished."""
        with answering(self.redis):
            members = (one for queue in queues for one in self._sorted_set_ids(f"{keys.WIP_PREFIX}{queue}"))
            return {member.partition(":")[0] for member in members}

    def handed_over(self, limit: int = 100) -> list[str]:
        """Ids that the dispatch script could not move."""
        with answering(self.redis):
            return [_text(one) for one in _plain(self.redis.zrange(keys.HANDOVER, 0, limit - 1))]

    def clear_handed_over(self, ids: Sequence[str]) -> None:
        if ids:
            with answering(self.redis):
                self.redis.zrem(keys.HANDOVER, *map(_bytes, ids))

    def drop(self, ids: Iterable[str]) -> None:
        """Remove ids from the sorted set."""
        for some in _batches(ids, REGISTER_AT_ONCE):
            with answering(self.redis):
                self.redis.zrem(keys.SCHEDULED, *map(_bytes, some))

    def is_planted(self) -> bool:
        """False when Redis has lost its memory since the last registration (or never had any)."""
        with answering(self.redis):
            return bool(self.redis.exists(keys.PLANTED))

    def plant(self) -> None:
        """Remember that all that is wanted has been registered."""
        with answering(self.redis):
            self.redis.set(keys.PLANTED, rq_time())

    def depth(self, queue: str) -> int:
        with answering(self.redis):
            if self.redis.type(f"{keys.QUEUE_PREFIX}{queue}") != b"list":
                return 0
            return int(self.redis.llen(f"{keys.QUEUE_PREFIX}{queue}"))

    def mend_types(self, queues: Iterable[str]) -> list[str]:
        """Delete those of our keys that hold something of another type; their names."""
        expected = {keys.SCHEDULED: b"zset", keys.HANDOVER: b"zset", keys.QUEUES: b"set"}
        for queue in queues:
            expected[f"{keys.QUEUE_PREFIX}{queue}"] = b"list"
            expected[f"{keys.WIP_PREFIX}{queue}"] = b"zset"
        with answering(self.redis):
            wrong = [key for key, kind in expected.items() if self.redis.type(key) not in (kind, b"none")]
            if wrong:
                self.redis.delete(*wrong)
        return wrong

    def _sorted_set_ids(self, key: str) -> Iterator[str]:
        if self.redis.type(key) != b"zset":
            return
        start = 0
        while page := self.redis.zrange(key, start, start + READ_AT_ONCE - 1):
            yield from map(_text, _plain(page))
            start += len(page)

    def _list_ids(self, key: str) -> Iterator[str]:
        if self.redis.type(key) != b"list":
            return
        start = 0
        while page := self.redis.lrange(key, start, start + READ_AT_ONCE - 1):
            yield from map(_text, _plain(page))
            start += len(page)

    # --- rq-scheduler's other names ---------------------------------------------------------------------------------

    def acquire_lock(self) -> bool:
        """Not a lock but a fence: nobody of ours asks for it; a stock `rqscheduler` finds it taken."""
        with answering(self.redis):
            self.redis.set(self.scheduler_lock_key, time.time(), ex=FENCE_SECONDS)
        return True

    def remove_lock(self) -> None:
        """Left to expire: another dispatcher may rely on it."""

    def cancel(self, job: TaskJob | str) -> None:
        named = parse_job_id(job if isinstance(job, str) else job.id)
        if named is None:
            self.drop([job if isinstance(job, str) else job.id])
        else:
            self.withdraw([(*named, "" if isinstance(job, str) else job.origin)])

    def enqueue_at(self, *arguments: Any, **options: Any) -> NoReturn:
        raise Refused(_USE_THE_FILE)

    enqueue_in = schedule = cron = enqueue_job = change_execution_time = enqueue_at


_USE_THE_FILE = (
    "Jobs enter through the Task table: declare a schedule in schedules.yaml, or ask for one run with `scheduler run`."
)


def _plain(members: Any) -> list[bytes | str]:
    """What Redis answers for members without scores; redis-py's types allow for more."""
    return list(members)


def _text(value: bytes | str) -> str:
    """Any id as a text, also one that is no UTF-8: `_bytes` gives back what it was."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    some: list[Any] = []
    for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


def seconds_until(moved: Moved, at_most: float) -> float:
    """How long to sleep after a dispatch that left nothing due; by the server's clock, whatever the host's says."""
    if moved.next_due is None:
        return at_most
    return max(0.0, min(at_most, moved.next_due - moved.server_time))
