"""What a task gave and who asked for it, in a few words, wherever tasks are listed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def result_in_words(result: Mapping[str, Any] | None) -> str:
    """A result on one line: numbers first, which tell most.

    >>> result_in_words({"file": "README.md", "words": 120}), result_in_words({"value": [1, 2]}), result_in_words(None)
    ('words 120, file README.md', '[1, 2]', '')
    """
    if result is None:
        return ""
    if list(result) == ["files"] and isinstance(result["files"], list):
        return ", ".join(_file_name(one) for one in result["files"])
    if list(result) == ["value"]:  # of a function that returned no dict
        return _compact(result["value"])
    numbers_first = sorted(result.items(), key=lambda item: (not isinstance(item[1], int | float), item[0]))
    return ", ".join(f"{name} {_compact(value)}" for name, value in numbers_first)


def origin_in_words(task: Mapping[str, Any]) -> str:
    """Who or what asked for a task: «schedule nightly», «retry of task 17, by jana»."""
    words = {"schedule": f"schedule {task['schedule']}", "catch_up": f"schedule {task['schedule']}, caught up"}
    told = words.get(task["origin"], str(task["origin"]))
    if task["retry_of"]:
        told += f" of task {task['retry_of']}"
    return told + (f", by {task['requested_by']}" if task["requested_by"] else "")


def size_in_words(number: int) -> str:
    """Bytes, as people read them.

    >>> size_in_words(512), size_in_words(2_300_000)
    ('512 bytes', '2.2 MiB')
    """
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"


def _file_name(file: Any) -> str:
    return str(file["name"]) if isinstance(file, dict) and "name" in file else _compact(file)


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
