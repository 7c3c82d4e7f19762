from __future__ import annotations

import dataclasses
import datetime as dt
import email
import email.policy
import ssl
import stat
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest

from scheduler.errors import SettingFault
from scheduler.notify.mail import (
    Attachment,
    MailFault,
    MailRefused,
    MailServerAway,
    MailSettings,
    MailWayClosed,
    SmtpServer,
    build_message,
    clean_header,
    read_smtp_url,
    send,
    stable_message_id,
)
from tests.notify.smtp_server import ScriptedServer

NOW = dt.datetime(2026, 11, 24, 6, 30, tzinfo=dt.UTC)
StartServer = Callable[..., ScriptedServer]


def a_mail(to: str | list[str] = "ops@example.org", subject: str = "All is well", text: str = "Slept well.", **more):
    return build_message("Jobs <jobs@example.org>", to, subject, text, now=NOW, **more)


def read_back(message: EmailMessage) -> EmailMessage:
    return email.message_from_bytes(bytes(message), policy=email.policy.default)


def settings_for(server: ScriptedServer, tmp_path: Path, host: str = "127.0.0.1", **more) -> MailSettings:
    more = {"security": "none", "timeout_seconds": 5, **more}
    return MailSettings("jobs@example.org", tmp_path / "outbox", SmtpServer(host, server.port, **more))


# Building


def test_a_mail_has_text_html_picture_and_attachment_where_clients_look_for_them():
    png = b"\x89PNG\r\n\x1a\n"

    message = read_back(
        a_mail(html='<img src="cid:chart">', pictures={"chart": png}, attachments=[Attachment("a.csv", b"1;2")])
    )

    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "text/csv",
    ]
    picture = next(part for part in message.walk() if part.get_content_type() == "image/png")
    assert (picture["Content-ID"], picture.get_content()) == ("<chart>", png)
    assert [part.get_filename() for part in message.iter_attachments()] == ["a.csv"]


def test_a_mail_tells_machines_what_it_is():
    message = read_back(a_mail(headers={"List-Unsubscribe": "<mailto:off@example.org>"}))

    assert dict(message.items()) | {"Message-ID": "", "Content-Type": ""} == {
        "From": "Jobs <jobs@example.org>",
        "To": "ops@example.org",
        "Subject": "All is well",
        "Date": "Tue, 24 Nov 2026 06:30:00 +0000",
        "Message-ID": "",
        "Auto-Submitted": "auto-generated",
        "List-Unsubscribe": "<mailto:off@example.org>",
        "Content-Type": "",
        "Content-Transfer-Encoding": "7bit",
        "MIME-Version": "1.0",
    }


HEADERS = {
    "carriage return and line feed": ("nightly\r\nBcc: evil@example.com", "nightly Bcc: evil@example.com"),
    "line feed alone": ("nightly\nBcc: evil@example.com", "nightly Bcc: evil@example.com"),
    "carriage return alone": ("nightly\rBcc: evil@example.com", "nightly Bcc: evil@example.com"),
    "line separator": ("nightly\u2028Bcc: x", "nightly Bcc: x"),
    "paragraph separator": ("nightly\u2029Bcc: x", "nightly Bcc: x"),
    "next line": ("nightly\x85Bcc: x", "nightly Bcc: x"),
    "vertical tab and form feed": ("a\x0bb\x0cc", "a b c"),
    "zero byte": ("night\0ly", "nightly"),
    "escape": ("\x1b[31mred", "[31mred"),
    "bidi override": ("gpj.\u202eexe", "gpj.exe"),
    "zero-width": ("a\u200bb\ufeff", "ab"),
    "half of a character": ("a\ud800b", "ab"),
    "empty": ("", ""),
    "encoded word that hides a line end": ("=?utf-8?q?a=0D=0ABcc:_evil?=", "= ?utf-8?q?a=0D=0ABcc:_evil?="),
    "10,000 letters": ("x" * 10_000, "x" * 199 + "…"),
    "umlauts and signs": ("Grüße ☃ 🚀", "Grüße ☃ 🚀"),
}


@pytest.mark.parametrize(("given", "cleaned"), HEADERS.values(), ids=HEADERS)
def test_a_subject_is_cleaned_and_never_makes_a_header_of_its_own(given: str, cleaned: str):
    message = read_back(a_mail(subject=given, message_id="<1@example.org>"))

    assert clean_header(given) == cleaned
    assert message["Subject"] == (cleaned or "(no subject)")
    assert [name for name in message if name in ("Bcc", "Cc")] == []
    assert message["To"] == "ops@example.org"


@pytest.mark.parametrize("given", [given for given, _ in HEADERS.values()], ids=HEADERS)
def test_a_file_name_and_a_further_header_are_cleaned_as_a_subject_is(given: str):
    message = read_back(a_mail(attachments=[Attachment(given, b"x")], headers={"X-Schedule": given}))

    names = [part.get_filename() for part in message.iter_attachments()]
    assert names == [clean_header(given, longest=120) or "attachment"]
    assert message["X-Schedule"] == clean_header(given, longest=900)
    assert "Bcc" not in message


@pytest.mark.parametrize("length", [10, 69, 70, 71, 76, 77, 78, 90, 160])
def test_a_subject_begins_in_its_first_line_and_comes_back_as_it_was(length: int):
    subject = ("[jobs] flapping nightly (failed): silent until it is calm " * 3)[:length].strip()

    written = bytes(a_mail(subject=subject))

    assert f"Subject: {subject[:9]}".encode() in written
    assert read_back(a_mail(subject=subject))["Subject"] == subject
    assert max(len(line) for line in written.splitlines()) < 100


def test_an_attachment_keeps_no_folders_in_its_name():
    names = ["/etc/passwd", "..\\..\\boot.ini", "a/b/", "report.pdf"]

    message = read_back(a_mail(attachments=[Attachment(name, b"x") for name in names]))

    assert [part.get_filename() for part in message.iter_attachments()] == [
        "passwd",
        "boot.ini",
        "attachment",
        "report.pdf",
    ]


def test_text_keeps_its_lines_and_loses_what_no_mail_can_carry():
    text = "Zeile 1\r\n.\r\nMAIL FROM:<evil@example.com>\nhalf \ud800 and zero \0 end\n" + "long " * 500

    got = read_back(a_mail(text=text)).get_body(("plain",)).get_content()

    assert got == "Zeile 1\n.\nMAIL FROM:<evil@example.com>\nhalf ? and zero  end\n" + "long " * 500 + "\n"


GOOD_ADDRESSES = {
    "plain": ("ops@example.org", ["ops@example.org"]),
    "several in one text": ("a@example.org, b@example.org", ["a@example.org", "b@example.org"]),
    "list": (["a@example.org", "b@example.org"], ["a@example.org", "b@example.org"]),
    "twice the same": (["a@example.org", "A@Example.org"], ["a@example.org"]),
    "with a name": ("Jana <jana@example.org>", ["Jana <jana@example.org>"]),
    "name with comma in quotes": ('"Doe, Jane" <jane@example.org>', ['"Doe, Jane" <jane@example.org>']),
    "name with umlaut": ("Jürgen <j@example.org>", ["Jürgen <j@example.org>"]),
    "host without a dot": ("root@localhost", ["root@localhost"]),
    "plus and dots": ("a.b+c@example.org", ["a.b+c@example.org"]),
    "umlaut in the host": ("x@bücher.example", ["x@xn--bcher-kva.example"]),
}


@pytest.mark.parametrize(("to", "expected"), GOOD_ADDRESSES.values(), ids=GOOD_ADDRESSES)
def test_a_right_address_is_taken(to: str | list[str], expected: list[str]):
    addresses = read_back(a_mail(to=to))["To"].addresses

    assert [str(address) for address in addresses] == expected


HINT = "write it as ops@example.org or Name <ops@example.org>"
BAD_ADDRESSES = {
    "nothing": ([], "to is empty; give at least one address, such as ops@example.org"),
    "empty text": ("", "to is empty; give at least one address, such as ops@example.org"),
    "no @": ("ops", f'to has "ops", which is no address; {HINT}'),
    "no host": ("ops@", f'to has "ops@", which is no address; {HINT}'),
    "two @": ("a@b@example.org", f'to has "a@b@example.org", which is no address; {HINT}'),
    "comma in a list entry": (
        ["a@example.org, b@example.org"],
        f'to has "a@example.org, b@example.org", which is 2 addresses where one belongs; {HINT}',
    ),
    "lone comma": ("a@example.org,", f'to has "", which is no address; {HINT}'),
    "group": (
        "friends: a@example.org, b@example.org;",
        f'to has "friends: a@example.org", which is no address; {HINT}',
    ),
    "two in angle brackets": (
        "<a@example.org><b@example.org>",
        f'to has "<a@example.org><b@example.org>", which is no address; {HINT}',
    ),
    "address as a name": (
        "a@example.org <b@example.org>",
        f'to has "a@example.org <b@example.org>", which is no address; {HINT}',
    ),
    "comment": ("a(c)@example.org", f'to has "a(c)@example.org", which is no address; {HINT}'),
    "quoted local part": ('"a b"@example.org', f'to has ""a b"@example.org", which is no address; {HINT}'),
    "header": (
        "a@example.org\r\nBcc: evil@example.com",
        'to has "a@example.org Bcc: evil@example.com", which is no address: '
        f"it has a line end or another invisible character; {HINT}",
    ),
    "header in the name": (
        "a\nBcc: evil@example.com <a@example.org>",
        'to has "a Bcc: evil@example.com <a@example.org>", which is no address: '
        f"it has a line end or another invisible character; {HINT}",
    ),
    "encoded word": (
        "=?utf-8?q?x=0D=0ABcc:evil@example.com?= <a@example.org>",
        'to has "= ?utf-8?q?x=0D=0ABcc:evil@example.com?= <a@example.org>", which is no address: '
        "it has an encoded word; write the name as it is read",
    ),
    "server command": ("a@example.org> SIZE=1", f'to has "a@example.org> SIZE=1", which is no address; {HINT}'),
    "umlaut before the @": ("jürgen@example.org", f'to has "jürgen@example.org", which is no address; {HINT}'),
    "dot at the end": ("a.@example.org", f'to has "a.@example.org", which is no address; {HINT}'),
    "hyphen at the host's start": ("a@-example.org", f'to has "a@-example.org", which is no address; {HINT}'),
    "address literal": ("a@[127.0.0.1]", f'to has "a@[127.0.0.1]", which is no address; {HINT}'),
    "overlong": (["a" * 400 + "@example.org"], f"to is too long for an address (412 characters); {HINT}"),
    "no text": ([7], "to has 7, which is no address; write it as ops@example.org"),
    "101": ([f"a{n}@example.org" for n in range(101)], "to has 101 addresses; a mail may have 100; use a mailing list"),
}


@pytest.mark.parametrize(("to", "message"), BAD_ADDRESSES.values(), ids=BAD_ADDRESSES)
def test_a_wrong_address_is_refused_with_the_way_to_mend_it(to: str | list[str], message: str):
    with pytest.raises(MailFault) as fault:
        a_mail(to=to)

    assert str(fault.value) == message


def test_many_names_with_umlauts_spoil_no_address():
    to = [f'"Jürgen, der {n}. von Öd" <juergen{n}@example.org>' for n in range(60)]

    message = read_back(a_mail(to=to))

    assert [address.addr_spec for address in message["To"].addresses] == [f"juergen{n}@example.org" for n in range(60)]


TOO_MUCH = {
    "text": (
        {"text": "x" * 1_000_001},
        "text has 1,000,001 characters; a mail may have 1,000,000; attach it as a file",
    ),
    "html": (
        {"html": "x" * 1_000_001},
        "html has 1,000,001 characters; a mail may have 1,000,000; attach it as a file",
    ),
    "attachments": (
        {"attachments": [Attachment("a.bin", bytes(20_000_000))], "message_id": "<1@example.org>"},
        "the mail has 27.0 MB, more than the 26.2 MB that servers take; attach less",
    ),
    "header of ours": (
        {"headers": {"to": "evil@example.com"}},
        "'to' cannot be set as a further header; use a name that the mail does not have yet",
    ),
    "header with a line end": (
        {"headers": {"X\r\nBcc": "evil@example.com"}},
        "'X\\r\\nBcc' cannot be set as a further header; use a name that the mail does not have yet",
    ),
    "blind copy": (
        {"headers": {"Bcc": "evil@example.com"}},
        "'Bcc' cannot be set as a further header; use a name that the mail does not have yet",
    ),
    "message id": (
        {"message_id": "<a@b>\r\nBcc: x"},
        "'<a@b>\\r\\nBcc: x' is no Message-ID; write it as <name@example.org>",
    ),
    "picture name": (
        {"html": "", "pictures": {"a>\r\nb": b""}},
        "'a>\\r\\nb' cannot name a picture; use letters, digits, - and _",
    ),
}


@pytest.mark.parametrize(("more", "message"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_no_mail_may_have_is_refused(more: dict, message: str):
    with pytest.raises(MailFault) as fault:
        a_mail(**more)

    assert str(fault.value) == message


def test_the_same_key_makes_the_same_message_id():
    first = stable_message_id("nightly@2026-11-24T06:30:00Z", "Jobs <jobs@example.org>")

    assert first == stable_message_id("nightly@2026-11-24T06:30:00Z", "jobs@example.org")
    assert first != stable_message_id("nightly@2026-11-25T06:30:00Z", "jobs@example.org")
    assert first.endswith("@example.org>")
    assert read_back(a_mail(message_id=first))["Message-ID"] == first


# Settings

REMOTE = {"host": "mail.example.org", "user": None, "password": None}
URLS = {
    "remote": ("smtp://mail.example.org", ("mail.example.org", 587, "starttls", None, None)),
    "remote, required": (
        "smtp://mail.example.org:25?starttls=required",
        ("mail.example.org", 25, "starttls", None, None),
    ),
    "remote, never": ("smtp://mail.example.org?starttls=never", ("mail.example.org", 25, "none", None, None)),
    "tls": ("smtps://mail.example.org", ("mail.example.org", 465, "tls", None, None)),
    "this machine": ("smtp://localhost", ("localhost", 25, "none", None, None)),
    "this machine, numbers": ("smtp://127.0.0.1:1025", ("127.0.0.1", 1025, "none", None, None)),
    "this machine, IPv6": ("smtp://[::1]:1025", ("::1", 1025, "none", None, None)),
    "this machine, required": ("smtp://localhost?starttls=required", ("localhost", 587, "starttls", None, None)),
    "user": (
        "smtps://me%40example.org:p%40ss@mail.example.org",
        ("mail.example.org", 465, "tls", "me@example.org", "p@ss"),
    ),
}


@pytest.mark.parametrize(("url", "expected"), URLS.values(), ids=URLS)
def test_a_url_names_server_way_and_user(url: str, expected: tuple):
    server = read_smtp_url(url)

    assert (server.host, server.port, server.security, server.user, server.password) == expected


WRITE_IT = "write it as smtp://user@host:587?starttls=required or smtps://user@host"
BAD_URLS = {
    "other scheme": ("http://host", f'SCHEDULER_SMTP_URL is "http://host"; {WRITE_IT}'),
    "host alone": ("mail.example.org:25", f'SCHEDULER_SMTP_URL is "mail.example.org:25"; {WRITE_IT}'),
    "port": ("smtp://host:99999", 'SCHEDULER_SMTP_URL is "smtp://host:99999": its port is no number from 1 to 65535'),
    "typo": (
        "smtp://host?startls=never",
        f'SCHEDULER_SMTP_URL is "smtp://host?startls=never"; besides starttls it takes no options or path; {WRITE_IT}',
    ),
    "word": (
        "smtp://host?starttls=yes",
        'SCHEDULER_SMTP_URL is "smtp://host?starttls=yes"; starttls is required or never, and stands with smtp:// only',
    ),
    "both": (
        "smtps://host?starttls=required",
        'SCHEDULER_SMTP_URL is "smtps://host?starttls=required"; '
        "starttls is required or never, and stands with smtp:// only",
    ),
    "password in the clear": (
        "smtp://me:s3cr3t@host?starttls=never",
        'SCHEDULER_SMTP_URL is "smtp://***@host?starttls=never": this would send the password unencrypted; '
        "write starttls=required, or leave the user out",
    ),
    "no password": (
        "smtp://me@host",
        'SCHEDULER_SMTP_URL is "smtp://***@host": it names a user; set SCHEDULER_SMTP_PASSWORD as well',
    ),
    "password with a slash": ("smtp://me:s3cr3t/x@host", None),
}


@pytest.mark.parametrize(("url", "message"), BAD_URLS.values(), ids=BAD_URLS)
def test_a_wrong_url_is_told_without_its_password(url: str, message: str | None):
    with pytest.raises(SettingFault) as fault:
        read_smtp_url(url)

    assert "s3cr3t" not in str(fault.value)
    assert message is None or str(fault.value) == message


def test_without_any_setting_mails_go_to_the_outbox():
    assert MailSettings.from_environment({}) == MailSettings("jobs@localhost", Path("var/outbox"), None)


def test_all_settings_come_from_the_environment_and_the_password_shows_nowhere():
    settings = MailSettings.from_environment(
        {
            "SCHEDULER_SMTP_URL": "smtp://me:old@mail.example.org",
            "SCHEDULER_SMTP_PASSWORD": "s3cr3t",
            "SCHEDULER_MAIL_FROM": "Jobs <jobs@example.org>",
            "SCHEDULER_DATA": "elsewhere",
        }
    )

    server = SmtpServer("mail.example.org", 587, "starttls", "me", "s3cr3t")
    assert settings == MailSettings("Jobs <jobs@example.org>", Path("elsewhere/outbox"), server)
    assert "s3cr3t" not in f"{settings!r} {server}"


BAD_SENDERS = {
    "not set": (
        "",
        "mails go out over mail.example.org:587, but from jobs@localhost, which nobody can answer; "
        'set SCHEDULER_MAIL_FROM to an address that may send there, such as "Jobs <jobs@example.org>"',
    ),
    "no address": ("Jobs", f'SCHEDULER_MAIL_FROM has "Jobs", which is no address; {HINT}'),
}


@pytest.mark.parametrize(("sender", "message"), BAD_SENDERS.values(), ids=BAD_SENDERS)
def test_a_sender_that_cannot_send_is_a_setting_fault(sender: str, message: str):
    environment = {"SCHEDULER_SMTP_URL": "smtp://mail.example.org", "SCHEDULER_MAIL_FROM": sender}

    with pytest.raises(SettingFault) as fault:
        MailSettings.from_environment(environment)

    assert str(fault.value) == message


# The outbox


def test_the_outbox_keeps_a_mail_as_a_file_only_its_owner_reads(tmp_path: Path):
    settings = MailSettings("jobs@example.org", tmp_path / "var" / "outbox")
    message = a_mail(message_id="<1@example.org>")

    delivery = send(message, settings)

    assert delivery.delivered == "outbox"
    assert delivery.file is not None
    assert delivery.file.name == "20261124T063000Z-c0723f335f036784.eml"
    assert delivery.file.read_bytes() == bytes(message)
    assert stat.S_IMODE(delivery.file.stat().st_mode) == 0o600
    assert list(settings.outbox.iterdir()) == [delivery.file]


def test_a_mail_put_into_the_outbox_again_is_there_once(tmp_path: Path):
    settings = MailSettings("jobs@example.org", tmp_path)
    first = build_message("jobs@example.org", "a@example.org", "x", "x", message_id="<1@example.org>", now=NOW)
    later = NOW + dt.timedelta(minutes=5)
    again = build_message("jobs@example.org", "a@example.org", "x", "x", message_id="<1@example.org>", now=later)

    deliveries = [send(first, settings), send(again, settings)]

    assert deliveries[0] == deliveries[1]
    assert len(list(tmp_path.iterdir())) == 1


def test_an_outbox_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "outbox").write_text("a file, not a folder")

    with pytest.raises(MailServerAway) as fault:
        send(a_mail(), MailSettings("jobs@example.org", tmp_path / "outbox"))

    assert (
        str(fault.value) == f"cannot write into the outbox {tmp_path}/outbox: File exists; make room or give the rights"
    )


# The server


def test_a_mail_arrives_as_it_was_built(start_server: StartServer, tmp_path: Path):
    server = start_server()
    text = "Erste Zeile\n.\n..\nMAIL FROM:<evil@example.com>\n"
    message = a_mail(to="Jürgen <j@example.org>, ops@example.org", subject="Grüße", text=text)

    delivery = send(message, settings_for(server, tmp_path))

    assert (delivery.delivered, delivery.refused, delivery.file) == ("smtp", {}, None)
    [got] = [email.message_from_bytes(raw, policy=email.policy.default) for raw in server.mails]
    assert got["Message-ID"] == delivery.message_id
    assert (got["Subject"], got.get_content()) == ("Grüße", text.replace("\n", "\r\n"))
    assert [line for line in server.commands if line[:4].upper() in ("MAIL", "RCPT")] == [
        "mail FROM:<jobs@example.org>",
        "rcpt TO:<j@example.org>",
        "rcpt TO:<ops@example.org>",
    ]


def test_recipients_that_are_refused_while_others_are_not_are_reported(start_server: StartServer, tmp_path: Path):
    server = start_server(
        answers={"gone@example.org": "550 no such\x1b[31m user", "full@example.org": "452 mailbox full"}
    )
    message = a_mail(to=["gone@example.org", "ops@example.org", "full@example.org"])

    delivery = send(message, settings_for(server, tmp_path))

    assert delivery.refused == {"gone@example.org": "550 no such[31m user", "full@example.org": "452 mailbox full"}
    assert len(server.mails) == 1


REFUSALS = {
    "sender for good": (
        {"MAIL": "550 not you"},
        MailRefused,
        "SERVER does not let jobs@example.org send (550 not you); "
        "set SCHEDULER_MAIL_FROM to an address that may send there",
    ),
    "sender for now": (
        {"MAIL": "451 greylisted"},
        MailServerAway,
        "SERVER does not let jobs@example.org send (451 greylisted); it may go later",
    ),
    "no log-in": (
        {"MAIL": "530 5.7.0 authentication required"},
        MailWayClosed,
        "SERVER refuses the mail (530 5.7.0 authentication required); check user and password",
    ),
    "too large": (
        {"MAIL": "552 5.3.4 message too big"},
        MailRefused,
        "SERVER refuses the mail (552 5.3.4 message too big); see the server's log",
    ),
    "all recipients for good": (
        {"ops@example.org": "550 unknown"},
        MailRefused,
        "SERVER takes none of the recipients (ops@example.org: 550 unknown); check the addresses",
    ),
    "all recipients for now": (
        {"ops@example.org": "450 busy"},
        MailServerAway,
        "SERVER takes none of the recipients (ops@example.org: 450 busy); it may go later",
    ),
    "text for good": (
        {".": "554 spam"},
        MailRefused,
        "SERVER refuses the mail (554 spam); see the server's log",
    ),
    "text for now": (
        {".": "452 disk full"},
        MailServerAway,
        "SERVER refuses the mail (452 disk full); it may go later",
    ),
    "greeting": ({"": "554 go away"}, MailWayClosed, "SERVER refuses the mail (554 go away); see the server's log"),
    "no SMTP": (
        {"": "HTTP/1.1 400 Bad Request"},
        MailServerAway,
        "the mail server SERVER does not answer as it should "
        "(what it says is no SMTP); "
        "look whether it is up and SCHEDULER_SMTP_URL is right",
    ),
}


@pytest.mark.parametrize(("answers", "kind", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_tells_whether_trying_again_helps(
    start_server: StartServer, tmp_path: Path, answers: dict, kind: type[Exception], message: str
):
    server = start_server(answers=answers)

    with pytest.raises(kind) as fault:
        send(a_mail(), settings_for(server, tmp_path))

    assert type(fault.value) is kind
    assert str(fault.value) == message.replace("SERVER", f"127.0.0.1:{server.port}")
    assert server.mails == []


def test_a_mail_that_was_taken_counts_as_sent_even_if_the_farewell_fails(start_server: StartServer, tmp_path: Path):
    server = start_server(hangs_up_at="QUIT")

    assert send(a_mail(), settings_for(server, tmp_path)).delivered == "smtp"
    assert len(server.mails) == 1


TARPITS = {
    "silent": ({"silent": True}, {"timeout_seconds": 0.2}),
    "dripping": ({"dripping": True}, {"longest_seconds": 0.3}),
}


@pytest.mark.parametrize(("how", "limits"), TARPITS.values(), ids=TARPITS)
def test_a_tarpit_holds_nobody_for_long(start_server: StartServer, tmp_path: Path, how: dict, limits: dict):
    server = start_server(**how)

    with pytest.raises(MailServerAway) as fault:
        send(a_mail(), settings_for(server, tmp_path, **limits))

    assert "does not answer as it should" in str(fault.value)


def test_a_server_that_is_down_is_told(start_server: StartServer, tmp_path: Path):
    server = start_server()
    settings = settings_for(server, tmp_path)
    server.closing.set()
    unused = dataclasses.replace(settings, server=dataclasses.replace(settings.server, port=1))

    with pytest.raises(MailServerAway) as fault:
        send(a_mail(), unused)

    assert str(fault.value) == (
        "the mail server 127.0.0.1:1 does not answer as it should (Connection refused); "
        "look whether it is up and SCHEDULER_SMTP_URL is right"
    )


# TLS


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_trusted_server_gets_mail_and_password_encrypted(
    start_server: StartServer,
    server_tls: ssl.SSLContext,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    security: str,
):
    server = start_server(tls=server_tls, tls_at_once=security == "tls")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    send(a_mail(), settings_for(server, tmp_path, "localhost", security=security, user="me", password="s3cr3t"))

    assert server.encrypted == [True]
    assert server.logins == ["\0me\0s3cr3t"]


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize(
    ("host", "trusted", "reason"),
    [
        pytest.param("localhost", False, "self-signed certificate", id="self-signed"),
        pytest.param(
            "127.0.0.1",
            True,
            "IP address mismatch, certificate is not valid for '127.0.0.1'",
            id="wrong name",
        ),
    ],
)
def test_a_server_that_cannot_prove_its_name_gets_neither_mail_nor_password(
    start_server: StartServer,
    server_tls: ssl.SSLContext,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    security: str,
    host: str,
    trusted: bool,
    reason: str,
):
    server = start_server(tls=server_tls, tls_at_once=security == "tls")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    with pytest.raises(MailRefused) as fault:
        send(a_mail(), settings_for(server, tmp_path, host, security=security, user="me", password="s3cr3t"))

    assert str(fault.value).replace("self signed", "self-signed") == (  # as OpenSSL 1 writes it, and 3
        f"{host}:{server.port} cannot prove who it is ({reason}), so nothing was sent; "
        "use the host name in its certificate, and add its authority to the trusted ones (SSL_CERT_FILE)"
    )
    assert (server.mails, server.logins) == ([], [])


STRIPPED = {
    "not offered": {},
    "offered and refused": {"answers": {"EHLO": "250-test\r\n250 STARTTLS", "STARTTLS": "454 not now"}},
    "offered without a certificate": {"answers": {"EHLO": "250-test\r\n250 STARTTLS", "STARTTLS": "220 go on"}},
}


@pytest.mark.parametrize("how", STRIPPED.values(), ids=STRIPPED)
def test_without_starttls_neither_mail_nor_password_is_sent(start_server: StartServer, tmp_path: Path, how: dict):
    server = start_server(**how)
    settings = settings_for(server, tmp_path, security="starttls", user="me", password="s3cr3t")

    with pytest.raises((MailRefused, MailServerAway)) as fault:
        send(a_mail(), settings)

    assert f"127.0.0.1:{server.port}" in str(fault.value)
    assert (server.mails, server.logins) == ([], [])


def test_a_server_without_starttls_is_told_how_to_mend_it(start_server: StartServer, tmp_path: Path):
    server = start_server()

    with pytest.raises(MailRefused) as fault:
        send(a_mail(), settings_for(server, tmp_path, security="starttls"))

    assert str(fault.value) == (
        f"127.0.0.1:{server.port} lacks what is needed (STARTTLS extension not supported by server), so nothing was "
        "sent; use its TLS port with smtps://, or starttls=never if the way there is safe"
    )


def test_a_wrong_password_is_told_without_it(start_server: StartServer, tmp_path: Path):
    server = start_server(answers={"AUTH": "535 wrong"})

    with pytest.raises(MailRefused) as fault:
        send(a_mail(), settings_for(server, tmp_path, user="me", password="s3cr3t"))

    assert str(fault.value) == f"127.0.0.1:{server.port} refuses the mail (535 wrong); check user and password"
