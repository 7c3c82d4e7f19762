"""A real SMTP server for tests, aiosmtpd on a port of its own, that keeps what it is given."""

from __future__ import annotations

import contextlib
import email
import email.policy
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller


@dataclass(frozen=True)
class Received:
    """A mail as the server took it."""

    moment: float  # time.time()
    sender: str
    recipients: list[str]
    content: bytes

    @property
    def message(self) -> EmailMessage:
        read = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(read, EmailMessage)
        return read


@dataclass
class MailServer:
    """`answers` replaces the answer to a mail by its recipient: {"bob@example.org": "550 no such user"}."""

    port: int = 0
    mails: list[Received] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def subjects(self) -> list[str]:
        return [mail.message["Subject"] for mail in list(self.mails)]

    # aiosmtpd calls these by their names.
    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        content = envelope.content
        self.mails.append(Received(time.time(), envelope.mail_from, list(envelope.rcpt_tos), content))
        return "250 taken"


class _Controller(Controller):
    """With a port of the system's choice, which aiosmtpd's own cannot have: it asks its port for a greeting."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextlib.contextmanager
def running_mail_server() -> Iterator[MailServer]:
    server = MailServer()
    controller = _Controller(server, hostname="127.0.0.1", port=0, ready_timeout=30)
    controller.start()
    server.port = controller.port
    try:
        yield server
    finally:
        controller.stop()
