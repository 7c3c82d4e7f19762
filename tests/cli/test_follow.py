"""`scheduler show ID --follow`: a line a change, or a bar on a terminal, until the task has ended."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from scheduler.cli import follow as module
from scheduler.cli import run
from scheduler.cli.follow import follow
from scheduler.clock import utc_now
from scheduler.rules.states import FAILED, QUEUED, RUNNING, SUCCEEDED
from scheduler.store.database import Database
from scheduler.store.tables import Attempt, Task
from tests.builders import a_task
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]


def a_look(state: str, done: float | None = None, second: int = 0, message: str = "") -> dict[str, Any]:
    """A task as `follow` sees it, `second` seconds after its attempt began."""
    progress = {"done": done, "total": 40, "message": message, "at": f"2026-11-24T06:00:{second:02}Z"}
    return {
        "id": 7,
        "state": state,
        "progress": None if done is None else progress,
        "attempts": [] if state == QUEUED else [{"started_at": "2026-11-24T06:00:00Z"}],
    }


def test_each_change_is_told_in_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LOOK_EVERY", 0)
    looks = [
        a_look(QUEUED),
        a_look(QUEUED),
        a_look(RUNNING),
        a_look(RUNNING, 10, 5, "64 px"),
        a_look(RUNNING, 10, 5, "64 px"),
        a_look(RUNNING, 30, 30, "[red]\x1b[31m128\npx"),
        a_look(SUCCEEDED, 40, 40),
    ]

    ended = follow(iter(looks).__next__)

    assert ended["state"] == SUCCEEDED
    assert capsys.readouterr().out.splitlines() == [
        "task 7 queued",
        "task 7 running",
        "task 7 running  25 %, 2 a second, 15 s left  64 px",
        "task 7 running  75 %, 1 a second, 10 s left  [red]128 px",
    ]


@pytest.fixture
def command(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(("state", "status"), [(SUCCEEDED, 0), (FAILED, 1)])
def test_the_exit_status_says_how_it_ended(
    database: Database, capsys: pytest.CaptureFixture[str], state: str, status: int
):
    with database.write() as session:
        task_id = a_task(session, state=state).id

    assert run(["show", str(task_id), "--follow"]) == status
    assert capsys.readouterr().out.splitlines()[0].split() == ["task", str(task_id), "count_words", "scheduled", state]
    assert run(["show", str(task_id), "--follow", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["state"] == state
    assert run(["show", str(task_id)]) == 0


class OnATerminal:
    """A program whose output is a terminal, and what it has shown so far."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self.shown = ""

    def read(self) -> str:
        while select.select([self._terminal], [], [], 0)[0]:
            try:
                self.shown += os.read(self._terminal, 65536).decode("utf-8", "replace")
            except OSError:  # it has ended
                break
        return self.shown


@contextmanager
def on_a_terminal(*arguments: str, **environment: str) -> Iterator[OnATerminal]:
    terminal, its_end = pty.openpty()
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", **environment}
    words = [sys.executable, "-m", "scheduler", *arguments]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=its_end, stderr=its_end, env=settings)
    os.close(its_end)
    try:
        yield OnATerminal(process, terminal)
    finally:
        process.kill()
        process.wait(10)
        os.close(terminal)


def test_on_a_terminal_a_bar_grows_until_the_task_has_ended(database: Database, database_url: str):
    progress = {"done": 1, "total": 2, "message": "[b]128 px", "at": utc_now().isoformat()}
    with database.write() as session:
        task = a_task(session, state=RUNNING, progress=progress)

    with on_a_terminal("show", str(task.id), "--follow", DATABASE_URL=database_url) as shown:
        wait_for(lambda: re.search(r"━.*50 %.*\[b\]128 px", shown.read()), what="the bar")
        assert shown.process.poll() is None
        with database.write() as session:
            ended = {"ended_at": utc_now(), "outcome": SUCCEEDED}
            session.execute(update(Attempt).where(Attempt.task_id == task.id).values(**ended))
            ended = {"state": SUCCEEDED, "finished_at": utc_now(), "lease_until": None}
            session.execute(update(Task).where(Task.id == task.id).values(**ended))
        wait_for(lambda: shown.read() and shown.process.poll() is not None, what="its end")
        shown.read()

    assert shown.process.returncode == 0
    assert "succeeded" in shown.shown
