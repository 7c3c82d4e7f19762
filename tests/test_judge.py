"""The judge acquits a history as promised, and none that is broken."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scheduler.rules.spec import Cron
from tests.judge import History, Line, Plan, Row, Try, by_oracle, every, judge

START = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)


def after(seconds: float) -> dt.datetime:
    return START + dt.timedelta(seconds=seconds)


def a_history() -> History:
    """A schedule that fires each 10 s for a minute; each task runs for 3 s and starts 0.1 s late."""
    moments = [after(10 * number) for number in range(1, 7)]
    diary = []
    for number, moment in enumerate(moments, 1):
        diary.append(Line("start", number, 1, moment + dt.timedelta(seconds=0.1)))
        diary.append(Line("end", number, 1, moment + dt.timedelta(seconds=3.1)))
    return History(
        plans={"ticks": Plan(every(10))},
        rows=[Row(number, "ticks", moment, "succeeded") for number, moment in enumerate(moments, 1)],
        tries=[
            Try(number, 1, "succeeded", moment + dt.timedelta(seconds=3.2)) for number, moment in enumerate(moments, 1)
        ],
        diary=diary,
        since=START,
        until=after(60),
    )


def with_line(history: History, *lines: Line) -> History:
    return replace(history, diary=[*history.diary, *lines])


def with_plan(history: History, **values: object) -> History:
    return replace(history, plans={"ticks": replace(history.plans["ticks"], **values)})  # type: ignore[arg-type]


def moved(history: History, task_id: int, seconds: float) -> History:
    """All that the diary says of a task, at another time."""
    shift = dt.timedelta(seconds=seconds)
    return replace(
        history,
        diary=[replace(one, moment=one.moment + shift) if one.task_id == task_id else one for one in history.diary],
        tries=[
            replace(one, ended_at=one.ended_at + shift) if one.task_id == task_id and one.ended_at else one
            for one in history.tries
        ],
    )


def second_attempt(history: History) -> History:
    more = with_line(history, Line("start", 1, 2, after(14)), Line("end", 1, 2, after(15)))
    return replace(more, tries=[*more.tries, Try(1, 2, "succeeded", after(15.1))])


def test_a_history_as_promised_is_acquitted() -> None:
    assert judge(a_history()) == []


@pytest.mark.parametrize(
    ("broken", "kind", "what"),
    [
        pytest.param(
            lambda good: replace(good, rows=good.rows[1:]), "missing", "ticks at 2026-11-24 12:00:10+00:00", id="no row"
        ),
        pytest.param(
            lambda good: replace(good, rows=[*good.rows, Row(9, "ticks", after(13), "skipped")]),
            "stray",
            "task 9: ticks does not fire at",
            id="a row at no fire time",
        ),
        pytest.param(
            lambda good: replace(good, rows=[*good.rows, Row(9, "ticks", after(10), "skipped")]),
            "doubled",
            "2 tasks",
            id="two rows",
        ),
        pytest.param(
            lambda good: with_line(good, Line("start", 2, 1, after(21))),
            "doubled",
            "task 2 attempt 1: started 2 times",
            id="two starts of an attempt",
        ),
        pytest.param(
            second_attempt, "doubled", "task 1: started again after attempt 1 had succeeded", id="again after success"
        ),
        pytest.param(
            lambda good: with_plan(second_attempt(good), at_most_once=True),
            "doubled",
            "2 attempts, at most one allowed",
            id="twice, at most once",
        ),
        pytest.param(lambda good: moved(good, 2, -0.2), "early", "task 2 attempt 1: started 0:00:00.1", id="early"),
        pytest.param(lambda good: moved(good, 2, 5), "late", "task 2: started 0:00:05.1", id="late"),
        pytest.param(
            lambda good: with_plan(moved(good, 2, 8), patience=dt.timedelta(minutes=1)),
            "overlapping",
            "task 3 attempt 1 started 0:00:01 before task 2 attempt 1 had ended",
            id="overlapping",
        ),
        pytest.param(
            lambda good: replace(good, rows=[*good.rows[:-1], replace(good.rows[-1], state="queued")]),
            "lost",
            "is still queued",
            id="without an end",
        ),
        pytest.param(
            lambda good: replace(good, diary=[one for one in good.diary if (one.word, one.task_id) != ("end", 3)]),
            "lost",
            "task 3 attempt 1: succeeded, but its function never ended",
            id="a success that was none",
        ),
        pytest.param(
            lambda good: replace(good, tries=good.tries[1:]),
            "lost",
            "task 1 attempt 1: started, and the table knows nothing of it",
            id="a start that the table does not know",
        ),
        pytest.param(
            lambda good: replace(good, tries=[replace(good.tries[0], ended_at=after(11)), *good.tries[1:]]),
            "zombie",
            "task 1 attempt 1: «end» 0:00:02.1",
            id="at work after its end",
        ),
    ],
)
def test_a_broken_history_is_condemned(broken: Callable[[History], History], kind: str, what: str) -> None:
    findings = judge(broken(a_history()))

    assert kind in {finding.kind for finding in findings}
    assert any(what in finding.what for finding in findings), findings


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda good: replace(good, rows=[], tries=[], diary=[], plans={}), id="nothing at all"),
        pytest.param(lambda good: replace(good, diary=[]), id="no diary"),
        pytest.param(lambda good: replace(good, rows=[]), id="no tasks"),
        pytest.param(lambda good: replace(good, until=good.since), id="no time"),
    ],
)
def test_an_empty_history_is_condemned(broken: Callable[[History], History]) -> None:
    assert "empty" in {finding.kind for finding in judge(broken(a_history()))}


def test_what_is_late_because_of_a_fault_is_excused() -> None:
    late = with_plan(moved(a_history(), 2, 5))

    assert judge(replace(late, faults=[(after(15), after(22))])) == []


def test_a_frozen_process_may_go_on_for_a_second_after_it_wakes() -> None:
    frozen = a_history()
    frozen = replace(frozen, tries=[replace(frozen.tries[0], ended_at=after(11)), *frozen.tries[1:]])

    assert judge(replace(frozen, woken=[after(12.5)])) == []
    assert [finding.kind for finding in judge(replace(frozen, woken=[after(11.5)]))] == ["zombie"]


def begun_again(history: History, seconds: float = 12) -> History:
    """Task 1, whose attempt 1 begins at 10.1, is begun as attempt 1 once more."""
    return with_line(history, Line("start", 1, 1, after(seconds)))


@pytest.mark.parametrize(
    ("plan", "crashes", "condemned"),
    [
        pytest.param({"may_overlap": True}, [10.5], [], id="near a crash"),
        pytest.param({"may_overlap": True}, [], ["doubled"], id="without a crash"),
        pytest.param({"may_overlap": True}, [11.5], ["doubled"], id="long before it"),
        pytest.param({"may_overlap": True, "at_most_once": True}, [10.5], ["doubled"], id="at most once"),
        pytest.param({}, [10.5], ["doubled"], id="in a lane"),
    ],
)
def test_a_claim_may_be_taken_back_by_a_crash_where_that_breaks_no_promise(
    plan: dict[str, Any], crashes: list[float], condemned: list[str]
) -> None:
    history = with_plan(begun_again(a_history()), **plan)
    history = replace(history, crashes=[after(seconds) for seconds in crashes])

    assert [finding.kind for finding in judge(history)] == condemned


def test_cron_is_judged_by_the_slow_oracle() -> None:
    fire_times = by_oracle((Cron(cron="*/5 * * * *"),), "Etc/UTC")

    assert list(fire_times(after(0), after(600))) == [after(300), after(600)]
