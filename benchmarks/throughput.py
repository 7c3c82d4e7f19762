"""How many no-op tasks a second a worker process gets through, with claim, attempt and result committed to SQL, beside
stock `rq worker`, which stores nothing in SQL; and what a second process adds, also where tasks wait for 5 ms.

In turns, on one Redis (private, as `scheduler up` starts it). Stock runs a function of a module that it has imported
before, with RQ's JSON serializer, and logs warnings only; ours runs as `scheduler start worker` does, and its processes
are idle when the jobs come. Both are timed from the start of their first job to the end of their last, by what they
write themselves. SQLite has synchronous=FULL and PostgreSQL fsync, as by default: a commit that is answered is on disk,
but for claims that may be taken back (scheduler/store/direct.py).

    python -m benchmarks.throughput [--tasks N] [--rounds N] [--only sqlite|postgresql]
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import delete, func, select

from benchmarks.measuring import Figures, Verdicts, database_url, machine, nothing, private_redis, socket_of
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.rows import asked_row
from scheduler.rules.states import SUCCEEDED
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.migrate import migrate
from scheduler.store.tables import Attempt, LogChunk, Task

TIMES_STOCK = 8.0
TIMES_ONE = 1.6  # two processes, PostgreSQL
WAITING_SHARE = 4  # of the jobs; a task that waits for 5 ms needs six times as long
STOCK_SHARE = 10  # stock gets a tenth of the jobs: it is slow, and its rate does not depend on their number
WITHIN = 120.0  # seconds
ROOT = Path(__file__).parents[1]
Rates = dict[tuple[str, int], list[float]]  # by database and number of processes
TASKS = """\
import time

from scheduler import task


@task
def nothing():
    return None


@task
def waiting():
    time.sleep(0.005)
"""


def main() -> int:
    options = _options()
    print(f"throughput: {machine()}; {options.tasks} tasks, {options.rounds} rounds, load now {os.getloadavg()[0]:.1f}")
    verdicts = Verdicts()
    kinds = [options.only] if options.only else ["sqlite", "postgresql"]
    with ExitStack() as stack:
        client = stack.enter_context(private_redis())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rq-bench-")))
        _write_project(folder)
        urls = {kind: stack.enter_context(database_url(kind, durable=True)) for kind in kinds}
        for url in urls.values():
            _migrate(url)
        stock: list[float] = []
        ours: Rates = {(kind, workers): [] for kind in kinds for workers in (1, 2)}
        waiting: Rates = {(kind, workers): [] for kind in kinds for workers in (1, 2)}
        for _ in range(options.rounds):
            stock.append(stock_rate(client, folder, max(50, options.tasks // STOCK_SHARE)))
            for (kind, workers), rates in ours.items():
                rates.append(our_rate(client, urls[kind], folder, options.tasks, workers))
            for (kind, workers), rates in waiting.items():
                rates.append(our_rate(client, urls[kind], folder, options.tasks // WAITING_SHARE, workers, "waiting"))
    _show(stock, ours, waiting, verdicts)
    return verdicts.exit_status


def stock_rate(client: redis.Redis, folder: Path, jobs: int) -> float:
    """Jobs a second of one stock `rq worker`."""
    client.flushdb()
    queue = Queue("stock", connection=client, serializer=JSONSerializer)
    made = [queue.enqueue(nothing) for _ in range(jobs)]
    worker = [sys.executable, "-c", "import benchmarks.measuring; from rq.cli import main; main()", "worker", "--burst"]
    command = [
        *worker,
        "--url",
        f"unix://{socket_of(client)}",
        "--serializer",
        "rq.serializers.JSONSerializer",
        "stock",
    ]
    command += ["--logging_level", "WARNING"]
    with _running(command, folder, {}) as process:
        process.wait(WITHIN)
    began, ended = [], []
    for job in made:
        job.refresh()
        assert job.started_at is not None, "a job of stock rq did not run"
        assert job.ended_at is not None, "a job of stock rq did not end"
        began.append(job.started_at)
        ended.append(job.ended_at)
    return jobs / (max(ended) - min(began)).total_seconds()


def our_rate(client: redis.Redis, url: str, folder: Path, count: int, workers: int, task: str = "nothing") -> float:
    """Tasks a second of our workers: from the first claim to the last end, as SQL has them."""
    client.flushdb()
    database = Database(url)
    try:
        room = WaitingRoom(client)
        _fill(database, room, count, task)
        environment = {"REDIS_URL": f"unix://{socket_of(client)}", "DATABASE_URL": url}
        command = [sys.executable, "-m", "scheduler", "start", "worker", "--kind", "adhoc"]
        with ExitStack() as stack:
            for _ in range(workers):
                stack.enter_context(_running(command, folder, environment))
            _wait_until_idle(client, workers, folder)
            while room.move_due().looked_at:
                pass
            _wait_until_done(database, count, folder)
        with database.read() as session:
            begun, ended = session.execute(select(func.min(Task.started_at), func.max(Task.finished_at))).one()
        return count / float((ended - begun).total_seconds())
    finally:
        database.close()


def _fill(database: Database, room: WaitingRoom, count: int, task: str) -> None:
    """So many rows that are due, and their jobs where they wait to be moved to the queue."""
    row = asked_row(
        origin="manual",
        task=task,
        args={},
        kind="adhoc",
        queue="adhoc",
        policy=TaskPolicy(),
        now=utc_now() - dt.timedelta(seconds=1),
        start_by=None,
        requested_by="benchmark",
        idempotency_key="",
    )
    with database.write() as session:
        for table in (LogChunk, Attempt, Task):
            session.execute(delete(table))
        added = tasks.add(session, [{**row, "idempotency_key": str(number)} for number in range(count)])
    room.register([WaitingJob(one.id, 1, one.queue, one.due_at, one.state) for one in added])


def _wait_until_idle(client: redis.Redis, workers: int, folder: Path) -> None:
    """Wait until the child of each worker waits for a job: one that came later would leave the first ones alone."""
    until = time.monotonic() + WITHIN
    while True:
        clients: list[dict[str, str]] = client.client_list()
        if sum(one["name"].endswith("-child") and one["cmd"] == "blmove" for one in clients) == workers:
            return
        if time.monotonic() > until:
            raise RuntimeError(f"The workers did not start: {(folder / 'worker.log').read_text()[-2000:]}")
        time.sleep(0.05)


def _wait_until_done(database: Database, count: int, folder: Path) -> None:
    """Asks seldom: the workers are to have the machine."""
    until = time.monotonic() + WITHIN
    while True:
        with database.read() as session:
            left = session.execute(select(func.count()).where(Task.state != SUCCEEDED)).scalar_one()
        if left == 0:
            return
        if time.monotonic() > until:
            raise RuntimeError(f"{left} of {count} did not end: {(folder / 'worker.log').read_text()[-2000:]}")
        time.sleep(0.5)


@contextmanager
def _running(command: Sequence[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in `folder`; ended at the end of the block, by its process id."""
    ours = ("SCHEDULER_", "REDIS_", "DATABASE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    inherited |= {"PYTHONPATH": str(ROOT), "SCHEDULER_TASK_PACKAGES": "doing", "SCHEDULER_LOG_LEVEL": "WARNING"}
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=inherited | environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(30)


def _write_project(folder: Path) -> None:
    (folder / "schedules.yaml").write_text("version: 1\ntimezone: Etc/UTC\n")
    (folder / "doing").mkdir()
    (folder / "doing" / "__init__.py").write_text(TASKS)


def _migrate(url: str) -> None:
    database = Database(url)
    try:
        migrate(database)
    finally:
        database.close()


def _show(stock: list[float], ours: Rates, waiting: Rates, verdicts: Verdicts) -> None:
    print("tasks a second")
    print(f"    {'stock rq worker, nothing in SQL':<40}{Figures(tuple(stock)).shown('/s', 0)}")
    for (kind, workers), rates in ours.items():
        name = f"ours on {kind}, {'one process' if workers == 1 else 'two processes'}"
        print(f"    {name:<40}{Figures(tuple(rates)).shown('/s', 0)}")
    for (kind, workers), rates in waiting.items():
        if workers == 2:
            ratios = Figures(tuple(two / one for two, one in zip(rates, waiting[kind, 1], strict=True)))
            shown = ratios.shown("times as many as one", 2)
            print(f"    tasks that wait for 5 ms: two processes on {kind} end {shown}")
    for (kind, workers), rates in ours.items():
        if workers == 1:
            ratios = Figures(tuple(rate / by for rate, by in zip(rates, stock, strict=True)))
            verdicts.at_least(f"one process on {kind}, times stock", ratios.median, TIMES_STOCK, "times")
        elif kind == "postgresql":
            ratios = Figures(tuple(two / one for two, one in zip(rates, ours[kind, 1], strict=True)))
            verdicts.at_least(f"two processes on {kind}, times one", ratios.median, TIMES_ONE, "times")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
