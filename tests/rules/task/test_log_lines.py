"""Lines out of bytes: as they were meant, whoever wrote them and in whatever pieces they come."""

from __future__ import annotations

import pytest

from scheduler.rules.task import log_lines
from scheduler.rules.task.log_lines import (
    LONGEST_LINE,
    LONGEST_MARK,
    LONGEST_RAW,
    KeptLines,
    OutputReader,
    clean_line,
    mark,
)

B, E = mark("B", "mine"), mark("E", "mine")


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        pytest.param("plain\ttext", "plain\ttext", id="plain"),
        pytest.param("\x1b[1;32mgreen\x1b[0m", "green", id="colours"),
        pytest.param("\x1b]0;title\x07text\x1b(B", "text", id="a title and a character set"),
        pytest.param("10 %\r\x1b[K20 %\r", "20 %", id="a progress bar"),
        pytest.param("windows\r", "windows", id="a line's end of another system"),
        pytest.param("a\x00b\x08\x7f\x85c", "abc", id="control characters"),
        pytest.param("half \ud800", "half \\ud800", id="half a character"),
        pytest.param("x" * LONGEST_LINE, "x" * LONGEST_LINE, id="as long as it may be"),
        pytest.param("x" * (LONGEST_LINE + 1), "x" * LONGEST_LINE + " […]", id="too long"),
        pytest.param("\x1b]0;" + "x" * 100, "", id="an escape that does not end"),
        pytest.param("\r\r", "", id="nothing"),
    ],
)
def test_a_line_as_it_is_kept(printed: str, line: str) -> None:
    assert clean_line(printed) == line


STREAM = b"noise" + B + b"one\n" + mark("L", "logged") + b"par" + mark("L", "tial") + b"\n\xff\nlast" + E + b"noise\n"
MEANT = [("one", False), ("logged", True), ("par", False), ("tial", True), ("", False), ("\\xff", False)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_pieces_in_which_bytes_come_change_nothing(size: int) -> None:
    reader = OutputReader()

    found = [piece for at in range(0, len(STREAM), size) for piece in reader.take(STREAM[at : at + size], "mine")]

    assert found == [*MEANT, ("last", False)]
    assert reader.owner == ""


def test_what_belongs_to_an_attempt_that_is_not_known_yet_is_held_back() -> None:
    reader = OutputReader()

    first = reader.take(B + b"one" + E + mark("B", "next") + b"two\n", "mine")

    assert first == [("one", False)]
    assert reader.is_waiting
    assert reader.take(b"", "mine") == []
    assert reader.take(b"", "next") == [("two", False)]
    assert not reader.is_waiting


def test_a_line_without_an_end_is_kept_at_the_end() -> None:
    reader = OutputReader()
    reader.take(B + b"half a li", "mine")

    assert reader.finish() == [("half a li", False)]


def test_a_line_of_any_length_takes_little_memory() -> None:
    reader = OutputReader()

    found = reader.take(B, "mine")
    for _ in range(1000):
        found += reader.take(b"x" * 10_000, "mine")
        assert len(reader._rest) <= LONGEST_RAW
    found += reader.take(b"\nnext\n", "mine")

    assert [len(piece.text) for piece in found] == [LONGEST_RAW, len("next")]


def test_a_progress_bar_of_any_length_keeps_its_last_state() -> None:
    reader = OutputReader()

    found = reader.take(B, "mine")
    for number in range(10_000):
        found += reader.take(f"at {number} of many\r".encode(), "mine")
    found += reader.take(b"\n", "mine")

    assert [clean_line(piece.text) for piece in found] == ["at 9999 of many"]


def test_a_mark_that_does_not_end_is_text() -> None:
    reader = OutputReader()

    found = reader.take(B + b"\x1eL" + b"x" * (LONGEST_MARK + 1) + b"\n", "mine")

    assert len(found) == 1
    assert clean_line(found[0].text).startswith("Lxxx")


def test_a_mark_is_never_longer_than_a_pipe_takes_whole() -> None:
    assert len(mark("L", "€" * 10_000)) <= LONGEST_MARK
    assert mark("L", "€" * 10_000).decode().endswith("€ […]\x1f")


def test_lines_over_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "MOST_LINES", 2)
    kept = KeptLines()

    for line in "abcde":
        kept.add(line)
    kept.close()

    assert kept.waiting == [
        "a",
        "b",
        "[the log is full: what follows is counted, not kept]",
        "[3 more lines came and are not kept]",
    ]


def test_letters_over_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "MOST_CHARACTERS", 100)
    kept = KeptLines()

    for _ in range(3):
        kept.add("x" * 60)
    kept.close()

    assert kept.waiting[2:] == [
        "[the log is full: what follows is counted, not kept]",
        "[1 more line came and is not kept]",
    ]
