"""The application: settings and backends go in, what answers HTTP comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from starlette.staticfiles import StaticFiles

from scheduler.engine.backends import Backends
from scheduler.settings import Settings

HERE = Path(__file__).parent


def create_app(settings: Settings, backends: Backends) -> FastAPI:
    """All that the web part answers. The caller closes the backends."""
    app = FastAPI(title=f"{settings.name}: scheduled jobs", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.settings = settings
    app.state.backends = backends
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    return app


def backends_of(request: Request) -> Backends:
    """A dependency: SQL and Redis."""
    backends: Backends = request.app.state.backends
    return backends


def settings_of(request: Request) -> Settings:
    """A dependency: the settings."""
    settings: Settings = request.app.state.settings
    return settings


BackendsHere = Annotated[Backends, Depends(backends_of)]
SettingsHere = Annotated[Settings, Depends(settings_of)]
