from __future__ import annotations

import email
import email.policy
import importlib
import logging
import os
import stat
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest

from scheduler.context import Run, running
from scheduler.errors import DatabaseAway
from tasks import send_mail
from tasks.commons import BadArgument, SourceFault
from tests.notify.smtp_server import ScriptedServer, running_smtp_server
from tests.tasks.conftest import Watched

module = importlib.import_module("tasks.send_mail")  # `tasks.send_mail` is the function


def read(path: str | Path) -> EmailMessage:
    return email.message_from_bytes(Path(path).read_bytes(), policy=email.policy.default)


def outbox() -> list[Path]:
    return sorted(Path("var/outbox").glob("*"))


def test_without_a_server_a_mail_is_a_file_in_the_outbox():
    result = send_mail("Jana <jana@example.org>", "Grüße", "Hallo", html="<p>Hallo</p>", reply_to="ops@example.org")

    message = read(result["file"])
    assert result == {
        "message_id": message["Message-ID"],
        "delivered": "outbox",
        "refused": {},
        "file": str(outbox()[0]),
    }
    assert stat.S_IMODE(outbox()[0].stat().st_mode) == 0o600
    assert [message[name] for name in ("From", "To", "Reply-To", "Subject")] == [
        "jobs@localhost",
        "Jana <jana@example.org>",
        "ops@example.org",
        "Grüße",
    ]
    assert message.get_body(("plain",)).get_content() == "Hallo\n"
    assert message.get_body(("html",)).get_content() == "<p>Hallo</p>\n"


def test_with_a_server_it_goes_there(monkeypatch: pytest.MonkeyPatch):
    with running_smtp_server(ScriptedServer()) as server:
        monkeypatch.setenv("SCHEDULER_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        monkeypatch.setenv("SCHEDULER_MAIL_FROM", "Jobs <jobs@example.org>")

        result = send_mail(["ops@example.org"], "Hello", "World")

    assert result == {"message_id": result["message_id"], "delivered": "smtp", "refused": {}}
    assert result["message_id"].endswith("@example.org>")
    assert email.message_from_bytes(server.mails[0])["Message-ID"] == result["message_id"]
    assert outbox() == []


def test_recipients_that_are_refused_are_in_the_result_and_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with running_smtp_server(ScriptedServer(answers={"gone@example.org": "550 no such user"})) as server:
        monkeypatch.setenv("SCHEDULER_SMTP_URL", f"smtp://127.0.0.1:{server.port}")

        with caplog.at_level(logging.WARNING, "task"):
            result = send_mail(["gone@example.org", "ops@example.org"], "Hello", "World")

    assert result["refused"] == {"gone@example.org": "550 no such user"}
    assert caplog.messages == ["the mail went out, but not to gone@example.org (550 no such user)"]


FAILURES = {
    "for good": (
        {"MAIL": "550 not you"},
        "MailRefused",
        "127.0.0.1:PORT does not let jobs@localhost send (550 not you); "
        "set SCHEDULER_MAIL_FROM to an address that may send there",
    ),
    "for now": (
        {"MAIL": "451 later"},
        "MailNotSent",
        "127.0.0.1:PORT does not let jobs@localhost send (451 later); it may go later",
    ),
}


@pytest.mark.parametrize(("answers", "kind", "message"), FAILURES.values(), ids=FAILURES)
def test_a_mail_that_is_not_sent_fails_the_run(monkeypatch: pytest.MonkeyPatch, answers: dict, kind: str, message: str):
    with running_smtp_server(ScriptedServer(answers=answers)) as server:
        monkeypatch.setenv("SCHEDULER_SMTP_URL", f"smtp://127.0.0.1:{server.port}")

        with pytest.raises(module.MailNotSent) as fault:
            send_mail("ops@example.org", "Hello", "World")

    assert type(fault.value).__name__ == kind
    assert str(fault.value) == message.replace("PORT", str(server.port))


def test_a_retry_carries_the_same_message_id_and_the_outbox_keeps_it_once(in_a_run: Callable[..., Watched]):
    in_a_run(key="nightly@1", attempt=1)
    first = send_mail("ops@example.org", "Hello", "World")
    in_a_run(key="nightly@1", attempt=2)
    retried = send_mail("ops@example.org", "Hello", "World")

    assert retried == first
    assert len(outbox()) == 1


def test_different_mails_have_different_message_ids(folder: Path, in_a_run: Callable[..., Watched]):
    (folder / "a.txt").write_text("a")
    in_a_run(key="nightly@1")
    results = [
        send_mail("ops@example.org", "Hello", "World"),
        send_mail("dev@example.org", "Hello", "World"),
        send_mail("ops@example.org", "Hello again", "World"),
        send_mail("ops@example.org", "Hello", "Worlds"),
        send_mail("ops@example.org", "Hello", "World", html="World"),
        send_mail("ops@example.org", "Hello", "World", attachments=["a.txt"]),
    ]
    in_a_run(key="nightly@2")
    results.append(send_mail("ops@example.org", "Hello", "World"))

    assert len({result["message_id"] for result in results}) == 7
    assert len(outbox()) == 7


def test_two_installations_with_the_same_run_send_two_mails(in_a_run: Callable[..., Watched]):
    ids = []
    for origin in ("live/", "test/", "live/"):
        in_a_run(key="nightly@1", origin=origin)
        ids.append(send_mail("ops@example.org", "Hello", "World")["message_id"])

    assert ids[0] == ids[2] != ids[1]


def test_a_run_that_cannot_ask_for_its_origin_sends_nothing_and_may_try_again():
    def away() -> str:
        raise DatabaseAway("PostgreSQL does not answer at db:5432 (refused)")

    with running(Run(1, 1, "scheduled", "nightly@1", ask_origin=away)), pytest.raises(module.MailNotSent) as caught:
        send_mail("ops@example.org", "Hello", "World")

    assert str(caught.value) == (
        "the mail's Message-ID could not be made: PostgreSQL does not answer at db:5432 (refused); nothing was sent"
    )
    assert outbox() == []


def test_outside_a_run_every_mail_is_one_of_its_own():
    ids = {send_mail("ops@example.org", "Hello", "World")["message_id"] for _ in range(3)}

    assert len(ids) == 3


def test_files_are_attached(folder: Path):
    (folder / "report.csv").write_text("a;b")
    (folder / "var" / "images").mkdir(parents=True)
    (folder / "var" / "images" / "a.png").write_bytes(b"\x89PNG")

    result = send_mail("ops@example.org", "x", "x", attachments=["report.csv", "var/images/a.png"])

    parts = list(read(result["file"]).iter_attachments())
    assert [(part.get_filename(), part.get_content_type()) for part in parts] == [
        ("report.csv", "text/csv"),
        ("a.png", "image/png"),
    ]
    assert parts[1].get_content() == b"\x89PNG"


def outside(_: Path) -> list[str]:
    return ["/etc/passwd"]


def by_parent(_: Path) -> list[str]:
    return ["../../../../../../../../../../../etc/passwd"]


def by_link(folder: Path) -> list[str]:
    (folder / "a.txt").symlink_to("/etc/passwd")
    return ["a.txt"]


def too_large(folder: Path) -> list[str]:
    for name in ("a.bin", "b.bin"):
        with (folder / name).open("wb") as file:
            file.truncate(10 * 1024 * 1024)
    return ["a.bin", "b.bin"]


FENCE = (
    'lies outside the folders that may be read (".", "var"); put it there, '
    "or name its folder in SCHEDULER_SOURCE_FOLDERS"
)
BAD_ATTACHMENTS = {
    "outside": (outside, f'"/etc/passwd" {FENCE}'),
    "by its parents": (by_parent, f'"{by_parent(Path())[0]}" {FENCE}'),
    "by a link": (by_link, f'"a.txt" {FENCE}'),
    "missing": (
        lambda _: ["a.txt"],
        'there is no file "a.txt" in the working folder "HERE"; check the path, it is case-sensitive',
    ),
    "too large together": (
        too_large,
        '"b.bin" has 10,485,760 bytes, more than the 8,388,608 allowed; give a smaller file',
    ),
    "too many": (
        lambda _: ["a.txt"] * 21,
        "there are 21 attachments; a mail may have 20; pack them into one file",
    ),
    "no path": (lambda _: [7], 'attachments has "7"; give paths of files'),
}


@pytest.mark.parametrize(("make", "message"), BAD_ATTACHMENTS.values(), ids=BAD_ATTACHMENTS)
def test_a_file_that_may_not_leave_the_house_does_not(folder: Path, make: Callable[[Path], list], message: str):
    attachments = make(folder)

    with pytest.raises((BadArgument, SourceFault)) as fault:
        send_mail("ops@example.org", "x", "x", attachments=attachments)

    assert str(fault.value) == message.replace("HERE", str(folder))
    assert outbox() == []


def test_folders_can_be_opened_for_attachments(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    shared = tmp_path_factory.mktemp("shared")
    (shared / "a.txt").write_text("a")
    monkeypatch.setenv("SCHEDULER_SOURCE_FOLDERS", os.pathsep.join((".", str(shared))))

    result = send_mail("ops@example.org", "x", "x", attachments=[str(shared / "a.txt")])

    assert [part.get_filename() for part in read(result["file"]).iter_attachments()] == ["a.txt"]


BAD_MAILS = {
    "address": (
        {"to": "ops@example.org\nBcc: evil@example.com"},
        'to has "ops@example.org Bcc: evil@example.com", which is no address: it has a line end or another invisible '
        "character; write it as ops@example.org or Name <ops@example.org>",
    ),
    "reply_to": (
        {"reply_to": "a@example.org, b@example.org"},
        'reply_to has "a@example.org, b@example.org", which is 2 addresses where one belongs; '
        "write it as ops@example.org or Name <ops@example.org>",
    ),
    "text": (
        {"text": "x" * 1_000_001},
        "text has 1,000,001 characters; a mail may have 1,000,000; attach it as a file",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_MAILS.values(), ids=BAD_MAILS)
def test_a_mail_that_can_never_go_is_a_wrong_argument(arguments: dict, message: str):
    with pytest.raises(BadArgument) as fault:
        send_mail(**{"to": "ops@example.org", "subject": "x", "text": "x", **arguments})

    assert str(fault.value) == message
    assert outbox() == []


def test_a_wrong_setting_is_told_without_the_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCHEDULER_SMTP_URL", "smtp://me:s3cr3t@mail.example.org?starttls=never")

    with pytest.raises(BadArgument) as fault:
        send_mail("ops@example.org", "x", "x")

    assert str(fault.value) == (
        'SCHEDULER_SMTP_URL is "smtp://***@mail.example.org?starttls=never": this would send the password '
        "unencrypted; write starttls=required, or leave the user out"
    )


def test_a_subject_cannot_make_a_header():
    result = send_mail("ops@example.org", "x\r\nBcc: evil@example.com", "x")

    message = read(result["file"])
    assert (message["Subject"], message["Bcc"]) == ("x Bcc: evil@example.com", None)
