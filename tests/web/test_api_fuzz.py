"""Whatever fits the description is answered as it says, whatever does not is refused: asked by four callers.

The examples are the same every time, and no worker runs, so that «run now» is harmless. They break no promise: what
`doctor` judges by finds nothing afterwards. What was found this way stands as plain tests in test_api.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.failures import FailureGroup

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.check.invariants import INVARIANTS
from scheduler.rules.roles import ROLES, reaches
from scheduler.rules.spec import Every
from scheduler.rules.states import FINAL, PLANNED, QUEUED, STATES
from scheduler.settings import Settings
from scheduler.store.database import Database
from scheduler.web.app import create_app
from scheduler.web.limits import ACT, BAD_TOKEN, LOG_IN, READ, Limit, Limits
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task
from tests.web.people import add_users, bearer
from tests.web.serving import GivenBackends
from tests.web.test_api_roles import description

HOST = "http://testserver"  # what schemathesis calls it when it asks again by itself
EXAMPLES = {"admin": 10, "operator": 2, "viewer": 2, "nobody": 1}
NO_LIMITS = Limits({what: Limit(1_000_000, 1) for what in (LOG_IN, BAD_TOKEN, READ, ACT)})
# Arguments that no task function takes, spans that are not past: they fit the description and are refused all the same.
MEANING_MAY_BE_WRONG = {"/run", "/backfill", "/pause", "/diff", "/check"}


@pytest.fixture
def app(database: Database, room: WaitingRoom, tmp_path: Path) -> FastAPI:
    """Tasks of all states, schedules, revisions; and no limits."""
    with database.write() as session:
        revision = a_revision(session, text="version: 1\n").id
        for name in ("nightly", "hourly", "paused"):
            spec = a_spec(name=name, when=(Every(every=HOUR),), args={"source": "README.md"})
            a_schedule(session, spec, revision_id=revision)
        for number in range(200):
            state = STATES[number % len(STATES)]
            waits = {"due_at": utc_now() + HOUR} if state in (PLANNED, QUEUED) else {}
            a_task(session, state=state, started_at=None if state in FINAL else utc_now() - MINUTE, **waits)
    chosen = Settings(data=tmp_path, file=tmp_path / "schedules.yaml", database_url=database.url, base_url=HOST)
    return create_app(chosen, GivenBackends(chosen, database, room), limits=NO_LIMITS)


@pytest.fixture
def headers(database: Database, cheap_passwords: None) -> dict[str, dict[str, str]]:
    found = {role: bearer(token) for role, token in add_users(database).items()} | {"nobody": {}}
    return {caller: {**given, "Sec-Fetch-Site": "same-origin"} for caller, given in found.items()}


def checks_for(operation: APIOperation[Any, Any, Any]) -> list[Any]:
    left_out = {"use_after_free", "ensure_resource_availability", "object_level_authorization"}  # of stateful runs
    if any(operation.path.endswith(end) for end in MEANING_MAY_BE_WRONG):
        left_out |= {"positive_data_acceptance"}
    if operation.path in ("/diff", "/check"):
        left_out |= {"negative_data_rejection"}  # it takes short texts for longer than a million letters
    return CHECKS.get_by_names([name for name in CHECKS.get_all_names() if name not in left_out])


def cases(operation: APIOperation[Any, Any, Any], examples: int) -> Iterator[Case]:
    found: list[Case] = []

    @settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def collect(case: Case) -> None:
        found.append(case)

    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        given(case=operation.as_strategy(mode))(collect)()
    return iter(found)


def faults_of(case: Case, answer: Any, checks: list[Any], headers: dict[str, str]) -> list[str]:
    try:
        case.validate_response(answer, checks=checks, headers=headers)
    except FailureGroup as group:
        return [f"{case.as_curl_command()}: {answer.status_code}: {one}" for one in group.exceptions]
    return []


def broken_rules(database: Database) -> set[str]:
    """What `doctor` finds; of the rows as they are made here, that they came from nowhere."""
    with database.read() as session:
        return {line for rule in INVARIANTS for line in rule.find(session, utc_now())}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # it refuses more than SQLite does
@pytest.mark.parametrize("caller", EXAMPLES)
def test_the_description_is_exact(
    app: FastAPI, headers: dict[str, dict[str, str]], database: Database, caller: str
) -> None:
    before = broken_rules(database)
    schema = schemathesis.openapi.from_dict(description())
    schema.app = app
    asked, faults = 0, []
    for result in schema.get_all_operations():
        operation = result.ok()
        role = description()["paths"][operation.path][operation.method]["x-role"]
        for case in cases(operation, EXAMPLES[caller]):
            answer = case.call(base_url=f"{HOST}/api/v1", headers=headers[caller])
            asked += 1
            if caller in ROLES and reaches(caller, role):
                faults += faults_of(case, answer, checks_for(operation), headers[caller])
            else:
                unread = (400, 422) if case.meta.generation.mode.is_negative else ()  # before anybody asks who it was
                no = 403 if caller in ROLES else 401
                assert answer.status_code in (no, *unread), case.as_curl_command()

    assert faults == []
    assert asked > 40
    assert broken_rules(database) - before == set()
