"""`scheduler token`: what programs show to the HTTP interface instead of a password."""

from __future__ import annotations

from pathlib import Path

import click

from scheduler.cli.options import data_option, json_option, print_json
from scheduler.cli.tables import Column, clean, show, table
from scheduler.cli.user import access_to, access_to_look
from scheduler.errors import WrongUsage
from scheduler.rules.roles import ROLES
from scheduler.rules.times.durations import parse_duration


@click.group("token")
def token_command() -> None:
    """Tokens for programs that use the HTTP interface; each belongs to a user and may do no more than that user."""


@token_command.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What it may do.")
@click.option("--user", help="Whose it is; needed where there are several users.")
@click.option("--expires", default="90d", show_default=True, help="How long it holds, such as 90d or 12h; or never.")
@data_option
@json_option
def add_command(name: str, role: str, user: str | None, expires: str, data: Path | None, as_json: bool) -> int:
    """Make a token. It is shown this once: only its hash is kept."""
    try:
        expires_in = None if expires == "never" else parse_duration(expires)
    except ValueError as error:
        raise WrongUsage(f"--expires: {error}") from error
    with access_to(data) as (access, asker):
        token = access.add_token(name, role, user, expires_in, asker)
    if as_json:
        print_json({"name": name, "role": role, "token": token})
    else:
        click.echo(token)
        click.echo(f"This is all of {name} that you will ever see: keep it where programs find it.", err=True)
    return 0


@token_command.command("revoke")
@click.argument("name")
@data_option
@json_option
def revoke_command(name: str, data: Path | None, as_json: bool) -> int:
    """End a token, at once."""
    with access_to(data) as (access, asker):
        access.revoke_token(name, asker)
    if as_json:
        print_json({"name": name, "revoked": True})
    else:
        click.echo(clean(f"{name} lets nobody in any more"))
    return 0


@token_command.command("list")
@data_option
@json_option
def list_command(data: Path | None, as_json: bool) -> int:
    """List the tokens: whose they are, what they may do, until when, and when they were last used."""
    with access_to_look(data) as access:
        found = access.all_tokens()
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no tokens")
    else:
        rows = [
            [
                one["name"],
                one["user"],
                one["role"],
                (one["expires_at"] or "never")[:10],
                (one["used_at"] or "never")[:16].replace("T", " "),
            ]
            for one in found
        ]
        columns = [Column("token"), Column("user"), Column("role"), Column("expires"), Column("last used (UTC)")]
        for line in table(columns, rows, 100):
            show(line)
    return 0
