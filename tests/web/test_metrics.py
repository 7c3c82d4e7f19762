"""What a monitoring system reads; and that the dashboard and the alert rules ask for nothing that is not there."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.answers import metrics as engine_metrics
from scheduler.engine.answers.metrics import OTHERS
from scheduler.errors import DatabaseAway
from scheduler.store import parts
from scheduler.store.database import Database
from tests.builders import HOUR, MINUTE, a_schedule, a_spec, a_task
from tests.web.people import add_users, bearer
from tests.web.serving import a_client

CONFIG = Path(__file__).resolve().parents[2] / "config"
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def client(
    database: Database, room: WaitingRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    monkeypatch.setattr(engine_metrics, "SETTLED_AFTER", dt.timedelta(0))
    monkeypatch.setattr("scheduler.web.metrics.KEPT_SECONDS", 0.0)
    with a_client(database, room, tmp_path) as opened:
        yield opened


def read(client: TestClient) -> dict[tuple[str, ...], float]:
    """name and the values of its labels -> value"""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def an_end(session: Any, state: str = "succeeded", late: float = 0.1, took: float = 3, **fields: Any) -> None:
    now = utc_now()
    started = now - took * SECOND
    times = {"due_at": started - late * SECOND, "started_at": started, "finished_at": now}
    a_task(session, state=state, **{"attempt": 1, **times, **fields})


def test_each_end_is_counted_once(client: TestClient, database: Database) -> None:
    with database.write() as session:
        an_end(session)  # before anybody looked
    read(client)
    with database.write() as session:
        nightly = a_schedule(session)
        an_end(session, schedule=nightly)
        an_end(session, state="failed", schedule=nightly)
        an_end(session, kind="long")

    first, second = read(client), read(client)

    for found in (first, second):  # labels by name: kind, schedule, state
        assert found["scheduler_tasks_ended_total", "scheduled", "nightly", "succeeded"] == 1
        assert found["scheduler_tasks_ended_total", "scheduled", "nightly", "failed"] == 1
        assert found["scheduler_tasks_ended_total", "long", "", "succeeded"] == 1
    assert sum(value for key, value in second.items() if key[0] == "scheduler_tasks_ended_total") == 3


def test_lateness_and_durations_fall_into_buckets(client: TestClient, database: Database) -> None:
    read(client)
    with database.write() as session:
        an_end(session, late=0.05, took=0.4)
        an_end(session, late=1.5, took=100)
        an_end(session, late=500, took=3, attempt=2)  # a second attempt is not late: it was put off
        a_task(session, state="missed")  # never started

    found = read(client)

    lateness = "scheduler_start_lateness_seconds_bucket"
    assert [found[lateness, "scheduled", bound] for bound in ("0.1", "1.0", "2.0", "+Inf")] == [1, 1, 2, 2]
    durations = "scheduler_duration_seconds_bucket"
    assert [found[durations, "scheduled", bound] for bound in ("0.5", "5.0", "60.0", "300.0")] == [1, 2, 2, 3]
    assert found["scheduler_duration_seconds_sum", "scheduled"] == pytest.approx(103.4, abs=0.1)


def test_ten_thousand_schedules_make_no_ten_thousand_series(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_metrics, "MOST_SCHEDULES", 3)
    read(client)
    with database.write() as session:
        for number in range(6):
            an_end(session, schedule=a_schedule(session, a_spec(name=f"s{number}")))

    found = read(client)

    counted = {key[2]: value for key, value in found.items() if key[0] == "scheduler_tasks_ended_total"}
    assert len(counted) == 4
    assert counted[OTHERS] == 3


def test_how_things_stand_is_told(client: TestClient, database: Database) -> None:
    with database.write() as session:
        revision = a_schedule(session).revision_id
        a_schedule(session, a_spec(name="held"), revision_id=revision, pause={"by": "x", "why": "y", "since": "z"})
        a_schedule(session, a_spec(name="bad"), revision_id=revision, failures_in_a_row=2)
        a_task(session, state="queued", due_at=utc_now() - 2 * MINUTE)
        a_task(session, due_at=utc_now() + HOUR)
        parts.tick(session, "keeper@here:1", "keeper", "here", 1, {"planner": 1.5, "file": "schedules.yaml"})

    found = read(client)

    assert found["scheduler_tasks", "scheduled", "queued"] == 1
    assert found["scheduler_queue_depth", "scheduled"] == 1
    assert found["scheduler_queue_oldest_seconds", "scheduled"] == pytest.approx(120, abs=30)
    assert [found["scheduler_schedules", state] for state in ("active", "paused", "parked")] == [2, 1, 0]
    assert found["scheduler_schedules_failing",] == 1
    assert found["scheduler_parts_alive", "keeper"] == 1
    assert 1.5 <= found["scheduler_keeper_step_age_seconds", "planner"] < 30
    assert (found["scheduler_backend_up", "sql"], found["scheduler_backend_up", "redis"]) == (1, 1)


def test_while_sql_is_away_the_rest_is_told(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise DatabaseAway("x")

    monkeypatch.setattr(engine_metrics, "_ask_sql", away)

    found = read(client)

    assert (found["scheduler_backend_up", "sql"], found["scheduler_backend_up", "redis"]) == (0, 1)


def test_metrics_are_for_those_who_may_look(client: TestClient, database: Database, cheap_passwords: None) -> None:
    tokens = add_users(database)

    assert client.get("/metrics", headers={"Accept": "*/*"}).status_code == 401
    assert client.get("/metrics", headers=bearer(tokens["viewer"])).status_code == 200
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").text == "ready\n"


@pytest.mark.parametrize("file", ["grafana-dashboard.json", "prometheus-alerts.yaml"])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_dashboard_and_alerts_ask_for_is_there(client: TestClient, file: str) -> None:
    text = (CONFIG / file).read_text()
    document = json.loads(text) if file.endswith("json") else yaml.safe_load(text)
    expressions = "\n".join(found_under(document, "expr"))
    names = {family.name for family in text_string_to_metric_families(client.get("/metrics").text)}

    asked = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in re.findall(r"\bscheduler_\w+", expressions)}

    assert len(asked) > 8
    assert asked - names == set()


def found_under(document: Any, key: str) -> Iterator[str]:
    if isinstance(document, dict):
        for name, value in document.items():
            if name == key:
                yield value
            else:
                yield from found_under(value, key)
    elif isinstance(document, list):
        for value in document:
            yield from found_under(value, key)
