"""Watches the schedule file, and the folder of further ones, and puts a good change in force; a bad one changes nothing
and is told.

By looking at them each second, through links: that sees an editor's rename, a ConfigMap's swap and a file on NFS, which
a watch on the file itself misses. A change is taken once two looks in a row have found the same content of all files,
so that one half written is never read as whole.
"""

from __future__ import annotations

import hashlib
import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import iso, utc_now
from scheduler.engine.file.apply import apply, current_author, why_outdated
from scheduler.engine.file.schedule_files import read_schedule_file
from scheduler.errors import FileFaults, Refused
from scheduler.rules.askers import FILE, Asker
from scheduler.rules.file.schedule_file import load_book
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.task_functions import Catalogue

log = logging.getLogger(__name__)

MOST_FAULTS = 20  # kept for the status page; the file itself has them all


@dataclass(frozen=True)
class Seen:
    """What a look at the file found."""

    mark: str  # of the content, or of why it cannot be read
    content: bytes = b""
    faults: FileFaults | None = None


class FileWatch:
    def __init__(self, path: Path, database: Database, room: WaitingRoom, catalogue: Catalogue) -> None:
        self.path = path
        self.database = database
        self.room = room
        self.catalogue = catalogue
        self.trouble: dict[str, Any] | None = None  # {message, faults, since}: why the file is not in force
        self._judged: str | None = None  # the mark of what was last taken or refused
        self._last: str | None = None

    @property
    def text_hash(self) -> str | None:
        """The hash of the text that was last taken or refused, as revisions have it; None before the first."""
        return self._judged

    def step(self) -> None:
        """One look. Raises DatabaseAway; the file is then judged at the next look."""
        seen = self._look()
        settled = seen.mark == self._last
        self._last = seen.mark
        if seen.mark == self._judged:
            self._see_whether_confirmed()
            return
        if not settled:
            return
        try:
            self._take(seen)
        except FileFaults as faults:
            self._refuse(str(faults), [str(fault).splitlines()[0] for fault in faults.faults[:MOST_FAULTS]])
        except Refused as refused:
            self._refuse(str(refused), [str(refused)])
        self._judged = seen.mark

    def _see_whether_confirmed(self) -> None:
        """What this watch has refused may be in force by now: `scheduler apply` puts it so, confirmed or once more."""
        if self.trouble is None:
            return
        with self.database.read() as session:
            latest = schedules.latest_revision(session)
        if latest is not None and latest.text_hash == self._judged:
            self.trouble = None

    def _look(self) -> Seen:
        try:
            content = read_schedule_file(self.path)
        except FileFaults as faults:
            return Seen(f"unreadable: {faults}", faults=faults)
        return Seen(hashlib.sha256(content).hexdigest(), content)

    def _take(self, seen: Seen) -> None:
        if seen.faults is not None:
            raise seen.faults
        loaded = load_book(
            seen.content,
            file=str(self.path),
            functions=self.catalogue.functions,
            broken=self.catalogue.broken,
            now=utc_now(),
        )
        if loaded.book is None:
            raise FileFaults(loaded.faults)
        outdated = why_outdated(self.database, self.path, seen.content) if self._judged is None else None
        if outdated is not None:
            raise Refused(outdated)
        asker = Asker(current_author(), FILE, socket.gethostname())
        applied = apply(self.database, self.room, loaded.book, seen.content, asker=asker)
        self.trouble = None
        if applied.revision is not None:
            log.info(
                "%s is in force as revision %d: %s",
                self.path,
                applied.revision,
                applied,
                extra={"event": "file_applied"},
            )

    def _refuse(self, message: str, faults: list[str]) -> None:
        self.trouble = {"message": faults[0], "faults": faults, "since": iso(utc_now())}
        log.error("The last good version stays in force:\n%s", message, extra={"event": "file_refused"})
