"""The form of a task function's arguments, and what was typed into it."""

from __future__ import annotations

import datetime as dt
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from scheduler.rules.task.argument_forms import CHOICE, LINE, LINES, MORE, argument_fields, read_form


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


def resize(
    source: Path,
    sizes: list[int],
    *,
    pause: float = 0.5,
    quality: Literal["low", "high"] = "high",
    size: Size | None = None,
    dry: bool = False,
    since: dt.timedelta = dt.timedelta(0),
    api_token: str = "",
    note: str | None = None,
) -> None:
    """Nothing is done here."""


def anything(first: Any, **more: Any) -> None:
    """Nothing is done here."""


ARGS = {"source": "a.jpg", "sizes": [64, 128], "api_token": "abcdef-secret"}


def typed(**texts: str) -> Any:
    return read_form(resize, argument_fields(resize, ARGS), ARGS, texts)


def test_each_parameter_has_a_field_with_what_the_schedule_or_the_function_gives_it() -> None:
    fields = argument_fields(resize, ARGS)

    told = [(field.name, field.control, field.shown, field.wanted) for field in fields]
    assert told[:6] == [
        ("source", LINE, "a.jpg", "a path"),
        ("sizes", LINES, "[64, 128]", "a list of whole numbers"),
        ("pause", LINE, "0.5", "a number"),
        ("quality", CHOICE, "high", 'one of "low", "high"'),
        ("size", CHOICE, "", 'one of "small", "large"'),
        ("dry", CHOICE, "false", "true or false"),
    ]
    assert fields[4].choices == ("", "small", "large")
    assert fields[5].choices == ("true", "false")


def test_what_the_schedule_does_not_give_is_required_unless_the_function_has_a_default() -> None:
    fields = argument_fields(resize, {})

    assert [field.name for field in fields if field.required] == ["source", "sizes"]


def test_a_form_sent_as_it_was_changes_nothing_and_keeps_secrets() -> None:
    fields = argument_fields(resize, ARGS)

    filled = read_form(resize, fields, ARGS, {field.name: field.shown for field in fields})

    assert next(field.shown for field in fields if field.name == "api_token") == "***"
    assert (filled.args, filled.faults) == ({}, {})


@pytest.mark.parametrize(
    ("texts", "args"),
    [
        pytest.param({"source": "b.jpg"}, {"source": "b.jpg"}, id="text"),
        pytest.param({"source": "12"}, {"source": "12"}, id="text of digits"),
        pytest.param({"sizes": "[1, 2]"}, {"sizes": [1, 2]}, id="JSON"),
        pytest.param({"pause": "2"}, {"pause": 2}, id="number"),
        pytest.param({"dry": "true"}, {"dry": True}, id="truth"),
        pytest.param({"quality": "low"}, {"quality": "low"}, id="choice"),
        pytest.param({"size": "small"}, {"size": "small"}, id="enum"),
        pytest.param({"since": "5m"}, {"since": "5m"}, id="duration"),
        pytest.param({"api_token": "another-one"}, {"api_token": "another-one"}, id="a new secret"),
        pytest.param({"api_token": ""}, {"api_token": ""}, id="an empty text"),
        pytest.param({"note": "two\r\nlines"}, {"note": "two\nlines"}, id="lines as browsers send them"),
    ],
)
def test_what_was_typed_is_read_as_the_function_wants_it(texts: dict[str, str], args: dict[str, Any]) -> None:
    filled = typed(**texts)

    assert filled.faults == {}
    assert filled.args == args


@pytest.mark.parametrize(
    ("texts", "field", "fault"),
    [
        pytest.param(
            {"sizes": "64, 128"},
            "sizes",
            '"sizes": expected a list of whole numbers, got "64, 128"',
            id="no JSON",
        ),
        pytest.param(
            {"sizes": '["x"]'}, "sizes", '"sizes": expected a list of whole numbers, got "x" as item 1', id="item"
        ),
        pytest.param({"pause": "soon"}, "pause", '"pause": expected a number, got "soon"', id="number"),
        pytest.param({"sizes": ""}, "sizes", '"sizes" cannot be empty: give a list of whole numbers', id="emptied"),
        pytest.param(
            {"api_token": "x***"},
            "api_token",
            '"api_token" holds ***, which stands for a secret: give the whole value',
            id="part of a mask",
        ),
        pytest.param(
            {"quality": "best"}, "quality", '"quality": expected one of "low", "high", got "best"', id="choice"
        ),
    ],
)
def test_what_does_not_fit_is_told_at_its_field(texts: dict[str, str], field: str, fault: str) -> None:
    assert typed(**texts).faults == {field: fault}


def test_a_missing_argument_is_told_at_its_field() -> None:
    fields = argument_fields(resize, {})

    filled = read_form(resize, fields, {}, {"source": "a.jpg"})

    assert filled.faults == {"sizes": 'the argument "sizes" is missing'}


def test_further_arguments_are_a_mapping() -> None:
    fields = argument_fields(anything, {"first": 1, "top": 5})

    assert [(field.name, field.shown) for field in fields] == [("first", "1"), (MORE, '{\n  "top": 5\n}')]
    assert read_form(anything, fields, {"first": 1}, {MORE: '{"top": 6}'}).args == {"top": 6}
    assert read_form(anything, fields, {"first": 1}, {MORE: "[1]"}).faults == {
        MORE: 'give a JSON mapping, such as {"top": 5}'
    }
    assert read_form(anything, fields, {"first": 1}, {MORE: "{"}).faults[MORE].startswith("this is no JSON: ")


def test_of_an_unknown_function_only_a_mapping_can_be_given() -> None:
    [field] = argument_fields(None, {"source": "a"})

    filled = read_form(None, [field], {"source": "a"}, {MORE: '{"source": "b"}'})

    assert (field.name, field.shown) == (MORE, '{\n  "source": "a"\n}')
    assert filled.args == {"source": "b"}


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", '{"a":' * 5000])
def test_hostile_texts_are_faults_not_errors(text: str) -> None:
    assert list(typed(sizes=text).faults) == ["sizes"]
    assert list(read_form(None, argument_fields(None, {}), {}, {MORE: text}).faults) == [MORE]
