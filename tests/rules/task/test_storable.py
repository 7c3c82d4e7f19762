"""What both databases take as JSON."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.rules.task.storable import DEEPEST, why_unstorable

NO_TEXT = "a text holds no NUL and no half of a letter"
NO_NUMBER = "NaN and infinities are no JSON"
TOO_DEEP = f"lists and mappings stand at most {DEEPEST} deep in each other"


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        pytest.param({"a": [1, 2.5, None, True, "ä😀\n"]}, None, id="plain"),
        pytest.param({"a": ["b\0"]}, NO_TEXT, id="NUL"),
        pytest.param({"a\0": 1}, NO_TEXT, id="NUL in a key"),
        pytest.param("\ud800", NO_TEXT, id="half a letter"),
        pytest.param([float("nan")], NO_NUMBER, id="NaN"),
        pytest.param({"a": float("-inf")}, NO_NUMBER, id="infinite"),
        pytest.param(nested(DEEPEST), None, id="as deep as may be"),
        pytest.param(nested(DEEPEST + 1), TOO_DEEP, id="too deep"),
        pytest.param(nested(100_000), TOO_DEEP, id="bottomless"),
    ],
)
def test_what_cannot_be_stored_is_told(value: Any, why: str | None) -> None:
    assert why_unstorable(value) == why
