"""The schedule file and those of `schedules.d`, as they stand on a disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scheduler.clock import utc_now
from scheduler.engine.file.schedule_files import MOST_FILES, last_touched, load_schedule_file, read_schedule_file
from scheduler.errors import FileFaults

MAIN = "version: 1\ntimezone: UTC\nschedules: {}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "schedules.yaml"
    path.write_text(MAIN)
    return path


@pytest.fixture
def folder(path: Path) -> Path:
    folder = path.parent / "schedules.d"
    folder.mkdir()
    return folder


def refused(path: Path) -> str:
    with pytest.raises(FileFaults) as faults:
        read_schedule_file(path)
    return str(faults.value).replace(f"{path.parent}/", "")


def test_without_the_folder_the_text_is_the_file(path: Path) -> None:
    assert read_schedule_file(path) == MAIN.encode()


def test_an_empty_folder_changes_nothing(path: Path, folder: Path) -> None:
    assert read_schedule_file(path) == MAIN.encode()


def test_further_files_are_read_in_order_of_their_names(path: Path, folder: Path) -> None:
    (folder / "b.yaml").write_text("schedules: {}\n")
    (folder / "a.yaml").write_text("calendars: {}")

    assert read_schedule_file(path).decode() == (
        f"{MAIN}# --- schedules.d/a.yaml\ncalendars: {{}}\n# --- schedules.d/b.yaml\nschedules: {{}}\n"
    )


@pytest.mark.parametrize("name", [".a.yaml", "a.yaml~", "#a.yaml#", ".a.yaml.swp", "README.md", "a.yaml.bak"])
def test_hidden_files_and_what_editors_leave_are_passed_over(path: Path, folder: Path, name: str) -> None:
    (folder / name).write_text("[")
    (folder / ".#a.yaml").symlink_to("jana@here.4711")

    assert read_schedule_file(path) == MAIN.encode()


def test_a_file_of_the_other_ending_is_warned_of(path: Path, folder: Path) -> None:
    (folder / "billing.yml").write_text("schedules: {}\n")

    text, loaded = load_schedule_file(path, None, utc_now())

    assert text == MAIN.encode()
    assert [str(warning) for warning in loaded.warnings] == [
        f"{folder}/billing.yml:1:1: this file is not read: its name does not end in .yaml\n    Name it billing.yaml."
    ]


def test_all_that_cannot_be_read_is_told_in_one_go(path: Path, folder: Path) -> None:
    path.unlink()
    (folder / "a.yaml").symlink_to("gone")
    (folder / "b.yaml").mkdir()
    os.mkfifo(folder / "c.yaml")
    (folder / "d\n.yaml").write_text("")

    assert (
        refused(path)
        == """\
schedules.yaml:1:1: there is no such file
    Write one, or name another with --file or SCHEDULER_FILE.
schedules.d:1:1: the name 'd\\n.yaml' holds letters that cannot be shown
    Rename the file.
schedules.d/a.yaml:1:1: there is no such file
    It is a link to nothing: mend or remove it.
schedules.d/b.yaml:1:1: this is no file
    Move it away, or name it otherwise.
schedules.d/c.yaml:1:1: this is no file
    Move it away, or name it otherwise."""
    )


def test_a_file_in_the_place_of_the_folder_is_told(path: Path) -> None:
    (path.parent / "schedules.d").write_text("")

    assert refused(path) == (
        "schedules.d:1:1: this is no folder\n    Further files stand in a folder of this name; give the file another."
    )


def test_more_files_than_are_looked_at_are_refused(path: Path, folder: Path) -> None:
    for number in range(MOST_FILES + 1):
        (folder / f"{number}.yaml").touch()

    assert refused(path) == (
        "schedules.d:1:1: the folder holds 201 schedule files; 200 are the most\n    Put some of them together."
    )


def test_the_text_of_a_revision_is_not_taken_for_a_file(path: Path, folder: Path) -> None:
    (folder / "a.yaml").write_text("schedules: {}\n")
    path.write_bytes(read_schedule_file(path))

    assert (
        refused(path)
        == """\
schedules.yaml:4:1: a line like this parts the files in the text of a revision; it cannot stand in one of them
    4 | # --- schedules.d/a.yaml
      | ^^^^^^^^^^^^^^^^^^^^^^^^
    Put what follows it into schedules.d/a.yaml, or reword the line."""
    )


def test_the_newest_of_the_files_and_the_folder_tells_when_they_were_touched(path: Path, folder: Path) -> None:
    (folder / "a.yaml").touch()
    for place in (path, folder, folder / "a.yaml"):
        os.utime(place, (1_000_000, 1_000_000))
    before = last_touched(path)
    os.utime(folder / "a.yaml", (2_000_000, 2_000_000))

    assert (before.timestamp(), last_touched(path).timestamp()) == (1_000_000, 2_000_000)
