"""Hosts whose clocks are wrong: what is due goes by the clock of Redis, leases and fire times by that of SQL."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import pytest

from scheduler.clock import utc_now
from tests.engine.test_nth_call import empty, expect_order
from tests.journeys.small_service import SmallService, end_of_day


@pytest.mark.parametrize("minutes", [-2, 2])
def test_a_host_whose_clock_is_two_minutes_wrong_does_no_harm(
    migrated_postgres: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    empty(migrated_postgres, redis_url)
    until = end_of_day()
    with monkeypatch.context() as wrong:
        asked = set_clocks(wrong, dt.timedelta(minutes=minutes))
        with SmallService(migrated_postgres, redis_url, tmp_path, until) as service:
            service.run()

    with SmallService(migrated_postgres, redis_url, tmp_path, until) as service:
        expect_order(service, minutes)
    assert asked  # somebody did look at the host's clock
    empty(migrated_postgres, redis_url)


def set_clocks(monkeypatch: pytest.MonkeyPatch, wrong: dt.timedelta) -> list[dt.datetime]:
    """Let the house see another time than it is; each time that it looks."""
    asked: list[dt.datetime] = []

    def wrong_now() -> dt.datetime:
        asked.append(utc_now() + wrong)
        return asked[-1]

    for name, module in list(sys.modules.items()):
        if name.startswith("scheduler.") and getattr(module, "utc_now", None) is utc_now:
            monkeypatch.setattr(module, "utc_now", wrong_now)
    return asked
