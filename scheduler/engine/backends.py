"""SQL and Redis as the settings name them, opened when first asked for.

The libraries of Redis are imported then, too: most questions are put to SQL alone, and should be answered at once.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from scheduler.settings import Settings
from scheduler.store.database import Database

if TYPE_CHECKING:
    import redis

    from scheduler.broker.waiting_room import WaitingRoom


class Backends:
    """What the engine works with. `pooled=False` for processes that fork."""

    def __init__(self, settings: Settings, *, pooled: bool = True) -> None:
        self.settings = settings
        self._pooled = pooled

    @cached_property
    def database(self) -> Database:
        return Database(
            self.settings.database_url_or_default,
            pooled=self._pooled,
            synchronous=self.settings.sqlite_synchronous,
        )

    @property
    def redis_url(self) -> str:
        from scheduler.broker.private_server import private_url

        return self.settings.redis_url or private_url(self.settings.data)

    @cached_property
    def redis(self) -> redis.Redis:
        from scheduler.broker.connection import connect

        return connect(self.redis_url)

    @cached_property
    def room(self) -> WaitingRoom:
        from scheduler.broker.waiting_room import WaitingRoom

        return WaitingRoom(self.redis)

    def close(self) -> None:
        if "database" in self.__dict__:
            self.database.close()
        if "redis" in self.__dict__:
            self.redis.close()
