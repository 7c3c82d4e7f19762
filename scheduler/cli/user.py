"""`scheduler user`: who may log in to the web page. Works while the service is down."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scheduler.cli.opening import opened
from scheduler.cli.options import data_option, json_option, print_json, settings_of
from scheduler.cli.tables import Column, clean, show, table
from scheduler.errors import WrongUsage
from scheduler.rules.roles import ROLES

if TYPE_CHECKING:
    from scheduler.engine.access import Access
    from scheduler.rules.askers import Asker

role_option = click.option("--role", type=click.Choice(ROLES), required=True, help="What the user may do.")
password_options = [
    click.option(
        "--password-file", type=click.Path(path_type=Path), help="Read the password from the file's first line."
    ),
    click.option("--generate", is_flag=True, help="Make a password, and print it once."),
]


def with_password(command: Any) -> Any:
    for option in reversed(password_options):
        command = option(command)
    return command


@contextmanager
def access_to(data: Path | None) -> Iterator[tuple[Access, Asker]]:
    """Who may come in, and who asks: whoever is at the keyboard. A database that is not there yet is made."""
    import socket

    from scheduler.engine.access import Access
    from scheduler.engine.backends import Backends
    from scheduler.engine.file.apply import current_author
    from scheduler.rules.askers import Asker
    from scheduler.store.migrate import migrate

    backends = Backends(settings_of(data))
    try:
        migrate(backends.database)
        yield Access(backends.database), Asker(current_author(), address=socket.gethostname())
    finally:
        backends.close()


@contextmanager
def access_to_look(data: Path | None) -> Iterator[Access]:
    """The same to look alone, at a database that is there."""
    from scheduler.engine.access import Access

    with opened(settings_of(data)) as backends:
        yield Access(backends.database)


@click.group("user")
def user_command() -> None:
    """Who may log in to the web page: viewer looks, operator also acts, admin also sees the audit."""


@user_command.command("add")
@click.argument("name")
@role_option
@with_password
@data_option
@json_option
def add_command(
    name: str, role: str, password_file: Path | None, generate: bool, data: Path | None, as_json: bool
) -> int:
    """Let NAME log in. The password is asked for twice, unless it is read from a file or made."""
    password = _password(password_file, generate)
    with access_to(data) as (access, asker):
        access.add_user(name, password, role, asker)
    _print_done({"user": name, "role": role}, f"{name} may log in as {role}", password if generate else None, as_json)
    return 0


@user_command.command("password")
@click.argument("name")
@with_password
@data_option
@json_option
def password_command(name: str, password_file: Path | None, generate: bool, data: Path | None, as_json: bool) -> int:
    """Give NAME another password; it ends the sessions of NAME."""
    password = _password(password_file, generate)
    with access_to(data) as (access, asker):
        access.set_password(name, password, asker)
    said = f"{name} has a new password and must log in again"
    _print_done({"user": name}, said, password if generate else None, as_json)
    return 0


@user_command.command("role")
@click.argument("name")
@click.argument("role", type=click.Choice(ROLES))
@data_option
@json_option
def role_command(name: str, role: str, data: Path | None, as_json: bool) -> int:
    """Give NAME another role; it ends the sessions of NAME."""
    with access_to(data) as (access, asker):
        access.set_role(name, role, asker)
    _print_done({"user": name, "role": role}, f"{name} is {role} now and must log in again", None, as_json)
    return 0


@user_command.command("disable")
@click.argument("name")
@data_option
@json_option
def disable_command(name: str, data: Path | None, as_json: bool) -> int:
    """Lock NAME out, at once, and the tokens of NAME too."""
    with access_to(data) as (access, asker):
        access.set_disabled(name, True, asker)
    _print_done({"user": name, "disabled": True}, f"{name} may not log in any more", None, as_json)
    return 0


@user_command.command("enable")
@click.argument("name")
@data_option
@json_option
def enable_command(name: str, data: Path | None, as_json: bool) -> int:
    """Let NAME in again."""
    with access_to(data) as (access, asker):
        access.set_disabled(name, False, asker)
    _print_done({"user": name, "disabled": False}, f"{name} may log in again", None, as_json)
    return 0


@user_command.command("list")
@data_option
@json_option
def list_command(data: Path | None, as_json: bool) -> int:
    """List the users."""
    with access_to_look(data) as access:
        found = access.all_users()
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no users: whoever can reach the page on this machine may do everything")
    else:
        rows = [[one["name"], one["role"], _day(one["created_at"]), _day(one["disabled_at"])] for one in found]
        columns = [Column("user"), Column("role"), Column("since"), Column("disabled")]
        for line in table(columns, rows, 100):
            show(line)
    return 0


def _password(file: Path | None, generate: bool) -> str:
    """From the file, made, or from the keyboard. Raises WrongUsage."""
    from scheduler.engine.passwords import new_password

    if file is not None and generate:
        raise WrongUsage("--password-file and --generate exclude each other")
    if generate:
        return new_password()
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").split("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise WrongUsage(f"--password-file names {file}, which cannot be read: {error}") from error
    if not sys.stdin.isatty():
        raise WrongUsage("There is no terminal to ask for a password: give --password-file or --generate")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt="The same again"))


def _print_done(document: dict[str, Any], said: str, password: str | None, as_json: bool) -> None:
    if as_json:
        print_json(document if password is None else {**document, "password": password})
        return
    click.echo(clean(said))
    if password is not None:
        click.echo(f"password: {password}")


def _day(moment: str | None) -> str:
    return moment[:10] if moment else ""
