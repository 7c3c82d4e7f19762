from __future__ import annotations

from typing import Any

import pytest

from scheduler.rules.complaints import Complaint
from scheduler.rules.spec import WEEKDAYS, DayRule
from scheduler.rules.times.day_words import parse_days, parse_weekdays

READ: dict[str, tuple[object, dict[str, Any]]] = {
    "a range": ("mon-fri", {"weekdays": ("mon", "tue", "wed", "thu", "fri")}),
    "a range over the weekend": ("fri-mon", {"weekdays": ("mon", "fri", "sat", "sun")}),
    "several": ("wed,mon, fri", {"weekdays": ("mon", "wed", "fri")}),
    "a list": (["sat", "sun"], {"weekdays": ("sat", "sun")}),
    "full names in capitals": ("Monday", {"weekdays": ("mon",)}),
    "weekdays": ("weekdays", {"weekdays": ("mon", "tue", "wed", "thu", "fri")}),
    "weekends": ("weekends", {"weekdays": ("sat", "sun")}),
    "daily": ("daily", {}),
    "a day of the month": (15, {"month_days": (15,)}),
    "days of the month": ([1, "15", "last"], {"month_days": (1, 15, -1)}),
    "a range of days": ("1-3", {"month_days": (1, 2, 3)}),
    "the first Monday": ("first-mon", {"nth_weekdays": ((1, "mon"),)}),
    "the second Tuesday": ("2nd-tue", {"nth_weekdays": ((2, "tue"),)}),
    "second and last": ("second-tue,last-fri", {"nth_weekdays": ((2, "tue"), (-1, "fri"))}),
    "the first business day": ("first-business", {"business": "first"}),
    "the last business day": ("last-business", {"business": "last"}),
}

REFUSED: dict[str, tuple[object, str]] = {
    "an unknown word": ("mun", '"mun" is not a day; did you mean "sun"?'),
    "the 0th": (0, "day 0 does not exist"),
    "a negative day": (-1, "day -1 does not exist"),
    "a range that runs backwards": ("15-1", '"15-1" runs backwards'),
    "two sorts": (["mon", 15], '"mon, 15" mixes kinds of days'),
    "both ends of business": ("first-business,last-business", '"first-business" and "last-business" together'),
    "true": (True, "true is not a day"),
    "a mapping": ({}, "a mapping is not a day"),
    "an empty word": ("mon,", '"" is not a day'),
    "the sixth Monday": ("sixth-mon", '"sixth-mon" is not a day'),
}


@pytest.mark.parametrize(("value", "rule"), READ.values(), ids=READ)
def test_words_for_days_are_read(value: object, rule: dict[str, Any]) -> None:
    assert parse_days(value) == DayRule(**rule)


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_other_words_are_refused(value: object, message: str) -> None:
    with pytest.raises(Complaint) as caught:
        parse_days(value)

    assert caught.value.message == message
    assert caught.value.hint


def test_daily_is_all_weekdays_where_weekdays_are_asked_for() -> None:
    assert parse_weekdays("daily") == WEEKDAYS


def test_month_days_are_refused_where_weekdays_are_asked_for() -> None:
    with pytest.raises(Complaint, match='"last-fri" is more than weekdays'):
        parse_weekdays("last-fri")
