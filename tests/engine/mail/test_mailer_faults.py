"""The way to a real mail server breaks in each way that tests/proxy.py knows: no mail is lost, none gets another's
Message-ID, none is a second row, and nobody waits for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select, update

from scheduler.engine.mail.mailer import Mailer
from scheduler.notify.mail import message_id_of
from scheduler.rules.mail.messages import Letter, Message, messages_to
from scheduler.rules.spec import Contact
from scheduler.settings import Settings
from scheduler.store import outbox
from scheduler.store.database import Database
from scheduler.store.mail_tables import SENT, WAITING, OutboxMessage
from tests.mail_server import MailServer, running_mail_server
from tests.notify.test_webhook import Hook
from tests.proxy import END_OF_MAIL, PASS, REFUSE, RESET, SWALLOW, Mode, Proxy, cut_after, delay, drop_reply
from tests.waiting import wait_for

SENDER = "jobs@example.org"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with running_mail_server() as server:
        yield server


@pytest.fixture
def proxy(server: MailServer) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


def a_mailer(database: Database, proxy: Proxy) -> Mailer:
    return Mailer(database, Settings(smtp_url=f"smtp://127.0.0.1:{proxy.port}", mail_from=SENDER))


def queue(database: Database, key: str = "alert:1:opened") -> Message:
    contact = Contact(name="ops", email=("ops@example.org",))
    [message] = messages_to(contact, Letter("FAILED nightly", "boom\n"), key=key, about="alert")
    with database.write() as session:
        outbox.queue(session, [message])
    return message


def rows(database: Database) -> list[OutboxMessage]:
    with database.read() as session:
        return list(session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)))


def make_due(database: Database) -> None:
    with database.write() as session:
        session.execute(update(OutboxMessage).values(next_try_at=OutboxMessage.created_at))


def message_ids(server: MailServer) -> list[str]:
    return [mail.message["Message-ID"] for mail in list(server.mails)]


@pytest.mark.parametrize(
    ("mode", "taken_at_first"),
    [
        pytest.param(REFUSE, 0, id="refused"),
        pytest.param(RESET, 0, id="reset"),
        pytest.param(cut_after(0), 0, id="cut before the greeting"),
        pytest.param(drop_reply(b"data\r\n"), 0, id="cut before the text"),
        pytest.param(drop_reply(END_OF_MAIL), 1, id="cut after the text"),
    ],
)
def test_a_mail_whose_way_breaks_goes_again_as_the_same_mail(
    database: Database, server: MailServer, proxy: Proxy, mode: Mode, taken_at_first: int
) -> None:
    message = queue(database)
    mailer = a_mailer(database, proxy)
    proxy.set(mode)
    mailer.step()
    proxy.set(PASS)
    [row] = rows(database)
    assert (row.state, row.tries, len(server.mails)) == (WAITING, 1, taken_at_first)
    assert len(proxy.faults(mode.name)) == 1

    make_due(database)
    mailer.step()

    [row] = rows(database)
    assert (row.state, row.tries, row.last_error) == (SENT, 2, None)
    assert message_ids(server) == [message_id_of(message.message_id, SENDER)] * (taken_at_first + 1)


def test_a_cut_after_any_number_of_bytes_loses_no_mail(database: Database, server: MailServer, proxy: Proxy) -> None:
    mailer = a_mailer(database, proxy)
    expected = []
    for count in range(0, 240, 4):  # all that the server says is some 190 bytes; «250» has three
        message = queue(database, key=f"alert:{count}:opened")
        expected.append(message_id_of(message.message_id, SENDER))
        proxy.set(cut_after(count))
        mailer.step()
        proxy.set(PASS)
        make_due(database)
        mailer.step()

    assert {row.state for row in rows(database)} == {SENT}
    assert list(dict.fromkeys(message_ids(server))) == expected
    assert {row.tries for row in rows(database)} == {1, 2}  # cuts at each stage, and one that came too late
    assert len(message_ids(server)) > len(expected)  # some were cut after the server had taken them


def test_a_server_that_swallows_everything_delays_nobody(database: Database, server: MailServer, proxy: Proxy) -> None:
    message = queue(database)
    with Proxy("127.0.0.1", server.port, mode=SWALLOW) as hole:
        step = threading.Thread(target=a_mailer(database, hole).step)
        step.start()
        wait_for(lambda: hole.faults("swallow"), seconds=30, what="the greeting to be swallowed")

        later = queue(database, key="alert:2:opened")  # the database is free meanwhile, and another mailer works
        assert a_mailer(database, proxy).step() == 1
        assert step.is_alive()
        assert message_ids(server) == [message_id_of(later.message_id, SENDER)]
    step.join(30)

    [first, second] = rows(database)
    assert (first.state, first.tries, second.state) == (WAITING, 1, SENT)
    make_due(database)
    a_mailer(database, proxy).step()
    assert message_ids(server)[1:] == [message_id_of(message.message_id, SENDER)]


def test_a_slow_server_is_waited_for(database: Database, server: MailServer, proxy: Proxy) -> None:
    queue(database)
    proxy.set(delay(0.05))

    a_mailer(database, proxy).step()

    assert [row.state for row in rows(database)] == [SENT]
    assert len(server.mails) == 1
    assert len(proxy.faults("delay")) > 5


def test_a_webhook_whose_answer_is_lost_is_told_again_as_the_same_delivery(database: Database) -> None:
    hook = Hook()
    try:
        with Proxy("127.0.0.1", hook.server.server_port, mode=drop_reply(b"POST ")) as proxy:
            contact = Contact(name="pager", webhook={"url": f"http://localhost:{proxy.port}/jobs"})
            [message] = messages_to(contact, Letter("FAILED nightly", "boom\n"), key="alert:1:opened", about="alert")
            with database.write() as session:
                outbox.queue(session, [message])
            mailer = a_mailer(database, proxy)
            mailer.step()
            [put_off] = rows(database)
            make_due(database)
            mailer.step()
    finally:
        hook.close()

    [row] = rows(database)
    assert (put_off.state, put_off.tries, row.state, row.tries) == (WAITING, 1, SENT, 2)
    assert [headers["X-Scheduler-Delivery"] for _, headers, _ in hook.got] == [message.message_id] * 2
    assert {json.loads(body)["message_id"] for _, _, body in hook.got} == {message.message_id}
