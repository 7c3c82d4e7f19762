"""What one schedule's keys alone cannot tell: whether it fits its task function, the other schedules, the clock."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from scheduler.errors import Fault
from scheduler.rules.complaints import Complaint, did_you_mean, shown
from scheduler.rules.file.grammar import ScheduleEntry
from scheduler.rules.file.grammar_values import KINDS
from scheduler.rules.file.grammar_when import CronEntry, EveryEntry, OnceEntry
from scheduler.rules.file.wording import schedule_of, subject_of
from scheduler.rules.file.yaml_reader import Document, Path
from scheduler.rules.task.arguments import check_arguments
from scheduler.rules.times.cron_line import read_cron
from scheduler.rules.times.durations import parse_duration
from scheduler.rules.times.every_times import every_note
from scheduler.rules.times.zones import first_moment
from scheduler.task_functions import TaskFunction


def declaration_faults(
    document: Document, path: Path, function: TaskFunction, retry_policies: Collection[str]
) -> Iterator[Fault]:
    """What a task function declares about itself must be something the file knows."""
    at, schedule = (*path, "task"), schedule_of(path)
    told = f"{subject_of(path)}: task function {shown(function.name)} declares"
    if function.kind is not None and function.kind not in KINDS:
        message = f"{told} kind {shown(function.kind)}, which does not exist{did_you_mean(function.kind, KINDS)}"
        yield document.fault(at, "bad-declaration", message, f"There are {', '.join(KINDS)}.", schedule=schedule)
    if function.retry is not None and function.retry not in retry_policies:
        message = f"{told} retry {shown(function.retry)}, which does not exist"
        message += did_you_mean(function.retry, retry_policies)
        yield document.fault(at, "bad-declaration", message, 'Define it under "retry_policies".', schedule=schedule)
    if function.timeout is not None:
        try:
            parse_duration(function.timeout)
        except Complaint as complaint:
            message = f"{told} a timeout that cannot be read: {complaint.message}"
            yield document.fault(at, "bad-declaration", message, complaint.hint, schedule=schedule)


def argument_faults(document: Document, path: Path, raw: Mapping[str, Any], function: TaskFunction) -> Iterator[Fault]:
    """Whether its arguments fit the task function."""
    args = raw.get("args")
    if args is not None and not isinstance(args, dict):
        return  # the grammar has said so
    merged = path in document.merged or (*path, "args") in document.merged
    for problem in check_arguments(function.function, args or {}):
        message, at = f"{subject_of(path)}: {problem.message}", path
        if problem.argument is None:
            code, message = "missing-argument", f"{message} for task {shown(function.name)}"
            at = (*path, "task" if args is None else "args")
            if merged:
                continue
        elif problem.unknown:
            code, at = "unknown-argument", (*path, "args", problem.argument)
        else:
            code, at = "bad-argument", (*path, "args", problem.argument, *problem.path)
        on_key = code != "bad-argument" and at[-1] != "task"
        yield document.fault(at, code, message, problem.hint, on_key=on_key, schedule=schedule_of(path))


def rename_faults(document: Document, raw: Mapping[str, Any]) -> Iterator[Fault]:
    """A former name must be free, and can have one heir."""
    first: dict[str, str] = {}
    for name, value in raw.items():
        was = value.get("was") if isinstance(value, dict) else None
        if not isinstance(was, str):
            continue
        path: Path = ("schedules", name, "was")
        if was in raw:
            message = f"{subject_of(path)}: was names {shown(was)}, which is a schedule of this file"
            yield document.fault(path, "was-is-live", message, "Remove was, or the old schedule.", schedule=name)
        elif was in first:
            message = f"{subject_of(path)}: was names {shown(was)}, as schedule {shown(first[was])} does"
            yield document.fault(path, "was-twice", message, "Only one can take over its history.", schedule=name)
        first.setdefault(was, name)


def surprises(
    document: Document, path: Path, entry: ScheduleEntry, zone: ZoneInfo, now: dt.datetime
) -> Iterator[Fault]:
    """What is allowed and may surprise all the same."""
    subject, schedule = subject_of(path), schedule_of(path)
    if entry.until is not None and first_moment(entry.until, zone) <= now:
        message = f"{subject}: until ({entry.until:%Y-%m-%d %H:%M}) is past: it never fires again"
        hint = "Remove the schedule, or move until."
        yield document.fault((*path, "until"), "is-over", message, hint, schedule=schedule)
    seen: dict[Any, int] = {}
    for number, part in enumerate(entry.when):
        at: Path = (*path, "when", number)
        if at not in document.marks:
            at = at[:-1]  # one mapping, no list
        if isinstance(part, OnceEntry) and first_moment(part.once, zone) <= now:
            message = f"{subject}: once ({part.once:%Y-%m-%d %H:%M}) is past: it never fires"
            hint = "Remove it, or give a moment to come."
            yield document.fault((*at, "once"), "once-past", message, hint, schedule=schedule)
        elif isinstance(part, CronEntry):
            for note in read_cron(part.cron).notes:
                yield document.fault((*at, "cron"), "uneven-step", f"{subject}: {note}", schedule=schedule)
        elif isinstance(part, EveryEntry):
            told = every_note(part.every, part.between and (part.between[0], part.between[1]))
            if told:
                yield document.fault((*at, "every"), "uneven-every", f"{subject}: {told}", schedule=schedule)
        twin = seen.setdefault(part, number)
        if twin != number:
            message = f"{subject}: entries {twin + 1} and {number + 1} of when are the same"
            yield document.fault(
                at, "twin-entries", message, "Equal instants fire once; remove one.", schedule=schedule
            )
