"""The keys in Redis, and what each holds. RQ's and rq-scheduler's own names, so that their tools see our jobs.

rq:scheduler:scheduled_jobs   sorted set   job id -> due time, unix seconds      where jobs wait
rq:queue:<queue>              list         job ids, taken from the left          where workers take them
rq:queues                     set          the keys of all queues
rq:job:<id>                   hash         RQ's record of a job; ours says nothing but «task 17, attempt 2»
rq:wip:<queue>                sorted set   "<job id>:1" of those under way -> when RQ may think them abandoned
rq:scheduler:handover         sorted set   ids that the dispatcher could not move by itself -> since when
rq:scheduler:planted          string       set when the sorted set was last filled; gone means Redis lost its memory
rq:scheduler:wake             channel      a job earlier than all others has come
"""

from __future__ import annotations

import re

from rq.defaults import RQ_KEY_PREFIX as RQ_KEY_PREFIX

from scheduler.clock import utc_now

SCHEDULED = f"{RQ_KEY_PREFIX}:scheduler:scheduled_jobs"
HANDOVER = f"{RQ_KEY_PREFIX}:scheduler:handover"
PLANTED = f"{RQ_KEY_PREFIX}:scheduler:planted"
WAKE = f"{RQ_KEY_PREFIX}:scheduler:wake"
QUEUES = f"{RQ_KEY_PREFIX}:queues"
QUEUE_PREFIX = f"{RQ_KEY_PREFIX}:queue:"
JOB_PREFIX = f"{RQ_KEY_PREFIX}:job:"
WIP_PREFIX = f"{RQ_KEY_PREFIX}:wip:"
WORKER_PREFIX = f"{RQ_KEY_PREFIX}:worker:"

LARGEST_ID = 2**63 - 1  # what SQL can hold; a larger number would make every query that names it fail

_JOB_ID = re.compile(r"task-([1-9][0-9]{0,18})-([1-9][0-9]{0,5})\Z")


def job_id(task_id: int, attempt: int) -> str:
    """RQ's name for an attempt: the same every time, so that a job pushed twice is one job."""
    return f"task-{task_id}-{attempt}"


def parse_job_id(text: str | bytes) -> tuple[int, int] | None:
    """(task id, attempt), or None for an id that is not ours."""
    found = _JOB_ID.match(text.decode("ascii", "replace") if isinstance(text, bytes) else text)
    if found is None or int(found[1]) > LARGEST_ID:
        return None
    return int(found[1]), int(found[2])


def rq_time() -> str:
    """This moment as RQ writes moments into its hashes."""
    return utc_now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
