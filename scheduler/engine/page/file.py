"""What the page of the schedule file shows: the text in force, what is on the disk, and how revisions differ.

Texts may have megabytes: what is shown, compared and checked at once is bounded, and said where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from itertools import islice

from sqlalchemy import select

from scheduler.clock import utc_now
from scheduler.engine.file.schedule_files import load_schedule_file, read_schedule_file
from scheduler.errors import Fault, FileFaults, NotFound
from scheduler.rules.file.schedule_file import source_text_hash
from scheduler.rules.task.masking import Masker
from scheduler.settings import Settings
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.tables import Revision
from scheduler.task_functions import Catalogue

SHOWN_LETTERS = 60_000
CHECKED_AT_ONCE = 150_000  # bytes; a larger file is checked when asked for
MOST_COMPARED = 6_000  # lines of each side
MOST_DIFF_LINES = 1_000
MOST_FAULTS = 50


@dataclass(frozen=True)
class OnDisk:
    """The schedule file as this process finds it on the disk."""

    file: str
    is_in_force: bool = False
    is_checked: bool = True
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    schedules: int | None = None  # None when it has faults, or was not checked


@dataclass(frozen=True)
class TextDiff:
    """Lines, each with its sign: «+», «-», «@» for where the next ones stand, and a blank."""

    lines: tuple[tuple[str, str], ...] = ()
    is_cut: bool = False
    is_too_long: bool = False  # the texts were not compared


def on_disk(database: Database, settings: Settings, catalogue: Catalogue, *, anyhow: bool = False) -> OnDisk:
    """What is on the disk, checked where it is not long, or `anyhow`."""
    file = str(settings.file)
    try:
        text = read_schedule_file(settings.file)
        with database.read() as session:
            latest = schedules.latest_revision(session)
        if latest is not None and latest.text_hash == source_text_hash(text):
            return OnDisk(file, is_in_force=True)
        if len(text) > CHECKED_AT_ONCE and not anyhow:
            return OnDisk(file, is_checked=False)
        _, loaded = load_schedule_file(settings.file, catalogue, utc_now(), look_ahead=True)
    except FileFaults as error:
        return OnDisk(file, faults=error.faults[:MOST_FAULTS])
    number = None if loaded.book is None else len(loaded.book.schedules)
    return OnDisk(file, False, True, loaded.faults[:MOST_FAULTS], loaded.warnings[:MOST_FAULTS], number)


def text_of(database: Database, number: int, *, letters: int | None = None) -> str:
    """The text of a revision, or whole lines of its beginning; what looks like a secret is masked. Raises NotFound."""
    text = _raw_text(database, number)
    if letters is not None and len(text) > letters:
        text = text[: text.rfind("\n", 0, letters) + 1]
    return "\n".join(map(Masker().text, text.split("\n")))


def text_diff(database: Database, old: int, new: int) -> TextDiff:
    """What differs between the texts of two revisions, with three lines round it. Raises NotFound."""
    before, after = _raw_text(database, old).split("\n"), _raw_text(database, new).split("\n")
    if max(len(before), len(after)) > MOST_COMPARED:
        return TextDiff(is_too_long=True)
    lines = list(islice(_signed(before, after), MOST_DIFF_LINES + 1))
    masked = Masker().text
    shown = tuple((sign, masked(line)) for sign, line in lines[:MOST_DIFF_LINES])
    return TextDiff(shown, is_cut=len(lines) > MOST_DIFF_LINES)


def _raw_text(database: Database, number: int) -> str:
    with database.read() as session:
        text = session.execute(select(Revision.text).where(Revision.id == number)).scalar()
    if text is None:
        raise NotFound(f"There is no revision {number}")
    return text


def _signed(before: list[str], after: list[str]) -> Iterator[tuple[str, str]]:
    for line in islice(unified_diff(before, after, lineterm="", n=3), 2, None):  # without the names of files
        yield (line[:1], line) if line.startswith("@@") else (line[:1], line[1:])
