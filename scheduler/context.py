"""What a task function may ask and tell while it runs: `progress`, `log`, `stop_requested`, and who it is.

Outside a run all of it works and does nothing, so that task functions can be called and tested as plain functions.
`scheduler.context.attempt`, `.task_id`, `.schedule`, `.fire_time`, `.idempotency_key`, `.kind`, `.deadline` are those
of the run under way, and None outside one.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any

log = logging.getLogger("task")
"""The logger of task functions; what goes here, or to any other logger, is kept with the run."""


@dataclass(frozen=True)
class Run:
    """One attempt under way, as its task function may see it."""

    task_id: int
    attempt: int  # 1, 2, …
    kind: str
    idempotency_key: str  # the same for every attempt of one occurrence
    schedule: str | None = None
    fire_time: dt.datetime | None = None
    deadline: dt.datetime | None = None  # when the soft timeout ends it
    report_progress: Callable[[dict[str, Any]], None] = field(default=lambda progress: None, repr=False)
    is_stop_requested: Callable[[], bool] = field(default=lambda: False, repr=False)
    ask_origin: Callable[[], str] = field(default=lambda: "", repr=False)
    settings: Any = field(default=None, repr=False)  # the service's, for its own task functions (engine/service_tasks)


_current: ContextVar[Run | None] = ContextVar("run", default=None)
_NAMES = frozenset(f.name for f in fields(Run)) - {"report_progress", "is_stop_requested", "ask_origin", "settings"}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        run = _current.get()
        return None if run is None else getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Make `run` the one under way inside the block."""
    mark = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(mark)


def current_run() -> Run | None:
    """The run under way; None outside one."""
    return _current.get()


def progress(done: float, total: float | None = None, message: str = "") -> None:
    """Say how far the run is: `done` of `total` (any unit; None when unknown), and what it is at.

    Shown while it runs. Cheap enough for a tight loop: only the latest value is written, about once a second.
    """
    run = _current.get()
    if run is not None:
        run.report_progress({"done": done, "total": total, "message": str(message)[:500]})


def stop_requested() -> bool:
    """Whether someone asked this run to end; a long function asks now and then, cleans up, and returns or raises."""
    run = _current.get()
    return run is not None and run.is_stop_requested()


def origin() -> str:
    """What tells messages of this installation from those of every other with the same keys; "" outside a run.

    Asked of the database, each time. Raises DatabaseAway.
    """
    run = _current.get()
    return "" if run is None else run.ask_origin()
