"""A command as it is typed, beside a database and a Redis that answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scheduler.cli import run
from scheduler.store.database import Database

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(
    database: Database,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ask:
    """A command's exit status, standard output and standard error."""
    for name, value in {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "SCHEDULER_AUTHOR": "jana"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: str) -> tuple[int, str, str]:
        status = run(list(arguments))
        said = capsys.readouterr()
        return status, said.out, said.err

    return run_it
