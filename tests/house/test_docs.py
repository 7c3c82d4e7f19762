"""What README.md and docs/ say, held against the code: examples load, commands and files exist, no word is left out.

The examples of docs/schedules.md are of three sorts: whole files (they have a version), parts of a file, and parts of
one schedule. Parts may name any calendar or retry policy that another block of the page defines.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

from scheduler import cli
from scheduler.rules.file.grammar import SHEETS, FileEntry, KindEntry, ScheduleEntry, keys_of
from scheduler.rules.file.grammar_mail import ContactEntry, DigestEntry
from scheduler.rules.file.grammar_when import CalendarEntry
from scheduler.rules.file.schedule_file import load_book
from scheduler.rules.file.yaml_reader import scan_yaml
from scheduler.rules.states import REASON_CODES
from scheduler.settings import Settings, environment_name
from scheduler.task_functions import TaskFunction, find_task_functions

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
GRAMMAR = ROOT / "docs" / "schedules.md"
OPERATIONS = ROOT / "docs" / "operations.md"
PROMISE = ROOT / "docs" / "promise.md"

NOW = dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)
LONGEST_LINE = 100  # columns
BLOCK = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
TEST_NAME = re.compile(r"(tests/[\w/]+\.py)|`(test_\w+)`")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return [block["text"] for block in BLOCK.finditer(page.read_text()) if block["language"] == language]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return BLOCK.sub("", page.read_text())


def tables(page: Path, head: str) -> Iterator[list[str]]:
    """The rows of all tables whose first column is headed `head`, as their cells."""
    for table in re.findall(r"(?:^\|.*\|\n)+", prose(page), re.MULTILINE):
        first, _, *rows = table.splitlines()
        if first.split("|")[1].strip() == head:
            yield from ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)


# --- examples of the schedule file ----------------------------------------------------------------------------------


def as_values(text: str) -> dict[str, Any]:
    document = scan_yaml(text, "example").document
    assert document is not None, text
    assert isinstance(document.data, dict), text
    return document.data


@cache
def functions() -> dict[str, TaskFunction]:
    return dict(find_task_functions(["tasks"]).functions)


def faults(text: str) -> list[str]:
    return [str(fault) for fault in load_book(text, file="example", functions=functions(), now=NOW).faults]


def is_whole(text: str) -> bool:
    return "version" in as_values(text)


def around(example: dict[str, Any]) -> str:
    """A whole file round a part of one, or round a part of one schedule."""
    file: dict[str, Any] = {"version": 1, "timezone": "Europe/Berlin", "calendars": {}, "retry_policies": {}}
    file["contacts"] = {}
    for block in map(as_values, blocks(GRAMMAR, "yaml")):
        for section in ("calendars", "retry_policies", "contacts"):
            file[section] |= block.get(section, {})
    schedule = {"task": "count_words", "args": {"source": "README.md"}}
    if set(example) <= set(keys_of(FileEntry)):
        return json.dumps({**file, "schedules": {}, **example})
    return json.dumps({**file, "schedules": {"example": {**schedule, **example}}})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_whole_file_in_a_page_is_taken_without_a_fault(page: Path) -> None:
    examples = filter(is_whole, blocks(page, "yaml"))

    assert [fault for example in examples for fault in faults(example)] == []


def test_each_part_of_a_file_is_taken_without_a_fault() -> None:
    parts = [as_values(block) for block in blocks(GRAMMAR, "yaml") if not is_whole(block)]

    assert len(parts) > 10
    assert [fault for part in parts for fault in faults(around(part))] == []


@pytest.mark.parametrize("key", ["when", "days", "overlap"])
def test_each_value_in_a_table_is_taken_without_a_fault(key: str) -> None:
    written = [CODE.findall(cells[0])[0] for cells in tables(GRAMMAR, f"`{key}`")]
    values = [as_values(f"{key}: {value}") for value in written]
    parts = [
        {"when": {"at": "06:30", **value}} if key == "days" else {"when": {"every": "1h"}, **value} for value in values
    ]

    assert parts
    assert [fault for part in parts for fault in faults(around(part))] == []


def test_fire_times_in_the_page_are_those_that_next_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, printed, file = [], [], tmp_path / "schedules.yaml"
    for block in BLOCK.finditer(GRAMMAR.read_text()):
        if block["language"] == "yaml" and is_whole(block["text"]):
            file.write_text(block["text"])
        if block["language"] == "console":
            command, _, output = block["text"].partition("\n")
            said.append(output)
            with chdir(ROOT):  # where the settings are looked for
                assert cli.run([*command.removeprefix("$ scheduler ").split(), "--file", str(file)]) == 0
            printed.append(capsys.readouterr().out)

    assert len(said) > 2
    assert said == printed


@pytest.mark.parametrize(
    "sheet", [*SHEETS.values(), KindEntry, CalendarEntry, ScheduleEntry, ContactEntry, DigestEntry]
)
def test_each_word_of_the_grammar_is_explained(sheet: Any) -> None:
    explained = {word for span in CODE.findall(GRAMMAR.read_text()) for word in re.findall(r"[a-z_]+", span)}

    assert sorted(set(keys_of(sheet)) - explained) == []


# --- commands -------------------------------------------------------------------------------------------------------


def commands_in(page: Path) -> Iterator[str]:
    """Each `scheduler …` in code, by the line."""
    spans = CODE.findall(prose(page))
    lines = [
        line.strip().removeprefix("$ ")
        for block in BLOCK.finditer(page.read_text())
        for line in block["text"].splitlines()
    ]
    indented = re.findall(r"^    (scheduler .*)$", page.read_text(), re.MULTILINE)
    for text in (*spans, *lines, *indented):
        yield from re.findall(r"^scheduler [a-z].*", text)


def options_of(command: click.Command) -> set[str]:
    """The options of a command and of the commands below it."""
    below = list(command.commands.values()) if isinstance(command, click.Group) else []
    return {option for one in (command, *below) for parameter in one.params for option in parameter.opts}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_command_in_a_page_exists_with_its_options(page: Path) -> None:
    unknown = []
    for text in commands_in(page):
        word = text.split()[1]
        command = cli.command_line.get_command(click.Context(cli.command_line), word)
        options = options_of(command) if command else set()
        unknown += [text for option in re.findall(r"--[a-z][a-z-]*", text) if option not in options]
        unknown += [] if command else [text]

    assert unknown == []


def test_the_readme_names_each_command_and_no_other_option() -> None:
    rows = {CODE.findall(cells[0])[0].split()[1]: " ".join(cells) for cells in tables(ROOT / "README.md", "command")}

    assert set(rows) == set(cli.COMMANDS)
    for word, row in rows.items():
        command = cli.command_line.get_command(click.Context(cli.command_line), word)
        assert command is not None
        assert set(re.findall(r"--[a-z][a-z-]*", row)) <= options_of(command), word


# --- files, settings, text ------------------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """The name that a heading has in addresses."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_link_leads_to_a_file_and_a_heading_of_it(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        path, _, part = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (part and part not in map(anchor, HEADING.findall(target.read_text()))):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_file_named_in_a_page_exists(page: Path) -> None:
    named = re.findall(r"\b(?:scheduler|tasks|tests|config|docs|benchmarks)/[\w/.-]*\w", page.read_text())

    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_settings_table_names_each_setting_its_variable_and_default() -> None:
    rows = {CODE.findall(cells[0])[0]: cells for cells in tables(OPERATIONS, "setting")}
    settings = {one["name"]: one["value"] for one in Settings().shown()}

    assert set(rows) == set(settings) == {one.name for one in fields(Settings)} - {"sources"}
    assert {name: cells[1].strip("`") for name, cells in rows.items()} == {
        name: environment_name(name) for name in rows
    }
    assert {name: cells[2].strip("`") for name, cells in rows.items()} == settings


def test_each_reason_for_an_end_is_explained() -> None:
    told = {tuple(CODE.findall(cells[0])) for cells in tables(OPERATIONS, "state, code")}

    assert told == {(state, code) for state, codes in REASON_CODES.items() for code in codes}


def named_tests(text: str) -> Iterator[tuple[str, str]]:
    """File and name of each test that a page names: in `backticks`, after its file."""
    path = ""
    for file, name in TEST_NAME.findall(" ".join(text.split())):
        path = file or path
        if name:
            yield path, name


def test_each_test_that_the_promise_names_exists() -> None:
    named = list(named_tests(PROMISE.read_text()))
    sources = {path: (ROOT / path).read_text() if (ROOT / path).is_file() else "" for path, _ in named}

    assert named
    assert [f"{path}: {name}" for path, name in named if f"\ndef {name}(" not in sources[path]] == []


def test_each_clause_of_the_promise_names_tests_that_hold_it() -> None:
    clauses = re.split(r"^## \d+\. ", PROMISE.read_text(), flags=re.MULTILINE)[1:]

    assert len(clauses) == 14
    assert [clause.splitlines()[0] for clause in clauses if not list(named_tests(clause))] == []


def test_each_room_of_rules_and_engine_is_in_the_plan_of_the_house() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text()

    rooms = {
        f"scheduler/{floor}/{room.parent.name}/"
        for floor in ("rules", "engine")
        for room in (ROOT / "scheduler" / floor).glob("*/__init__.py")
    }

    assert set(re.findall(r"^\| (scheduler/[a-z]+/[a-z]+/) \|", plan, re.MULTILINE)) == rooms


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_no_line_is_longer_than_a_page_is_wide(page: Path) -> None:
    lines = page.read_text().splitlines()

    assert [f"{number}: {line}" for number, line in enumerate(lines, 1) if len(line) > LONGEST_LINE] == []
