"""`scheduler digest`: sent now, or looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scheduler.cli import run
from scheduler.engine.file.apply import apply
from scheduler.store import schedules
from scheduler.store.database import Database
from tests.builders import a_book, at

TEXT = """
contacts: {ops: {email: ops@example.org}}
digests: {morning: {to: ops, when: {at: "07:30"}}}
schedules: {nightly: {task: count_words, when: {at: "02:00"}}}
"""
SUBJECT = "[jobs] all 1 ok - Tue 24 Nov"


@pytest.fixture(autouse=True)
def a_service_that_is_down(database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "now", lambda session: at("12:00"))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    book, text = a_book(TEXT)
    apply(database, None, book, text)


def test_a_digest_is_queued_now_and_not_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["digest", "morning"]) == 0
    first = capsys.readouterr().out
    assert run(["digest", "morning", "--json"]) == 0

    assert first == f"{SUBJECT}\nqueued 1 message; the service sends them\n"
    again = json.loads(capsys.readouterr().out)
    assert (again["digest"], again["messages"], again["why_not"]) == ("morning", 0, "this issue has been made before")


def test_a_preview_writes_each_part_and_queues_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "look"

    assert run(["digest", "morning", "--preview", str(folder)]) == 0

    assert capsys.readouterr().out == f"{SUBJECT}\nwritten to {folder}: subject.txt, text.txt, mail.html\n"
    assert (folder / "subject.txt").read_text() == f"{SUBJECT}\n"
    assert (folder / "text.txt").read_text() == (
        "The one schedule is ok, from Mon 23 Nov 12:00 to Tue 24 Nov 12:00 (UTC).\n\n"
        "This is the first issue of this digest.\nThe next one comes on Wed 25 Nov 07:30 (UTC).\n"
    )
    assert "The one schedule is ok" in (folder / "mail.html").read_text()


def test_a_preview_that_cannot_be_written_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")

    assert run(["digest", "morning", "--preview", str(tmp_path / "file" / "look")]) == 1

    assert capsys.readouterr().err == (
        f"The preview cannot be written to {tmp_path / 'file' / 'look'}: Not a directory. Name another folder.\n"
    )
