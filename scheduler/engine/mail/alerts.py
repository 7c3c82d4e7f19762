"""Turns what has happened and what is wrong into alerts, and alerts into messages of the outbox.

One transaction a step: the alerts, the messages and the deletion of what was heard stand or fall together, so that
nothing is told twice or lost, whenever a keeper dies. Of several keepers one at a time is at it.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from scheduler.engine.answers.listing import unindexed
from scheduler.engine.mail.alert_levels import Levels, levels_of, untold
from scheduler.kill_points import point
from scheduler.notify.alert_html import alert_html
from scheduler.rules.file.digests import is_digest
from scheduler.rules.mail import alerts
from scheduler.rules.mail.alert_letters import letter_of, said_of
from scheduler.rules.mail.alerts import AlertState, Over, Telling, Trouble, hear, hear_passed, subject_of, tell
from scheduler.rules.mail.messages import Message, messages_to
from scheduler.rules.spec import Contact
from scheduler.rules.states import SUCCEEDED
from scheduler.store import happenings, outbox, schedules
from scheduler.store.database import Database
from scheduler.store.mail_tables import CLOSED, OPEN, Alert, Happening
from scheduler.store.tables import Revision, Schedule, Task

log = logging.getLogger(__name__)

AT_ONCE = 1000  # happenings in one transaction
KEPT = dt.timedelta(days=90)  # closed alerts
LONGEST_ABOUT = 500  # letters of a schedule's `about` in a letter
_FIELDS = ("last_at", "told_at", "closed_at", "times", "told_times", "details")


class Alerts:
    def __init__(self, database: Database, *, service: str, base_url: str | None, realert: dt.timedelta) -> None:
        self.database = database
        self.service = service
        self.base_url = base_url
        self.realert = realert

    def step(self, now: dt.datetime | None = None) -> int:
        """Look once at everything; how many messages were queued. `now` is the database's unless given. Raises
        DatabaseAway."""
        queued = 0
        while True:
            with self.database.read() as session:  # outside the transaction: on SQLite it would hold up every writer
                moment = now or schedules.now(session)
                levels = levels_of(session, moment)
                is_quiet = not levels.troubles and not levels.passed and not happenings.has_any(session)
                if is_quiet and not _any_known(session, moment):
                    return queued
            messages, is_all = self._hear_some(levels, moment)
            queued += messages
            if is_all:
                return queued

    def _hear_some(self, levels: Levels, now: dt.datetime) -> tuple[int, bool]:
        """How many messages were queued, and whether that was all; a transaction is kept short."""
        with self.database.write() as session:
            if not happenings.is_our_turn(session):
                return 0, True
            rows = {row.id: row for row in session.scalars(select(Alert).where(_is_known(now)).order_by(Alert.id))}
            known = [_state(row) for row in rows.values()]
            over = list(_over(session, known, now))  # before the happenings: whatever is seen here they tell of, too
            heard = happenings.oldest(session, AT_ONCE)
            passed = untold(session, levels.passed)  # another keeper may have told them since
            about: list[AlertState | Happening | Trouble] = [*known, *heard, *levels.troubles]
            about += [one.trouble for one in passed]
            of = _schedules(session, (one.schedule_id for one in about))
            news = [item for one in heard for item in _news(one, of)]
            found = hear(known, news, [_named(one, of) for one in levels.troubles], over, now, levels.unknown)
            found = hear_passed(found, [replace(one, trouble=_named(one.trouble, of)) for one in passed])
            _write(session, found, rows)
            told = tell(found, _Routes(session, of), now, self.realert)
            keys = outbox.queue(session, list(self._messages(session, told, now)) if told else [])
            _write(session, found, rows)
            happenings.forget(session, heard)
            point("alerts.before_commit")
        point("alerts.after_commit")
        for telling in told:
            log.info("Told %s: %s", telling.contact, telling.key, extra={"event": "alert_told"})
        return len(keys), len(heard) < AT_ONCE and len(told) < alerts.MOST_LETTERS

    def _messages(self, session: Session, told: Iterable[Telling], now: dt.datetime) -> Iterator[Message]:
        contacts, origin = _contacts(session), outbox.origin(session)
        for telling in told:
            contact = contacts.get(telling.contact)
            if contact is not None:
                said = said_of(telling, service=self.service, base_url=self.base_url, now=now, realert=self.realert)
                letter = letter_of(telling, said, service=self.service, html=alert_html(said))
                yield from messages_to(contact, letter, key=telling.key, about="alert", origin=origin)


def forget_old(session: Session) -> None:
    """Delete the alerts that have been over for KEPT; the caller commits."""
    session.execute(delete(Alert).where(Alert.closed_at < schedules.now(session) - KEPT))


def _is_known(now: dt.datetime) -> ColumnElement[bool]:
    """What must be known of to go on: open, or over and not told so, or over so lately that it may flap."""
    untold = or_(Alert.told_at.is_(None), Alert.told_at < Alert.closed_at)
    return or_(Alert.state == OPEN, untold, Alert.closed_at > now - alerts.CALM)


def _any_known(session: Session, now: dt.datetime) -> bool:
    return bool(session.execute(select(exists().where(_is_known(now)))).scalar())


# --- rows and values ------------------------------------------------------------------------------------------------


def _state(row: Alert) -> AlertState:
    return AlertState(row.subject, row.event, row.opened_at, schedule_id=row.schedule_id, id=row.id, **_values(row))


def _values(alert: Alert | AlertState) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in _FIELDS}


def _write(session: Session, found: Iterable[AlertState], rows: dict[int, Alert]) -> None:
    """Write what has changed; what was there first, then what is new: a subject has one open row at most."""
    changed = [one for one in found if one.is_changed]
    new = []
    for alert in changed:
        row = rows.get(alert.id or 0)
        if row is None:
            row = Alert(
                subject=alert.subject, event=alert.event, schedule_id=alert.schedule_id, opened_at=alert.opened_at
            )
            new.append((alert, row))
        values = {**_values(alert), "state": OPEN if alert.is_open else CLOSED}
        for name, value in values.items():
            setattr(row, name, value)
        alert.is_changed = False
    session.flush()
    session.add_all([row for _, row in new])
    session.flush()
    for alert, row in new:
        alert.id = row.id
        rows[row.id] = row


# --- what has happened ----------------------------------------------------------------------------------------------


def _schedules(session: Session, ids: Iterable[int | None]) -> dict[int, Any]:
    wanted = sorted({one for one in ids if one is not None})
    found = {}
    for start in range(0, len(wanted), 500):
        query = select(Schedule.id, Schedule.name, Schedule.spec).where(Schedule.id.in_(wanted[start : start + 500]))
        found.update({row.id: row for row in session.execute(query)})
    return found


def _facts(schedule: Any) -> dict[str, Any]:
    """What a letter says of the schedule itself."""
    facts = {"schedule": schedule.name}
    for name in ("owner", "about"):
        if schedule.spec.get(name):
            facts[name] = str(schedule.spec[name])[:LONGEST_ABOUT]
    return facts


def _named(trouble: Trouble, of: Mapping[int, Any]) -> Trouble:
    if trouble.schedule_id is None or trouble.schedule_id not in of:
        return trouble
    details = {**_facts(of[trouble.schedule_id]), **trouble.details}
    return Trouble(trouble.subject, trouble.event, trouble.at, trouble.schedule_id, details)


def _news(happening: Happening, of: Mapping[int, Any]) -> Iterator[Trouble | Over]:
    """What a happening means for alerts; nothing when nobody could be told of it."""
    schedule = of.get(happening.schedule_id or 0)
    if schedule is None:
        return
    details = dict(happening.details)
    if happening.event == alerts.RECOVERED:
        for event in (alerts.FAILED, alerts.LOST):
            yield Over(subject_of(event, schedule.id), happening.happened_at, details={"ended_by": happening.task_id})
        return
    if happening.event not in alerts.EDGES:  # of another version of the program
        return
    is_failure = happening.event in (alerts.FAILED, alerts.LOST)
    yield Trouble(
        subject_of(happening.event, schedule.id),
        happening.event,
        happening.happened_at,
        schedule.id,
        {**_facts(schedule), **details, "task_id": happening.task_id},
        count=int(details.get("count", 1)),
        in_a_row=int(details.get("in_a_row", 1)) if is_failure else 1,
        told_from=int(schedule.spec.get("failed_after") or 1) if is_failure else 1,
    )


def _over(session: Session, known: Sequence[AlertState], now: dt.datetime) -> Iterator[Over]:
    """What ended without a happening of its own: by a success, by a person, or with its schedule."""
    open_ones = [one for one in known if one.is_open and one.schedule_id is not None]
    ids = {one.schedule_id for one in open_ones}
    query = select(Schedule.id, Schedule.pause, Schedule.failures_in_a_row, Schedule.retired_at)
    rows = {row.id: row for row in session.execute(query.where(Schedule.id.in_(ids)))} if ids else {}
    maybe_over: list[AlertState] = []
    for alert in open_ones:
        row = rows.get(alert.schedule_id or 0)
        if row is None or row.retired_at is not None:
            yield Over(alert.subject, now, is_quiet=True)
        elif alert.event == alerts.PAUSED and (row.pause is None or row.pause.get("by") != "itself"):
            yield Over(alert.subject, now)
        elif alert.event in alerts.ENDED_BY_SUCCESS and not (
            alert.event in (alerts.FAILED, alerts.LOST) and row.failures_in_a_row
        ):
            maybe_over.append(alert)
    maybe_over.sort(key=_task_of)  # those of one query began at about the same time: it reads little before that
    for start in range(0, len(maybe_over), 500):
        yield from _ended_by_success(session, maybe_over[start : start + 500])


def _task_of(alert: AlertState) -> int:
    return int(alert.details.get("task_id") or 0)


def _ended_by_success(session: Session, some: Sequence[AlertState]) -> Iterator[Over]:
    newest = (
        select(func.max(Task.id))
        .where(
            Task.schedule_id.in_({one.schedule_id for one in some}),
            Task.id >= _task_of(some[0]),
            Task.finished_at.is_not(None),  # by the index of each schedule's ended tasks, from that one on
            unindexed(Task.state) == SUCCEEDED,
        )
        .group_by(Task.schedule_id)
    )
    query = select(Task.id, Task.schedule_id, Task.finished_at).where(Task.id.in_(newest))
    successes = {row.schedule_id: row for row in session.execute(query)}
    for alert in some:
        success = successes.get(alert.schedule_id)
        if success is not None and success.id >= _task_of(alert):
            yield Over(alert.subject, success.finished_at, success.id, details={"ended_by": success.id})


# --- who is told ----------------------------------------------------------------------------------------------------


def _book(session: Session) -> dict[str, Any]:
    """The file in force, without its schedules."""
    book = session.execute(select(Revision.book).order_by(Revision.id.desc()).limit(1)).scalar()
    return dict(book or {})


def _contacts(session: Session) -> dict[str, Contact]:
    return {name: Contact.model_validate(one) for name, one in _book(session).get("contacts", {}).items()}


class _Routes:
    """Whom to tell of an alert. The file is read only when there is something to tell."""

    def __init__(self, session: Session, of: Mapping[int, Any]) -> None:
        self._session = session
        self._of = of
        self._all: list[str] | None = None

    def __call__(self, alert: AlertState, is_over: bool) -> Sequence[str]:
        schedule = self._of.get(alert.schedule_id or 0)
        notify = schedule.spec.get("notify", {}) if schedule is not None else {}
        if is_over:
            return list(notify.get(alerts.RECOVERED) or alert.details.get("told", ()))
        if alert.event not in alerts.OF_SCHEDULES or (schedule is not None and is_digest(schedule.name)):
            return self._of_service()
        fallback = notify.get(alerts.FAILED) if alert.event == alerts.LOST else None
        return list(notify.get(alert.event) or fallback or notify.get("any") or ())

    def _of_service(self) -> list[str]:
        if self._all is None:
            book = _book(self._session)
            self._all = list(book.get("notify") or sorted(book.get("contacts", {})))
        return self._all
