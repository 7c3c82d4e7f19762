"""A short version of `make torture`: tests/torture.py has the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import PostgresServer
from tests.torture import torture


@pytest.mark.timeout(300)
def test_a_minute_of_torture_breaks_no_promise(tmp_path: Path, postgres_server: PostgresServer) -> None:
    assert torture(60, seed=3, folder=tmp_path, postgres=postgres_server) == []
