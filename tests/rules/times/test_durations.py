from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.rules.complaints import Complaint
from scheduler.rules.times.durations import LONGEST, format_duration, parse_duration

READ = {
    "seconds": ("90s", {"seconds": 90}),
    "minutes": ("5m", {"minutes": 5}),
    "hours and minutes": ("1h30m", {"minutes": 90}),
    "parts with spaces": ("1 day 2 hours", {"hours": 26}),
    "words": ("2 days", {"days": 2}),
    "a word in the singular": ("1 minute", {"minutes": 1}),
    "a fraction": ("1.5h", {"minutes": 90}),
    "weeks": ("2w", {"days": 14}),
    "spaces around": ("  5m ", {"minutes": 5}),
    "ISO minutes": ("PT5M", {"minutes": 5}),
    "ISO days and hours": ("P1DT2H", {"hours": 26}),
    "ISO weeks": ("P2W", {"days": 14}),
    "the longest": ("3660d", {"days": 3660}),
}

REFUSED = {
    "a bare number": (90, "90 has no unit. Write 90s for seconds or 90m for minutes."),
    "a bare number as text": ("90", "90 has no unit. Write 90s for seconds or 90m for minutes."),
    "a negative number": (-5, "-5 is negative. A duration is longer than nothing, such as 5m."),
    "a negative duration": ("-5m", '"-5m" is negative. A duration is longer than nothing, such as 5m.'),
    "true": (True, "expected a duration, got true. Write a number with a unit, such as 90s, 5m, 1h30m or 2d."),
    "nothing": (None, "expected a duration, got nothing. Write a number with a unit, such as 90s, 5m, 1h30m or 2d."),
    "empty text": ("", '"" is not a duration. Write a number with a unit, such as 90s, 5m, 1h30m or 2d.'),
    "words alone": ("soon", '"soon" is not a duration. Write a number with a unit, such as 90s, 5m, 1h30m or 2d.'),
    "an unknown unit": (
        "5 fortnights",
        '"5 fortnights" is not a duration. There is no unit "fortnights"; there are s, m, h, d and w.',
    ),
    "milliseconds": ("5ms", '"5ms" is not a duration. The shortest unit is a second: 0.5s.'),
    "units in the wrong order": (
        "30m1h",
        '"30m1h" is not a duration. Give each unit once, the longest first: 1d2h30m.',
    ),
    "a unit twice": ("5m5m", '"5m5m" is not a duration. Give each unit once, the longest first: 1d2h30m.'),
    "zero": ("0s", '"0s" is no time at all. A duration is longer than nothing, such as 5m.'),
    "too long": ("3661d", '"3661d" is too long. 3660d is the most.'),
    "ISO months": (
        "P1M",
        '"P1M" is not a duration. ISO 8601 goes PT5M, P1DT2H or P2W; months and years have no length.',
    ),
    "ISO without a count": (
        "PT",
        '"PT" is not a duration. ISO 8601 goes PT5M, P1DT2H or P2W; months and years have no length.',
    ),
    "digits of another script": (
        "٥m",
        '"٥m" is not a duration. Write a number with a unit, such as 90s, 5m, 1h30m or 2d.',
    ),
}


@pytest.mark.parametrize(("text", "parts"), READ.values(), ids=READ)
def test_a_duration_is_read(text: str, parts: dict[str, int]) -> None:
    assert parse_duration(text) == dt.timedelta(**parts)


@pytest.mark.parametrize(("given_value", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_duration_is_refused_with_a_remedy(given_value: object, message: str) -> None:
    with pytest.raises(Complaint) as caught:
        parse_duration(given_value)

    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)


def test_zero_is_read_where_it_is_welcome() -> None:
    assert parse_duration("0s", zero=True) == dt.timedelta(0)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"minutes": 5}, "5m"),
        ({"minutes": 90}, "1h30m"),
        ({"seconds": 90}, "1m30s"),
        ({"days": 3}, "3d"),
        ({"days": 1, "seconds": 1}, "1d1s"),
        ({}, "0s"),
        ({"milliseconds": 1500}, "1.5s"),
        ({"minutes": -5}, "-5m"),
    ],
)
def test_a_duration_is_shown_short(parts: dict[str, int], text: str) -> None:
    assert format_duration(dt.timedelta(**parts)) == text


@given(st.timedeltas(min_value=dt.timedelta(microseconds=1), max_value=LONGEST))
def test_what_is_shown_is_read_back(duration: dt.timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.text())
def test_any_text_is_read_or_refused_kindly(text: str) -> None:
    answer: dt.timedelta | Complaint
    try:
        answer = parse_duration(text)
    except Complaint as complaint:
        answer = complaint

    assert answer.hint if isinstance(answer, Complaint) else answer > dt.timedelta(0)
