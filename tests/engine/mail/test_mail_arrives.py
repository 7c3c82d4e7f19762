"""What an alert and a digest say, as a real mail server takes it: whole, small, in one thread, harmless."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.routing import Match

from scheduler.engine.backends import Backends
from scheduler.engine.mail.digest import letter_of as digest_letter_of
from scheduler.engine.mail.mailer import Mailer
from scheduler.notify.alert_html import alert_html
from scheduler.notify.webhook import signature
from scheduler.rules.mail.alert_letters import letter_of as alert_letter_of
from scheduler.rules.mail.alerts import Telling
from scheduler.rules.mail.digest import digest_of
from scheduler.rules.mail.messages import Letter, messages_to
from scheduler.rules.spec import Contact
from scheduler.settings import Settings
from scheduler.store import outbox
from scheduler.store.database import Database
from scheduler.store.mail_tables import GIVEN_UP
from scheduler.web.app import create_app
from tests.engine.mail.test_mailer_faults import rows
from tests.mail_server import MailServer, running_mail_server
from tests.notify.test_webhook import Hook
from tests.rules.mail.alert_samples import CLOSE_MONTH, SAID
from tests.rules.mail.digest_samples import FRIDAY, MONDAY, SITUATIONS

OPS = Contact(name="ops", email=("ops@example.org",))
LARGEST = 100_000  # bytes; Gmail cuts what is longer


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with running_mail_server() as server:
        yield server


@pytest.fixture
def mailer(database: Database, server: MailServer) -> Mailer:
    server.mails.clear()
    return Mailer(database, a_settings(server))


def a_settings(server: MailServer) -> Settings:
    return Settings(smtp_url=server.url, mail_from="Jobs <jobs@example.org>", name="jobs prod")


def send(mailer: Mailer, letter: Letter, key: str, about: str) -> None:
    with mailer.database.write() as session:
        outbox.queue(session, messages_to(OPS, letter, key=key, about=about))
    mailer.step()


def parts_of(mail: EmailMessage) -> dict[str, str]:
    return {
        part.get_content_type(): part.get_content() for part in mail.walk() if part.get_content_maintype() == "text"
    }


def alert(name: str, what: str = "opened", replies_to: tuple[str, ...] = ()) -> Letter:
    said = SAID[name]
    telling = Telling(what, "ops", (CLOSE_MONTH,), "alert:9:opened", replies_to)
    return alert_letter_of(telling, said, service="jobs prod", html=alert_html(said))


def test_an_alert_arrives_with_text_and_html_and_its_recovery_in_the_same_thread(
    mailer: Mailer, server: MailServer
) -> None:
    send(mailer, alert("failed"), "alert:9:opened", "alert")
    send(mailer, alert("still failed", "again", ("alert:9:opened",)), "alert:9:again-1", "alert")
    send(mailer, alert("recovered", "closed", ("alert:9:opened",)), "alert:9:closed", "alert")

    first, again, closed = (mail.message for mail in server.mails)
    assert first["Subject"].startswith("[jobs prod] FAILED close-month: ConnectionError: bank.example.org refused")
    assert closed["Subject"] == "[jobs prod] recovered close-month after 2 h 6 m"
    assert set(parts_of(first)) == {"text/plain", "text/html"}
    assert "scheduler retry 4711" in parts_of(first)["text/plain"]
    assert first.get_all("Auto-Submitted") == ["auto-generated"]
    assert (first["In-Reply-To"], first["References"]) == (None, None)
    for mail in (again, closed):
        assert (mail["In-Reply-To"], mail["References"]) == (first["Message-ID"], first["Message-ID"])


def test_a_contact_with_three_ways_hears_on_each_of_them(
    mailer: Mailer, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGER_SECRET", "hush")
    hook = Hook()
    ways = {"webhook": {"url": hook.url(), "secret_env": "PAGER_SECRET"}, "slack": {"url": hook.url()}}
    contact = Contact(name="ops", email=("ops@example.org",), **ways)
    try:
        with mailer.database.write() as session:
            outbox.queue(session, messages_to(contact, alert("failed"), key="alert:9:opened", about="alert"))
        mailer.step()
    finally:
        hook.close()

    assert len(server.mails) == 1
    (_, signed, payload), (_, _, chat) = hook.got
    told = json.loads(payload)
    assert (told["version"], told["what"], told["event"], told["schedule"]) == (1, "opened", "failed", "close-month")
    assert told["summary"] in told["text"]
    assert signed["X-Scheduler-Signature"] == signature("hush", signed["X-Scheduler-Timestamp"], payload)
    assert signed["X-Scheduler-Delivery"] == told["message_id"]
    assert json.loads(chat)["text"].startswith(":red_circle: [jobs prod] FAILED close-month: ConnectionError: bank")


def test_every_sort_of_alert_is_a_mail_that_a_server_takes(
    mailer: Mailer, server: MailServer, database: Database
) -> None:
    for name in SAID:
        send(mailer, alert(name), f"alert:{name}:opened", "alert")

    assert [row.last_error for row in rows(database) if row.state == GIVEN_UP] == []
    # Folding a subject may leave two spaces for one.
    assert [" ".join(mail.message["Subject"].split()) for mail in server.mails] == [
        one.subject for one in SAID.values()
    ]
    assert max(len(mail.content) for mail in server.mails) < LARGEST / 4


def test_every_digest_is_a_mail_of_less_than_100_kb_that_shows_its_pictures(mailer: Mailer, server: MailServer) -> None:
    letters = [
        digest_letter_of(digest_of(facts), "ops-morning", a_settings(server), FRIDAY, MONDAY)
        for facts in SITUATIONS.values()
    ]

    for number, letter in enumerate(letters):
        send(mailer, letter, f"digest:{number}", "digest")

    for mail, letter in zip(server.mails, letters, strict=True):
        message = mail.message
        assert message["Subject"] == letter.subject
        assert message["List-Unsubscribe"] == "<mailto:jobs@example.org?subject=unsubscribe%20ops-morning>"
        assert len(mail.content) < LARGEST
        shown = re.findall(r'src="cid:([^"]+)"', parts_of(message)["text/html"])
        attached = [part["Content-ID"].strip("<>") for part in message.walk() if part.get_content_type() == "image/png"]
        assert shown == attached == list(letter.pictures)


def test_the_links_of_all_letters_lead_to_pages_that_exist(tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'none.db'}", redis_url="redis://127.0.0.1:1")
    backends = Backends(settings)
    try:
        routes = create_app(settings, backends).routes
    finally:
        backends.close()
    links = {said.link for said in SAID.values() if said.link}
    sections = [section for facts in SITUATIONS.values() for section in digest_of(facts).sections]
    links |= {row.link for section in sections for row in section.rows if row.link}

    def leads_somewhere(link: str) -> bool:
        scope = {"type": "http", "method": "GET", "path": urlsplit(link).path, "headers": []}
        return any(route.matches(scope)[0] is Match.FULL for route in routes)

    assert len(links) >= 10
    assert [link for link in sorted(links) if not leads_somewhere(link)] == []
    assert not leads_somewhere("https://jobs.example.org/nowhere")
