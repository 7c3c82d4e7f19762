"""Sends what waits in the outbox: mails by SMTP (or into a folder), and messages to webhooks and chats.

A message is sent at least once: between a server's acceptance and the row that says so a mailer may die. It then goes
out again with the same Message-ID (or X-Scheduler-Delivery), by which receivers tell it. Each way has a thread of its
own beside the keeper's timers: a server that is slow delays neither planning nor the other way.
"""

from __future__ import annotations

import base64
import datetime as dt
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Literal

from scheduler.engine.loops import Stop, Timer
from scheduler.engine.troubles import tell
from scheduler.errors import SettingFault
from scheduler.kill_points import point
from scheduler.notify import webhook
from scheduler.notify.mail import (
    MailFault,
    MailServerAway,
    MailSettings,
    MailWayClosed,
    build_message,
    is_for_good,
    message_id_of,
    recipients_of,
    send,
)
from scheduler.rules.mail.messages import Message
from scheduler.settings import Settings, environment_of
from scheduler.store import outbox
from scheduler.store.database import Database
from scheduler.store.outbox import Claimed

log = logging.getLogger(__name__)

MAIL, HOOKS = ("email",), ("webhook", "slack")
SEND_EVERY = 1.0  # seconds between two looks at the outbox
MOST_AT_ONCE = 20  # messages of one step
MOST_REFERENCES = 10  # of a thread: the first and the newest
ENDS_WITHIN = 5.0  # seconds that a keeper told to stop gives a message on its way


@dataclass(frozen=True)
class Outcome:
    """What became of one try; `later` may have been taken by some recipients."""

    what: Literal["sent", "later", "never"]
    why: str = ""
    at_least: float = 0.0  # seconds until the next try
    taken: Sequence[str] = ()
    refused: dict[str, str] = field(default_factory=dict)


class Mailer:
    """Sends what is due of some channels. Any number may work at once."""

    def __init__(self, database: Database, settings: Settings, channels: Sequence[str] = (*MAIL, *HOOKS)) -> None:
        self.database = database
        self.settings = settings
        self.channels = channels

    def step(self) -> int:
        """Send what is due; how many messages were tried. Raises DatabaseAway."""
        for number in range(MOST_AT_ONCE):
            with self.database.write() as session:
                claimed = outbox.claim(session, self.channels)
            if claimed is None:
                return number
            self._note(claimed, self._try(claimed))
        return MOST_AT_ONCE

    def _try(self, claimed: Claimed) -> Outcome:
        message = claimed.message
        try:
            if message.channel == "email":
                outcome = self._mail(claimed)
            else:
                webhook.post(message.address, message.content, message.message_id)
                outcome = Outcome("sent")
        except webhook.WebhookAway as error:
            return Outcome("later", str(error), error.retry_after)
        except (MailWayClosed, MailServerAway, SettingFault) as error:
            return Outcome("later", str(error))
        except (MailFault, webhook.WebhookRefused) as error:
            return Outcome("never", str(error))
        except Exception as error:  # one message that cannot be sent must not hold up the others
            tell("mailer", error)
            return Outcome("later", f"{type(error).__name__} in the mailer: {error}")
        point("mailer.after_accept")
        return outcome

    def _mail(self, claimed: Claimed) -> Outcome:
        """Raises MailFault, MailServerAway, SettingFault."""
        settings = mail_settings_of(self.settings)
        mail = mail_of(claimed.message, settings)
        everyone = recipients_of(mail)
        before = set(claimed.message.address.get("taken", ()))
        to_do = [one for one in everyone if one not in before and one not in claimed.refused]
        answers = send(mail, settings, to_do).refused
        refused = {**claimed.refused, **{one: said for one, said in answers.items() if is_for_good(said)}}
        later = {one: said for one, said in answers.items() if one not in refused}
        taken = [one for one in everyone if one not in answers and one not in refused]
        if not later or claimed.age >= outbox.GIVE_UP_AFTER:
            return Outcome("sent", taken=taken, refused={**refused, **later})
        why = "; ".join(f"{one}: {said}" for one, said in later.items())
        return Outcome("later", f"some recipients were put off ({why})", taken=taken, refused=refused)

    def _note(self, claimed: Claimed, outcome: Outcome) -> None:
        """Raises DatabaseAway: the message then goes again when its lease has ended."""
        give_up = outcome.what == "never" or (outcome.what == "later" and claimed.age >= outbox.GIVE_UP_AFTER)
        with self.database.write() as session:
            if outcome.what == "sent":
                mine = outbox.mark_sent(session, claimed, outcome.refused)
            elif give_up:
                mine = outbox.give_up(session, claimed, outcome.why)
            else:
                mine = outbox.put_off(
                    session,
                    claimed,
                    outcome.why,
                    at_least=dt.timedelta(seconds=outcome.at_least),
                    taken=outcome.taken,
                    refused=outcome.refused,
                )
        if outcome.what == "sent":
            point("mailer.after_mark")
        if mine:
            _tell(claimed, outcome, give_up)


def _tell(claimed: Claimed, outcome: Outcome, given_up: bool) -> None:
    """Who is meant is told by the contact's name: what an address or a URL holds may be a secret."""
    message = claimed.message
    whom = f"{message.about} by {message.channel} to {message.contact or 'an address'} ({message.key})"
    if given_up:
        tries = f"{claimed.tries} {'try' if claimed.tries == 1 else 'tries'}"
        log.error("Given up after %s: %s: %s", tries, whom, outcome.why, extra={"event": "message_given_up"})
    elif outcome.what == "later":
        log.warning("Not sent yet: %s: %s", whom, outcome.why, extra={"event": "message_put_off"})
    else:
        log.info("Sent: %s", whom, extra={"event": "message_sent"})
        for one, said in outcome.refused.items():
            log.error("Not taken for %s: %s: %s", one, whom, said, extra={"event": "recipient_refused"})


def mail_settings_of(settings: Settings) -> MailSettings:
    """Raises SettingFault."""
    return MailSettings.from_environment(environment_of(settings))


def mail_of(message: Message, settings: MailSettings) -> EmailMessage:
    """The mail that a message of the outbox becomes. Raises MailFault."""
    content = message.content
    pictures = {name: base64.b64decode(text) for name, text in (content.get("pictures") or {}).items()}
    return build_message(
        settings.sender,
        message.address["to"],
        content["subject"],
        content["text"],
        content.get("html"),
        pictures=pictures,
        message_id=message_id_of(message.message_id, settings.sender),
        headers={**_thread(content.get("replies_to") or (), settings.sender), **(content.get("headers") or {})},
    )


def _thread(replies_to: Sequence[str], sender: str) -> Mapping[str, str]:
    if not replies_to:
        return {}
    marks = [message_id_of(mark, sender) for mark in replies_to]
    if len(marks) > MOST_REFERENCES:
        marks = [marks[0], *marks[1 - MOST_REFERENCES :]]
    return {"In-Reply-To": marks[-1], "References": " ".join(marks)}


class MailThreads:
    """The two ways, each in a thread beside the keeper's timers."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.timers = [
            Timer("mail", SEND_EVERY, Mailer(database, settings, MAIL).step),
            Timer("webhooks", SEND_EVERY, Mailer(database, settings, HOOKS).step),
        ]
        self._threads: list[threading.Thread] = []

    def start(self, stop: Stop) -> None:
        for timer in self.timers:
            thread = threading.Thread(target=_go_on, args=(timer, stop), name=timer.name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        """What is on its way gets a moment; what is cut off goes again, with the same Message-ID."""
        for thread in self._threads:
            thread.join(ENDS_WITHIN)


def _go_on(timer: Timer, stop: Stop) -> None:
    while not stop.is_set:
        timer.run_if_due()
        stop.wait(0.2)
