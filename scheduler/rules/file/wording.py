"""pydantic's errors as faults: which entry, which key, the value as given, how to mend it."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scheduler.errors import Fault
from scheduler.rules.complaints import Complaint, did_you_mean, in_words, nearest, place_in, shown
from scheduler.rules.file.grammar import SHEETS, ScheduleEntry, keys_of, required_keys_of
from scheduler.rules.file.grammar_values import Sheet
from scheduler.rules.file.grammar_when import WHEN_ENTRIES
from scheduler.rules.file.yaml_reader import Document, Path

SECTIONS = {
    "schedules": "schedule",
    "calendars": "calendar",
    "retry_policies": "retry policy",
    "kinds": "kind",
    "contacts": "contact",
    "digests": "digest",
}

# What pydantic calls it -> what people would write there.
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
}
_MISSING_HINTS = {
    "task": "Name the task function that it calls, such as task: count_words.",
    "when": 'Say when it fires, such as when: {every: 5m} or when: {at: "06:30"}.',
    "version": "Begin the file with version: 1.",
    "timezone": "Name the zone of all times in the file, such as timezone: Europe/Berlin; the host's is never used.",
    "schedules": 'Add schedules: and under it an entry a schedule, or "schedules: {}" for none.',
    "soft": "Add soft, or write one duration: timeout: 10m.",
    "then": "Say then: skip or then: run-after.",
    "during": "Name the calendars: during: [freeze].",
    "run": "Say run: none, latest or all.",
}


def subject_of(path: Path) -> str:
    """`schedule "nightly"`, `calendar "freeze"`, `defaults`, or `the file`."""
    if len(path) > 1 and path[0] in SECTIONS:
        return f"{SECTIONS[str(path[0])]} {shown(str(path[1]))}"
    return "defaults" if path[:1] == ("defaults",) else "the file"


def schedule_of(path: Path) -> str | None:
    return str(path[1]) if len(path) > 1 and path[0] == "schedules" else None


def key_of(path: Path) -> str:
    """The keys below the subject, with points: `missed.within`."""
    below = path[2:] if len(path) > 1 and path[0] in SECTIONS else path[1:] if path and path[0] == "defaults" else path
    return ".".join(str(part) for part in below if isinstance(part, str))


def faults_of(error: ValidationError, document: Document, base: Path, raw: Any, sheet: type[Sheet]) -> list[Fault]:
    """All faults of the entry at `base`, whose data is `raw` and whose grammar is `sheet`."""
    faults = []
    for details in error.errors(include_url=False):
        path = (*base, *place_in(raw, details["loc"]))
        if details["type"] == "missing":
            if path not in document.merged:
                faults.append(missing_key(document, path, str(details["loc"][-1])))
        elif details["type"] == "extra_forbidden":
            faults.append(unknown_key(document, path, _sheet_at(details["loc"], sheet)))
        else:
            faults.append(_bad_value(document, path, details))
    return faults


def complaint_fault(document: Document, path: Path, complaint: Complaint) -> Fault:
    """What the reader of a single value complained of, at its place."""
    path = _beside(document, path, complaint.at)
    subject, key = subject_of(path), key_of(path)
    lead = f"{subject}: " if complaint.plain or not key else f"{subject}: {key}: "
    if complaint.code == "no-value":
        lead = f"{subject}: {key} "
    message = lead + complaint.message
    return document.fault(path, complaint.code, message, complaint.hint, schedule=schedule_of(path))


def _beside(document: Document, path: Path, key: str) -> Path:
    """The place of `key` next to or below `path`, where there is one."""
    places = ((*path, key), (*path[:-1], key)) if key else ()
    return next((place for place in places if place in document.marks), path)


def no_value(document: Document, path: Path) -> Fault:
    message = f"{subject_of(path)}: {key_of(path)} has no value"
    return document.fault(path, "no-value", message, "Give it one, or remove the key.", schedule=schedule_of(path))


def missing_key(document: Document, path: Path, key: str) -> Fault:
    inside = key_of(path)
    message = f'{subject_of(path)}: {inside} has no "{key}"' if inside else f'{subject_of(path)} has no "{key}"'
    hint = _MISSING_HINTS.get(key, "")
    return document.fault(path, "missing-key", message, hint, on_key=True, schedule=schedule_of(path))


def unknown_key(document: Document, path: Path, sheet: type[Sheet]) -> Fault:
    """A key that the grammar does not have there; the nearest that it has, where one is near."""
    parent, key = path[:-1], str(path[-1])
    inside = key_of(parent)
    subject = f"{subject_of(parent)}: {inside}" if inside else subject_of(parent)
    known = keys_of(sheet)
    hint, meant = "", did_you_mean(key, known)
    other = next((name for name, entry in WHEN_ENTRIES.items() if key in keys_of(entry)), None)
    if parent == ("defaults",) and key in keys_of(ScheduleEntry):
        message = f"defaults cannot hold {shown(key)}"
        hint = "It belongs to one schedule; move it there."
    elif sheet in WHEN_ENTRIES.values() and other is not None:
        own = next(name for name, entry in WHEN_ENTRIES.items() if entry is sheet)
        message = f"{subject}: {shown(key)} goes with {other}, not with {own}"
        hint = f"With {own} there are {in_words(known, 'and')}." if len(known) > 1 else f"{own} stands alone."
    else:
        message = f"{subject} has an unknown key {shown(key)}{meant}"
        needed = required_keys_of(sheet)
        listed = sorted(known, key=lambda name: name not in needed)
        hint = "" if meant else f"Known here: {', '.join(listed)}."
    return document.fault(path, "unknown-key", message, hint, on_key=True, schedule=schedule_of(path))


def _bad_value(document: Document, path: Path, details: ErrorDetails) -> Fault:
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    complaint = context.get("error")
    if isinstance(complaint, Complaint):
        return complaint_fault(document, path, complaint)
    key = key_of(path)
    where = f"{subject_of(path)}: {key}" if key else subject_of(path)
    hint, code = "", "bad-value"
    if kind == "one-of-when":
        message, hint = _one_of_when(subject_of(path), given)
        code = "one-of-when"
    elif kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context.get("expected", ""))) or [str(context.get("expected"))]
        meant = did_you_mean(given, allowed) if isinstance(given, str) else ""
        message = f"{where} must be {in_words(allowed)}, got {shown(given)}{meant}"
    elif given is None and not key:
        message = f"{where} is empty"
        code = "no-value"
    elif kind in _WANTED:
        wanted = _WANTED[kind]
        message = f"{where} must be {wanted}, got {shown(given)}"
        if wanted == "text" and isinstance(given, int | float):
            hint = f'Put it in quotes: "{shown(given)}".'
    elif kind in ("greater_than_equal", "less_than_equal"):
        bound = "at least" if kind.startswith("greater") else "at most"
        message = f"{where} must be {bound} {context.get('ge', context.get('le')):g}, got {shown(given)}"
    elif kind == "string_too_long":
        message = f"{where} has {len(given):,} letters; {context['max_length']:,} are the most"
    else:
        message = f"{where} cannot be {shown(given)}: {details['msg']}"
    return document.fault(path, code, message, hint, schedule=schedule_of(path))


def _one_of_when(subject: str, given: Any) -> tuple[str, str]:
    rule = "give exactly one of every, at, cron, once"
    if not isinstance(given, dict):
        return f'{subject}: when must be a mapping such as {{every: 5m}} or {{at: "06:30"}}, got {shown(given)}', ""
    named = [key for key in WHEN_ENTRIES if key in given]
    if named:
        return f"{subject}: {rule}; here are {in_words(named, 'and')}", "Make it two entries: when: [{…}, {…}]."
    for key in given:
        meant = nearest(key, WHEN_ENTRIES)
        if meant:
            return f'{subject}: {rule}; did you mean "{meant}" by {shown(key)}?', ""
    return f"{subject}: {rule}", ""


def _sheet_at(loc: tuple[str | int, ...], sheet: type[Sheet]) -> type[Sheet]:
    """The grammar that the mapping round the last part of `loc` was read by."""
    for part in reversed(loc[:-1]):
        if part in SHEETS:
            return SHEETS[str(part)]
    return sheet
