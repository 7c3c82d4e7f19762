from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scheduler.rules.file.editor_schema import editor_schema, schema_text
from scheduler.rules.file.yaml_reader import scan_yaml
from tests.rules.file.sample_file import SAMPLE

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "config" / "schedules.schema.json"
PAGES = (ROOT / "README.md", ROOT / "docs" / "schedules.md")
SCHEMA = editor_schema()
EDITOR = jsonschema.Draft202012Validator(SCHEMA)


def values_of(text: str) -> dict[str, Any]:
    document = scan_yaml(text, "example").document
    assert document is not None, text
    assert isinstance(document.data, dict), text
    return document.data


def examples() -> list[tuple[str, str]]:
    return [
        (f"{page.name} {number}", text)
        for page in PAGES
        for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
    ]


def whole(example: dict[str, Any]) -> dict[str, Any]:
    """A whole file round a part of one, or round a part of one schedule."""
    file: dict[str, Any] = {"version": 1, "timezone": "Europe/Berlin", "schedules": {}}
    if set(example) <= set(SCHEMA["properties"]):
        return {**file, **example}
    entry = {"task": "count_words", "when": {"every": "1h"}, **example}
    return {**file, "schedules": {"example": entry}}


def complaints(file: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in EDITOR.iter_errors(file)]


def test_the_file_in_config_is_that_of_the_grammar() -> None:
    assert FILE.read_text() == schema_text()


def test_the_command_prints_it() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "scheduler.rules.file.editor_schema"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert printed.stdout == schema_text()


def test_it_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_key_has_words_for_hover() -> None:
    bare = [
        f"{name}.{key}"
        for name, sheet in [("file", SCHEMA), *SCHEMA["$defs"].items()]
        for key, part in sheet.get("properties", {}).items()
        if "description" not in part
    ]

    assert bare == []


@pytest.mark.parametrize("text", [SAMPLE, (ROOT / "schedules.yaml").read_text()], ids=["the sample", "schedules.yaml"])
def test_a_good_file_is_taken(text: str) -> None:
    assert complaints(values_of(text)) == []


@pytest.mark.parametrize(("name", "text"), examples(), ids=[name for name, _ in examples()])
def test_each_example_of_the_pages_is_taken(name: str, text: str) -> None:
    assert complaints(whole(values_of(text))) == []


@pytest.mark.parametrize(
    "entry",
    [
        {"when": {"every": "5m"}},
        {"when": [{"every": "5m"}, {"at": ["06:30", "07:00"], "days": [1, 15]}]},
        {"blackout": None, "pause_after": None, "args": None},
        {"missed": {"run": "all", "within": None}},
    ],
    ids=["one entry of when", "several", "null where it counts", "no limit"],
)
def test_each_way_to_write_is_taken(entry: dict[str, Any]) -> None:
    assert complaints(whole(entry)) == []


@pytest.mark.parametrize("covers", ["since-last", "24h"])
def test_what_a_digest_covers_is_taken_in_each_way(covers: str) -> None:
    digest = {"to": "ops", "when": {"at": "07:30"}, "covers": covers}

    assert complaints({**values_of(SAMPLE), "digests": {"morning": digest}}) == []


@pytest.mark.parametrize(
    "entry",
    [
        {"rety": "none"},
        {"overlap": "wait"},
        {"when": {"every": "5m", "at": "06:30"}},
        {"when": {"evry": "5m"}},
        {"when": []},
        {"when": {"at": "half past six"}},
        {"when": {"at": 390}},
        {"when": {"cron": "0 9 13 * fri", "match_days": "both"}},
        {"grace": 5},
        {"owner": None},
        {"task": None},
        {"retry": {"attempts": 0}},
        {"exclusive": "Billing Group"},
        {"missed": "newest"},
    ],
    ids=lambda entry: json.dumps(entry),
)
def test_a_typical_mistake_in_a_schedule_is_marked(entry: dict[str, Any]) -> None:
    assert complaints(whole(entry)) != []


@pytest.mark.parametrize(
    "change",
    [{"scedules": {}}, {"version": 2}, {"kinds": {"quick": {}}}, {"schedules": {"Mail Flush": {}}}, {"timezone": 1}],
    ids=lambda change: json.dumps(change),
)
def test_a_typical_mistake_round_the_schedules_is_marked(change: dict[str, Any]) -> None:
    assert complaints(whole({}) | change) != []
