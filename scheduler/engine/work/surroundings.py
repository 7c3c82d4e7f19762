"""What belongs to the whole process, and a task function may change or use up: put back after each call, so that the
next task finds what the first one found.

Threads that go on, the environment, locale and limits of the system are not put back: what they mean to whoever set
them nobody can know. `isolation: fork` keeps those apart, too.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

SPARE = 8  # descriptors kept back: a connection to SQL, with SQLite's three files, and one to Redis can still be opened


class Surroundings:
    """The process as it is now: folder, umask, signal handlers and mask, the handlers of the log."""

    def __init__(self) -> None:
        self._folder = Path.cwd()
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._log_handlers = list(logging.root.handlers)
        self._log_level = logging.root.level
        self._silent = {logger for logger in _loggers() if logger.disabled}
        self._spare = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(SPARE)]

    def put_back(self) -> None:
        """Make it so again; takes some 30 µs."""
        with suppress(OSError):  # the folder is gone: so it is for everybody
            os.chdir(self._folder)
        os.umask(self._umask)
        for number, handler in self._handlers.items():
            if signal.getsignal(number) is not handler and handler is not None:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        self._put_back_log()
        if self._lowest_free() is None:
            self._free_spare()

    def are_worn(self) -> bool:
        """Whether so many files were left open that the process had better be replaced."""
        lowest, most = self._lowest_free(), resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return not self._spare or lowest is None or (most != resource.RLIM_INFINITY and lowest > most // 2)

    def _put_back_log(self) -> None:
        logging.disable(logging.NOTSET)
        if logging.root.handlers != self._log_handlers:
            logging.root.handlers[:] = self._log_handlers
            for logger in _loggers():  # logging.config disables all that it does not name
                logger.disabled = logger in self._silent
        if logging.root.level != self._log_level:
            logging.root.setLevel(self._log_level)

    def _lowest_free(self) -> int | None:
        """The number that the next file would get; None when none can be opened."""
        try:
            descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        os.close(descriptor)
        return descriptor

    def _free_spare(self) -> None:
        for descriptor in self._spare:
            with suppress(OSError):  # the function closed it
                os.close(descriptor)
        self._spare = []


def _loggers() -> list[logging.Logger]:
    return [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
