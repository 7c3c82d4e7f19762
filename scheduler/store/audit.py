"""The audit: a line for each thing that someone did, written in the transaction that does it.

A line is never changed, which a trigger in SQL holds; old ones are deleted by retention alone.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.orm import Session

from scheduler.rules.askers import Asker
from scheduler.rules.task.masking import mask_arguments
from scheduler.store.access_tables import AuditLine, IdempotencyKey
from scheduler.store.types import micros, sql_now

KEYS_KEPT = dt.timedelta(hours=24)
LONGEST = 200  # letters of a name or a subject
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
NOTHING: Mapping[str, Any] = {}


def record(
    session: Session,
    asker: Asker,
    action: str,
    subject: str,
    details: Mapping[str, Any] = NOTHING,
    *,
    answer: Mapping[str, Any] = NOTHING,
    status: int = 200,
) -> None:
    """Write who did what; the caller commits, along with what was done.

    When the request may be repeated by its key, `answer` is kept for it too: then a repetition does nothing, also
    after a crash between the commit and the answer. IntegrityError: another request with that key was first.
    """
    session.execute(
        insert(AuditLine).values(
            at=sql_now(),
            who=_line(asker.name),
            via=asker.via,
            address=_line(asker.address),
            action=action,
            subject=_line(subject),
            details=mask_arguments(dict(details)),
        )
    )
    if asker.once is not None:
        old = (IdempotencyKey.caller == asker.name, IdempotencyKey.key == asker.once.key, _is_over())
        session.execute(delete(IdempotencyKey).where(*old).execution_options(synchronize_session=False))
        session.execute(
            insert(IdempotencyKey).values(
                caller=asker.name,
                key=asker.once.key,
                request_hash=asker.once.request_hash,
                status=status,
                body=dict(answer),
                created_at=sql_now(),
            )
        )


def newest(
    session: Session,
    limit: int,
    *,
    before: int | None = None,
    who: str | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> Sequence[AuditLine]:
    """The newest lines first; those with an id below `before`, for the next page."""
    query = select(AuditLine).order_by(AuditLine.id.desc()).limit(limit)
    for column, value in ((AuditLine.who, who), (AuditLine.action, action), (AuditLine.subject, subject)):
        if value is not None:
            query = query.where(column == value)
    return session.scalars(query if before is None else query.where(AuditLine.id < before)).all()


def delete_oldest(session: Session, before: dt.datetime, limit: int) -> int:
    """Delete the oldest lines, those from before a moment and `limit` at most; how many. They stand in the order in
    which they were written, so no more than that is looked at."""
    oldest = session.execute(select(AuditLine.id, AuditLine.at).order_by(AuditLine.id).limit(limit)).all()
    old = [row.id for row in takewhile(lambda row: row.at < before, oldest)]
    if old:
        statement = delete(AuditLine).where(AuditLine.id <= old[-1])
        session.execute(statement.execution_options(synchronize_session=False))
    return len(old)


def answered(session: Session, caller: str, key: str) -> IdempotencyKey | None:
    """What was answered to the caller's request with that key, within a day."""
    query = select(IdempotencyKey).where(IdempotencyKey.caller == caller, IdempotencyKey.key == key)
    return session.scalars(query.where(~_is_over())).first()


def forget_old_keys(session: Session) -> None:
    session.execute(delete(IdempotencyKey).where(_is_over()).execution_options(synchronize_session=False))


def _is_over() -> ColumnElement[bool]:
    return IdempotencyKey.created_at <= sql_now() - micros(KEYS_KEPT)


def _line(text: str) -> str:
    """One line without control characters: what a person typed may not look like a second line of the audit."""
    return CONTROL.sub(" ", text)[:LONGEST]
