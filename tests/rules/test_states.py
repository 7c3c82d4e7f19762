"""The state machine's table."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.rules.states import (
    CANCELLED,
    FAILED,
    FINAL,
    LOST,
    MISSED,
    NEXT,
    PLANNED,
    QUEUED,
    REASON_CODES,
    RETRYING,
    RUNNING,
    SKIPPED,
    STATES,
    SUCCEEDED,
    UNFINISHED,
    sources_of,
)


def test_the_ends_are_those_that_are_promised() -> None:
    assert {SUCCEEDED, FAILED, SKIPPED, MISSED, CANCELLED, LOST} == FINAL


def test_each_state_is_final_or_goes_on() -> None:
    assert set(STATES) == FINAL | UNFINISHED
    assert set() == FINAL & UNFINISHED
    assert len(STATES) == len(set(STATES))


def test_no_state_goes_on_to_one_that_is_unknown() -> None:
    assert {state for nexts in NEXT.values() for state in nexts} <= set(STATES)


def test_each_end_is_reached_from_every_state_in_a_few_steps() -> None:
    reached = set(FINAL)
    while more := {state for state, nexts in NEXT.items() if nexts & reached} - reached:
        reached |= more

    assert reached == set(STATES)


@pytest.mark.parametrize(
    ("state", "sources"),
    [
        pytest.param(PLANNED, (), id="where every task begins"),
        pytest.param(QUEUED, (PLANNED, RUNNING, RETRYING), id="by the dispatcher, or given back by its worker"),
        pytest.param(RUNNING, (PLANNED, QUEUED, RETRYING), id="by a claim, marked or not"),
        pytest.param(RETRYING, (RUNNING,), id="by a worker"),
        pytest.param(SUCCEEDED, (RUNNING,), id="only what ran succeeds"),
        pytest.param(FAILED, (RUNNING, RETRYING), id="fails while it runs, or is given up"),
        pytest.param(LOST, (RUNNING,), id="only what ran is lost"),
        pytest.param(SKIPPED, (PLANNED, QUEUED), id="what started is not skipped"),
        pytest.param(MISSED, (PLANNED, QUEUED), id="what started is not missed"),
        pytest.param(CANCELLED, (PLANNED, QUEUED, RUNNING, RETRYING), id="whatever has not ended"),
    ],
)
def test_a_state_is_reached_only_from_its_sources(state: str, sources: tuple[str, ...]) -> None:
    assert sources_of(state) == sources


def test_each_end_but_the_good_one_has_reasons() -> None:
    assert REASON_CODES.keys() == FINAL - {SUCCEEDED}


def test_each_reason_that_the_code_gives_is_known_and_each_known_one_is_given() -> None:
    given = {
        value
        for room in ("rules", "engine", "store")
        for path in (Path(__file__).parents[2] / "scheduler" / room).rglob("*.py")
        if path.name != "states.py"
        for value in reasons_in(ast.parse(path.read_text()))
    }

    known = {code for codes in REASON_CODES.values() for code in codes}
    on_the_way = {"waiting", "catch_up", "worker_stopped"}  # of tasks that have not ended
    assert given == known | on_the_way


def reasons_in(tree: ast.Module) -> Iterator[str]:
    """The reason codes that stand in calls, and those of the functions and tables that choose one."""
    for node in ast.walk(tree):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            found += [one.value for one in node.keywords if one.arg == "reason_code"]
            found += [one.value for one in node.keywords if one.arg == "code" and name == "cancel_waiting"]
            place = {"Verdict": 1, "Fate": 1, "skip": 2, "_cancel_unstarted": 1, "Occurrence": 5}.get(name)
            found += node.args[place : place + 1] if place is not None else []
        elif isinstance(node, ast.FunctionDef) and node.name == "_why_missed":
            returned = [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
            found += [one.elts[0] for one in returned if isinstance(one, ast.Tuple)]
        elif isinstance(node, ast.FunctionDef) and node.name == "_code":
            found += [one for one in ast.walk(node) if isinstance(one, ast.Constant)]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("PARKED", "WAITING", "code, reason"):
            found.append(node.value.elts[0] if isinstance(node.value, ast.Tuple) else node.value)
        yield from (one.value for one in found if isinstance(one, ast.Constant) and isinstance(one.value, str))
