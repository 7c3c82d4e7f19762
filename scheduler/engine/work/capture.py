"""What a task function prints, and whatever it starts, reaches the parent by two pipes: standard output and error.

The parent owns the ends that are read, so a child that is killed takes nothing with it. It reads what is there and
never waits for an end: a process that was left behind may hold the other end open for ever.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper

from scheduler.rules.task.log_lines import OutputReader, Piece, clean_line, mark
from scheduler.rules.task.masking import Masker

AT_ONCE = 65_536  # bytes a turn of the parent's loop; a pipe holds no more
OUT, ERR = "OUT", "ERR"
STANDARD_OUTPUT, STANDARD_ERROR = 1, 2


class OutputPipes:
    """The two pipes, as they are before the fork."""

    def __init__(self) -> None:
        self._ends = {OUT: os.pipe(), ERR: os.pipe()}

    def for_parent(self) -> list[OutputStream]:
        """The ends to read; the others are closed here."""
        for _, write in self._ends.values():
            os.close(write)
        return [OutputStream(read, level) for level, (read, _) in self._ends.items()]

    def for_child(self, masker: Masker) -> ChildOutput:
        """Make the pipes this process's output and error; its own log goes on to where error was, masked."""
        for read, _ in self._ends.values():
            os.close(read)
        return ChildOutput(self._ends[OUT][1], self._ends[ERR][1], masker)


class OutputStream:
    """The parent's end of a pipe."""

    def __init__(self, descriptor: int, level: str) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.level = level
        self.is_open = True
        self._reader = OutputReader()

    def fileno(self) -> int:
        return self.descriptor

    def read(self, token: str) -> list[Piece]:
        """What has come for the attempt `token`; a bounded piece of it."""
        data = b""
        if self.is_open and not self._reader.is_waiting:
            try:
                data = os.read(self.descriptor, AT_ONCE)
                self.is_open = data != b""
            except BlockingIOError:
                pass
            except OSError:
                self.is_open = False
        return self._reader.take(data, token)

    def read_rest(self, token: str) -> list[Piece]:
        """All there is of an attempt that has ended; it ends at its mark, or where its process died."""
        pieces: list[Piece] = []
        for _ in range(4):  # a full pipe, and what is left of a line; not more: somebody may go on writing
            pieces += self.read(token)
            if self._reader.owner != token:
                return pieces
        return pieces + self._reader.finish()

    def close(self) -> None:
        os.close(self.descriptor)


class ChildOutput:
    """The child's ends, and what marks in them whose output it is."""

    def __init__(self, out: int, err: int, masker: Masker) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        self.masker = masker  # of the run
        _keep_own_log_at(os.dup(STANDARD_ERROR), lambda line: self.masker.text(line))
        self._descriptors = (out, err)
        os.dup2(out, STANDARD_OUTPUT)
        os.dup2(err, STANDARD_ERROR)
        # New ones: those that were made for a file cannot be turned to a pipe.
        sys.__stdout__, sys.__stderr__ = _lines_to(STANDARD_OUTPUT), _lines_to(STANDARD_ERROR)  # type: ignore[misc]
        self._streams = sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        logging.captureWarnings(True)

    def begin(self, token: str) -> None:
        self._write_all(mark("B", token))

    def end(self, token: str) -> None:
        for stream in (sys.stdout, sys.stderr, *self._streams):
            with suppress(Exception):  # closed, or replaced by something odd
                stream.flush()
        self._put_back()
        self._write_all(mark("E", token))

    def _put_back(self) -> None:
        """Lead output and error to the pipes again where the function has turned or closed them. At once: a connection
        that is opened next would get the number of a closed one, and what is printed would go there."""
        sys.stdout, sys.stderr = self._streams
        for pipe, standard in zip(self._descriptors, (STANDARD_OUTPUT, STANDARD_ERROR), strict=True):
            if not _is_same(pipe, standard):
                with suppress(OSError):  # the function closed the pipe, too
                    os.dup2(pipe, standard)

    def record(self, line: str) -> None:
        """A line that came through `logging`, in order with what is printed to standard output."""
        with suppress(Exception):
            sys.stdout.flush()
        _write(self._descriptors[0], mark("L", line))

    def _write_all(self, data: bytes) -> None:
        for descriptor in self._descriptors:
            with suppress(OSError):  # the function closed it
                _write(descriptor, data)


class LogToParent(logging.Handler):
    """Sends what a task logs to the parent, which keeps it even when the child is killed."""

    def __init__(self, output: ChildOutput) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(message)s"))  # with the traceback of log.exception
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            first, *more = self.format(record).rstrip().split("\n")
            moment = time.strftime("%H:%M:%S", time.gmtime(record.created))
            self._output.record(f"{moment} {record.levelname} {clean_line(first)}")
            for line in more:
                self._output.record(f"    {clean_line(line)}")
        except Exception:  # a record that cannot be formatted must not fail the task
            self.handleError(record)


class Masked(logging.Formatter):
    """Writes a record as another formatter does, but for the secrets in it."""

    def __init__(self, plain: logging.Formatter | None, mask: Callable[[str], str]) -> None:
        super().__init__()
        self._plain = plain or logging.Formatter()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(self._plain.format(record))


def _keep_own_log_at(descriptor: int, mask: Callable[[str], str]) -> None:
    """Let the handlers that write to the error output write to `descriptor`, which is where that led so far; what tasks
    log comes through them, too."""
    own = _lines_to(descriptor)
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.stdout):
            handler.setStream(own)
            handler.setFormatter(Masked(handler.formatter, mask))
            handler.setLevel(max(handler.level, root.level))
    root.setLevel(min(root.level, logging.INFO))  # what a run logs is kept, however quiet the service itself is


def _is_same(one: int, other: int) -> bool:
    """Whether two descriptors lead to one file."""
    try:
        return os.path.sameopenfile(one, other)
    except OSError:
        return False


def _lines_to(descriptor: int) -> TextIOWrapper:
    """A stream that takes any letter, and shows each line as soon as it is whole."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it; waits for the parent to read, also where another process made the pipe non-blocking."""
    while True:
        try:
            os.write(descriptor, data)  # whole: it is no longer than what a pipe takes at once
            return
        except BlockingIOError:
            select.select([], [descriptor], [])
