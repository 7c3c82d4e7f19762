"""Mail of the whole service, to a real mail server behind a proxy that breaks the way there."""

from __future__ import annotations

import datetime as dt
import time

from sqlalchemy import select, update

from scheduler.rules.states import SUCCEEDED
from scheduler.store.mail_tables import SENT, WAITING, OutboxMessage
from tests.journeys.service import HEAD, Service
from tests.mail_server import running_mail_server
from tests.proxy import END_OF_MAIL, Proxy, drop_reply
from tests.waiting import wait_for

WITH_DIGEST = """\
contacts: {ops: {email: ops@example.org}}
digests: {morning: {to: ops, when: {at: "06:30", days: mon-fri}}}
"""
LATEST = dt.timedelta(seconds=5)  # after its fire time, on a machine that runs other tests too


def test_a_mail_whose_answer_is_lost_comes_again_as_the_same_and_delays_no_task(private_service: Service) -> None:
    service = private_service
    with running_mail_server() as server, Proxy("127.0.0.1", server.port) as proxy:
        service.environment |= {
            "SCHEDULER_SMTP_URL": f"smtp://127.0.0.1:{proxy.port}",
            "SCHEDULER_MAIL_FROM": "Jobs <jobs@example.org>",
        }
        service.write("ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}}", head=WITH_DIGEST + HEAD)
        service.start()
        proxy.set(drop_reply(END_OF_MAIL))
        began = time.time()

        service.command("digest", "morning")
        wait_for(lambda: proxy.faults("drop_reply"), seconds=30, what=f"a mail to be taken in vain; {service.log}")
        wait_for(lambda: the_message(service).last_error, seconds=30, what="the mailer to notice")
        put_off = the_message(service)
        make_due(service)
        wait_for(lambda: the_message(service).state == SENT, seconds=30, what="the mail to be sent")
        ended = time.time()
        wait_for(lambda: len(succeeded(service)) >= 3, seconds=30, what="three ticks")

    assert (put_off.state, put_off.sent_at) == (WAITING, None)
    assert len(server.mails) == 2
    assert len({mail.message["Message-ID"] for mail in server.mails}) == 1
    assert server.mails[0].message["Subject"].startswith("[jobs] ")
    meanwhile = [one for one in succeeded(service) if began <= one.fire_time.timestamp() <= ended]
    assert [one.id for one in meanwhile if one.started_at - one.fire_time > LATEST] == []
    assert service.stop() == 0
    assert service.log.read_text().count("mail        by 127.0.0.1") == 1


def the_message(service: Service) -> OutboxMessage:
    """There is one, whatever happens."""
    with service.database.read() as session:
        return session.scalars(select(OutboxMessage)).one()


def make_due(service: Service) -> None:
    with service.database.write() as session:
        session.execute(update(OutboxMessage).values(next_try_at=OutboxMessage.created_at))


def succeeded(service: Service) -> list:
    return [one for one in service.tasks("ticks") if one.state == SUCCEEDED]
