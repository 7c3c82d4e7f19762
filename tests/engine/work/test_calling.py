"""How a failure is told: its type, message, traceback, and what it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.context import Run
from scheduler.engine.work.calling import LONGEST_CAUSE, MOST_CAUSES, CallEnd, Caller
from scheduler.result_kinds import File, Html
from scheduler.rules.states import FAILED
from scheduler.rules.task.masking import Masker
from scheduler.settings import Settings
from scheduler.store.tasks import AttemptEnd
from scheduler.task_functions import Catalogue, TaskFunction


@pytest.fixture
def call() -> Iterator[Callable[..., CallEnd]]:
    listening: list[tuple[Caller, dict[Any, Any]]] = []

    def called(function: Callable[[], Any], settings: Settings | None = None) -> CallEnd:
        one = TaskFunction("f", function)
        caller = Caller(Catalogue({"f": one}))
        listening.append((caller, caller.listen()))
        return caller.call("f", {}, Run(7, 1, "adhoc", "key", settings=settings), soft=30)

    yield called
    for caller, before in reversed(listening):
        caller.deafen(before)


def raise_chain(depth: int) -> None:
    try:
        if depth:
            raise_chain(depth - 1)
    except ValueError as error:
        raise ValueError(f"at {depth}") from error
    raise ValueError(f"at {depth}")


def fail_while_handling() -> None:
    try:
        {}["word"]
    except KeyError:
        raise RuntimeError("handling failed")  # noqa: B904


def fail_from_nothing() -> None:
    try:
        {}["word"]
    except KeyError:
        raise RuntimeError("only this") from None


def fail_in_a_circle() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def causes(end: AttemptEnd) -> list[str]:
    return [f"{one['type']}: {one['message']}" for one in end.causes]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        pytest.param(lambda: raise_chain(2), ["ValueError: at 1", "ValueError: at 0"], id="a chain"),
        pytest.param(fail_while_handling, ["KeyError: 'word'"], id="while handling another"),
        pytest.param(fail_from_nothing, [], id="from None"),
        pytest.param(fail_in_a_circle, ["ValueError: second"], id="a circle"),
    ],
)
def test_a_failure_tells_what_it_came_from(
    call: Callable[..., CallEnd], function: Callable[[], None], told: list[str]
) -> None:
    end = call(function).as_attempt_end()

    assert end.outcome == FAILED
    assert causes(end) == told
    assert (end.as_error() or {}).get("causes", []) == list(end.causes)


def test_causes_are_bounded_in_number_and_length(call: Callable[..., CallEnd]) -> None:
    def fail() -> None:
        try:
            raise ValueError("x" * (LONGEST_CAUSE + 1))
        except ValueError as error:
            raise RuntimeError("long") from error

    assert len(causes(call(lambda: raise_chain(50)).as_attempt_end())) == MOST_CAUSES
    assert [len(one["message"]) for one in call(fail).as_attempt_end().causes] == [LONGEST_CAUSE]


def test_secrets_are_masked_in_message_traceback_and_causes(call: Callable[..., CallEnd]) -> None:
    secret = "".join(["can", "ary-", "42"])  # a traceback shows this line

    def fail() -> None:
        try:
            raise KeyError(secret)
        except KeyError as error:
            raise RuntimeError(f"with {secret}") from error

    end = call(fail).as_attempt_end(Masker([secret]))

    assert (end.error_message, causes(end)) == ("with ***", ["KeyError: '***'"])
    assert secret not in str(end)
    assert "RuntimeError: with ***" in (end.traceback or "")


def test_a_result_has_its_kind_and_its_files(call: Callable[..., CallEnd], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    settings = Settings(data=tmp_path / "data")

    page = call(lambda: Html("<b>"), settings)
    file = call(lambda: File(tmp_path / "a.txt"), settings)
    missing = call(lambda: File(tmp_path / "b.txt"), settings).as_attempt_end()

    assert (page.result_kind, page.result) == ("html", {"value": "<b>"})
    assert (file.result_kind, [one.path for one in file.files]) == ("file", ["7/1/1"])
    assert file.result is not None
    assert [one["name"] for one in file.result["files"]] == ["a.txt"]
    assert (missing.outcome, missing.error_type) == (FAILED, "FileRefused")
    assert missing.error_message == f'the file "{tmp_path}/b.txt" of the result is not there'
