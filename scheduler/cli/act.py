"""`scheduler run`, `cancel`, `retry`, `pause` and `resume`."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import click

from scheduler.cli.completion import ScheduleName
from scheduler.cli.options import Moment, data_option, json_option, print_json, print_warnings, settings_of
from scheduler.cli.tables import clean
from scheduler.errors import WrongUsage
from scheduler.rules.states import FINAL, RUNNING, SUCCEEDED
from scheduler.settings import Settings

LOOK_EVERY = 0.2  # seconds
MOST_LEFT = 10  # schedules that are named one by one
MANY = 100  # schedules, whose number is counted up while they are paused
LAST_LINES_WITHIN = 0.6  # seconds; a worker writes the last lines of a log just after the task's end


@click.command("run")
@click.argument("name", type=ScheduleName())
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--wait", is_flag=True, help="Wait for its end; exit status 1 unless it succeeds.")
@data_option
@json_option
def run_command(name: str, arguments: tuple[str, ...], wait: bool, data: Path | None, as_json: bool) -> int:
    """Run a schedule or a task function once, now, as a new task. Values are read as JSON where they can be, else as
    text: sizes='[32, 64]' source=README.md"""
    from scheduler.task_functions import find_task_functions

    args = _read_arguments(arguments)
    settings = settings_of(data)
    actions, backends = _actions(settings)
    asked = actions.run(name, args, find_task_functions(settings.task_packages))
    print_warnings(asked.warnings)
    if wait:
        return _wait(backends, asked.task_id, as_json)
    if as_json:
        print_json({"id": asked.task_id, "warnings": list(asked.warnings)})
    else:
        click.echo(f"task {asked.task_id}")
    return 0


@click.command("cancel")
@click.argument("task_id", type=click.IntRange(min=1), metavar="ID")
@data_option
@json_option
def cancel_command(task_id: int, data: Path | None, as_json: bool) -> int:
    """Cancel a task. One that runs is asked to stop, then interrupted, then killed."""
    actions, _ = _actions(settings_of(data))
    state = actions.cancel(task_id)
    if as_json:
        print_json({"id": task_id, "state": state, "stop_requested": state == RUNNING})
    elif state == RUNNING:
        click.echo(f"task {task_id} runs; its worker was asked to stop it")
    else:
        click.echo(f"task {task_id} is cancelled")
    return 0


@click.command("retry")
@click.argument("task_id", type=click.IntRange(min=1), metavar="ID")
@data_option
@json_option
def retry_command(task_id: int, data: Path | None, as_json: bool) -> int:
    """Run an ended task again, as a new task that names the old one."""
    actions, _ = _actions(settings_of(data))
    asked = actions.retry(task_id)
    print_warnings(asked.warnings)
    if as_json:
        print_json({"id": asked.task_id, "retry_of": task_id, "warnings": list(asked.warnings)})
    else:
        click.echo(f"task {asked.task_id}, which repeats task {task_id}")
    return 0


name_or_many = click.argument("name", required=False, type=ScheduleName())
all_option = click.option("--all", "everything", is_flag=True, help="All schedules instead of one.")
tag_option = click.option("--tag", help="All schedules with this tag instead of one.")


@click.command("pause")
@name_or_many
@click.option("--why", required=True, help="The reason; it is shown and mailed.")
@click.option("--until", type=Moment(), help='When it goes on by itself: 2026-12-01T06:30 or "in 2h".')
@all_option
@tag_option
@data_option
@json_option
def pause_command(
    name: str | None,
    why: str,
    until: dt.datetime | None,
    everything: bool,
    tag: str | None,
    data: Path | None,
    as_json: bool,
) -> int:
    """Hold a schedule, or many; it survives restarts and applies. What it would have fired is recorded as skipped.

    With --all or --tag those that are paused already stay as they are.
    """
    one = _one_or_many(name, everything, tag)
    actions, _ = _actions(settings_of(data))
    ends_at = f" until {until:%Y-%m-%d %H:%M} UTC" if until else ""
    told = {"why": why, "until": until.isoformat() if until else None}
    if one is not None:
        actions.pause(one, why, until)
        if as_json:
            print_json({"schedule": one, "paused": True, **told})
        else:
            click.echo(f"{one} is paused{ends_at}: {why}")
        return 0
    from scheduler.engine.pause_many import Choice, pause_many

    outcome = pause_many(actions, Choice(tag), why, until, _show_progress)
    if as_json:
        print_json({"paused": outcome.done, **told, "left": outcome.left})
        return 0
    click.echo(f"{_counted(outcome.done)} paused{ends_at}: {why}")
    _show_left(outcome.left)
    if outcome.done:
        click.echo(f"scheduler resume {'--all' if tag is None else f'--tag {shlex.quote(tag)}'}  lets them go on")
    return 0


@click.command("resume")
@name_or_many
@all_option
@tag_option
@data_option
@json_option
def resume_command(name: str | None, everything: bool, tag: str | None, data: Path | None, as_json: bool) -> int:
    """Let a held schedule go on. What passed meanwhile stays skipped.

    With --all or --tag: those that `pause` holds by the same word; what was paused otherwise stays so.
    """
    one = _one_or_many(name, everything, tag)
    actions, _ = _actions(settings_of(data))
    if one is not None:
        actions.resume(one)
        if as_json:
            print_json({"schedule": one, "paused": False})
        else:
            click.echo(f"{one} goes on")
        return 0
    from scheduler.engine.pause_many import Choice, resume_many

    outcome = resume_many(actions, Choice(tag), _show_progress)
    if as_json:
        print_json({"resumed": outcome.done, "left": outcome.left})
        return 0
    click.echo(f"{_counted(outcome.done)} resumed")
    _show_left(outcome.left)
    return 0


def _one_or_many(name: str | None, everything: bool, tag: str | None) -> str | None:
    """The one schedule that is meant; None for many."""
    if sum((name is not None, everything, tag is not None)) != 1:
        raise WrongUsage("Give one of these: the NAME of a schedule, --tag TAG, or --all")
    return name


def _counted(names: list[str]) -> str:
    return f"{len(names):,} schedule{'' if len(names) == 1 else 's'}"


def _show_left(left: dict[str, str]) -> None:
    """Those that stay paused as they were, and how."""
    if left:
        click.echo(f"{len(left):,} paused otherwise, left as {'it is' if len(left) == 1 else 'they are'}:")
    for name, reason in list(left.items())[:MOST_LEFT]:
        click.echo(clean(f"  {name}: {reason}"))
    if len(left) > MOST_LEFT:
        click.echo(f"  … and {len(left) - MOST_LEFT:,} more: scheduler schedules")


def _show_progress(done: int, of: int) -> None:
    """On a terminal, where it takes long enough to be wondered about."""
    if sys.stderr.isatty() and of >= MANY:
        click.echo(f"\r{done:,} of {of:,}" + ("\n" if done == of else ""), nl=False, err=True)


def _actions(settings: Settings) -> tuple[Any, Any]:
    from scheduler.engine.actions import Actions
    from scheduler.engine.backends import Backends
    from scheduler.engine.file.apply import current_author
    from scheduler.store.migrate import migrate

    backends = Backends(settings)
    migrate(backends.database)
    return Actions(backends.database, backends.room, current_author()), backends


def _read_arguments(words: tuple[str, ...]) -> dict[str, Any]:
    args: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise WrongUsage(f'"{word}" is no argument; write key=value')
        if key in args:
            raise WrongUsage(f'the argument "{key}" is given twice')
        try:
            args[key] = json.loads(value)
        except ValueError:
            args[key] = value
    return args


def _wait(backends: Any, task_id: int, as_json: bool) -> int:
    """Wait for the end of a task, showing its log as it comes."""
    from scheduler.engine.answers.views import log_pieces, task_of

    seen, ended = 0, False
    while True:
        task = task_of(backends.database, task_id)
        if not as_json:
            for piece in log_pieces(backends.database, task_id, after=seen):
                seen = piece.id
                for line in piece.lines:
                    click.echo(clean(line.replace("\t", "    ")), err=True)
        if ended:
            break
        ended = task["state"] in FINAL
        time.sleep(LAST_LINES_WITHIN if ended else LOOK_EVERY)
    if as_json:
        print_json(task)
    else:
        click.echo(f"task {task_id} {task['state']}" + (f": {task['reason']}" if task["reason"] else ""))
        if task["result"] is not None:
            click.echo(json.dumps(task["result"], indent=2, ensure_ascii=False))
    return 0 if task["state"] == SUCCEEDED else 1
