"""Whether both databases take a value as JSON: PostgreSQL has no NUL in a text, and JSON no NaN."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

DEEPEST = 50
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def why_unstorable(value: Any) -> str | None:
    """What keeps plain data (of dicts, lists, texts, numbers) from being stored; None when nothing does."""
    for part, depth in _parts(value):
        if depth > DEEPEST:
            return f"lists and mappings stand at most {DEEPEST} deep in each other"
        if isinstance(part, float) and not math.isfinite(part):
            return "NaN and infinities are no JSON"
        if isinstance(part, str) and _UNSTORABLE.search(part):
            return "a text holds no NUL and no half of a letter"
    return None


def _parts(value: Any) -> Iterator[tuple[Any, int]]:
    """Every value and key, and how deep it stands; without recursion, whatever was given."""
    open_: list[tuple[Any, int]] = [(value, 1)]
    while open_:
        one, depth = open_.pop()
        yield one, depth
        if isinstance(one, dict):
            open_.extend((part, depth + 1) for pair in one.items() for part in pair)
        elif isinstance(one, list):
            open_.extend((part, depth + 1) for part in one)
