"""`scheduler init` and `scheduler import`: the first schedule file, empty or from a crontab."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from scheduler.cli.options import file_option, json_option, print_json, settings_of
from scheduler.errors import Refused, WrongUsage
from scheduler.rules.complaints import Complaint
from scheduler.rules.file.crontab_import import Imported, Remark, read_crontab, schedules_text, told
from scheduler.rules.times.moments import parse_zone

LARGEST_CRONTAB = 1_000_000  # bytes; cron itself takes a thousand lines or so
EDITOR_LINE = "# yaml-language-server: $schema=config/schedules.schema.json\n"
STARTER = """\
# What runs, and when. `scheduler check` tells what is wrong with it, `scheduler next` when each fires next.
# Every word that may stand here: docs/schedules.md.
version: 1
timezone: {timezone}  # times of day below are this zone's, whatever the host's is

defaults:                              # every schedule inherits these, and may say otherwise
  retry: gentle                        # three attempts, with longer and longer delays in between
  grace: 10m                           # what cannot start within this is missed, or caught up:
  missed: {{run: latest, within: 1h}}    # none, latest or all
  overlap: skip                        # never two runs of one schedule at once

# The first one: put a function into the folder tasks/, remove the braces, and the # below.
schedules: {{}}
#  morning-words:
#    task: count_words                 # a plain Python function, marked with @task
#    args: {{source: README.md}}         # its arguments, checked when the file is loaded
#    when: {{at: "06:30", days: mon-fri}}    # or {{every: 15m}}, {{cron: "0 22 * * sun"}}, {{once: "2030-12-05 23:00"}}
#    about: What a reader should know.
#    owner: jana
"""


@click.command("init")
@file_option
@click.option("--timezone", default="UTC", help="The zone of all times in the file (UTC).")
def init_command(file: Path | None, timezone: str) -> int:
    """Write a first schedule file, with comments. One that is there is left as it is."""
    path = settings_of(file=file).file
    try:
        text = STARTER.format(timezone=f"{parse_zone(timezone):<26}")
    except Complaint as complaint:
        raise WrongUsage(complaint.message) from complaint
    if (path.parent / "config" / "schedules.schema.json").exists():
        text = EDITOR_LINE + text
    try:
        with path.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise Refused(f"{path} is there already, and is left as it is. Name another with --file.") from None
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}. Name another with --file.") from error
    click.echo(f"{path} is written. Next: add a schedule, then `scheduler check` and `scheduler up`.")
    return 0


@click.group("import")
def import_command() -> None:
    """Entries of a schedule file from what schedules were kept in before."""


@import_command.command("crontab")
@click.argument("file", type=click.File("rb"))
@json_option
def import_crontab_command(file: Any, as_json: bool) -> int:
    """Print the lines of a user's crontab as entries (FILE, or - for standard input, as in `crontab -l`).

    Times are taken over; each entry still needs its task. Exit status 1 when a line could not be turned.
    """
    content = file.read(LARGEST_CRONTAB + 1)
    if len(content) > LARGEST_CRONTAB:
        raise Refused(f"{file.name} is larger than a crontab can be ({LARGEST_CRONTAB:,} bytes).")
    found = read_crontab(content.decode("utf-8", "replace"))
    lost = [one for one in found if isinstance(one, Remark) and one.is_entry]
    if as_json:
        print_json(
            {
                "entries": [asdict(one) for one in found if isinstance(one, Imported)],
                "settings": [_remark(one) for one in found if isinstance(one, Remark) and not one.is_entry],
                "not_turned": [_remark(one) for one in lost],
            }
        )
    else:
        click.echo(schedules_text(found), nl=False)
        click.echo(told(found), err=True)
    return 1 if lost else 0


def _remark(remark: Remark) -> dict[str, Any]:
    return {"line": remark.line, "text": remark.text, "why": remark.why}
