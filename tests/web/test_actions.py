"""What operators do by forms: each says what it did, loses nothing that was typed, and is left to operators."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.rules.states import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED
from scheduler.store.access_tables import AuditLine
from scheduler.store.database import Database
from scheduler.store.tables import Schedule, Task
from tests.builders import HOUR, a_revision, a_schedule, a_spec, a_task
from tests.web.people import add_users, log_in
from tests.web.serving import a_client

ARGS = {"source": "README.md", "top": 5}
NO_WORKER = "no worker of kind scheduled has been seen lately; it waits until one is started"


@pytest.fixture
def client(database: Database, room: WaitingRoom, tmp_path: Path) -> Iterator[TestClient]:
    with database.write() as session:
        a_schedule(session, a_spec(args=ARGS, timezone="Europe/Berlin"))
    with a_client(database, room, tmp_path) as opened:
        yield opened


def told(client: TestClient, address: str) -> str:
    """What the page says that one is sent to, without tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", client.get(address).text).split())


def newest(database: Database) -> Task:
    with database.read() as session:
        return session.scalars(select(Task).order_by(Task.id.desc()).limit(1)).one()


def of_schedule(database: Database) -> Schedule:
    with database.read() as session:
        return session.scalars(select(Schedule)).one()


# --- run now --------------------------------------------------------------------------------------------------------


def test_a_schedule_is_run_with_what_was_changed_of_its_arguments(
    client: TestClient, database: Database, room: WaitingRoom
) -> None:
    form = client.get("/run/nightly").text
    assert 'name="arg.source" value="README.md"' in form
    assert 'name="arg.top" value="5"' in form

    answer = client.post("/run/nightly", data={"arg.source": "README.md", "arg.top": "7"})

    task = newest(database)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/tasks/{task.id}")
    assert (task.args, task.requested_by, task.origin) == ({"source": "README.md", "top": 7}, "local", "manual")
    said = told(client, answer.headers["location"])
    assert f"nightly was asked for: this is its task {task.id}. ! {NO_WORKER}" in said
    assert "was asked for" not in told(client, f"/tasks/{task.id}"), "it is said once"


def test_arguments_that_do_not_fit_are_told_beside_their_fields_with_nothing_lost(
    client: TestClient, database: Database
) -> None:
    answer = client.post("/run/nightly", data={"arg.source": "a <b>file</b>", "arg.top": "many"})

    assert answer.status_code == 422
    assert 'value="a &lt;b&gt;file&lt;/b&gt;"' in answer.text
    assert 'value="many" autocomplete="off" spellcheck="false" aria-invalid="true"' in answer.text
    assert (
        '<p class="fault" id="arg-2-fault">&#34;top&#34;: expected a whole number, got &#34;many&#34;</p>'
        in answer.text
    )
    with database.read() as session:
        assert session.execute(select(Task.id)).first() is None


def test_a_task_function_is_run_by_itself(client: TestClient, database: Database) -> None:
    assert 'href="/run/count_words"' in client.get("/run").text

    missing = client.post("/run/count_words", data={"arg.source": "", "arg.top": "10"})
    answer = client.post("/run/count_words", data={"arg.source": "README.md", "arg.top": "3"})

    assert missing.status_code == 422
    assert "the argument &#34;source&#34; is missing" in missing.text
    task = newest(database)
    assert answer.headers["location"] == f"/tasks/{task.id}"
    assert (task.schedule, task.kind, task.args) == (None, "adhoc", {"source": "README.md", "top": 3})


def test_a_browser_that_goes_away_while_it_sends_a_form_is_no_fault_of_ours(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    length = [(b"host", b"127.0.0.1"), (b"sec-fetch-site", b"same-origin"), (b"content-length", b"9")]
    kind = [(b"content-type", b"application/x-www-form-urlencoded")]
    scope = {"type": "http", "method": "POST", "path": "/run/nightly", "query_string": b"", "headers": length + kind}
    scope |= {"client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8080), "scheme": "http", "root_path": ""}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]

    assert sent == []
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


# --- cancel and retry -----------------------------------------------------------------------------------------------


def test_a_task_that_waits_is_cancelled_and_one_that_runs_is_asked_to_stop(
    client: TestClient, database: Database
) -> None:
    with database.write() as session:
        waits, runs, over = (a_task(session, state=state).id for state in (QUEUED, RUNNING, SUCCEEDED))

    answers = [client.post(f"/tasks/{one}/cancel") for one in (waits, runs, over)]

    assert [answer.headers["location"] for answer in answers] == [f"/tasks/{one}" for one in (waits, runs, over)]
    with database.read() as session:
        assert session.get_one(Task, waits).state == CANCELLED
        assert session.get_one(Task, runs).stop_requested_by == "local"
    assert f"Nothing was done. ! Task {over} has ended already (succeeded); an end never changes" in told(
        client, f"/tasks/{over}"
    )


def test_what_a_cancelling_did_is_said(client: TestClient, database: Database) -> None:
    with database.write() as session:
        waits, runs = a_task(session, state=QUEUED).id, a_task(session, state=RUNNING).id

    client.post(f"/tasks/{waits}/cancel")
    of_waiting = told(client, f"/tasks/{waits}")
    client.post(f"/tasks/{runs}/cancel")
    of_running = told(client, f"/tasks/{runs}")

    assert f"Task {waits} is cancelled." in of_waiting
    assert f"Task {runs} runs; its worker was asked to stop it." in of_running


def test_a_task_that_ended_is_run_again(client: TestClient, database: Database) -> None:
    with database.write() as session:
        old = a_task(session, state=SUCCEEDED, args={"source": "x"}).id

    answer = client.post(f"/tasks/{old}/retry")

    new = newest(database)
    assert (new.retry_of, answer.headers["location"]) == (old, f"/tasks/{new.id}")
    assert f"This is task {new.id}, which repeats task {old}." in told(client, f"/tasks/{new.id}")
    assert client.post("/tasks/4711/retry").status_code == 404
    assert client.post("/tasks/4711/cancel").status_code == 404


def test_chosen_tasks_are_run_again_each_by_itself(client: TestClient, database: Database) -> None:
    with database.write() as session:
        first, second = (a_task(session, state=state).id for state in (SUCCEEDED, FAILED))
        runs = a_task(session, state=RUNNING).id
    boxes = client.get("/tasks").text
    assert all(f'name="id" value="{one}"' in boxes for one in (first, second, runs))

    form = {"id": [str(first), str(second), str(runs), "4711"], "do": "retry", "back": "/tasks?state=failed"}
    answer = client.post("/tasks/chosen", data=form)

    assert (answer.status_code, answer.headers["location"]) == (303, "/tasks?state=failed")
    assert (
        f"2 of 4 tasks were asked for again. ! Task {runs} is running; only one that has ended can be run again "
        "! There is no task 4711"
    ) in told(client, "/tasks")
    with database.read() as session:
        assert set(session.scalars(select(Task.retry_of).where(Task.retry_of.is_not(None)))) == {first, second}


def test_chosen_tasks_are_cancelled(client: TestClient, database: Database) -> None:
    with database.write() as session:
        waiting = [a_task(session, state=QUEUED).id for _ in range(50)]
        over = [a_task(session, state=SUCCEEDED).id for _ in range(50)]

    client.post("/tasks/chosen", data={"id": [str(one) for one in (*waiting, *over)], "do": "cancel"})

    assert "50 of 100 tasks were cancelled, or asked to stop." in told(client, "/tasks")
    with database.read() as session:
        assert {session.get_one(Task, one).state for one in waiting} == {CANCELLED}


@pytest.mark.parametrize(
    "back", ["//evil.example", "https://evil.example", "/tasks/../x", "/tasks?a=\\b", "/tasksx", ""]
)
def test_a_list_leads_back_to_lists_alone(client: TestClient, back: str) -> None:
    answer = client.post("/tasks/chosen", data={"do": "retry", "back": back})

    assert answer.headers["location"] == "/tasks"
    assert "Nothing was done: no task was chosen." in told(client, "/tasks")


def test_what_no_list_of_ours_sends_is_refused(client: TestClient) -> None:
    for form in ({"id": "1"}, {"id": "1", "do": "delete"}, {"id": "0", "do": "retry"}, {"id": "1e9", "do": "retry"}):
        assert client.post("/tasks/chosen", data=form).status_code == 422, form


# --- pause and resume -----------------------------------------------------------------------------------------------


def test_a_schedule_is_paused_with_a_reason_and_resumed(client: TestClient, database: Database) -> None:
    client.post("/schedules/nightly/pause", data={"why": "deploy of <b>shop</b>", "until": "2199-12-01 06:30"})
    paused = client.get("/schedules/nightly").text

    held = of_schedule(database).pause
    assert held is not None
    assert (held["by"], held["why"], held["until"]) == ("local", "deploy of <b>shop</b>", "2199-12-01T05:30:00+00:00")
    assert "nightly is paused until Sun 2199-12-01 06:30 CET: deploy of &lt;b&gt;shop&lt;/b&gt;" in paused
    assert 'action="/schedules/nightly/resume"' in paused

    client.post("/schedules/nightly/resume")

    assert of_schedule(database).pause is None
    assert "nightly goes on. What passed meanwhile stays skipped." in told(client, "/schedules/nightly")
    client.post("/schedules/nightly/resume")
    assert "Nothing was done. ! Schedule &#34;nightly&#34; is not paused" in told(client, "/schedules/nightly")


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ({"why": " ", "until": "in 2h"}, "Say why: it is shown beside the schedule, and mailed."),
        ({"why": "x" * 501, "until": "in 2h"}, "This has 501 letters; 500 are the most."),
        ({"why": "deploy", "until": "soon"}, "&#34;soon&#34; is no moment; give one such as"),
        ({"why": "deploy", "until": "2h ago"}, "&#34;2h ago&#34; is past; give a moment to come, or none."),
    ],
)
def test_a_pause_that_does_not_fit_comes_back_with_what_was_typed(
    client: TestClient, database: Database, form: dict[str, str], fault: str
) -> None:
    answer = client.post("/schedules/nightly/pause", data=form)

    assert answer.status_code == 422
    assert fault in answer.text
    assert all(f'value="{value.strip()}"' in answer.text or not value.strip() for value in form.values())
    assert of_schedule(database).pause is None


# --- backfill -------------------------------------------------------------------------------------------------------


def test_a_backfill_counts_first_and_runs_when_it_is_told_to(client: TestClient, database: Database) -> None:
    span = {"from": "2026-11-20 10:00", "to": "2026-11-20 10:20"}

    counted = client.post("/schedules/nightly/backfill", data=span)

    assert counted.status_code == 200
    assert "5 fire times to make good" in counted.text
    assert '<input type="hidden" name="from" value="2026-11-20 10:00">' in counted.text
    with database.read() as session:
        assert session.execute(select(Task.id)).first() is None

    answer = client.post("/schedules/nightly/backfill", data={**span, "do": "yes"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/tasks?schedule=nightly")
    assert f"5 tasks were asked for; the oldest is due first. ! {NO_WORKER}" in told(client, "/tasks?schedule=nightly")
    with database.read() as session:
        assert {one.origin for one in session.scalars(select(Task))} == {"backfill"}
    again = client.post("/schedules/nightly/backfill", data=span)
    assert "0 fire times to make good" in again.text
    assert "5 fire times of the span left out" in again.text


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ({"from": "soon", "to": "1h ago"}, "&#34;soon&#34; is no moment"),
        ({"from": "1h ago", "to": "2h ago"}, " is later than to "),
        ({"from": "1h ago", "to": "in 1h"}, " is not past yet; what is to come fires by itself"),
        ({"from": "2020-01-01", "to": "1h ago"}, "has more than 1,000 fire times in that span"),
    ],
)
def test_a_span_that_does_not_fit_comes_back_with_what_was_typed(
    client: TestClient, form: dict[str, str], fault: str
) -> None:
    answer = client.post("/schedules/nightly/backfill", data=form)

    assert answer.status_code == 422
    assert fault in answer.text
    assert all(f'value="{value}"' in answer.text for value in form.values())
    assert "--" not in re.sub(r"<[^>]+>", " ", answer.text)


# --- who may --------------------------------------------------------------------------------------------------------


POSTS = (
    "/run/nightly",
    "/tasks/1/cancel",
    "/tasks/1/retry",
    "/tasks/chosen",
    "/schedules/nightly/pause",
    "/schedules/nightly/resume",
    "/schedules/nightly/backfill",
)


@pytest.mark.usefixtures("cheap_passwords")
def test_a_viewer_sees_no_forms_of_actions_and_may_not_send_them(client: TestClient, database: Database) -> None:
    add_users(database)
    with database.write() as session:
        task_id = a_task(session, schedule=of_schedule(database), state=QUEUED).id
    log_in(client, "viewer")

    for path in ("/schedules", "/schedules/nightly", "/tasks", f"/tasks/{task_id}", "/file"):
        page = client.get(path)
        assert page.status_code == 200, path
        assert re.findall(r'<form[^>]* method="post"[^>]*>', page.text) == ['<form method="post" action="/log-out">'], (
            path
        )
        assert "/run" not in re.findall(r'href="(/run)', page.text), path
    for path in ("/run", "/run/nightly", "/schedules/nightly/pause", "/schedules/nightly/backfill", "/audit"):
        assert client.get(path).status_code == 403, path
    assert {
        path: client.post(path, data={"why": "x", "do": "cancel", "id": "1"}).status_code for path in POSTS
    } == dict.fromkeys(POSTS, 403)
    assert of_schedule(database).pause is None
    assert newest(database).state == QUEUED


@pytest.mark.usefixtures("cheap_passwords")
def test_texts_of_the_file_and_what_is_wrong_with_them_are_shown_to_operators_alone(
    client: TestClient, database: Database, tmp_path: Path
) -> None:
    add_users(database)
    with database.write() as session:
        number = a_revision(session, text="first-word: 1\n").id
    (tmp_path / "schedules.yaml").write_text("version: 1\ntimezone: UTC\nschedules: {a: {secret-word: 1}}\n")

    log_in(client, "viewer")
    of_viewer = client.get("/file").text
    assert client.get(f"/file/text?revision={number}").status_code == 403
    log_in(client, "operator")
    of_operator = client.get("/file").text

    assert "3 faults" in of_viewer
    assert "secret-word" not in of_viewer
    assert "first-word" not in of_viewer
    assert "first-word" in of_operator
    assert "has an unknown key &#34;secret-word&#34;" in of_operator


@pytest.mark.usefixtures("cheap_passwords")
def test_what_an_operator_does_is_written_down_with_the_name(client: TestClient, database: Database) -> None:
    add_users(database)
    log_in(client, "operator")

    client.post("/schedules/nightly/pause", data={"why": "deploy"})

    with database.read() as session:
        line = session.scalars(select(AuditLine).where(AuditLine.action == "pause")).one()
    assert (line.who, line.via, line.subject, line.details["why"]) == (
        "operator",
        "session",
        "schedule nightly",
        "deploy",
    )
    log_in(client, "admin")
    assert "operator session, 127.0.0.1 pause schedule nightly why deploy" in told(client, "/audit")
    assert "pause" not in told(client, "/audit?who=nobody").split("Details")[-1]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="another site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, id="a sibling"),
        pytest.param({"Sec-Fetch-Site": "", "Origin": "https://evil.example"}, id="another origin"),
    ],
)
def test_a_form_that_another_site_sends_does_nothing(
    client: TestClient, database: Database, headers: dict[str, str]
) -> None:
    with database.write() as session:
        a_task(session, state=QUEUED)

    answers = {
        path: client.post(path, data={"why": "x", "do": "cancel", "id": "1"}, headers=headers).status_code
        for path in POSTS
    }

    assert answers == dict.fromkeys(POSTS, 403)
    assert of_schedule(database).pause is None


def test_following_every_link_changes_nothing(client: TestClient, database: Database) -> None:
    with database.write() as session:
        schedule = session.scalars(select(Schedule)).one()
        for hour in range(3):
            a_task(session, schedule=schedule, state=SUCCEEDED, fire_time=utc_now() - hour * HOUR)
        a_task(session, state=RUNNING)
        a_task(session, schedule=schedule, state=QUEUED, fire_time=utc_now())
    before = everything(database)

    seen: set[str] = set()
    waiting = deque(["/"])
    while waiting:
        address = waiting.popleft()
        if address in seen or address.startswith(("/events/", "/static/", "/day?")):  # days have no end
            continue
        seen.add(address)
        answer = client.get(address)
        assert answer.status_code in (200, 303, 405, 422), address
        found = re.findall(r'(?:href|action|src)="([^"#]*)', answer.text)
        page = address.split("?")[0]
        linked = [page + link if link.startswith("?") else link for link in found]
        waiting += [link.replace("&amp;", "&") for link in linked if link.startswith("/") and not link.startswith("//")]

    assert {"/schedules", "/schedules/nightly", "/tasks", "/file", "/audit", "/run/nightly", "/tasks/1"} <= seen
    assert everything(database) == before


def everything(database: Database) -> list[object]:
    """All schedules and tasks as they are."""
    with database.read() as session:
        tables = [Schedule.__table__, Task.__table__, AuditLine.__table__]
        return [tuple(row) for table in tables for row in session.execute(select(table).order_by(table.c.id))]


def test_a_cookie_that_we_did_not_write_is_not_shown(client: TestClient) -> None:
    for cookie in ("x", "bm8ganNvbg==", "WzFd", "e30=", "W10=", "x" * 5000):
        client.cookies.set("told", cookie)

        assert client.get("/schedules").status_code == 200
        assert 'class="notice"' not in client.get("/schedules").text
