"""The settings of a schedule that are in force, each with where it comes from: its own entry, defaults, its kind …

Pure. What the file says is looked up by its keys alone: the values are those of the spec.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scheduler.rules.file.diff import FILE_WORDS, value_in_words
from scheduler.rules.spec import Retry, ScheduleSpec
from scheduler.rules.task.masking import mask_arguments
from scheduler.task_functions import TaskFunction

ENTRY, FILE, DEFAULTS, FUNCTION, BUILT_IN = "schedule", "file", "defaults", "task function", "built in"
# Told elsewhere on a page: when it fires, by name, and what nobody sets.
_NOT_TOLD = frozenset({"name", "when", "calendars", "about", "was"})
_OF_KIND = ("queue", "max_running")
_WITHOUT_DEFAULTS = frozenset(
    {"task", "args", "start", "until", "max_runs", "exclusive", "paused", "finish_by", "too_fast"}
)


@dataclass(frozen=True)
class FileKeys:
    """Which keys stand where in the schedule file."""

    schedules: Mapping[str, frozenset[str]] = field(default_factory=dict)
    defaults: frozenset[str] = frozenset()
    kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class ResolvedSetting:
    key: str  # as the file writes it
    value: str  # in words
    source: str  # schedule, file, defaults, kind long, task function, built in


def file_keys(data: Any) -> FileKeys:
    """The keys of a file that was read; of what is no mapping there are none."""
    sections = data if isinstance(data, dict) else {}
    return FileKeys(
        {name: _keys(entry) for name, entry in _mapping(sections.get("schedules")).items()},
        _keys(sections.get("defaults")),
        {name: _keys(entry) for name, entry in _mapping(sections.get("kinds")).items()},
    )


def resolved_settings(spec: ScheduleSpec, keys: FileKeys, function: TaskFunction | None) -> Iterator[ResolvedSetting]:
    """All settings, in the order of the spec; what is not set and has no default is left out."""
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if name in _NOT_TOLD or (name == "paused" and value is None):
            continue
        key = FILE_WORDS.get(name, name)
        source = _source(key, spec, keys, function)
        if source == BUILT_IN and value in (None, "", (), {}):
            continue
        yield ResolvedSetting(key, _words(name, value), source)


def _source(key: str, spec: ScheduleSpec, keys: FileKeys, function: TaskFunction | None) -> str:
    kind = f"kind {spec.kind}"
    of_kind = keys.kinds.get(spec.kind, frozenset())
    if key in _OF_KIND:
        return kind if key in of_kind else BUILT_IN
    if key in keys.schedules.get(spec.name, frozenset()):
        return ENTRY
    if key == "timezone":
        return FILE
    if key in ("kind", "retry", "timeout") and function is not None and getattr(function, key) is not None:
        return FUNCTION
    if key in keys.defaults and key not in _WITHOUT_DEFAULTS:
        return DEFAULTS
    if key in ("timeout", "warn_after") and key in of_kind:
        return kind
    return BUILT_IN


def _words(name: str, value: Any) -> str:
    if name == "args":
        return value_in_words(mask_arguments(value))
    if isinstance(value, Retry):
        return _retry_in_words(value)
    return value_in_words(value)


def _retry_in_words(retry: Retry) -> str:
    """Such as «gentle: 3 attempts, exponential from 30 seconds up to 10 minutes»."""
    if retry.attempts == 1:
        return f"{retry.name}: 1 attempt"
    first, longest = value_in_words(retry.first), value_in_words(retry.longest)
    told = f"{retry.name}: {retry.attempts} attempts, {retry.backoff} from {first} up to {longest}"
    if retry.give_up_after is not None:
        told += f", given up after {value_in_words(retry.give_up_after)}"
    if retry.until_next:
        told += ", until it fires again"
    for word, names in (("only on", retry.only_on), ("never on", retry.never_on)):
        told += f", {word} {', '.join(names)}" if names else ""
    return told


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _keys(entry: Any) -> frozenset[str]:
    return frozenset(str(key) for key in _mapping(entry))
