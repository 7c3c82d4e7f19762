"""The state machine's table."""

from __future__ import annotations

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
        pytest.param(QUEUED, (PLANNED, RETRYING), id="by the dispatcher"),
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
