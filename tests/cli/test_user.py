"""`user` and `token`: whole answers, JSON, exit statuses; nothing that is printed once is kept."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scheduler.cli import run
from scheduler.engine.access import Access
from scheduler.store.database import Database
from tests.waiting import wait_for

Ask = Callable[..., tuple[int, str, str]]
PASSWORD = "ten green bottles"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cheap_passwords: None
) -> Ask:
    """A command's exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "REDIS_URL", "SCHEDULER_DATA"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")

    def run_it(*arguments: str) -> tuple[int, str, str]:
        status = run(list(arguments))
        return status, *capsys.readouterr()

    return run_it


@pytest.fixture
def access(ask: Ask, tmp_path: Path) -> Access:
    database = Database(f"sqlite:///{tmp_path / 'var' / 'scheduler.db'}", synchronous="OFF", pooled=False)
    return Access(database)


def add_jana(ask: Ask, role: str = "operator") -> None:
    assert ask("user", "add", "jana", "--role", role, "--password-file", "password")[0] == 0


def test_a_user_whose_password_stands_in_a_file_may_log_in(ask: Ask, access: Access) -> None:
    answer = ask("user", "add", "jana", "--role", "operator", "--password-file", "password")

    assert answer == (0, "jana may log in as operator\n", "")
    assert access.log_in("jana", PASSWORD, "") is not None
    assert access.log_in("jana", "eleven green bottles", "") is None


def test_a_password_that_is_made_is_printed_once_and_works(ask: Ask, access: Access) -> None:
    status, out, _ = ask("user", "add", "jana", "--role", "admin", "--generate", "--json")

    made = json.loads(out)
    assert (status, made["user"], made["role"]) == (0, "jana", "admin")
    assert access.log_in("jana", made["password"], "") is not None


def test_without_a_terminal_there_is_nobody_to_ask(ask: Ask) -> None:
    answer = ask("user", "add", "jana", "--role", "admin")

    assert answer == (2, "", "There is no terminal to ask for a password: give --password-file or --generate\n")


def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scheduler", "user", "add", "jana", "--role", "viewer"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEDULER_DATA": str(tmp_path)}
    ours, theirs = pty.openpty()
    asked = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=tmp_path, start_new_session=True
    )
    os.close(theirs)
    screen = Screen(ours)

    for word, typed in (("Password: ", PASSWORD), ("The same again: ", "another one"), ("Password: ", PASSWORD)):
        screen.wait_for(word)
        os.write(ours, f"{typed}\n".encode())
    screen.wait_for("The same again: ")
    os.write(ours, f"{PASSWORD}\n".encode())
    status = asked.wait(60)

    screen.wait_for("jana may log in as viewer")
    os.close(ours)
    assert status == 0
    assert PASSWORD not in screen.shown


class Screen:
    """What a terminal shows."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._seen = 0
        self.shown = ""

    def wait_for(self, word: str) -> None:
        """Until the word stands there once more."""

        def is_there() -> bool:
            if select.select([self._number], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):  # the other end is closed
                    self.shown += os.read(self._number, 1000).decode()
            return word in self.shown[self._seen :]

        wait_for(is_there, seconds=60, what=f"«{word}»")
        self._seen = self.shown.index(word, self._seen) + len(word)


@pytest.mark.parametrize(
    ("name", "password", "said"),
    [
        ("ja na", PASSWORD, '"ja na" cannot be the name of a user: use letters, digits and . _ @ -, 64 at most\n'),
        ("jana", "short", "A password has 12 to 256 letters; a few words in a row are easy to keep\n"),
        ("jana", "aaaaaaaaaaaaaa", "This password is guessed too soon; take a few words in a row\n"),
        ("administrator", "administrator1", "This password is guessed too soon; take a few words in a row\n"),
    ],
)
def test_a_bad_name_or_password_is_refused(ask: Ask, tmp_path: Path, name: str, password: str, said: str) -> None:
    (tmp_path / "password").write_text(password)

    answer = ask("user", "add", name, "--role", "viewer", "--password-file", "password")

    assert answer == (2, "", said)


def test_a_name_is_given_once(ask: Ask) -> None:
    add_jana(ask)

    answer = ask("user", "add", "jana", "--role", "viewer", "--password-file", "password")

    said = 'There is a user "jana" already; `scheduler user password jana` changes the password\n'
    assert answer == (1, "", said)


def test_users_are_listed_without_their_secrets(ask: Ask) -> None:
    add_jana(ask)

    listed = json.loads(ask("user", "list", "--json")[1])

    assert [(one["name"], one["role"], one["disabled_at"]) for one in listed] == [("jana", "operator", None)]
    assert listed[0].keys() == {"name", "role", "created_at", "disabled_at"}
    assert ask("user", "list")[1].splitlines()[1].split()[:2] == ["jana", "operator"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("role", "jana", "viewer"), "jana is viewer now and must log in again\n"),
        (("disable", "jana"), "jana may not log in any more\n"),
        (("password", "jana", "--password-file", "password"), "jana has a new password and must log in again\n"),
    ],
)
def test_what_changes_a_user_ends_the_sessions(ask: Ask, access: Access, command: tuple[str, ...], said: str) -> None:
    add_jana(ask)
    token = access.log_in("jana", PASSWORD, "") or ""
    assert access.of_session(token) is not None

    answer = ask("user", *command)

    assert answer == (0, said, "")
    assert access.of_session(token) is None


def test_who_is_enabled_again_may_log_in(ask: Ask, access: Access) -> None:
    add_jana(ask)
    ask("user", "disable", "jana")
    assert access.log_in("jana", PASSWORD, "") is None

    answer = ask("user", "enable", "jana")

    assert answer == (0, "jana may log in again\n", "")
    assert access.log_in("jana", PASSWORD, "") is not None


def test_a_user_whom_nobody_knows_is_told_with_the_nearest(ask: Ask) -> None:
    add_jana(ask)

    assert ask("user", "disable", "jane") == (1, "", 'There is no user "jane"; did you mean "jana"?\n')


@pytest.mark.parametrize("command", ["user", "token"])
def test_a_list_makes_no_database(ask: Ask, tmp_path: Path, command: str) -> None:
    status, out, err = ask(command, "list")

    assert (status, out) == (3, "")
    assert err.startswith("There is no database at ")
    assert not (tmp_path / "var").exists()


def test_a_token_is_shown_once_and_lets_a_program_in(ask: Ask, access: Access) -> None:
    add_jana(ask)

    status, out, err = ask("token", "add", "ci", "--role", "viewer", "--expires", "90d")

    assert status == 0
    assert err == "This is all of ci that you will ever see: keep it where programs find it.\n"
    known = access.of_token(out.strip())
    assert known is not None
    assert (known.name, known.role) == ("jana/ci", "viewer")
    assert out.strip() not in json.dumps(json.loads(ask("token", "list", "--json")[1]))


def test_a_token_may_do_no_more_than_its_user(ask: Ask, access: Access) -> None:
    add_jana(ask)
    token = ask("token", "add", "ci", "--role", "operator")[1].strip()

    refused = ask("token", "add", "more", "--role", "admin")
    ask("user", "role", "jana", "viewer")

    assert refused == (1, "", 'A token may do no more than its user, and "jana" is operator\n')
    known = access.of_token(token)
    assert known is not None
    assert known.role == "viewer"


def test_a_token_ends_when_it_is_revoked_or_its_user_disabled(ask: Ask, access: Access) -> None:
    add_jana(ask)
    token = ask("token", "add", "ci", "--role", "viewer")[1].strip()
    other = ask("token", "add", "cic", "--role", "viewer")[1].strip()

    assert ask("token", "revoke", "ci") == (0, "ci lets nobody in any more\n", "")
    assert access.of_token(token) is None
    assert access.of_token(other) is not None
    ask("user", "disable", "jana")

    assert access.of_token(other) is None
    assert ask("token", "revoke", "ci") == (1, "", 'There is no token "ci"; did you mean "cic"?\n')


def test_a_token_needs_to_know_whose_it_is(ask: Ask) -> None:
    nobody = ask("token", "add", "ci", "--role", "viewer")
    add_jana(ask)
    assert ask("user", "add", "otto", "--role", "viewer", "--password-file", "password")[0] == 0
    several = ask("token", "add", "ci", "--role", "viewer")

    none = "A token belongs to a user, and there is none: `scheduler user add NAME --role admin` adds one\n"
    assert nobody == (1, "", none)
    assert several == (2, "", "A token belongs to a user, and there are several: say which with --user\n")
    assert ask("token", "add", "ci", "--role", "viewer", "--user", "otto", "--expires", "never")[0] == 0
    assert ask("token", "list")[1].splitlines()[1].split() == ["ci", "otto", "viewer", "never", "never"]
