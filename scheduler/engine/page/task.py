"""What the page of one task shows beside the task itself: the end of its log, its result cut to size, its files.

A log may have megabytes and a result one: a page reads the end of the one and the beginning of the other.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import func, select

from scheduler.clock import parse_iso
from scheduler.engine.answers.status import alive, parts_of
from scheduler.engine.answers.views import LogPiece, task_of
from scheduler.engine.work.artifacts import FOLDER, place_of
from scheduler.errors import NotFound
from scheduler.rules.brief import brief
from scheduler.rules.pretty_json import pretty
from scheduler.rules.states import QUEUED, RUNNING, UNFINISHED
from scheduler.rules.task.results import HTML, JSON, LINK, TEXT
from scheduler.settings import Settings
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.tables import Artifact, LogChunk, Task

TAIL_LETTERS = 30_000  # of a log: some 400 lines
MOST_CHUNKS = 400  # of a log that are looked at for its tail, and of what is new since the last look
SHOWN_LETTERS = 20_000  # of a result
WIDTH = 100  # letters of a line of a JSON result
PICTURES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""What a page shows as a picture. No SVG: it can hold a script."""
NO_MEDIA = "application/octet-stream"
MOST_OF_SET = 24  # pictures of a result that are shown
LONGEST_START = 16  # bytes by which a picture is known
_BEGINNINGS = (
    ("image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    ("image/gif", re.compile(rb"GIF8[79]a")),
    ("image/webp", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
)


@dataclass(frozen=True)
class LogTail:
    """The end of a log."""

    pieces: tuple[LogPiece, ...]  # the oldest first
    is_cut: bool  # there is more before

    @property
    def last(self) -> int:
        """The id of the last piece, to ask for what comes after it."""
        return self.pieces[-1].id if self.pieces else 0


@dataclass(frozen=True)
class ShownResult:
    """A result as a page shows it: a text, or the address of a link."""

    kind: str
    text: str
    is_cut: bool = False
    title: str = ""  # of a link


@dataclass(frozen=True)
class KeptFile:
    """A file that a run left, as it goes out."""

    name: str
    media_type: str
    size: int
    file: BinaryIO

    @property
    def sent_as(self) -> str:
        """What a browser may take it for: a picture, else nothing that it would run or show."""
        return self.media_type if self.media_type in PICTURES else NO_MEDIA


def log_tail(database: Database, task_id: int, *, letters: int = TAIL_LETTERS) -> LogTail:
    """The last pieces of a task's log, of all attempts; a first piece may be cut to its last lines."""
    sizes = select(LogChunk.id, func.length(LogChunk.lines).label("size")).where(LogChunk.task_id == task_id)
    with database.read() as session:
        last = session.execute(sizes.order_by(LogChunk.id.desc()).limit(MOST_CHUNKS + 1)).all()
        wanted, left = 0, letters
        while wanted < min(len(last), MOST_CHUNKS) and left > 0:  # only those are read: one may have a million letters
            left -= last[wanted].size
            wanted += 1
        if not wanted:
            return LogTail((), is_cut=False)
        query = select(LogChunk.id, LogChunk.attempt, LogChunk.lines).where(LogChunk.task_id == task_id)
        rows = session.execute(
            query.where(LogChunk.id >= last[wanted - 1].id).order_by(LogChunk.id).limit(wanted)
        ).all()
    pieces = [LogPiece(row.id, row.attempt, row.lines.split("\n")) for row in rows]
    if left < 0:
        whole_lines = rows[0].lines[-left:].partition("\n")[2]
        pieces[:1] = [replace(pieces[0], lines=whole_lines.split("\n"))] if whole_lines else []
    return LogTail(tuple(pieces), is_cut=left < 0 or wanted < len(last))


def log_since(database: Database, task_id: int, after: int) -> tuple[LogPiece, ...]:
    """What was logged since the piece `after`; of very much the first part."""
    query = select(LogChunk.id, LogChunk.attempt, LogChunk.lines)
    query = query.where(LogChunk.task_id == task_id, LogChunk.id > after).order_by(LogChunk.id).limit(MOST_CHUNKS)
    found: list[LogPiece] = []
    letters = 0
    with database.read() as session:
        for row in session.execute(query):
            found.append(LogPiece(row.id, row.attempt, row.lines.split("\n")))
            letters += len(row.lines)
            if letters > 10 * TAIL_LETTERS:
                break
    return tuple(found)


def shown_result(task: dict[str, Any], *, letters: int = SHOWN_LETTERS) -> ShownResult | None:
    """The task's result, cut where it is long; None when there is none, or it is files."""
    result, kind = task["result"], task["result_kind"] or JSON
    if result is None or task["artifacts"]:
        return None
    if kind in (TEXT, HTML, LINK) and isinstance(result.get("value"), str) and not _leads_elsewhere(kind, result):
        text, title = result["value"], str(result.get("title") or "")
    else:
        kind, title = JSON, ""
        value = result["value"] if list(result) == ["value"] else result
        text = pretty(value, WIDTH)
    return ShownResult(kind, text[:letters], len(text) > letters, title)


def _leads_elsewhere(kind: str, result: dict[str, Any]) -> bool:
    """Whether it is a link that no browser may follow; a worker stores none, but a row may have come by another way."""
    return kind == LINK and not result["value"].lower().startswith(("https://", "http://"))


def why_it_waits(database: Database, task: dict[str, Any]) -> str:
    """What keeps a task that is due from starting, where it can be told; "" when nothing does, or it has started."""
    if task["state"] not in UNFINISHED - {RUNNING}:
        return ""
    with database.read() as session:
        now = schedules.now(session)
        if parse_iso(task["due_at"]) > now:
            return ""
        seen = parts_of(session, now)
    waits = f"waits {brief(now - parse_iso(task['due_at']))}"
    if not alive(seen, f"worker-{task['kind']}"):
        return f"It {waits} for a worker: none of kind {task['kind']} has ticked lately. Start one."
    if task["state"] != QUEUED and not alive(seen, "dispatcher"):
        return f"It {waits} for the dispatcher, which has not ticked lately."
    return ""


def is_picture(artifact: dict[str, Any]) -> bool:
    """Whether a page shows this file as a picture."""
    return artifact["media_type"] in PICTURES and not artifact["path"].startswith("/")


@contextmanager
def kept_file(database: Database, settings: Settings, task_id: int, artifact_id: int) -> Iterator[KeptFile]:
    """A file of the task, opened. Raises NotFound when there is none, or it is not where it was kept."""
    with database.read() as session:
        query = select(Artifact).join(Task, Task.id == Artifact.task_id)
        row = session.scalars(query.where(Artifact.id == artifact_id, Artifact.task_id == task_id)).first()
    if row is None:
        raise NotFound(f"Task {task_id} has no file {artifact_id}")
    if row.path.startswith("/"):
        raise NotFound(f"The file was left where it is, on the host of its worker: {row.path}")
    with _opened(place_of(settings, row.path), settings.data / FOLDER, f"File {artifact_id} of task {task_id}") as file:
        yield KeptFile(row.name, row.media_type, os.fstat(file.fileno()).st_size, file)


@contextmanager
def set_picture(database: Database, settings: Settings, task_id: int, number: int) -> Iterator[KeptFile]:
    """The `number`-th picture (1, 2, …) that the result of a task like create_image_set names, opened.

    Raises NotFound when there is none, it is not in the data folder, or is no picture by its first bytes.
    """
    what = f"Picture {number} of task {task_id}"
    places = _places_of_set(task_of(database, task_id))
    if not 1 <= number <= len(places):
        raise NotFound(f"{what} is not there")
    place = places[number - 1]
    with _opened(place, settings.data, what) as file:
        start = file.read(LONGEST_START)
        file.seek(0)
        kind = next((kind for kind, begins in _BEGINNINGS if begins.match(start)), None)
        if kind is None:
            raise NotFound(f"{what} is no PNG, JPEG, WebP or GIF")
        yield KeptFile(place.name, kind, os.fstat(file.fileno()).st_size, file)


def pictures_of_set(task: dict[str, Any], settings: Settings) -> list[tuple[int, str]]:
    """The pictures that a result names, by number and name; those that are not in the data folder are left out."""
    data = settings.data.resolve()
    places = enumerate(_places_of_set(task), start=1)
    return [(number, place.name) for number, place in places if place.resolve().is_relative_to(data)]


def _places_of_set(task: dict[str, Any]) -> list[Path]:
    images = (task["result"] or {}).get("images")
    files = [one.get("file") if isinstance(one, dict) else None for one in images] if isinstance(images, list) else []
    return [Path(file) for file in files[:MOST_OF_SET] if isinstance(file, str) and "\0" not in file]


@contextmanager
def _opened(place: Path, folder: Path, what: str) -> Iterator[BinaryIO]:
    """The file at `place`, which must really be in `folder`: whatever a name in a row says, nothing outside is read."""
    try:
        parent = place.parent.resolve(strict=True)
        if not parent.is_relative_to(folder.resolve()):
            raise NotFound(f"{what} is not where files are kept")
        descriptor = os.open(parent / place.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"{what} is gone: {error.strerror}. Is the data folder that of its worker?") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotFound(f"{what} is no regular file")
        yield file
