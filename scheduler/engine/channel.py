"""Between a worker's parent and its child: lines of JSON one way, signals the other, and the lease's end in memory.

The child says: idle; taking (task, attempt, token); running (soft, hard: its timeouts in seconds); progress; log (a
line); ending, when the function has returned; free, when it is done with the task; bye, when it ends in good order.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import mmap
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from scheduler.clock import utc_now

PROGRESS_EVERY = 0.5  # seconds
LONGEST_LINE = 4_000  # characters of one line of the log


class Deadline:
    """Until when, in seconds since boot, the child may go on with its task: the end of its lease.

    Shared memory: the child sets it when it claims a task, the parent moves it on at each renewal. 0: there is no task.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def set(self, seconds: float) -> None:
        self._memory[:] = int(seconds * 1_000_000).to_bytes(8, "little")

    def get(self) -> float:
        return int.from_bytes(self._memory[:], "little") / 1_000_000


class ToParent:
    """The child's end of the channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()

    def say(self, word: str, **details: Any) -> None:
        line = json.dumps({"say": word, **details}).encode() + b"\n"
        with self._lock:
            try:
                self._channel.sendall(line)
            except OSError:
                os._exit(1)  # the parent is gone; so is the lease


class FromChild:
    """The parent's end of the channel."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self._rest = b""

    def messages(self) -> list[dict[str, Any]] | None:
        """What has come; nothing yet: an empty list; the child has closed its end: None."""
        try:
            received = self.channel.recv(1 << 20)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not received:
            return None
        *lines, self._rest = (self._rest + received).split(b"\n")
        return [json.loads(line) for line in lines]


class ProgressTeller:
    """Tells the parent the progress of a run now and then, and keeps the latest for its end."""

    def __init__(self, parent: ToParent) -> None:
        self._parent = parent
        self._told_at = -math.inf
        self.latest: dict[str, Any] | None = None

    def report(self, progress: dict[str, Any]) -> None:
        self.latest = {
            "done": _number(progress["done"]),
            "total": _number(progress["total"]),
            "message": storable(progress["message"]),
            "at": utc_now().isoformat(),
        }
        if time.monotonic() - self._told_at >= PROGRESS_EVERY:
            self._told_at = time.monotonic()
            self._parent.say("progress", progress=self.latest)


class LogToParent(logging.Handler):
    """Sends what a task logs to the parent, which keeps it even when the child is killed."""

    def __init__(self, parent: ToParent, is_running: Callable[[], bool]) -> None:
        super().__init__(logging.INFO)
        self._parent = parent
        self._is_running = is_running

    def emit(self, record: logging.LogRecord) -> None:
        if not self._is_running():
            return
        try:
            moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
            text = storable(record.getMessage())[:LONGEST_LINE].replace("\r", "").replace("\n", "\n    ")
            self._parent.say("log", line=f"{moment:%H:%M:%S} {record.levelname} {text}")
        except Exception:  # a record that cannot be formatted must not fail the task
            self.handleError(record)


def storable(text: str) -> str:
    """A text that both databases take: no NUL, no half characters."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _number(value: Any) -> float | int | None:
    """A number that JSON knows, or None."""
    if value is None:
        return None
    number = value if isinstance(value, int) else float(value)
    return number if abs(number) < 1e300 else None
