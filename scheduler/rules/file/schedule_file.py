"""A schedule file's text into a Book, or into all of its faults in one go.

Pure: the caller brings the text, the task functions and the time.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from scheduler.errors import Fault
from scheduler.rules import spec
from scheduler.rules.complaints import Complaint, shown
from scheduler.rules.file.assembly import (
    RETRY_POLICIES,
    Surroundings,
    calendar_spec,
    contact_spec,
    digest_spec,
    kind_spec,
    retry_spec,
    schedule_spec,
    service_contacts,
)
from scheduler.rules.file.calendar_checks import calendar_faults, has_windows_alone
from scheduler.rules.file.foresight import ClockNote, clock_notes, forewarnings, too_long_runs
from scheduler.rules.file.grammar import (
    DefaultsEntry,
    FileEntry,
    KindEntry,
    KindsEntry,
    RetryEntry,
    ScheduleEntry,
    keys_of,
)
from scheduler.rules.file.grammar_mail import ContactEntry, DigestEntry
from scheduler.rules.file.grammar_values import KINDS, Known, Sheet, name_complaint
from scheduler.rules.file.grammar_when import CalendarEntry
from scheduler.rules.file.schedule_checks import argument_faults, declaration_faults, rename_faults, surprises
from scheduler.rules.file.several_files import Gathered, gather
from scheduler.rules.file.source_text import Mark
from scheduler.rules.file.wording import (
    SECTIONS,
    complaint_fault,
    faults_of,
    missing_key,
    no_value,
    unknown_key,
)
from scheduler.rules.file.yaml_reader import MAX_BYTES, Document, Path, Scan
from scheduler.rules.times.moments import parse_zone, zone_named
from scheduler.task_functions import TaskFunction

# Keys that say something by having no value: no blackout, no such pause, no arguments, nobody to tell.
MAY_BE_EMPTY = frozenset({"blackout", "pause_after", "args", "notify"})
MAX_FAULTS = 1000  # nobody reads more, and a hostile file may hold a million
NOTHING: Mapping[str, str] = MappingProxyType({})
NO_RUNS: Mapping[str, dt.timedelta] = MappingProxyType({})

Entry = TypeVar("Entry", bound=Sheet)


@dataclass(frozen=True)
class Loaded:
    """What a file means, or what is wrong with it. The book is None if, and only if, there are faults."""

    book: spec.Book | None
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    notes: tuple[ClockNote, ...] = ()  # only when asked to look ahead
    files: tuple[str, ...] = ()  # that were read, the main one first


def load_book(
    text: bytes | str,
    *,
    file: str,
    functions: Mapping[str, TaskFunction] | None,
    now: dt.datetime,
    broken: Mapping[str, str] = NOTHING,
    max_bytes: int = MAX_BYTES,
    look_ahead: bool = False,
    usual: Mapping[str, dt.timedelta] = NO_RUNS,
    folder: str | None = None,
) -> Loaded:
    """The book that `text` holds, or all its faults, in the order of the file; warnings in either case.

    Without `functions` what is said of task functions and their arguments is not checked. `broken` holds the modules
    that could not be imported, with the reasons, to explain a function that is missing. `now` tells a moment that is
    past; no fault and nothing of the book depends on it. With `look_ahead` a good file is also warned of what its fire
    times to come will bring, and what clock changes do to it is noted. `usual` tells how long runs of schedules take,
    by name, to warn of intervals that are shorter.

    The text may be that of several files (several_files.py); `folder` stands before the names of the further ones.
    """
    gathered = gather(text, file, max_bytes=max_bytes, folder=folder)
    places = {file: number for number, file in enumerate(gathered.files)}

    def loaded(book: spec.Book | None, faults: Any, warnings: Any = (), notes: Any = ()) -> Loaded:
        return Loaded(book, _in_order(faults, places), _in_order(warnings, places), tuple(notes), gathered.files)

    of_reading = [fault for scan in gathered.scans for fault in _with_schedules(scan)]
    document = gathered.document
    if document is None:
        return loaded(None, of_reading)
    loading = _Loading(document, gathered, functions, broken, now)
    try:
        book = loading.load()
    except _EnoughFaults:
        book = None
    # where reading had to refuse a value, nothing more need be said about it
    refused = {_place(fault) for fault in of_reading}
    faults = [fault for fault in loading.faults if _place(fault) not in refused]
    faults.extend(of_reading)
    if faults or book is None:
        return loaded(None, faults, loading.warnings)
    warnings = [*loading.warnings, *too_long_runs(document, book, now, usual)]
    if not look_ahead:
        return loaded(book, (), warnings)
    return loaded(book, (), [*warnings, *forewarnings(document, book, now)], clock_notes(book, now))


def source_text_hash(text: bytes | str) -> str:
    """Changes when, and only when, the file's text does."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text).hexdigest()


def _in_order(faults: Any, files: Mapping[str, int]) -> tuple[Fault, ...]:
    return tuple(sorted(dict.fromkeys(faults), key=lambda fault: (files.get(fault.file, 0), fault.line, fault.column)))


def _place(fault: Fault) -> tuple[str, int, int]:
    return fault.file, fault.line, fault.column


def _with_schedules(scan: Scan) -> Iterator[Fault]:
    """The faults of the reading, with the names of the schedules in which they stand: the reader knows no schedules."""
    document = scan.document
    data = document.data if document is not None else None
    if document is None or not isinstance(data, dict) or not isinstance(data.get("schedules"), dict):
        yield from scan.faults
        return
    starts: list[tuple[Mark, str | None]] = [(document.marks[(key,)][0], None) for key in data]
    starts.extend((document.marks[("schedules", name)][0], name) for name in data["schedules"])
    starts.sort(key=lambda start: start[0])
    for fault in scan.faults:
        before = bisect_right(starts, (fault.line, fault.column), key=lambda start: start[0][:2])
        yield replace(fault, schedule=starts[before - 1][1]) if before else fault


class _EnoughFaults(Exception):
    """There are so many that looking further is of no use."""


class _AnyName(frozenset[str]):
    """The names of files that cannot all be read: any may stand in one that cannot."""

    def __contains__(self, name: object) -> bool:
        return True


class _Loading:
    def __init__(
        self,
        document: Document,
        gathered: Gathered,
        functions: Mapping[str, TaskFunction] | None,
        broken: Mapping[str, str],
        now: dt.datetime,
    ) -> None:
        self.document = document
        self.gathered = gathered
        self.functions = functions
        self.broken = broken
        self.now = now
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self.known = Known()

    def load(self) -> spec.Book | None:
        """The book as far as it can be told; faults and warnings are left in their lists."""
        data = self.document.data
        self._add(*self.gathered.faults)
        if data is None:
            hint = "It needs version: 1, timezone: and schedules:."
            self._add(Fault(self.document.file, 1, 1, "empty-file", "the file is empty", hint))
            return None
        if not isinstance(data, dict):
            self._fault((), "not-a-mapping", f"the file must be a mapping, got {shown(data)}")
            return None
        self._check_top(data)
        calendars = self._section(data, "calendars")
        policies = self._section(data, "retry_policies")
        contacts = self._section(data, "contacts")
        self.known = Known(
            contacts=self._names(contacts),
            calendars=self._names(calendars),
            without_days=frozenset(name for name, raw in calendars.items() if has_windows_alone(raw)),
            retry_policies=self._names({**policies, **RETRY_POLICIES}),
            functions=self.functions,
            broken=self.broken,
        )
        around = Surroundings(
            timezone=self._timezone(data),
            defaults=self._read(DefaultsEntry, ("defaults",), data.get("defaults", {})) or DefaultsEntry(),
            kinds=self._kinds(data),
            retry_policies={
                **RETRY_POLICIES,
                **{
                    name: retry_spec(name, entry)
                    for name, entry in self._entries(RetryEntry, "retry_policies", policies).items()
                },
            },
            calendars=self._calendars(calendars),
        )
        raw_schedules = self._section(data, "schedules")
        schedules = self._schedules(raw_schedules, around)
        self._add(*rename_faults(self.document, raw_schedules))
        contact_entries = self._entries(ContactEntry, "contacts", contacts)
        digest_entries = self._entries(DigestEntry, "digests", self._section(data, "digests"))
        if self.faults or not self.gathered.is_complete:
            return None
        return spec.Book(
            file=self.document.file,
            timezone=around.timezone,
            kinds=dict(around.kinds),
            retry_policies=dict(around.retry_policies),
            calendars=dict(around.calendars),
            schedules=schedules,
            contacts={name: contact_spec(name, entry) for name, entry in contact_entries.items()},
            digests={name: digest_spec(name, entry, around) for name, entry in digest_entries.items()},
            notify=service_contacts(around.defaults),
        )

    # --- the top of the file ----------------------------------------------------------------------------------------

    def _check_top(self, data: dict[str, Any]) -> None:
        known = keys_of(FileEntry)
        for key in data:
            if key not in known:
                self._add(unknown_key(self.document, (key,), FileEntry))
        if () not in self.document.merged:
            for key in ("version", "timezone", "schedules"):
                if key not in data:
                    self._add(missing_key(self.document, (), key))
        version = data.get("version", 1)
        if version != 1 or isinstance(version, bool | float):
            self._fault(
                ("version",), "bad-version", f"the file: version must be 1, got {shown(version)}", "Write version: 1."
            )

    def _timezone(self, data: dict[str, Any]) -> str:
        if "timezone" in data:
            try:
                return parse_zone(data["timezone"])
            except Complaint as complaint:
                self._add(complaint_fault(self.document, ("timezone",), complaint))
        return "UTC"  # so that the rest can be looked at; there is a fault already

    def _names(self, entries: Mapping[str, Any]) -> frozenset[str]:
        """The names that may be referred to."""
        return frozenset(entries) if self.gathered.is_complete else _AnyName()

    def _section(self, data: dict[str, Any], section: str) -> dict[str, Any]:
        """What stands under a section, by name; names are looked at here."""
        if section not in data:
            return {}
        raw = data[section]
        if not isinstance(raw, dict):
            hint = "" if raw is not None else f'For none write "{section}: {{}}".'
            told = "has no entries" if raw is None else f"must be a mapping, got {shown(raw)}"
            self._fault((section,), "not-a-mapping", f"the file: {section} {told}", hint)
            return {}
        return raw

    def _kinds(self, data: dict[str, Any]) -> dict[str, spec.KindSpec]:
        raw = data.get("kinds", {})
        entries: dict[str, KindEntry | None] = {}
        if not isinstance(raw, dict):
            self._read(KindsEntry, ("kinds",), raw)
            raw = {}
        for name, value in raw.items():
            if name not in KINDS:
                self._add(unknown_key(self.document, ("kinds", name), KindsEntry))
            else:
                entries[name] = self._read(KindEntry, ("kinds", name), value)
        return {kind: kind_spec(kind, entries.get(kind)) for kind in KINDS}

    def _entries(self, sheet: type[Entry], section: str, raw: dict[str, Any]) -> dict[str, Entry]:
        """Those entries of a section that have no faults, by name."""
        entries = {}
        for name, value in raw.items():
            self._check_name(section, name)
            entry = self._read(sheet, (section, name), value)
            if entry is not None:
                entries[name] = entry
        return entries

    def _check_name(self, section: str, name: str) -> None:
        found = name_complaint(name, SECTIONS[section])
        if found is None:
            return
        complaint, letter = found
        self._add(
            self.document.fault(
                (section, name),
                complaint.code,
                complaint.message,
                complaint.hint,
                on_key=True,
                letter=letter,
                schedule=name if section == "schedules" else None,
            )
        )

    def _read(self, sheet: type[Entry], path: Path, raw: Any) -> Entry | None:
        """The entry at `path`; None when it has faults, which are noted."""
        if isinstance(raw, dict) and None in raw.values():
            empty = {key for key, value in raw.items() if value is None and key not in MAY_BE_EMPTY}
            known = keys_of(sheet)
            for key in empty:
                if key in known:
                    self._add(no_value(self.document, (*path, key)))
        else:
            empty = set()
        try:
            return sheet.model_validate(raw, context=self.known)
        except ValidationError as error:
            faults = faults_of(error, self.document, path, raw, sheet)
        said = {(fault.line, fault.column) for fault in self.faults[-len(empty) :]} if empty else set()
        self._add(*(fault for fault in faults if (fault.line, fault.column) not in said))
        return None

    # --- calendars --------------------------------------------------------------------------------------------------

    def _calendars(self, raw: dict[str, Any]) -> dict[str, spec.Calendar]:
        self._add(*calendar_faults(self.document, raw))
        entries = self._entries(CalendarEntry, "calendars", raw)
        return {name: calendar_spec(name, entry) for name, entry in entries.items()}

    # --- schedules --------------------------------------------------------------------------------------------------

    def _schedules(self, raw: dict[str, Any], around: Surroundings) -> dict[str, spec.ScheduleSpec]:
        specs = {}
        for name, value in raw.items():
            path: Path = ("schedules", name)
            self._check_name("schedules", name)
            entry = self._read(ScheduleEntry, path, value)
            function = self._function(value)
            if function is not None:
                self._add(
                    *declaration_faults(self.document, path, function, self.known.retry_policies),
                    *argument_faults(self.document, path, value, function),
                )
            if entry is None:
                continue
            zone = zone_named(entry.timezone or around.timezone)
            self.warnings.extend(surprises(self.document, path, entry, zone, self.now))
            # else there will be no book, and what a schedule leans on may be missing
            if not self.faults and self.gathered.is_complete:
                specs[name] = schedule_spec(name, entry, around, function)
        return specs

    def _function(self, raw: Any) -> TaskFunction | None:
        task = raw.get("task") if isinstance(raw, dict) else None
        return self.functions.get(task) if self.functions is not None and isinstance(task, str) else None

    # --- notes ------------------------------------------------------------------------------------------------------

    def _add(self, *faults: Fault) -> None:
        self.faults.extend(faults[: MAX_FAULTS - len(self.faults)])
        if len(self.faults) >= MAX_FAULTS:
            last = self.faults[-1]
            message = f"more than {MAX_FAULTS - 1:,} faults; the rest was not looked at"
            self.faults[-1] = Fault(last.file, last.line, last.column, "too-many-faults", message)
            raise _EnoughFaults

    def _fault(self, path: Path, code: str, message: str, hint: str = "") -> None:
        self._add(self.document.fault(path, code, message, hint))
