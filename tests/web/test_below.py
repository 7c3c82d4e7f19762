"""Below a path of a host: every address that goes out has it, every one that comes in is known with it and without."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.settings import Settings
from scheduler.store.database import Database
from scheduler.web.below import inner, outer
from tests.builders import a_revision, a_schedule, a_task
from tests.web.people import PASSWORD, add_users
from tests.web.serving import a_client

OPS = "https://ops.example/jobs/"
PAGES = ("/", "/schedules", "/schedules/nightly", "/tasks", "/tasks/1", "/day", "/file", "/workers", "/audit", "/api")


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """SQLite alone: none of this reaches SQL."""
    path = tmp_path / "scheduler.sqlite"
    shutil.copyfile(migrated_file, path)
    return f"sqlite:///{path}"


@pytest.fixture
def client(database: Database, room: WaitingRoom, tmp_path: Path) -> Iterator[TestClient]:
    with a_client(database, room, tmp_path, base_url=OPS) as opened:
        opened.headers["Host"] = "ops.example"
        yield opened


def some_things(database: Database) -> None:
    with database.write() as session:
        schedule = a_schedule(session, revision_id=a_revision(session).id)
        a_task(session, schedule=schedule, state="succeeded", result={"value": "<b>x</b>"}, result_kind="html")


@pytest.mark.parametrize(
    ("base_url", "path"),
    [(None, ""), ("https://ops.example", ""), ("https://ops.example/", ""), (OPS, "/jobs"), ("http://h:1/a/b", "/a/b")],
)
def test_the_path_is_that_of_the_address_by_which_people_come(base_url: str | None, path: str) -> None:
    assert Settings(base_url=base_url).web_path == path


def test_all_addresses_of_all_pages_stand_below_the_path(database: Database, client: TestClient) -> None:
    some_things(database)

    for page in PAGES:
        html = client.get(f"/jobs{page}").text
        addresses = re.findall(r' (?:href|src|action|data-live)="([^"]*)"', html)
        ours = [one for one in addresses if not one.startswith(("#", "?", "http"))]

        assert len(ours) > 15, page
        assert [one for one in ours if not one.startswith("/jobs/")] == [], page


def test_it_answers_without_the_path_too(client: TestClient) -> None:
    assert client.get("/healthz").text == client.get("/jobs/healthz").text == "ok\n"
    assert client.get("/jobs").status_code == 200
    assert client.get("/jobsx").status_code == 404


def test_whoever_must_log_in_is_led_there_and_back(
    database: Database, client: TestClient, cheap_passwords: None
) -> None:
    add_users(database)

    asked = client.get("/jobs/tasks?state=failed")
    told = {"name": "viewer", "password": PASSWORD, "next": "/tasks?state=failed"}
    let_in = client.post("/jobs/log-in", data=told)

    assert (asked.status_code, asked.headers["location"]) == (303, "/jobs/log-in?next=/tasks%3Fstate%3Dfailed")
    assert (let_in.status_code, let_in.headers["location"]) == (303, "/jobs/tasks?state=failed")
    cookie = let_in.headers["set-cookie"]
    assert cookie.startswith("__Secure-scheduler=")
    assert "; Path=/jobs;" in cookie
    assert "; Secure" in cookie


def test_the_description_of_the_interface_tells_where_it_is(client: TestClient) -> None:
    described = json.loads(client.get("/jobs/api/v1/openapi.json").text)

    assert described["servers"] == [{"url": "/jobs/api/v1"}]
    assert client.get("/jobs/api/v1/status").status_code == 200
    assert client.get("/jobs/api/v1/nothing").headers["content-type"] == "application/problem+json"


def test_what_others_wrote_is_left_as_it_is() -> None:
    written = 'x href=&#34;/tasks&#34; <a href="https://example.org/">/tasks</a> <a href="//example.org/">y</a>'

    assert outer(written, "/jobs") == written


def test_nothing_is_taken_off_where_no_path_is() -> None:
    scope = {"path": "/jobs/tasks", "raw_path": b"/jobs/tasks"}

    assert inner(scope, "") is scope
    assert inner(scope, "/jobs") == {"path": "/tasks", "raw_path": b"/tasks"}
