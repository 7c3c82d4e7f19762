"""A schedule file and the further files beside it, as one text and as one document.

The text is what a revision keeps, hashes and is rolled back to: the main file, then each further file, in order of
their names, after a line that names it. Of a file without further ones it is the file itself, byte for byte. The
document is read from that text alone, so that what is in force is the same whether the text comes from a disk or from
a revision. What stands in it keeps its own file, line and column.

Pure: the caller brings the texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from scheduler.errors import Fault
from scheduler.rules.complaints import did_you_mean, shown
from scheduler.rules.file.grammar import FileEntry, keys_of
from scheduler.rules.file.source_text import MAX_FAULTS, Mark, fault_at, split_lines
from scheduler.rules.file.wording import SECTIONS
from scheduler.rules.file.yaml_reader import MAX_VALUES, Document, Marks, Path, Scan, scan_yaml

FOLDER = "schedules.d"
SHARED = ("schedules", "calendars", "retry_policies", "contacts", "digests")  # sections that any of the files may hold

_MARK = "# --- schedules.d/"  # found in a moment, also where there are 16 MB of lines to begin a search at
_PARTING = re.compile(rb"^# --- schedules\.d/([^/\n]+\.yaml)\n", re.MULTILINE)


# --- one text -------------------------------------------------------------------------------------------------------


def joined(main: bytes, further: Mapping[str, bytes]) -> bytes:
    """One text of all; `further` holds the other files by name, and none of them a parting line."""
    parts = [main]
    for name in sorted(further):
        parts.append(b"" if parts[-1].endswith(b"\n") or not parts[-1] else b"\n")
        parts.append(f"# --- {FOLDER}/{name}\n".encode())
        parts.append(further[name])
    return b"".join(parts)


def parted(text: bytes) -> list[tuple[str, bytes]]:
    """What `joined` put together, by the names of the further files; the main file comes first, its name is ""."""
    found = _PARTING.split(text)
    names = ["", *(name.decode("utf-8", "replace") for name in found[1::2])]
    return list(zip(names, found[0::2], strict=True))


def further_names(text: bytes | str) -> list[str]:
    """The names of the further files in a revision's text."""
    return [name for name, _ in parted(_as_bytes(text))[1:]]


def parting_line_fault(text: bytes, file: str) -> Fault | None:
    """A file that holds a parting line would come apart there."""
    found = _PARTING.search(text + b"\n")
    if found is None:
        return None
    lines = split_lines(text.decode("utf-8", "replace"))
    before = split_lines(text[: found.start()].decode("utf-8", "replace"))
    message = "a line like this parts the files in the text of a revision; it cannot stand in one of them"
    hint = f"Put what follows it into {FOLDER}/{found[1].decode('utf-8', 'replace')}, or reword the line."
    return fault_at(file, lines, Mark(len(before), 1, 0), "parting-line", message, hint)


def _as_bytes(text: bytes | str) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


# --- one document ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shelf:
    """Which of some documents holds a path."""

    parts: tuple[Document, ...]
    owners: Mapping[Path, Document]  # of the entries and sections that the first one lacks

    def part_of(self, path: Path) -> Document:
        return self.owners.get(path[:2]) or self.owners.get(path[:1]) or self.parts[0]


class _Places(Mapping[Path, tuple[Mark, Mark]]):
    """The places in several files."""

    def __init__(self, shelf: _Shelf) -> None:
        self.shelf = shelf

    def __getitem__(self, path: Path) -> tuple[Mark, Mark]:
        return self.shelf.part_of(path).marks[path]

    def __iter__(self) -> Iterator[Path]:
        return chain.from_iterable(part.marks for part in self.shelf.parts)

    def __len__(self) -> int:
        return sum(len(part.marks) for part in self.shelf.parts)


@dataclass(frozen=True)
class SeveralFiles(Document):
    """Some documents as one. Its faults stand in the file that holds the path."""

    shelf: _Shelf = _Shelf((), MappingProxyType({}))

    def fault(
        self,
        path: Path,
        code: str,
        message: str,
        hint: str = "",
        *,
        on_key: bool = False,
        schedule: str | None = None,
        letter: int | None = None,
    ) -> Fault:
        part = self.shelf.part_of(path)
        return part.fault(path, code, message, hint, on_key=on_key, schedule=schedule, letter=letter)


@dataclass(frozen=True)
class Gathered:
    """What could be read of all files."""

    files: tuple[str, ...]
    scans: tuple[Scan, ...]  # of each file
    document: Document | None  # of all that could be read; None when nothing could
    faults: tuple[Fault, ...] = ()  # of how the files go together; those of the reading stand in the scans

    @property
    def is_complete(self) -> bool:
        return all(scan.document is not None for scan in self.scans)


def gather(text: bytes | str, file: str, *, max_bytes: int, folder: str | None = None) -> Gathered:
    """All files of a text, read; `folder` stands before the names of further ones, else it is that beside `file`."""
    is_marked = _MARK in text if isinstance(text, str) else _MARK.encode() in text
    parts = parted(_as_bytes(text)) if is_marked else []
    if len(parts) <= 1:
        scan = scan_yaml(text, file, max_bytes=max_bytes)
        return Gathered((file,), (scan,), scan.document)
    if len(text) > max_bytes:
        message = f"the file and those of {FOLDER} together have {len(text):,} bytes; {max_bytes:,} are the most"
        return Gathered((file,), (Scan(None, (Fault(file, 1, 1, "too-large", message),)),), None)
    beside = str(PurePath(file).parent / FOLDER) if folder is None else folder
    files = (file, *(f"{beside}/{name}" for name, _ in parts[1:]))
    scans = tuple(_scanned(files, [part for _, part in parts], max_bytes))
    if all(scan.document is None for scan in scans):
        return Gathered(files, scans, None)
    # of a main file that cannot be read nothing is known: neither what it holds nor what it lacks
    main = scans[0].document or Document(file, {}, Marks(), "", frozenset({()}))
    merging = _Merging(main)
    for scan in scans[1:]:
        if scan.document is not None:
            merging.add(scan.document)
    return Gathered(files, scans, merging.document(), tuple(islice(merging.faults, 10 * MAX_FAULTS)))


def _scanned(files: Sequence[str], texts: Sequence[bytes], max_bytes: int) -> Iterator[Scan]:
    values = 0
    for file, text in zip(files, texts, strict=True):
        scan = scan_yaml(text, file, max_bytes=max_bytes)
        values += len(scan.document.marks) if scan.document is not None else 0
        if values > MAX_VALUES:
            message = f"the files up to this one have more than {MAX_VALUES:,} values"
            yield Scan(None, (Fault(file, 1, 1, "too-large", message),))
            return
        yield scan


class _Merging:
    def __init__(self, main: Document) -> None:
        self.parts = [main]
        self.sections: dict[str, dict[str, Any]] = {}
        self.owners: dict[Path, Document] = {}
        self.faults: list[Fault] = []
        for section in SHARED:
            raw = main.data.get(section) if isinstance(main.data, dict) else None
            if isinstance(raw, dict):
                self.sections[section] = dict(raw)

    def add(self, document: Document) -> None:
        self.parts.append(document)
        if document.data is None:
            hint = 'For none write "schedules: {}", or remove the file.'
            self.faults.append(Fault(document.file, 1, 1, "empty-file", "the file is empty", hint))
        elif not isinstance(document.data, dict):
            message = f"the file must be a mapping, got {shown(document.data)}"
            self.faults.append(document.fault((), "not-a-mapping", message))
        else:
            for key, value in document.data.items():
                self._add_key(document, key, value)

    def document(self) -> Document:
        main = self.parts[0]
        data = {**main.data, **self._wanted(main.data)} if isinstance(main.data, dict) else main.data
        merged = main.merged | {path for part in self.parts[1:] for path in part.merged if path}
        shelf = _Shelf(tuple(self.parts), self.owners)
        return SeveralFiles(main.file, data, _Places(shelf), main.text, frozenset(merged), shelf)

    def _wanted(self, main: dict[str, Any]) -> dict[str, Any]:
        """The sections, but those that the main file holds as something else: of them its reader will tell."""
        return {name: held for name, held in self.sections.items() if isinstance(main.get(name, {}), dict)}

    def _add_key(self, document: Document, key: str, value: Any) -> None:
        if key == "version":
            if value != 1 or isinstance(value, bool | float):
                message = f"the file: version must be 1, got {shown(value)}"
                self.faults.append(document.fault((key,), "bad-version", message, "Write version: 1, or nothing."))
        elif key not in SHARED:
            self.faults.append(_stray_key(document, key, self.parts[0].file))
        elif not isinstance(value, dict):
            hint = "" if value is not None else f'For none write "{key}: {{}}".'
            told = "has no entries" if value is None else f"must be a mapping, got {shown(value)}"
            self.faults.append(document.fault((key,), "not-a-mapping", f"the file: {key} {told}", hint))
        else:
            self._add_section(document, key, value)

    def _add_section(self, document: Document, section: str, entries: dict[str, Any]) -> None:
        if section not in self.sections:
            self.owners[(section,)] = document
        held = self.sections.setdefault(section, {})
        for name, value in entries.items():
            path: Path = (section, name)
            if name in held:
                self.faults.append(_twice(document, path, self.owners.get(path, self.parts[0])))
            else:
                held[name] = value
                self.owners[path] = document


def _stray_key(document: Document, key: str, main: str) -> Fault:
    if key in keys_of(FileEntry):
        message = f"{key} stands in the main file alone"
        return document.fault((key,), "main-file-alone", message, f"Move it to {main}.", on_key=True)
    meant = did_you_mean(key, SHARED)
    hint = "" if meant else f"Known here: {', '.join(SHARED)}."
    message = f"the file has an unknown key {shown(key)}{meant}"
    return document.fault((key,), "unknown-key", message, hint, on_key=True)


def _twice(document: Document, path: Path, first: Document) -> Fault:
    mark = first.marks[path][0]
    section, name = str(path[0]), str(path[1])
    message = f"{SECTIONS[section]} {shown(name)} stands twice: first in {first.file}:{mark.line}:{mark.column}"
    hint = "Remove one of the two, or rename it."
    schedule = name if section == "schedules" else None
    return document.fault(path, "duplicate-key", f"{message}, again here", hint, on_key=True, schedule=schedule)
