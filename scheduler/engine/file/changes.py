"""What would change, what has changed, and the way back: the schedule file against SQL, and the revisions.

`difference` and the history only read; they work while the service is down.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import iso, utc_now
from scheduler.engine.file.apply import Applied, apply
from scheduler.engine.file.schedule_files import read_schedule_file
from scheduler.errors import FileFaults, NotFound
from scheduler.rules.askers import Asker
from scheduler.rules.file.diff import BookDiff, diff_books
from scheduler.rules.file.digests import with_digests
from scheduler.rules.file.schedule_file import Loaded, load_book, source_text_hash
from scheduler.rules.file.several_files import FOLDER, further_names
from scheduler.rules.spec import Book, ScheduleSpec
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.schedules import pauses_of
from scheduler.store.tables import Revision
from scheduler.task_functions import Catalogue


@dataclass(frozen=True)
class Difference:
    """What a file would change."""

    revision: int | None  # what it was held against; None: nothing is in force yet
    diff: BookDiff
    held: dict[str, str]  # of the schedules that differ, those a pause holds, and which: it stays unless the file says
    same_text: bool = False


def difference(database: Database | None, book: Book, text: bytes) -> Difference:
    """What the file would change of what is in force; all of it is new where there is no database yet."""
    if database is None:
        return Difference(None, diff_books({}, with_digests(book).schedules, utc_now()), {})
    with database.read() as session:
        now = schedules.now(session)
        latest = schedules.latest_revision(session)
        rows = schedules.all_schedules(session)
    # A spec of another version of this program cannot be read: then an apply writes it anew, and here it counts as new.
    old = {row.name: spec for row in rows if (spec := _read(row.spec)) is not None}
    diff = diff_books(old, with_digests(book).schedules, now)
    differing = {one.was or one.name for one in diff.schedules}
    held = {row.name: "; ".join(map(str, pauses_of(row))) for row in rows if row.name in differing and pauses_of(row)}
    same_text = latest is not None and latest.text_hash == source_text_hash(text)
    return Difference(latest.id if latest else None, diff, held, same_text)


def _read(spec: dict[str, Any]) -> ScheduleSpec | None:
    try:
        return ScheduleSpec.model_validate(spec)
    except ValueError:
        return None


def revisions(database: Database, limit: int, *, before: int | None = None) -> list[dict[str, Any]]:
    """The latest revisions (those with a number below `before`), newest first, without their texts."""
    columns = (
        Revision.id,
        Revision.accepted_at,
        Revision.author,
        Revision.host,
        Revision.file,
        Revision.changes,
    )
    query = select(*columns).order_by(Revision.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Revision.id < before)
    with database.read() as session:
        rows = session.execute(query).all()
    return [_revision(row) for row in rows]


def revision(database: Database, number: int) -> dict[str, Any]:
    """One revision, with its text. Raises NotFound."""
    row = _row(database, number)
    return {**_revision(row), "text": row.text}


def _revision(row: Any) -> dict[str, Any]:
    changes = row.changes
    return {
        "revision": row.id,
        "accepted_at": iso(row.accepted_at),
        "author": row.author,
        "host": row.host,
        "file": row.file,
        "rollback_to": changes.get("rollback_to"),
        **{key: changes.get(key, []) for key in ("added", "changed", "described", "removed")},
        "renamed": changes.get("renamed", {}),
        "keys": changes.get("keys", {}),
    }


def _row(database: Database, number: int) -> Revision:
    with database.read() as session:
        found = session.get(Revision, number)
        latest = schedules.latest_revision(session)
    if found is None:
        last = f"the last one is {latest.id}" if latest else "there is none yet"
        raise NotFound(f"There is no revision {number}; {last}. `scheduler history` lists them.")
    return found


@dataclass(frozen=True)
class RolledBack:
    applied: Applied
    loaded: Loaded
    file_differs: bool  # the file on disk does not hold the text that is now in force
    further: tuple[str, ...] = ()  # the names of the files beside the main one that the text holds


def roll_back(
    database: Database,
    room: WaitingRoom | None,
    number: int,
    catalogue: Catalogue,
    file: Path,
    *,
    confirm: bool = False,
    author: str | None = None,
    asker: Asker | None = None,
) -> RolledBack:
    """Put the text of a revision in force again, as a new revision, read by today's program and task functions.

    Raises FileFaults when it can no longer be taken, Refused as an apply does.
    """
    row = _row(database, number)
    text = row.text.encode("utf-8", "surrogatepass")
    loaded = load_book(
        text,
        file=f"revision {number}",
        folder=f"revision {number}, {FOLDER}",
        functions=catalogue.functions,
        broken=catalogue.broken,
        now=utc_now(),
    )
    if loaded.book is None:
        raise FileFaults(loaded.faults)
    book = loaded.book.model_copy(update={"file": row.file})
    applied = apply(
        database,
        room,
        book,
        text,
        confirm=confirm,
        author=author,
        asker=asker,
        rollback_to=number,
        names_before=_names_now(database, number),
    )
    return RolledBack(applied, loaded, _differs(file, row.text_hash), tuple(further_names(text)))


def _names_now(database: Database, number: int) -> dict[str, str]:
    """Under which name each schedule that was renamed after the revision goes now, by the name it had then."""
    names: dict[str, str] = {}
    with database.read() as session:
        later = session.scalars(select(Revision.changes).where(Revision.id > number).order_by(Revision.id)).all()
    for changes in later:
        for old, new in changes.get("renamed", {}).items():
            then = next((then for then, now in names.items() if now == old), old)
            names[then] = new
    return {then: now for then, now in names.items() if then != now}


def _differs(file: Path, text_hash: str) -> bool:
    try:
        return source_text_hash(read_schedule_file(file)) != text_hash
    except FileFaults:
        return True
