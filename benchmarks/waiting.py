"""What a worker waits for its claim while the service writes much at once: retention of 100,000 tasks, and 600,000 fire
times that a standstill missed (100 schedules, each the newest 1,000 as rows, the rest as a gap). And how long reconcile
takes to fill an emptied Redis with 100,000 jobs.

A process of its own claims a task fifty times a second, each in a transaction as a worker does it, and notes how long
that took. On SQLite (synchronous=FULL) and on PostgreSQL (without fsync).

    python -m benchmarks.waiting [--only sqlite|postgresql] [--small]
"""

from __future__ import annotations

import argparse
import datetime as dt
import multiprocessing
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from sqlalchemy import func, select

from benchmarks.measuring import Verdicts, database, machine, percentile, private_redis, seconds_of
from scheduler.broker import keys
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.planner import Planner
from scheduler.engine.reconcile import Reconcile
from scheduler.engine.retention import delete_old
from scheduler.rules.spec import Every, Missed
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.tables import Schedule, Task
from tests.builders import a_revision, a_schedule, a_spec
from tests.large_table import QUARTER, Shape, fill

CLAIM_WITHIN = 200.0  # milliseconds, the longest of all
RECONCILE_WITHIN = 20.0  # seconds
ROWS_WITHIN = 60.0  # seconds: the promise of rows after a standstill
CLAIM_EVERY = 0.02
IDLE = 3.0  # seconds
MINUTE = dt.timedelta(minutes=1)


def main() -> int:
    options = _options()
    print(f"waiting: {machine()}")
    verdicts = Verdicts()
    share = 20 if options.small else 1
    with private_redis() as client:
        room = WaitingRoom(client)
        for kind in ("sqlite", "postgresql"):
            if options.only in (None, kind):
                client.flushdb()
                measure_retention(kind, 200_000 // share, verdicts)
                measure_standstill(kind, room, 100 // share, verdicts)
                client.flushdb()
                measure_reconcile(kind, room, 100_000 // share, verdicts)
    return verdicts.exit_status


def measure_retention(kind: str, rows: int, verdicts: Verdicts) -> None:
    with database(kind) as opened, tempfile.TemporaryDirectory() as data:
        fill(opened, Shape(rows))
        with Claims(opened) as claims:
            idle = claims.during(lambda: time.sleep(IDLE))
            began = time.perf_counter()
            waits = claims.during(lambda: delete_old(opened, Path(data), days=45, failed_days=45, batch=500))
            took = time.perf_counter() - began
    show(f"{kind}, idle", idle)
    show(f"{kind}, retention of {rows // 2:,} tasks in {took:.0f} s", waits)
    verdicts.at_most(f"a claim during retention on {kind}", max(waits), CLAIM_WITHIN, "ms")


def measure_standstill(kind: str, room: WaitingRoom, schedules: int, verdicts: Verdicts) -> None:
    with database(kind) as opened:
        with opened.write() as session:
            revision = a_revision(session).id
            for number in range(schedules):
                spec = a_spec(name=f"s{number}", when=(Every(every=MINUTE / 6),), missed=Missed(run="none"))
                a_schedule(session, spec, revision_id=revision, planned_until=utc_now() - 1000 * MINUTE)
        planner = Planner(opened, room, 2 * MINUTE)

        def plan_all() -> None:
            while planner.step():
                pass

        with Claims(opened) as claims:
            began = time.perf_counter()
            waits = claims.during(plan_all)
            took = time.perf_counter() - began
        with opened.read() as session:
            rows = session.execute(select(func.count()).select_from(Task).join(Schedule)).scalar_one()
    show(f"{kind}, {rows:,} rows of missed fire times in {took:.0f} s", waits)
    verdicts.at_most(f"a claim while a standstill is written down on {kind}", max(waits), CLAIM_WITHIN, "ms")
    verdicts.at_most(f"the rows of the standstill on {kind}", took, ROWS_WITHIN, "s")


def measure_reconcile(kind: str, room: WaitingRoom, rows: int, verdicts: Verdicts) -> None:
    with database(kind) as opened:
        fill(opened, Shape(1000, QUARTER, to_come=rows))
        took = seconds_of(Reconcile(opened, room).step)
        held = room.redis.zcard(keys.SCHEDULED)
    assert held >= rows, held
    verdicts.at_most(f"reconcile puts {held:,} jobs into an empty Redis on {kind}", took, RECONCILE_WITHIN, "s")


def show(what: str, waits: Sequence[float]) -> None:
    figures = ", ".join(f"p{share * 100:g} {percentile(waits, share):.1f}" for share in (0.5, 0.9, 0.99))
    print(f"  {what}: {len(waits)} claims took {figures}, max {max(waits):.1f} ms")


# --- the one that claims --------------------------------------------------------------------------------------------


class Claims:
    """A process that claims one task after the other, and notes how long each claim took, in milliseconds."""

    def __init__(self, opened: Database) -> None:
        with opened.write() as session:
            ids = [row.id for row in tasks.add(session, [_row(number) for number in range(20_000)])]
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=claim_on, args=(opened.url, ids, theirs), daemon=True)

    def __enter__(self) -> Claims:
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, *error: object) -> None:
        self._pipe.send("stop")
        self._process.join()

    def during(self, work: Callable[[], object]) -> list[float]:
        with self._noting() as waits:
            work()
        return waits

    @contextmanager
    def _noting(self) -> Iterator[list[float]]:
        waits: list[float] = []
        self._pipe.send("begin")
        self._pipe.recv()
        yield waits
        self._pipe.send("end")
        waits.extend(self._pipe.recv())


def claim_on(url: str, ids: list[int], pipe: Connection) -> None:
    opened = Database(url)
    claim(opened, ids.pop())
    pipe.send("ready")
    while pipe.recv() == "begin":
        waits: list[float] = []
        pipe.send("begun")
        while not waits or not pipe.poll():
            task_id = ids.pop()
            waits.append(seconds_of(lambda task_id=task_id: claim(opened, task_id)) * 1000)  # type: ignore[misc]
            time.sleep(CLAIM_EVERY)
        pipe.recv()
        pipe.send(waits)
    opened.close()


def claim(opened: Database, task_id: int) -> None:
    who = {"worker": "w", "host": "h", "pid": 1}
    with opened.write() as session:
        found = tasks.claim(session, task_id, 1, token=str(uuid.uuid4()), **who, lease=60 * MINUTE)  # type: ignore[arg-type]
    assert found is not None


def _row(number: int) -> dict[str, object]:
    return {
        "kind": "adhoc",
        "origin": "manual",
        "task": "nothing",
        "args": {},
        "policy": TaskPolicy().model_dump(mode="json"),
        "idempotency_key": f"claimed@{number}",
        "due_at": utc_now() - MINUTE,
        "queue": "adhoc",
        "state": "planned",
        "attempt": 0,
        "created_at": utc_now(),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--small", action="store_true", help="a twentieth of everything, to see that it works")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
