"""What a task function returns, as JSON that both databases take; and what cannot be stored, said clearly.

Dates and times become ISO 8601, Decimal and UUID text, Path text, Enum its value, sets lists (sorted where they can be),
dataclasses dicts, numbers of numpy and the like Python's. Not stored: NaN and infinities, bytes, NUL in a text, lone
surrogates, keys that are no text, and objects that nobody has told us how to read.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

MOST_BYTES = 1_000_000
DEEPEST = 50


class ResultRefused(ValueError):
    """The result cannot be stored."""


def encode_result(value: Any) -> dict[str, Any] | None:
    """The result as a dict for the task's row: a dict as it is, anything else under "value", None as None.

    Raises ResultRefused, naming the place in the result. A result that cannot be stored is no success.

    >>> encode_result({"day": dt.date(2026, 11, 24), "sizes": (32, 64)})
    {'day': '2026-11-24', 'sizes': [32, 64]}
    """
    if value is None:
        return None
    encoded = _encode(value, "result", 0)
    result = encoded if isinstance(encoded, dict) else {"value": encoded}
    size = len(json.dumps(result, ensure_ascii=False).encode())
    if size > MOST_BYTES:
        raise ResultRefused(
            f"the result has {size:,} bytes as JSON, more than {MOST_BYTES:,}: store it elsewhere and return where"
        )
    return result


def _encode(value: Any, place: str, depth: int) -> Any:
    if depth > DEEPEST:
        raise ResultRefused(f"{place}: nested deeper than {DEEPEST} levels, or in itself")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _encode(value.value, place, depth + 1)
    if isinstance(value, str):
        return _text(str(value), place)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ResultRefused(f"{place}: {value!r} is no number that JSON knows; return None or a text for it")
        return float(value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal | UUID | PurePath):
        return _text(str(value), place)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode({one.name: getattr(value, one.name) for one in dataclasses.fields(value)}, place, depth + 1)
    if isinstance(value, Mapping):
        return {_key(key, place): _encode(inner, f"{place}[{key!r}]", depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(inner, f"{place}[{index}]", depth + 1) for index, inner in enumerate(value)]
    if isinstance(value, set | frozenset):
        return _encode(_sorted(value), place, depth + 1)
    plain = getattr(value, "item", None)  # numpy's and pandas' scalars
    if callable(plain) and getattr(value, "shape", None) == ():
        return _encode(plain(), place, depth + 1)
    raise ResultRefused(f"{place}: a {type(value).__name__} cannot be stored; return text, numbers, lists and dicts")


def _key(key: Any, place: str) -> str:
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise ResultRefused(f"{place}: the key {key!r} is no text")
    return _text(str(key), place)


def _text(text: str, place: str) -> str:
    if "\x00" in text:
        raise ResultRefused(f"{place}: a text with a NUL character cannot be stored")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ResultRefused(f"{place}: a text with half a character (a lone surrogate) cannot be stored") from None
    return text


def _sorted(values: set[Any] | frozenset[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)
