from __future__ import annotations

import pytest

from scheduler.rules.complaints import Complaint
from scheduler.rules.times.cron_line import NICKNAMES, read_cron
from scheduler.rules.times.crontab import Crontab

REFUSED = {
    "no fields": ("", 'cron "" has no fields'),
    "four fields": ("0 2 * *", 'cron "0 2 * *" has 4 fields'),
    "month 13": ("0 0 1 13 *", "month 13 does not exist"),
    "day 0": ("0 0 0 * *", "day of the month 0 does not exist"),
    "weekday 8": ("0 0 * * 8", "weekday 8 does not exist"),
    "a question mark": ("0 0 ? * *", 'day of the month "?" cannot be read'),
    "a hash of the name": ("H 2 * * *", 'minute "H" cannot be read'),
    "an empty term": ("0, 2 * * *", 'minute "" cannot be read'),
    "a range over the weekend": ("0 0 * * fri-mon", 'weekday "fri-mon" runs backwards'),
    "31 April": ("0 0 31 4,6 *", 'cron "0 0 31 4,6 *" never fires: month 4,6 has no day 31'),
    "digits of another script": ("٥ 2 * * *", 'minute "٥" cannot be read'),
}

UNEVEN = {
    "minutes": ("*/45 * * * *", "minute */45 does not divide the hour: it means 0 and 45, and begins anew each hour"),
    "hours": (
        "0 */5 * * *",
        "hour */5 does not divide the day: it means 0, 5, 10, 15 and 20, and begins anew each day",
    ),
    "days": (
        "0 0 */2 * *",
        "day of the month */2 does not divide the month: it means 1, 3, 5 … 31, and begins anew each month",
    ),
    "a step longer than the hour": (
        "*/90 * * * *",
        "minute */90 does not divide the hour: it means 0, and begins anew each hour",
    ),
}


@pytest.mark.parametrize(("line", "message"), REFUSED.values(), ids=REFUSED)
def test_a_line_that_cannot_be_is_refused_by_field_and_value(line: str, message: str) -> None:
    with pytest.raises(Complaint) as caught:
        read_cron(line)

    assert caught.value.message == message
    assert caught.value.hint


@pytest.mark.parametrize(("line", "note"), UNEVEN.values(), ids=UNEVEN)
def test_a_step_that_does_not_divide_is_noted_with_its_real_times(line: str, note: str) -> None:
    assert read_cron(line).notes == (note,)


@pytest.mark.parametrize("line", ["*/15 * * * *", "0 */6 * * *", "0 0 1 */3 *", "0-30/7 2 * * *", "0 9 * * mon-fri"])
def test_a_usual_line_goes_without_a_note(line: str) -> None:
    assert read_cron(line).notes == ()


@pytest.mark.parametrize("nickname", NICKNAMES)
def test_a_nickname_is_spelled_out(nickname: str) -> None:
    assert read_cron(nickname).text == NICKNAMES[nickname]
    assert read_cron(nickname.upper()).text == NICKNAMES[nickname]


@pytest.mark.parametrize(
    "line",
    [
        "0 0 L * *",
        "0 0 LW * *",
        "0 0 * * 5L",
        "0 0 * * 2#3",
        "0 0 * * tue#3",
        "0 9 * * MON-FRI",
        "0 0 * JAN-mar *",
        "0 0 * * 7",
    ],
)
def test_what_is_taken_the_trigger_can_read(line: str) -> None:
    assert Crontab(read_cron(line).text).times


@pytest.mark.parametrize(
    ("line", "both"), [("0 0 13 * fri", True), ("0 0 */2 * fri", False), ("0 0 13 * *", False), ("0 0 * * fri", False)]
)
def test_both_day_fields_are_set_when_neither_begins_with_a_star(line: str, both: bool) -> None:
    assert read_cron(line).both_days is both
