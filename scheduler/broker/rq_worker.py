"""The Redis side of a worker: known to RQ by name, takes jobs and tells what became of them.

An rq.Worker, so that `rqinfo`, dashboards and `rq` commands see it; but the job never passes through RQ's own loop.
One script call finishes the last job and takes the next. SQL decides what a job means (engine/work/worker.py).
"""

from __future__ import annotations

import time
from typing import Any

import redis
from redis.exceptions import ResponseError
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from scheduler.broker import keys, scripts
from scheduler.broker.connection import answering
from scheduler.broker.job import TaskJob
from scheduler.broker.keys import rq_time

ABANDONED_AFTER = 7 * 86_400  # seconds until RQ's own clean-up may think a job abandoned; ours is faster, from SQL


class RqWorker(Worker):
    """A worker of one queue, as RQ knows it."""

    job_class = TaskJob

    def __init__(self, queue: str, connection: redis.Redis, name: str) -> None:
        with answering(connection):
            super().__init__(
                [Queue(queue, connection=connection, job_class=TaskJob, serializer=JSONSerializer)],
                name=name,
                connection=connection,
                job_class=TaskJob,
                serializer=JSONSerializer,
            )
        self.queue_name = queue

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        return connection  # RQ would raise the pool's time-outs; ours are set on purpose

    def birth(self) -> None:
        with answering(self.connection):
            self.connection.delete(self.key)  # a worker of this name that died without a word
            self.register_birth()  # type: ignore[no-untyped-call]

    def beat(self) -> None:
        """Say that it lives; comes back by itself when Redis has forgotten it."""
        with answering(self.connection):
            if not self.connection.exists(self.key):
                self.register_birth()  # type: ignore[no-untyped-call]
            self.heartbeat(self.worker_ttl + 60)

    def death(self) -> None:
        with answering(self.connection):
            self.register_death()  # type: ignore[no-untyped-call]


class JobFeed:
    """The jobs of one queue, for the process that runs them."""

    def __init__(self, queue: str, connection: redis.Redis, worker_name: str) -> None:
        self.connection = connection
        self._queue_key = f"{keys.QUEUE_PREFIX}{queue}"
        self._keys = [self._queue_key, f"{keys.WIP_PREFIX}{queue}", f"{keys.WORKER_PREFIX}{worker_name}"]
        self._worker_name = worker_name
        self._script = connection.register_script(scripts.FINISH_AND_TAKE)

    def wait(self, seconds: int) -> bool:
        """Whether a job is there within `seconds`. Nothing is taken: the list is turned onto itself, which leaves it as
        it was, so that a process that dies here takes no job with it."""
        try:
            with answering(self.connection):
                return self.connection.blmove(self._queue_key, self._queue_key, seconds, "LEFT", "LEFT") is not None
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            time.sleep(seconds)  # garbage stands where the queue belongs; reconcile clears it away
            return False

    def take(self, done: str = "", status: str = "finished") -> str | None:
        """Tell what became of job `done` and take the next one; its id, None when there is none."""
        return self._call(done, status, "take")

    def finish(self, done: str, status: str) -> None:
        """Tell what became of job `done`; take none."""
        self._call(done, status, "")

    def _call(self, done: str, status: str, take: str) -> str | None:
        abandoned_at = int(time.time()) + ABANDONED_AFTER
        arguments: list[str | int] = [keys.JOB_PREFIX, self._worker_name, rq_time(), abandoned_at, done, status, take]
        with answering(self.connection):
            taken: Any = self._script(keys=self._keys, args=arguments)
        return taken.decode("utf-8", "replace") if isinstance(taken, bytes) else None
