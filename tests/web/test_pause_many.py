"""Many schedules held and let go by a form: it says which, loses nothing that was typed, and leaves others alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.actions import Actions
from scheduler.store.database import Database
from scheduler.store.schedules import all_schedules, pause_of
from scheduler.web.pages import pause as pause_page
from tests.builders import a_schedule, a_spec
from tests.web.people import add_users, log_in
from tests.web.serving import a_client


@pytest.fixture
def client(database: Database, room: WaitingRoom, tmp_path: Path) -> Iterator[TestClient]:
    with database.write() as session:
        for name, tags in (("load", ("etl",)), ("merge", ("etl", "a&b")), ("mail", ())):
            a_schedule(session, a_spec(name=name, tags=tags))
    with a_client(database, room, tmp_path) as opened:
        yield opened


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def held(database: Database) -> dict[str, str]:
    with database.read() as session:
        return {one.name: pause.why for one in all_schedules(session) if (pause := pause_of(one))}


def test_all_are_held_and_let_go_but_for_what_was_paused_before(
    client: TestClient, database: Database, room: WaitingRoom
) -> None:
    Actions(database, room, by="jana").pause("mail", "partner is down")

    sent = client.post("/pause", data={"tag": "", "why": "new <b>disks</b>", "until": "2199-12-01 06:30"})
    page = words(client.get("/pause").text)

    assert (sent.status_code, sent.headers["location"]) == (303, "/pause")
    assert "2 schedules paused until Sun 2199-12-01 06:30 UTC: new &lt;b&gt;disks&lt;/b&gt;" in page
    assert "mail stays as it is: paused by jana: partner is down" in page
    assert "paused 2 schedules , paused as all, by local since" in page
    assert held(database) == {"load": "new <b>disks</b>", "mail": "partner is down", "merge": "new <b>disks</b>"}

    client.post("/resume", data={"tag": ""})

    assert "2 schedules resumed. What passed meanwhile stays skipped." in words(client.get("/pause").text)
    assert held(database) == {"mail": "partner is down"}


def test_a_tag_is_chosen_with_how_many_have_it(client: TestClient, database: Database) -> None:
    page = client.get("/pause").text

    choices = re.findall(r'<option value="([^"]*)"[^>]*>([^<]*)</option>', page[: page.index("</select>")])
    assert choices == [("", "all (3)"), ("a&amp;b", "tag a&amp;b (1)"), ("etl", "tag etl (2)")]
    client.post("/pause", data={"tag": "etl", "why": "the warehouse moves", "until": ""})
    assert held(database) == dict.fromkeys(["load", "merge"], "the warehouse moves")
    assert "2 schedules with the tag etl , by local since" in words(client.get("/pause").text)
    client.post("/resume", data={"tag": "etl"})
    assert held(database) == {}


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ({"tag": "etl", "why": " ", "until": "in 2h"}, "Say why: it is shown beside the schedule, and mailed."),
        ({"tag": "etl", "why": "disks", "until": "soon"}, "&#34;soon&#34; is no moment; give one such as"),
        (
            {"tag": "etl", "why": "disks", "until": "2h ago"},
            "&#34;2h ago&#34; is past; give a moment to come, or none.",
        ),
        (
            {"tag": "elt", "why": "disks", "until": ""},
            "No schedule has the tag &#34;elt&#34;; did you mean &#34;etl&#34;?",
        ),
    ],
)
def test_what_does_not_fit_comes_back_with_what_was_typed(
    client: TestClient, database: Database, form: dict[str, str], fault: str
) -> None:
    answer = client.post("/pause", data=form)

    assert answer.status_code == 422
    assert fault in answer.text
    assert all(f'value="{value.strip()}"' in answer.text for value in (form["why"], form["until"]) if value.strip())
    assert form["tag"] != "etl" or '<option value="etl" selected>' in answer.text
    assert held(database) == {}


def test_very_many_are_left_to_the_command_line(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pause_page, "MOST_AT_ONCE", 2)

    answer = client.post("/pause", data={"tag": "", "why": "disks"})

    assert answer.status_code == 422
    assert (
        "These are 3 schedules; more than 2 are held by the command line: scheduler pause --all --why …" in answer.text
    )
    assert held(database) == {}


def test_an_unknown_tag_lets_nothing_go(client: TestClient, database: Database) -> None:
    client.post("/pause", data={"tag": "etl", "why": "disks"})

    client.post("/resume", data={"tag": "etll"})

    assert "Nothing was done. ! No schedule has the tag" in words(client.get("/pause").text)
    assert set(held(database)) == {"load", "merge"}


def test_only_operators_hold(client: TestClient, database: Database) -> None:
    add_users(database)
    log_in(client, "viewer")

    assert client.get("/pause").status_code == 403
    assert client.post("/pause", data={"tag": "", "why": "disks"}).status_code == 403
    assert client.post("/resume", data={"tag": ""}).status_code == 403
    assert 'href="/pause"' not in client.get("/schedules").text
    assert held(database) == {}
