"""The files that runs leave as their results: kept in <data>/artifacts/<task id>/<attempt>/<number>, a row for each.

The copy stands before its row does. What a kill between the two leaves behind has no row; `sweep` removes it.
"""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from scheduler.result_kinds import File
from scheduler.rules.task.log_lines import clean_line
from scheduler.rules.task.results import ResultRefused
from scheduler.settings import Settings
from scheduler.store.database import Database
from scheduler.store.tables import Artifact, Attempt
from scheduler.store.types import sql_now

FOLDER = "artifacts"
LONGEST_NAME = 200  # letters
BLOCK = 1 << 20
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}(; ?charset=[\w-]{1,30})?")


class FileRefused(ResultRefused):
    """The file of the result cannot be kept."""


@dataclass(frozen=True)
class Kept:
    """A file that is kept, and not yet in its table."""

    name: str
    media_type: str
    size: int
    sha256: str
    path: str  # as Artifact.path

    def told(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.size, "media_type": self.media_type, "sha256": self.sha256}


def keep_files(files: Sequence[File], settings: Settings | None, task_id: int, attempt: int) -> list[Kept]:
    """Copy the files into the data folder; without settings (in a test) they stay where they are. Raises FileRefused;
    then none is kept."""
    folder = None if settings is None else settings.data.resolve() / FOLDER / str(task_id) / str(attempt)
    try:
        return [_keep(file, settings, folder, number) for number, file in enumerate(files, start=1)]
    except BaseException:
        if folder is not None:
            _remove(folder)
        raise


def record(session: Session, task_id: int, attempt: int, kept: Sequence[Kept]) -> None:
    """Add a row for each; the caller commits, together with the attempt's end."""
    for one in kept:
        row = {"task_id": task_id, "attempt": attempt, "created_at": sql_now(), **one.told(), "path": one.path}
        session.execute(insert(Artifact).values(**row))


def are_known(session: Session, task_id: int, attempt: int) -> bool:
    """Whether the attempt has artifacts in the table."""
    query = select(Artifact.id).where(Artifact.task_id == task_id, Artifact.attempt == attempt)
    return session.execute(query.limit(1)).first() is not None


def discard(settings: Settings, task_id: int, attempt: int) -> None:
    """Remove what was kept for an attempt whose end did not count."""
    _remove(settings.data.resolve() / FOLDER / str(task_id) / str(attempt))


def place_of(settings: Settings, path: str) -> Path:
    """Where an artifact is, by its row's `path`."""
    return settings.data.resolve() / FOLDER / path  # an absolute path stays what it is


def sweep(database: Database, settings: Settings, *, limit: int = 1000) -> int:
    """Remove the folders of attempts that have ended, or are gone, and have no artifact in the table; how many."""
    removed = 0
    for task_id, attempt, folder in _folders(settings):
        if removed == limit:
            break
        with database.read() as session:
            open_ = select(Attempt.id).where(
                Attempt.task_id == task_id, Attempt.number == attempt, Attempt.ended_at.is_(None)
            )
            # In this order: an attempt that ends between the two has written its artifacts by then.
            is_wanted = session.execute(open_).first() is not None or are_known(session, task_id, attempt)
        if not is_wanted:
            _remove(folder)
            removed += 1
    return removed


def _folders(settings: Settings) -> list[tuple[int, int, Path]]:
    root = settings.data.resolve() / FOLDER
    if not root.is_dir():
        return []
    return sorted(
        (int(folder.parent.name), int(folder.name), folder)
        for folder in root.glob("*/*")
        if re.fullmatch(r"[0-9]{1,18}", folder.parent.name) and re.fullmatch(r"[0-9]{1,9}", folder.name)
    )


def _keep(file: File, settings: Settings | None, folder: Path | None, number: int) -> Kept:
    try:
        path = Path(os.fspath(file.path))
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError, TypeError) as error:
        raise FileRefused(_why_not(file, error)) from error
    try:
        real = _checked(file, descriptor, path, settings)
        name = (clean_line(file.name or path.name).strip() or "file")[:LONGEST_NAME]
        if folder is None or not file.keep:
            size, digest = _copy(descriptor, None, _limit(settings), name)
            return Kept(name, _media_type(file, name), size, digest, str(real))
        place = folder / str(number)
        size, digest = _copy_into(descriptor, place, _limit(settings), name)
        return Kept(name, _media_type(file, name), size, digest, "/".join(place.parts[-3:]))
    except OSError as error:
        raise FileRefused(_why_not(file, error)) from error
    finally:
        os.close(descriptor)


def _checked(file: File, descriptor: int, path: Path, settings: Settings | None) -> Path:
    """Where the opened file really is. Raises FileRefused where a result may not come from there."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise FileRefused(f'the file "{file.path}" of the result is no regular file')
    link = Path(f"/proc/self/fd/{descriptor}")
    real = link.readlink() if link.is_symlink() else path.resolve()
    if settings is not None and settings.source_folders:
        allowed = [*settings.source_folders.split(os.pathsep), tempfile.gettempdir()]
        if not any(real.is_relative_to(Path(one).resolve()) for one in allowed if one):
            raise FileRefused(
                f'the file "{file.path}" of the result is outside of source_folders and of the folder for '
                "temporary files: write it there, or widen the setting"
            )
    return real


def _copy_into(descriptor: int, place: Path, most: int | None, name: str) -> tuple[int, str]:
    """Copy to `place` so that it is there whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    unfinished = place.with_suffix(".part")
    with unfinished.open("wb") as target:
        size, digest = _copy(descriptor, target, most, name)
        target.flush()
        os.fsync(target.fileno())
    unfinished.replace(place)
    folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the row must not outlive the name after a loss of power
    finally:
        os.close(folder)
    return size, digest


def _copy(descriptor: int, target: Any, most: int | None, name: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while block := os.read(descriptor, BLOCK):
        size += len(block)
        if most is not None and size > most:
            raise FileRefused(
                f'the file "{name}" of the result has more than {most >> 20:,} MiB (the setting max_artifact_mb)'
            )
        digest.update(block)
        if target is not None:
            target.write(block)
    return size, digest.hexdigest()


def _limit(settings: Settings | None) -> int | None:
    return None if settings is None else settings.max_artifact_mb << 20


def _media_type(file: File, name: str) -> str:
    if file.media_type is not None:
        if _MEDIA_TYPE.fullmatch(file.media_type) is None:
            raise FileRefused(f'"{file.media_type[:100]}" is no media type; give one like "application/pdf"')
        return file.media_type
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _why_not(file: File, error: Exception) -> str:
    named = f'the file "{str(file.path)[:300]}" of the result'
    if isinstance(error, FileNotFoundError):
        return f"{named} is not there"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return f"{named} is a symbolic link: return the file itself"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{named} cannot be kept: no room is left in the data folder"
    return f"{named} cannot be kept: {getattr(error, 'strerror', None) or error}"


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another attempt's folder is in it, or it is gone
        folder.parent.rmdir()
