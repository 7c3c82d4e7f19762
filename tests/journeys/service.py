"""The whole service in a folder of its own, as `scheduler up` runs it, with what the tests need to look inside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import select

from scheduler.broker.connection import connect
from scheduler.broker.private_server import private_url
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.actions import Actions
from scheduler.store.database import Database
from scheduler.store.tables import Attempt, Part, Task
from scheduler.task_functions import find_task_functions
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
START_SECONDS = 40  # two cores that run the rest of the suite too

HEAD = """\
version: 1
timezone: Etc/UTC
defaults: {grace: 5m, retry: {attempts: 3, backoff: fixed, first: 1s}}
schedules:
"""


@dataclass(frozen=True)
class Entry:
    """A line of the diary."""

    word: str
    task_id: int
    attempt: int
    pid: int
    moment: float


class Service:
    """`scheduler up` in `folder`. Leases are short, so that lost workers are noticed within a test's patience."""

    def __init__(self, folder: Path, *, database_url: str | None = None, redis_url: str | None = None) -> None:
        self.folder = folder
        self.diary = folder / "diary"
        self.file = folder / "schedules.yaml"
        self.log = folder / "up.log"
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SCHEDULER_", "REDIS_", "DATABASE_"))
        }
        self.environment |= {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
            "SCHEDULER_TASK_PACKAGES": "journey_tasks",
            "SCHEDULER_LEASE_SECONDS": "6",
            "SCHEDULER_RENEW_SECONDS": "2",
            "SCHEDULER_RECONCILE_SECONDS": "2",
            "SCHEDULER_WEB_PORT": "0",  # a journey that wants the page takes a free one
        }
        if database_url is not None:
            self.environment["DATABASE_URL"] = database_url
        if redis_url is not None:
            self.environment["REDIS_URL"] = redis_url
        self._database_url = database_url or f"sqlite:///{folder / 'var' / 'scheduler.db'}"
        self.up: subprocess.Popen[str] | None = None

    # --- doing ------------------------------------------------------------------------------------------------------

    def write(self, schedules: str, head: str = HEAD) -> None:
        """Write the schedule file; DIARY in it stands for the diary, FOLDER for the folder."""
        text = textwrap.indent(textwrap.dedent(schedules), "  ")
        self.file.write_text(head + text.replace("DIARY", str(self.diary)).replace("FOLDER", str(self.folder)))

    def start(self, *options: str) -> Self:
        """Start `scheduler up` and wait until its parts move."""
        with self.log.open("a") as log:
            self.up = subprocess.Popen(
                [sys.executable, "-m", "scheduler", "up", *options],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        wait_for(self._is_moving, seconds=START_SECONDS, what=f"all parts to move; {self.log}")
        return self

    def command(self, *words: str, status: int = 0, or_status: int | None = None) -> str:
        """Run a command of the service; its standard output. Fails unless it ends with one of the two statuses."""
        ended = subprocess.run(
            [sys.executable, "-m", "scheduler", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode in (status, or_status), (
            f"{words} ended with {ended.returncode}: {ended.stdout}{ended.stderr}"
        )
        return ended.stdout if status == 0 else ended.stdout + ended.stderr

    def run(self, *words: str) -> int:
        """`scheduler run …`; the id of the new task."""
        return int(json.loads(self.command("run", *words, "--json"))["id"])

    def ask(self, name: str, **args: Any) -> int:
        """The same without a process of its own."""
        with connect(self.redis_url) as client:
            actions = Actions(self.database, WaitingRoom(client), by="test")
            return actions.run(name, args, find_task_functions(["tests.journeys.journey_tasks"])).task_id

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 15) -> int:
        """Ask `up` to end; its exit status."""
        assert self.up is not None
        self.up.send_signal(number)
        try:
            return self.up.wait(seconds)
        finally:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self.database.close()

    def _end(self) -> None:
        """End what may be left, by process id: the parts die with the supervisor."""
        if self.up is not None and self.up.poll() is None:
            self.up.kill()
            self.up.wait()

    # --- looking ----------------------------------------------------------------------------------------------------

    @cached_property
    def database(self) -> Database:
        return Database(self._database_url)

    @property
    def redis_url(self) -> str:
        return self.environment.get("REDIS_URL") or private_url(self.folder / "var")

    def tasks(self, schedule: str | None = None) -> list[Task]:
        query = select(Task).order_by(Task.id)
        with self.database.read() as session:
            return list(session.scalars(query if schedule is None else query.where(Task.schedule == schedule)))

    def task(self, task_id: int) -> Task:
        with self.database.read() as session:
            found = session.get(Task, task_id)
        assert found is not None
        return found

    def attempts(self, task_id: int) -> list[Attempt]:
        with self.database.read() as session:
            return list(session.scalars(select(Attempt).where(Attempt.task_id == task_id).order_by(Attempt.number)))

    def wait_for_task(
        self, condition: Callable[[Task], Any], *, schedule: str | None = None, seconds: float = 30
    ) -> Task:
        """The first task that meets the condition."""
        return wait_for(
            lambda: next(filter(condition, self.tasks(schedule)), None), seconds=seconds, what=f"a task; {self.log}"
        )

    def wait_for_state(self, task_id: int, *states: str, seconds: float = 30) -> Task:
        wait_for(
            lambda: self.task(task_id).state in states,
            seconds=seconds,
            what=f"task {task_id} to be {' or '.join(states)}; {self.log}",
        )
        return self.task(task_id)

    def parts(self) -> dict[str, Part]:
        with self.database.read() as session:
            return {part.part: part for part in session.scalars(select(Part))}

    def diary_entries(self) -> list[Entry]:
        return entries_of(self.diary)

    def wait_for_entry(self, word: str, task_id: int | None = None, *, seconds: float = 30) -> Entry:
        return wait_for(
            lambda: next(
                (one for one in self.diary_entries() if one.word == word and task_id in (None, one.task_id)), None
            ),
            seconds=seconds,
            what=f"«{word}» in the diary; {self.log}",
        )

    def processes(self) -> set[int]:
        """All processes that descend from `up`, itself left out."""
        assert self.up is not None
        return descendants_of(self.up.pid)

    def _is_moving(self) -> bool:
        assert self.up is not None
        assert self.up.poll() is None, f"up ended: {self.log.read_text()}"
        try:
            moving = set(self.parts())
        except Exception:  # no tables yet
            return False
        return {"dispatcher", "keeper", "worker-scheduled", "worker-long", "worker-adhoc"} <= moving


def entries_of(diary: Path) -> list[Entry]:
    if not diary.exists():
        return []
    lines = [line.split() for line in diary.read_text().splitlines()]
    return [Entry(word, int(task), int(attempt), int(pid), float(at)) for word, task, attempt, pid, at in lines]


def descendants_of(pid: int) -> set[int]:
    children: dict[int, set[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:  # ended meanwhile
            continue
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), set()).add(int(folder.name))
    found, open_ = set(), [pid]
    while open_:
        for child in children.get(open_.pop(), set()):
            found.add(child)
            open_.append(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return (Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]) != "Z"
    except OSError:
        return False
