"""What task functions share: their faults, the folders they may touch, and how a file is opened and written with care.

They read the few settings they need from the environment, which the worker fills:
SCHEDULER_DATA            where results go (default `var`)
SCHEDULER_SOURCE_FOLDERS  the folders they may read from, separated as in PATH. Unset, `count_words` and
                          `create_image_set` read whatever the worker's account may, and attachments of mails, which
                          leave the house, must lie in the working folder or the data folder.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from scheduler import stop_requested

MAX_FILE_BYTES = 64 * 1024 * 1024  # more is a job for a tool of its own; it would also fill a small worker's memory


class TaskFault(Exception):
    """A task function could not do what it was asked to."""


class BadArgument(TaskFault, ValueError):
    """What was asked can never work, now or on a retry; also a ValueError, for `never_on: [ValueError]`."""


class SourceFault(TaskFault):
    """What should be read cannot be read."""


class Stopped(TaskFault):
    """Someone asked the run to stop, and it did."""


def data_folder() -> Path:
    """Where results are kept; what a task function writes lies below it."""
    return Path(os.environ.get("SCHEDULER_DATA") or "var")


def source_folders() -> list[Path] | None:
    """The only folders that may be read from; None when the environment names none."""
    named = os.environ.get("SCHEDULER_SOURCE_FOLDERS", "")
    return [Path(folder) for folder in named.split(os.pathsep) if folder] or None


def shown(value: object, longest: int = 200) -> str:
    """A value as it may stand in a message: quoted, on one line, no control characters, not endless."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) > longest:
        text = f"{text[:longest]}…"
    return '"' + "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text) + '"'


def whole_number(name: str, value: object, least: int, most: int) -> int:
    """`value` itself. Raises BadArgument unless it is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadArgument(f"{name} is {shown(value)}; give a whole number from {least} to {most}")
    return value


def raise_when_stopped(what: str) -> None:
    """Raises Stopped, saying `what` was reached, when someone asked the run to stop."""
    if stop_requested():
        raise Stopped(f"stopped on request {what}")


def open_source(source: str | os.PathLike[str], *, at_most: int = MAX_FILE_BYTES, fenced: bool = False) -> BinaryIO:
    """A regular file, opened for reading; what is checked is the file that was opened, not a name that may change.

    A symbolic link is followed only to a place that may be read from, or inside the link's own folder. `fenced` reads
    from the working and the data folder alone when no folders are set. Raises BadArgument or SourceFault.
    """
    name = os.fspath(source)
    if not name or "\0" in name:
        raise BadArgument(f"{shown(name)} names no file; give the path of a file")
    path = Path(name)
    try:
        real = path.resolve(strict=True)
        _check_fence(path, real, fenced)
        # O_NONBLOCK: a FIFO put there would otherwise hold the worker until someone writes to it.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(real, flags | getattr(os, "O_BINARY", 0))
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links, before Python 3.13
        raise SourceFault(_why_unreadable(name, error)) from error
    stream = os.fdopen(descriptor, "rb", closefd=True) if _is_regular(descriptor) else None
    if stream is None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        what = "a folder" if is_folder else "no regular file (a device, pipe or socket)"
        raise SourceFault(f"{shown(name)} is {what}; give the path of a file")
    size = os.fstat(descriptor).st_size
    if size > at_most:
        stream.close()
        raise SourceFault(f"{shown(name)} has {size:,} bytes, more than the {at_most:,} allowed; give a smaller file")
    return stream


def folder_below_data(into: str) -> Path:
    """A folder below the data folder, made when missing; a relative `into` starts there.

    Raises BadArgument when it would lie outside, be it by `..`, an absolute path or a symbolic link.
    """
    data = data_folder()
    if not into or "\0" in into:
        raise BadArgument(f"into is {shown(into)}; give a folder below the data folder, such as images/posters")
    real_data = data.resolve()
    try:
        real = (data / into).resolve()
    except (OSError, RuntimeError) as error:
        raise BadArgument(f"into is {shown(into)}, which leads nowhere ({error})") from error
    if not real.is_relative_to(real_data) or real == real_data:
        raise BadArgument(
            f"into is {shown(into)}, which is not below the data folder {shown(str(data))}; "
            "give a folder below it, such as images/posters"
        )
    folder = data / real.relative_to(real_data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TaskFault(
            f"cannot make the folder {shown(str(folder))}: {_reason(error)}; free the name or the rights"
        ) from error
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that whoever looks sees the old one or the new one, never a part.

    Raises TaskFault when the disk or the rights do not allow it; nothing is left behind then.
    """
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp gives 0600, but others may look at results
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise TaskFault(f"cannot write {shown(str(path))}: {_reason(error)}; make room or give the rights") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _check_fence(path: Path, real: Path, fenced: bool) -> None:
    folders = source_folders()
    if folders is None and fenced:
        folders = [Path(), data_folder()]
    if folders is not None:
        if not any(real.is_relative_to(folder.resolve()) for folder in folders):
            raise BadArgument(
                f"{shown(str(path))} lies outside the folders that may be read "
                f"({', '.join(shown(str(folder)) for folder in folders)}); put it there, "
                "or name its folder in SCHEDULER_SOURCE_FOLDERS"
            )
    elif path.is_symlink() and not real.is_relative_to(path.parent.resolve()):
        raise BadArgument(
            f"{shown(str(path))} is a symbolic link that leaves its folder; give the file itself, "
            "or name the folder it leads to in SCHEDULER_SOURCE_FOLDERS"
        )


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _why_unreadable(name: str, error: OSError | RuntimeError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        where = "" if Path(name).is_absolute() else f" in the working folder {shown(str(Path.cwd()))}"
        return f"there is no file {shown(name)}{where}; check the path, it is case-sensitive"
    if isinstance(error, PermissionError):
        return f"{shown(name)} may not be read by this account; allow it with chmod or choose another file"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{shown(name)} is too long for a path; check it"
    return f"{shown(name)} cannot be opened: {_reason(error)}; check the path"


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
