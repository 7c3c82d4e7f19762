"""Moments as people type them."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from scheduler.errors import WrongUsage
from scheduler.rules.times.typed_moments import typed_moment
from tests.builders import at

BERLIN = ZoneInfo("Europe/Berlin")
NOW = at("12:00")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2026-11-24 13:30", at("12:30"), id="local"),
        pytest.param("2026-11-24T13:30:05", at("12:30:05"), id="as a form field sends it"),
        pytest.param("2026-11-24", at("23:00", "2026-11-23"), id="a day is its midnight"),
        pytest.param("6:30", at("05:30"), id="today"),
        pytest.param("23:30:10", at("22:30:10"), id="today, to come"),
        pytest.param("today 06:30", at("05:30"), id="today by name"),
        pytest.param("yesterday 06:30", at("05:30", "2026-11-23"), id="yesterday"),
        pytest.param("tomorrow", at("23:00"), id="tomorrow's midnight"),
        pytest.param("2026-11-24T12:30Z", at("12:30"), id="UTC"),
        pytest.param("2026-11-24T12:30:00+02:00", at("10:30"), id="an offset"),
        pytest.param(" in 2h ", at("14:00"), id="from now"),
        pytest.param("90m ago", at("10:30"), id="ago"),
        pytest.param("2027-03-28 02:30", at("01:00", "2027-03-28"), id="an hour that is skipped"),
    ],
)
def test_a_moment_is_read(text: str, moment: dt.datetime) -> None:
    assert typed_moment(text, BERLIN, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-13-01", "in 9999999999h", "9999-12-31 23:59", "24:30", "todays", "yesterday6:30", "in x"]
)
def test_what_is_no_moment_is_told_with_examples(text: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        typed_moment(text, BERLIN, NOW)

    assert str(caught.value) == (
        f'"{text}" is no moment; give one such as 2026-12-01 06:30 or "yesterday 06:30" (local time of Europe/Berlin), '
        '2026-12-01T06:30Z, "in 2h" or "2h ago"'
    )
