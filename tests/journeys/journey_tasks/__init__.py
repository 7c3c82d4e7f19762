"""Task functions of the journeys. Each writes its start and end to a diary outside the service, so that a test can hold
what the Task table says against what really ran."""

# ruff: noqa: T201 - that a run prints is what is tested

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from scheduler import File, context, log, progress, stop_requested, task


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
    if how == "hold GIL":  # no signal is heard and no thread runs, for hours
        max(range(10**15))
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
    if how == "leave child and return":
        if os.fork() == 0:
            rest(30)
            os._exit(0)
        return {"left": "a child"}
    if how == "close files":
        os.closerange(3, 100)
    if how == "nan":
        return {"value": float("nan")}
    return {}


@task(kind="long")
def misbehave_long(diary: str, how: str) -> Any:
    """The same in a child that is forked for it alone."""
    return misbehave(diary, how)


@task
def tell(diary: str, password: str) -> Any:
    """Says what it has to say in every way there is, then fails with secrets in its mouth."""
    note(diary, "start")
    print("to standard output", end="")
    log.warning("logged with %s in two\nlines", [os.environ["CANARY_TOKEN"], password])
    sys.stderr.write("to standard error\n")
    warnings.warn("about to end", stacklevel=1)
    subprocess.run([sys.executable, "-c", "print('from a process of its own')"], check=True)
    print("\x1b[32mgreen\x1b[0m, \x00NUL, \ud800, 10 %\r100 %")
    os.write(1, b"\xff is no letter\n")
    print("x" * 100_000)
    if os.fork() == 0:  # left behind, with all that it has inherited
        os.setsid()
        rest(8)
        os._exit(0)
    token = os.environ["CANARY_TOKEN"]
    print(f"{token} and {password}")
    progress(1, 2, f"with {token}")
    print("the last line has no end", end="")
    try:
        raise KeyError(f"no {token}")
    except KeyError as error:
        raise RuntimeError(f"not with {password} at https://jana:{password}@example.com") from error


@task(kind="long")
def flood(diary: str, lines: int) -> dict[str, Any]:
    """Says too much."""
    note(diary, "start")
    for number in range(lines):
        print("line", number)
    return {"lines": lines, "token": os.environ["CANARY_TOKEN"], "seen": f"{os.environ['CANARY_TOKEN']}!"}


@task(kind="long")
def print_and_die(diary: str) -> None:
    note(diary, "start")
    print("a whole line")
    print("half a li", end="", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


@task
def leave_files(diary: str, folder: str) -> list[File]:
    note(diary, "start")
    first, second = Path(folder, "a.txt"), Path(folder, "b.bin")
    first.write_text("one")
    second.write_bytes(b"two")
    return [File(first, name="../../report\n.txt"), File(second, keep=False)]
