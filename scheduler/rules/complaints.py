"""How the readers of single values say what is wrong: the message, how to mend it, and a code for machines.

They do not know where the value stands; schedule_file.py adds file, line and column.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

from scheduler.errors import SchedulerError

MOST_COMPARED = 1000  # names; a comparison costs some microseconds, and a file may hold a thousand typos
LONGEST_SHOWN = 60  # letters of a value in a message; enough to find it, too little to flood a terminal


class Complaint(SchedulerError, ValueError):
    """A value cannot be used."""

    def __init__(
        self, message: str, hint: str = "", *, code: str = "bad-value", plain: bool = False, at: str = ""
    ) -> None:
        super().__init__(f"{message}. {hint}" if hint else message)
        self.message = message
        self.hint = hint
        self.code = code
        self.plain = plain  # the message needs no key before it
        self.at = at  # the key beside which the trouble is, when the one that was read is not written at all


def shown(value: object) -> str:
    """A value as the file gives it, cut to what fits in a message."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if not isinstance(value, str):
        return json.dumps(value, default=str)
    cut = value if len(value) <= LONGEST_SHOWN else value[: LONGEST_SHOWN - 1] + "…"
    return json.dumps(cut, ensure_ascii=False)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` most likely was meant to be."""
    # difflib's cost grows with the square of the length; no known name is longer than 64
    found = difflib.get_close_matches(word[:80].lower(), list(islice(known, MOST_COMPARED)), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "retry"?`, or nothing when no known word is near."""
    found = nearest(word, known)
    return f'; did you mean "{found}"?' if found else ""


def in_words(words: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    listed = list(words)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} {last} {listed[-1]}"


def place_in(data: Any, loc: Iterable[str | int]) -> tuple[str | int, ...]:
    """The part of a pydantic error's place that lies in `data`; pydantic adds tags, and places in lists of one."""
    place: list[str | int] = []
    for part in loc:
        is_key = isinstance(data, dict) and part in data
        if is_key or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data[part]
            place.append(part)
    return tuple(place)
