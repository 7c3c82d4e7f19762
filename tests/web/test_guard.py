"""What holds for every request and answer: known hosts, no writes from other sites, headers, sizes, bounds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import func, select
from starlette.testclient import TestClient

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.store.database import Database
from scheduler.store.tables import Base
from scheduler.web.guard import HEADERS, MOST_BYTES, POLICY
from tests.web.people import add_users, bearer
from tests.web.serving import a_client


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """SQLite alone: little of what is told apart here reaches SQL."""
    path = tmp_path / "scheduler.sqlite"
    shutil.copyfile(migrated_file, path)
    return f"sqlite:///{path}"


@pytest.fixture
def client(database: Database, room: WaitingRoom, tmp_path: Path) -> Iterator[TestClient]:
    with a_client(database, room, tmp_path) as opened:
        yield opened


def routes(client: TestClient) -> Iterator[tuple[str, str]]:
    """(method, address) of every endpoint of pages and interface, with something for each name in it."""
    app: Any = client.app
    api = next(route.app for route in app.routes if getattr(route, "path", "") == "/api/v1")
    for prefix, part in (("", app), ("/api/v1", api)):
        for route in iter_route_contexts(part.routes):
            for method in (route.methods or set()) - {"HEAD"}:
                yield method, prefix + re.sub(r"{[^}]*}", "1", route.path or "")


def test_all_endpoints_are_looked_at(client: TestClient) -> None:
    found = set(routes(client))

    assert ("GET", "/") in found
    assert ("POST", "/log-in") in found
    assert ("POST", "/api/v1/tasks/1/cancel") in found
    assert len(found) > 25


# --- headers --------------------------------------------------------------------------------------------------------


def test_every_answer_has_the_headers_that_keep_browsers_safe(client: TestClient) -> None:
    asked = [
        *(("GET", path) for method, path in routes(client) if method == "GET" and "/events/" not in path),
        ("GET", "/static/style.css"),
        ("GET", "/nothing/here"),
        ("GET", "/api/v1/nothing"),
        ("DELETE", "/"),
        ("PUT", "/api/v1/status"),
        ("POST", "/log-in"),
        ("GET", "/api/v1/tasks?limit=0"),
    ]

    statuses = set()
    for method, path in asked:
        answer = client.request(method, path)
        statuses.add(answer.status_code)
        missing = {name for name, value in HEADERS.items() if answer.headers.get(name) != value}
        assert (path, missing) == (path, set())
        assert "server" not in answer.headers
    assert {200, 303, 404, 405, 422} <= statuses
    assert not [status for status in statuses if status >= 500]


def test_the_policy_allows_nothing_unsafe() -> None:
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    assert "frame-ancestors 'none'" in POLICY


def test_our_own_mistake_is_told_without_its_details(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr("scheduler.web.api.service.status_of", fail)

    answer = client.get("/api/v1/status")

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == (
        "Something went wrong here, and it is ours to mend; the log of the web part has the details."
    )
    assert answer.headers["content-security-policy"] == POLICY
    assert "the secret is 42" in caplog.text


def test_https_is_kept_to_where_it_is_the_public_address(database: Database, room: WaitingRoom, tmp_path: Path) -> None:
    with a_client(database, room, tmp_path, base_url="https://jobs.example.org") as client:
        answer = client.get("/healthz", headers={"Host": "jobs.example.org"})

    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"] == "max-age=15768000"


# --- hosts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "",
        "x@evil.example",
        "127.0.0.1@evil.example",
        "[::1",
    ],
)
def test_a_name_that_is_not_ours_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"Host": host})

    assert answer.status_code == 421
    assert answer.text == (
        f"421 Misdirected Request\nThis service is not known as {host!r}. If people reach it by that name, "
        "set base_url (SCHEDULER_BASE_URL) to it.\n"
    )


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "10.0.0.7", "LOCALHOST."]
)
def test_our_own_names_and_addresses_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


# --- writes from elsewhere ------------------------------------------------------------------------------------------

ELSEWHERE = [
    pytest.param({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, id="another site"),
    pytest.param({"Sec-Fetch-Site": "same-site"}, id="a sibling"),
    pytest.param({"Sec-Fetch-Site": "none"}, id="typed"),
    pytest.param({"Sec-Fetch-Site": "", "Origin": "http://127.0.0.1:9999"}, id="another port"),
    pytest.param({"Origin": "null"}, id="a sandbox"),
    pytest.param({"Authorization": "Basic eDp5"}, id="a password that the browser adds by itself"),
    pytest.param({}, id="nobody says"),
]


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_no_endpoint_that_changes_something_is_reached_from_elsewhere(
    client: TestClient, headers: dict[str, str]
) -> None:
    del client.headers["Sec-Fetch-Site"]
    client.cookies.set("scheduler", "whatever")
    given = {name: value for name, value in headers.items() if value}

    asked = [(method, path) for method, path in routes(client) if method != "GET"]

    assert len(asked) > 8
    for method, path in asked:
        answer = client.request(method, path, json={}, headers=given)
        assert (path, answer.status_code) == (path, 403)
        assert "must come from a page of this service" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Sec-Fetch-Site": "same-origin"}, id="same origin"),
        pytest.param({"Origin": "http://127.0.0.1:8080"}, id="an origin alone, as over http"),
        pytest.param({"Authorization": "Bearer sch_wrong"}, id="a token, which is then judged"),
    ],
)
def test_what_comes_from_here_gets_through(client: TestClient, headers: dict[str, str]) -> None:
    del client.headers["Sec-Fetch-Site"]

    answer = client.post("/api/v1/tasks/1/cancel", json={}, headers=headers)

    assert answer.status_code in (401, 404)


def test_a_program_without_a_browser_needs_json_while_there_are_no_users(client: TestClient) -> None:
    del client.headers["Sec-Fetch-Site"]

    assert client.post("/api/v1/tasks/1/cancel", json={}).status_code == 404
    assert (
        client.post("/api/v1/tasks/1/cancel", content="{}", headers={"Content-Type": "text/plain"}).status_code == 403
    )
    assert client.post("/log-in", json={}).status_code == 403


def test_no_page_changes_anything_by_being_looked_at(
    database: Database, room: WaitingRoom, client: TestClient, cheap_passwords: None
) -> None:
    token = add_users(database)["admin"]
    before = counts(database)

    for method, path in routes(client):
        if method == "GET" and "/events/" not in path:
            client.get(path, headers=bearer(token))

    assert counts(database) == before


def counts(database: Database) -> dict[str, int]:
    with database.read() as session:
        return {
            name: session.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in Base.metadata.tables.items()
        }


# --- sizes and bounds -----------------------------------------------------------------------------------------------


def test_a_request_that_is_too_large_is_not_read(client: TestClient) -> None:
    said = client.post("/api/v1/check", content=b"x" * (MOST_BYTES + 1), headers={"Content-Type": "application/json"})
    pieces = client.post(
        "/api/v1/check", content=iter([b"x" * 1_000_000] * 3), headers={"Content-Type": "application/json"}
    )

    assert (said.status_code, pieces.status_code) == (413, 413)
    assert said.json()["detail"] == pieces.json()["detail"] == f"The request is larger than {MOST_BYTES:,} bytes."


@pytest.mark.parametrize("value", ["1e9", "-1", "NaN", "0", "201", "1_0", "١", "", " 1", "true", "0x10", "1.0"])
def test_a_number_is_bounded_and_nothing_but_a_number(client: TestClient, value: str) -> None:
    for path in ("tasks", "schedules", "revisions", "audit"):
        assert client.get(f"/api/v1/{path}", params={"limit": value}).status_code == 422


@pytest.mark.parametrize(
    "question",
    [
        "sort=id;drop",
        "state=done",
        "since=yesterday",
        "since=1764000000",
        "cursor=%00",
        "kind=%25",
        "schedule=%27",
        "x=1",
    ],
)
def test_a_question_that_is_none_is_refused(client: TestClient, question: str) -> None:
    answer = client.get(f"/api/v1/tasks?{question}")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["where"].startswith("query.")
