"""How the service's own task functions, such as the digest and retention, get at SQL and Redis.

Others do not: a worker keeps the two addresses out of the environment that task functions and what they start see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scheduler.context import current_run
from scheduler.engine.backends import Backends
from scheduler.settings import load_settings


@contextmanager
def service_backends() -> Iterator[Backends]:
    """SQL and Redis as the run under way has them; outside a run, as the settings of this process say."""
    run = current_run()
    backends = Backends(run.settings if run is not None and run.settings is not None else load_settings())
    try:
        yield backends
    finally:
        backends.close()
