"""Task functions that show which process they run in."""

from __future__ import annotations

import io
import logging.config
import os
import resource
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from scheduler import File, context, stop_requested, task

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


@task
def look_around() -> dict[str, Any]:
    """What a function finds of its process; a line is printed and one logged."""
    print("printed")  # noqa: T201 - that it gets into the log is what is tested
    logging.getLogger("worker_tasks").info("logged")
    return {
        "folder": str(Path.cwd()),
        "umask": Path("/proc/self/status").read_text().split("Umask:\t")[1].split()[0],
        "handlers": [_name_of(signal.getsignal(one)) for one in sorted(signal.valid_signals())],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }


def _name_of(handler: Any) -> str:
    """Without its address, which is another one in each forked child."""
    return getattr(handler, "__qualname__", str(handler))


@task
def leave_a_mess() -> File:
    """Changes all of its process that is another function's too; its file is found by the folder it is in by then."""
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    os.chdir(tempfile.mkdtemp())
    Path("note.txt").write_text("hello")
    logging.config.dictConfig({"version": 1, "root": {"level": "ERROR", "handlers": []}})
    logging.disable()
    sys.stdout = sys.stderr = io.StringIO()
    os.close(1)
    os.close(2)
    return File("note.txt")


@task
def use_up_files(returns: bool) -> dict[str, Any]:
    """Opens files until no more can be opened, and leaves them so."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with suppress(OSError):
        while True:
            os.open(os.devnull, os.O_RDONLY)
    if not returns:
        raise RuntimeError("too many open files")
    return {"pid": os.getpid()}
