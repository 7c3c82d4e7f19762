"""A digest: from the facts to the rows of the outbox, once for each (digest, period).

What it says is read and drawn first; its issue and its messages are then written in one transaction, a short one.
"""

from __future__ import annotations

import datetime as dt
import socket
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scheduler.clock import iso
from scheduler.engine.file.apply import current_author
from scheduler.engine.mail.digest_facts import facts_of
from scheduler.errors import NotFound
from scheduler.notify.digest_html import digest_html
from scheduler.notify.digest_pictures import digest_pictures
from scheduler.rules.askers import Asker
from scheduler.rules.file.digests import schedule_name, with_digests
from scheduler.rules.mail.digest import DigestSaid, digest_of
from scheduler.rules.mail.digest_text import digest_text
from scheduler.rules.mail.messages import Letter, messages_to
from scheduler.rules.spec import Book, Digest
from scheduler.rules.times.fire_times import fire_times
from scheduler.settings import Settings
from scheduler.store import audit, outbox, schedules
from scheduler.store.database import Database
from scheduler.store.mail_tables import SENT, DigestIssue, OutboxMessage

FIRST_SPAN = dt.timedelta(hours=24)  # of the first issue; nobody wants the history of the service
MOST_LOOKED_BACK = 100  # issues in a row that nobody got
LONGEST_SPAN = dt.timedelta(days=31)  # however long nothing was delivered: a mail of a year is no mail


@dataclass(frozen=True)
class Issued:
    """What became of one issue."""

    subject: str
    covers_from: dt.datetime
    covers_until: dt.datetime
    messages: int  # queued now
    why_not: str = ""  # why none is

    def as_json(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "covers_from": iso(self.covers_from),
            "covers_until": iso(self.covers_until),
            "messages": self.messages,
            "why_not": self.why_not,
        }


@dataclass(frozen=True)
class Preview:
    """A digest as it would be sent now."""

    said: DigestSaid
    letter: Letter


def preview(database: Database, settings: Settings, name: str) -> Preview:
    """What would be sent now; nothing is written. Raises NotFound."""
    with database.read() as session:
        book, digest = _digest(session, name)
        return _made(session, settings, book, digest, schedules.now(session))


def issue(
    database: Database,
    settings: Settings,
    name: str,
    *,
    until: dt.datetime | None = None,
    task_id: int | None = None,
) -> Issued:
    """Make the digest's issue up to `until` (now unless given) and queue it. The same again changes nothing.

    Raises NotFound.
    """
    with database.read() as session:  # all that takes long: on SQLite a writer would hold up every claim meanwhile
        book, digest = _digest(session, name)
        until = until or schedules.now(session)
        known = _issue_until(session, name, until)
        if known is not None:
            return _made_before(known)
        covers_from = _covers_from(session, digest, until)
        made = _made(session, settings, book, digest, until)
    with database.write() as session:
        schedules.take_turns(session)  # two that make the same issue: the second sees the first's row
        known = _issue_until(session, name, until)
        if known is not None:
            return _made_before(known)
        _note_delivered(session, name)
        row = DigestIssue(
            digest=name,
            covers_from=covers_from,
            covers_until=until,
            task_id=task_id,
            made_at=schedules.now(session),
            subject=made.said.subject,
            is_green=made.said.is_green,
        )
        session.add(row)
        if task_id is None:  # no task asks for it, but somebody at the keyboard
            audit.record(session, Asker(current_author(), address=socket.gethostname()), "digest", f"digest {name}")
        if made.said.is_green and digest.when_green == "skip":
            row.delivered_at = row.made_at  # all that there was to tell is told
            return Issued(row.subject, covers_from, until, 0, "all is well, and when_green is skip")
        keys: list[str] = []
        key, origin = _key(name, until), outbox.origin(session)
        for contact in digest.to:
            if contact in book.contacts:
                messages = messages_to(book.contacts[contact], made.letter, key=key, about="digest", origin=origin)
                keys.extend(outbox.queue(session, messages))
        return Issued(row.subject, covers_from, until, len(keys))


def _made_before(row: DigestIssue) -> Issued:
    return Issued(row.subject, row.covers_from, row.covers_until, 0, "this issue has been made before")


def _digest(session: Session, name: str) -> tuple[Book, Digest]:
    latest = schedules.latest_revision(session)
    fields = latest.book if latest else {}
    digests = fields.get("digests") or {}
    if latest is None or name not in digests:
        known = f"those of the file in force are {', '.join(sorted(digests))}" if digests else "the file has none"
        raise NotFound(f'There is no digest "{name}"; {known}. `scheduler apply` puts a changed file in force.')
    book = Book.model_validate({**fields, "file": latest.file})
    return book, book.digests[name]


def _made(session: Session, settings: Settings, book: Book, digest: Digest, until: dt.datetime) -> Preview:
    delivered = last_delivered(session, digest.name, until)
    facts = facts_of(
        session,
        digest,
        service=settings.name,
        covers_from=_covers_from(session, digest, until),
        covers_until=until,
    )
    facts = replace(
        facts,
        is_first=_count_issues(session, digest.name, None, until) == 0,
        undelivered=_count_issues(session, digest.name, delivered, until) if digest.covers is None else 0,
        next_at=next(fire_times(with_digests(book).schedules[schedule_name(digest.name)], until), None),
        base_url=settings.base_url,
    )
    said = digest_of(facts)
    return Preview(said, letter_of(said, digest.name, settings, facts.covers_from, until))


def letter_of(
    said: DigestSaid, name: str, settings: Settings, covers_from: dt.datetime, covers_until: dt.datetime
) -> Letter:
    """The digest in the form of each channel."""
    pictures, text = digest_pictures(said), digest_text(said)
    return Letter(
        subject=said.subject,
        text=text,
        html=digest_html(said, pictures),
        pictures={name: picture.png for name, picture in pictures.items()},
        headers={"List-Unsubscribe": f"<mailto:{_address(settings.mail_from)}?subject=unsubscribe%20{name}>"},
        payload={
            "digest": name,
            "service": settings.name,
            "subject": said.subject,
            "text": text,
            "is_green": said.is_green,
            "covers_from": iso(covers_from),
            "covers_until": iso(covers_until),
        },
        chat=f"{said.subject}\n{said.sentence}",
    )


def _address(sender: str) -> str:
    return sender.rsplit("<", 1)[-1].rstrip("> ")


def _key(name: str, until: dt.datetime) -> str:
    return f"digest:{name}:{iso(until)}"


# --- the issues before ----------------------------------------------------------------------------------------------


def last_delivered(session: Session, name: str, until: dt.datetime) -> dt.datetime | None:
    """Up to when the digest's issues before `until` have told what there was: the end of the last one that a mail
    server, or another way, has taken."""
    query = (
        select(DigestIssue)
        .where(DigestIssue.digest == name, DigestIssue.covers_until < until)
        .order_by(DigestIssue.covers_until.desc())
        .limit(MOST_LOOKED_BACK)
    )
    for row in session.scalars(query):
        if row.delivered_at is not None or _sent_at(session, name, row.covers_until) is not None:
            return row.covers_until
    return None


def _note_delivered(session: Session, name: str) -> None:
    """Keep which issues were delivered: the rows of the outbox are not kept for ever. The caller commits."""
    open_ones = select(DigestIssue).where(DigestIssue.digest == name, DigestIssue.delivered_at.is_(None))
    for row in session.scalars(open_ones.order_by(DigestIssue.covers_until.desc()).limit(MOST_LOOKED_BACK)):
        row.delivered_at = _sent_at(session, name, row.covers_until)
    session.flush()


def _sent_at(session: Session, name: str, until: dt.datetime) -> dt.datetime | None:
    prefix = f"{_key(name, until)}:"
    # By created_at, which has an index: those of the same hours are few, whatever the collation makes of a prefix.
    query = select(func.min(OutboxMessage.sent_at)).where(
        OutboxMessage.key.startswith(prefix, autoescape=True),
        OutboxMessage.created_at >= until - FIRST_SPAN,
        OutboxMessage.state == SENT,
    )
    return session.execute(query).scalar()


def _covers_from(session: Session, digest: Digest, until: dt.datetime) -> dt.datetime:
    if digest.covers is not None:
        return until - digest.covers
    delivered = last_delivered(session, digest.name, until)
    if delivered is not None:
        return max(delivered, until - LONGEST_SPAN)
    first = session.execute(
        select(func.min(DigestIssue.covers_from)).where(
            DigestIssue.digest == digest.name, DigestIssue.covers_until < until
        )
    ).scalar()
    return until - FIRST_SPAN if first is None else max(min(first, until - FIRST_SPAN), until - LONGEST_SPAN)


def _issue_until(session: Session, name: str, until: dt.datetime) -> DigestIssue | None:
    query = select(DigestIssue).where(DigestIssue.digest == name, DigestIssue.covers_until == until)
    return session.scalars(query).first()


def _count_issues(session: Session, name: str, after: dt.datetime | None, until: dt.datetime) -> int:
    query = select(func.count()).where(DigestIssue.digest == name, DigestIssue.covers_until < until)
    if after is not None:
        query = query.where(DigestIssue.covers_until > after)
    return session.execute(query.select_from(DigestIssue)).scalar_one()
