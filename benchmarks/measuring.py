"""What the benchmarks share: figures, verdicts, the machine's line, servers of their own.

Every figure is a median with its extremes: on a machine that others use, a single run tells little.
"""

from __future__ import annotations

import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis

from scheduler.broker.connection import connect
from scheduler.broker.private_server import PrivateServer
from scheduler.broker.private_server import stop as stop_server
from scheduler.store.database import Database
from scheduler.store.tables import Base
from tests.servers import start_postgres


def nothing() -> None:
    """The task of the jobs that are only moved."""


@dataclass(frozen=True)
class Figures:
    """What several runs of one measurement gave."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def shown(self, unit: str = "s", digits: int = 3) -> str:
        low, high = min(self.values), max(self.values)
        return f"{self.median:,.{digits}f} {unit} ({low:,.{digits}f} to {high:,.{digits}f})"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed.

    >>> percentile([4, 1, 3, 2], 0.5)
    2
    """
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def seconds_of(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


class Verdicts:
    """Says of each goal whether it is met; `exit_status` is 1 when one is not."""

    def __init__(self) -> None:
        self.exit_status = 0

    def at_most(self, what: str, value: float, limit: float, unit: str) -> None:
        self._tell(value <= limit, f"{what}: {value:,.1f} {unit}, at most {limit:,g} {unit} wanted")

    def at_least(self, what: str, value: float, limit: float, unit: str) -> None:
        self._tell(value >= limit, f"{what}: {value:,.1f} {unit}, at least {limit:,g} {unit} wanted")

    def _tell(self, is_met: bool, line: str) -> None:
        print(f"{'PASS' if is_met else 'SHORT OF GOAL'}  {line}")
        if not is_met:
            self.exit_status = 1


def machine() -> str:
    """One line on what the figures were measured with; the load tells whether the machine was quiet."""
    return (
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the start"
    )


# --- servers --------------------------------------------------------------------------------------------------------


@contextmanager
def private_redis() -> Iterator[redis.Redis]:
    """A client of a server as `scheduler up` starts it (append-only file, unix socket), in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="rq-bench-") as folder:
        server = PrivateServer(Path(folder))
        process = subprocess.Popen(server.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 10
            while not server.answers():
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"The server did not start: {server.last_words()}")
                time.sleep(0.02)
            client = connect(server.url)
            try:
                yield client
            finally:
                client.close()
        finally:
            stop_server(process)


def socket_of(client: redis.Redis) -> str:
    return str(client.connection_pool.connection_kwargs["path"])


@contextmanager
def database(kind: str) -> Iterator[Database]:
    """An empty database with our tables: `sqlite`, a file with synchronous=FULL as by default, or `postgresql`, a
    server of our own that does not fsync (see tests/servers.py): its commits are cheaper than a real one's."""
    with database_url(kind) as url:
        opened = Database(url)
        try:
            Base.metadata.create_all(opened.engine)
            yield opened
        finally:
            opened.close()


@contextmanager
def database_url(kind: str, *, durable: bool = False) -> Iterator[str]:
    """The url of an empty database; with `durable` PostgreSQL's commits are on disk when they are answered."""
    with tempfile.TemporaryDirectory(prefix="rq-bench-") as folder:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/scheduler.db"
            return
        with start_postgres(Path(folder), durable=durable) as server:
            yield server.create_database()


# --- processes ------------------------------------------------------------------------------------------------------


def resident_bytes(pid: int) -> tuple[int, int]:
    """What a process holds in memory: all of it, and its share where pages are shared (as after a fork). Linux only."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) * 1024
    return fields["Rss"], fields["Pss"]


@contextmanager
def running(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`scheduler up` in `folder`; ended at the end of the block, by its process id."""
    with (folder / "up.log").open("wb") as log:
        command = [sys.executable, "-m", "scheduler", "up"]
        up = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield up
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(30)


def child_of(pid: int, word: str) -> int:
    """The process that `pid` has started with this word in its command."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid and word in (path.parent / "cmdline").read_text().split("\0"):
                return int(path.parent.name)
    raise RuntimeError(f"process {pid} has no child {word!r}")
