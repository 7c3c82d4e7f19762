"""Schedules, tasks, the file and the audit as pages: what they say, whom they let do what, what they cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import insert
from starlette.testclient import TestClient

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.file.apply import apply
from scheduler.engine.work.artifacts import keep_files, record
from scheduler.result_kinds import File
from scheduler.rules.states import FAILED, QUEUED, RUNNING, SUCCEEDED
from scheduler.rules.task.policy import TaskPolicy
from scheduler.settings import Settings
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.tables import Artifact, Schedule, Task
from scheduler.web.guard import POLICY
from tests.builders import MINUTE, a_book, a_revision, a_schedule, a_spec, a_task, an_attempt, at
from tests.statements import counted
from tests.web.browser.payloads import PAYLOADS
from tests.web.serving import a_client

PAGES = ("/schedules", "/schedules/nightly", "/tasks", "/tasks/1", "/file", "/audit", "/run", "/run/nightly")
FORMS = ("/schedules/nightly/pause", "/schedules/nightly/backfill")


@pytest.fixture
def client(database: Database, room: WaitingRoom, tmp_path: Path) -> Iterator[TestClient]:
    with a_client(database, room, tmp_path) as opened:
        yield opened


def words(text: str) -> str:
    """What a page says, without tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def some_history(database: Database, schedules: int = 1, each: int = 60) -> None:
    """Schedules, the first of them «nightly», each with so many tasks that have ended."""
    with database.write() as session:
        revision = a_revision(session).id
        rows: list[dict[str, Any]] = []
        for number in range(schedules):
            name = "nightly" if number == 0 else f"s{number:03}"
            spec = a_spec(name=name, owner="jana", tags=("shop", "stock"), about="Safe to run twice.")
            schedule = a_schedule(session, spec, revision_id=revision)
            rows += [_ended(schedule, minute) for minute in range(each)]
        session.execute(insert(Task), rows)


def _ended(schedule: Schedule, minute: int) -> dict[str, Any]:
    fired = at("06:00") + minute * MINUTE
    return {
        "kind": "scheduled",
        "origin": "schedule",
        "schedule_id": schedule.id,
        "schedule": schedule.name,
        "task": "count_words",
        "args": {"source": "README.md"},
        "policy": TaskPolicy().model_dump(mode="json"),
        "idempotency_key": f"{schedule.name}@{minute}",
        "queue": "scheduled",
        "state": FAILED if minute % 7 == 3 else SUCCEEDED,
        "attempt": 1,
        "fire_time": fired,
        "due_at": fired,
        "created_at": fired,
        "started_at": fired,
        "finished_at": fired + MINUTE,
        "result": {"words": minute, "file": "README.md"},
        "reason": "x" * 90,
    }


# --- what they say --------------------------------------------------------------------------------------------------


def test_every_page_is_there_when_there_is_something_to_show(client: TestClient, database: Database) -> None:
    some_history(database)

    assert {path: client.get(path).status_code for path in (*PAGES, *FORMS)} == dict.fromkeys((*PAGES, *FORMS), 200)


def test_every_list_is_there_when_there_is_nothing(client: TestClient) -> None:
    lists = ("/schedules", "/tasks", "/file", "/audit", "/run")

    assert {path: client.get(path).status_code for path in lists} == dict.fromkeys(lists, 200)


NOT_THERE = {
    "/schedules/nigthly": "There is and was no schedule &#34;nigthly&#34;",
    "/schedules/nigthly/pause": "There is no schedule &#34;nigthly&#34;",
    "/run/nigthly": "Nothing that can be run is named &#34;nigthly&#34;",
    "/tasks/4711": "There is no task 4711",
    "/events/tasks/4711": "There is no task 4711",
    "/tasks/4711/log": "There is no task 4711",
    "/tasks/4711/files/1": "Task 4711 has no file 1",
    "/tasks?schedule=nigthly": "There is no schedule &#34;nigthly&#34;",
    "/file?revision=9": "There is no revision 9",
    "/file/text?revision=9": "There is no revision 9",
}


def test_what_is_not_there_is_a_page_that_says_so(client: TestClient) -> None:
    for path, detail in NOT_THERE.items():
        answer = client.get(path)

        assert answer.status_code == 404, path
        assert detail in answer.text, path
        assert "<title>Not Found" in answer.text, path


def test_whoever_went_astray_still_finds_the_way(client: TestClient) -> None:
    answer = client.get("/no-such-page")

    assert answer.status_code == 404
    assert words(answer.text).count("Schedules Tasks Day File Workers") == 1
    assert "Log in" not in answer.text


OUT_OF_BOUNDS = (
    "/schedules?page=1e9",
    "/schedules?page=-1",
    "/schedules?page=NaN",
    "/schedules?page=99999999999999999999",
    f"/schedules?q={'x' * 101}",
    "/schedules/nightly?before=0",
    "/schedules/nightly?before=1e9",
    "/tasks?after=x",
    "/tasks?since=soon",
    f"/tasks?{'&'.join(['state=failed'] * 11)}",
    "/tasks/0",
    "/tasks/1e9",
    "/tasks/99999999999999999999",
    "/tasks/1/files/-1",
    "/file?revision=0",
    "/file?against=1e9",
    "/audit?before=-1",
    f"/audit?who={'x' * 201}",
)


def test_values_out_of_bounds_are_refused(client: TestClient) -> None:
    assert {path: client.get(path).status_code for path in OUT_OF_BOUNDS} == dict.fromkeys(OUT_OF_BOUNDS, 422)


def test_words_that_mean_nothing_filter_nothing(client: TestClient, database: Database) -> None:
    some_history(database, each=2)

    for path in ("/schedules?state=odd", "/tasks?kind=odd&state=odd", "/schedules?page=1000000"):
        answer = client.get(path)

        assert answer.status_code == 200, path
        assert "nightly" in answer.text, path


def test_the_search_finds_and_says_how_many(client: TestClient, database: Database) -> None:
    some_history(database, schedules=3, each=1)

    found = words(client.get("/schedules?q=s00").text)

    assert "2 schedules found" in found
    assert "nightly" not in found
    assert "No schedule is like that." in words(client.get("/schedules?q=nothing-like-it").text)


def test_a_span_that_is_no_moment_is_told_beside_the_form_with_nothing_lost(client: TestClient) -> None:
    answer = client.get("/tasks?kind=long&since=soon")

    assert answer.status_code == 422
    assert "&#34;soon&#34; is no moment; give one such as 2026-12-01 06:30" in answer.text
    assert 'name="since" value="soon"' in answer.text
    assert "<option selected>long</option>" in answer.text


def test_why_is_explained_on_the_schedules_page(client: TestClient, database: Database) -> None:
    some_history(database)

    answer = words(client.get("/schedules/nightly?at=2026-11-24+06:03").text)
    wrong = client.get("/schedules/nightly?at=soon")

    assert "it ran and failed" in answer
    assert wrong.status_code == 200
    assert "&#34;soon&#34; is no moment" in wrong.text


def test_a_task_tells_its_way_its_attempts_and_its_masked_arguments(client: TestClient, database: Database) -> None:
    with database.write() as session:
        task = a_task(
            session,
            state=FAILED,
            fire_time=at("06:30"),
            queued_at=at("06:30"),
            args={"to": "ops@example.org", "password": "hunter22-secret"},
            reason="ValueError: no such shop",
            attempt=2,
        )
        for number in (1, 2):
            an_attempt(
                session,
                task,
                number=number,
                started_at=at("06:31"),
                outcome="failed",
                error_type="ValueError",
                error_message="no such shop",
                traceback="Traceback …\nValueError: no such shop",
                causes=[{"type": "KeyError", "message": "'shop17'"}],
            )
            tasks.write_log(session, task.id, number, [f"attempt {number} begins"])

    text = client.get(f"/tasks/{task.id}").text

    for told in (
        "planned",
        "fire time",
        "claimed (attempt 1)",
        "failed (attempt 1)",
        "Traceback …",
        "attempt 2 begins",
    ):
        assert told in text
    assert "because of KeyError: &#39;shop17&#39;" in text
    assert "hunter22" not in text
    assert "&#34;password&#34;: &#34;***&#34;" in text


RESULTS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("text", {"value": "<b>all is well</b>"}, "&lt;b&gt;all is well&lt;/b&gt;"),
    ("html", {"value": "<script>alert(1)</script>"}, "&lt;script&gt;alert(1)&lt;/script&gt;"),
    ("link", {"value": "https://e.org/a?b=c", "title": "here"}, 'href="https://e.org/a?b=c"'),
    ("link", {"value": "javascript:alert(1)"}, "&#34;javascript:alert(1)&#34;</pre>"),
    ("json", {"words": 3}, "{&#34;words&#34;: 3}"),
)


def test_a_result_is_shown_by_its_kind(client: TestClient, database: Database) -> None:
    for kind, result, shown in RESULTS:
        with database.write() as session:
            task_id = a_task(session, state=SUCCEEDED, result=result, result_kind=kind).id

        assert shown in client.get(f"/tasks/{task_id}").text, kind
        assert client.get(f"/tasks/{task_id}/result").headers["content-type"] == "text/plain; charset=utf-8", kind


def test_a_page_that_a_task_made_goes_out_with_no_rights(client: TestClient, database: Database) -> None:
    html = "<p>grün</p><script>alert(1)</script>"
    with database.write() as session:
        task_id = a_task(session, state=SUCCEEDED, result={"value": html}, result_kind="html").id
        plain = a_task(session, state=SUCCEEDED, result={"value": html}, result_kind="text").id

    answer = client.get(f"/tasks/{task_id}/page")

    assert (answer.text, answer.headers["content-type"]) == (html, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"] == (
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'self'"
    )
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert answer.headers["x-content-type-options"] == "nosniff"
    around = client.get(f"/tasks/{task_id}")
    assert around.headers["content-security-policy"] == POLICY
    assert f'sandbox src="/tasks/{task_id}/page"' in around.text
    refused = client.get(f"/tasks/{plain}/page")
    assert refused.status_code == 404
    assert f"The result of task {plain} is no page" in refused.text
    assert refused.headers["content-security-policy"] == POLICY


def test_pictures_are_shown_and_files_are_saved(client: TestClient, database: Database, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    files = [
        File(tmp_path / "a.png", name='a "b"\n.png'),
        File(tmp_path / "a.svg"),
        File(tmp_path / "a.png", name="ä.htm"),
    ]
    with database.write() as session:
        task_id = a_task(session, state=SUCCEEDED, result_kind="file", result={"files": []}).id
        record(session, task_id, 1, keep_files(files, Settings(data=tmp_path), task_id, 1))
        ids = [row.id for row in session.query(Artifact).order_by(Artifact.id)]

    page = client.get(f"/tasks/{task_id}").text
    picture, drawing, other = (client.get(f"/tasks/{task_id}/files/{one}") for one in ids)

    assert page.count("<img ") == 1
    assert (picture.headers["content-type"], picture.content) == ("image/png", b"\x89PNG")
    assert picture.headers["content-disposition"].startswith('inline; filename="a _b_.png"; ')
    for answer in (drawing, other):
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment; ")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert other.headers["content-disposition"].endswith("filename*=UTF-8''%C3%A4.htm")


def test_a_log_is_given_whole_as_plain_text(client: TestClient, database: Database) -> None:
    with database.write() as session:
        task_id = a_task(session, state=RUNNING).id
        for number in range(3):
            tasks.write_log(session, task_id, 1, [f"<b>line {number}</b>", "event: boom"])

    answer = client.get(f"/tasks/{task_id}/log")

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "".join(f"<b>line {number}</b>\nevent: boom\n" for number in range(3))


def test_the_file_shows_faults_and_what_a_revision_changed(
    client: TestClient, database: Database, tmp_path: Path
) -> None:
    apply(database, None, *a_book("schedules:\n  nightly: {task: count_words, when: {every: 1h}}\n"))
    apply(database, None, *a_book("schedules:\n  nightly: {task: count_words, when: {every: 2h}}\n"))
    (tmp_path / "schedules.yaml").write_text("version: 1\ntimezone: UTC\nschedules:\n  nightly: {tsak: count_words}\n")

    text = words(client.get("/file").text)

    assert "has an unknown key &#34;tsak&#34;; did you mean &#34;task&#34;?" in text
    assert "- nightly: {task: count_words, when: {every: 1h}}" in text
    assert "+ nightly: {task: count_words, when: {every: 2h}}" in text


def test_tasks_are_paged_by_links_that_keep_the_filter(client: TestClient, database: Database) -> None:
    some_history(database, each=60)

    first = client.get("/tasks?kind=scheduled&schedule=nightly")
    [link] = re.findall(r'href="([^"]+)" rel="next"', first.text)
    second = client.get(f"/tasks{link.replace('&amp;', '&')}")

    assert len(set(re.findall(r'class="task-link" href="/tasks/(\d+)"', first.text))) == 50
    assert len(set(re.findall(r'class="task-link" href="/tasks/(\d+)"', second.text))) == 10
    assert "<option selected>scheduled</option>" in second.text
    assert 'rel="next"' not in second.text


REFLECTING = (
    "/schedules?q=",
    "/tasks?since=",
    "/tasks?schedule=",
    "/audit?who=",
    "/audit?subject=",
    "/run/",
    "/schedules/",
)


def test_what_is_asked_comes_back_as_text(client: TestClient) -> None:
    for path in REFLECTING:
        for payload in PAYLOADS:
            answer = client.get(path + quote(payload, safe=""))

            assert answer.headers["content-type"] == "text/html; charset=utf-8", path
            assert payload not in answer.text or not set(payload) & set("<>\"'&"), path + payload


# --- what they cost -------------------------------------------------------------------------------------------------


MOST_STATEMENTS = {
    "/schedules": 12,
    "/schedules/nightly": 28,
    "/tasks": 12,
    "/tasks/1": 14,
    "/file": 14,
    "/audit": 8,
}


def test_a_page_is_a_bounded_number_of_statements_and_bytes(client: TestClient, database: Database) -> None:
    some_history(database, schedules=41, each=60)

    for path, most in MOST_STATEMENTS.items():
        client.get(path)  # what is looked up once for a process
        with counted(database) as statements:
            answer = client.get(path)

        assert answer.status_code == 200, path
        assert len(statements) <= most, path
        assert len(answer.content) < 100_000, path


# --- who may --------------------------------------------------------------------------------------------------------


def test_a_running_task_keeps_its_page_up_to_date_and_one_that_has_ended_does_not(
    client: TestClient, database: Database
) -> None:
    with database.write() as session:
        going, over = a_task(session, state=QUEUED).id, a_task(session, state=SUCCEEDED).id

    assert f'data-live="/events/tasks/{going}"' in client.get(f"/tasks/{going}").text
    assert "data-live" not in client.get(f"/tasks/{over}").text
