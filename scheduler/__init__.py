"""Scheduled jobs declared in one YAML file, queued by rq-scheduler, run by RQ workers, recorded in SQL.

What a task function needs stands here: `from scheduler import task, progress, log, stop_requested`, and `Text`, `Html`,
`Link` and `File` to return.
"""

from scheduler.context import log, progress, stop_requested
from scheduler.result_kinds import File, Html, Link, Text
from scheduler.task_functions import task

__version__ = "0.1.0"

__all__ = ["log", "progress", "stop_requested", "task", "File", "Html", "Link", "Text"]
