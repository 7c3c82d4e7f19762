"""Task functions of the journeys. Each writes its start and end to a diary outside the service, so that a test can hold
what the Task table says against what really ran."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from scheduler import context, log, progress, stop_requested, task


def note(diary: str, word: str) -> None:
    """One line a moment: what happened, task id, attempt, process, time."""
    line = f"{word} {context.task_id} {context.attempt} {os.getpid()} {time.time():.3f}\n"
    descriptor = os.open(diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def rest(seconds: float) -> None:
    """Work a while."""
    threading.Event().wait(seconds)


@task
def quick(diary: str) -> dict[str, Any]:
    note(diary, "start")
    note(diary, "end")
    return {"attempt": context.attempt, "key": context.idempotency_key}


@task
def wait_for_file(diary: str, file: str, first_attempts: int = 99) -> dict[str, Any]:
    """Ends once `file` is there; from attempt `first_attempts` + 1 on at once."""
    note(diary, "start")
    while (context.attempt or 1) <= first_attempts and not Path(file).exists():
        rest(0.02)
    note(diary, "end")
    return {"attempt": context.attempt}


@task(kind="long")
def long_steps(diary: str, file: str) -> dict[str, Any]:
    """Reports progress until `file` is there or it is asked to stop."""
    note(diary, "start")
    step = 0
    try:
        while not Path(file).exists() and not stop_requested():
            step += 1
            progress(step, 1000, f"step {step}")
            log.info("step %d", step)
            rest(0.05)
    finally:
        note(diary, "cleaned")
    return {"steps": step}


@task(kind="long")
def nap(diary: str, seconds: float) -> dict[str, Any]:
    note(diary, "start")
    rest(seconds)
    note(diary, "end")
    return {"attempt": context.attempt}


@task
def fail_first(diary: str, times: int) -> dict[str, Any]:
    note(diary, "start")
    if (context.attempt or 1) <= times:
        raise RuntimeError(f"attempt {context.attempt} fails on purpose")
    note(diary, "end")
    return {"attempt": context.attempt}


@task
def misbehave(diary: str, how: str) -> Any:
    """Does what no task should; each way must end as one end, and leave the next task unharmed."""
    note(diary, "start")
    if how == "os._exit":
        os._exit(0)
    if how == "sys.exit":
        raise SystemExit(3)
    if how == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "swallow":  # takes the soft timeout for an error like any other
        while True:
            try:
                rest(60)
            except BaseException:
                note(diary, "swallowed")
    if how == "hold":  # blocks the interpreter's signals: the main thread never comes back from C
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        threading.Event().wait()
    if how == "fork":  # both come back
        if os.fork() == 0:
            return {"who": "the fork"}
        return {"who": "the task"}
    if how == "leave child":  # a process of its own session, which holds what it has inherited
        if os.fork() == 0:
            os.setsid()
            rest(5)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "close files":
        os.closerange(3, 100)
    if how == "nan":
        return {"value": float("nan")}
    return {}
