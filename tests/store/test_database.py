"""What a connection to the database brings along."""

from __future__ import annotations

import pytest

from scheduler.store.database import Database
from tests.servers import PostgresServer


@pytest.mark.parametrize("pooled", [True, False])
def test_a_connection_to_postgresql_notices_a_way_that_swallows_everything(
    postgres_server: PostgresServer, pooled: bool
) -> None:
    # Without these a connection whose other side is gone without a word waits for a quarter of an hour, or two hours.
    database = Database(postgres_server.url, pooled=pooled)
    try:
        with database.engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            parameters = driver.info.get_parameters()
    finally:
        database.close()

    silent_after = int(parameters["keepalives_idle"]) + int(parameters["keepalives_interval"]) * int(
        parameters["keepalives_count"]
    )
    assert silent_after <= 30  # seconds
    assert int(parameters["tcp_user_timeout"]) <= 30_000
