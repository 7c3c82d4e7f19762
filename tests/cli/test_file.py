"""`scheduler check` as a person and as a program read it. The clock is held on 24 November 2026."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from scheduler.cli import file as file_commands
from scheduler.cli import run

NOW = dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)
HEAD = "version: 1\ntimezone: Europe/Berlin\nschedules:\n"
NIGHTLY = '  {name}: {{task: count_words, args: {{source: README.md}}, when: {{at: "02:30"}}}}\n'


@pytest.fixture(autouse=True)
def a_clock_that_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no database is
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(file_commands, "utc_now", lambda: NOW)


def a_file(folder: Path, schedules: str) -> str:
    file = folder / "schedules.yaml"
    file.write_text(HEAD + schedules)
    return str(file)


def test_check_tells_what_clock_changes_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = a_file(tmp_path, NIGHTLY.format(name="night-words"))

    assert run(["check", file]) == 0

    assert (
        capsys.readouterr().out
        == f"""\
{file}: good, 1 schedule
clock changes of the next 12 months:
  2027-03-28  night-words: clocks go forward: 02:30 does not exist, runs at 03:00
  2027-10-31  night-words: clocks go back: 02:30 comes twice, runs the first time
"""
    )


def test_check_keeps_a_long_list_of_clock_changes_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = a_file(tmp_path, "".join(NIGHTLY.format(name=f"job-{number}") for number in range(15)))

    assert run(["check", file]) == 0

    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 23
    assert said.out.splitlines()[-1] == "  … and 10 more; --json lists them all"
    assert "15 schedules fire in one minute, 2026-11-25 02:30 (Europe/Berlin)" in said.err


def test_check_gives_programs_the_clock_changes_as_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = a_file(tmp_path, NIGHTLY.format(name="night-words"))

    assert run(["check", file, "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        "ok": True,
        "faults": [],
        "warnings": [],
        "notes": [
            {
                "schedule": "night-words",
                "fire_time": "2027-03-28T01:00:00Z",
                "local": "2027-03-28T03:00:00+02:00",
                "note": "clocks go forward: 02:30 does not exist, runs at 03:00",
            },
            {
                "schedule": "night-words",
                "fire_time": "2027-10-31T00:30:00Z",
                "local": "2027-10-31T02:30:00+02:00",
                "note": "clocks go back: 02:30 comes twice, runs the first time",
            },
        ],
        "schedules": ["night-words"],
        "files": [file],
    }


def test_check_tells_which_files_it_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = a_file(tmp_path, "  one: {task: count_words, when: {every: 1h}}\n")
    (tmp_path / "schedules.d").mkdir()
    (tmp_path / "schedules.d" / "more.yaml").write_text(
        "schedules:\n  two: {task: count_words, args: {source: a}, when: {every: 1h}}\n"
    )
    (tmp_path / "schedules.yaml").write_text(
        Path(file).read_text().replace("words, when", "words, args: {source: a}, when")
    )

    assert run(["check", file]) == 0
    said = capsys.readouterr().out
    assert run(["check", file, "--json"]) == 0

    further = f"{tmp_path}/schedules.d/more.yaml"
    assert said == f"{file}: good, 2 schedules\nread from 2 files:\n  {file}\n  {further}\n"
    assert json.loads(capsys.readouterr().out)["files"] == [file, further]


def test_next_shows_the_schedules_of_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = a_file(tmp_path, "  one: {task: a, when: {every: 1h}}\n")
    (tmp_path / "schedules.d").mkdir()
    (tmp_path / "schedules.d" / "more.yaml").write_text("schedules:\n  two: {task: b, when: {every: 1h}}\n")

    assert run(["next", "--file", file, "--json"]) == 0

    assert [row["schedule"] for row in json.loads(capsys.readouterr().out)] == ["one", "two"]
