"""`scheduler digest`: a digest out of turn, or a look at it before anyone gets it."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from scheduler.cli.opening import opened
from scheduler.cli.options import data_option, json_option, print_json, settings_of
from scheduler.errors import Refused


@click.command("digest")
@click.argument("name")
@click.option(
    "--preview",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write subject.txt, text.txt, mail.html and the pictures there; send nothing.",
)
@data_option
@json_option
def digest_command(name: str, folder: Path | None, data: Path | None, as_json: bool) -> int:
    """Make a digest now and queue it to be sent, or see what it would say.

    What it covers counts as told once it is delivered: the next one begins there. A preview changes nothing. Works
    while the service is down; the mail then goes out when it is up again.
    """
    from scheduler.engine.mail.digest import issue

    if folder is not None:
        return _write_preview(name, folder, data, as_json)
    with opened(settings_of(data)) as backends:
        issued = issue(backends.database, backends.settings, name)
    if as_json:
        print_json({"digest": name, **issued.as_json()})
        return 0
    click.echo(issued.subject)
    if issued.why_not:
        click.echo(f"nothing to send: {issued.why_not}")
    else:
        click.echo(f"queued {issued.messages} message{'' if issued.messages == 1 else 's'}; the service sends them")
    return 0


def _write_preview(name: str, folder: Path, data: Path | None, as_json: bool) -> int:
    from scheduler.engine.mail.digest import preview

    with opened(settings_of(data)) as backends:
        made = preview(backends.database, backends.settings, name)
    letter = made.letter
    files = {"subject.txt": f"{letter.subject}\n".encode(), "text.txt": letter.text.encode()}
    html = letter.html or ""
    for picture, png in letter.pictures.items():
        files[f"{picture}.png"] = png
        html = html.replace(f"cid:{picture}", f"data:image/png;base64,{base64.b64encode(png).decode()}")
    files["mail.html"] = html.encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
    except OSError as error:
        raise Refused(f"The preview cannot be written to {folder}: {error.strerror}. Name another folder.") from error
    if as_json:
        print_json(
            {
                "digest": name,
                "subject": letter.subject,
                "is_green": made.said.is_green,
                "files": [str(folder / file) for file in files],
            }
        )
        return 0
    click.echo(letter.subject)
    click.echo(f"written to {folder}: {', '.join(files)}")
    return 0
