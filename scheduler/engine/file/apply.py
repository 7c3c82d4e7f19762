"""Apply: the file becomes rows, in one transaction, as a revision. Taken whole or not at all.

Nothing fires after the fact because of an edit: a schedule that is new or changed is planned from the moment it is
accepted. What has not started under the old version is cancelled; what runs is left alone.
"""

from __future__ import annotations

import datetime as dt
import getpass
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.file.schedule_files import last_touched
from scheduler.engine.pauses import hold, release, settle_past
from scheduler.errors import RedisAway, Refused
from scheduler.kill_points import point
from scheduler.rules.askers import Asker
from scheduler.rules.file.diff import is_mass_removal, key_changes
from scheduler.rules.file.digests import is_digest, with_digests
from scheduler.rules.file.schedule_file import source_text_hash
from scheduler.rules.spec import Book, FilePause, ScheduleSpec
from scheduler.rules.states import PLANNED, QUEUED
from scheduler.store import audit, schedules, tasks
from scheduler.store.database import Database
from scheduler.store.tables import Revision, Schedule, Task

MOST_TOLD = 50  # schedules of which a revision keeps what changed, key by key


@dataclass
class Applied:
    """What an apply did."""

    revision: int | None = None  # None: the file is in force already
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    described: list[str] = field(default_factory=list)  # only words for people changed: owner, about, tags
    removed: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)  # old name -> new name
    unchanged: int = 0
    cancelled: int = 0  # tasks that had not started under the old version

    def changes(self) -> dict[str, Any]:
        return {
            "added": self.added,
            "changed": self.changed,
            "described": self.described,
            "removed": self.removed,
            "renamed": self.renamed,
        }

    def __str__(self) -> str:
        parts = [
            f"{len(names)} {word}"
            for word, names in (
                ("added", self.added),
                ("changed", self.changed + self.described),
                ("removed", self.removed),
                ("renamed", list(self.renamed)),
            )
            if names
        ]
        return ", ".join([*parts, f"{self.unchanged} unchanged"])


def apply(
    database: Database,
    room: WaitingRoom | None,
    book: Book,
    text: bytes,
    *,
    confirm: bool = False,
    author: str | None = None,
    asker: Asker | None = None,
    rollback_to: int | None = None,
    names_before: Mapping[str, str] | None = None,
) -> Applied:
    """Put the book in force. Raises Refused when too much would vanish unconfirmed.

    A rollback says with `rollback_to` which revision's text this is, and with `names_before` under which names
    schedules of it go now: they are renamed as if `was` stood in the text.

    Without `room`, or when Redis is away, what is withdrawn stays in Redis for reconcile; its claims change no row.
    """
    with database.write() as session:
        schedules.take_turns(session)
        point("apply.after_turn")
        applying = _Applying(session, book, text, schedules.now(session), rollback_to, names_before or {})
        author = asker.name if asker is not None else author or current_author()
        applied = applying.run(confirm, author)
        if applied.revision is not None:
            _note(session, asker or Asker(author, address=socket.gethostname()), applied, rollback_to)
        point("apply.after_version")
    point("apply.after_commit")
    if room is not None and applying.withdrawn:
        with suppress(RedisAway):  # reconcile removes them; until then they are jobs that no row answers to
            room.withdraw(applying.withdrawn)
    return applied


def _note(session: Session, asker: Asker, applied: Applied, rollback_to: int | None) -> None:
    """Write down in the audit who put the revision in force."""
    action = "apply" if rollback_to is None else "rollback"
    details = {"changes": str(applied), **({} if rollback_to is None else {"to": rollback_to})}
    audit.record(session, asker, action, f"revision {applied.revision}", details)


def why_outdated(database: Database, path: Path, text: bytes) -> str | None:
    """Why the file, as a starting service finds it, is not to be taken: it is a copy of a version that another has
    replaced, and has not been touched since. None: it may be taken.

    So a restart undoes neither a rollback nor what a newer copy on another host has brought.
    """
    with database.read() as session:
        latest = schedules.latest_revision(session)
        same = schedules.last_accepted(session, source_text_hash(text))
    if latest is None or same is None or same.id == latest.id:
        return None
    try:
        touched_at = last_touched(path)
    except OSError:
        return None
    # A file that is mounted anew at each start (a ConfigMap) is always younger than a rollback; it undoes none.
    if touched_at > latest.accepted_at and not latest.changes.get("rollback_to"):
        return None
    return (
        f"{path} is the text of revision {same.id}, which revision {latest.id} has replaced since; "
        f"revision {latest.id} stays in force. `scheduler apply` puts the file in force."
    )


def current_author() -> str:
    """Who is at the keyboard, as far as the system knows."""
    try:
        return os.environ.get("SCHEDULER_AUTHOR") or getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


class _Applying:
    def __init__(
        self,
        session: Session,
        book: Book,
        text: bytes,
        now: dt.datetime,
        rollback_to: int | None,
        names_before: Mapping[str, str],
    ) -> None:
        self.rollback_to = rollback_to
        self.names_before = names_before
        self.session = session
        self.book = with_digests(book)
        self.text = text.decode("utf-8", "replace")
        self.now = now
        self.latest = schedules.latest_revision(session)
        self.known = {schedule.name: schedule for schedule in schedules.all_schedules(session, retired=True)}
        self.done = Applied()
        self.withdrawn: list[tuple[int, int, str]] = []
        self._marks: dict[str, str] = {}

    def run(self, confirm: bool, author: str) -> Applied:
        self._rename()
        added, changed, described, removed, unchanged = self._sort()
        self._refuse_mass_removal(removed, confirm)
        pauses = [name for name in unchanged + described if self._pause_differs(name)]
        self.done.unchanged = len(unchanged) - len([name for name in pauses if name in set(unchanged)])
        self.done.described = sorted({*described, *pauses})
        self.done.added, self.done.changed, self.done.removed = added, changed, [one.name for one in removed]
        if self._is_in_force():
            return self.done
        revision = self._add_revision(author)
        for name in added:
            self._add(name, revision)
        for name in changed:
            self._change(name, revision)
        for name in described:
            self.known[name].spec = self._dump(name)
            self.known[name].revision_id = revision.id
        self.session.flush()  # once for all: new schedules have their ids from here on
        for name in (*added, *changed, *pauses):
            self._apply_pause(self.known[name], self.book.schedules[name].paused)
        for name in pauses:
            self.known[name].spec = self._dump(name)
        for schedule in removed:
            self._remove(schedule)
        self.done.revision = revision.id
        return self.done

    def _is_in_force(self) -> bool:
        if self.latest is None or any(self.done.changes().values()):
            return False
        return self.latest.text_hash == source_text_hash(self.text) and self.latest.book == self._book_fields()

    def _book_fields(self) -> dict[str, Any]:
        return self.book.model_dump(mode="json", exclude={"schedules", "file"})

    # --- what differs -----------------------------------------------------------------------------------------------

    def _rename(self) -> None:
        """Give the row of a schedule's old name its new one, so that history and pause go along."""
        for name, spec in self.book.schedules.items():
            was = spec.was or self.names_before.get(name)
            if was is None or name in self.known or was not in self.known or was in self.book.schedules:
                continue
            schedule = self.known.pop(was)
            schedule.name = name
            self.known[name] = schedule
            self.done.renamed[was] = name
        self.session.flush()

    def _sort(self) -> tuple[list[str], list[str], list[str], list[Schedule], list[str]]:
        added, changed, described, unchanged = [], [], [], []
        renamed = set(self.done.renamed.values())
        for name, spec in self.book.schedules.items():
            schedule = self.known.get(name)
            if schedule is None or schedule.retired_at is not None:
                added.append(name)
            elif schedule.fingerprint != self._mark(name, spec):
                changed.append(name)
            elif schedule.spec != self._dump(name) and not self._differs_in_pause_alone(schedule, name):
                described.append(name)
            elif name not in renamed:
                unchanged.append(name)
        removed = [one for one in self.known.values() if one.retired_at is None and one.name not in self.book.schedules]
        return added, changed, described, removed, unchanged

    def _mark(self, name: str, spec: ScheduleSpec) -> str:
        if name not in self._marks:
            self._marks[name] = spec.fingerprint()
        return self._marks[name]

    def _dump(self, name: str) -> dict[str, Any]:
        return self.book.schedules[name].model_dump(mode="json")

    def _differs_in_pause_alone(self, schedule: Schedule, name: str) -> bool:
        return {**schedule.spec, "paused": None} == {**self._dump(name), "paused": None}

    def _pause_differs(self, name: str) -> bool:
        return bool(self.known[name].spec.get("paused") != self._dump(name)["paused"])

    def _refuse_mass_removal(self, removed: list[Schedule], confirm: bool) -> None:
        active = sum(one.retired_at is None and not is_digest(one.name) for one in self.known.values())
        removed = [one for one in removed if not is_digest(one.name)]
        if confirm or not is_mass_removal(len(removed), active):
            return
        command = "apply" if self.rollback_to is None else f"rollback {self.rollback_to}"
        names = ", ".join(sorted(one.name for one in removed)[:5])
        raise Refused(
            f"{len(removed)} of {active} schedules would vanish ({names}, …); nothing was changed. "
            f"If that is meant, say so: `scheduler {command} --confirm`."
        )

    # --- what is done about it --------------------------------------------------------------------------------------

    def _add_revision(self, author: str) -> Revision:
        revision = Revision(
            accepted_at=self.now,
            author=author,
            host=socket.gethostname(),
            file=self.book.file,
            text=self.text,
            text_hash=source_text_hash(self.text),
            changes=self._told(),
            book=self._book_fields(),
        )
        self.session.add(revision)
        self.session.flush()
        return revision

    def _told(self) -> dict[str, Any]:
        """What the revision keeps of its changes, for `scheduler history`: names, and the keys of the first of them."""
        told = self.done.changes()
        names = dict.fromkeys((*self.done.changed, *self.done.described))
        keys = {name: self._key_changes(name) for name in list(names)[:MOST_TOLD]}
        told["keys"] = {name: changes for name, changes in keys.items() if changes}
        if self.rollback_to is not None:
            told["rollback_to"] = self.rollback_to
        return told

    def _key_changes(self, name: str) -> list[dict[str, str]]:
        try:
            old = ScheduleSpec.model_validate(self.known[name].spec)
        except ValueError:  # written by another version of this program; the names are told all the same
            return []
        return [change.as_json() for change in key_changes(old, self.book.schedules[name])]

    def _add(self, name: str, revision: Revision) -> None:
        schedule = self.known.get(name)
        if schedule is None:
            schedule = Schedule(name=name, planned_runs=0, failures_in_a_row=0)
            self.known[name] = schedule
            self.session.add(schedule)
        self._put_in_force(schedule, revision)

    def _change(self, name: str, revision: Revision) -> None:
        schedule = self.known[name]
        self.withdrawn.extend(settle_past(self.session, schedule, self.now))
        self._cancel_unstarted(schedule, "edited", "its schedule was edited before it started")
        self._put_in_force(schedule, revision)

    def _put_in_force(self, schedule: Schedule, revision: Revision) -> None:
        spec = self.book.schedules[schedule.name]
        schedule.spec = self._dump(schedule.name)
        schedule.fingerprint = self._mark(schedule.name, spec)
        schedule.revision_id = revision.id
        schedule.in_force_since = self.now
        schedule.planned_until = self.now
        schedule.planned_runs = 0
        schedule.parked = None
        schedule.retired_at = None

    def _apply_pause(self, schedule: Schedule, wanted: FilePause | None) -> None:
        """What the file says of a pause; a word less than «false» leaves the operator's alone."""
        if wanted is not None and wanted.paused and (wanted.until is None or wanted.until > self.now):
            pause = schedules.pause_fields(self.book.file, wanted.why, self.now, wanted.until)
            self.withdrawn.extend(hold(self.session, schedule, pause, self.now, by_file=True))
        else:
            if schedule.file_pause is not None:
                self.withdrawn.extend(release(self.session, schedule, self.now, by_file=True))
            if wanted is not None and not wanted.paused and schedule.pause is not None:
                self.withdrawn.extend(release(self.session, schedule, self.now))

    def _remove(self, schedule: Schedule) -> None:
        self.withdrawn.extend(settle_past(self.session, schedule, self.now))
        schedule.retired_at = self.now
        schedule.pause = None
        schedule.file_pause = None
        self._cancel_unstarted(schedule, "removed", "its schedule was removed from the file", retrying=True)

    def _cancel_unstarted(self, schedule: Schedule, code: str, reason: str, *, retrying: bool = False) -> None:
        conditions = [Task.schedule_id == schedule.id]
        if not retrying:
            conditions += [Task.attempt == 0, Task.fire_time.is_not(None), Task.state.in_((PLANNED, QUEUED))]
        rows = tasks.cancel_waiting(self.session, *conditions, code=code, reason=reason)
        self.done.cancelled += len(rows)
        self.withdrawn.extend((row.id, row.attempt + 1, row.queue) for row in rows)
