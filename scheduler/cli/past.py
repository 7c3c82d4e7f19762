"""`scheduler explain`: why a schedule ran at a moment, or did not."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from scheduler.cli.options import data_option, json_option, print_json, read_moment, settings_of
from scheduler.clock import utc_now


@click.command("explain")
@click.argument("name")
@click.argument("time")
@data_option
@json_option
def explain_command(name: str, time: str, data: Path | None, as_json: bool) -> int:
    """Why a schedule ran at a moment, or did not. TIME without an offset is read in the schedule's own zone:
    "2026-11-24 06:30", 2026-11-24T05:30Z, "2h ago"."""
    from scheduler.engine.backends import Backends
    from scheduler.engine.explain import explain

    backends = Backends(settings_of(data))
    found = explain(backends.database, name, lambda zone: _moment(time, zone))
    backends.close()
    if as_json:
        print_json(found.as_json())
        return 0
    click.echo(f"{found.schedule} at {found.moment:%Y-%m-%d %H:%M:%S}Z: {found.answer}")
    if found.note:
        click.echo(f"  {found.note}")
    for word, moment in (("before it", found.before), ("after it", found.after)):
        if moment is not None:
            click.echo(f"  next fire time {word:<9}  {moment:%Y-%m-%d %H:%M:%S}Z")
    if found.task_id is not None:
        click.echo(f"  scheduler show {found.task_id}")
    return 0


def _moment(text: str, zone: ZoneInfo) -> dt.datetime:
    """A moment; local time of `zone` where the text has no offset."""
    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return read_moment(text, utc_now()).replace(microsecond=0)
    return (moment.replace(tzinfo=zone) if moment.tzinfo is None else moment).astimezone(dt.UTC)
