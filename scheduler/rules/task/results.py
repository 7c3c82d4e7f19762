"""What a task function returns, as JSON that both databases take; and what cannot be stored, said clearly.

Dates and times become ISO 8601, Decimal, UUID and Path text, Enum its value, sets lists (sorted where they can be),
dataclasses dicts, scalars and arrays of numpy and the like Python's. Not stored: NaN, NaT and infinities, bytes, NUL in
a text, lone surrogates, keys that are no text or the same text twice, and objects that nobody has told us how to read.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from scheduler.result_kinds import File, Html, Link, Text

RESULT_KINDS = JSON, TEXT, HTML, LINK, FILE = ("json", "text", "html", "link", "file")
MOST_FILES = 100
MOST_BYTES = 1_000_000
MOST_VALUES = MOST_BYTES // 2  # none has fewer than two bytes; lists that share lists could hold 2 ** 50 of them
DEEPEST = 50
MOST_DIGITS = 4_000  # Python refuses to write a number of more than 4,300 as text


class ResultRefused(ValueError):
    """The result cannot be stored."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A result as it is to be stored; `files` are still to be kept, and then told of in `result`."""

    kind: str | None = None
    result: dict[str, Any] | None = None
    files: tuple[File, ...] = ()


def encode_returned(value: Any) -> Encoded:
    """What a task function returned, with its kind. Raises ResultRefused."""
    if value is None:
        return Encoded()
    if isinstance(value, File):
        return Encoded(FILE, files=(value,))
    if isinstance(value, list | tuple) and value and all(isinstance(one, File) for one in value):
        if len(value) > MOST_FILES:
            raise ResultRefused(f"the result has {len(value)} files, more than {MOST_FILES}: return an archive of them")
        return Encoded(FILE, files=tuple(value))
    if isinstance(value, Text):
        return Encoded(TEXT, encode_result(_told(value.text, "Text")))
    if isinstance(value, Html):
        return Encoded(HTML, encode_result(_told(value.html, "Html")))
    if isinstance(value, Link):
        return Encoded(LINK, encode_result(_link(value)))
    return Encoded(JSON, encode_result(value))


def _told(text: Any, kind: str) -> str:
    if not isinstance(text, str):
        raise ResultRefused(f"{kind} takes a str, not a {type(text).__name__}")
    return text


def _link(link: Link) -> dict[str, str]:
    url = str(link.url)
    if re.fullmatch(r"https?://[^\s\x00-\x20\x7f]+", url, re.IGNORECASE) is None:
        raise ResultRefused(f"Link takes an http or https URL, not {url[:200]!r}")
    return {"value": url, "title": str(link.title)} if link.title else {"value": url}


def encode_result(value: Any) -> dict[str, Any] | None:
    """The result as a dict for the task's row: a dict as it is, anything else under "value", None as None.

    Raises ResultRefused, naming the place in the result. A result that cannot be stored is no success.

    >>> encode_result({"day": dt.date(2026, 11, 24), "sizes": (32, 64)})
    {'day': '2026-11-24', 'sizes': [32, 64]}
    """
    if value is None:
        return None
    encoded = _Encoding().encode(value, "result", 0)
    result = encoded if isinstance(encoded, dict) else {"value": encoded}
    size = len(json.dumps(result, ensure_ascii=False).encode())
    if size > MOST_BYTES:
        raise ResultRefused(
            f"the result has {size:,} bytes as JSON, more than {MOST_BYTES:,}: store it elsewhere and return where"
        )
    return result


class _Encoding:
    def __init__(self) -> None:
        self._values = 0

    def encode(self, value: Any, place: str, depth: int) -> Any:
        self._values += 1
        if self._values > MOST_VALUES:
            raise ResultRefused(f"the result has more than {MOST_VALUES:,} values: store it elsewhere and return where")
        if depth > DEEPEST:
            raise ResultRefused(f"{place}: nested deeper than {DEEPEST} levels, or in itself")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return self.encode(value.value, place, depth + 1)
        if isinstance(value, str):
            return _text(str(value), place)
        if isinstance(value, int):
            return _whole(int(value), place)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise ResultRefused(f"{place}: {value!r} is no number that JSON knows; return None or a text for it")
            return float(value)
        if isinstance(value, dt.datetime | dt.date | dt.time):
            if value != value:  # pandas' NaT
                raise ResultRefused(f"{place}: NaT is no moment; return None or a text for it")
            return value.isoformat()
        if isinstance(value, dt.timedelta):
            return value.total_seconds()
        if isinstance(value, bytes | bytearray | memoryview):
            raise ResultRefused(f"{place}: {type(value).__name__} cannot be stored; decode them, or return a File")
        if isinstance(value, Text | Html | Link | File):
            name = type(value).__name__
            raise ResultRefused(f"{place}: {name} is a result by itself; return it alone, or a list of File")
        if isinstance(value, Decimal | UUID | PurePath):
            return _text(str(value), place)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self.encode(
                {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}, place, depth + 1
            )
        if isinstance(value, Mapping):
            return self._mapping(value, place, depth)
        if isinstance(value, list | tuple):
            return [self.encode(inner, f"{place}[{index}]", depth + 1) for index, inner in enumerate(value)]
        if isinstance(value, set | frozenset):
            return self.encode(_sorted(value), place, depth + 1)
        plain = _plain(value)
        if plain is not value:
            return self.encode(plain, place, depth + 1)
        raise ResultRefused(
            f"{place}: a {type(value).__name__} cannot be stored; return text, numbers, lists and dicts"
        )

    def _mapping(self, value: Mapping[Any, Any], place: str, depth: int) -> dict[str, Any]:
        encoded: dict[str, Any] = {}
        for key, inner in value.items():
            name = _key(key, place)
            if name in encoded:
                raise ResultRefused(f'{place}: two keys are both "{name}" as text')
            encoded[name] = self.encode(inner, f"{place}[{key!r}]", depth + 1)
        return encoded


def _plain(value: Any) -> Any:
    """What Python has for a scalar or an array of numpy or pandas; anything else as it is."""
    if getattr(getattr(value, "dtype", None), "kind", "") in ("M", "m") and hasattr(value, "astype"):
        value = value.astype("datetime64[us]" if value.dtype.kind == "M" else "timedelta64[us]")  # of ns: a bare number
        if getattr(value, "shape", None) == () and value != value:
            return value.item() if value.item() is not None else math.nan
    shape = getattr(value, "shape", None)
    read = getattr(value, "item" if shape == () else "tolist", None)
    return read() if isinstance(shape, tuple) and callable(read) else value


def _whole(number: int, place: str) -> int:
    if abs(number) >= 10**MOST_DIGITS:
        raise ResultRefused(
            f"{place}: a number of more than {MOST_DIGITS:,} digits cannot be stored; return it as text"
        )
    return number


def _key(key: Any, place: str) -> str:
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, dt.date | UUID | PurePath):
        key = key.isoformat() if isinstance(key, dt.date) else str(key)
    if getattr(key, "shape", None) == ():
        key = _plain(key)
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise ResultRefused(f"{place}: the key {key!r} is no text")
    return _text(str(_whole(key, place) if isinstance(key, int) else key), place)


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
