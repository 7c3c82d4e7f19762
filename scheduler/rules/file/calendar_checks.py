"""What cannot be told of one calendar's keys alone: whether it holds anything, and what it takes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scheduler.errors import Fault
from scheduler.rules.file.wording import subject_of
from scheduler.rules.file.yaml_reader import Document, Path

MAX_TAKEN_OUT = 100  # calendars; each schedule keeps a copy of all that it needs
DAY_KEYS = ("dates", "spans", "country", "days")
WINDOW_KEYS = ("windows", "weekly")


def calendar_faults(document: Document, raw: Mapping[str, Any]) -> Iterator[Fault]:
    """All faults of that sort; `raw` holds the calendars as they are written."""
    for name, value in raw.items():
        yield from _emptiness(document, name, value)
    taken_out = {name: _names_under(value, "except") for name, value in raw.items()}
    for name in taken_out:
        yield from _taking_out(document, name, taken_out)


def has_windows_alone(raw: Any) -> bool:
    return (
        isinstance(raw, dict)
        and any(key in raw for key in WINDOW_KEYS)
        and not any(key in raw for key in (*DAY_KEYS, "except"))
    )


def _emptiness(document: Document, name: str, raw: Any) -> Iterator[Fault]:
    path: Path = ("calendars", name)
    if not isinstance(raw, dict) or any(key in raw for key in (*DAY_KEYS, *WINDOW_KEYS)):
        return
    if "except" in raw:
        message = f"{subject_of(path)} has no days that except could take out of"
        yield document.fault(path, "empty-calendar", message, "Add days: daily, or days: mon-fri.", on_key=True)
    elif not raw:
        hint = f"Give it {', '.join(DAY_KEYS)}, windows or weekly."
        yield document.fault(path, "empty-calendar", f"{subject_of(path)} holds nothing", hint, on_key=True)


def _taking_out(document: Document, name: str, taken_out: Mapping[str, list[str]]) -> Iterator[Fault]:
    """Calendars that take each other out: what would be in them? And chains of them without an end in sight."""
    path: Path = ("calendars", name)
    seen = {name}
    waiting: list[tuple[str, tuple[str, ...]]] = [(name, (name,))]
    while waiting and len(seen) - 1 <= MAX_TAKEN_OUT:
        here, trail = waiting.pop()
        for following in taken_out.get(here, ()):
            if following == name and name == min(trail):  # told once, at the first of the loop by name
                message = f"{subject_of(path)} takes itself out: {' → '.join([*trail, name])}"
                yield document.fault((*path, "except"), "calendar-loop", message, "Remove one of them.")
                return
            if following not in seen:
                seen.add(following)
                waiting.append((following, (*trail, following)))
    if len(seen) - 1 > MAX_TAKEN_OUT:
        message = f"{subject_of(path)} takes out more than {MAX_TAKEN_OUT} others, one by another"
        yield document.fault((*path, "except"), "calendar-chain", message, "Put their days together.")


def _names_under(raw: Any, key: str) -> list[str]:
    value = raw.get(key) if isinstance(raw, dict) else None
    return [name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
