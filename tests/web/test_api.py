"""The HTTP interface: what is told, what is done, and that nothing is done twice."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from starlette.responses import Response
from starlette.testclient import TestClient

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import iso, utc_now
from scheduler.engine.actions import Actions
from scheduler.errors import RedisAway
from scheduler.rules.spec import Every
from scheduler.rules.states import STATES
from scheduler.store import parts
from scheduler.store.access_tables import AuditLine, IdempotencyKey
from scheduler.store.database import Database
from scheduler.store.tables import Artifact, LogChunk, Task
from scheduler.web.api import told
from scheduler.web.limits import ACT, LIMITS, Limit, Limits
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task
from tests.web.people import add_users, bearer
from tests.web.serving import a_client

SOURCE = {"source": "README.md"}
Ask = Callable[..., Response]
FILE = """\
version: 1
timezone: UTC
schedules:
  nightly: {task: count_words, args: {source: README.md}, when: {every: 2h}}
"""


@pytest.fixture
def tokens(database: Database, cheap_passwords: None) -> dict[str, str]:
    return add_users(database)


@pytest.fixture
def client(database: Database, room: WaitingRoom, tmp_path: Path, tokens: dict[str, str]) -> Iterator[TestClient]:
    """Asks as an operator."""
    with a_client(database, room, tmp_path) as opened:
        opened.headers = bearer(tokens["operator"])  # type: ignore[assignment]
        opened.base_url = "http://127.0.0.1:8080/api/v1"
        yield opened


@pytest.fixture
def nightly(database: Database) -> int:
    """The id of a schedule that fires each hour and has done so for a day."""
    began = utc_now() - dt.timedelta(days=1)
    spec = a_spec(when=(Every(every=HOUR),), args=SOURCE)
    with database.write() as session:
        return a_schedule(session, spec, in_force_since=began).id


def only_task(database: Database) -> Task:
    with database.read() as session:
        return session.scalars(select(Task)).one()


def audit_lines(database: Database) -> list[tuple[str, str, str, str]]:
    query = select(AuditLine).where(AuditLine.via == "token").order_by(AuditLine.id)
    with database.read() as session:
        return [(line.who, line.action, line.subject, line.address) for line in session.scalars(query)]


ME = "operator/of-operator"


# --- what is told ---------------------------------------------------------------------------------------------------


def test_tasks_come_in_pages_each_once(client: TestClient, database: Database) -> None:
    with database.write() as session:
        for number, state in enumerate(STATES * 2):
            a_task(session, state=state, task=f"t{number}")

    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        question = {"limit": 4, "state": list(STATES), **({"cursor": cursor} if cursor else {})}
        answer = client.get("/tasks", params=question).json()
        found += [one["id"] for one in answer["tasks"]]
        cursor, pages = answer["next_cursor"], pages + 1

    assert pages == 5
    assert sorted(found) == list(range(1, 21))


def test_tasks_are_found_by_kind_state_and_schedule(client: TestClient, database: Database, nightly: int) -> None:
    with database.write() as session:
        mine = a_task(session, schedule_id=nightly, schedule="nightly", state="failed").id
        a_task(session, state="failed")
        a_task(session, schedule_id=nightly, schedule="nightly", state="succeeded")

    answer = client.get("/tasks", params={"schedule": "nightly", "state": "failed", "kind": "scheduled"})

    assert [one["id"] for one in answer.json()["tasks"]] == [mine]
    assert client.get("/tasks?schedule=nightlx").json()["detail"] == (
        'There is no schedule "nightlx"; did you mean "nightly"?'
    )


def test_schedules_come_by_name_in_pages_and_by_search(client: TestClient, database: Database) -> None:
    with database.write() as session:
        revision = a_revision(session).id
        for name in ("b", "a", "d", "c"):
            a_schedule(session, a_spec(name=name, owner="jana" if name in "ad" else "otto"), revision_id=revision)

    first = client.get("/schedules?limit=3").json()
    rest = client.get("/schedules", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    janas = client.get("/schedules?q=jana").json()

    assert [one["name"] for one in first["schedules"]] == ["a", "b", "c"]
    assert ([one["name"] for one in rest["schedules"]], rest["next_cursor"]) == (["d"], None)
    assert [one["name"] for one in janas["schedules"]] == ["a", "d"]
    assert client.get("/schedules/a").json() == first["schedules"][0]


def test_what_comes_is_told_in_local_time_too(client: TestClient, database: Database) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(when=(Every(every=HOUR),), timezone="Asia/Tokyo"))

    answer = client.get("/schedules/nightly/next", params={"count": 2, "after": "2026-11-24T12:00:00+01:00"}).json()

    assert answer == {
        "schedule": "nightly",
        "timezone": "Asia/Tokyo",
        "words": "every hour",
        "fire_times": [
            {"fire_time": "2026-11-24T12:00:00Z", "local": "2026-11-24T21:00:00+09:00", "note": ""},
            {"fire_time": "2026-11-24T13:00:00Z", "local": "2026-11-24T22:00:00+09:00", "note": ""},
        ],
    }


def test_a_task_is_told_whole_but_for_its_secrets_and_places(client: TestClient, database: Database) -> None:
    with database.write() as session:
        a_task(session, args={"password": "open-sesame", **SOURCE}, result={"words": 7}, state="succeeded")

    task = client.get("/tasks/1").json()

    assert task.keys() == told.Task.model_fields.keys()
    assert (task["args"], task["result"]) == ({"password": "***", "source": "README.md"}, {"words": 7})
    assert client.get("/tasks/2").json()["detail"] == "There is no task 2; `scheduler tasks` lists those there are"


def test_a_log_is_read_on_from_where_one_was(client: TestClient, database: Database) -> None:
    with database.write() as session:
        a_task(session, state="running")
        for lines in ("one\ntwo", "three"):
            session.add(LogChunk(task_id=1, attempt=1, written_at=utc_now(), lines=lines))
            session.flush()

    first = client.get("/tasks/1/log").json()
    rest = client.get("/tasks/1/log", params={"after": first["pieces"][0]["id"]}).json()

    assert [one["lines"] for one in first["pieces"]] == [["one", "two"], ["three"]]
    assert [one["lines"] for one in rest["pieces"]] == [["three"]]
    assert first["ended"] is False
    assert client.get("/tasks/1/log", params={"after": rest["after"]}).json()["pieces"] == []


def test_a_file_is_told_to_be_saved_whatever_it_is_called(
    client: TestClient, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "artifacts" / "1" / "1"
    folder.mkdir(parents=True)
    (folder / "1").write_bytes(b"<script>alert(1)</script>")
    (tmp_path / "secret").write_text("secret")
    (folder / "2").symlink_to(tmp_path / "secret")
    with database.write() as session:
        a_task(session, state="succeeded")
        for path in ("1/1/1", "1/1/2", "../secret", "1/1/../../../secret", "/etc/passwd"):
            an_artifact(session, path)

    answer = client.get("/tasks/1/artifacts/1")
    others = [client.get(f"/tasks/1/artifacts/{number}") for number in (2, 3, 4, 5, 6)]

    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == ("attachment; filename*=UTF-8''..%2F%22x%22%0D%0Aevil%3A%201.html")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert [one.status_code for one in others] == [404] * 5


def an_artifact(session: Any, path: str) -> None:
    name = '../"x"\r\nevil: 1.html'
    given = {"media_type": "text/html", "size": 25, "sha256": "0" * 64, "created_at": utc_now()}
    session.add(Artifact(task_id=1, attempt=1, name=name, path=path, **given))
    session.flush()


def test_a_file_of_another_task_is_not_there(client: TestClient, database: Database) -> None:
    with database.write() as session:
        a_task(session, state="succeeded")
        a_task(session, state="succeeded")
        an_artifact(session, "1/1/1")

    assert client.get("/tasks/2/artifacts/1").json()["detail"] == "Task 2 has no file 1"


def test_the_status_is_that_of_the_command_without_what_may_quote_the_file(
    client: TestClient, database: Database
) -> None:
    with database.write() as session:
        trouble = {"message": "schedules.yaml:3: the secret is 42", "faults": ["the secret is 42"], "since": None}
        parts.tick(session, "keeper@here:1", "keeper", "here", 1, {"planner": 1, "trouble": trouble})

    status = client.get("/status").json()

    assert status["verdict"].startswith("0 schedules")
    assert status["redis"]["answers"] is True
    assert status.keys() == told.Status.model_fields.keys()
    assert status["problems"][0] == "schedule file refused"
    assert status["parts"][0]["details"] == {"planner": 1}


# --- what is done ---------------------------------------------------------------------------------------------------


def test_a_schedule_is_run_with_other_arguments(
    client: TestClient, database: Database, room: WaitingRoom, nightly: int
) -> None:
    answer = client.post("/schedules/nightly/run", json={"args": {"top": 3}})

    assert answer.status_code == 201
    warning = "no worker of kind scheduled has been seen lately; it waits until one is started"
    assert answer.json() == {"id": 1, "warnings": [warning]}
    task = only_task(database)
    assert (task.origin, task.requested_by, task.args) == ("api", ME, {**SOURCE, "top": 3})
    assert audit_lines(database) == [(ME, "run", "schedule nightly", "127.0.0.1")]
    assert room.redis.exists("rq:job:task-1-1") == 1


def test_where_nothing_needs_to_be_said_the_body_may_be_left_out(
    client: TestClient, database: Database, nightly: int
) -> None:
    run = client.post("/schedules/nightly/run")
    cancelled = client.post("/tasks/1/cancel")
    retried = client.post("/tasks/1/retry")

    assert [run.status_code, cancelled.status_code, retried.status_code] == [201, 200, 201]


def test_a_task_function_is_run(client: TestClient, database: Database) -> None:
    answer = client.post("/functions/count_words/run", json={"args": SOURCE})

    assert answer.status_code == 201
    assert (only_task(database).task, only_task(database).schedule) == ("count_words", None)


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("/schedules/nightlx/run", {}, 404, 'There is no schedule "nightlx"; did you mean "nightly"?'),
        ("/schedules/count_words/run", {}, 404, 'There is no schedule "count_words"'),
        ("/functions/nightly/run", {"args": SOURCE}, 404, 'There is no schedule and no task function "nightly"'),
        ("/tasks/7/cancel", {}, 404, "There is no task 7"),
        ("/schedules/nightly/resume", {}, 409, 'Schedule "nightly" is not paused'),
    ],
)
def test_what_cannot_be_done_is_told(
    client: TestClient, nightly: int, path: str, body: dict[str, Any], status: int, detail: str
) -> None:
    answer = client.post(path, json=body)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["detail"].startswith(detail)


def test_arguments_that_do_not_fit_are_all_told(client: TestClient, nightly: int) -> None:
    answer = client.post("/schedules/nightly/run", json={"args": {"sauce": 1, "top": "many"}})

    assert answer.status_code == 422
    assert len(answer.json()["detail"].splitlines()) == 2
    assert 'count_words: there is no argument "sauce"; did you mean "source"?' in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"args": {"source": "a\\u0000b"}}', id="NUL"),
        pytest.param('{"args": {"source": "\\ud800"}}', id="half a letter"),
        pytest.param('{"args": {"source": NaN}}', id="NaN"),
        pytest.param('{"args": {"source": 1e999}}', id="infinite"),
        pytest.param('{"args": {"a b": 1}}', id="no name of an argument"),
        pytest.param('{"args": {"source": ' + "[" * 60 + "]" * 60 + "}}", id="deep"),
        pytest.param('{"args": {"source": ' + "[" * 90_000 + "]" * 90_000 + "}}", id="bottomless"),
        pytest.param('{"args": {"source": "' + "x" * 100_001 + '"}}', id="long"),
        pytest.param('{"args": [1]}', id="a list"),
        pytest.param('{"args": ', id="no JSON"),
        pytest.param("[]", id="no object"),
    ],
)
def test_a_body_that_cannot_be_stored_is_refused(client: TestClient, nightly: int, body: str) -> None:
    answer = client.post("/schedules/nightly/run", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code in (400, 422)  # 400: so deep that it cannot even be read
    assert answer.json()["title"] in ("Bad Request", "Unprocessable Content")


def test_nothing_but_what_is_asked_for_can_be_set(client: TestClient) -> None:
    client.app.state.limits = Limits({**LIMITS, ACT: Limit(1000, 1)})  # type: ignore[attr-defined]
    bodies = {
        "/functions/count_words/run": {"args": SOURCE},
        "/schedules/nightly/pause": {"why": "x"},
        "/tasks/1/cancel": {},
        "/tasks/1/retry": {},
    }
    for field in {*told.Task.model_fields, *told.Schedule.model_fields} - {"args"}:
        for path, body in bodies.items():
            assert client.post(path, json={**body, field: 1}).status_code == 422, (path, field)


def test_a_schedule_is_held_until_a_moment_and_let_go(client: TestClient, database: Database, nightly: int) -> None:
    until = iso((utc_now() + HOUR).replace(microsecond=0))

    held = client.post("/schedules/nightly/pause", json={"why": "stocktaking", "until": until})
    pause = client.get("/schedules/nightly").json()["pause"]
    released = client.post("/schedules/nightly/resume", json={})

    assert held.json() == {"schedule": "nightly", "paused": True}
    assert (pause["by"], pause["why"], pause["until"]) == (ME, "stocktaking", until)
    assert released.json() == {"schedule": "nightly", "paused": False}
    assert [line[1:3] for line in audit_lines(database)] == [
        ("pause", "schedule nightly"),
        ("resume", "schedule nightly"),
    ]


def test_what_was_missed_is_counted_before_it_is_made_good(
    client: TestClient, database: Database, nightly: int
) -> None:
    until = utc_now().replace(minute=0, second=0, microsecond=0)
    span = {"from": iso(until - 3 * HOUR), "to": iso(until)}

    tried = client.post("/schedules/nightly/backfill", json={**span, "dry_run": True})
    made = client.post("/schedules/nightly/backfill", json=span)
    again = client.post("/schedules/nightly/backfill", json=span)

    assert (tried.status_code, tried.json()["count"], tried.json()["tasks"][0]["id"]) == (200, 4, None)
    assert (made.status_code, [one["id"] for one in made.json()["tasks"]]) == (201, [1, 2, 3, 4])
    assert (again.status_code, again.json()["left_out"]) == (200, 4)
    assert [line[1] for line in audit_lines(database)] == ["backfill"]


def test_a_task_is_cancelled_and_one_that_has_ended_run_again(client: TestClient, database: Database) -> None:
    with database.write() as session:
        a_task(session, due_at=utc_now() + MINUTE)
        a_task(session, state="failed")
        a_task(session, state="running")

    cancelled = client.post("/tasks/1/cancel", json={})
    again = client.post("/tasks/1/cancel", json={})
    asked = client.post("/tasks/3/cancel", json={})
    retried = client.post("/tasks/2/retry", json={})

    assert cancelled.json() == {"id": 1, "state": "cancelled"}
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "Task 1 has ended already (cancelled); an end never changes",
    )
    assert asked.json() == {"id": 3, "state": "running"}
    assert (retried.status_code, retried.json()["id"]) == (201, 4)
    assert [line[1:3] for line in audit_lines(database)] == [
        ("cancel", "task 1"),
        ("cancel", "task 3"),
        ("retry", "task 2"),
    ]


def test_a_file_that_is_only_proposed_is_checked_and_compared(
    client: TestClient, database: Database, nightly: int
) -> None:
    good = client.post("/check", json={"text": FILE}).json()
    bad = client.post("/check", json={"text": FILE.replace("every: 2h", "every: 2x")}).json()
    diff = client.post("/diff", json={"text": FILE}).json()
    refused = client.post("/diff", json={"text": "version: 2"})
    missing = client.post("/check", json={}).json()

    assert (good["ok"], good["schedules"]) == (True, ["nightly"])
    assert [(one["line"], one["schedule"]) for one in bad["faults"]] == [(4, "nightly")]
    assert diff["changed"] == ["nightly"]
    assert {"key": "when", "old": "every hour", "new": "every 2 hours"} in diff["schedules"][0]["keys"]
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("schedules.yaml:1:")
    assert "Write one, or name another" in missing["faults"][0]["hint"]


def test_revisions_come_in_pages_and_one_with_its_text(client: TestClient, database: Database) -> None:
    with database.write() as session:
        for number in range(3):
            a_revision(session, text=f"text {number}")

    first = client.get("/revisions?limit=2").json()
    rest = client.get("/revisions", params={"limit": 2, "cursor": first["next_cursor"]}).json()

    assert [one["revision"] for one in first["revisions"]] == [3, 2]
    assert ([one["revision"] for one in rest["revisions"]], rest["next_cursor"]) == ([1], None)
    assert client.get("/revisions/2").json()["text"] == "text 1"
    assert client.get("/revisions/9").status_code == 404


def test_the_largest_numbers_are_those_that_sql_has(client: TestClient, tokens: dict[str, str]) -> None:
    asked = [
        client.get(f"/{path}={number}", headers=bearer(tokens["admin"])).status_code
        for path in ("revisions?cursor", "audit?cursor")
        for number in (2**31 - 1, 2**31, 2**63 - 1, 2**63)
    ]

    assert asked == [200, 422, 422, 422, 200, 200, 200, 422]
    assert client.get(f"/tasks/{2**63 - 1}").status_code == 404
    assert client.get(f"/revisions/{2**31}").status_code == 422


def test_an_admin_sees_who_did_what(client: TestClient, tokens: dict[str, str], nightly: int) -> None:
    client.post("/schedules/nightly/pause", json={"why": "token: abcdefgh"})

    line = client.get("/audit?limit=1", headers=bearer(tokens["admin"])).json()["lines"][0]

    assert (line["who"], line["action"], line["subject"], line["via"]) == (ME, "pause", "schedule nightly", "token")
    assert line["details"] == {"why": "token: ***", "until": None}


# --- once -----------------------------------------------------------------------------------------------------------


def key(name: str = "k1") -> dict[str, str]:
    return {"Idempotency-Key": name}


def test_a_request_that_is_repeated_does_nothing_twice(client: TestClient, database: Database, nightly: int) -> None:
    first = client.post("/schedules/nightly/run", json={}, headers=key())
    second = client.post("/schedules/nightly/run", json={}, headers=key())
    other = client.post("/schedules/nightly/run", json={}, headers=key("k2"))

    assert (second.status_code, second.json()) == (first.status_code, first.json())
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert other.json()["id"] == 2


def test_a_key_is_for_one_request_of_one_caller(
    client: TestClient, database: Database, tokens: dict[str, str], nightly: int
) -> None:
    client.post("/schedules/nightly/run", json={}, headers=key())

    differs = client.post("/schedules/nightly/run", json={"args": {"top": 1}}, headers=key())
    admin = client.post("/schedules/nightly/run", json={}, headers={**bearer(tokens["admin"]), **key()})

    assert differs.status_code == 409
    assert differs.json()["detail"] == "The key k1 was used for another request; take a new one for each"
    assert admin.json()["id"] == 2


def test_a_key_may_be_used_again_after_a_day(client: TestClient, database: Database, nightly: int) -> None:
    client.post("/schedules/nightly/run", json={}, headers=key())
    with database.write() as session:
        session.execute(update(IdempotencyKey).values(created_at=utc_now() - dt.timedelta(hours=24)))

    answer = client.post("/schedules/nightly/run", json={"args": {"top": 1}}, headers=key())

    assert (answer.status_code, answer.json()["id"]) == (201, 2)


def test_an_answer_that_was_lost_comes_again(
    client: TestClient, database: Database, nightly: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Actions, "_register", lambda *_: 1 / 0)
        lost = client.post("/schedules/nightly/run", json={}, headers=key())

    again = client.post("/schedules/nightly/run", json={}, headers=key())

    assert lost.status_code == 500
    assert (again.status_code, again.json()["id"]) == (201, 1)
    assert only_task(database).id == 1


def test_of_two_at_once_one_is_done(client: TestClient, database: Database, nightly: int) -> None:
    answers: list[Any] = []
    ready = threading.Barrier(4)

    def ask() -> None:
        ready.wait(30)
        answers.append(client.post("/schedules/nightly/run", json={}, headers=key()))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert {one.status_code for one in answers} <= {201, 409}
    assert {one.json()["id"] for one in answers if one.status_code == 201} == {1}
    assert only_task(database).id == 1


def test_what_was_refused_may_be_asked_again_with_the_same_key(client: TestClient, nightly: int) -> None:
    refused = client.post("/schedules/nightly/resume", json={}, headers=key())
    client.post("/schedules/nightly/pause", json={"why": "x"})

    assert refused.status_code == 409
    assert client.post("/schedules/nightly/resume", json={}, headers=key()).status_code == 200


# --- what is away ---------------------------------------------------------------------------------------------------


def test_what_redis_cannot_take_is_recorded_all_the_same(
    client: TestClient, database: Database, nightly: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise RedisAway("Redis does not answer at x")

    monkeypatch.setattr(WaitingRoom, "register", away)

    answer = client.post("/schedules/nightly/run", json={})

    assert answer.status_code == 201
    assert answer.json()["warnings"][-1] == "recorded, but not queued yet: Redis does not answer at x"
    assert only_task(database).state == "planned"


def test_while_sql_is_away_everybody_is_told_to_come_again(
    client: TestClient, database: Database, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scheduler.errors import DatabaseAway

    def away() -> None:
        raise DatabaseAway("The database at x does not answer: refused")

    monkeypatch.setattr(database, "read", away)

    answer = client.get("/tasks")
    page = client.get("http://127.0.0.1:8080/tasks", headers={"Accept": "text/html"})

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["detail"] == "The database at x does not answer: refused"
    assert page.status_code == 503
    assert "The database at x does not answer: refused" in page.text
    assert client.get("http://127.0.0.1:8080/healthz").status_code == 200
    assert client.get("http://127.0.0.1:8080/readyz").status_code == 503
