"""Task functions that show which process they run in."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from scheduler import context, stop_requested, task

_hoard: list[bytes] = []


def _begin(diary: str) -> None:
    with Path(diary).open("a") as file:
        file.write(f"{context.task_id} {context.attempt} {os.getpid()}\n")


def _rest() -> None:
    threading.Event().wait(0.02)


@task
def whoami(hoard_mb: int = 0) -> dict[str, Any]:
    """The process; it keeps `hoard_mb` MiB more from now on."""
    _hoard.append(os.urandom(1024) * 1024 * hoard_mb)
    return {"pid": os.getpid()}


@task
def hang_at_first(diary: str) -> dict[str, Any]:
    """Ends at its second attempt."""
    _begin(diary)
    while context.attempt == 1:
        _rest()
    return {"pid": os.getpid()}


@task
def swallow(diary: str) -> None:
    """Takes its timeout for an error like any other."""
    _begin(diary)
    while True:
        try:
            _rest()
        except BaseException:
            continue


@task
def until_stopped(diary: str) -> None:
    _begin(diary)
    while not stop_requested():
        _rest()


@task
def fail_at_first() -> dict[str, Any]:
    if context.attempt == 1:
        raise RuntimeError("the first attempt fails")
    return {"pid": os.getpid()}
