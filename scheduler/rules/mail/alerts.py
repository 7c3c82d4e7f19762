"""Which troubles are told, when, and to whom: alerts open, count, are told again, and close.

Pure: the engine brings what has happened, what is so now and the alerts so far; it writes what comes out.

An alert is told once it is half a minute old, so that equal ones can be told together (a storm is one letter); then
each `realert` while it is open; then once when it is over. One that was over before it was told is one letter, or none
if it was a mere condition (SILENT_IF_OVER). A subject that opened three times within an hour flaps: that is told once,
then nothing until it has been calm for an hour.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scheduler.clock import MICROSECOND

FAILED = "failed"
LOST = "lost"
MISSED = "missed"
LATE = "late"
TOO_FAST = "too_fast"
TOO_LONG = "too_long"
PAUSED = "paused"
RECOVERED = "recovered"
NO_WORKER = "no_worker"
SILENT_PART = "silent_part"
BAD_FILE = "bad_file"
MAIL_GIVEN_UP = "mail_given_up"
BROKEN_PROMISE = "broken_promise"

EDGES = frozenset({FAILED, LOST, MISSED, TOO_FAST, PAUSED})  # they happen; RECOVERED ends the first two
LEVELS = frozenset(  # they are so, or not
    {LATE, TOO_LONG, NO_WORKER, SILENT_PART, BAD_FILE, MAIL_GIVEN_UP, BROKEN_PROMISE}
)
SILENT_IF_OVER = LEVELS - {LATE}  # nobody hears of one that was over before it was told; a broken deadline stays broken
OF_SCHEDULES = EDGES | {LATE, TOO_LONG}
ENDED_BY_SUCCESS = frozenset({FAILED, LOST, MISSED, LATE, TOO_FAST})
ONLY_IF_AGAIN = frozenset({MISSED, TOO_FAST})  # told again only when it has happened again: the run itself is past

GATHER = dt.timedelta(seconds=30)  # equal troubles within it are told together
WAITS = {NO_WORKER: dt.timedelta(seconds=60)}  # a deployment leaves a kind without workers for some seconds
STORM = 5  # more equal ones than these are one letter …
STORM_GAP = dt.timedelta(minutes=5)  # … and those that come after it are gathered for longer
MOST_LETTERS = 200  # at once
FLAPS = 3  # openings …
CALM = dt.timedelta(hours=1)  # … within this; and so long it must be quiet until it is told again


@dataclass(frozen=True)
class Trouble:
    """Something wrong: it has just happened, or is so now."""

    subject: str
    event: str
    at: dt.datetime
    schedule_id: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    count: int = 1
    in_a_row: int = 1
    told_from: int = 1  # so many in a row open an alert


@dataclass(frozen=True)
class Over:
    """What was wrong with the subject is over."""

    subject: str
    at: dt.datetime
    task_id: int | None = None  # the task that ended it; an alert about this or a later one stays open
    is_quiet: bool = False  # nobody needs to hear: the schedule is no more
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Passed:
    """Something that was wrong, and was over before anybody looked."""

    trouble: Trouble
    over: Over


@dataclass
class AlertState:
    """An alert as it stands; `id` is None until it has a row."""

    subject: str
    event: str
    opened_at: dt.datetime
    last_at: dt.datetime
    schedule_id: int | None = None
    id: int | None = None
    told_at: dt.datetime | None = None
    closed_at: dt.datetime | None = None
    times: int = 1
    told_times: int = 0
    details: dict[str, Any] = field(default_factory=dict)
    is_changed: bool = False

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    @property
    def flaps(self) -> str | None:
        """`told` for the opening that was told as flapping, `silent` for those after it."""
        return self.details.get("flaps")

    @property
    def likeness(self) -> tuple[str, str]:
        """The same for alerts that a storm puts into one letter; numbers do not count."""
        error = str(self.details.get("error") or "") if self.event in (FAILED, LOST) else ""
        return self.event, re.sub(r"\d+", "#", error)

    def change(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        self.is_changed = True


def subject_of(event: str, schedule_id: int) -> str:
    return f"schedule:{schedule_id}:{event}"


# --- what is so -----------------------------------------------------------------------------------------------------


def hear(
    alerts: Sequence[AlertState],
    heard: Iterable[Trouble | Over],
    levels: Sequence[Trouble],
    over: Iterable[Over],
    now: dt.datetime,
    unknown: Collection[str] = (),
) -> list[AlertState]:
    """The alerts after all that, new ones last. `heard` in the order it happened; `levels` is all that is wrong now, so
    that a condition that is not in it is over, unless its event is `unknown`."""
    ledger = _Ledger(alerts)
    for one in heard:
        if isinstance(one, Over):
            _close(ledger, one)
        else:
            _count(ledger, one)
    ended = set()
    for end in over:
        _close(ledger, end)
        ended.add(end.subject)
    for level in levels:
        if level.subject not in ended:  # it was so a moment ago
            _hold(ledger, level)
    subjects = {level.subject for level in levels}
    for alert in ledger.alerts:
        if alert.is_open and alert.event in LEVELS and alert.subject not in subjects and alert.event not in unknown:
            _close(ledger, Over(alert.subject, now))
    return ledger.alerts


def hear_passed(alerts: Sequence[AlertState], passed: Iterable[Passed]) -> list[AlertState]:
    """The alerts, and one for each of those; a subject that has an open one is told by that."""
    ledger = _Ledger(alerts)
    for one in passed:
        if ledger.open_one(one.trouble.subject) is None:
            _open(ledger, one.trouble)
            _close(ledger, one.over)
    return ledger.alerts


class _Ledger:
    """The alerts, and those of each subject, the oldest first: at most the last of them is open."""

    def __init__(self, alerts: Iterable[AlertState]) -> None:
        self.alerts: list[AlertState] = []
        self._of_subject: dict[str, list[AlertState]] = {}
        for alert in alerts:
            self.add(alert)

    def add(self, alert: AlertState) -> None:
        self.alerts.append(alert)
        self._of_subject.setdefault(alert.subject, []).append(alert)

    def of(self, subject: str) -> list[AlertState]:
        return self._of_subject.get(subject, [])

    def open_one(self, subject: str) -> AlertState | None:
        return next((one for one in self.of(subject) if one.is_open), None)


def _count(ledger: _Ledger, trouble: Trouble) -> None:
    alert = ledger.open_one(trouble.subject)
    if alert is None:
        if trouble.in_a_row >= trouble.told_from:
            _open(ledger, trouble)
        return
    details = {**alert.details, **trouble.details}
    alert.change(times=alert.times + trouble.count, last_at=max(alert.last_at, trouble.at), details=details)


def _hold(ledger: _Ledger, level: Trouble) -> None:
    alert = ledger.open_one(level.subject)
    if alert is None:
        _open(ledger, level)
    elif any(alert.details.get(name) != value for name, value in level.details.items()):
        alert.change(details={**alert.details, **level.details}, last_at=max(alert.last_at, level.at))


def _open(ledger: _Ledger, trouble: Trouble) -> None:
    alert = AlertState(trouble.subject, trouble.event, trouble.at, trouble.at, trouble.schedule_id)
    alert.change(times=trouble.count, details=dict(trouble.details))
    alert.details |= _flapping(ledger.of(trouble.subject), alert)
    ledger.add(alert)


def _flapping(earlier: Sequence[AlertState], alert: AlertState) -> dict[str, Any]:
    """Whether the subject flaps, and if it has been told already, to whom and in which thread."""
    since = alert.opened_at - CALM
    for one in reversed(earlier):
        if one.flaps and one.closed_at is not None and one.closed_at > since:
            return {"flaps": "silent", "told": one.details.get("told", []), "thread": one.details.get("thread", one.id)}
    return {"flaps": "told"} if sum(one.opened_at > since for one in earlier) + 1 >= FLAPS else {}


def _close(ledger: _Ledger, over: Over) -> None:
    alert = ledger.open_one(over.subject)
    if alert is None or not _ends(over, alert):
        return
    closed_at = max(over.at, alert.opened_at)
    if alert.told_at is not None:  # what ended while it was being told is over after that, or nobody would hear
        closed_at = max(closed_at, alert.told_at + MICROSECOND)
    alert.change(closed_at=closed_at, details={**alert.details, **over.details})
    if over.is_quiet:
        alert.told_at = closed_at


def _ends(over: Over, alert: AlertState) -> bool:
    last = alert.details.get("task_id")
    if over.task_id is None or last is None:
        return True
    return bool(over.task_id >= last if alert.event == LATE else over.task_id > last)


# --- what is told ---------------------------------------------------------------------------------------------------

OPENED, AGAIN, PASSED, FLAPPING, CLOSED = "opened", "again", "passed", "flapping", "closed"

Route = Callable[[AlertState, bool], Sequence[str]]
"""The names of the contacts to tell of an alert; True asks for those who hear that it is over."""


@dataclass(frozen=True)
class Telling:
    """One letter to one contact: about an alert, or about a storm of equal ones."""

    what: str
    contact: str
    alerts: tuple[AlertState, ...]
    key: str
    replies_to: tuple[str, ...] = ()

    @property
    def alert(self) -> AlertState:
        return self.alerts[0]

    @property
    def is_storm(self) -> bool:
        return len(self.alerts) > STORM


def tell(
    alerts: Sequence[AlertState], route: Route, now: dt.datetime, realert: dt.timedelta, most: int = MOST_LETTERS
) -> list[Telling]:
    """The letters that are due, and the alerts marked as told. Every alert must have its id.

    After `most` letters the rest stays due: whoever writes them down holds up others meanwhile.
    """
    alike: dict[tuple[str, tuple[str, str]], list[AlertState]] = {}
    for what, alert in _due(alerts, now, realert):
        alike.setdefault((what, alert.likeness), []).append(alert)
    tellings: list[Telling] = []
    for (what, _), members in alike.items():
        if len(tellings) >= most:
            break
        tellings += _tell_alike(what, members, route, now)
    return tellings


def _tell_alike(what: str, members: list[AlertState], route: Route, now: dt.datetime) -> list[Telling]:
    contacts = {id(alert): list(dict.fromkeys(route(alert, what == CLOSED))) for alert in members}
    of_contact: dict[str, list[AlertState]] = {}
    for alert in sorted(members, key=lambda one: one.id or 0):
        for contact in contacts[id(alert)]:
            of_contact.setdefault(contact, []).append(alert)
    tellings = [one for contact, theirs in of_contact.items() for one in _tellings(what, contact, theirs, now)]
    for alert in members:
        _mark(alert, what, contacts[id(alert)], now)
    return tellings


def _due(alerts: Sequence[AlertState], now: dt.datetime, realert: dt.timedelta) -> list[tuple[str, AlertState]]:
    newest = {one.subject: one for one in sorted(alerts, key=lambda one: one.id or 0)}
    _hush(alerts, newest, now)
    ready = _gathered([one for one in alerts if one.told_at is None], alerts, now)
    found = [(FLAPPING if one.flaps else OPENED if one.is_open else PASSED, one) for one in ready]
    for alert in alerts:
        if alert.told_at is None:
            continue
        if alert.closed_at is None:
            is_new = alert.event not in ONLY_IF_AGAIN or alert.last_at > alert.told_at
            if is_new and now - alert.told_at >= realert:
                found.append((AGAIN, alert))
        elif alert.told_at < alert.closed_at <= now - (CALM if alert.flaps else GATHER):
            found.append((CLOSED, alert))
    return found


def _hush(alerts: Iterable[AlertState], newest: Mapping[str, AlertState], now: dt.datetime) -> None:
    """Mark as told what need not be: conditions that were over before anybody heard, and what flaps."""
    for alert in alerts:
        untold = alert.told_at is None
        if alert.closed_at is None:
            if untold and alert.flaps == "silent":
                alert.change(told_at=now)
        elif alert.told_at is not None and alert.told_at >= alert.closed_at:
            continue
        elif alert.flaps and newest[alert.subject] is not alert and not (untold and alert.flaps == "told"):
            alert.change(told_at=alert.closed_at)  # it has opened again since
        elif untold and alert.flaps == "silent":
            alert.change(told_at=alert.opened_at)  # that it is calm again is still to be told
        elif untold and alert.event in SILENT_IF_OVER and not alert.flaps:
            alert.change(told_at=alert.closed_at)


def _gathered(untold: Iterable[AlertState], alerts: Sequence[AlertState], now: dt.datetime) -> list[AlertState]:
    """Those whose group has been gathered for long enough."""
    groups: dict[tuple[str, str], list[AlertState]] = {}
    for one in untold:
        groups.setdefault(one.likeness, []).append(one)
    ready = []
    for likeness, members in groups.items():
        due_at = min(one.opened_at for one in members) + WAITS.get(likeness[0], GATHER)
        storms = [one.details["led_at"] for one in alerts if one.details.get("led_at") and one.likeness == likeness]
        due_at = max([due_at, *(dt.datetime.fromisoformat(moment) + STORM_GAP for moment in storms)])
        if due_at <= now:
            ready.extend(members)
    return ready


def _tellings(what: str, contact: str, members: list[AlertState], now: dt.datetime) -> list[Telling]:
    """A letter each, or one for a storm; whose members then know who leads them, and since when."""
    if len(members) <= STORM:
        return [_telling(what, contact, (one,)) for one in members]
    if what in (OPENED, PASSED):
        for one in members:
            led = {**one.details.get("led", {}), contact: members[0].id}
            one.details = {**one.details, "led": led, "led_at": now.isoformat()}
    return [_telling(what, contact, tuple(members))]


def _telling(what: str, contact: str, members: tuple[AlertState, ...]) -> Telling:
    first = members[0]
    begun = what in (OPENED, PASSED, FLAPPING)
    step = "opened" if begun else f"again-{first.told_times}" if what == AGAIN else "closed"
    opened = first.details.get("led", {}).get(contact) or first.details.get("thread") or first.id
    thread = () if begun else (f"alert:{opened}:opened",)
    return Telling(what, contact, members, f"alert:{first.id}:{step}", thread)


def _mark(alert: AlertState, what: str, contacts: Sequence[str], now: dt.datetime) -> None:
    details = {**alert.details, "told": list(contacts)} if contacts and what != CLOSED else alert.details
    told_at = alert.opened_at if what == FLAPPING and not alert.is_open else now  # then its calm is still to be told
    alert.change(told_at=told_at, told_times=alert.told_times + bool(contacts), details=details)
