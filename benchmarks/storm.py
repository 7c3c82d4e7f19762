"""How late jobs go to their queue when 10,000 schedules are due in the same second, and two workers are behind.

A file with 10,000 schedules of one minute is applied and planned; a dispatcher and two workers run as processes of
their own, as `scheduler start` runs them. When all have been moved, each job's note of when it came to its queue is
held against its due time. On SQLite and on PostgreSQL.

    python -m benchmarks.storm [--schedules N] [--only sqlite|postgresql]
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
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from sqlalchemy import func, select

from benchmarks.measuring import Verdicts, database_url, machine, nothing, percentile, private_redis, socket_of
from scheduler.broker import keys
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.file.apply import apply
from scheduler.engine.planner import Planner
from scheduler.rules.file.schedule_file import load_book
from scheduler.rules.states import SUCCEEDED
from scheduler.store.database import Database
from scheduler.store.migrate import migrate
from scheduler.store.tables import Task
from scheduler.task_functions import TaskFunction

WITHIN = 1.0  # seconds, 99 of 100
SPARE = 120  # seconds for apply and plan, before the minute in which all are due
WORKERS = 2
ROOT = Path(__file__).parents[1]
TASKS = """\
from scheduler import task


@task
def nothing():
    return None
"""


def main() -> int:
    options = _options()
    print(f"storm: {machine()}; {options.schedules:,} schedules due at once, {WORKERS} workers")
    verdicts = Verdicts()
    for kind in ("sqlite", "postgresql"):
        if options.only in (None, kind):
            with private_redis() as client, database_url(kind) as url, tempfile.TemporaryDirectory() as folder:
                lateness, done = measure(client, url, Path(folder), options.schedules)
            shown = ", ".join(f"p{share * 100:g} {percentile(lateness, share):.3f}" for share in (0.5, 0.9, 0.99))
            print(f"  {kind}: {len(lateness):,} notes, seconds late {shown}, max {max(lateness):.3f}")
            print(f"  {kind}: {done:,} tasks had been done by then: the workers were behind")
            late = percentile(lateness, 0.99)
            verdicts.at_most(f"99 of 100 are in their queue on {kind} within", late, WITHIN, "s")
    return verdicts.exit_status


def measure(client: redis.Redis, url: str, folder: Path, count: int) -> tuple[list[float], int]:
    """Seconds from the due time to the queue, of each job whose note is still there; and how many tasks had been done
    when the last was moved."""
    opened = Database(url)
    migrate(opened)
    room = WaitingRoom(client)
    due = (utc_now() + dt.timedelta(seconds=SPARE)).replace(second=0, microsecond=0) + dt.timedelta(minutes=1)
    text = schedule_file(count, due)
    loaded = load_book(
        text, file="schedules.yaml", functions={"nothing": TaskFunction("nothing", nothing)}, now=utc_now()
    )
    assert loaded.book is not None, loaded.faults[:3]
    apply(opened, room, loaded.book, text)
    planner = Planner(opened, room, dt.timedelta(minutes=5))
    while planner.step():
        pass
    assert utc_now() < due, "planning took too long; give it more time"
    (folder / "storming").mkdir()
    (folder / "storming" / "__init__.py").write_text(TASKS)
    with ExitStack() as stack:
        for part in (["dispatcher"], *([["worker", "--kind", "scheduled"]] * WORKERS)):
            stack.enter_context(running(part, folder, url, socket_of(client)))
        time.sleep(max(0.0, (due - utc_now()).total_seconds()))
        until = time.monotonic() + 60
        while client.zcount(keys.SCHEDULED, 0, due.timestamp()):
            assert time.monotonic() < until, "the dispatcher does not move them"
            time.sleep(0.02)
        notes = notes_of(client)
        with opened.read() as session:
            done = session.execute(select(func.count()).where(Task.state == SUCCEEDED)).scalar_one()
    opened.close()
    assert len(notes) > count * 0.9, len(notes)
    return [note - due.timestamp() for note in notes], done


def schedule_file(count: int, due: dt.datetime) -> bytes:
    head = "version: 1\ntimezone: Etc/UTC\nschedules:\n"
    when = f'{{at: "{due:%H:%M}"}}'
    return (head + "".join(f"  s{number:05}: {{task: nothing, when: {when}}}\n" for number in range(count))).encode()


def notes_of(client: redis.Redis) -> list[float]:
    """When each job came to its queue, by its note."""
    pipeline = client.pipeline(transaction=False)
    for name in client.scan_iter(f"{keys.JOB_PREFIX}*", count=1000):
        pipeline.hget(name, "enqueued_at")
    texts = [text.decode() for text in pipeline.execute() if text]
    return [dt.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() for text in texts]


@contextmanager
def running(part: list[str], folder: Path, url: str, socket: str) -> Iterator[None]:
    """`scheduler start PART`, ended at the end of the block."""
    ours = ("SCHEDULER_", "REDIS_", "DATABASE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"PYTHONPATH": str(ROOT), "SCHEDULER_TASK_PACKAGES": "storming"}
    environment |= {"REDIS_URL": f"unix://{socket}", "DATABASE_URL": url}
    command = [sys.executable, "-m", "scheduler", "start", *part]
    with (folder / f"{part[0]}.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
