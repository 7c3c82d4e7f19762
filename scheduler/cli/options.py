"""What the commands share: options, settings, and how an answer is printed."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from scheduler.clock import utc_now
from scheduler.errors import WrongUsage
from scheduler.settings import Settings, load_settings

Command = TypeVar("Command", bound=Callable[..., Any])

data_option = click.option(
    "--data", type=click.Path(path_type=Path), help="The data folder (SCHEDULER_DATA, else var/)."
)
file_option = click.option(
    "--file", "file", type=click.Path(path_type=Path), help="The schedule file (SCHEDULER_FILE, else schedules.yaml)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")


def settings_of(data: Path | None = None, file: Path | None = None) -> Settings:
    return load_settings({"data": data, "file": file})


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_warnings(warnings: Any) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


class Moment(click.ParamType[dt.datetime]):
    """A moment on the command line, UTC unless it has an offset: see rules/times/typed_moments.py."""

    name = "moment"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> dt.datetime:
        if isinstance(value, dt.datetime):
            return value
        try:
            return read_moment(value)
        except WrongUsage as error:
            self.fail(str(error), parameter, context)


def read_moment(text: str, zone_name: str = "UTC") -> dt.datetime:
    """Local time of `zone_name` where the text has no offset. Raises WrongUsage."""
    from scheduler.rules.times.moments import zone_named
    from scheduler.rules.times.typed_moments import typed_moment

    return typed_moment(text, zone_named(zone_name), utc_now())


def log_to_stderr(level: str) -> None:
    """Log lines of a part: time, level, process, sentence."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    for noisy in ("rq", "rq.worker", "rq_scheduler.scheduler", "apscheduler", "alembic", "uvicorn", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def term_width() -> int:
    """How wide an answer may be: the terminal's width, 80 where there is none."""
    import shutil

    return max(60, min(shutil.get_terminal_size((80, 24)).columns, 160))
