"""What becomes of a task whose lane is taken."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.rules.spec import Missed
from scheduler.rules.task.overlap import Busy, Decision, decide
from scheduler.rules.task.policy import TaskPolicy, lane_of, policy_when_asked
from tests.builders import a_spec

RUNNING = {"holder_id": 7, "holder_state": "running", "same_schedule": True}
BETWEEN = {**RUNNING, "holder_state": "retrying"}
OF_THE_GROUP = {**RUNNING, "same_schedule": False}


@pytest.mark.parametrize(
    ("overlap", "busy", "decision"),
    [
        pytest.param(
            "skip", RUNNING, Decision("skip", "task 7 of this schedule was running (overlap: skip)"), id="skip"
        ),
        pytest.param(
            "skip",
            BETWEEN,
            Decision("skip", "task 7 of this schedule was between two attempts (overlap: skip)"),
            id="skip, between attempts",
        ),
        pytest.param(
            "skip",
            {**BETWEEN, "holder_state": "queued"},
            Decision("skip", "task 7 of this schedule was between two attempts (overlap: skip)"),
            id="skip, the next attempt is queued",
        ),
        pytest.param(
            "queue-one",
            RUNNING,
            Decision("wait", "waits for task 7 of its schedule, which is running"),
            id="queue-one, the first",
        ),
        pytest.param(
            "queue-one",
            {**RUNNING, "others_waiting": 1},
            Decision("skip", "task 7 was running and another one waits already (overlap: queue-one)"),
            id="queue-one, the second",
        ),
        pytest.param(
            "queue-all",
            {**RUNNING, "others_waiting": 9},
            Decision("wait", "waits for task 7 of its schedule, which is running"),
            id="queue-all",
        ),
        pytest.param(
            "replace",
            RUNNING,
            Decision("replace", "waits for task 7, which it replaces, to stop"),
            id="replace",
        ),
        pytest.param(
            "allow",
            RUNNING,
            Decision("wait", "waits for task 7 of its schedule, which is running"),
            id="allow, in an exclusive group",
        ),
        pytest.param(
            "skip",
            OF_THE_GROUP,
            Decision("wait", "waits for task 7 of its exclusive group, which is running"),
            id="another of the group: wait, not skip",
        ),
        pytest.param(
            "replace",
            OF_THE_GROUP,
            Decision("wait", "waits for task 7 of its exclusive group, which is running"),
            id="another of the group is not replaced",
        ),
    ],
)
def test_a_taken_lane(overlap: Any, busy: dict[str, Any], decision: Decision) -> None:
    assert decide(TaskPolicy(overlap=overlap), Busy(**busy)) == decision


@pytest.mark.parametrize(
    ("fields", "lane"),
    [
        pytest.param({}, "schedule:5", id="its own"),
        pytest.param({"overlap": "allow"}, None, id="none"),
        pytest.param({"exclusive": "billing"}, "group:billing", id="the group's"),
        pytest.param({"exclusive": "billing", "overlap": "allow"}, "group:billing", id="the group's, whatever overlap"),
    ],
)
def test_the_lane_of_a_schedule(fields: dict[str, Any], lane: str | None) -> None:
    assert lane_of(a_spec(**fields), schedule_id=5) == lane


@pytest.mark.parametrize(
    ("overlap", "when_asked"),
    [("skip", "queue-all"), ("queue-one", "queue-all"), ("replace", "queue-all"), ("allow", "allow")],
)
def test_what_a_person_asked_for_waits_its_turn(overlap: Any, when_asked: str) -> None:
    policy = policy_when_asked(a_spec(overlap=overlap, missed=Missed(run="all")))

    assert policy.overlap == when_asked
    assert policy.missed.run == "none"
