"""`scheduler run`, `cancel`, `retry`, `pause` and `resume`."""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path
from typing import Any

import click

from scheduler.cli.options import Moment, data_option, json_option, print_json, print_warnings, settings_of
from scheduler.cli.tables import clean
from scheduler.errors import WrongUsage
from scheduler.rules.states import FINAL, RUNNING, SUCCEEDED
from scheduler.settings import Settings

LOOK_EVERY = 0.2  # seconds
LAST_LINES_WITHIN = 0.6  # seconds; a worker writes the last lines of a log just after the task's end


@click.command("run")
@click.argument("name")
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


@click.command("pause")
@click.argument("name")
@click.option("--why", required=True, help="The reason; it is shown and mailed.")
@click.option("--until", type=Moment(), help='When it goes on by itself: 2026-12-01T06:30 or "in 2h".')
@data_option
@json_option
def pause_command(name: str, why: str, until: dt.datetime | None, data: Path | None, as_json: bool) -> int:
    """Hold a schedule; it survives restarts and applies. What it would have fired is recorded as skipped."""
    actions, _ = _actions(settings_of(data))
    actions.pause(name, why, until)
    if as_json:
        print_json({"schedule": name, "paused": True, "why": why, "until": until.isoformat() if until else None})
    else:
        click.echo(f"{name} is paused" + (f" until {until:%Y-%m-%d %H:%M} UTC" if until else "") + f": {why}")
    return 0


@click.command("resume")
@click.argument("name")
@data_option
@json_option
def resume_command(name: str, data: Path | None, as_json: bool) -> int:
    """Let a held schedule go on. What passed meanwhile stays skipped."""
    actions, _ = _actions(settings_of(data))
    actions.resume(name)
    if as_json:
        print_json({"schedule": name, "paused": False})
    else:
        click.echo(f"{name} goes on")
    return 0


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
