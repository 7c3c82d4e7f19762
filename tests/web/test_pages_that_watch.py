"""Now, Day and Workers, and what stands round every page, as they go out."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import iso, utc_now
from scheduler.store.database import Database
from scheduler.store.mail_tables import Alert
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task
from tests.engine.page.test_now import all_parts, tick
from tests.web.people import add_users, bearer
from tests.web.serving import a_client

LARGEST = 100_000  # bytes of a page
NASTY = "\"><img src=x onerror=alert('x')><script>alert('y')</script>"


@pytest.fixture
def client(database: Database, room: WaitingRoom, tmp_path: Path) -> Iterator[TestClient]:
    with a_client(database, room, tmp_path) as opened:
        yield opened


def words_of(html: str) -> str:
    """What a reader sees of a page, with single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html)).strip()


def a_busy_service(session: Session) -> None:
    now = utc_now()
    all_parts(session)
    revision = a_revision(session, book={"timezone": "Europe/Berlin"})
    failing = a_schedule(
        session, a_spec(name="invoices", owner="billing"), revision_id=revision.id, failures_in_a_row=3
    )
    error = {"type": "ConnectionError", "message": "billing does not answer"}
    a_task(session, schedule=failing, fire_time=now - HOUR, state="failed", attempt=1, error=error)
    nightly = a_schedule(session, a_spec(name="nightly", every=HOUR), revision_id=revision.id)
    a_task(session, schedule=nightly, fire_time=now - 3 * HOUR, state="missed", reason="late: due 02:00, now 02:11")
    a_task(session, schedule=nightly, fire_time=now - 3 * MINUTE, state="queued")
    progress = {"done": 412, "total": 1000, "message": "product pictures"}
    a_task(session, schedule=nightly, fire_time=now - MINUTE, state="running", progress=progress)
    a_task(session, schedule=nightly, fire_time=now + 5 * MINUTE)


# --- now ------------------------------------------------------------------------------------------------------------


def test_now_tells_what_is_wrong_first_then_what_goes_on_and_what_comes(database: Database, client: TestClient) -> None:
    with database.write() as session:
        a_busy_service(session)

    answer = client.get("/")
    words = words_of(answer.text)

    assert answer.status_code == 200
    order = [
        "Not all is well: 2 schedules, 1 failing, 1 late; ticked",
        "Failing 1",
        "invoices 3 times in a row",
        "ConnectionError: billing does not answer",
        "Late 1",
        "Missed in 24 h 1",
        "late: due 02:00, now 02:11",
        "Running 1",
        "41 % product pictures",
        "The next hour",
        "every hour",
        "Queues",
        "Times are local to Europe/Berlin",
    ]
    places = [words.find(text) for text in order]
    assert -1 not in places, dict(zip(order, places, strict=True))
    assert places == sorted(places)


def test_now_tells_what_only_an_alert_knows_and_who_was_told(database: Database, client: TestClient) -> None:
    moment = dt.datetime(2026, 11, 24, 7, tzinfo=dt.UTC)
    plain: dict[str, Any] = {"opened_at": moment, "last_at": moment, "told_at": moment}
    late = {"schedule": "close-month", "why": "not done by 08:00: running", "told": ["ops", "finance"]}
    nobody = {"name": "keeper on a", "why": "has not ticked", "told": []}
    with database.write() as session:
        all_parts(session)
        session.add(Alert(subject="schedule:1:late", event="late", details=late, **plain))
        session.add(Alert(subject="keeper:silent_part", event="silent_part", details=nobody, **plain))

    words = words_of(client.get("/").text)

    assert "Not all is well: 0 schedules, 1 not done in time;" in words
    assert "Open alerts 2" in words
    assert re.search(r"! late close-month since .{4,40} not done by 08:00: running told ops, finance", words)
    assert re.search(r"! silent part keeper on a since .{4,40} has not ticked told to nobody", words)


def test_now_is_green_only_when_all_is_well(database: Database, client: TestClient) -> None:
    dead = client.get("/").text
    with database.write() as session:
        all_parts(session)
    well = client.get("/").text
    with database.write() as session:
        all_parts(session, keeper=MINUTE)
    half_dead = client.get("/").text

    assert "is-bad" in dead
    assert "No part of the service has ticked: nothing starts" in dead
    assert "is-good" in well
    assert "banner-bad" not in well.replace('id="cut-off"', "").replace('banner banner-bad"  role', "")
    assert "is-bad" in half_dead
    assert "The keeper has not ticked for 1 m" in half_dead


def test_an_empty_service_says_so_everywhere(client: TestClient) -> None:
    now, day, workers = (words_of(client.get(path).text) for path in ("/", "/day", "/workers"))

    assert "Nothing is running." in now
    assert "Nothing is planned within an hour." in now
    assert "No queue has a worker, and nothing waits." in now
    assert "There is no schedule yet. scheduler apply puts a file in force." in day
    assert "No worker has ticked within a day." in workers


@pytest.mark.parametrize("path", ["/", "/day", "/workers"])
def test_what_names_and_errors_hold_is_text_and_nothing_else(database: Database, client: TestClient, path: str) -> None:
    now = utc_now()
    with database.write() as session:
        all_parts(session)
        schedule = a_schedule(session, a_spec(name=NASTY[:64], owner=NASTY, about=NASTY), failures_in_a_row=1)
        error = {"type": NASTY, "message": NASTY}
        for minutes, state in enumerate(("failed", "missed", "queued", "running", "planned"), 2):
            fire_time = now + MINUTE if state == "planned" else now - minutes * MINUTE
            fields = {"progress": {"done": 1, "message": NASTY}} if state == "running" else {}
            a_task(session, schedule=schedule, fire_time=fire_time, state=state, error=error, reason=NASTY, **fields)
        schedule.pause = {"by": NASTY, "why": NASTY, "since": now.isoformat(), "until": None}

    text = client.get(path).text

    for tag in re.findall(r"<(?:script|img)[^>]*>", text):
        assert tag.startswith('<script src="/static/'), tag
    assert not re.search(r"<[a-z][^>]*\son[a-z]+=", re.sub(r'"[^"]*"', '""', text))


def test_only_operators_are_shown_what_the_refused_file_says(
    database: Database, client: TestClient, cheap_passwords: None
) -> None:
    trouble = {"message": 'schedules.yaml:4:18: "s3cret" is not a time', "since": iso(utc_now()), "faults": []}
    with database.write() as session:
        all_parts(session)
        tick(session, "keeper", planner=1.0, reconcile=1.0, file="schedules.yaml", trouble=trouble, text_hash=None)
    tokens = add_users(database)

    seen = {role: client.get("/", headers=bearer(token)).text for role, token in tokens.items()}

    assert {role: "s3cret" in text for role, text in seen.items()} == {"viewer": False, "operator": True, "admin": True}
    assert "The schedule file is not in force: it was refused" in seen["viewer"]


@pytest.mark.parametrize("path", ["/", "/day", "/workers", "/events/now", "/events/workers"])
def test_nobody_is_told_anything_without_a_name(
    database: Database, client: TestClient, cheap_passwords: None, path: str
) -> None:
    add_users(database)

    answer = client.get(path)

    assert answer.status_code == 303
    assert answer.headers["location"] == f"/log-in?next={path}"


# --- day and workers ------------------------------------------------------------------------------------------------


def test_a_day_can_be_linked_to_and_leads_to_its_neighbours(database: Database, client: TestClient) -> None:
    with database.write() as session:
        revision = a_revision(session, book={"timezone": "Europe/Berlin"})
        a_schedule(session, a_spec(name="nightly"), revision_id=revision.id)

    text = client.get("/day?date=2026-03-29&q=night").text

    assert "Sunday 29 March 2026" in words_of(text)
    assert "The clocks go forward, 02:00 becomes 03:00: this day has 23.0 hours." in words_of(text)
    assert 'href="/day?date=2026-03-28&amp;q=night"' in text
    assert 'href="/day?date=2026-03-30&amp;q=night"' in text


@pytest.mark.parametrize(
    "query", ["date=2026-02-30", "date=x", "date=0001-01-01", "date=9999-12-31", "page=0", "page=NaN"]
)
def test_a_day_that_does_not_exist_is_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/day?{query}").status_code == 422


def test_workers_shows_parts_queues_and_kinds(database: Database, client: TestClient) -> None:
    with database.write() as session:
        all_parts(session, dispatcher=2 * MINUTE)
        a_task(session, state="queued", queue="scheduled")

    words = words_of(client.get("/workers").text)

    assert "The dispatcher has not ticked for 2 m: nothing that falls due goes to its queue" in words
    assert "silent for 2 m" in words
    assert "0 of 1 busy" in words


# --- every page -----------------------------------------------------------------------------------------------------


class Names(HTMLParser):
    """What is asked of each form field and picture: that it has a name."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.labels: set[str] = set()
        self.nameless: list[str] = []
        self.headings: list[str] = []
        self._in_label = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag == "label":
            self._in_label += 1
            self.labels.add(named.get("for") or "")
        elif tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        elif tag in ("input", "select", "textarea") and named.get("type") not in ("hidden", "submit"):
            if not (self._in_label or named.get("aria-label") or named.get("id") in self.labels):
                self.nameless.append(str(named))
        elif tag == "svg" and not (named.get("aria-label") or named.get("aria-hidden")):
            self.nameless.append(str(named))

    def handle_endtag(self, tag: str) -> None:
        if tag == "label":
            self._in_label -= 1


@pytest.mark.parametrize("path", ["/", "/day", "/workers", "/nothing-here"])
def test_every_page_names_its_fields_pictures_and_itself(database: Database, client: TestClient, path: str) -> None:
    with database.write() as session:
        a_busy_service(session)

    answer = client.get(path)
    names = Names(answer.text)

    assert names.nameless == []
    assert names.headings.count("h1") == 1
    assert names.headings[0] == "h1"
    assert re.search(r"<title>[^<]*· jobs</title>", answer.text)
    assert len(answer.content) < LARGEST


def test_a_page_says_where_one_is_and_who(client: TestClient) -> None:
    text = client.get("/workers").text

    assert '<a href="/workers" aria-current="page">Workers</a>' in text
    assert text.count("aria-current") == 1
    assert "everyone on this machine is admin here" in text


def test_files_of_a_page_are_kept_for_as_long_as_their_address_holds(client: TestClient) -> None:
    text = client.get("/").text
    addresses = re.findall(r'(?:href|src)="(/static/[^"]+)"', text)

    answers = [client.get(address) for address in addresses]

    assert len(addresses) == 5
    assert {answer.headers["cache-control"] for answer in answers} == {"public, max-age=31536000, immutable"}
    assert client.get("/static/style.css").headers["cache-control"] == "no-cache"
    assert sum(len(answer.content) for answer in answers) < LARGEST


def test_the_log_in_page_works_without_scripts_and_keeps_what_was_typed(client: TestClient) -> None:
    from scheduler.web.templating import ENVIRONMENT

    shared = {"caller": None, "service": "jobs", "root": "", "path": "/log-in", "zone": "UTC", "now": utc_now()}
    text = ENVIRONMENT.get_template("log_in.html.jinja").render(
        {**shared, "next": "/tasks?state=failed", "error": "Name or password are wrong.", "name": NASTY}
    )

    assert Names(text).nameless == []
    assert '<form class="log-in card" method="post" action="/log-in">' in text
    assert '<input type="hidden" name="next" value="/tasks?state=failed">' in text
    assert "Name or password are wrong." in text
    assert "<img" not in text
