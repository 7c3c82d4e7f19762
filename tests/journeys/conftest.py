"""The service of a journey: once on SQLite with its private Redis, once on PostgreSQL with a Redis of the test's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.service import Service
from tests.servers import PostgresServer, start_redis


@pytest.fixture(params=["private", "servers"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    if request.param == "private":
        with Service(tmp_path) as private:
            yield private
        return
    postgres: PostgresServer = request.getfixturevalue("postgres_server")
    url = postgres.create_database()
    with start_redis(tmp_path / "redis") as redis, Service(tmp_path, database_url=url, redis_url=redis.url) as served:
        yield served
    postgres.drop(url)


@pytest.fixture
def private_service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as private:
        yield private
