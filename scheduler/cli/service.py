"""`scheduler up` and `scheduler start`.

What only one part, or only `up`, needs is imported there: a worker's memory holds nothing of the keeper's.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scheduler.cli.options import (
    data_option,
    file_option,
    json_option,
    log_to_stderr,
    print_json,
    print_warnings,
    settings_of,
)
from scheduler.clock import utc_now
from scheduler.engine.backends import Backends
from scheduler.engine.loops import Stop
from scheduler.engine.work.processes import UNDER_UP
from scheduler.errors import DatabaseAway, FileFaults, PartAway, RedisAway, Refused, SettingFault, WrongUsage
from scheduler.rules.states import KINDS
from scheduler.rules.times.durations import parse_duration
from scheduler.settings import Settings
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.migrate import migrate
from scheduler.task_functions import Catalogue, find_task_functions

if TYPE_CHECKING:
    from scheduler.engine.file.apply import Applied
    from scheduler.engine.supervisor import Supervisor

log = logging.getLogger(__name__)


@click.command("up")
@click.option("--duration", help="End by itself after this long, such as 30s or 2h.")
@file_option
@data_option
@json_option
def up_command(duration: str | None, file: Path | None, data: Path | None, as_json: bool) -> int:
    """Run everything in one: a private Redis and SQLite unless REDIS_URL and DATABASE_URL name others, migrations, the
    schedule file, dispatcher, keeper, workers of each kind, and the web page. Ctrl-C ends it, with a summary."""
    from scheduler.engine.mail.mailer import mail_settings_of
    from scheduler.engine.supervisor import DataFolder, Supervisor
    from scheduler.notify.mail import way_of

    seconds = None if duration is None else _read_duration("--duration", duration)
    settings = settings_of(data, file)
    mail_settings = mail_settings_of(settings)
    log_to_stderr(settings.log_level)
    folder = DataFolder(settings.data)
    folder.lock()
    stop = Stop().listen()
    supervisor = Supervisor(settings, folder)
    began, began_at = time.monotonic(), utc_now()
    backends = Backends(settings)
    try:
        supervisor.start_server()
        until = None if seconds is None else began + seconds
        answered = _wait_for_backends(backends, stop, until)
        if answered:
            _say(f"database    {backends.database.place}")
            _say(f"queue       {_place_of_queue(supervisor)}")
            _prepare(settings, backends)
            _say(f"mail        {way_of(mail_settings)}")
            if settings.web_port:
                _say(f"web         {settings.web_url}")
            supervisor.start_parts()
            _say(f"running     {len(supervisor.parts)} parts; Ctrl-C ends it, `scheduler status` tells how it goes")
            supervisor.watch(stop, until)
        _say("stopping …")
    finally:
        supervisor.stop_parts()
        summary = _summary(backends, began_at)
        supervisor.stop_server()
        backends.close()
        folder.close()
    _print_summary(summary, time.monotonic() - began, as_json)
    return 0 if answered or stop.is_set else PartAway.exit_status


@click.command("start")
@click.argument("part", type=click.Choice(["dispatcher", "keeper", "worker", "web"]))
@click.option("--kind", type=click.Choice(KINDS), help="The kind of task a worker runs.")
@click.option("--patience", help="What a running task gets when the worker is told to stop, such as 15m (6s).")
@data_option
@file_option
def start_command(part: str, kind: str | None, patience: str | None, data: Path | None, file: Path | None) -> int:
    """Run one part in the foreground: a dispatcher, a keeper (planner and reconcile), a worker of one kind, or
    the web page with its HTTP interface.

    Any number of each may run, on any number of machines; they need REDIS_URL and DATABASE_URL.
    """
    if (part == "worker") != (kind is not None):
        raise WrongUsage("A worker needs --kind scheduled, long or adhoc; the other parts take none")
    settings = settings_of(data, file)
    if patience is not None:
        settings = replace(settings, patience_seconds=round(_read_duration("--patience", patience)))
    for name, value in (("REDIS_URL", settings.redis_url), ("DATABASE_URL", settings.database_url)):
        if value is None:
            raise SettingFault(
                f"{name} is not set: parts that run by themselves need to be told. `scheduler up` does not."
            )
    if part == "web" and settings.web_port == 0:
        raise SettingFault("web_port is 0, which means no web page; give it a port, such as SCHEDULER_WEB_PORT=8080")
    log_to_stderr(settings.log_level)
    if part == "keeper" and UNDER_UP not in os.environ:
        from scheduler.engine.mail.mailer import mail_settings_of
        from scheduler.notify.mail import way_of

        _say(f"mail        {way_of(mail_settings_of(settings))}")
    backends = Backends(settings)
    stop = Stop().listen()
    if not _wait_for_backends(backends, stop):
        return 0
    migrate(backends.database)
    backends.close()
    if part == "dispatcher":
        from scheduler.engine.parts import run_dispatcher

        run_dispatcher(settings, stop)
    elif part == "keeper":
        from scheduler.engine.keeper import run_keeper

        run_keeper(settings, stop)
    elif part == "web":
        from scheduler.web.server import run_web

        run_web(settings, stop, is_process=True)
    else:
        from scheduler.engine.parts import run_worker

        assert kind is not None
        run_worker(settings, kind, stop)
    return 0


def _read_duration(option: str, text: str) -> float:
    """Seconds. Raises WrongUsage."""
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise WrongUsage(f"{option}: {error}") from error


def _wait_for_backends(backends: Backends, stop: Stop, until: float | None = None) -> bool:
    """Wait until SQL and Redis answer, saying so, with growing pauses; False when told to stop, or when it is `until`
    of the monotonic clock, before they did."""
    pause = 1.0
    while not stop.is_set and (until is None or time.monotonic() < until):
        try:
            with backends.database.read() as session:
                schedules.now(session)
            backends.room.is_planted()
            return True
        except (DatabaseAway, RedisAway) as error:
            log.warning("%s Next try in %.0f s.", error, pause)
            stop.wait(pause if until is None else max(0.0, min(pause, until - time.monotonic())))
            pause = min(pause * 2, 30.0)
    return False


def _prepare(settings: Settings, backends: Backends) -> None:
    """Migrations and the schedule file; when it is not to be taken, the last good one stays in force."""
    migrate(backends.database)
    catalogue = find_task_functions(settings.task_packages)
    try:
        _say(f"schedules   {settings.file}: {_apply_file(settings, backends, catalogue)}")
    except (FileFaults, Refused) as error:
        if not _has_revision(backends.database):
            raise
        click.echo(str(error), err=True)
        _say("schedules   the last good version stays in force")


def _apply_file(settings: Settings, backends: Backends, catalogue: Catalogue) -> Applied:
    from scheduler.engine.file.apply import apply, why_outdated
    from scheduler.engine.file.schedule_files import load_schedule_file

    text, loaded = load_schedule_file(settings.file, catalogue, utc_now())
    if loaded.book is None:
        raise FileFaults(loaded.faults)
    outdated = why_outdated(backends.database, settings.file, text)
    if outdated is not None:
        raise Refused(outdated)
    print_warnings(loaded.warnings)
    return apply(backends.database, backends.room, loaded.book, text)


def _has_revision(database: Database) -> bool:
    with database.read() as session:
        return schedules.latest_revision(session) is not None


def _place_of_queue(supervisor: Supervisor) -> str:
    if supervisor.server is not None:
        return f"private Redis at {supervisor.server.socket}"
    from scheduler.broker.connection import without_password

    return without_password(supervisor.settings.redis_url or "")


def _summary(backends: Backends, since: Any) -> dict[str, Any] | None:
    from scheduler.engine.answers.views import tasks_ended_since

    try:
        summary: dict[str, Any] = tasks_ended_since(backends.database, since)
        return summary
    except PartAway:
        return None


def _print_summary(summary: dict[str, Any] | None, seconds: float, as_json: bool) -> None:
    if as_json:
        print_json({"seconds": round(seconds, 1), **(summary or {})})
        return
    if summary is None:
        _say("summary     not to be had: the database does not answer")
        return
    counts = Counter(summary["states"])
    told = ", ".join(f"{number} {state}" for state, number in counts.items()) or "nothing ran"
    _say(f"summary     in {seconds:.0f} s: {told}")
    for row in summary["tasks"]:
        states = ", ".join(f"{number} {state}" for state, number in row["states"].items())
        _say(f"            {row['name']:<28} {row['kind']:<10} {states}")


def _say(line: str) -> None:
    """What a person reads; with --json standard output is the document's alone."""
    click.echo(line, err=bool(click.get_current_context().params.get("as_json")))
    sys.stdout.flush()
