"""`scheduler mail test` sends at once and says what became of it."""

from __future__ import annotations

import email
import json
from pathlib import Path

import pytest

from scheduler.cli import run
from tests.notify.smtp_server import ScriptedServer, running_smtp_server


@pytest.fixture(autouse=True)
def the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCHEDULER_MAIL_FROM", "jobs@example.org")


def test_a_mail_that_the_server_takes_is_told_with_its_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_smtp_server(ScriptedServer()) as server:
        monkeypatch.setenv("SCHEDULER_SMTP_URL", f"smtp://127.0.0.1:{server.port}")

        status = run(["mail", "test", "ops@example.org"])

    [mail] = map(email.message_from_bytes, server.mails)
    assert status == 0
    assert (mail["To"], mail["Subject"]) == ("ops@example.org", "[jobs] Test mail")
    assert capsys.readouterr().out == (
        f"127.0.0.1:{server.port} took the mail for ops@example.org as {mail['Message-ID']}.\n"
        f"It went by 127.0.0.1:{server.port} (not encrypted), from jobs@example.org. "
        "If it does not arrive, look into that server's log.\n"
    )


def test_a_server_that_refuses_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with running_smtp_server(ScriptedServer(answers={"ops@example.org": "550 no such user"})) as server:
        monkeypatch.setenv("SCHEDULER_SMTP_URL", f"smtp://127.0.0.1:{server.port}")

        status = run(["mail", "test", "ops@example.org"])

    assert status == 1
    assert capsys.readouterr().err == (
        f"127.0.0.1:{server.port} takes none of the recipients (ops@example.org: 550 no such user); "
        "check the addresses\n"
    )


def test_a_server_that_is_away_ends_with_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with running_smtp_server(ScriptedServer()) as server:
        monkeypatch.setenv("SCHEDULER_SMTP_URL", f"smtp://127.0.0.1:{server.port}")

    status = run(["mail", "test", "ops@example.org"])

    assert status == 3
    assert capsys.readouterr().err == (
        f"the mail server 127.0.0.1:{server.port} does not answer as it should (Connection refused); "
        "look whether it is up and SCHEDULER_SMTP_URL is right\n"
    )


def test_an_address_that_is_none_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mail", "test", "ops@example.org\nBcc: eve@example.com"]) == 1

    assert "it has a line end or another invisible character" in capsys.readouterr().err


def test_without_a_server_the_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mail", "test", "ops@example.org", "--json"]) == 0

    [file] = (tmp_path / "var" / "outbox").glob("*.eml")
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "delivered": "outbox",
        "way": f"no SMTP server set: mails are kept in {file.parent}",
        "file": str(file),
        "message_id": email.message_from_bytes(file.read_bytes())["Message-ID"],
    }
