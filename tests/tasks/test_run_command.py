from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler.context import log
from tasks import run_command
from tasks.commons import BadArgument, Stopped
from tests.tasks.conftest import Watched
from tests.waiting import wait_for

module = importlib.import_module("tasks.run_command")  # `tasks.run_command` is the function


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_ALLOWED_COMMANDS", f"sh, cat, {sys.executable}")
    monkeypatch.setattr(module, "POLITE_SECONDS", 0.3)


def run_shell(script: str, **more: Any) -> dict[str, Any]:
    """A shell is allowed in these tests: it is the shortest way to a program that misbehaves."""
    return run_command(["sh", "-c", script], **more)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_is_run_and_what_it_prints_is_kept():
    result = run_shell("echo out; echo err >&2; printf 'no end'")

    assert 0 <= result.pop("seconds") < 10
    assert result == {"exit": 0, "stdout": "out\nno end", "stderr": "err\n", "stdout_bytes": 10, "stderr_bytes": 4}


def test_words_are_given_as_they_are_and_no_shell_reads_them(folder: Path):
    words = run_command([sys.executable, "-c", "import sys; print(sys.argv[1:])", "$(touch evil)", "; *", "a b"])

    assert words["stdout"] == "['$(touch evil)', '; *', 'a b']\n"
    assert not (folder / "evil").exists()


def test_it_reads_what_it_is_given_and_nothing_else():
    long = "größe\n" * 200_000

    assert run_command(["cat"], stdin=long, max_output=12)["stdout_bytes"] == len(long.encode())
    assert run_command(["cat"])["stdout"] == ""
    assert run_shell("exit 0", stdin=long)["exit"] == 0


def test_output_is_bounded_and_odd_bytes_are_told():
    result = run_shell(r"printf 'a\377b'; yes | head -c 3000000", max_output=1000)

    assert result["stdout"].startswith("a\ufffdby\ny\n")
    assert (len(result["stdout"]), result["stdout_bytes"]) == (1000, 3_000_003)


def test_its_lines_are_in_the_log_while_it_runs(folder: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", logger=log.name)
    script = r"echo one; echo two >&2; printf '10%%\r20%%\r\n'; while [ ! -e go ]; do sleep 0.02; done; echo three"
    end = threading.Thread(target=run_shell, args=(script,))
    end.start()

    wait_for(lambda: len(caplog.records) == 3, what="the lines before the end")
    (folder / "go").touch()
    end.join(10)

    told = sorted((record.getMessage(), record.levelname) for record in caplog.records)
    assert told == [("20%", "INFO"), ("one", "INFO"), ("three", "INFO"), ("two", "WARNING")]


def test_a_line_without_end_does_not_fill_the_memory(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", logger=log.name)

    run_shell("head -c 1000000 /dev/zero | tr '\\0' x", max_output=10)

    assert max(len(record.getMessage()) for record in caplog.records) <= module.LONGEST_LINE


def test_the_environment_has_no_secret_of_the_service(
    monkeypatch: pytest.MonkeyPatch, in_a_run: Callable[..., Watched]
):
    for name in ("REDIS_URL", "DATABASE_URL_FILE", "SCHEDULER_SMTP_PASSWORD"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("LANG", "C.UTF-8")
    in_a_run("nightly@2026-11-24T06:30:00Z", attempt=2)

    lines = run_shell("env", env={"MODE": "full"})["stdout"].splitlines()

    assert not any("hunter2" in line or "ALLOWED_COMMANDS" in line for line in lines)
    ours = {"LANG=C.UTF-8", "MODE=full", "SCHEDULER_ATTEMPT=2"}
    assert {*ours, "SCHEDULER_IDEMPOTENCY_KEY=nightly@2026-11-24T06:30:00Z"} <= set(lines)


def test_it_runs_in_the_folder_that_is_named(folder: Path):
    (folder / "sub").mkdir()

    assert run_shell("pwd", cwd="sub")["stdout"] == f"{folder}/sub\n"


ENDS = {
    "another status": (
        "echo first; echo 'disk\x1b full' >&2; exit 3",
        '"sh" ended with exit status 3 and not 0; its last line: "disk\\x1b full"',
    ),
    "without a word": ("exit 1", '"sh" ended with exit status 1 and not 0'),
    "only on standard output": ("echo hm; exit 1", '"sh" ended with exit status 1 and not 0; its last line: "hm"'),
    "killed": ("kill -SEGV $$", '"sh" was killed by SIGSEGV'),
    "killed by a signal without a name": ("kill -40 $$", '"sh" was killed by signal 40'),
}


@pytest.mark.parametrize(("script", "message"), ENDS.values(), ids=ENDS)
def test_an_end_that_was_not_expected_is_a_failure(script: str, message: str):
    with pytest.raises(module.CommandFailed) as fault:
        run_shell(script)

    assert str(fault.value) == message


def test_another_exit_status_may_be_expected():
    assert run_shell("exit 3", expect_exit=3)["exit"] == 3
    assert run_shell("exit 1", expect_exit=[0, 1])["exit"] == 1
    with pytest.raises(module.CommandFailed) as fault:
        run_shell("exit 2", expect_exit=[0, 1])
    assert str(fault.value) == '"sh" ended with exit status 2 and not 0 or 1'


def test_a_stop_ends_it_and_all_that_it_started(folder: Path, in_a_run: Callable[..., Watched]):
    watched = in_a_run()
    # One child in a session of its own, one that ignores SIGTERM, and one whose parent has gone.
    script = (
        "setsid sleep 60 & echo $! > one; (trap '' TERM; while :; do sleep 0.1; done) & echo $! > two; "
        "(sleep 60 & echo $! > three); sleep 60"
    )
    ended: list[BaseException] = []

    def stop_when_all_run() -> None:
        wait_for(lambda: all((folder / name).exists() for name in ("one", "two", "three")), what="the children")
        watched.stop_after = 0

    stopper = threading.Thread(target=stop_when_all_run)
    stopper.start()
    try:
        run_shell(script)
    except Stopped as error:
        ended.append(error)
    stopper.join(10)

    assert [str(error) for error in ended] == ["stopped on request while the program ran"]
    pids = [int((folder / name).read_text()) for name in ("one", "two", "three")]
    assert [pid for pid in pids if is_alive(pid)] == []


def test_what_a_timeout_raises_ends_it_too(folder: Path):
    class TimeIsOver(BaseException):
        """As the worker raises it inside a task function, from a signal."""

    def ring(*_: object) -> None:
        raise TimeIsOver

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(TimeIsOver):
            run_shell("echo $$ > pid; exec sleep 60")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert not is_alive(int((folder / "pid").read_text()))


def test_what_it_leaves_running_is_ended_and_other_processes_are_not(folder: Path):
    with subprocess.Popen(["sleep", "60"]) as other:
        result = run_shell("sleep 60 & echo $! > pid; echo done")

        assert result["stdout"] == "done\n"
        assert not is_alive(int((folder / "pid").read_text()))
        assert other.poll() is None
        other.kill()


def test_it_stays_in_the_process_group_that_the_service_kills():
    result = run_command([sys.executable, "-c", "import os; print(os.getpgid(0))"])

    assert int(result["stdout"]) == os.getpgid(0)


def test_without_the_setting_nothing_is_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SCHEDULER_ALLOWED_COMMANDS")

    with pytest.raises(module.CommandRefused) as fault:
        run_command(["sh", "-c", "touch evil"])

    assert str(fault.value) == (
        '"sh" is not run: no program may be, unless the setting allowed_commands (SCHEDULER_ALLOWED_COMMANDS) names it'
    )
    assert not Path("evil").exists()


@pytest.mark.parametrize("name", ["bash", "/bin/sh", "./sh", "../bin/sh", "s", "*", "sh,cat", "SH"])
def test_a_program_that_is_not_named_is_refused(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv("SCHEDULER_ALLOWED_COMMANDS", "sh, cat")

    with pytest.raises(module.CommandRefused) as fault:
        run_command([name])

    assert str(fault.value) == (
        f'"{name}" is not among the programs that may be run (sh, cat); '
        "add it, written the same way, to the setting allowed_commands (SCHEDULER_ALLOWED_COMMANDS)"
    )


def test_a_star_allows_all(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCHEDULER_ALLOWED_COMMANDS", "*")
    (folder / "job").write_text("#!/bin/sh\necho here\n")
    (folder / "job").chmod(0o755)

    assert run_command(["./job"])["stdout"] == "here\n"
    assert run_command(["echo", "a"])["stdout"] == "a\n"


def no_program(folder: Path) -> str:
    (folder / "data").write_text("no program")
    (folder / "data").chmod(0o755)
    return "./data"


def not_executable(folder: Path) -> str:
    (folder / "data").write_text("#!/bin/sh\n")
    return "./data"


def no_interpreter(folder: Path) -> str:
    (folder / "data").write_text("#!/no/such/program\n")
    (folder / "data").chmod(0o755)
    return "./data"


NOT_STARTED: dict[str, tuple[Callable[[Path], str], str]] = {
    "unknown": (
        lambda _: "no-such-program",
        'there is no program "no-such-program" in the PATH of this worker; install it, or give its path',
    ),
    "missing": (
        lambda _: "/no/such/program",
        '"/no/such/program" is not there, or the program that its first line names',
    ),
    "without its interpreter": (
        no_interpreter,
        '"./data" is not there, or the program that its first line names',
    ),
    "not executable": (
        not_executable,
        '"./data" may not be executed by this account; allow it with chmod +x',
    ),
    "no program": (no_program, '"./data" is no program; a script needs a first line such as #!/bin/sh'),
    "folder": (lambda _: "/tmp", '"/tmp" may not be executed by this account; allow it with chmod +x'),
}


@pytest.mark.parametrize(("make", "message"), NOT_STARTED.values(), ids=NOT_STARTED)
def test_a_program_that_cannot_be_started_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], str], message: str
):
    monkeypatch.setenv("SCHEDULER_ALLOWED_COMMANDS", "*")

    with pytest.raises(BadArgument) as fault:
        run_command([make(folder)])

    assert str(fault.value) == message


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a shell line": (
        {"command": "sh -c ls"},
        'command is the text "sh -c ls"; give a list of words such as [ls, -l], no shell line',
    ),
    "nothing": ({"command": []}, 'command is "[]"; give a list of texts such as [ls, -l]'),
    "a number": ({"command": ["sh", 1]}, "command is \"['sh', 1]\"; give a list of texts such as [ls, -l]"),
    "a zero byte": (
        {"command": ["sh", "a\0b"]},
        "command has an empty program, a zero byte or half a character in it; leave that out",
    ),
    "half a character": (
        {"command": ["sh", "\ud800"]},
        "command has an empty program, a zero byte or half a character in it; leave that out",
    ),
    "overlong": (
        {"command": ["sh", "a" * 100_000]},
        "command is longer than 100,000 letters; give what is long by stdin",
    ),
    "steering": (
        {"env": {"LD_PRELOAD": "evil.so"}},
        'env has "LD_PRELOAD", which would choose the code that runs; leave it out',
    ),
    "a name that is none": ({"env": {"A=B": "1"}}, 'env has a name "A=B"; it may have letters, digits and _'),
    "a number in env": (
        {"env": {"A": 1}},
        'the value of "A" in env is no text without zero bytes; put it in quotes',
    ),
    "no folder": ({"cwd": "nowhere"}, 'cwd is "nowhere", which is no folder; make it, or leave cwd out'),
    "status": ({"expect_exit": 256}, 'expect_exit is "256"; give a whole number from 0 to 255'),
    "no status": ({"expect_exit": []}, 'expect_exit is "[]"; give an exit status, or a list of them'),
    "output": ({"max_output": 0}, 'max_output is "0"; give a whole number from 1 to 1048576'),
    "input": ({"stdin": b"a"}, "stdin is no text that can be written in UTF-8; give a text"),
    "large input": (
        {"stdin": "a" * 10_485_761},
        "stdin has 10,485,761 bytes; 10,485,760 may be given; put them into a file",
    ),
}


@pytest.mark.parametrize(("args", "message"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_run_is_told(args: dict[str, Any], message: str):
    with pytest.raises(BadArgument) as fault:
        run_command(**{"command": ["sh", "-c", "exit 0"], **args})

    assert str(fault.value) == message
