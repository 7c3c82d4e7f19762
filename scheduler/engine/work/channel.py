"""Between a worker's parent and its child: lines of JSON one way, signals the other, and three numbers in memory.

The child says: idle; taking (task, attempt, token, number: the how manieth of this child's tasks it is); running (hard:
its timeout in seconds; secrets: what its log must not show); progress; free, when it is done with the task, though not
before it says what it does next; bye, when it ends in good order. What the function prints and logs goes another way
(capture.py).
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
    Beside it stand the number of the task that is to stop, which the parent writes, and of that whose function has
    returned, which the child writes: as numbers, so that neither can be taken for the task before or after.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 24)

    def set(self, seconds: float) -> None:
        self._write(0, int(seconds * 1_000_000))

    def get(self) -> float:
        return self._read(0) / 1_000_000

    @property
    def stop_number(self) -> int:
        return self._read(8)

    @stop_number.setter
    def stop_number(self, number: int) -> None:
        self._write(8, number)

    @property
    def returned_number(self) -> int:
        return self._read(16)

    @returned_number.setter
    def returned_number(self, number: int) -> None:
        self._write(16, number)

    def clear(self) -> None:
        self._memory[:] = bytes(24)

    def _write(self, at: int, number: int) -> None:
        self._memory[at : at + 8] = number.to_bytes(8, "little")

    def _read(self, at: int) -> int:
        return int.from_bytes(self._memory[at : at + 8], "little")


class ToParent:
    """The child's end of the channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._kept = b""
        self._identity = self._identity_of(channel.fileno())

    def expect_open(self) -> None:
        """End the process when the function that ran has closed the channel: then it has closed SQL's file and Redis'
        connection too, and their numbers may by now be those of other files, which we would write to."""
        if self._identity_of(self._channel.fileno()) != self._identity:
            os._exit(1)

    @staticmethod
    def _identity_of(descriptor: int) -> tuple[int, int] | None:
        try:
            found = os.fstat(descriptor)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def say(self, word: str, **details: Any) -> None:
        with self._lock:
            said, self._kept = self._kept + _line(word, details), b""
            try:
                self._channel.sendall(said)
            except OSError:
                os._exit(1)  # the parent is gone; so is the lease

    def say_later(self, word: str, **details: Any) -> None:
        """Say it along with the next thing: each time that something is said wakes the parent."""
        with self._lock:
            self._kept += _line(word, details)


def _line(word: str, details: dict[str, Any]) -> bytes:
    return json.dumps({"say": word, **details}).encode() + b"\n"


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
