"""YAML as plain data, with the place of every key and value.

A loop of our own over PyYAML's events, for three reasons: its composer recurses in C and brings the process down on
100,000 nested brackets; it keeps no positions and lets the last of two equal keys win; and it reads YAML 1.1, where
19:30 is 1170, on is True and 012 is 10. Here a scalar is text unless it is plainly a decimal number, true, false or
null; a key is always text. Tags, anchors, aliases and merge keys are refused with their place.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from scheduler.errors import Fault, FileFaults
from scheduler.rules.complaints import shown
from scheduler.rules.file.source_text import MAX_FAULTS, UNSEEN, Mark, decode, fault_at, letter_name, split_lines
from scheduler.rules.file.yaml_syntax import syntax_fault

MAX_BYTES = 16 * 1024 * 1024  # 10,000 schedules are about 3 MB
MAX_DEPTH = 20
MAX_VALUES = 600_000  # 10,000 schedules are about 220,000

_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z")  # longer ones are ids, not counts, and stay text
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}\Z")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", "")),
}
_REFUSED = "\0"  # the key of a value that is read but not kept; no text of a file can hold it
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str | int, ...]


class Marks(Mapping[Path, tuple[Mark, Mark]]):
    """The place of the key and of the value, by path. Of a list's item both are the item's."""

    def __init__(self) -> None:
        self._rows: dict[Path, int] = {}
        self._numbers = array("L")  # six a row: 200,000 rows as tuples would be 60 MB

    def add(self, path: Path, key: Mark, value: Mark) -> None:
        self._rows[path] = len(self._numbers)
        self._numbers.extend(key)
        self._numbers.extend(value)

    def stretch(self, path: Path, length: int) -> None:
        """Set the length of the value at `path`, known only when its closing bracket has come."""
        self._numbers[self._rows[path] + 5] = length

    def __getitem__(self, path: Path) -> tuple[Mark, Mark]:
        row = self._rows[path]
        return Mark(*self._numbers[row : row + 3]), Mark(*self._numbers[row + 3 : row + 6])

    def __iter__(self) -> Iterator[Path]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@dataclass(frozen=True)
class Document:
    """A file as plain data, with what is needed to point into it."""

    file: str
    data: Any
    marks: Mapping[Path, tuple[Mark, Mark]]
    text: str
    merged: frozenset[Path] = frozenset()  # mappings with a refused merge key: what they lack may be in there

    @cached_property
    def lines(self) -> list[str]:
        return split_lines(self.text)

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
        """A fault at the value of `path`, or at its key; `letter` points at one letter of it, counted from 0."""
        key, value = self.marks[path] if path in self.marks else (Mark(1, 1, 0), Mark(1, 1, 0))
        # of an empty value there is nothing to underline
        mark = key if on_key or self._is_empty(value) else value
        if letter is not None:
            quoted = self.lines[mark.line - 1][mark.column - 1 : mark.column] in ("'", '"')
            mark = Mark(mark.line, mark.column + letter + quoted, 1)
        return fault_at(self.file, self.lines, mark, code, message, hint, schedule)

    def _is_empty(self, mark: Mark) -> bool:
        line = self.lines[mark.line - 1] if mark.line <= len(self.lines) else ""
        return mark.length == 0 and not line[mark.column - 1 :].strip()


@dataclass(frozen=True)
class Scan:
    """What could be read, and what was wrong; no document when reading had to stop."""

    document: Document | None
    faults: tuple[Fault, ...]


def read_yaml(text: bytes | str, file: str, *, max_bytes: int = MAX_BYTES) -> Document:
    """The one YAML document in `text`. Raises FileFaults with all that was found.

    UTF-8 alone, with or without a byte order mark.
    """
    scan = scan_yaml(text, file, max_bytes=max_bytes)
    if scan.faults or scan.document is None:
        raise FileFaults(scan.faults)
    return scan.document


def scan_yaml(text: bytes | str, file: str, *, max_bytes: int = MAX_BYTES) -> Scan:
    """As read_yaml, but hands over what could be read beside the faults, so that more faults can be found in it."""
    try:
        return _Reader(file, decode(text, file, max_bytes)).read()
    except FileFaults as error:
        return Scan(None, error.faults)


# --- from events to data --------------------------------------------------------------------------------------------


class _Stop(Exception):
    """Nothing after this place can be read."""


class _Frame:
    """A mapping or list that is being read."""

    __slots__ = ("as_key", "container", "key", "key_mark", "path", "start")

    def __init__(self, container: Any, path: Path, start: Mark, as_key: bool) -> None:
        self.container = container
        self.path = path
        self.start = start
        self.as_key = as_key  # it stands where a key should
        self.key: str | None = None  # of a mapping: the key whose value comes next
        self.key_mark = start


class _Reader:
    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.lines: list[str] | None = None
        self.marks = Marks()
        self.merged: set[Path] = set()
        self.faults: list[Fault] = []
        self.stack: list[_Frame] = []
        self.root: Any = None
        self.documents = 0

    def read(self) -> Scan:
        try:
            self._read_events()
        except _Stop:
            return Scan(None, tuple(self.faults))
        except yaml.YAMLError as error:
            self.faults.append(syntax_fault(self.file, self._lines(), error))
            return Scan(None, tuple(self.faults))
        document = Document(self.file, self.root, self.marks, self.text, frozenset(self.merged))
        return Scan(document, tuple(self.faults))

    def _read_events(self) -> None:
        loader = _LOADER(self.text)
        try:
            next_event = loader.get_event
            while (event := next_event()) is not None:
                kind = type(event)
                if kind is ScalarEvent:
                    self._scalar(event)
                elif kind is MappingStartEvent:
                    self._start(event, {})
                elif kind is SequenceStartEvent:
                    self._start(event, [])
                elif kind is MappingEndEvent or kind is SequenceEndEvent:
                    self._end(event)
                elif kind is AliasEvent:
                    self._alias(event)
                elif kind is DocumentStartEvent:
                    self._document(event)
        finally:
            loader.dispose()

    def _scalar(self, event: Any) -> None:
        start, end = event.start_mark, event.end_mark
        length = end.column - start.column if end.line == start.line else 0
        mark = Mark(start.line + 1, start.column + 1, length)
        if event.anchor is not None or event.tag is not None:
            self._refuse_properties(event, mark)
        text: str = event.value
        if event.style == '"' and UNSEEN.search(text):
            self._unseen_escape(text, mark)
        frame = self.stack[-1] if self.stack else None
        if frame is not None and frame.key is None and type(frame.container) is dict:
            self._key(frame, text, bool(event.style), mark)
            return
        value: Any = text
        if not event.style:
            if text in _WORDS:
                value = _WORDS[text]
            elif text[0] in "-0123456789":
                if _INT.match(text):
                    value = int(text)
                elif _FLOAT.match(text):
                    value = float(text)
        self._place(value, mark)

    def _key(self, frame: _Frame, key: str, quoted: bool, mark: Mark) -> None:
        frame.key_mark = mark
        if key == "<<" and not quoted:
            frame.key = _REFUSED
            self.merged.add(frame.path)
            self._fault(mark, "merge-key", 'a merge key "<<" cannot be used', _WRITE_OUT)
        elif key in frame.container:
            frame.key = _REFUSED
            first = self.marks[(*frame.path, key)][0]
            message = f"the key {shown(key)} stands twice: first in line {first.line}, again here"
            self._fault(mark, "duplicate-key", message, "Remove one of the two, or rename it.")
        elif not key:
            frame.key = _REFUSED
            self._fault(mark, "empty-key", "a key is empty")
        else:
            frame.key = sys.intern(key)

    def _start(self, event: Any, container: Any) -> None:
        start = event.start_mark
        mark = Mark(start.line + 1, start.column + 1, 0)
        if event.anchor is not None or event.tag is not None:
            self._refuse_properties(event, mark)
        if len(self.stack) >= MAX_DEPTH:
            self._fault(mark, "too-deep", f"more than {MAX_DEPTH} levels of nesting")
            raise _Stop
        frame = self.stack[-1] if self.stack else None
        as_key = frame is not None and type(frame.container) is dict and frame.key is None
        if as_key:
            self._fault(mark, "bad-key", "a key must be text, not a mapping or a list", _BRACES)
            path: Path = (*frame.path, _REFUSED) if frame else ()
            self.marks.add(path, mark, mark)
        else:
            path = self._place(container, mark)
        self.stack.append(_Frame(container, path, mark, as_key))

    def _end(self, event: Any) -> None:
        frame = self.stack.pop()
        if type(frame.container) is dict:
            frame.container.pop(_REFUSED, None)
        end = event.end_mark
        if end.line + 1 == frame.start.line and frame.path in self.marks:
            self.marks.stretch(frame.path, end.column + 1 - frame.start.column)
        if frame.as_key:
            self.stack[-1].key = _REFUSED

    def _alias(self, event: Any) -> None:
        start, end = event.start_mark, event.end_mark
        mark = Mark(start.line + 1, start.column + 1, end.column - start.column)
        self._fault(mark, "alias", f"an alias {shown('*' + event.anchor)} cannot be used", _WRITE_OUT)
        frame = self.stack[-1] if self.stack else None
        if frame is not None and frame.key is None and type(frame.container) is dict:
            frame.key = _REFUSED
        else:
            self._place(None, mark)

    def _document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            start = event.start_mark
            mark = Mark(start.line + 1, start.column + 1, 3)
            self._fault(mark, "second-document", "a second document begins here", 'Remove the line "---".')
            raise _Stop

    def _place(self, value: Any, mark: Mark) -> Path:
        """Put `value` where it belongs, note its place, and give its path."""
        if not self.stack:
            self.root = value
            self.marks.add((), mark, mark)
            return ()
        if len(self.marks) >= MAX_VALUES:
            self._fault(mark, "too-large", f"the file has more than {MAX_VALUES:,} values")
            raise _Stop
        frame = self.stack[-1]
        container = frame.container
        if type(container) is list:
            path = (*frame.path, len(container))
            container.append(value)
            self.marks.add(path, mark, mark)
            return path
        key = frame.key
        assert key is not None
        container[key] = value
        path = (*frame.path, key)
        self.marks.add(path, frame.key_mark, mark)
        frame.key = None
        return path

    def _refuse_properties(self, event: Any, mark: Mark) -> None:
        if event.anchor is not None:
            word = f"&{event.anchor}"
            self._fault(
                Mark(mark.line, mark.column, len(word)),
                "anchor",
                f"an anchor {shown(word)} cannot be used",
                _WRITE_OUT,
            )
        if event.tag is not None:
            written = event.tag.replace("tag:yaml.org,2002:", "!!", 1)
            self._fault(
                Mark(mark.line, mark.column, len(written)),
                "tag",
                f"a tag {shown(written)} cannot be used",
                "Values are plain: text, numbers, true, false, lists and mappings. Remove the tag.",
            )

    def _unseen_escape(self, text: str, mark: Mark) -> None:
        found = UNSEEN.search(text)
        if found:
            message = f"the letter {letter_name(found[0])} cannot stand in the file, nor be written as an escape"
            self._fault(mark, "unseen-letter", message, "Remove it; it cannot be seen.")

    def _fault(self, mark: Mark, code: str, message: str, hint: str = "") -> None:
        if len(self.faults) >= MAX_FAULTS:
            message = f"more than {MAX_FAULTS} faults; reading stopped here"
            self.faults.append(fault_at(self.file, self._lines(), mark, "too-many-faults", message))
            raise _Stop
        self.faults.append(fault_at(self.file, self._lines(), mark, code, message, hint))

    def _lines(self) -> list[str]:
        if self.lines is None:
            self.lines = split_lines(self.text)
        return self.lines


_WRITE_OUT = 'Write the value out here, or put what schedules share under "defaults".'
_BRACES = "Text that begins with { or [ needs quotes."
