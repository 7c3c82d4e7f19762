"""`scheduler check`, `apply` and `next`: the schedule file, with and without a service."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import click

from scheduler.cli.completion import ScheduleName
from scheduler.cli.options import (
    Moment,
    data_option,
    file_option,
    json_option,
    print_json,
    print_warnings,
    settings_of,
)
from scheduler.clock import iso, utc_now
from scheduler.errors import Fault, FileFaults, NotFound
from scheduler.rules.file.foresight import ClockNote
from scheduler.rules.file.schedule_file import Loaded
from scheduler.rules.spec import Book, ScheduleSpec
from scheduler.settings import Settings

MOST_UNTIL = 10_000  # fire times of one schedule that `next --until` gives at most
MOST_NOTES = 20  # on clock changes that `check` prints; all of them stand in its JSON


@click.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@data_option
@json_option
def check_command(file: Path | None, data: Path | None, as_json: bool) -> int:
    """Check the schedule file: all faults and warnings at once, each with line and column.

    No service is needed. Where its database is at hand, how long runs usually take is looked up there for a warning.
    """
    settings = settings_of(data, file)
    loaded = _load(settings, look_ahead=True)
    if as_json:
        print_json(
            {
                "ok": not loaded.faults,
                "faults": [_fault(fault) for fault in loaded.faults],
                "warnings": [_fault(fault) for fault in loaded.warnings],
                "notes": [_note(note) for note in loaded.notes],
                "schedules": sorted(loaded.book.schedules) if loaded.book else [],
                "files": list(loaded.files),
            }
        )
        return 1 if loaded.faults else 0
    print_warnings(loaded.warnings)
    if loaded.faults:
        raise FileFaults(loaded.faults)
    assert loaded.book is not None
    click.echo(f"{settings.file}: good, {_count(loaded.book)}")
    if len(loaded.files) > 1:
        click.echo(f"read from {len(loaded.files)} files:")
        for name in loaded.files:
            click.echo(f"  {name}")
    if loaded.notes:
        click.echo("clock changes of the next 12 months:")
    for note in loaded.notes[:MOST_NOTES]:
        click.echo(f"  {note.local:%Y-%m-%d}  {note.schedule}: {note.note}")
    if len(loaded.notes) > MOST_NOTES:
        click.echo(f"  … and {len(loaded.notes) - MOST_NOTES:,} more; --json lists them all")
    return 0


@click.command("apply")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--confirm", is_flag=True, help="Even if more than half of the schedules vanish.")
@data_option
@json_option
def apply_command(file: Path | None, confirm: bool, data: Path | None, as_json: bool) -> int:
    """Put the schedule file in force, in one transaction; what runs is left alone."""
    from scheduler.engine.answers.usual_durations import usual_durations
    from scheduler.engine.backends import Backends
    from scheduler.engine.file.apply import apply
    from scheduler.engine.file.schedule_files import load_schedule_file
    from scheduler.store.migrate import migrate

    settings = settings_of(data, file)
    usual = usual_durations(settings)
    text, loaded = load_schedule_file(settings.file, _catalogue(settings), utc_now(), usual=usual)
    if loaded.book is None:
        raise FileFaults(loaded.faults)
    print_warnings(loaded.warnings)
    backends = Backends(settings)
    migrate(backends.database)
    applied = apply(backends.database, backends.room, loaded.book, text, confirm=confirm)
    if as_json:
        print_json(
            {
                "revision": applied.revision,
                **applied.changes(),
                "unchanged": applied.unchanged,
                "cancelled": applied.cancelled,
            }
        )
        return 0
    if applied.revision is None:
        click.echo(f"{settings.file} is in force already ({applied.unchanged} schedules)")
        return 0
    click.echo(f"revision {applied.revision}: {applied}")
    for word, names in (
        ("added", applied.added),
        ("changed", applied.changed),
        ("described", applied.described),
        ("removed", applied.removed),
        ("renamed", [f"{old} -> {new}" for old, new in applied.renamed.items()]),
    ):
        for name in names[:20]:
            click.echo(f"  {word:<9} {name}")
        if len(names) > 20:
            click.echo(f"  {word:<9} … and {len(names) - 20} more")
    if applied.cancelled:
        click.echo(f"  {applied.cancelled} tasks that had not started were cancelled")
    return 0


@click.command("next")
@click.argument("name", required=False, type=ScheduleName())
@click.option(
    "--count", type=click.IntRange(1, 10_000), help="How many of each schedule (5 of one, else 1; with --until all)."
)
@click.option("--after", type=Moment(), help="Fire times after this moment (now).")
@click.option("--until", type=Moment(), help="Fire times up to this moment.")
@file_option
@json_option
def next_command(
    name: str | None,
    count: int | None,
    after: dt.datetime | None,
    until: dt.datetime | None,
    file: Path | None,
    as_json: bool,
) -> int:
    """Fire times to come, from the file alone; no service is needed."""
    from scheduler.rules.file.digests import with_digests

    settings = settings_of(file=file)
    loaded = _load(settings, check_functions=False)
    if loaded.book is None:
        raise FileFaults(loaded.faults)
    specs = _chosen(with_digests(loaded.book), name)
    if count is None and until is None:
        count = 5 if name else 1
    rows = _next_rows(specs, after or utc_now(), until, count if count is not None else MOST_UNTIL)
    if as_json:
        print_json(
            [
                {
                    "schedule": row["spec"].name,
                    "fire_time": iso(row["fire_time"]),
                    "local": row["local"].isoformat(),
                    "note": row["note"],
                }
                for row in rows
            ]
        )
        return 0
    _print_next(specs, rows)
    return 0


def _catalogue(settings: Settings) -> Any:
    from scheduler.task_functions import find_task_functions

    return find_task_functions(settings.task_packages)


def _load(settings: Settings, *, check_functions: bool = True, look_ahead: bool = False) -> Loaded:
    from scheduler.engine.answers.usual_durations import usual_durations
    from scheduler.engine.file.schedule_files import load_schedule_file

    catalogue = _catalogue(settings) if check_functions else None
    usual = usual_durations(settings) if look_ahead else {}
    _, loaded = load_schedule_file(settings.file, catalogue, utc_now(), look_ahead=look_ahead, usual=usual)
    return loaded


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "file": fault.file,
        "line": fault.line,
        "column": fault.column,
        "schedule": fault.schedule,
        "code": fault.code,
        "message": fault.message,
        "hint": fault.hint,
    }


def _note(note: ClockNote) -> dict[str, Any]:
    return {
        "schedule": note.schedule,
        "fire_time": iso(note.fire_time),
        "local": note.local.isoformat(),
        "note": note.note,
    }


def _count(book: Book) -> str:
    number = len(book.schedules)
    words = "1 schedule" if number == 1 else f"{number} schedules"
    if book.digests:
        words += f" and {len(book.digests)} digest{'' if len(book.digests) == 1 else 's'}"
    return words


def _chosen(book: Book, name: str | None) -> list[ScheduleSpec]:
    if name is None:
        return [book.schedules[one] for one in sorted(book.schedules)]
    if name not in book.schedules:
        from difflib import get_close_matches

        near = get_close_matches(name, book.schedules, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise NotFound(f'There is no schedule "{name}" in {book.file}{hint}')
    return [book.schedules[name]]


def _next_rows(
    specs: list[ScheduleSpec], after: dt.datetime, until: dt.datetime | None, count: int
) -> list[dict[str, Any]]:
    from itertools import islice
    from zoneinfo import ZoneInfo

    from scheduler.rules.times.fire_times import dst_note, fire_times

    rows = []
    for spec in specs:
        zone = ZoneInfo(spec.timezone)
        for fire_time in islice(fire_times(spec, after, until), count):
            notes = [dst_note(spec, fire_time), "paused in the file" if spec.paused and spec.paused.paused else ""]
            rows.append(
                {
                    "spec": spec,
                    "fire_time": fire_time,
                    "local": fire_time.astimezone(zone),
                    "note": "; ".join(filter(None, notes)),
                }
            )
    return sorted(rows, key=lambda row: (row["fire_time"], row["spec"].name))


def _print_next(specs: list[ScheduleSpec], rows: list[dict[str, Any]]) -> None:
    from scheduler.rules.times.words import in_words

    if len(specs) == 1:
        click.echo(f"{specs[0].name}: {in_words(specs[0], with_zone=True)}")
    if not rows:
        click.echo("no fire time to come")
        return
    width = max(len(row["spec"].name) for row in rows)
    for row in rows:
        local = row["local"]
        when = (
            f"{local:%a %Y-%m-%d %H:%M:%S %Z}".replace(":00 ", " ", 1)
            if local.second == 0
            else f"{local:%a %Y-%m-%d %H:%M:%S %Z}"
        )
        words = "" if len(specs) == 1 else f"  {in_words(row['spec'])}"
        line = f"{row['fire_time']:%Y-%m-%d %H:%M:%S}Z  {when}  {row['spec'].name:<{width}}{words}".rstrip()
        click.echo(line if len(line) <= 160 else line[:159] + "…")
        if row["note"]:
            click.echo(f"    {row['note']}")
