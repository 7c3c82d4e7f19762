"""A connection to PostgreSQL that waits for nothing without end; imported where there is a PostgreSQL."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

# A server that is gone without a word (its host died, a firewall forgot the connection) is noticed within 25 s, whether
# an answer is awaited or a request is not even acknowledged; the system's own patience is 15 minutes to two hours.
POSTGRES_CONNECTION = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds; Linux only, elsewhere ignored
}

Result = TypeVar("Result")


class PatientConnection(psycopg.Connection[Any]):
    """A connection that does not wait for an answer without end. Keepalives do not help where the other side's system
    still acknowledges all, and its process is mute."""

    answers_within: float | None = None

    def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:
        timeout = self.answers_within if timeout is None else timeout
        began = time.monotonic()
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError as error:
            if timeout is None or time.monotonic() - began < timeout:
                raise
            self.close()  # what comes late must not be read as the answer to something else
            raise psycopg.OperationalError(f"no answer within {timeout:g} s") from error
