"""Text for people: what fits where, and what no terminal is told."""

from __future__ import annotations

import datetime as dt

import pytest

from scheduler.cli.tables import (
    Column,
    bar,
    clean,
    fit,
    flowed,
    moment_short,
    progress_words,
    table,
    width_of,
    wrapped,
)
from scheduler.rules.brief import brief
from tests.builders import at


@pytest.mark.parametrize(
    ("seconds", "units", "expected"),
    [
        (0, 1, "0 ms"),
        (0.0464, 1, "46 ms"),
        (0.46, 1, "0.4 s"),
        (9.99, 1, "9.9 s"),
        (3, 1, "3 s"),
        (59.9, 1, "59 s"),
        (125, 1, "2 m"),
        (125, 2, "2 m 5 s"),
        (-125, 2, "2 m 5 s"),
        (7200, 2, "2 h"),
        (86_400 * 3 + 300, 2, "3 d"),
        (86_400 * 400, 1, "400 d"),
    ],
)
def test_a_duration_is_told_in_brief(seconds: float, units: int, expected: str) -> None:
    assert brief(dt.timedelta(seconds=seconds), units) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("plain – «text»", "plain – «text»", id="plain"),
        pytest.param("\x1b[31mred\x1b[0m", "red", id="colours"),
        pytest.param("\x1b]0;a title\x07rest", "rest", id="a window's title"),
        pytest.param("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link", id="a link"),
        pytest.param("a\r\nb\tc", "a b c", id="lines"),
        pytest.param("a\x9b2Jb\x00c", "a 2Jb c", id="controls of one byte"),
        pytest.param("user\u202egnp.exe", "user gnp.exe", id="letters that turn the direction"),
        pytest.param("the end\x1b", "the end", id="half an escape"),
    ],
)
def test_what_would_steer_a_terminal_is_taken_out(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 5, "short"),
        ("too long", 5, "too…"),
        ("界界界", 5, "界界…"),
        ("anything", 0, ""),
        ("e\u0301te\u0301", 3, "e\u0301te\u0301"),
    ],
)
def test_text_is_cut_to_its_width(text: str, width: int, expected: str) -> None:
    assert fit(text, width) == expected
    assert width_of(fit(text, width)) <= max(width, 0)


def test_items_flow_and_none_is_broken() -> None:
    assert flowed(["dispatcher 1 s", "keeper 2 s", "worker-long 3 s"], 30) == [
        "dispatcher 1 s, keeper 2 s,",
        "worker-long 3 s",
    ]
    assert flowed([], 30) == []


def test_text_is_wrapped_and_its_own_lines_stay_apart() -> None:
    assert wrapped("one two three four five six\nseven", 24, "  ") == ["  one two three four", "  five six", "  seven"]
    assert wrapped("", 20) == [""]


COLUMNS = (Column("id", right=True), Column("name", least=6), Column("note", least=5))
ROWS = [("7", "a-rather-long-name", "and a rather long note"), ("123", "short", "")]


def test_a_table_takes_the_room_it_needs() -> None:
    assert table(COLUMNS, ROWS, 80) == [
        " id  name                note",
        "  7  a-rather-long-name  and a rather long note",
        "123  short",
    ]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (40, "  7  a-rather-long-name  and a rather l…"),
        (24, "  7  a-rather-lo…  and…"),
        (18, "  7  a-rat…  and…"),
        (14, "  7  a-rat…  …"),
    ],
)
def test_a_table_is_narrowed_from_the_right(width: int, expected: str) -> None:
    assert table(COLUMNS, ROWS, width)[1] == expected


def test_a_moment_of_today_has_no_date() -> None:
    assert moment_short("2026-11-24T06:30:05Z", at("12:00")) == "06:30:05Z"
    assert moment_short("2026-11-23T23:30:05Z", at("12:00")) == "11-23 23:30Z"
    assert moment_short(None, at("12:00")) == ""


@pytest.mark.parametrize(
    ("progress", "words", "drawn"),
    [
        ({"done": 1, "total": 2, "message": "128 px"}, "50 % 128 px", "[#####.....]"),
        ({"done": 9, "total": 3, "message": ""}, "100 %", "[##########]"),
        ({"done": 1200, "total": None, "message": "lines read"}, "1200 lines read", ""),
        ({"done": 3, "total": 0, "message": None}, "3", ""),
        (None, "", ""),
    ],
)
def test_progress_is_told_and_drawn(progress: dict[str, object] | None, words: str, drawn: str) -> None:
    assert progress_words(progress) == words
    assert bar(progress or {}, 10) == drawn
