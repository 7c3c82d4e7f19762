"""The dispatcher and the worker as processes; the keeper has a module of its own. Each runs until SIGTERM or SIGINT.

What only one of them needs is imported by it alone: a worker is held in memory many times over.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from scheduler.engine.backends import Backends
from scheduler.engine.loops import Stop, Ticker
from scheduler.engine.troubles import Pauses, tell
from scheduler.settings import Settings, environment_name, environment_of
from scheduler.task_functions import find_task_functions

if TYPE_CHECKING:
    from scheduler.engine.dispatcher import Dispatcher

log = logging.getLogger(__name__)

RECORD_EVERY = 0.5  # by then a worker with nothing else to do has claimed the row, and no mark is needed
RECORDER_ENDS_WITHIN = 2.0


def run_dispatcher(settings: Settings, stop: Stop) -> None:
    """Move due jobs to their queues, until `stop`, which listens already: a part may be ended while it starts."""
    from scheduler.engine.dispatcher import Dispatcher

    backends = Backends(settings)
    pauses = Pauses()
    dispatcher = Dispatcher(backends.database, backends.room)
    ticker = Ticker(backends.database, "dispatcher")
    recorder = threading.Thread(target=_record, args=(dispatcher, ticker, stop), name="recorder", daemon=True)
    recorder.start()
    while not stop.is_set:
        try:
            seconds = dispatcher.step()
            if not stop.is_set:
                dispatcher.sleep(seconds)
            pauses.reset()
        except Exception as error:  # a loop logs and goes on
            tell("dispatcher", error)
            stop.wait(pauses.next())
    recorder.join(RECORDER_ENDS_WITHIN)
    dispatcher.close()
    ticker.leave()
    backends.close()


def _record(dispatcher: Dispatcher, ticker: Ticker, stop: Stop) -> None:
    """Write to SQL what the dispatcher has moved, and that it moves; beside it: a slow database delays nothing."""
    steps_before, pauses = -1, Pauses()
    while not stop.is_set:
        try:
            dispatcher.mark()
            if dispatcher.steps != steps_before:  # a dispatcher that stands still does not tick
                steps_before = dispatcher.steps
                ticker.tick({"moved": dispatcher.moved})
            pauses.reset()
            stop.wait(RECORD_EVERY)
        except Exception as error:  # a loop logs and goes on
            tell("dispatcher's recorder", error)
            stop.wait(pauses.next())


def _set_environment(settings: Settings) -> None:
    """What task functions may read of the settings; how to reach SQL, Redis and the watchdog is none of it."""
    values = environment_of(settings)
    for name in ("redis_url", "database_url", "watchdog_url"):
        variable = environment_name(name)
        for secret in (variable, f"{variable}_FILE"):
            os.environ.pop(secret, None)
        values.pop(variable, None)
    os.environ.update(values)


def run_worker(settings: Settings, kind: str, stop: Stop) -> None:
    """Run the tasks of one kind."""
    from scheduler.engine.work.worker import Worker

    _set_environment(settings)
    catalogue = find_task_functions(settings.task_packages)
    for module, why in catalogue.broken.items():
        log.error("Task module %s cannot be used: %s", module, why, extra={"event": "task_module_broken"})
    Worker(settings, kind, catalogue).run(stop)
