"""`scheduler explain` and `backfill`: why a schedule ran at a moment, or did not; and running what it did not."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from scheduler.cli.completion import ScheduleName
from scheduler.cli.options import (
    Moment,
    data_option,
    json_option,
    print_json,
    print_warnings,
    read_moment,
    settings_of,
)


@click.command("explain")
@click.argument("name", type=ScheduleName())
@click.argument("time")
@data_option
@json_option
def explain_command(name: str, time: str, data: Path | None, as_json: bool) -> int:
    """Why a schedule ran at a moment, or did not. TIME without an offset is read in the schedule's own zone:
    06:30 (today), "yesterday 06:30", "2026-11-24 06:30", 2026-11-24T05:30Z, "2h ago"."""
    from scheduler.engine.answers.explain import explain
    from scheduler.engine.backends import Backends

    backends = Backends(settings_of(data))
    found = explain(backends.database, name, lambda zone: read_moment(time, zone.key).replace(microsecond=0))
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


@click.command("backfill")
@click.argument("name", type=ScheduleName())
@click.option("--from", "first", type=Moment(), required=True, help="Fire times at or after: 2026-12-01T06:30 (UTC).")
@click.option("--to", "last", type=Moment(), required=True, help='Fire times up to and with: 2026-12-02, "1h ago".')
@click.option("--all", "everything", is_flag=True, help="Also those that succeeded; never what has not ended.")
@click.option("--dry-run", is_flag=True, help="Only say how many, the first and the last.")
@data_option
@json_option
def backfill_command(
    name: str,
    first: dt.datetime,
    last: dt.datetime,
    everything: bool,
    dry_run: bool,
    data: Path | None,
    as_json: bool,
) -> int:
    """A task for each past fire time in a span that has not succeeded, as the schedule is now.

    They run in the schedule's own queue, the oldest first, and one after the other unless the schedule lets its runs
    overlap. At most 1,000 at once.
    """
    from scheduler.engine.backends import Backends
    from scheduler.engine.backfill import Backfills
    from scheduler.engine.file.apply import current_author
    from scheduler.store.migrate import migrate

    backends = Backends(settings_of(data))
    migrate(backends.database)
    actions = Backfills(backends.database, backends.room, current_author())
    made = actions.backfill(name, first, last, everything=everything, dry_run=dry_run)
    backends.close()
    if as_json:
        print_json({**made.as_json(), "dry_run": dry_run})
        return 0
    print_warnings(made.warnings)
    count = len(made.fire_times)
    if count:
        span = f"{made.fire_times[0]:%Y-%m-%d %H:%M:%S}Z to {made.fire_times[-1]:%Y-%m-%d %H:%M:%S}Z"
        what = "would get a task" if dry_run else f"got a task: {made.task_ids[0]} to {made.task_ids[-1]}"
        click.echo(f"{name}: {count} fire time{'' if count == 1 else 's'}, {span}, {what}")
    else:
        click.echo(f"{name}: nothing to do in that span")
    if made.left_out:
        click.echo(f"left out: {made.left_out} that succeeded or {'has' if made.left_out == 1 else 'have'} not ended")
    return 0
