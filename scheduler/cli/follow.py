"""`scheduler show ID --follow`: how far a task is, until it has ended; a bar on a terminal, else a line a change."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from scheduler.cli.tables import clean, show
from scheduler.clock import parse_iso
from scheduler.rules.states import FINAL
from scheduler.rules.task.pace import Pace, pace_of

LOOK_EVERY = 0.5  # seconds


def follow(look: Callable[[], dict[str, Any]], *, quiet: bool = False) -> dict[str, Any]:
    """Show how far the task is until it has ended; the task as it was then.

    `look` gives it anew; `quiet` only waits.
    """
    steps = _until_its_end(look)
    if quiet:
        return list(steps)[-1]
    return _with_a_bar(steps) if sys.stdout.isatty() else _line_by_line(steps)


def pace_of_task(task: dict[str, Any]) -> Pace:
    """From the start of its latest attempt."""
    progress, attempts = task["progress"], task["attempts"]
    if not progress or not attempts or not progress.get("at"):
        return pace_of(progress, None)
    return pace_of(progress, parse_iso(progress["at"]) - parse_iso(attempts[-1]["started_at"]))


def progress_line(task: dict[str, Any]) -> str:
    """Such as «task 7 running  42 %, 3.2 a second, 12 s left  128 px»."""
    head = f"task {task['id']} {task['state']}"
    progress, pace = task["progress"], pace_of_task(task)
    if task["state"] in FINAL or not progress:
        return head
    share = _percent(pace) or f"{progress.get('done', '')}"
    numbers = ", ".join(filter(None, (share, str(pace))))
    return "  ".join(filter(None, (head, numbers, clean(str(progress.get("message") or "")))))


def _until_its_end(look: Callable[[], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    while True:
        task = look()
        yield task
        if task["state"] in FINAL:
            return
        time.sleep(LOOK_EVERY)


def _line_by_line(steps: Iterator[dict[str, Any]]) -> dict[str, Any]:
    told = ""
    for task in steps:
        line = progress_line(task)
        if line != told and task["state"] not in FINAL:  # of its end the whole is shown
            show(line)
            told = line
    return task


def _with_a_bar(steps: Iterator[dict[str, Any]]) -> dict[str, Any]:
    # Here, since only this needs it, and it takes its time to import.
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    columns = (
        TextColumn("task {task.fields[id]} {task.fields[stands]}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[numbers]}", markup=False),
        # Last, and cut where the line ends: a task's message may be long.
        TextColumn("{task.fields[message]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, transient=True) as bars:
        line = bars.add_task("", total=None, id="", stands="", numbers="", message="")
        for task in steps:
            pace = pace_of_task(task)
            bars.update(
                line,
                total=None if pace.share is None else 1.0,
                completed=pace.share or 0.0,
                id=task["id"],
                stands=task["state"],
                numbers=", ".join(filter(None, (_percent(pace), str(pace)))),
                message=clean(str((task["progress"] or {}).get("message") or "")),
            )
    return task


def _percent(pace: Pace) -> str:
    return "" if pace.share is None else f"{pace.share:.0%}".replace("%", " %")
