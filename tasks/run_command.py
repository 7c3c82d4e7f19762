"""Runs a program: a list of words, never a shell; only programs that the service's settings allow.

The program stays in the process group of the task, which the service kills as a whole at a hard timeout. Until then
this module ends what it started: also what the program left behind, which comes back to us because the process is made
the «subreaper» of its descendants (Linux; elsewhere only the program itself is ended).
"""

from __future__ import annotations

import codecs
import ctypes
import errno
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from scheduler import context, log, task
from tasks.commons import BadArgument, TaskFault, raise_when_stopped, shown, whole_number

MOST_OUTPUT = 1024 * 1024  # bytes of each stream in the result; more belongs into a file
MOST_INPUT = 10 * 1024 * 1024
MOST_WORDS = 100_000  # letters of all words together; Linux takes 128 kB in one
LONGEST_LINE = 2000  # letters of one line in the log
CHUNK = 64 * 1024
LOOK_EVERY = 0.2  # seconds; how soon a stop is heard
LAST_WORDS_SECONDS = 0.5  # for output that is still in the pipe when the program has ended
POLITE_SECONDS = 2.0  # between SIGTERM and SIGKILL
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
# Set for a program that is allowed, these would have it run another's code.
_STEERING = re.compile(r"(LD_|DYLD_|PYTHON|PERL5|GIT_).*|PATH|BASH_ENV|ENV|IFS|NODE_OPTIONS|RUBYOPT|JAVA_TOOL_OPTIONS")
_OWN = re.compile(r"SCHEDULER_.*|(REDIS_URL|DATABASE_URL)(_FILE)?")


class CommandFailed(TaskFault):
    """The program ran, and did not end as was expected."""


class CommandRefused(BadArgument):
    """The settings do not allow the program."""


@task
def run_command(
    command: list[str],
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    expect_exit: int | Sequence[int] = 0,
    max_output: int = 64 * 1024,
) -> dict[str, Any]:
    """Run a program to its end; another exit status than `expect_exit` is a failure.

    `command` is the program and its arguments, each word by itself: no shell reads it, so no quotes, pipes or $NAMES.
    The program must stand in the setting `allowed_commands`. It runs in `cwd` (else the service's working folder) with
    the worker's environment, less the service's own settings and secrets, and with `env`; it reads `stdin`, else
    nothing. SCHEDULER_IDEMPOTENCY_KEY and SCHEDULER_ATTEMPT in its environment say which run it is.

    What it prints goes to the log line by line while it runs, and its first `max_output` bytes of each stream, up to
    1 MB, into the result: {exit, stdout, stderr, stdout_bytes, stderr_bytes, seconds}. At a timeout or stop it gets
    SIGTERM, two seconds later SIGKILL; so does what it started. What it leaves running at its own end is ended too.

    Raises BadArgument, CommandRefused, or CommandFailed with the last line that it printed.
    """
    words = _checked_command(command)
    statuses = _checked_statuses(expect_exit)
    whole_number("max_output", max_output, 1, MOST_OUTPUT)
    program = _allowed_program(words[0])
    environment = _environment(_checked_env(env))
    content = _checked_input(stdin)
    folder = _checked_folder(cwd)
    began = time.monotonic()
    raise_when_stopped("before the program was started")
    with _running(program, words, folder, environment) as process:
        streams = _converse(process, content, max_output)
        status = process.wait()
    _raise_unexpected(words[0], status, statuses, streams)
    out, err = streams
    return {
        "exit": status,
        "stdout": out.kept(),
        "stderr": err.kept(),
        "stdout_bytes": out.bytes,
        "stderr_bytes": err.bytes,
        "seconds": round(time.monotonic() - began, 3),
    }


# Its output


class _Stream:
    """What comes out of one pipe: its start is kept, its lines are logged as they end."""

    def __init__(self, level: int, at_most: int) -> None:
        self.bytes = 0
        self.last_line = ""
        self._level = level
        self._at_most = at_most
        self._start = bytearray()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def add(self, chunk: bytes) -> None:
        self.bytes += len(chunk)
        self._start += chunk[: self._at_most - len(self._start)]
        *lines, self._held = (self._held + self._decoder.decode(chunk)).split("\n")
        if len(self._held) > LONGEST_LINE:  # a program that never ends its line must not fill the memory
            lines.append(self._held)
            self._held = ""
        for line in lines:
            self._tell(line)

    def finish(self) -> None:
        self._tell(self._held + self._decoder.decode(b"", final=True))

    def kept(self) -> str:
        return self._start.decode("utf-8", "replace")

    def _tell(self, line: str) -> None:
        line = line.rstrip("\r").rpartition("\r")[2][:LONGEST_LINE]  # of a progress line, how it ended up
        if line.strip():
            self.last_line = line.strip()
            log.log(self._level, "%s", line)


def _converse(process: subprocess.Popen[bytes], content: bytes, at_most: int) -> tuple[_Stream, _Stream]:
    """Feed the program and hear it until it has closed its output, or has ended and says no more."""
    out, err = _Stream(20, at_most), _Stream(30, at_most)  # INFO and WARNING
    assert process.stdin is not None
    with selectors.DefaultSelector() as selector:
        for pipe, stream in ((process.stdout, out), (process.stderr, err)):
            assert pipe is not None
            selector.register(pipe, selectors.EVENT_READ, stream)
        if content:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE, None)
        else:
            process.stdin.close()
        left = memoryview(content)
        ended_at: float | None = None
        while selector.get_map():
            raise_when_stopped("while the program ran")
            for key, _ in selector.select(LOOK_EVERY):
                if key.data is None:
                    left = _fed(selector, process.stdin, left)
                elif chunk := os.read(key.fd, CHUNK):
                    key.data.add(chunk)
                else:
                    selector.unregister(key.fileobj)
            if ended_at is None and process.poll() is not None:
                ended_at = time.monotonic()
            if ended_at is not None and time.monotonic() - ended_at > LAST_WORDS_SECONDS:
                break  # what it left running holds the pipes open, perhaps for ever
    while process.poll() is None:  # it has closed its output and goes on
        raise_when_stopped("while the program ran")
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_EVERY)
    out.finish()
    err.finish()
    return out, err


def _fed(selector: selectors.BaseSelector, pipe: IO[bytes], left: memoryview) -> memoryview:
    try:
        left = left[os.write(pipe.fileno(), left[:CHUNK]) :]
    except BlockingIOError:
        return left
    except BrokenPipeError:
        left = left[:0]  # it does not want more, as `head` does not
    if not left:
        selector.unregister(pipe)
        pipe.close()
    return left


def _raise_unexpected(name: str, status: int, statuses: Sequence[int], streams: tuple[_Stream, _Stream]) -> None:
    if status in statuses:
        return
    out, err = streams
    last = err.last_line or out.last_line
    said = f"; its last line: {shown(last)}" if last else ""
    if status < 0:
        raise CommandFailed(f"{shown(name)} was killed by {_signal_name(-status)}{said}")
    expected = " or ".join(map(str, statuses))
    raise CommandFailed(f"{shown(name)} ended with exit status {status} and not {expected}{said}")


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


# Its processes


def _start(
    program: str, words: Sequence[str], folder: str | None, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            executable=program,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise BadArgument(f"{shown(program)} is not there, or the program that its first line names") from error
    except PermissionError as error:
        raise BadArgument(f"{shown(program)} may not be executed by this account; allow it with chmod +x") from error
    except OSError as error:
        what = "is no program" if error.errno == errno.ENOEXEC else f"cannot be started: {error.strerror}"
        raise BadArgument(f"{shown(program)} {what}; a script needs a first line such as #!/bin/sh") from error


@contextmanager
def _running(*how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Inside the block the program runs; at its end, however that comes, nothing of it does."""
    others = _descendants({os.getpid()}, _parents())
    before = _be_reaper(1)
    try:
        process = _start(*how)
        try:
            yield process
        finally:
            _end(process, others)
            for pipe in (process.stdin, process.stdout, process.stderr):
                with suppress(OSError):
                    assert pipe is not None
                    pipe.close()
    finally:
        _be_reaper(before)


def _end(process: subprocess.Popen[bytes], others: set[int]) -> None:
    end = time.monotonic() + POLITE_SECONDS
    try:
        while _signal_all(process, others, signal.SIGTERM) and time.monotonic() < end:
            time.sleep(0.02)
    finally:
        end = time.monotonic() + POLITE_SECONDS
        while _signal_all(process, others, signal.SIGKILL) and time.monotonic() < end:
            time.sleep(0.02)  # those that fork while they are killed are found on the next round


def _signal_all(process: subprocess.Popen[bytes], others: set[int], number: signal.Signals) -> bool:
    """Signal the program and what descends from it, as far as it runs; whether there was anything."""
    if process.poll() is not None:
        others = others | {process.pid}
    parents = _parents()
    found = _descendants({os.getpid()}, parents) - others
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
        if pid != process.pid and parents[pid] == os.getpid():  # an orphan, ours now: we take leave of it
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    return bool(found)


def _descendants(of: set[int], parents: Mapping[int, int]) -> set[int]:
    found: set[int] = set()
    wave = of
    while wave:
        wave = {pid for pid, parent in parents.items() if parent in wave} - found
        found |= wave
    return found


def _parents() -> dict[int, int]:
    """Each process of this machine and its parent."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            after_name = (folder / "stat").read_text(errors="replace").rpartition(")")[2]
            parents[int(folder.name)] = int(after_name.split()[1])
    return parents


def _be_reaper(wanted: int) -> int:
    """Whether orphaned descendants come to this process; what it was before."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int(0)
    libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, wanted, 0, 0, 0)
    return before.value


# What may be run, and how


def _allowed_program(name: str) -> str:
    """The path of the program. Raises CommandRefused unless the settings allow it, BadArgument when it is not there."""
    allowed = [word.strip() for word in os.environ.get("SCHEDULER_ALLOWED_COMMANDS", "").split(",") if word.strip()]
    if not allowed:
        raise CommandRefused(
            f"{shown(name)} is not run: no program may be, unless the setting allowed_commands "
            "(SCHEDULER_ALLOWED_COMMANDS) names it"
        )
    if name not in allowed and "*" not in allowed:
        raise CommandRefused(
            f"{shown(name)} is not among the programs that may be run ({', '.join(allowed)}); "
            "add it, written the same way, to the setting allowed_commands (SCHEDULER_ALLOWED_COMMANDS)"
        )
    if "/" in name:
        return name
    found = shutil.which(name)
    if found is None:
        raise BadArgument(f"there is no program {shown(name)} in the PATH of this worker; install it, or give its path")
    return str(Path(found).absolute())


def _checked_command(command: Any) -> list[str]:
    if isinstance(command, str):
        raise BadArgument(f"command is the text {shown(command)}; give a list of words such as [ls, -l], no shell line")
    if not isinstance(command, Sequence) or not command or not all(isinstance(word, str) for word in command):
        raise BadArgument(f"command is {shown(command)}; give a list of texts such as [ls, -l]")
    words = list(command)
    if not words[0] or any("\0" in word or not _is_encodable(word) for word in words):
        raise BadArgument("command has an empty program, a zero byte or half a character in it; leave that out")
    if sum(map(len, words)) > MOST_WORDS:
        raise BadArgument(f"command is longer than {MOST_WORDS:,} letters; give what is long by stdin")
    return words


def _checked_statuses(expect_exit: Any) -> list[int]:
    given = [expect_exit] if isinstance(expect_exit, int) else expect_exit
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise BadArgument(f"expect_exit is {shown(expect_exit)}; give an exit status, or a list of them")
    return [whole_number("expect_exit", one, 0, 255) for one in given]


def _checked_env(env: Any) -> dict[str, str]:
    """Names and values; faults never show a value."""
    if env is None:
        return {}
    if not isinstance(env, Mapping):
        raise BadArgument("env is no list of names with a text each")
    for name, value in env.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name):
            raise BadArgument(f"env has a name {shown(name, 40)}; it may have letters, digits and _")
        if _STEERING.fullmatch(name):
            raise BadArgument(f"env has {shown(name)}, which would choose the code that runs; leave it out")
        if not isinstance(value, str) or "\0" in value or not _is_encodable(value):
            raise BadArgument(f"the value of {shown(name)} in env is no text without zero bytes; put it in quotes")
    return dict(env)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment without what belongs to the service."""
    kept = {name: value for name, value in os.environ.items() if not _OWN.fullmatch(name)}
    key, attempt = context.idempotency_key, context.attempt
    run = {} if key is None else {"SCHEDULER_IDEMPOTENCY_KEY": key, "SCHEDULER_ATTEMPT": str(attempt)}
    return {**kept, **run, **more}


def _checked_input(stdin: Any) -> bytes:
    if stdin is None:
        return b""
    if not isinstance(stdin, str) or not _is_encodable(stdin):
        raise BadArgument("stdin is no text that can be written in UTF-8; give a text")
    content = stdin.encode()
    if len(content) > MOST_INPUT:
        raise BadArgument(f"stdin has {len(content):,} bytes; {MOST_INPUT:,} may be given; put them into a file")
    return content


def _checked_folder(cwd: Any) -> str | None:
    if cwd is None:
        return None
    if not isinstance(cwd, str) or not cwd or "\0" in cwd or not Path(cwd).is_dir():
        raise BadArgument(f"cwd is {shown(cwd)}, which is no folder; make it, or leave cwd out")
    return cwd


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
