"""Sends a mail, by the server or into the outbox that `scheduler.notify.mail` finds in the environment."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scheduler import context, log, task
from scheduler.errors import DatabaseAway, SettingFault
from scheduler.notify import mail
from tasks.commons import BadArgument, TaskFault, open_source, shown

MAX_ATTACHMENTS = 20
MAX_ATTACHED_BYTES = 18 * 1024 * 1024  # together; packed for mail they grow by a third, to what servers take


class MailNotSent(TaskFault):
    """The mail did not go out; a later attempt may succeed."""


class MailRefused(MailNotSent):
    """The mail did not go out, and another attempt would end the same way."""


@task
def send_mail(
    to: list[str] | str,
    subject: str,
    text: str,
    html: str | None = None,
    attachments: Sequence[str] = (),
    reply_to: str | None = None,
) -> dict[str, Any]:
    """Send a mail; without an SMTP server in the settings it becomes an .eml file in the outbox folder.

    `to` is a list of addresses, or text with several parted by commas. `attachments` are paths of files in the working
    or the data folder, or in the folders that SCHEDULER_SOURCE_FOLDERS names. Within a run the Message-ID comes from
    its idempotency key, the installation and the mail, so that a mail sent again by a retry carries the same one, and
    the outbox keeps it once.

    Returns {message_id, delivered: "smtp" or "outbox", refused: {address: answer}}, and for the outbox `file`.
    Recipients that the server did not take, while others got the mail, are in `refused` and do not fail the run.
    Raises BadArgument, SourceFault for an attachment, MailRefused, or MailNotSent when trying again may help.
    """
    files = _read_attachments(attachments)
    try:
        settings = mail.MailSettings.from_environment()
        message = mail.build_message(
            settings.sender,
            to,
            subject,
            text,
            html,
            attachments=files,
            reply_to=reply_to,
            message_id=_message_id(settings.sender, to, subject, text, html, files, reply_to),
        )
        delivery = mail.send(message, settings)
    except mail.MailRefused as error:
        raise MailRefused(str(error)) from error
    except mail.MailServerAway as error:
        raise MailNotSent(str(error)) from error
    except (mail.MailFault, SettingFault) as error:
        raise BadArgument(str(error)) from error
    if delivery.refused:
        log.warning(
            "the mail went out, but not to %s",
            ", ".join(f"{address} ({answer})" for address, answer in delivery.refused.items()),
            extra={"event": "mail_partly_refused", "message_id": delivery.message_id},
        )
    result: dict[str, Any] = {
        "message_id": delivery.message_id,
        "delivered": delivery.delivered,
        "refused": dict(delivery.refused),
    }
    if delivery.file is not None:
        result["file"] = str(delivery.file)
    return result


def _read_attachments(paths: Sequence[str]) -> list[mail.Attachment]:
    if isinstance(paths, str):
        paths = [paths]
    if len(paths) > MAX_ATTACHMENTS:
        raise BadArgument(
            f"there are {len(paths)} attachments; a mail may have {MAX_ATTACHMENTS}; pack them into one file"
        )
    left = MAX_ATTACHED_BYTES
    files = []
    for path in paths:
        if not isinstance(path, str):
            raise BadArgument(f"attachments has {shown(path)}; give paths of files")
        with open_source(path, at_most=left, fenced=True) as file:
            content = file.read(left + 1)
        left = max(0, left - len(content))
        files.append(mail.Attachment(Path(path).name, content))
    return files


def _message_id(sender: str, to: list[str] | str, *rest: object) -> str | None:
    """The same for every attempt of a run, but another for each mail that a run sends, and for a run of the same name
    in another installation, whose mail a server could otherwise drop; None outside a run. Raises MailNotSent."""
    key = context.idempotency_key
    if key is None:
        return None
    try:
        origin = context.origin()
    except DatabaseAway as error:
        raise MailNotSent(f"the mail's Message-ID could not be made: {error}; nothing was sent") from error
    subject, text, html, files, reply_to = rest
    digests = [(file.name, hashlib.sha256(file.content).hexdigest()) for file in files]  # type: ignore[attr-defined]
    return mail.stable_message_id(repr((origin, key, to, subject, text, html, digests, reply_to)), sender)
