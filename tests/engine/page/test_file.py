"""The page of the schedule file: what is on the disk, and how revisions differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.engine.file.apply import apply
from scheduler.engine.page.file import on_disk, text_diff, text_of
from scheduler.errors import NotFound
from scheduler.settings import Settings
from scheduler.store.database import Database
from scheduler.task_functions import Catalogue, TaskFunction
from tests.builders import a_book


def count_words(source: str = "", password: str = "") -> None:
    """Nothing is done here."""


CATALOGUE = Catalogue({"count_words": TaskFunction("count_words", count_words)})
FIRST = "schedules:\n  nightly: {task: count_words, when: {every: 1h}}\n"
SECOND = "schedules:\n  nightly: {task: count_words, when: {every: 2h}}\n"


def put(folder: Path, text: bytes) -> Settings:
    file = folder / "schedules.yaml"
    file.write_bytes(text)
    return Settings(data=folder, file=file)


def test_a_file_that_is_in_force_is_said_to_be(database: Database, tmp_path: Path) -> None:
    book, text = a_book(FIRST)
    apply(database, None, book, text)

    found = on_disk(database, put(tmp_path, text), CATALOGUE)

    assert (found.is_in_force, found.faults, found.is_checked) == (True, (), True)


def test_a_file_that_differs_is_checked(database: Database, tmp_path: Path) -> None:
    apply(database, None, *a_book(FIRST))
    _, better = a_book(SECOND)
    worse = better.replace(b"task:", b"tsak:")

    good = on_disk(database, put(tmp_path, better), CATALOGUE)
    bad = on_disk(database, put(tmp_path, worse), CATALOGUE)

    assert (good.is_in_force, good.schedules, good.faults) == (False, 1, ())
    assert [fault.code for fault in bad.faults] == ["missing-key", "unknown-key"]
    assert bad.schedules is None


def test_a_file_that_is_gone_is_told(database: Database, tmp_path: Path) -> None:
    found = on_disk(database, Settings(data=tmp_path, file=tmp_path / "none.yaml"), CATALOGUE)

    assert [fault.message for fault in found.faults] == ["there is no such file"]


def test_a_long_file_is_checked_when_asked_for(database: Database, tmp_path: Path) -> None:
    _, text = a_book(FIRST + "# a remark\n" * 20_000)
    settings = put(tmp_path, text)

    assert not on_disk(database, settings, CATALOGUE).is_checked
    assert on_disk(database, settings, CATALOGUE, anyhow=True).schedules == 1


def test_revisions_differ_line_by_line(database: Database) -> None:
    apply(database, None, *a_book(FIRST))
    apply(database, None, *a_book(SECOND))

    found = text_diff(database, 1, 2)

    assert found.lines == (
        ("@", "@@ -1,5 +1,5 @@"),
        (" ", "version: 1"),
        (" ", "timezone: UTC"),
        (" ", "schedules:"),
        ("-", "  nightly: {task: count_words, when: {every: 1h}}"),
        ("+", "  nightly: {task: count_words, when: {every: 2h}}"),
        (" ", ""),
    )
    assert text_diff(database, 1, 1).lines == ()


def test_texts_that_are_very_long_are_not_compared(database: Database) -> None:
    apply(database, None, *a_book(FIRST + "# a remark\n" * 6_000))
    apply(database, None, *a_book(SECOND))

    assert text_diff(database, 1, 2).is_too_long


def test_what_looks_like_a_secret_is_masked(database: Database) -> None:
    apply(
        database,
        None,
        *a_book("schedules:\n  nightly: {task: count_words, args: {password: hunter22}, when: {every: 1h}}\n"),
    )

    assert "password: ***" in text_of(database, 1)
    assert "hunter22" not in text_of(database, 1)


def test_the_beginning_of_a_long_text_is_whole_lines_of_it(database: Database) -> None:
    apply(database, None, *a_book(FIRST))

    assert text_of(database, 1, letters=30) == "version: 1\ntimezone: UTC\n"
    assert text_of(database, 1, letters=10_000) == text_of(database, 1)


def test_what_looks_like_a_secret_is_masked_in_a_comparison_too(database: Database) -> None:
    for secret in ("hunter22", "hunter33"):
        entry = f"nightly: {{task: count_words, args: {{password: {secret}}}, when: {{every: 1h}}}}"
        apply(database, None, *a_book(f"schedules:\n  {entry}\n"))

    changed = [line for sign, line in text_diff(database, 1, 2).lines if sign in "+-"]

    assert changed == ["  nightly: {task: count_words, args: {password: ***}, when: {every: 1h}}"] * 2


def test_an_unknown_revision_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound) as caught:
        text_of(database, 7)

    assert str(caught.value) == "There is no revision 7"
