"""The application for tests in process: a client that asks as a browser on this machine does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.backends import Backends
from scheduler.settings import Settings
from scheduler.store.database import Database
from scheduler.web.app import create_app

HERE = "http://127.0.0.1:8080"
A_BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


class GivenBackends(Backends):
    """Those that a test has opened."""

    def __init__(self, settings: Settings, database: Database, room: WaitingRoom) -> None:
        super().__init__(settings)
        self.__dict__.update(database=database, room=room)


@contextmanager
def a_client(database: Database, room: WaitingRoom, data: Path, **settings: Any) -> Iterator[TestClient]:
    """A client of the whole application, over the database and Redis of the test."""
    chosen = Settings(data=data, file=data / "schedules.yaml", database_url=database.url, **settings)
    app = create_app(chosen, GivenBackends(chosen, database, room))
    with TestClient(
        app, base_url=HERE, headers=A_BROWSER, follow_redirects=False, client=("127.0.0.1", 50_000)
    ) as client:
        yield client
