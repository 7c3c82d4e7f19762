"""Lines of a log out of what a process prints: whole, readable, safe to store, and told apart by attempt.

In the stream stand marks between the control characters RS and US: B and E where the output of an attempt begins and
ends, each with the attempt's token, and L round a line that came through `logging`. Whatever stands outside of B and E
is nobody's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

LONGEST_LINE = 4_000  # characters
LONGEST_RAW = 4 * LONGEST_LINE  # bytes of a line that has not ended yet
LONGEST_MARK = 4_096  # bytes; a pipe takes that much whole, whoever else writes to it
MOST_LINES = 10_000  # of one attempt
MOST_CHARACTERS = 1_000_000
CUT = " […]"

_MARK = re.compile(rb"\n|\x1e(?P<mark>[BEL])(?P<word>[^\x1e\x1f]*)\x1f")
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])"
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class Piece(NamedTuple):
    """A line, as it was printed (`is_record` false) or as `logging` gave it, moment and level in front."""

    text: str
    is_record: bool


def clean_line(text: str) -> str:
    """The line as a terminal would leave it: no escapes, no control characters, of a progress bar the last state.

    >>> clean_line("\\x1b[32m10 %\\r\\x1b[2K100 %\\r")
    '100 %'
    """
    text = _ESCAPE.sub("", text)
    states = [state for state in text.split("\r") if state.strip()]
    text = _CONTROL.sub("", states[-1]) if states else ""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= LONGEST_LINE else text[:LONGEST_LINE] + CUT


def mark(letter: str, word: str) -> bytes:
    """A mark for the stream, short enough to be written whole."""
    body = word.encode("utf-8", "backslashreplace")
    if len(body) > LONGEST_MARK - 3:
        body = body[: LONGEST_MARK - 16].decode("utf-8", "ignore").encode() + CUT.encode()
    return b"\x1e" + letter.encode() + body + b"\x1f"


class OutputReader:
    """Takes the bytes of one stream as they come."""

    def __init__(self) -> None:
        self.owner = ""  # the token of the attempt whose output it is at; empty: nobody's
        self.is_waiting = False  # for an attempt to be known that has already printed
        self._rest = b""
        self._is_cut = False  # the rest of a line that was too long is passed over

    def take(self, data: bytes, token: str) -> list[Piece]:
        """The lines that have come for the attempt `token`. What belongs to one that is not known yet is held back."""
        data, self._rest, self.is_waiting = self._rest + data, b"", False
        pieces: list[Piece] = []
        at = 0
        for found in _MARK.finditer(data):
            letter, word = found["mark"], (found["word"] or b"").decode("utf-8", "replace")
            if letter == b"B" and word != token:
                self._rest, self.is_waiting = data[at:], True
                return pieces
            text = data[at : found.start()]
            if letter is None or text or self._is_cut:
                self._add(pieces, text)
            at = found.end()
            if letter == b"L" and self.owner:
                pieces.append(Piece(word, True))
            elif letter == b"B":
                self.owner = word
            elif letter == b"E" and word == self.owner:
                self.owner = ""
        self._keep_rest(pieces, data[at:])
        return pieces

    def finish(self) -> list[Piece]:
        """The last line, that nobody ended."""
        pieces: list[Piece] = []
        if self._rest and not self.is_waiting:
            self._add(pieces, self._rest)
        self._rest, self.owner = b"", ""
        return pieces

    def _add(self, pieces: list[Piece], text: bytes) -> None:
        if self.owner and not self._is_cut:
            pieces.append(Piece(text.decode("utf-8", "backslashreplace"), False))
        self._is_cut = False

    def _keep_rest(self, pieces: list[Piece], rest: bytes) -> None:
        """Keep what has no end yet, within bounds: of a progress bar the last state, of a long line its beginning."""
        mark_at = rest.rfind(b"\x1e")
        if mark_at < 0 or len(rest) - mark_at > LONGEST_MARK:
            mark_at = len(rest)
        text, unfinished = rest[:mark_at], rest[mark_at:]
        if not self.owner or self._is_cut:
            text = b""
        if len(text) > LONGEST_RAW:
            last = text.rfind(b"\r", 0, len(text) - 1)
            text = text[last + 1 :]
        if len(text) > LONGEST_RAW:
            self._add(pieces, text[:LONGEST_RAW])
            self._is_cut, text = True, b""
        self._rest = text + unfinished


@dataclass
class KeptLines:
    """The lines of one attempt that are to be stored; the first MOST_LINES, the rest is counted."""

    waiting: list[str] = field(default_factory=list)
    kept: int = 0
    characters: int = 0
    left_out: int = 0

    def add(self, line: str) -> None:
        if self.is_full():
            self.left_out += 1
            return
        self.kept += 1
        self.characters += len(line) + 1
        self.waiting.append(line)
        if self.is_full():
            self.waiting.append("[the log is full: what follows is counted, not kept]")

    def is_full(self) -> bool:
        return self.kept >= MOST_LINES or self.characters >= MOST_CHARACTERS

    def close(self) -> None:
        """Say at the end how much is missing."""
        if self.left_out:
            lines = "1 more line" if self.left_out == 1 else f"{self.left_out:,} more lines"
            self.waiting.append(f"[{lines} came and {'is' if self.left_out == 1 else 'are'} not kept]")
            self.left_out = 0
