"""What waits in the outbox is sent, once where that can be known, by real servers that take, refuse, wait and die."""

from __future__ import annotations

import contextlib
import datetime as dt
import email
import email.policy
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from sqlalchemy import select, update

from scheduler.engine.loops import Stop
from scheduler.engine.mail.mailer import HOOKS, MAIL, Mailer, MailThreads
from scheduler.rules.mail.messages import Letter, Message, messages_to
from scheduler.rules.spec import Contact
from scheduler.settings import Settings
from scheduler.store import outbox
from scheduler.store.database import Database
from scheduler.store.mail_tables import GIVEN_UP, SENT, WAITING, OutboxMessage
from tests.notify.smtp_server import ScriptedServer, running_smtp_server
from tests.waiting import wait_for

TEAM = ("ann@example.org", "bob@example.org", "cec@example.org")
LETTER = Letter(
    "2 failing", "Two schedules fail.\n", "<p>Two schedules fail.</p><img src='cid:strip'>", {"strip": b"PNG"}
)
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def start_server() -> Iterator[Callable[..., ScriptedServer]]:
    with contextlib.ExitStack() as stack:

        def start(**how: Any) -> ScriptedServer:
            return stack.enter_context(running_smtp_server(ScriptedServer(**how)))

        yield start


def a_mailer(database: Database, url: str | None, data: Path | None = None) -> Mailer:
    settings = Settings(database_url=database.url, smtp_url=url, mail_from="Jobs <jobs@example.org>")
    return Mailer(database, settings if data is None else replace(settings, data=data))


def to(server: ScriptedServer) -> str:
    return f"smtp://127.0.0.1:{server.port}"


def queue(database: Database, *to: str, key: str = "digest:ops", letter: Letter = LETTER) -> Message:
    [message] = messages_to(Contact(name="ops", email=to or TEAM[:1]), letter, key=key, about="digest")
    with database.write() as session:
        outbox.queue(session, [message])
    return message


def the_row(database: Database) -> OutboxMessage:
    with database.read() as session:
        return session.scalars(select(OutboxMessage)).one()


def change(database: Database, **values: Any) -> None:
    with database.write() as session:
        session.execute(update(OutboxMessage).values(**values))


def make_due(database: Database) -> None:
    change(database, next_try_at=the_row(database).created_at)


def recipients_at(server: ScriptedServer) -> list[str]:
    return [command for command in server.commands if command.startswith("rcpt")]


def read(mail: bytes) -> Any:
    return email.message_from_bytes(mail, policy=email.policy.default)


# --- taken ----------------------------------------------------------------------------------------------------------


def test_a_message_is_sent_once_with_its_pictures_and_its_message_id(
    database: Database, start_server: Callable[..., ScriptedServer]
) -> None:
    server = start_server()
    message = queue(database)

    assert [a_mailer(database, to(server)).step() for _ in range(2)] == [1, 0]

    [mail] = map(read, server.mails)
    assert (mail["Subject"], mail["From"], mail["To"]) == ("2 failing", "Jobs <jobs@example.org>", TEAM[0])
    assert mail["Message-ID"] == f"<{message.message_id}@example.org>"
    assert [part.get_content_type() for part in mail.walk() if not part.is_multipart()] == [
        "text/plain",
        "text/html",
        "image/png",
    ]
    row = the_row(database)
    assert (row.state, row.tries, row.refused, row.last_error) == (SENT, 1, None, None)
    assert row.sent_at is not None


def test_an_answer_stands_in_the_thread_of_what_it_answers_whatever_the_domain_is(
    database: Database, start_server: Callable[..., ScriptedServer]
) -> None:
    server = start_server()
    domain = "a-very-long-host-name.department.of-things.example.org"
    mailer = a_mailer(database, to(server))
    mailer.settings = replace(mailer.settings, mail_from=f"jobs@{domain}")
    first = queue(database, key="alert:1", letter=Letter("failed", "It failed."))
    queue(database, key="alert:2", letter=Letter("recovered", "It is well.", replies_to=("alert:0", "alert:1")))

    mailer.step()

    lines = server.mails[1].decode().replace("\r\n ", " ").splitlines()
    [references] = [line for line in lines if line.startswith("References:")]
    assert f"In-Reply-To: <{first.message_id}@{domain}>" in lines
    assert references.split()[2] == f"<{first.message_id}@{domain}>"
    assert len(references.split()) == 3


def test_no_line_end_of_a_letter_becomes_a_header(
    database: Database, start_server: Callable[..., ScriptedServer]
) -> None:
    server = start_server()
    evil = "ok\r\nBcc: eve@example.com\nX-Evil: yes"
    queue(database, letter=Letter(evil, "text", headers={"X-About": evil}))

    a_mailer(database, to(server)).step()

    [mail] = map(read, server.mails)
    assert (mail["Subject"], mail["Bcc"], mail["X-Evil"]) == ("ok Bcc: eve@example.com X-Evil: yes", None, None)
    assert recipients_at(server) == [f"rcpt TO:<{TEAM[0]}>"]


def test_two_mailers_at_once_send_each_message_once(
    database: Database, start_server: Callable[..., ScriptedServer]
) -> None:
    server = start_server()
    for number in range(12):
        queue(database, key=f"alert:{number}")
    mailers = [threading.Thread(target=a_mailer(database, to(server)).step) for _ in range(3)]

    for thread in mailers:
        thread.start()
    for thread in mailers:
        thread.join(20)

    assert len({read(mail)["Message-ID"] for mail in server.mails}) == len(server.mails) == 12


def test_without_a_server_mails_become_files(database: Database, tmp_path: Path) -> None:
    message = queue(database)

    a_mailer(database, None, tmp_path).step()

    [file] = (tmp_path / "outbox").glob("*.eml")
    assert read(file.read_bytes())["Message-ID"] == f"<{message.message_id}@example.org>"
    assert the_row(database).state == SENT


def test_a_server_with_tls_and_login_gets_the_mail(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    mails: list[Any] = []

    class Keep:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
            mails.append((session.ssl is not None, session.authenticated, envelope.rcpt_tos))
            return "250 taken"

    def knows(server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
        return AuthResult(success=given == LoginPassword(b"jobs", b"secret"))

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(
        Keep(),
        hostname="localhost",
        port=port,
        tls_context=tls,
        require_starttls=True,
        auth_required=True,
        authenticator=knows,
    )
    controller.start()
    try:
        queue(database)
        a_mailer(database, f"smtp://jobs:secret@localhost:{port}?starttls=required").step()
    finally:
        controller.stop()

    assert mails == [(True, True, [TEAM[0]])]
    assert the_row(database).state == SENT


# --- refused --------------------------------------------------------------------------------------------------------


def test_one_refused_of_three_is_noted_and_the_others_get_it_once(
    database: Database, start_server: Callable[..., ScriptedServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(answers={TEAM[1]: "550 no such user"})
    queue(database, *TEAM)

    assert [a_mailer(database, to(server)).step() for _ in range(2)] == [1, 0]

    row = the_row(database)
    assert (row.state, row.refused, len(server.mails)) == (SENT, {TEAM[1]: "550 no such user"}, 1)
    assert "Not taken for bob@example.org" in caplog.text


def test_one_put_off_of_three_is_tried_again_alone(
    database: Database, start_server: Callable[..., ScriptedServer]
) -> None:
    server = start_server(answers={TEAM[1]: "451 greylisted", TEAM[2]: "550 no such user"})
    queue(database, *TEAM)
    mailer = a_mailer(database, to(server))
    mailer.step()
    first = the_row(database)
    server.answers.clear()
    server.commands.clear()
    make_due(database)

    mailer.step()

    assert (first.state, first.refused) == (WAITING, {TEAM[2]: "550 no such user"})
    assert first.last_error == "some recipients were put off (bob@example.org: 451 greylisted)"
    assert recipients_at(server) == [f"rcpt TO:<{TEAM[1]}>"]
    row = the_row(database)
    assert (row.state, row.refused) == (SENT, {TEAM[2]: "550 no such user"})
    assert len({read(mail)["Message-ID"] for mail in server.mails}) == 1


@pytest.mark.parametrize(
    ("how", "state", "error"),
    [
        pytest.param({".": "554 spam"}, GIVEN_UP, "refuses the mail (554 spam); see the server's log", id="5xx"),
        pytest.param({"MAIL": "550 not you"}, GIVEN_UP, "does not let jobs@example.org send (550 not you)", id="from"),
        pytest.param({"MAIL": "530 log in"}, WAITING, "refuses the mail (530 log in); check user", id="log-in"),
        pytest.param({TEAM[0]: "550 who"}, GIVEN_UP, "none of the recipients (ann@example.org: 550 who)", id="to"),
        pytest.param({".": "451 busy"}, WAITING, "refuses the mail (451 busy); it may go later", id="4xx"),
        pytest.param({"": "554 not you"}, WAITING, "refuses the mail (554 not you)", id="greeting"),
    ],
)
def test_what_cannot_help_is_given_up_at_once_and_the_rest_waits(
    database: Database, start_server: Callable[..., ScriptedServer], how: dict[str, str], state: str, error: str
) -> None:
    server = start_server(answers=how)
    queue(database)

    a_mailer(database, to(server)).step()

    row = the_row(database)
    assert (row.state, row.sent_at, row.token) == (state, None, None)
    assert error in (row.last_error or "")


def test_the_pauses_double_and_end_after_a_day_loudly(
    database: Database, start_server: Callable[..., ScriptedServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(answers={".": "451 busy"})
    queue(database)
    mailer = a_mailer(database, to(server))
    pauses = []
    for _ in range(3):
        make_due(database)
        before = the_row(database)
        mailer.step()
        pauses.append(round((the_row(database).next_try_at - before.created_at).total_seconds() / 10))

    change(database, created_at=the_row(database).created_at - dt.timedelta(hours=25))
    make_due(database)
    mailer.step()

    assert pauses == [1, 2, 4]
    assert outbox.next_pause(9) == outbox.next_pause(5000) == dt.timedelta(minutes=30)
    assert the_row(database).state == GIVEN_UP
    assert [
        record.levelno for record in caplog.records if record.getMessage().startswith("Given up after 4 tries")
    ] == [logging.ERROR]


def test_a_connection_cut_after_the_text_is_tried_again_with_the_same_message_id(
    database: Database, start_server: Callable[..., ScriptedServer]
) -> None:
    server = start_server(answers={".": ""})  # an empty line is no answer: the mail may be taken or not
    message = queue(database)
    mailer = a_mailer(database, to(server))
    mailer.step()
    assert the_row(database).state == WAITING
    server.answers.clear()
    make_due(database)

    mailer.step()

    assert [read(mail)["Message-ID"] for mail in server.mails] == [f"<{message.message_id}@example.org>"]
    assert the_row(database).state == SENT


def test_a_server_that_nobody_vouches_for_gets_nothing_and_the_mail_waits(
    database: Database, start_server: Callable[..., ScriptedServer], caplog: pytest.LogCaptureFixture
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(tls)
    server = start_server(tls=tls)
    queue(database)

    a_mailer(database, f"smtp://localhost:{server.port}?starttls=required").step()

    assert (the_row(database).state, server.mails) == (WAITING, [])
    assert "cannot prove who it is" in caplog.text


def test_starttls_that_is_asked_for_and_not_offered_sends_nothing(
    database: Database, start_server: Callable[..., ScriptedServer]
) -> None:
    server = start_server()
    queue(database)

    a_mailer(database, f"smtp://localhost:{server.port}?starttls=required").step()

    row = the_row(database)
    assert (row.state, server.mails) == (WAITING, [])
    assert "lacks what is needed" in (row.last_error or "")


def test_a_message_that_cannot_be_built_holds_up_no_other(
    database: Database, start_server: Callable[..., ScriptedServer]
) -> None:
    server = start_server()
    queue(database)
    change(database, content={"no": "subject"})
    queue(database, key="another")

    assert a_mailer(database, to(server)).step() == 2

    with database.read() as session:
        rows = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)).all()
    assert [row.state for row in rows] == [WAITING, SENT]
    assert rows[0].last_error == "KeyError in the mailer: 'subject'"


def test_a_server_that_is_mute_delays_no_webhook_and_no_end(
    database: Database, start_server: Callable[..., ScriptedServer]
) -> None:
    server = start_server(silent=True)
    queue(database)
    settings = Settings(database_url=database.url, smtp_url=to(server))
    threads, stop = MailThreads(database, settings), Stop()

    threads.start(stop)
    wait_for(lambda: threads.timers[1].last_done is not None, seconds=5, what="webhooks to be looked for")

    assert threads.timers[0].last_done is None
    assert (threads.timers[0].name, threads.timers[1].name) == ("mail", "webhooks")
    stop.is_set = True
    server.closing.set()
    threads.join()


# --- death ----------------------------------------------------------------------------------------------------------

ONE_STEP = """
import sys
from scheduler.engine.mail.mailer import Mailer
from scheduler.settings import Settings
from scheduler.store.database import Database
Mailer(Database(sys.argv[1]), Settings(smtp_url=sys.argv[2], mail_from="jobs@example.org")).step()
"""


def test_a_mailer_that_dies_after_the_server_took_it_sends_the_same_message_id_again(
    database: Database, start_server: Callable[..., ScriptedServer]
) -> None:
    server = start_server()
    message = queue(database)
    died = subprocess.run(
        [sys.executable, "-c", ONE_STEP, database.url, to(server)],
        env={**os.environ, "SCHEDULER_POINT": "mailer.after_accept=kill"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    mailer = a_mailer(database, to(server))
    while_leased = mailer.step()
    change(database, lease_until=the_row(database).created_at - SECOND)

    mailer.step()

    assert (died.returncode, while_leased) == (-signal.SIGKILL, 0), died.stderr
    assert [read(mail)["Message-ID"] for mail in server.mails] == [f"<{message.message_id}@example.org>"] * 2
    assert the_row(database).state == SENT


def test_whoever_comes_back_after_its_lease_writes_nothing(database: Database) -> None:
    queue(database)
    with database.write() as session:
        slow = outbox.claim(session, MAIL)
    change(database, lease_until=the_row(database).created_at - SECOND)
    with database.write() as session:
        quick = outbox.claim(session, MAIL)
        assert outbox.claim(session, HOOKS) is None
    assert slow is not None
    assert quick is not None

    with database.write() as session:
        written = [outbox.give_up(session, slow, "late"), outbox.mark_sent(session, quick)]

    assert written == [False, True]
    assert the_row(database).state == SENT


# --- order ----------------------------------------------------------------------------------------------------------


def test_what_was_sent_a_month_ago_is_deleted_and_what_waits_stays(database: Database) -> None:
    queue(database, key="waits")
    change(database, created_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    queue(database, key="sent")
    with database.write() as session:
        session.execute(
            update(OutboxMessage)
            .where(OutboxMessage.key.startswith("sent"))
            .values(state=SENT, created_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        )
    queue(database, key="new")

    with database.write() as session:
        assert outbox.forget_old(session) == 1

    with database.read() as session:
        assert set(session.scalars(select(OutboxMessage.key))) == {"waits:ops:email", "new:ops:email"}


def test_the_outbox_is_counted(database: Database) -> None:
    for key in ("first", "second", "third"):
        queue(database, key=key)
    now = the_row_of(database, "third").created_at
    with database.write() as session:
        set_of(session, "first", created_at=now - dt.timedelta(minutes=22), last_error="busy")
        set_of(session, "third", state=GIVEN_UP)

    with database.read() as session:
        assert outbox.counts(session, now) == outbox.Counts(2, dt.timedelta(minutes=22), 1, "busy")


def the_row_of(database: Database, key: str) -> OutboxMessage:
    with database.read() as session:
        return session.scalars(select(OutboxMessage).where(OutboxMessage.key.startswith(key))).one()


def set_of(session: Any, key: str, **values: Any) -> None:
    session.execute(update(OutboxMessage).where(OutboxMessage.key.startswith(key)).values(**values))
