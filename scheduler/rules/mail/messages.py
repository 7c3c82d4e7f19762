"""What is told to whom: a letter, and the messages that it becomes on its ways to a contact.

Pure: the engine makes letters, store/outbox.py keeps the messages until notify/ has sent them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scheduler.rules.spec import Contact, Hook


@dataclass(frozen=True)
class Letter:
    """What one message says, in the form of each channel."""

    subject: str
    text: str
    html: str | None = None
    pictures: Mapping[str, bytes] = field(default_factory=dict)  # PNGs by the name in the HTML's `src="cid:NAME"`
    headers: Mapping[str, str] = field(default_factory=dict)
    replies_to: Sequence[str] = ()  # keys of messages to the same contact, the oldest first: one thread
    payload: Mapping[str, Any] = field(default_factory=dict)  # for a webhook: JSON
    chat: str = ""  # for Slack and what understands its webhooks: a few lines


@dataclass(frozen=True)
class Message:
    """One row of the outbox to be (store/mail_tables.py: OutboxMessage)."""

    key: str
    message_id: str
    about: str
    channel: str
    contact: str
    address: dict[str, Any]
    content: dict[str, Any]


def messages_to(contact: Contact, letter: Letter, *, key: str, about: str, origin: str = "") -> list[Message]:
    """One message for each way to the contact.

    `key` names what is told, such as `digest:ops-morning:2026-11-23T06:30Z`: the same key to the same contact is the
    same message, however often it is made. `origin` names who tells it: mail servers drop what another service, with
    the same key and sender, seems to have sent before.
    """

    def mark(key: str, channel: str) -> str:
        return message_id(f"{origin}{_key(key, contact, channel)}")

    def message(channel: str, address: dict[str, Any], content: dict[str, Any]) -> Message:
        whole = _key(key, contact, channel)
        return Message(whole, mark(key, channel), about, channel, contact.name, address, content)

    messages = []
    if contact.email:
        content = {
            "subject": letter.subject,
            "text": letter.text,
            "html": letter.html,
            "pictures": {name: base64.b64encode(png).decode() for name, png in letter.pictures.items()},
            "headers": dict(letter.headers),
            "replies_to": [mark(earlier, "email") for earlier in letter.replies_to],
        }
        messages.append(message("email", {"to": list(contact.email)}, content))
    if contact.webhook:
        told = {"summary": letter.subject, "text": letter.text, **letter.payload}
        payload = {**told, "message_id": mark(key, "webhook")}
        messages.append(message("webhook", _address(contact.webhook), payload))
    if contact.slack:
        text = letter.chat or letter.subject
        messages.append(message("slack", _address(contact.slack), {"text": text}))
    return messages


def _address(hook: Hook) -> dict[str, Any]:
    return hook.model_dump(mode="json", exclude_none=True)


def message_id(key: str) -> str:
    """What marks a message in all its copies: the left half of a Message-ID, or a webhook's delivery id."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _key(key: str, contact: Contact, channel: str) -> str:
    return f"{key}:{contact.name}:{channel}"
