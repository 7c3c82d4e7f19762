"""`scheduler mail test`: a mail sent at once, to see whether the settings are right."""

from __future__ import annotations

from pathlib import Path

import click

from scheduler.cli.options import data_option, json_option, print_json, settings_of


@click.group("mail")
def mail_command() -> None:
    """Send a mail to try the settings."""


@mail_command.command("test")
@click.argument("address")
@data_option
@json_option
def test_command(address: str, data: Path | None, as_json: bool) -> int:
    """Send a mail to ADDRESS at once, by the settings in force, and say what became of it; nothing is queued.

    Exit status 1 when the mail or a setting is refused, 3 when the server does not answer or asks to try later.
    """
    from scheduler.engine.mail.mailer import mail_settings_of
    from scheduler.notify.mail import build_message, send, way_of

    service = settings_of(data)
    settings = mail_settings_of(service)
    text = f"This mail was sent by `scheduler mail test`.\nIf you can read it, mails of {service.name} arrive.\n"
    mail = build_message(settings.sender, [address], f"[{service.name}] Test mail", text)
    sent = send(mail, settings)
    if as_json:
        print_json(
            {
                "delivered": sent.delivered,
                "way": way_of(settings),
                "file": None if sent.file is None else str(sent.file),
                "message_id": sent.message_id,
            }
        )
    elif sent.file is not None:
        click.echo(f"No SMTP server is set, so the mail was written to {sent.file}; set SCHEDULER_SMTP_URL to send it.")
    else:
        click.echo(f"{settings.server} took the mail for {address} as {sent.message_id}.")
        click.echo(f"It went {way_of(settings)}. If it does not arrive, look into that server's log.")
    return 0
