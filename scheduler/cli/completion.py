"""`scheduler completion`, and what a shell is told while somebody types: click knows commands and options by itself."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")
ASKED_BY = "_SCHEDULER_COMPLETE"  # the variable by which a shell asks, as click derives it from the command's name
MOST = 200  # names offered at once; whoever has more types a letter


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> int:
    """Print what makes SHELL complete commands, options and names of schedules. For this shell only:

    \b
        source <(scheduler completion bash)

    For every shell to come, put that line into ~/.bashrc or ~/.zshrc; for fish:

    \b
        scheduler completion fish > ~/.config/fish/completions/scheduler.fish
    """
    from scheduler.cli import command_line

    writer = get_completion_class(shell)
    assert writer is not None
    click.echo(writer(command_line, {}, "scheduler", ASKED_BY).source())
    return 0


class ScheduleName(click.ParamType[str]):
    """The name of a schedule in force; any text is taken, the command itself says whether there is such a one."""

    name = "text"

    def shell_complete(self, context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        data = context.params.get("data")
        try:
            return [CompletionItem(name) for name in names_that_begin(begun, data)]
        except Exception:  # nobody wants to read of it in the middle of a line
            return []


def names_that_begin(begun: str, data: Path | None = None) -> list[str]:
    """Names of schedules in force; none where there is no database yet, which is not made for that."""
    from sqlalchemy import make_url, select

    from scheduler.cli.options import settings_of
    from scheduler.store.database import Database, Limits
    from scheduler.store.tables import Schedule

    settings = settings_of(data)
    url = settings.database_url_or_default
    file = make_url(url).database if url.startswith("sqlite") else None
    if file is not None and not Path(file).exists():
        return []
    database = Database(url, pooled=False, limits=Limits(lock=1, statement=1, connect=1, answer=2))  # somebody waits
    try:
        with database.read() as session:
            query = select(Schedule.name).where(
                Schedule.retired_at.is_(None), Schedule.name.startswith(begun, autoescape=True)
            )
            return list(session.scalars(query.order_by(Schedule.name).limit(MOST)))
    finally:
        database.close()
