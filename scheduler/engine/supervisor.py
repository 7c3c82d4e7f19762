"""`scheduler up`: everything in one. Starts the parts in order, watches them, starts again what ends, stops them.

Each part is a process of its own, dies with the supervisor however that ends, and is started again after a pause.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from scheduler.broker.private_server import PrivateServer
from scheduler.broker.private_server import stop as stop_server
from scheduler.engine.loops import Stop
from scheduler.engine.troubles import Pauses
from scheduler.engine.work.processes import UNDER_UP, die_with_parent
from scheduler.errors import PartAway, Refused
from scheduler.settings import Settings, environment_name, environment_of

log = logging.getLogger(__name__)

SERVER_ANSWERS_WITHIN = 10.0  # seconds
PAUSES = 0.5, 30.0  # seconds, first and longest, before a part that ended is started again
WELL_AFTER = 30.0  # seconds after which a part that ends again starts with the first pause
AFTER_PATIENCE = 2.0  # seconds a worker gets to record what it had to stop
OTHERS_STOP_WITHIN = 3.0


@dataclass
class Process:
    """A part that the supervisor keeps alive."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    pauses: Pauses = field(default_factory=lambda: Pauses(*PAUSES))
    restarts: int = 0


class DataFolder:
    """The data folder, held by one `scheduler up` at a time.

    The lock's file is handed to the private server, so that a server left over by a supervisor that was killed still
    holds it: two servers on one folder would both write to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = (path / "lock").open("w")
        except OSError as error:
            raise Refused(
                f"The data folder {path} cannot be used: {error.strerror}. Name another with --data."
            ) from error

    @property
    def lock_number(self) -> int:
        return self._file.fileno()

    def lock(self, patience: float = 5.0) -> None:
        """Raises Refused when another `scheduler up` has the folder."""
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Refused(
                        f"Another `scheduler up` uses the data folder {self.path}. "
                        "Stop it, or name another with --data."
                    ) from None
                time.sleep(0.1)

    def close(self) -> None:
        self._file.close()


class Supervisor:
    def __init__(self, settings: Settings, folder: DataFolder) -> None:
        self.settings = settings
        self.folder = folder
        self.server: PrivateServer | None = None if settings.redis_url else PrivateServer(settings.data)
        self._server_process = Process("redis", [])
        self.parts: list[Process] = []

    # --- start ------------------------------------------------------------------------------------------------------

    def start_server(self) -> None:
        """Start the private Redis, if it is ours to start, and wait until it answers. Raises PartAway."""
        if self.server is None:
            return
        self._spawn_server()
        until = time.monotonic() + SERVER_ANSWERS_WITHIN
        while not self.server.answers():
            process = self._server_process.process
            if time.monotonic() > until or process is None or process.poll() is not None:
                self.stop_server()
                raise PartAway(f"The private Redis did not start: {self.server.last_words()} (see {self.server.log})")
            time.sleep(0.02)

    def start_parts(self) -> None:
        scheduler = [sys.executable, "-m", "scheduler", "start"]
        self.parts = [Process("dispatcher", [*scheduler, "dispatcher"]), Process("keeper", [*scheduler, "keeper"])]
        for kind in ("scheduled", "long", "adhoc"):
            for number in range(getattr(self.settings, f"workers_{kind}")):
                name = f"worker-{kind}" + (f"-{number + 1}" if number else "")
                self.parts.append(Process(name, [*scheduler, "worker", "--kind", kind]))
        if self.settings.web_port:
            self.parts.append(Process("web", [*scheduler, "web"]))
        for part in self.parts:
            self._spawn(part)

    # --- watch ------------------------------------------------------------------------------------------------------

    def watch(self, stop: Stop, until: float | None, look: Callable[[], None] = lambda: None) -> None:
        """Keep everything alive until told to stop, or until the moment `until` of the monotonic clock."""
        while not stop.is_set and (until is None or time.monotonic() < until):
            if self.server is not None:
                self._keep_alive(self._server_process, self._spawn_server)
            for part in self.parts:
                self._keep_alive(part, lambda part=part: self._spawn(part))  # type: ignore[misc]
            look()
            stop.wait(0.2 if until is None else max(0.0, min(0.2, until - time.monotonic())))

    def _keep_alive(self, part: Process, spawn: Callable[[], None]) -> None:
        now = time.monotonic()
        if part.process is not None:
            status = part.process.poll()
            if status is None:
                return
            if now - part.started_at > WELL_AFTER:
                part.pauses.reset()
            pause = part.pauses.next()
            log.warning(
                "%s ended (status %d); started again in %.1f s",
                part.name,
                status,
                pause,
                extra={"event": "part_ended"},
            )
            part.process = None
            part.start_at = now + pause
            part.restarts += 1
        if now >= part.start_at:
            spawn()

    # --- stop -------------------------------------------------------------------------------------------------------

    def stop_parts(self) -> None:
        """Workers first, so that what runs can still tell how it ended; then the rest."""
        workers = [part for part in self.parts if part.name.startswith("worker")]
        others = [part for part in self.parts if part not in workers]
        patience = self.settings.patience_seconds + AFTER_PATIENCE
        for group, seconds in ((workers, patience), (others, OTHERS_STOP_WITHIN)):
            alive = [part.process for part in group if part.process is not None and part.process.poll() is None]
            for process in alive:
                process.terminate()
            _wait_or_kill(alive, seconds)
        self.parts = []

    def stop_server(self) -> None:
        if self._server_process.process is not None:
            stop_server(self._server_process.process)
            self._server_process.process = None

    # --- processes --------------------------------------------------------------------------------------------------

    def _spawn_server(self) -> None:
        assert self.server is not None
        self._server_process.process = _spawn(self.server.command(), dict(os.environ), (self.folder.lock_number,))
        self._server_process.started_at = time.monotonic()

    def _spawn(self, part: Process) -> None:
        part.process = _spawn(part.command, self._environment())
        part.started_at = time.monotonic()

    def _environment(self) -> dict[str, str]:
        """This process's environment, with the settings as they came out here, so that all parts see the same."""
        values = environment_of(self.settings) | {UNDER_UP: "1"}
        if self.server is not None:
            values[environment_name("redis_url")] = self.server.url
        return dict(os.environ) | values


def _spawn(command: list[str], environment: dict[str, str], keep: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        pass_fds=keep,
        start_new_session=True,  # Ctrl-C in a terminal reaches the supervisor alone, which stops the rest in order
        preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
    )


def _wait_or_kill(processes: list[subprocess.Popen[bytes]], seconds: float) -> None:
    until = time.monotonic() + seconds
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
