"""Text for people: tables that fit the terminal, short durations and moments, colours only where they can be seen.

Colour never says anything alone: the words beside it say the same.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from scheduler.clock import parse_iso
from scheduler.rules.brief import brief

GAP = "  "  # between two columns
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
COLOURS = {
    "succeeded": "green",
    "failed": "red",
    "lost": "red",
    "missed": "yellow",
    "cancelled": "yellow",
    "retrying": "yellow",
    "running": "cyan",
}


# --- letters --------------------------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """The text on one line and without anything that would steer a terminal: what tasks log may hold whatever."""
    return _CONTROLS.sub(" ", _ESCAPES.sub("", text))


def width_of(text: str) -> int:
    """How many columns of a terminal it takes."""
    return sum(0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF") for one in text)


def fit(text: str, width: int) -> str:
    """The text within `width` columns; what is cut off is told by «…»."""
    if width_of(text) <= width:
        return text
    taken, left = "", width - 1
    for letter in text:
        left -= width_of(letter)
        if left < 0:
            break
        taken += letter
    return taken.rstrip() + "…" if width > 0 else ""


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """The text in lines of at most `width`, each after `indent`; lines of its own stay apart."""
    lines: list[str] = []
    for line in text.splitlines() or [""]:
        one_line = clean(line.replace("\t", "    "))
        found = textwrap.wrap(one_line, max(20, width - len(indent)), drop_whitespace=False)
        lines.extend(fit(indent + part.rstrip(), width) for part in found or [""])
    return lines


def flowed(items: Sequence[str], width: int) -> list[str]:
    """The items with commas between, in lines of at most `width`; none is broken."""
    lines: list[str] = []
    for number, item in enumerate(items):
        text = clean(item) + ("," if number < len(items) - 1 else "")
        if lines and width_of(lines[-1]) + 1 + width_of(text) <= width:
            lines[-1] += f" {text}"
        else:
            lines.append(fit(text, width))
    return lines


# --- colours --------------------------------------------------------------------------------------------------------


def has_colours() -> bool:
    """On a terminal, unless NO_COLOR says no; FORCE_COLOR says yes."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def paint(text: str, colour: str | None, *, bold: bool = False) -> str:
    if not has_colours() or (colour is None and not bold):
        return text
    return click.style(text, fg=colour, bold=bold or None)


def show(line: str = "") -> None:
    """Print a line; colours that `paint` put in stay."""
    click.echo(line, color=has_colours())


# --- tables ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """`least` is how far it may be narrowed; None: not at all."""

    title: str
    least: int | None = None
    right: bool = False
    paint_by_word: bool = False  # colour a cell by its word, such as a state


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The rows below their titles, no line wider than `width`."""
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(map(width_of, (column.title, *(row[n] for row in cells)))) for n, column in enumerate(columns)]
    _narrow(widths, columns, width - len(GAP) * (len(columns) - 1))
    lines = [_line([column.title for column in columns], columns, widths, title=True)]
    lines.extend(_line(row, columns, widths) for row in cells)
    return lines


def _narrow(widths: list[int], columns: Sequence[Column], room: int) -> None:
    """Take from the columns that may be narrowed, the last first, until all fit; if it must be, all that they have."""
    for limit in (None, 0):
        for number in reversed(range(len(columns))):
            least = columns[number].least
            if least is not None:
                least = least if limit is None else limit
                widths[number] -= max(0, min(sum(widths) - room, widths[number] - least))


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], *, title: bool = False) -> str:
    parts = []
    for number, (cell, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        text = fit(cell, width)
        padding = " " * (width - width_of(text))
        if title:
            text = paint(text, None, bold=True)
        elif column.paint_by_word:
            text = paint(text, COLOURS.get(text.split(" ")[0]))
        is_last = number == len(columns) - 1
        parts.append(padding + text if column.right else text if is_last else text + padding)
    return GAP.join(parts).rstrip()


# --- times ----------------------------------------------------------------------------------------------------------


def seconds_brief(seconds: float) -> str:
    return brief(dt.timedelta(seconds=seconds))


def between(start: str | None, end: str | None, units: int = 1) -> str:
    """How long from one moment to another; "" when one is missing."""
    return brief(parse_iso(end) - parse_iso(start), units) if start and end else ""


def moment(text: str | None) -> str:
    """Such as «2026-11-24 06:30:05Z»."""
    return f"{parse_iso(text):%Y-%m-%d %H:%M:%S}Z" if text else ""


def moment_short(text: str | None, now: dt.datetime) -> str:
    """«06:30:05Z» for the day of `now`, else «11-23 06:30Z»; UTC."""
    if not text:
        return ""
    when = parse_iso(text)
    return f"{when:%H:%M:%S}Z" if when.date() == now.date() else f"{when:%m-%d %H:%M}Z"


# --- progress -------------------------------------------------------------------------------------------------------


def share_of(progress: dict[str, Any]) -> float | None:
    """How much is done, from 0 to 1; None when the total is not known."""
    done, total = progress.get("done"), progress.get("total")
    if not isinstance(done, int | float) or not isinstance(total, int | float) or total <= 0:
        return None
    return min(1.0, max(0.0, done / total))


def progress_words(progress: dict[str, Any] | None) -> str:
    """Such as «50 % 128 px», «1200 lines read»."""
    if not progress:
        return ""
    share = share_of(progress)
    told = f"{share:.0%}".replace("%", " %") if share is not None else f"{progress.get('done', '')}"
    return f"{told} {progress.get('message') or ''}".strip()


def bar(progress: dict[str, Any], width: int = 20) -> str:
    """`[##########..........]`; "" when the total is not known."""
    share = share_of(progress)
    if share is None:
        return ""
    full = int(share * width)
    return f"[{'#' * full}{'.' * (width - full)}]"
