"""What can be stored of a result, how, and what cannot."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import OrderedDict, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.result_kinds import File, Html, Link, Text
from scheduler.rules.task import results
from scheduler.rules.task.results import (
    DEEPEST,
    MOST_BYTES,
    MOST_VALUES,
    Encoded,
    ResultRefused,
    encode_result,
    encode_returned,
)
from tests.builders import at


class Colour(Enum):
    RED = "red"
    BOTH = ("red", "blue")


class Size(IntEnum):
    SMALL = 1


class Word(StrEnum):
    HELLO = "hello"


@dataclass
class Picture:
    path: Path
    size: tuple[int, int]


@dataclass
class Node:
    child: Any = None


Pair = namedtuple("Pair", "left right")


class Scalar:
    """As numpy's: no number by itself, but it has one."""

    shape = ()

    def __init__(self, value: Any) -> None:
        self._value = value

    def item(self) -> Any:
        return self._value


class Kind:
    def __init__(self, kind: str) -> None:
        self.kind = kind


class Array:
    """As numpy's arrays, and the columns of pandas."""

    shape = (2,)

    def __init__(self, *values: Any) -> None:
        self._values = values

    def tolist(self) -> list[Any]:
        return list(self._values)


class Moment:
    """As numpy's datetime64 in nanoseconds: its `item` is a bare number until it is turned to microseconds."""

    shape = ()
    dtype = Kind("M")

    def __init__(self, item: Any) -> None:
        self._item = item

    def astype(self, unit: str) -> Moment:
        assert unit == "datetime64[us]"
        return Moment(dt.datetime(2026, 11, 24, 6, 30)) if isinstance(self._item, int) else self

    def item(self) -> Any:
        return self._item

    def __eq__(self, other: object) -> bool:
        return self._item is not None

    __hash__ = None  # type: ignore[assignment]


class NotATime(dt.datetime):
    """As pandas' NaT: a datetime that is equal to nothing."""

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class LazyMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return len(key)

    def __iter__(self) -> Iterator[str]:
        return iter(("a", "bb"))

    def __len__(self) -> int:
        return 2


class ShoutingText(str):
    def __str__(self) -> str:
        return "not what it holds"


class LyingInt(int):
    def __repr__(self) -> str:
        return "NaN"


@pytest.mark.parametrize(
    ("returned", "stored"),
    [
        pytest.param(None, None, id="nothing"),
        pytest.param({}, {}, id="an empty dict"),
        pytest.param({"a": 1}, {"a": 1}, id="a dict stays as it is"),
        pytest.param(5, {"value": 5}, id="a number"),
        pytest.param(True, {"value": True}, id="a truth is no number"),
        pytest.param("", {"value": ""}, id="an empty text"),
        pytest.param([1, [2]], {"value": [1, [2]]}, id="a list"),
        pytest.param((1, (2,)), {"value": [1, [2]]}, id="a tuple"),
        pytest.param({"value": 5}, {"value": 5}, id="a dict that looks like a wrapped one"),
        pytest.param({3, 1, 2}, {"value": [1, 2, 3]}, id="a set, sorted"),
        pytest.param(frozenset({1, "a"}), {"value": ["a", 1]}, id="a set that has no order"),
        pytest.param(at("06:30"), {"value": "2026-11-24T06:30:00+00:00"}, id="a moment"),
        pytest.param(dt.date(2026, 11, 24), {"value": "2026-11-24"}, id="a day"),
        pytest.param(dt.time(6, 30), {"value": "06:30:00"}, id="a time of day"),
        pytest.param(dt.timedelta(minutes=1.5), {"value": 90.0}, id="a duration in seconds"),
        pytest.param(Decimal("1.10"), {"value": "1.10"}, id="a decimal keeps its zeros"),
        pytest.param(Decimal("NaN"), {"value": "NaN"}, id="a decimal is a text"),
        pytest.param(UUID(int=5), {"value": "00000000-0000-0000-0000-000000000005"}, id="a UUID"),
        pytest.param(PurePosixPath("a/b"), {"value": "a/b"}, id="a path"),
        pytest.param(Colour.RED, {"value": "red"}, id="an enum"),
        pytest.param(Colour.BOTH, {"value": ["red", "blue"]}, id="an enum of a tuple"),
        pytest.param(Size.SMALL, {"value": 1}, id="an int enum"),
        pytest.param(Word.HELLO, {"value": "hello"}, id="a text enum"),
        pytest.param(Picture(Path("x.png"), (1, 2)), {"path": "x.png", "size": [1, 2]}, id="a dataclass"),
        pytest.param(Pair(1, 2), {"value": [1, 2]}, id="a named tuple"),
        pytest.param(OrderedDict(b=1, a=2), {"b": 1, "a": 2}, id="an ordered dict"),
        pytest.param(LazyMapping(), {"a": 1, "bb": 2}, id="a mapping"),
        pytest.param({1: "a", Colour.RED: "b", Size.SMALL + 1: "c"}, {"1": "a", "red": "b", "2": "c"}, id="keys"),
        pytest.param(Scalar(5), {"value": 5}, id="a scalar"),
        pytest.param(Scalar(Scalar(at("06:30"))), {"value": "2026-11-24T06:30:00+00:00"}, id="a scalar in a scalar"),
        pytest.param(Array(1, Scalar(2)), {"value": [1, 2]}, id="an array"),
        pytest.param(Moment(10**18), {"value": "2026-11-24T06:30:00"}, id="a moment of numpy"),
        pytest.param(
            {dt.date(2026, 11, 24): 1, UUID(int=5): 2, Scalar(7): 3},
            {"2026-11-24": 1, "00000000-0000-0000-0000-000000000005": 2, "7": 3},
            id="keys that have a text",
        ),
        pytest.param(2**70, {"value": 2**70}, id="a large number"),
        pytest.param("ä€𝄞\u2028\x7f\x01", {"value": "ä€𝄞\u2028\x7f\x01"}, id="odd letters"),
        pytest.param(ShoutingText("quiet"), {"value": "not what it holds"}, id="a text of its own kind"),
    ],
)
def test_a_result_as_it_is_stored(returned: Any, stored: dict[str, Any] | None) -> None:
    encoded = encode_result(returned)

    assert encoded == stored
    assert json.loads(json.dumps(encoded)) == stored  # nothing is left in it that only Python knows


def in_itself() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def doubled(levels: int) -> Any:
    """2 ** levels leaves, though only `levels` lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value, value]
    return value


def a_node_in_itself() -> Node:
    node = Node()
    node.child = node
    return node


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        pytest.param(
            math.nan, "result: nan is no number that JSON knows; return None or a text for it", id="not a number"
        ),
        pytest.param(
            {"a": [1, -math.inf]},
            "result['a'][1]: -inf is no number that JSON knows; return None or a text for it",
            id="endless",
        ),
        pytest.param(
            Scalar(math.nan), "result: nan is no number that JSON knows; return None or a text for it", id="inside"
        ),
        pytest.param(b"x", "result: bytes cannot be stored; decode them, or return a File", id="bytes"),
        pytest.param(
            {"a": bytearray(b"x")},
            "result['a']: bytearray cannot be stored; decode them, or return a File",
            id="bytes in",
        ),
        pytest.param(
            NotATime(2026, 1, 1), "result: NaT is no moment; return None or a text for it", id="no time of pandas"
        ),
        pytest.param(
            Moment(None),
            "result: nan is no number that JSON knows; return None or a text for it",
            id="no time of numpy",
        ),
        pytest.param(
            {"a": [Html("x")]},
            "result['a'][0]: Html is a result by itself; return it alone, or a list of File",
            id="a page inside",
        ),
        pytest.param(
            [File("a"), 1],
            "result[0]: File is a result by itself; return it alone, or a list of File",
            id="a file inside",
        ),
        pytest.param(
            {"f": print},
            "result['f']: a builtin_function_or_method cannot be stored; return text, numbers, lists and dicts",
            id="a function",
        ),
        pytest.param(
            (one for one in "ab"),
            "result: a generator cannot be stored; return text, numbers, lists and dicts",
            id="a generator",
        ),
        pytest.param(Picture, "result: a type cannot be stored; return text, numbers, lists and dicts", id="a class"),
        pytest.param(
            ValueError("x"),
            "result: a ValueError cannot be stored; return text, numbers, lists and dicts",
            id="an error",
        ),
        pytest.param(1j, "result: a complex cannot be stored; return text, numbers, lists and dicts", id="complex"),
        pytest.param("a\x00b", "result: a text with a NUL character cannot be stored", id="NUL"),
        pytest.param({"a\x00": 1}, "result: a text with a NUL character cannot be stored", id="NUL in a key"),
        pytest.param(
            ["\ud800"],
            "result[0]: a text with half a character (a lone surrogate) cannot be stored",
            id="half a letter",
        ),
        pytest.param(
            PurePosixPath("\udcff"),
            "result: a text with half a character (a lone surrogate) cannot be stored",
            id="a path that is no text",
        ),
        pytest.param({1.5: 1}, "result: the key 1.5 is no text", id="a key that is a float"),
        pytest.param({None: 1}, "result: the key None is no text", id="a key that is None"),
        pytest.param({True: 1}, "result: the key True is no text", id="a key that is a truth"),
        pytest.param({(1, 2): 1}, "result: the key (1, 2) is no text", id="a key that is a tuple"),
        pytest.param(
            {"deep": {1: "a", "1": "b"}},
            "result['deep']: two keys are both \"1\" as text",
            id="two keys that become one",
        ),
        pytest.param(
            {"value": "x" * MOST_BYTES},
            "the result has 1,000,013 bytes as JSON, more than 1,000,000: store it elsewhere and return where",
            id="too large",
        ),
        pytest.param(
            10**5000,
            "result: a number of more than 4,000 digits cannot be stored; return it as text",
            id="a huge number",
        ),
    ],
)
def test_a_result_that_cannot_be_stored(returned: Any, message: str) -> None:
    with pytest.raises(ResultRefused) as refused:
        encode_result(returned)

    assert str(refused.value) == message


@pytest.mark.parametrize(
    "returned", [in_itself(), a_node_in_itself(), deep(DEEPEST + 1)], ids=["a list", "a dataclass", "too deep"]
)
def test_a_result_without_an_end(returned: Any) -> None:
    with pytest.raises(ResultRefused, match=r": nested deeper than 50 levels, or in itself$"):
        encode_result(returned)


def test_a_result_may_be_as_deep_as_is_said() -> None:
    assert encode_result(deep(DEEPEST)) == {"value": deep(DEEPEST)}


def test_a_result_that_grows_out_of_little_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "MOST_VALUES", 10_000)

    with pytest.raises(ResultRefused) as refused:
        encode_result(doubled(45))

    assert str(refused.value) == "the result has more than 10,000 values: store it elsewhere and return where"


def test_no_result_that_is_small_enough_has_too_many_values() -> None:
    assert MOST_BYTES / len("1,") <= MOST_VALUES


def test_a_result_may_be_as_large_as_is_said() -> None:
    largest = {"value": "x" * (MOST_BYTES - len('{"value": ""}'))}

    assert encode_result(largest) == largest


def test_the_size_is_that_of_the_bytes() -> None:
    with pytest.raises(ResultRefused, match="has 1,200,013 bytes"):
        encode_result("€" * 400_000)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), inner)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_are_stored_as_they_are(value: Any) -> None:
    encoded = encode_result(value)

    assert encoded == (value if isinstance(value, dict | None) else {"value": value})


@given(PLAIN)
def test_what_is_encoded_is_not_changed_by_a_second_time(value: Any) -> None:
    once = encode_result(value)

    assert encode_result(once) == once


@pytest.mark.parametrize(
    ("returned", "encoded"),
    [
        pytest.param(None, Encoded(), id="nothing"),
        pytest.param("a", Encoded("json", {"value": "a"}), id="a plain text"),
        pytest.param([], Encoded("json", {"value": []}), id="an empty list"),
        pytest.param(Text("a\nb"), Encoded("text", {"value": "a\nb"}), id="text"),
        pytest.param(Html("<b>a</b>"), Encoded("html", {"value": "<b>a</b>"}), id="a page"),
        pytest.param(Link("https://x.example/a"), Encoded("link", {"value": "https://x.example/a"}), id="a link"),
        pytest.param(Link("HTTP://x", "a"), Encoded("link", {"value": "HTTP://x", "title": "a"}), id="with a title"),
        pytest.param(File("a"), Encoded("file", None, (File("a"),)), id="a file"),
        pytest.param((File("a"), File("b")), Encoded("file", None, (File("a"), File("b"))), id="files"),
    ],
)
def test_a_result_has_a_kind(returned: Any, encoded: Encoded) -> None:
    assert encode_returned(returned) == encoded


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        pytest.param(Text(b"a"), "Text takes a str, not a bytes", id="text of bytes"),  # type: ignore[arg-type]
        pytest.param(Html("\x00"), "result: a text with a NUL character cannot be stored", id="NUL"),
        pytest.param(
            Link("javascript:alert(1)"), "Link takes an http or https URL, not 'javascript:alert(1)'", id="js"
        ),
        pytest.param(Link("https://a b"), "Link takes an http or https URL, not 'https://a b'", id="a blank"),
        pytest.param(
            [File("a")] * 101, "the result has 101 files, more than 100: return an archive of them", id="many files"
        ),
    ],
)
def test_a_result_that_is_not_of_its_kind(returned: Any, message: str) -> None:
    with pytest.raises(ResultRefused) as refused:
        encode_returned(returned)

    assert str(refused.value) == message
