"""The whole application behind a real socket, one a module; each test finds it empty."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from scheduler.broker.connection import connect
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.loops import Stop
from scheduler.settings import Settings
from scheduler.store.database import Database
from scheduler.store.tables import Base
from scheduler.web.app import create_app
from scheduler.web.server import serve
from tests.servers import RedisServer, free_port
from tests.web.browser.site import Site
from tests.web.serving import GivenBackends

expect.set_options(timeout=30_000)  # a busy machine takes its time


class _Served(Site):
    """It may be stopped and started again, at the same address."""

    def __init__(self, database: Database, room: WaitingRoom, data: Path) -> None:
        self.database, self.room, self.data = database, room, data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.base_url: str | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        settings = Settings(
            data=self.data,
            file=self.data / "schedules.yaml",
            database_url=self.database.url,
            base_url=self.base_url,
            web_port=self.port,
        )
        self.stopping = Stop()
        self.app = create_app(settings, GivenBackends(settings, self.database, self.room), stop=self.stopping)
        listening = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=serve, args=(self.app, listening, self.stopping), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self.stopping.is_set = True
            self._thread.join(20)
            assert not self._thread.is_alive()
            self._thread = None

    @property
    def is_up(self) -> bool:
        return self._thread is not None


@pytest.fixture(scope="module")
def served(
    migrated_file: Path, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Served]:
    folder = tmp_path_factory.mktemp("site")
    shutil.copyfile(migrated_file, folder / "scheduler.sqlite")
    database = Database(f"sqlite:///{folder / 'scheduler.sqlite'}", synchronous="OFF")
    client = connect(redis_server.url)
    made = _Served(database, WaitingRoom(client), folder)
    yield made
    made.stop()
    client.close()
    database.close()


@pytest.fixture
def site(served: _Served) -> Site:
    """The application, up, over an empty database and an empty Redis."""
    served.room.redis.flushall()
    with served.database.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
    if not served.is_up:
        served.start()
    return served
