"""The outbox: what is to be told, until it is sent or given up. Written in the transaction of what it tells."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from scheduler.rules.mail.messages import Message
from scheduler.store.mail_tables import GIVEN_UP, SENT, WAITING, OutboxMessage
from scheduler.store.tables import Revision
from scheduler.store.types import micros, sql_now

LEASE = dt.timedelta(minutes=5)  # longer than the slowest server may take (notify/mail.py: LONGEST_SECONDS)
FIRST_PAUSE, LONGEST_PAUSE = dt.timedelta(seconds=10), dt.timedelta(minutes=30)  # between two tries
GIVE_UP_AFTER = dt.timedelta(hours=24)
KEPT = dt.timedelta(days=30)
MOST_LETTERS = 500  # of an error


def queue(session: Session, messages: Sequence[Message]) -> list[str]:
    """Queue messages to be sent at once; those whose key is known are left out. The keys of those that are new; the
    caller commits."""
    if not messages:
        return []
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(OutboxMessage).on_conflict_do_nothing().returning(OutboxMessage.key)
    rows = [{**vars(message), "created_at": sql_now(), "next_try_at": sql_now()} for message in messages]
    return [key for row in rows for key in session.execute(statement.values(**row)).scalars()]


def origin(session: Session) -> str:
    """What tells our messages from those of every other installation, also of this one made anew: alert 1 of each has
    the same key. It is the moment at which the first file was taken, to the microsecond."""
    first = session.execute(select(Revision.accepted_at).order_by(Revision.id).limit(1)).scalar()
    return "" if first is None else f"{first.isoformat()}/"


@dataclass(frozen=True)
class Claimed:
    """A message that one mailer has for itself until its lease ends."""

    id: int
    token: str
    message: Message
    tries: int  # this one counted
    age: dt.timedelta
    refused: dict[str, str]  # recipients that are out for good, and what the server said


def claim(session: Session, channels: Sequence[str]) -> Claimed | None:
    """The message of these channels that has been due for longest; None when none is. The caller commits.

    Any number of mailers may ask at once. A lease that ended belonged to a mailer that died: its message may have been
    taken or not, and goes out again with the same message_id.
    """
    now = sql_now()
    due = (
        select(OutboxMessage.id)
        .where(
            OutboxMessage.state == WAITING,
            OutboxMessage.channel.in_(channels),
            OutboxMessage.next_try_at <= now,
            or_(OutboxMessage.lease_until.is_(None), OutboxMessage.lease_until < now),
        )
        .order_by(OutboxMessage.next_try_at, OutboxMessage.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # SQLite has one writer at a time, and leaves it out
        .scalar_subquery()
    )
    token = str(uuid.uuid4())
    statement = (
        update(OutboxMessage)
        .where(OutboxMessage.id == due)
        .values(token=token, lease_until=now + micros(LEASE), tries=OutboxMessage.tries + 1)
        .returning(OutboxMessage, now.label("now"))
        .execution_options(synchronize_session=False)
    )
    found = session.execute(statement).first()
    if found is None:
        return None
    row = found[0]
    message = Message(row.key, row.message_id, row.about, row.channel, row.contact, row.address, row.content)
    return Claimed(row.id, token, message, row.tries, found.now - row.created_at, dict(row.refused or {}))


def mark_sent(session: Session, claimed: Claimed, refused: dict[str, str] | None = None) -> bool:
    """Sent, to all but the refused; False when the lease had ended and another has the message. The caller commits."""
    sent_at = func.coalesce(OutboxMessage.sent_at, sql_now())
    values = {"sent_at": sent_at, "refused": refused or None, "last_error": None}
    return _leave(session, claimed, state=SENT, **values)


def put_off(
    session: Session,
    claimed: Claimed,
    why: str,
    *,
    at_least: dt.timedelta = dt.timedelta(0),
    taken: Sequence[str] = (),
    refused: dict[str, str] | None = None,
) -> bool:
    """To be tried again later, for the recipients that are neither `taken` nor `refused`. The caller commits."""
    values: dict[str, Any] = {"refused": refused} if refused else {}
    if taken:
        values["address"] = {**claimed.message.address, "taken": sorted(taken)}
    pause = max(next_pause(claimed.tries), at_least)
    return _leave(session, claimed, next_try_at=sql_now() + micros(pause), last_error=why[:MOST_LETTERS], **values)


def give_up(session: Session, claimed: Claimed, why: str, refused: dict[str, str] | None = None) -> bool:
    """Not to be tried again; `next_try_at` tells when. The caller commits."""
    values = {"state": GIVEN_UP, "next_try_at": sql_now(), "last_error": why[:MOST_LETTERS]}
    return _leave(session, claimed, refused=refused or claimed.refused or None, **values)


def next_pause(tries: int) -> dt.timedelta:
    """How long to wait after so many tries: 10 s, 20 s, … 30 min."""
    return min(FIRST_PAUSE * int(2 ** min(tries - 1, 20)), LONGEST_PAUSE)


def _leave(session: Session, claimed: Claimed, **values: Any) -> bool:
    statement = (
        update(OutboxMessage)
        .where(OutboxMessage.id == claimed.id, OutboxMessage.token == claimed.token, OutboxMessage.state == WAITING)
        .values(token=None, lease_until=None, **values)
        .execution_options(synchronize_session=False)
    )
    return cast("CursorResult[Any]", session.execute(statement)).rowcount == 1


@dataclass(frozen=True)
class Counts:
    """How the outbox stands."""

    waiting: int
    oldest: dt.timedelta | None  # how long the oldest has waited
    given_up: int  # within the last 24 h
    last_error: str | None  # of the oldest


def counts(session: Session, now: dt.datetime) -> Counts:
    waiting, since = session.execute(
        select(func.count(), func.min(OutboxMessage.created_at)).where(OutboxMessage.state == WAITING)
    ).one()
    last_error = session.execute(
        select(OutboxMessage.last_error)
        .where(OutboxMessage.state == WAITING)
        .order_by(OutboxMessage.created_at, OutboxMessage.id)
        .limit(1)
    ).scalar()
    given_up = session.execute(
        select(func.count()).where(
            OutboxMessage.created_at > now - 3 * GIVE_UP_AFTER,  # the index is by that
            OutboxMessage.state == GIVEN_UP,
            OutboxMessage.next_try_at > now - dt.timedelta(hours=24),
        )
    ).scalar_one()
    return Counts(waiting, None if since is None else now - since, given_up, last_error)


@dataclass(frozen=True)
class GivenUp:
    """A message that was not delivered."""

    contact: str
    why: str


def newest_given_up(session: Session, now: dt.datetime) -> GivenUp | None:
    """Of the last 24 h."""
    row = session.execute(
        select(OutboxMessage.contact, OutboxMessage.last_error)
        .where(
            OutboxMessage.created_at > now - 3 * GIVE_UP_AFTER,
            OutboxMessage.state == GIVEN_UP,
            OutboxMessage.next_try_at > now - dt.timedelta(hours=24),
        )
        .order_by(OutboxMessage.next_try_at.desc(), OutboxMessage.id.desc())
        .limit(1)
    ).first()
    return None if row is None else GivenUp(row.contact, row.last_error or "no reason told")


def forget_old(session: Session) -> int:
    """Delete what was sent or given up and is older than 30 days; how many. The caller commits."""
    ended = delete(OutboxMessage).where(
        OutboxMessage.created_at < sql_now() - micros(KEPT), OutboxMessage.state != WAITING
    )
    return cast("CursorResult[Any]", session.execute(ended)).rowcount
