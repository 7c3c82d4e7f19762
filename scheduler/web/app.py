"""The application: settings and backends go in, what answers HTTP comes out."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from scheduler.engine.access import Access
from scheduler.engine.answers.metrics import Metrics
from scheduler.engine.backends import Backends
from scheduler.engine.loops import Stop
from scheduler.errors import SchedulerError
from scheduler.settings import Settings
from scheduler.task_functions import Catalogue, find_task_functions
from scheduler.web import answers, metrics, probes
from scheduler.web.api.app import API_PATH, create_api
from scheduler.web.events import Hub
from scheduler.web.guard import Guard
from scheduler.web.limits import Limits
from scheduler.web.pages import actions, api, audit, day, file, log_in, now, pause, schedules, tasks, workers
from scheduler.web.static_files import KeptFiles

HERE = Path(__file__).parent


class TaskFunctions:
    """The task functions, looked for when they are first asked for."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self._packages = packages
        self._lock = threading.Lock()

    @cached_property
    def _found(self) -> Catalogue:
        return find_task_functions(self._packages)

    def catalogue(self) -> Catalogue:
        with self._lock:
            return self._found


def create_app(
    settings: Settings, backends: Backends, *, limits: Limits | None = None, stop: Stop | None = None
) -> FastAPI:
    """All that the web part answers. The caller closes the backends; streams end when `stop` is set."""
    app = FastAPI(title=f"{settings.name}: scheduled jobs", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.settings = settings
    app.state.backends = backends
    app.state.access = Access(backends.database)
    app.state.task_functions = TaskFunctions(settings.task_packages)
    app.state.limits = limits or Limits()
    app.state.stop = stop or Stop()
    app.state.events = Hub()
    app.state.metrics = metrics.MetricsCollector(Metrics(backends))
    app.add_middleware(Guard, settings=settings)
    app.add_exception_handler(HTTPException, answers.on_http_error)
    app.add_exception_handler(SchedulerError, answers.on_our_error)
    app.add_exception_handler(RequestValidationError, answers.on_bad_input)
    app.add_exception_handler(Exception, answers.on_fault)
    app.include_router(log_in.router)
    app.include_router(now.router)
    app.include_router(day.router)
    app.include_router(workers.router)
    app.include_router(schedules.router)
    app.include_router(tasks.router)
    app.include_router(actions.router)
    app.include_router(pause.router)
    app.include_router(file.router)
    app.include_router(audit.router)
    app.include_router(api.router)
    app.include_router(probes.router)
    app.include_router(metrics.router)
    app.mount(API_PATH, create_api(app.state))
    app.mount("/static", KeptFiles(directory=HERE / "static"), name="static")
    return app
