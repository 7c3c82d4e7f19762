"""What may be written about who is told of what: contacts, `notify`, digests."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag, ValidationInfo, model_validator

from scheduler.rules.complaints import Complaint, did_you_mean, shown
from scheduler.rules.file.grammar_values import Duration, Kind, Known, ListOf, OneOrMany, Sheet, ShortText, text_schema
from scheduler.rules.file.grammar_when import WhenEntry

# Plausible, no more: whether mail arrives only the mail server knows. 254 letters are the most that SMTP carries.
_EMAIL = re.compile(r"(?=.{3,254}\Z)[^\s@<>,;:\"()\[\]\\]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\Z")
_URL = re.compile(r"https://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?#]\S*)?\Z")
_LOOPBACK = re.compile(r"http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?(?:[/?#]\S*)?\Z")
_LONGEST_URL = 2000


def _email(value: str) -> str:
    if not _EMAIL.match(value) or ".." in value:
        hint = "Write the address alone, such as ops@example.org; several stand in a list."
        raise Complaint(f"{shown(value)} is not an e-mail address", hint, code="bad-email")
    return value


def _contact(value: str, info: ValidationInfo) -> str:
    known = info.context if isinstance(info.context, Known) else None
    if known is not None and value not in known.contacts:
        meant = did_you_mean(value, known.contacts)
        listed = f"Contacts of this file: {', '.join(sorted(known.contacts)[:10])}."
        hint = "" if meant else listed if known.contacts else 'Name its addresses under "contacts".'
        raise Complaint(f"there is no contact {shown(value)}{meant}", hint, code="unknown-contact", plain=True)
    return value


Email = Annotated[str, AfterValidator(_email), text_schema("ops@example.org")]
ContactName = Annotated[str, AfterValidator(_contact)]
ContactNames = OneOrMany[ContactName]


def _url(value: str) -> str:
    hint = "Write https://host/path; where it holds a secret, name the variable that has it: url_env: HOOK_URL."
    is_url = _URL.match(value) or _LOOPBACK.match(value)
    if not is_url or not value.isprintable() or len(value) > _LONGEST_URL:
        raise Complaint(f"{shown(value)} is not an https URL", hint, code="bad-url")
    return value


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", value):
        hint = "Write the name alone, such as HOOK_URL; its value is read where the mails are sent."
        raise Complaint(f"{shown(value)} is not the name of an environment variable", hint, code="bad-variable")
    return value


Url = Annotated[str, AfterValidator(_url), text_schema("https://hooks.example.org/jobs")]
Variable = Annotated[str, AfterValidator(_variable), text_schema("HOOK_URL")]


class SlackEntry(Sheet):
    """An incoming webhook of Slack, or of what understands the same (Mattermost, Rocket.Chat, …)."""

    url: Url | None = Field(default=None, description="Where messages are posted; better kept in url_env.")
    url_env: Variable | None = Field(default=None, description="The environment variable that holds the URL.")

    @model_validator(mode="after")
    def _has_one_url(self) -> SlackEntry:
        if (self.url is None) == (self.url_env is None):
            hint = "url: https://… stands in the file; url_env: HOOK_URL names the variable that holds it."
            raise Complaint("give one of url and url_env", hint, code="bad-url")
        return self


class WebhookEntry(SlackEntry):
    """Where alerts and digests are posted as JSON."""

    secret_env: Variable | None = Field(
        default=None, description="The environment variable that holds the secret messages are signed with."
    )


class ContactEntry(Sheet):
    """Who is told: by mail, webhook or chat, one of them or several."""

    email: OneOrMany[Email] | None = Field(default=None, description="An address, or several.")
    webhook: WebhookEntry | None = Field(default=None, description="JSON by HTTPS, signed.")
    slack: SlackEntry | None = Field(default=None, description="A chat that takes Slack's incoming webhooks.")

    @model_validator(mode="after")
    def _can_be_reached(self) -> ContactEntry:
        if not (self.email or self.webhook or self.slack):
            hint = "Such as email: ops@example.org, or webhook: {url_env: HOOK_URL}."
            raise Complaint('has none of "email", "webhook" and "slack"', hint, code="no-address")
        return self


class NotifyEntry(Sheet):
    """Whom to tell, by what happened."""

    failed: ContactNames | None = Field(default=None, description="It failed for good.")
    missed: ContactNames | None = Field(default=None, description="It could not start within its grace.")
    lost: ContactNames | None = Field(default=None, description="Its worker fell silent.")
    late: ContactNames | None = Field(default=None, description="It had not ended at finish_by.")
    too_fast: ContactNames | None = Field(default=None, description="It ended sooner than too_fast.")
    too_long: ContactNames | None = Field(default=None, description="It ran for longer than warn_after.")
    paused: ContactNames | None = Field(default=None, description="It paused itself.")
    recovered: ContactNames | None = Field(default=None, description="It is well again.")


def _names_or_mapping(value: Any) -> str:
    return "<notify>" if isinstance(value, dict | BaseModel) else "<plain>"


Notify = Annotated[
    Annotated[ContactNames, Tag("<plain>")] | Annotated[NotifyEntry, Tag("<notify>")], Discriminator(_names_or_mapping)
]


class OnlyEntry(Sheet):
    """Which schedules a digest is about. All conditions given must hold."""

    tags: ListOf[ShortText] = Field(default=(), description="Schedules with one of these tags.")
    kinds: ListOf[Kind] = Field(default=(), description="Tasks of these kinds.")
    owner: ListOf[ShortText] = Field(default=(), description="Schedules of these owners.")


def _since_or_span(value: Any) -> str:
    return "<plain>" if isinstance(value, str) and value.startswith("since") else "<span>"


Covers = Annotated[
    Annotated[Literal["since-last"], Tag("<plain>")] | Annotated[Duration, Tag("<span>")],
    Discriminator(_since_or_span),
    text_schema("since-last", "24h", "7d"),  # the two branches both fit a text, and an editor wants exactly one
]


class DigestEntry(Sheet):
    """A mail about a span of time."""

    to: ContactNames = Field(description="Names of contacts.")
    when: OneOrMany[WhenEntry] = Field(description="When it is sent, as for a schedule.")
    covers: Covers = Field(
        default="since-last", description="since-last: since the last one that was delivered; or a duration."
    )
    when_green: Literal["full", "one-line", "skip"] = Field(
        default="one-line", description="What to send when all is well."
    )
    only: OnlyEntry | None = Field(default=None, description="About some schedules alone.")


def span_of(covers: str | dt.timedelta) -> dt.timedelta | None:
    """How far back a digest looks; None: to the last one that was delivered."""
    return covers if isinstance(covers, dt.timedelta) else None
