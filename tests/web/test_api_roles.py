"""Who may do what: every operation of the description, asked by nobody and by each role."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.backends import Backends
from scheduler.rules.roles import ROLES, reaches
from scheduler.settings import Settings
from scheduler.store.database import Database
from scheduler.web.app import create_app
from tests.web.people import add_users, bearer
from tests.web.serving import a_client

NOBODY = "nobody"


@cache
def description() -> dict[str, Any]:
    settings = Settings(database_url="sqlite://")
    with TestClient(create_app(settings, Backends(settings)), base_url="http://127.0.0.1") as client:
        described: dict[str, Any] = client.get("/api/v1/openapi.json").json()
        return described


def operations() -> Iterator[tuple[str, str, str]]:
    """(method, path, role)"""
    for path, methods in description()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation["x-role"]


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """SQLite alone: who may do what is decided before SQL is asked."""
    path = tmp_path / "scheduler.sqlite"
    shutil.copyfile(migrated_file, path)
    return f"sqlite:///{path}"


@pytest.fixture
def tokens(database: Database, cheap_passwords: None) -> dict[str, str]:
    return add_users(database)


@pytest.fixture
def client(database: Database, room: WaitingRoom, tmp_path: Path, tokens: dict[str, str]) -> Iterator[TestClient]:
    with a_client(database, room, tmp_path) as opened:
        yield opened


def test_what_changes_something_needs_an_operator_and_the_audit_an_admin() -> None:
    wanted = {(method, path): role for method, path, role in operations()}

    assert {role for (method, _), role in wanted.items() if method == "post"} == {"operator"}
    assert [path for (method, path), role in wanted.items() if role == "admin"] == ["/audit"]
    assert Counter(wanted.values()) == {"viewer": 11, "operator": 10, "admin": 1}


@pytest.mark.parametrize(("method", "path", "role"), sorted(operations()))
def test_who_may_do_it(client: TestClient, tokens: dict[str, str], method: str, path: str, role: str) -> None:
    address = f"/api/v1{path}".replace("{task_id}", "1").replace("{artifact_id}", "1").replace("{number}", "1")
    address = address.replace("{name}", "nightly")

    answers = {}
    for caller in (NOBODY, *ROLES):
        headers = {} if caller == NOBODY else bearer(tokens[caller])
        body = {"json": {}} if method == "post" else {}
        answers[caller] = client.request(method, address, headers=headers, **body)

    assert answers[NOBODY].status_code == 401
    for caller in ROLES:
        if reaches(caller, role):
            assert answers[caller].status_code in (200, 404, 422)
        else:
            assert answers[caller].status_code == 403
            assert answers[caller].json()["detail"] == (
                f"This needs the role {role}; {caller}/of-{caller} has {caller}"
            )


def test_every_operation_tells_its_errors_and_who_may_come_in() -> None:
    for path, methods in description()["paths"].items():
        for method, operation in methods.items():
            assert operation["security"] == [{"token": []}, {"session": []}], path
            assert {"401", "403", "422", "429", "503"} <= operation["responses"].keys(), path
            named = "{" in path or path == "/tasks"  # whose parameters name a schedule
            assert ("404" in operation["responses"]) == (named or method == "post"), path
            for status, answer in operation["responses"].items():
                kinds = set(answer["content"])
                assert kinds == {"application/problem+json"} if int(status) >= 400 else True, (path, status)


def test_every_body_and_number_of_the_description_is_bounded() -> None:
    schemas = description()["components"]["schemas"]
    bodies = {name: schema for name, schema in schemas.items() if name.endswith("Body")}

    assert len(bodies) == 5
    assert [name for name, schema in bodies.items() if schema["additionalProperties"] is not False] == []
    for path, methods in description()["paths"].items():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                for schema in parameter["schema"].get("anyOf", [parameter["schema"]]):
                    if schema.get("type") == "integer":
                        assert {"minimum", "maximum"} <= schema.keys(), (path, parameter["name"])
                    if schema.get("type") == "string":
                        assert {"pattern", "enum"} & schema.keys(), (path, parameter["name"])


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_method_that_is_not_there_is_refused_with_those_that_are(
    client: TestClient, tokens: dict[str, str], method: str
) -> None:
    answer = client.request(method, "/api/v1/tasks", headers=bearer(tokens["admin"]))

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "This address does not take that method."


def test_the_page_of_the_interface_shows_every_operation(client: TestClient, tokens: dict[str, str]) -> None:
    page = client.get("/api", headers={**bearer(tokens["viewer"]), "Accept": "text/html"})

    assert page.status_code == 200
    assert [f"{method.upper()} {path}" for method, path, _ in operations()] == [
        f"{method.upper()} {path}"
        for method, path, _ in operations()
        if f"<code>{method.upper()} {path}</code>" in page.text
    ]


# --- pages ----------------------------------------------------------------------------------------------------------

FOR_ANYBODY = {"/log-in", "/log-out", "/healthz", "/readyz"}


def pages(client: TestClient) -> list[tuple[str, str]]:
    app: Any = client.app
    return sorted(
        (method, re.sub(r"{[^}]*}", "1", route.path or ""))
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or set()) - {"HEAD"}
        if route.path not in FOR_ANYBODY
    )


def test_no_page_is_shown_to_nobody(client: TestClient) -> None:
    found = pages(client)

    assert len(found) > 15
    for method, path in found:
        answer = client.request(method, path, headers={"Accept": "text/html"})
        if method == "GET":
            assert (path, answer.status_code, answer.headers["location"][:13]) == (path, 303, "/log-in?next=")
        else:
            assert (path, answer.status_code) == (path, 401)


def test_a_viewer_changes_nothing_by_a_form(client: TestClient, tokens: dict[str, str]) -> None:
    forms = [path for method, path in pages(client) if method == "POST"]

    assert len(forms) > 4
    for path in forms:
        answer = client.post(path, data={"why": "x"}, headers=bearer(tokens["viewer"]))
        assert (path, answer.status_code) == (path, 403)
