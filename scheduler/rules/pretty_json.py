"""JSON for people: lists and objects stand on one line where they fit."""

from __future__ import annotations

import json
from typing import Any


def pretty(value: Any, width: int, indent: str = "") -> str:
    """
    >>> print(pretty({"source": "a.jpg", "sizes": [64, 128], "title": "a rather long one"}, 40))
    {
      "source": "a.jpg",
      "sizes": [64, 128],
      "title": "a rather long one"
    }
    """
    short = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(short) < width or not value or not isinstance(value, dict | list):
        return short
    deeper = indent + "  "
    if isinstance(value, dict):
        names = [f"{json.dumps(name, ensure_ascii=False)}: " for name in value]
        parts = [name + pretty(one, width - len(name), deeper) for name, one in zip(names, value.values(), strict=True)]
    else:
        parts = [pretty(one, width, deeper) for one in value]
    inner = ",\n".join(deeper + part for part in parts)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}\n{indent}{closing}"
