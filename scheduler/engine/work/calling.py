"""Calls a task function so that it can be timed out and stopped, and tells how it ended as a value.

Signals do the work: SIGALRM is the soft timeout, SIGUSR1 tells of a request to stop, SIGUSR2 is the interruption of a
function that did not. What they raise is raised inside the function only, never in the code round it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from scheduler.context import Run, running
from scheduler.engine.work.artifacts import Kept, keep_files
from scheduler.engine.work.channel import storable
from scheduler.engine.work.processes import peak_memory
from scheduler.errors import SchedulerError
from scheduler.rules.states import CANCELLED, FAILED, TIMED_OUT
from scheduler.rules.task.arguments import bind_arguments
from scheduler.rules.task.masking import Masker
from scheduler.rules.task.results import encode_returned
from scheduler.store.tasks import AttemptEnd
from scheduler.task_functions import Catalogue

LONGEST_TRACEBACK = 60_000
LONGEST_MESSAGE = 10_000
MOST_CAUSES = 10
LONGEST_CAUSE = 1_000  # characters of its message


class TaskTimeout(BaseException):
    """The task's soft timeout is over. A BaseException, so that `except Exception` in a task does not swallow it."""


class TaskStopped(BaseException):
    """The task was asked to stop and did not by itself."""


class UnknownTaskFunction(SchedulerError):
    """There is no such task function in this worker."""


@dataclass(frozen=True)
class CallEnd:
    """How a function ended."""

    result: dict[str, Any] | None = None
    result_kind: str | None = None
    files: tuple[Kept, ...] = ()
    error: BaseException | None = None
    outcome: str = FAILED
    message: str | None = None
    stopped: bool = False  # it asked whether it should stop, was told yes, and ended

    @property
    def is_success(self) -> bool:
        return self.error is None and not self.stopped

    @property
    def error_names(self) -> tuple[str, ...]:
        if self.error is None:
            return ()
        return tuple(kind.__name__ for kind in type(self.error).__mro__ if kind not in (object, BaseException))

    def as_attempt_end(self, masker: Masker | None = None) -> AttemptEnd:
        """The end for the attempt's row, what `masker` knows as secret made unreadable."""
        masked = (masker or Masker()).text
        if self.stopped or self.error is None:
            return AttemptEnd(CANCELLED, peak_memory=peak_memory())
        message = self.message if self.message is not None else _message_of(self.error)
        return AttemptEnd(
            self.outcome,
            type(self.error).__name__,
            masked(message)[:LONGEST_MESSAGE],
            _last_part(masked(_traceback_of(self.error))),
            peak_memory(),
            [
                {"type": type(one).__name__, "message": masked(_message_of(one))[:LONGEST_CAUSE]}
                for one in self._causes()
            ],
        )

    def _causes(self) -> list[BaseException]:
        """What the error was raised from, or while handling; the nearest first. A chain may lead back into itself."""
        causes: list[BaseException] = []
        seen, one = {id(self.error)}, _cause_of(self.error)
        while one is not None and id(one) not in seen and len(causes) < MOST_CAUSES:
            seen.add(id(one))
            causes.append(one)
            one = _cause_of(one)
        return causes


class Caller:
    """Calls task functions, one after the other, in the main thread of this process."""

    def __init__(self, catalogue: Catalogue, is_stop_asked: Callable[[], bool] = lambda: False) -> None:
        self.catalogue = catalogue
        self.is_in_function = False
        self._is_stop_asked = is_stop_asked  # whether somebody wants the task that is called now to stop
        self._stop_seen = False
        self._process = os.getpid()

    def listen(self) -> dict[signal.Signals, Any]:
        """Install the signal handlers; those that were there before, for `deafen`."""
        handlers = {
            signal.SIGALRM: self._on_timeout,
            signal.SIGUSR1: self._on_stop,
            signal.SIGUSR2: self._on_stop_now,
        }
        return {number: signal.signal(number, handler) for number, handler in handlers.items()}

    def deafen(self, before: dict[signal.Signals, Any]) -> None:
        """Put back the handlers that `listen` found."""
        for number, handler in before.items():
            signal.signal(number, handler)

    def call(self, name: str, args: dict[str, Any], run: Run, soft: float) -> CallEnd:
        """Call the function `name`; whatever it raises stays in here. `soft` is its timeout in seconds."""
        self._stop_seen = False
        found = self.catalogue.functions.get(name)
        if found is None:
            return CallEnd(error=UnknownTaskFunction(self._why_unknown(name)))
        try:
            arguments = bind_arguments(found.function, args)
            with running(replace(run, is_stop_requested=self._is_stop_requested)), self._interruptible(soft):
                returned = _called(found.function, arguments)
            encoded = encode_returned(returned)
            if not encoded.files:
                return CallEnd(encoded.result, encoded.kind, stopped=self._stop_seen)
            kept = keep_files(encoded.files, run.settings, run.task_id, run.attempt)
            result = {"files": [one.told() for one in kept]}
            return CallEnd(result, encoded.kind, tuple(kept), stopped=self._stop_seen)
        except TaskTimeout as error:
            return CallEnd(error=error, outcome=TIMED_OUT, message=f"still running after {soft:g} s, its timeout")
        except TaskStopped as error:
            return CallEnd(error=error, outcome=CANCELLED, message="stopped on request")
        except BaseException as error:  # SystemExit and KeyboardInterrupt of a task are its failures, not ours
            return CallEnd(error=error, stopped=self._stop_seen)
        finally:
            self._leave_function()  # once more: a signal may have come while the block was being left
            if os.getpid() != self._process:
                os._exit(0)  # a fork that the function made and that came back here too: one end is enough

    @contextmanager
    def _interruptible(self, soft: float) -> Iterator[None]:
        """Inside the block the timeout and a stop may be raised."""
        self.is_in_function = True
        signal.setitimer(signal.ITIMER_REAL, soft)
        try:
            yield
        finally:
            self._leave_function()

    def _leave_function(self) -> None:
        self.is_in_function = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_timeout(self, number: int, frame: FrameType | None) -> None:
        if self.is_in_function:
            raise TaskTimeout

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        """Nothing: the signal wakes a function that waits, and its own question has the answer."""

    def _on_stop_now(self, number: int, frame: FrameType | None) -> None:
        if self.is_in_function and self._is_stop_asked():
            raise TaskStopped

    def _is_stop_requested(self) -> bool:
        is_asked = self._is_stop_asked()
        self._stop_seen = self._stop_seen or is_asked
        return is_asked

    def _why_unknown(self, name: str) -> str:
        broken = "; ".join(f"{module}: {why}" for module, why in self.catalogue.broken.items())
        return f'there is no task function "{name}" in this worker' + (f" ({broken})" if broken else "")


def _called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    returned = function(**arguments)
    return asyncio.run(returned) if inspect.iscoroutine(returned) else returned


def _message_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # a __str__ that fails
        text = f"(its message cannot be shown: {type(error).__name__})"
    return storable(text)


def _cause_of(error: BaseException | None) -> BaseException | None:
    if error is None:
        return None
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _traceback_of(error: BaseException) -> str:
    """The traceback from the task's own code on."""
    frames = traceback.TracebackException.from_exception(error)
    while frames.stack and frames.stack[0].filename == __file__:
        frames.stack.pop(0)
    return storable("".join(frames.format()))


def _last_part(text: str) -> str:
    """Of a traceback that is too long its end, where the error stands."""
    return text if len(text) <= LONGEST_TRACEBACK else f"[…]\n{text[-LONGEST_TRACEBACK:]}"
