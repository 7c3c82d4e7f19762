"""The one job there is: «look at task 17, attempt 2».

From Redis a worker learns nothing else. Whoever can write to Redis cannot name a function, a callback or an argument:
`TaskJob` refuses anything but the one function and two numbers, before anything is imported or unpickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from rq.job import Job
from rq.serializers import JSONSerializer

from scheduler.broker.keys import parse_job_id
from scheduler.errors import Refused

FUNCTION = "scheduler.broker.job.run_task"
MOST_BYTES = 200  # of a job's data; ours has about sixty

# Fields by which RQ would call, chain or limit things that we never ask for.
FOREIGN_FIELDS = frozenset(
    {
        "success_callback_name",
        "failure_callback_name",
        "stopped_callback_name",
        "webhooks",
        "dependency_id",
        "dependency_ids",
        "group_id",
        "rate_limit_key",
        "repeats_left",
        "retries_left",
        "retry_intervals",
        "meta",
    }
)

_runner: Callable[[int, int], None] | None = None


def job_data(task_id: int, attempt: int) -> str:
    """What stands in the job's `data`: JSON, uncompressed (RQ takes both)."""
    return json.dumps([FUNCTION, None, [task_id, attempt], {}])


def run_task(task_id: int, attempt: int) -> None:
    """What a job calls. The worker process says beforehand what that means (`run_tasks_with`)."""
    if _runner is None:
        raise Refused("this process is no worker of the service: start one with `scheduler start worker`")
    _runner(task_id, attempt)


def run_tasks_with(runner: Callable[[int, int], None]) -> None:
    global _runner
    _runner = runner


class TaskJob(Job):
    """An RQ job that can be nothing but an attempt at a task."""

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:
        super().__init__(id=id, connection=connection, serializer=JSONSerializer)

    def restore(self, raw_data: dict[Any, Any]) -> None:
        """Take over the job's hash; raises Refused for one that is not ours."""
        fields = {_text(name): value for name, value in raw_data.items()}
        foreign = {
            name for name in FOREIGN_FIELDS & set(fields) if fields[name] not in (b"", "", b"{}", b"[]", b"null")
        }
        if foreign:
            raise Refused(f"job {self.id} carries {', '.join(sorted(foreign))}, which no job of ours has")
        check_data(self.id, fields.get("data", b""))
        super().restore(raw_data)

    @property
    def func(self) -> Callable[..., Any]:
        return run_task

    def _deserialize_data(self) -> None:
        task_id, attempt = check_data(self.id, self.data)
        self._func_name, self._instance = FUNCTION, None
        self._args, self._kwargs = (task_id, attempt), {}


def check_data(job_id: str, data: bytes | str) -> tuple[int, int]:
    """(task id, attempt) from a job's data. Raises Refused unless it is exactly what we write for this job id."""
    raw = data.encode() if isinstance(data, str) else bytes(data)
    named = parse_job_id(job_id)
    if named is None:
        raise Refused(f"job {job_id!r} is not ours")
    if len(raw) > MOST_BYTES or re.sub(rb"\s", b"", raw) != re.sub(r"\s", "", job_data(*named)).encode():
        raise Refused(f"job {job_id} asks for something else than its task; it was not written by this service")
    return named


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
