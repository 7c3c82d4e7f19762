"""The JSON schema by which an editor completes and checks a schedule file; made of the grammar's models.

    python -m scheduler.rules.file.editor_schema > config/schedules.schema.json

An editor sees less than `scheduler check`: no names of task functions or calendars, no moments that are past.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from scheduler.rules.file.grammar import FileEntry
from scheduler.rules.file.schedule_file import MAY_BE_EMPTY

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Keys that say something by `null`; elsewhere the models' None means «not written», and an editor should not offer it.
NULL_COUNTS = MAY_BE_EMPTY | {"within"}


def editor_schema() -> dict[str, Any]:
    """A JSON schema, draft 2020-12, of the whole file."""
    schema = _tidied(FileEntry.model_json_schema())
    return {"$schema": DIALECT, "title": "schedules.yaml", **schema}


def schema_text() -> str:
    """The schema as its file holds it."""
    return json.dumps(editor_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidied(schema: Any, key: str = "") -> Any:
    """Without pydantic's titles, and without defaults that are not written as they stand there."""
    if isinstance(schema, list):
        return [_tidied(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    tidy: dict[str, Any] = {}
    for word, value in schema.items():
        if word in ("properties", "patternProperties", "$defs"):
            tidy[word] = {name: _tidied(part, name) for name, part in value.items()}
        elif word not in ("title", "default"):
            tidy[word] = _tidied(value)
    choices: list[Any] = tidy.get("anyOf", [])
    if {"type": "null"} in choices and key not in NULL_COUNTS:
        choices.remove({"type": "null"})
        if len(choices) == 1:
            del tidy["anyOf"]
            tidy = {**choices[0], **tidy}  # what is said of the key comes before what is said of its sort
    return tidy


if __name__ == "__main__":
    sys.stdout.write(schema_text())
