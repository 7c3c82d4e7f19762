"""`scheduler status`, `schedules`, `tasks`, `show`, `logs`, `doctor` and `settings`: what looks and changes nothing.

They read SQL, so they work while the service is down; Redis is asked by `status` and `doctor` only.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scheduler.cli import screens
from scheduler.cli.completion import ScheduleName
from scheduler.cli.opening import opened
from scheduler.cli.options import Moment, data_option, json_option, print_json, settings_of, term_width
from scheduler.cli.tables import Column, clean, paint, show, table, wrapped
from scheduler.clock import parse_iso, utc_now
from scheduler.errors import NotFound
from scheduler.rules.states import FINAL, KINDS, STATES, SUCCEEDED

if TYPE_CHECKING:
    from scheduler.engine.backends import Backends

TASK_ID = click.IntRange(min=1, max=2**63 - 1)
FOLLOW_SECONDS = 0.5  # between two looks at a log
LAST_LINES_WITHIN = 2.0  # seconds after a task's end; its worker writes the log once a second


@click.command("status")
@data_option
@json_option
def status_command(data: Path | None, as_json: bool) -> int:
    """One glance: is all well?

    Exit status 0 when it is; 1 when a schedule is failing or parked, a task is late, a part does not tick or Redis is
    away; 3 when SQL is away.
    """
    from scheduler.engine.answers.status import status_of

    with opened(settings_of(data)) as backends:
        status = status_of(backends.database, backends.room)
    if as_json:
        print_json(status)
    else:
        for line in screens.status_screen(status, term_width()):
            show(line)
    return 0 if status["ok"] else 1


@click.command("schedules")
@click.option("--all", "everything", is_flag=True, help="Those too that the file no longer has.")
@data_option
@json_option
def schedules_command(everything: bool, data: Path | None, as_json: bool) -> int:
    """List the schedules: state, how the last task ended and how long ago, next fire time (local to the schedule)."""
    from scheduler.engine.answers.schedule_views import schedules_list

    with opened(settings_of(data)) as backends:
        found = schedules_list(backends.database, retired=everything)
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no schedules: `scheduler apply` puts a schedule file in force")
    else:
        for line in screens.schedules_screen(found, utc_now(), term_width()):
            show(line)
    return 0


@click.command("tasks")
@click.option("--kind", type=click.Choice(KINDS), help="Only tasks of this kind.")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only this state; may be repeated.")
@click.option("--schedule", type=ScheduleName(), help="Only tasks of this schedule.")
@click.option("--since", type=Moment(), help='Ended, or due, at or after: 2026-12-01T06:30 (UTC), "2h ago".')
@click.option("--until", type=Moment(), help="Ended, or due, before.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many at most.")
@click.option("--all", "planned", is_flag=True, help="Also what is only planned: the next of it, up to --limit.")
@data_option
@json_option
def tasks_command(
    kind: str | None,
    states: tuple[str, ...],
    schedule: str | None,
    since: dt.datetime | None,
    until: dt.datetime | None,
    limit: int,
    planned: bool,
    data: Path | None,
    as_json: bool,
) -> int:
    """List tasks: what is going on, then what has ended, the newest first.

    What is only planned is hidden unless asked for by --all or --state planned. Times are UTC; «took» is from the
    first start to the end, or until now.
    """
    from scheduler.engine.answers.views import tasks_list

    with opened(settings_of(data)) as backends:
        found = tasks_list(
            backends.database,
            kind=kind,
            state=states or None,
            schedule=schedule,
            since=since,
            until=until,
            limit=limit,
            planned=planned,
        )
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no such task" if kind or states or schedule or since or until else "no task has run yet")
    else:
        for line in screens.tasks_screen(found, utc_now(), term_width()):
            show(line)
    return 0


@click.command("show")
@click.argument("task_id", type=TASK_ID, metavar="ID")
@click.option("--follow", is_flag=True, help="Show its progress until it has ended; exit status 1 unless it succeeds.")
@data_option
@json_option
def show_command(task_id: int, follow: bool, data: Path | None, as_json: bool) -> int:
    """One task, whole: its way through time, its attempts, arguments and result."""
    from scheduler.engine.answers.views import task_of, zone_of

    with opened(settings_of(data)) as backends:
        task = task_of(backends.database, task_id)
        zone = zone_of(backends.database, task_id)
        if follow:
            from scheduler.cli.follow import follow as follow_task

            task = follow_task(lambda: task_of(backends.database, task_id), quiet=as_json)
    if as_json:
        print_json(task)
    else:
        for line in screens.task_screen(task, zone, utc_now(), term_width()):
            show(line)
    return 0 if not follow or task["state"] == SUCCEEDED else 1


@click.command("logs")
@click.argument("task_id", type=TASK_ID, metavar="ID")
@click.option("--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--attempt", type=click.IntRange(min=1, max=2**31 - 1), help="Only of this attempt.")
@data_option
@json_option
def logs_command(task_id: int, follow: bool, attempt: int | None, data: Path | None, as_json: bool) -> int:
    """What a task logged. With --json a list of {attempt, line}; with --follow one such object a line."""
    from scheduler.engine.answers.views import task_of

    with opened(settings_of(data)) as backends:
        task = task_of(backends.database, task_id)
        if attempt is not None and attempt > len(task["attempts"]) and not follow:
            raise NotFound(f"Task {task_id} has no attempt {attempt}; it has begun {len(task['attempts'])}")
        if as_json and not follow:
            print_json(_log_objects(backends, task_id, attempt))
        else:
            _print_log(backends, task_id, attempt, follow, as_json)
    return 0


@click.command("doctor")
@data_option
@json_option
def doctor_command(data: Path | None, as_json: bool) -> int:
    """Check the service's parts, and its promises as queries: each must find nothing.

    Exit status 1 when something is at fault, 3 when SQL is away.
    """
    from dataclasses import asdict

    from scheduler.engine.check.doctor import examine

    with opened(settings_of(data), any_version=True) as backends:
        findings = examine(backends.database, backends.room)
    faults = [finding for finding in findings if not finding.ok]
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return 1 if faults else 0
    width = term_width()
    for finding in findings:
        word = paint("ok   ", "green") if finding.ok else paint("FAULT", "red", bold=True)
        head, *rest = wrapped(f"{finding.name}: {finding.message}", width, " " * 6)
        show(f"{word} {head[6:]}")
        for line in rest:
            show(line)
        if not finding.ok and finding.remedy:
            for line in wrapped(f"-> {finding.remedy}", width, " " * 6):
                show(line)
    show(f"{len(findings)} checks, {len(faults) or 'no'} fault{'' if len(faults) == 1 else 's'}")
    return 1 if faults else 0


@click.command("settings")
@data_option
@json_option
def settings_command(data: Path | None, as_json: bool) -> int:
    """Each setting, its value and where it came from; secrets are masked."""
    found = settings_of(data).shown()
    if as_json:
        print_json(found)
        return 0
    columns = (Column("name"), Column("value", least=20), Column("source", least=10))
    for line in table(columns, [(one["name"], one["value"] or "–", one["source"]) for one in found], term_width()):
        show(line)
    return 0


# --- logs -----------------------------------------------------------------------------------------------------------


def _log_objects(backends: Backends, task_id: int, attempt: int | None) -> list[dict[str, Any]]:
    from scheduler.engine.answers.views import log_pieces

    pieces = log_pieces(backends.database, task_id, attempt)
    return [{"attempt": piece.attempt, "line": line} for piece in pieces for line in piece.lines]


def _print_log(backends: Backends, task_id: int, attempt: int | None, follow: bool, as_json: bool) -> None:
    from scheduler.engine.answers.views import log_pieces, task_of

    after, shown_attempt = 0, 0
    while True:
        task = task_of(backends.database, task_id)  # before the log, so that nothing written before its end is left out
        several = attempt is None and len(task["attempts"]) > 1
        for piece in log_pieces(backends.database, task_id, attempt, after):
            if several and not as_json and piece.attempt != shown_attempt:
                show(paint(f"--- attempt {piece.attempt} ---", None, bold=True))
            after, shown_attempt = piece.id, piece.attempt
            for line in piece.lines:
                if as_json:
                    click.echo(json.dumps({"attempt": piece.attempt, "line": line}, ensure_ascii=False))
                else:
                    click.echo(clean(line.replace("\t", "    ")))
        if not follow or _is_over(task):
            break
        time.sleep(FOLLOW_SECONDS)
    if after == 0 and not as_json:
        click.echo(f"task {task_id} ({task['state']}) has logged nothing", err=True)


def _is_over(task: dict[str, Any]) -> bool:
    """Whether the task has ended, long enough ago for its last lines to be there."""
    if task["state"] not in FINAL:
        return False
    return (utc_now() - parse_iso(task["finished_at"])).total_seconds() > LAST_LINES_WITHIN
