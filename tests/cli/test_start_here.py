from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scheduler.cli import run


def test_init_writes_a_file_that_check_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "schedules.yaml"

    assert run(["init", "--file", str(file), "--timezone", "Europe/Berlin"]) == 0
    assert capsys.readouterr().out == (
        f"{file} is written. Next: add a schedule, then `scheduler check` and `scheduler up`.\n"
    )
    assert run(["check", str(file)]) == 0
    assert capsys.readouterr() == (f"{file}: good, 0 schedules\n", "")


def test_the_entry_in_its_comments_is_good_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "schedules.yaml"
    run(["init", "--file", str(file)])
    text = file.read_text().replace("schedules: {}", "schedules:")
    file.write_text(re.sub(r"^#(  )", r"\1", text, flags=re.MULTILINE))
    capsys.readouterr()

    assert run(["check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: good, 1 schedule\n"


def test_init_leaves_a_file_that_is_there_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "schedules.yaml"
    file.write_text("mine")

    assert run(["init", "--file", str(file)]) == 1

    assert file.read_text() == "mine"
    assert capsys.readouterr().err == (f"{file} is there already, and is left as it is. Name another with --file.\n")


def test_init_tells_of_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "nowhere" / "schedules.yaml"

    assert run(["init", "--file", str(file)]) == 1
    assert capsys.readouterr().err == (
        f"{file} cannot be written: No such file or directory. Name another with --file.\n"
    )


def test_init_tells_of_a_zone_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "schedules.yaml"

    assert run(["init", "--file", str(file), "--timezone", "Berlin"]) == 2

    assert not file.exists()
    assert capsys.readouterr().err == ('there is no time zone "Berlin"; did you mean "Europe/Berlin"?\n')


def test_init_names_the_schema_where_there_is_one(tmp_path: Path) -> None:
    schema = tmp_path / "config" / "schedules.schema.json"
    schema.parent.mkdir()
    schema.write_text("{}")
    file = tmp_path / "schedules.yaml"

    assert run(["init", "--file", str(file)]) == 0
    assert file.read_text().startswith("# yaml-language-server: $schema=config/schedules.schema.json\n# What runs")


def test_import_prints_entries_and_tells_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crontab = tmp_path / "crontab"
    crontab.write_text("30 2 * * * /opt/backup.sh\n")

    assert run(["import", "crontab", str(crontab)]) == 0

    said = capsys.readouterr()
    assert said.out.endswith("""\
schedules:
  backup:
    # line 1: /opt/backup.sh
    # task: the function that does this
    when: {cron: "30 2 * * *"}
""")
    assert said.err == "1 entry, without its task\n"


def test_import_ends_with_1_when_a_line_could_not_be_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crontab = tmp_path / "crontab"
    crontab.write_text("MAILTO=a@example.org\n@hourly a\n@reboot b\n")

    assert run(["import", "crontab", str(crontab), "--json"]) == 1

    assert json.loads(capsys.readouterr().out) == {
        "entries": [
            {
                "line": 2,
                "name": "a",
                "cron": "@hourly",
                "match_days": None,
                "timezone": None,
                "about": "",
                "command": "a",
                "notes": [],
            }
        ],
        "settings": [
            {
                "line": 1,
                "text": "MAILTO=a@example.org",
                "why": "whom to tell stands under contacts and notify; output is kept with each task, not mailed",
            }
        ],
        "not_turned": [
            {
                "line": 3,
                "text": "@reboot b",
                "why": "@reboot follows the start of the host, a schedule the clock; let the host start it",
            }
        ],
    }
