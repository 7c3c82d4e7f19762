"""How late a task starts: from its due time to the first line of its function, with the whole service as `scheduler up`
runs it and nothing else to do.

Three schedules fire every second, each at its own part of it, so that none waits for another. The way is split where
it can be seen: due, moved to the queue (the dispatcher's note in Redis), taken from it (the worker's), claimed (SQL;
SQLite knows milliseconds), begun. Tells too how long the service took to its first claim, and the memory it takes.

    python -m benchmarks.lateness [--fires N] [--postgres]
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from sqlalchemy import func, select

from benchmarks.measuring import Verdicts, database_url, machine, percentile, resident_bytes, running, seconds_of
from scheduler.broker.connection import connect
from scheduler.broker.keys import JOB_PREFIX, job_id
from scheduler.broker.private_server import private_url
from scheduler.rules.states import PLANNED, SUCCEEDED
from scheduler.store.database import Database
from scheduler.store.tables import Attempt, Task

HALF_WITHIN = 6.0  # milliseconds
NEARLY_ALL_WITHIN = 15.0  # milliseconds, 99 of 100
WORKER_WITHIN = 120.0  # megabytes, parent and child of one worker together
COMMAND_ROUNDS = 5
COMMANDS_WITHIN = {"--help": 250.0, "tasks": 400.0, "status": 1000.0}  # milliseconds
WARM_UP = 15  # fires that fall into the start of the service, when the machine is not idle; not counted
ROOT = Path(__file__).parents[1]

TASKS = """\
import time

from scheduler import task


@task
def stamp():
    began_at = time.time()
    return {"began_at": began_at}
"""
# By the hashes of their names they start 0.11, 0.40 and 0.71 s into each second.
SCHEDULES = """\
version: 1
timezone: Etc/UTC
schedules:
  tick-14: {task: stamp, when: {every: 1s}, spread: 1s}
  tick-2: {task: stamp, when: {every: 1s}, spread: 1s}
  tick-17: {task: stamp, when: {every: 1s}, spread: 1s}
"""


@dataclass(frozen=True)
class Start:
    """One fire: seconds from its due time to each station; None for what left no trace."""

    moved: float | None
    taken: float | None
    claimed: float
    begun: float


def main() -> int:
    options = _options()
    kind = "postgresql" if options.postgres else "sqlite"
    print(f"lateness: {machine()}; {kind}, private Redis")
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory(prefix="rq-bench-") as name, _database_of(kind) as url:
        folder = Path(name)
        _write_project(folder)
        environment = _environment(url)
        database = Database(url or f"sqlite:///{folder}/var/scheduler.db")
        began_at = time.time()
        with running(folder, environment) as up:
            _wait_for_fires(database, 1, up, folder)
            _show_start(database, began_at)
            _wait_for_fires(database, options.fires + WARM_UP, up, folder)
            starts = read_starts(database, folder, options.fires)
            memory = read_memory(up.pid)
            _judge_commands(folder, environment, verdicts)
        database.close()
    _show(starts)
    _judge(starts, verdicts)
    _show_memory(memory, verdicts)
    return verdicts.exit_status


def read_starts(database: Database, folder: Path, fires: int) -> list[Start]:
    """The last `fires` of them."""
    with database.read() as session:
        query = select(Task).where(Task.state == SUCCEEDED).order_by(Task.due_at.desc()).limit(fires)
        done = list(session.scalars(query))
    client = connect(private_url(folder / "var"))
    try:
        return [_start(client, task) for task in done]
    finally:
        client.close()


def _start(client: redis.Redis, task: Task) -> Start:
    noted = client.hmget(f"{JOB_PREFIX}{job_id(task.id, 1)}", "enqueued_at", "started_at")
    due = task.due_at.timestamp()
    moved, taken = ((None if text is None else _moment(text) - due) for text in noted)
    assert task.started_at is not None
    assert task.result is not None
    return Start(moved, taken, task.started_at.timestamp() - due, task.result["began_at"] - due)


def _moment(text: bytes | str) -> float:
    plain = text.decode() if isinstance(text, bytes) else text
    return dt.datetime.fromisoformat(plain.replace("Z", "+00:00")).timestamp()


# --- memory and commands --------------------------------------------------------------------------------------------


def read_memory(up: int) -> list[tuple[str, int, int]]:
    """(process, bytes resident, bytes with shared pages counted by share) of `up` and all below it. Linux only."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # ended meanwhile
            continue
    found = [("up", *resident_bytes(up))]
    for part in sorted(child for child, parent in parents.items() if parent == up):
        name = _name_of(part)
        found.append((name, *resident_bytes(part)))
        children = [child for child, parent in parents.items() if parent == part]
        found.extend((f"{name}, its child", *resident_bytes(child)) for child in children)
    return found


def _name_of(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return " ".join(words[words.index("start") + 1 :]).strip() if "start" in words else Path(words[0]).name


def _judge_commands(folder: Path, environment: dict[str, str], verdicts: Verdicts) -> None:
    """Beside the service, which goes on with its three tasks a second."""
    for word, within in COMMANDS_WITHIN.items():
        command = [sys.executable, "-m", "scheduler", word]

        def run(command: list[str] = command) -> None:
            subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)

        spent = [seconds_of(run) for _ in range(COMMAND_ROUNDS)]
        took = [1000 * seconds for seconds in spent]
        verdicts.at_most(
            f"`scheduler {word}` ({min(took):.0f} to {max(took):.0f})", percentile(took, 0.5), within, "ms"
        )


# --- the service ----------------------------------------------------------------------------------------------------


@contextmanager
def _database_of(kind: str) -> Iterator[str | None]:
    """The url of a PostgreSQL database; None for SQLite in the data folder, as `scheduler up` has it by itself."""
    if kind == "sqlite":
        yield None
        return
    with database_url(kind) as url:
        yield url


def _write_project(folder: Path) -> None:
    (folder / "schedules.yaml").write_text(SCHEDULES)
    (folder / "stamping").mkdir()
    (folder / "stamping" / "__init__.py").write_text(TASKS)


def _environment(url: str | None) -> dict[str, str]:
    ours = ("SCHEDULER_", "REDIS_", "DATABASE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"PYTHONPATH": str(ROOT), "SCHEDULER_TASK_PACKAGES": "stamping"}
    return environment if url is None else environment | {"DATABASE_URL": url}


def _wait_for_fires(database: Database, fires: int, up: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until so many have ended. Asks seldom: the machine is to be idle."""
    until = time.monotonic() + 60 + fires
    while True:
        if up.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"The service does not run: {(folder / 'up.log').read_text()[-2000:]}")
        try:
            with database.read() as session:
                done = session.execute(select(func.count()).where(Task.state == SUCCEEDED)).scalar_one()
        except Exception:  # no tables yet
            done = 0
        if done >= fires:
            return
        time.sleep(0.2 if fires == 1 else 2)


# --- telling --------------------------------------------------------------------------------------------------------


def _show_start(database: Database, began_at: float) -> None:
    with database.read() as session:
        first = session.execute(select(func.min(Attempt.started_at))).scalar_one()
        planned = session.execute(select(func.min(Task.created_at)).where(Task.state != PLANNED)).scalar_one()
    print(
        f"from `scheduler up` to the first row {planned.timestamp() - began_at:.2f} s, "
        f"to the first claim {first.timestamp() - began_at:.2f} s"
    )


def _show(starts: list[Start]) -> None:
    print(f"{len(starts)} fires, milliseconds after the due time")
    print(f"    {'':<22}{'p50':>8}{'p90':>8}{'p99':>8}{'max':>8}")
    for station in ("moved", "taken", "claimed", "begun"):
        values = [value * 1000 for start in starts if (value := getattr(start, station)) is not None]
        if values:
            shown = [*(percentile(values, share) for share in (0.5, 0.9, 0.99)), max(values)]
            print(f"    {station:<22}" + "".join(f"{value:>8.1f}" for value in shown))


def _judge(starts: list[Start], verdicts: Verdicts) -> None:
    begun = [start.begun * 1000 for start in starts]
    verdicts.at_most("half of all begin within", percentile(begun, 0.5), HALF_WITHIN, "ms")
    verdicts.at_most("99 of 100 begin within", percentile(begun, 0.99), NEARLY_ALL_WITHIN, "ms")
    verdicts.at_least("the earliest begins after its due time by", min(begun), 0, "ms")


def _show_memory(memory: list[tuple[str, int, int]], verdicts: Verdicts) -> None:
    mega = 1024 * 1024
    print("memory: resident, and with shared pages counted by share")
    for name, resident, shared in memory:
        print(f"    {name:<36}{resident / mega:>7.0f} MB{shared / mega:>7.0f} MB")
    print(f"    {'all':<36}{'':>10}{sum(shared for _, _, shared in memory) / mega:>7.0f} MB")
    worker = [shared for name, _, shared in memory if name.startswith("worker --kind scheduled")]
    verdicts.at_most("a worker, parent and child", sum(worker) / mega, WORKER_WITHIN, "MB")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lateness", description=__doc__)
    parser.add_argument("--fires", type=int, default=200)
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL instead of SQLite")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
