"""What a shell is told while somebody types, asked by a real bash; and the script that makes it ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.cli import run
from scheduler.clock import utc_now
from scheduler.store.database import Database
from tests.builders import a_schedule, a_spec

BASH = shutil.which("bash")
TYPED = """\
source <(scheduler completion bash)
read -ra COMP_WORDS <<< "$1"
[[ $1 == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_scheduler_completion scheduler
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(line: str, folder: Path, database_url: str = "") -> list[str]:
    """What bash offers where this has been typed and the tabulator is pressed."""
    assert BASH is not None
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(folder)}
    if database_url:
        environment["DATABASE_URL"] = database_url
    asked = subprocess.run(
        [BASH, "-c", TYPED, "bash", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert asked.stderr == ""
    return asked.stdout.split()


@pytest.fixture
def names(database: Database) -> None:
    with database.write() as session:
        for name in ("load", "load-late", "mail"):
            a_schedule(session, a_spec(name=name))
        a_schedule(session, a_spec(name="lost"), retired_at=utc_now())


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("scheduler pau", ["pause"]),
        ("scheduler pause ", ["load", "load-late", "mail"]),
        ("scheduler resume lo", ["load", "load-late"]),
        ("scheduler tasks --schedule m", ["mail"]),
        ("scheduler tasks --state su", ["succeeded"]),
        ("scheduler explain load-l", ["load-late"]),
        ("scheduler pause --wh", ["--why"]),
        ("scheduler run x", []),
    ],
)
def test_bash_offers_commands_options_and_names(line: str, words: list[str], database_url: str, tmp_path: Path) -> None:
    assert offered(line, tmp_path, database_url) == words


def test_without_a_service_no_name_is_offered_and_no_file_made(tmp_path: Path) -> None:
    assert offered("scheduler pause ", tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_away_is_not_told_of_in_the_middle_of_a_line(tmp_path: Path) -> None:
    assert offered("scheduler pause ", tmp_path, "postgresql+psycopg://nobody@127.0.0.1:1/none") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_of_its_own(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0

    script = capsys.readouterr().out
    assert f"_SCHEDULER_COMPLETE={shell}_complete" in script
    assert {"bash": "complete -o nosort", "zsh": "compdef", "fish": "complete --no-files"}[shell] in script
