"""The schedule file and the further files of the folder `schedules.d` beside it, read from the disk as one text.

Through links, so that a ConfigMap's folder is read as it stands. A folder that is not there is no fault; a file that
cannot be read is, and then nothing is taken: what it held would count as removed.
"""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from scheduler.errors import Fault, FileFaults
from scheduler.rules.file.schedule_file import NO_RUNS, Loaded, load_book
from scheduler.rules.file.several_files import FOLDER, joined, parting_line_fault
from scheduler.rules.file.yaml_reader import MAX_BYTES
from scheduler.task_functions import Catalogue

MOST_FILES = 200  # further ones; each look at the files opens them all
CHECK_MODE = "Check its owner and mode."


@dataclass(frozen=True)
class Sources:
    """What stands on the disk."""

    text: bytes  # of all files (rules/file/several_files.py); of one alone, its bytes
    warnings: tuple[Fault, ...] = ()


def further_folder(path: Path) -> Path:
    """The folder of further files that belongs to the schedule file `path`."""
    return path.parent / FOLDER


def read_schedule_file(path: Path) -> bytes:
    """The text of the file and its further files. Raises FileFaults when one cannot be read, with how to mend it."""
    return read_sources(path).text


def read_sources(path: Path) -> Sources:
    """The same with what is worth a warning. All that cannot be read is told in one go."""
    faults: list[Fault] = []
    texts = {path: _read(path, "Write one, or name another with --file or SCHEDULER_FILE.", faults)}
    folder = further_folder(path)
    names, warnings = _names_in(folder, faults)
    for name in names:
        if sum(map(len, texts.values())) > MAX_BYTES:  # load_book tells of it; no more is read than it takes to know
            break
        texts[folder / name] = _read_further(folder / name, faults)
    for place, text in texts.items():
        parting = parting_line_fault(text, str(place))
        faults.extend([parting] if parting is not None else [])
    if faults:
        raise FileFaults(faults)
    main, *others = texts.values()
    return Sources(joined(main, dict(zip(names, others, strict=False))), tuple(warnings))


def load_schedule_file(
    path: Path,
    catalogue: Catalogue | None,
    now: dt.datetime,
    *,
    look_ahead: bool = False,
    usual: Mapping[str, dt.timedelta] = NO_RUNS,
) -> tuple[bytes, Loaded]:
    """The text and what it means, as load_book tells it. Raises FileFaults only when it cannot be read at all."""
    sources = read_sources(path)
    loaded = load_book(
        sources.text,
        file=str(path),
        functions=catalogue.functions if catalogue is not None else None,
        broken=catalogue.broken if catalogue is not None else {},
        now=now,
        look_ahead=look_ahead,
        usual=usual,
    )
    return sources.text, replace(loaded, warnings=(*sources.warnings, *loaded.warnings))


def last_touched(path: Path) -> dt.datetime:
    """When the file, a further one, or the folder of those was last written to. Raises OSError."""
    folder = further_folder(path)
    names, _ = _names_in(folder, [])
    places = [path, *([folder] if folder.is_dir() else []), *(folder / name for name in names)]
    return dt.datetime.fromtimestamp(max(place.stat().st_mtime for place in places), dt.UTC)


# --- one by one -----------------------------------------------------------------------------------------------------


def _names_in(folder: Path, faults: list[Fault]) -> tuple[list[str], list[Fault]]:
    """The names of the further files, in order, and warnings of what looks like one and is not read."""
    try:
        found = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except FileNotFoundError:
        return [], []
    except NotADirectoryError:
        hint = "Further files stand in a folder of this name; give the file another."
        faults.append(_fault(folder, "unreadable", "this is no folder", hint))
        return [], []
    except OSError as error:
        faults.append(_fault(folder, "unreadable", f"the folder cannot be read: {error.strerror}", CHECK_MODE))
        return [], []
    names = [name for name in found if name.endswith(".yaml")]
    for name in names:
        if not name.isprintable():
            message = f"the name {name!r} holds letters that cannot be shown"
            faults.append(_fault(folder, "bad-file-name", message, "Rename the file."))
    if len(names) > MOST_FILES:
        message = f"the folder holds {len(names):,} schedule files; {MOST_FILES} are the most"
        faults.append(_fault(folder, "too-many-files", message, "Put some of them together."))
        return [], []
    told = "this file is not read: its name does not end in .yaml"
    warnings = [
        _fault(folder / name, "not-read", told, f"Name it {name[:-4]}.yaml.") for name in found if name.endswith(".yml")
    ]
    return [name for name in names if name.isprintable()], warnings


def _read(path: Path, where_to_find: str, faults: list[Fault]) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        why, hint = "there is no such file", where_to_find
    except IsADirectoryError:
        why, hint = "this is a folder", "Name the file in it with --file or SCHEDULER_FILE."
    except OSError as error:
        why, hint = f"the file cannot be read: {error.strerror}", CHECK_MODE
    faults.append(_fault(path, "unreadable", why, hint))
    return b""


def _read_further(path: Path, faults: list[Fault]) -> bytes:
    with suppress(OSError):
        if not stat.S_ISREG(path.stat().st_mode):  # to read a pipe would wait for ever
            faults.append(_fault(path, "unreadable", "this is no file", "Move it away, or name it otherwise."))
            return b""
    return _read(path, "It is a link to nothing: mend or remove it.", faults)


def _fault(path: Path, code: str, message: str, hint: str) -> Fault:
    return Fault(str(path), 1, 1, code, message, hint)
