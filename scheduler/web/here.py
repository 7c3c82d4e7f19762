"""What endpoints ask for by name: SQL and Redis, the settings, the task functions."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from scheduler.engine.backends import Backends
from scheduler.settings import Settings
from scheduler.task_functions import Catalogue


def backends_of(request: Request) -> Backends:
    """A dependency: SQL and Redis."""
    backends: Backends = request.app.state.backends
    return backends


def settings_of(request: Request) -> Settings:
    """A dependency: the settings."""
    settings: Settings = request.app.state.settings
    return settings


def catalogue_of(request: Request) -> Catalogue:
    """A dependency: the task functions."""
    catalogue: Catalogue = request.app.state.task_functions.catalogue()
    return catalogue


BackendsHere = Annotated[Backends, Depends(backends_of)]
SettingsHere = Annotated[Settings, Depends(settings_of)]
CatalogueHere = Annotated[Catalogue, Depends(catalogue_of)]
