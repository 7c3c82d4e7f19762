"""Between a worker's parent and its child: lines of JSON one way, signals the other, and the lease's end in memory.

The child says: idle; taking (task, attempt, token); running (soft, hard: its timeouts in seconds; secrets: what its log
must not show); progress; ending, when the function has returned; free, when it is done with the task; bye, when it ends
in good order. What the function prints and logs goes another way (capture.py).
"""

from __future__ import annotations

import json
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

    def __init__(self, parent: ToParent, mask: Callable[[str], str] = str) -> None:
        self._parent = parent
        self._mask = mask
        self._told_at = -math.inf
        self.latest: dict[str, Any] | None = None

    def report(self, progress: dict[str, Any]) -> None:
        self.latest = {
            "done": _number(progress["done"]),
            "total": _number(progress["total"]),
            "message": self._mask(storable(progress["message"])),
            "at": utc_now().isoformat(),
        }
        if time.monotonic() - self._told_at >= PROGRESS_EVERY:
            self._told_at = time.monotonic()
            self._parent.say("progress", progress=self.latest)


def storable(text: str) -> str:
    """A text that both databases take: no NUL, no half characters."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _number(value: Any) -> float | int | None:
    """A number that JSON knows, or None."""
    if value is None:
        return None
    number = value if isinstance(value, int) else float(value)
    return number if abs(number) < 1e300 else None
