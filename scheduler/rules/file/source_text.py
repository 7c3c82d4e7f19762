"""From the bytes of a file to text that can be read line by line, and faults that show their line.

UTF-8 alone, with or without a byte order mark. What no editor shows as it is, is refused with its place.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from scheduler.errors import Fault, FileFaults

MAX_LINE = 1_000_000  # letters; a file that a program wrote in one line still fits
MAX_FAULTS = 100  # of the reading; an alias bomb holds 100,000
SHOWN_LINE = 200  # letters of a line that are printed under a fault

# What no editor shows as it is: C0 (but tab, LF, CR), DEL, C1 with NEL, the other line breaks of YAML, marks that turn
# the direction of writing, stray byte order marks, halves of pairs, and what YAML has no room for.
UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff"
    "\ud800-\udfff]"
)


class Mark(NamedTuple):
    """Where something stands. `length` is 0 when it goes on over the line, or is empty."""

    line: int  # from 1
    column: int  # from 1
    length: int


def split_lines(text: str) -> list[str]:
    return re.split("\r\n|\n|\r", text)


def fault_at(
    file: str, lines: list[str], mark: Mark, code: str, message: str, hint: str = "", schedule: str | None = None
) -> Fault:
    """A fault with the line it stands in; a line too long to print is left away where the caret lies beyond."""
    line = lines[mark.line - 1] if mark.line <= len(lines) else ""
    rest = max(1, len(line.rstrip()) - mark.column + 1)
    length = min(mark.length or rest, rest)
    if len(line) > SHOWN_LINE:
        length = mark.length or 1
        line = line[:SHOWN_LINE] + "…" if mark.column <= SHOWN_LINE else ""
        length = min(length, max(1, SHOWN_LINE - mark.column + 1))
    return Fault(
        file=file,
        line=mark.line,
        column=mark.column,
        code=code,
        message=message,
        hint=hint,
        schedule=schedule,
        source=UNSEEN.sub("\N{REPLACEMENT CHARACTER}", line),
        length=length,
    )


def decode(text: bytes | str, file: str, max_bytes: int) -> str:
    size = len(text)
    if size > max_bytes:
        raise FileFaults([Fault(file, 1, 1, "too-large", f"the file has {size:,} bytes; {max_bytes:,} are the most")])
    if isinstance(text, bytes):
        if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in text[:4]:
            raise FileFaults([Fault(file, 1, 1, "not-utf-8", "the file is not UTF-8 but UTF-16", "Save it as UTF-8.")])
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode("utf-8", "replace")
            lines = split_lines(before)
            mark = Mark(len(lines), len(lines[-1]) + 1, 1)
            lines = split_lines(error.object.decode("utf-8", "replace"))
            message = f"byte 0x{error.object[error.start]:02X} is not UTF-8"
            raise FileFaults([fault_at(file, lines, mark, "not-utf-8", message, "Save the file as UTF-8.")]) from error
    text = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    if UNSEEN.search(text):
        raise FileFaults(_unseen_letters(text, file))
    if size > MAX_LINE:
        _refuse_long_lines(text, file)
    return text


def _unseen_letters(text: str, file: str) -> list[Fault]:
    faults: list[Fault] = []
    lines = split_lines(text)
    for number, line in enumerate(lines, start=1):
        for found in UNSEEN.finditer(line):
            message = f"the letter {letter_name(found[0])} cannot stand in the file"
            mark = Mark(number, found.start() + 1, 1)
            faults.append(fault_at(file, lines, mark, "unseen-letter", message, "Remove it; it cannot be seen."))
            if len(faults) == MAX_FAULTS:
                return faults
    return faults


def _refuse_long_lines(text: str, file: str) -> None:
    for number, line in enumerate(split_lines(text), start=1):
        if len(line) > MAX_LINE:
            message = f"line {number} has {len(line):,} letters; {MAX_LINE:,} are the most"
            raise FileFaults([Fault(file, number, 1, "long-line", message)])


def letter_name(letter: str) -> str:
    """`U+202E (RIGHT-TO-LEFT OVERRIDE)`."""
    name = unicodedata.name(letter, "")
    return f"U+{ord(letter):04X}" + (f" ({name})" if name else "")
