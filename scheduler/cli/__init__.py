"""The command line. Each command's module is imported when it is called: `scheduler --help` stays quick.

Exit status: 0 good, 1 a fault in what was given or found, 2 wrong usage, 3 a part that is needed does not answer.
Errors go to standard error, without a traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from scheduler.cli.process_one import step_aside_as_process_one
from scheduler.errors import SchedulerError

# command: its module in this package
COMMANDS = {
    "init": "start_here",
    "import": "start_here",
    "up": "service",
    "start": "service",
    "check": "file",
    "diff": "changes",
    "apply": "file",
    "history": "changes",
    "rollback": "changes",
    "next": "file",
    "status": "look",
    "schedules": "look",
    "tasks": "look",
    "show": "look",
    "logs": "look",
    "explain": "past",
    "doctor": "look",
    "settings": "look",
    "run": "act",
    "cancel": "act",
    "retry": "act",
    "backfill": "past",
    "pause": "act",
    "resume": "act",
    "digest": "digest",
    "mail": "mail",
    "user": "user",
    "token": "token",
    "completion": "completion",
}


class LazyGroup(click.Group):
    """Knows its commands by name and imports one when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"scheduler.cli.{COMMANDS[name]}")
        command = getattr(module, f"{name}_command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches

        if arguments and arguments[0] not in COMMANDS and not arguments[0].startswith("-"):
            near = get_close_matches(arguments[0], COMMANDS, n=1)
            hint = f' Did you mean "{near[0]}"?' if near else " `scheduler --help` lists them."
            context.fail(f'There is no command "{arguments[0]}".{hint}')
        return super().resolve_command(context, arguments)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list for --help, from the words below: importing every command's module would make it slow."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, SHORT_HELP[name]) for name in COMMANDS])


SHORT_HELP = {
    "init": "Write a first schedule file.",
    "import": "Entries from a crontab.",
    "up": "Run everything: queue, database, planner, dispatcher, workers.",
    "start": "Run one part, for service on several machines.",
    "check": "Check the schedule file: faults and warnings.",
    "diff": "What the schedule file would change.",
    "apply": "Put the schedule file in force.",
    "history": "The revisions of the schedule file.",
    "rollback": "Put an older revision in force again.",
    "next": "Fire times to come.",
    "status": "One glance: is all well?",
    "schedules": "List the schedules.",
    "tasks": "List tasks: what ran, runs and will run.",
    "show": "One task, whole.",
    "logs": "What a task logged.",
    "explain": "Why a schedule ran at a time, or did not.",
    "doctor": "Check the service's parts and promises.",
    "settings": "Each setting, and where it came from.",
    "run": "Run a schedule or a task function now.",
    "cancel": "Cancel a task.",
    "retry": "Run an ended task again.",
    "backfill": "Run what a schedule has missed in a span.",
    "pause": "Hold a schedule, or many.",
    "resume": "Let held schedules go on.",
    "digest": "Send a digest now, or see what it would say.",
    "mail": "Send a mail to try the settings.",
    "user": "Who may log in to the web page.",
    "token": "Tokens for programs that use the HTTP interface.",
    "completion": "Make a shell complete commands and names.",
}


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(package_name="rq-schedules", prog_name="scheduler", message="%(prog)s %(version)s")
def command_line() -> None:
    """Scheduled jobs declared in one YAML file, run by workers, recorded in SQL."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit status."""
    step_aside_as_process_one()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; its exit status."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # the task packages stand in the working folder
    try:
        returned: Any = command_line.main(arguments, prog_name="scheduler", standalone_mode=False)
        return returned if isinstance(returned, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except click.Abort:
        return 130
    except SchedulerError as error:
        click.echo(str(error), err=True)
        return error.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `scheduler tasks | head` is no fault
        return 0
