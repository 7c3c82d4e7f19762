"""What browser tests know of the application that they open."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from fastapi import FastAPI

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.store.database import Database


class Site:
    """The application at `url`, over a database that the test fills."""

    url: str
    port: int
    base_url: str | None  # the setting, from the next start on
    app: FastAPI
    database: Database
    room: WaitingRoom
    data: Path

    @abstractmethod
    def start(self) -> None:
        """Up again, at the same address."""

    @abstractmethod
    def stop(self) -> None:
        """Down; open pages notice it."""
