"""`scheduler diff`, `history` and `rollback`: what a file would change, what has been changed, and the way back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scheduler.cli.opening import opened, opened_if_there
from scheduler.cli.options import data_option, json_option, print_json, print_warnings, settings_of, term_width
from scheduler.cli.tables import clean, fit, flowed, moment, show, wrapped
from scheduler.clock import utc_now
from scheduler.errors import FileFaults, WrongUsage

if TYPE_CHECKING:
    from scheduler.engine.file.changes import Difference
    from scheduler.rules.file.diff import Fires, ScheduleDiff

NOTHING_AFTER_THE_FACT = "Nothing would be caught up now: nothing fires after the fact because of an edit."
MOST_KEYS = 20  # of one schedule on the screen; --json has them all
REVISION = click.IntRange(min=1, max=2**31 - 1)
_SIGNS = {"added": "+", "removed": "-", "renamed": ">", "changed": "~", "described": "="}


@click.command("diff")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@data_option
@json_option
def diff_command(file: Path | None, data: Path | None, as_json: bool) -> int:
    """What the schedule file would change: schedules, keys, and the fires of the next 30 days.

    Held against what is in force in SQL; the service need not run. Exit status 0 whether anything differs or not, 1
    when the file has faults.
    """
    from scheduler.engine.answers.usual_durations import usual_durations
    from scheduler.engine.file.changes import difference
    from scheduler.engine.file.schedule_files import load_schedule_file
    from scheduler.task_functions import find_task_functions

    settings = settings_of(data, file)
    catalogue = find_task_functions(settings.task_packages)
    text, loaded = load_schedule_file(settings.file, catalogue, utc_now(), usual=usual_durations(settings))
    if loaded.book is None:
        raise FileFaults(loaded.faults)
    print_warnings(loaded.warnings)
    with opened_if_there(settings) as backends:
        found = difference(backends.database if backends else None, loaded.book, text)
    if as_json:
        print_json(_diff_document(found, settings.file))
        return 0
    for line in _diff_screen(found, settings.file, term_width()):
        show(line)
    return 0


@click.command("history")
@click.argument("number", required=False, type=REVISION, metavar="[N]")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many revisions.")
@click.option("--text", "as_text", is_flag=True, help="With N: the text of the file, as it was taken.")
@data_option
@json_option
def history_command(number: int | None, limit: int, as_text: bool, data: Path | None, as_json: bool) -> int:
    """The revisions of the schedule file, newest first; with N what that one changed."""
    from scheduler.engine.file.changes import revision, revisions

    if as_text and number is None:
        raise WrongUsage("--text goes with a revision: `scheduler history N --text`")
    with opened(settings_of(data)) as backends:
        found = revisions(backends.database, limit) if number is None else [revision(backends.database, number)]
    if number is None:
        if as_json:
            print_json(found)
            return 0
        for line in _history_screen(found, term_width()):
            show(line)
    elif as_json:
        print_json(found[0])
    elif as_text:
        click.echo(found[0]["text"], nl=False)
    else:
        for line in _revision_screen(found[0], term_width()):
            show(line)
    return 0


@click.command("rollback")
@click.argument("number", type=REVISION, metavar="N")
@click.option("--confirm", is_flag=True, help="Even if more than half of the schedules vanish.")
@data_option
@json_option
def rollback_command(number: int, confirm: bool, data: Path | None, as_json: bool) -> int:
    """Put the text of revision N in force again, as a new revision.

    The file on disk is not touched. A restart does not undo the rollback; the next edit of the file does.
    """
    from scheduler.engine.file.changes import roll_back
    from scheduler.store.migrate import migrate
    from scheduler.task_functions import find_task_functions

    settings = settings_of(data)
    with opened(settings, any_version=True) as backends:
        migrate(backends.database)
        catalogue = find_task_functions(settings.task_packages)
        done = roll_back(backends.database, backends.room, number, catalogue, settings.file, confirm=confirm)
    print_warnings(done.loaded.warnings)
    if done.file_differs:
        click.echo(
            f"warning: {settings.file} holds another text. A restart does not take it, the next edit does. "
            f"{_way_back(number, settings.file, done.further)}",
            err=True,
        )
    applied = done.applied
    if as_json:
        print_json(
            {
                "revision": applied.revision,
                "rollback_to": number,
                **applied.changes(),
                "unchanged": applied.unchanged,
                "cancelled": applied.cancelled,
                "file_differs": done.file_differs,
            }
        )
    elif applied.revision is None:
        click.echo(f"the text of revision {number} is in force already")
    else:
        click.echo(f"revision {applied.revision}, the text of revision {number}: {applied}")
    return 0


def _way_back(number: int, file: Path, further: tuple[str, ...]) -> str:
    """How the files on the disk come to hold the text of a revision again."""
    from scheduler.engine.file.schedule_files import further_folder

    folder = further_folder(file)
    if further:
        return (
            f"To bring it in line: `scheduler history {number} --text` prints {file.name}, then, each after a line "
            f'"# --- {folder.name}/NAME", the files of {folder} ({len(further)}; no others were there)'
        )
    others = f", and empty {folder}" if folder.is_dir() else ""
    return f"To bring it in line: scheduler history {number} --text > {file}{others}"


# --- diff -----------------------------------------------------------------------------------------------------------


def _diff_document(found: Difference, file: Path) -> dict[str, Any]:
    from scheduler.engine.answers.api_views import told_difference

    return {"file": str(file), **told_difference(found)}


def _diff_screen(found: Difference, file: Path, width: int) -> Iterator[str]:
    against = f"revision {found.revision}" if found.revision else "nothing in force yet"
    diff = found.diff
    if not diff.schedules:
        head = "in force as it is" if found.same_text else "no schedule differs, only the text round them"
        yield from wrapped(f"{file} against {against}: {head} ({diff})", width)
        return
    yield from wrapped(f"{file} against {against}: {diff}", width)
    if diff.is_mass_removal:
        removed = len(diff.of("removed"))
        yield from wrapped(
            f"{removed} of {diff.before} schedules would vanish: an apply refuses that without --confirm.", width
        )
    for one in diff.schedules:
        yield ""
        yield from _schedule_lines(one, found.held.get(one.was or one.name), width)
    yield ""
    yield from wrapped(NOTHING_AFTER_THE_FACT, width)


def _schedule_lines(one: ScheduleDiff, held: str | None, width: int) -> Iterator[str]:
    head = {
        "added": f"new: {one.when}",
        "removed": f"removed, its history stays: {one.when}",
        "renamed": f"renamed from {one.was}, with its history",
        "changed": "changed",
        "described": "described anew; what is planned stays as it is",
    }[one.how]
    first, *more = wrapped(f"{_SIGNS[one.how]} {one.name}  {head}", width)
    yield first
    for line in more:
        yield from wrapped(line, width, "    ")
    yield from _key_lines([change.as_json() for change in one.keys], width)
    for word, fires in (("gains", one.gained), ("loses", one.lost)):
        if fires.count:
            yield from _fires_lines(word, fires, width)
    if held is not None and one.how != "removed":
        yield from wrapped(f"held: {held}", width, "    ")


def _key_lines(keys: list[dict[str, str]], width: int) -> Iterator[str]:
    for change in keys[:MOST_KEYS]:
        yield from wrapped(f"{change['key']}: {change['old']} → {change['new']}", width, "    ")
    if len(keys) > MOST_KEYS:
        yield f"    … and {len(keys) - MOST_KEYS} more keys"


def _fires_lines(word: str, fires: Fires, width: int) -> Iterator[str]:
    rest = ["…"] if fires.count > len(fires.first) or fires.more else []
    yield f"    {word} {fires} in the next 30 days:"
    for line in flowed([*map(_fire_time, fires.first), *rest], width - 6):
        yield f"      {line}"


def _fire_time(fire_time: dt.datetime) -> str:
    return f"{fire_time:%Y-%m-%d %H:%M:%S}Z" if fire_time.second else f"{fire_time:%Y-%m-%d %H:%M}Z"


# --- history --------------------------------------------------------------------------------------------------------


def _history_screen(found: list[dict[str, Any]], width: int) -> Iterator[str]:
    if not found:
        yield "no file has been taken yet"
    for one in found:
        head = f"{one['revision']:>5}  {moment(one['accepted_at'])}  {one['author']} on {one['host']}, {one['file']}"
        yield fit(clean(head), width)
        yield from wrapped(_in_a_line(one), width, "       ")


def _in_a_line(one: dict[str, Any]) -> str:
    """Such as «rollback to 3: 1 added (mail-flush), 2 changed (a, b)»."""
    parts = []
    for how in ("added", "removed", "renamed", "changed", "described"):
        names = [name for name in one[how] if how != "changed" or name not in one["renamed"].values()]
        if names:
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            parts.append(f"{len(names)} {how} ({shown})")
    lead = f"rollback to {one['rollback_to']}: " if one["rollback_to"] else ""
    return lead + (", ".join(parts) or "no schedule")


def _revision_screen(one: dict[str, Any], width: int) -> Iterator[str]:
    yield from wrapped(
        f"revision {one['revision']}, accepted {moment(one['accepted_at'])} from {one['file']}, "
        f"by {one['author']} on {one['host']}",
        width,
    )
    if one["rollback_to"]:
        yield f"a rollback: the text of revision {one['rollback_to']}"
    old_names = {new: old for old, new in one["renamed"].items()}
    names = {name: how for how in ("added", "removed", "described", "changed") for name in one[how]}
    names |= dict.fromkeys(old_names, "renamed")
    for name, how in sorted(names.items()):
        told = f"renamed from {old_names[name]}" if how == "renamed" else how
        yield from wrapped(f"{_SIGNS[how]} {name}  {told}", width)
        yield from _key_lines(one["keys"].get(name, []), width)
    if not names:
        yield "no schedule was changed"
