"""What `@task` takes, and what the catalogue says of a module whose marks cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scheduler import task
from scheduler.task_functions import find_task_functions


def nightly() -> int:
    """Adds up."""
    return 42


def test_a_marked_function_stays_a_plain_function() -> None:
    marked = task(kind="long", timeout="2h", retry="gentle")(nightly)

    assert marked is nightly
    assert marked() == 42


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"name": "Nightly Sum"},
            "'Nightly Sum' cannot be the name of a task function; "
            "use lower-case letters, digits, - and _, 64 at most, or give name=",
            id="name",
        ),
        pytest.param(
            {"retry": {"attempts": 3}},
            "retry is {'attempts': 3}; "
            "give the name of a retry policy, and declare that in the schedule file under retry_policies",
            id="retry",
        ),
        pytest.param(
            {"timeout": 30}, 'timeout is 30; give a duration with its unit, such as timeout="2h"', id="timeout"
        ),
        pytest.param({"kind": 1}, 'kind is 1; give the name of a kind, such as kind="long"', id="kind"),
    ],
)
def test_a_mark_that_cannot_be_is_refused_where_it_stands(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        task(**options)(nightly)

    assert str(refused.value) == f"{__name__}.nightly: {message}"


def test_a_module_with_such_a_mark_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_marks.py").write_text(
        "from scheduler import task\n\n@task(retry={'attempts': 3})\ndef feed() -> None: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    found = find_task_functions(["odd_marks"])

    assert "feed" not in found.functions
    assert found.broken["odd_marks"] == (
        "ValueError: odd_marks.feed: retry is {'attempts': 3}; "
        "give the name of a retry policy, and declare that in the schedule file under retry_policies"
    )
