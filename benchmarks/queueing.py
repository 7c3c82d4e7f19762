"""How fast due occurrences go to their queues: our waiting room against stock rq-scheduler, on one server, in one run.

Each round measures both, in changing order, over as many jobs each; a process of its own asks the server all the while
how long an answer takes. Then what it costs in SQL to mark as many rows.

    python -m benchmarks.queueing [--full] [--rounds N]
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import multiprocessing
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import redis
from rq_scheduler import Scheduler

from benchmarks.measuring import (
    Figures,
    Verdicts,
    database,
    machine,
    nothing,
    percentile,
    private_redis,
    seconds_of,
    socket_of,
)
from scheduler.broker import keys
from scheduler.broker.waiting_room import BATCH, WaitingRoom
from scheduler.clock import utc_now
from scheduler.rules.spec import Every, ScheduleSpec
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.task.policy import policy_of
from scheduler.store import tasks

RATIO_WANTED = 50.0  # times as fast as stock, at RATIO_AT jobs
RATIO_AT = 10_000
ALL_WITHIN = 1.5  # seconds for the largest number
OTHERS_WAIT_AT_MOST = 25.0  # milliseconds, meanwhile
LARGEST = 100_000
COUNTS = (1_000, RATIO_AT, LARGEST)
STOCK_UP_TO = 10_000  # stock needs a minute for 100,000, and half a minute to take them in
PING_EVERY = 0.0005  # seconds between two questions


@dataclass
class Measured:
    """The rounds over one number of jobs."""

    count: int
    ours: list[float] = field(default_factory=list)
    stock: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)  # the longest of each of our rounds, milliseconds
    usual_waits: list[float] = field(default_factory=list)  # the median of each
    idle_waits: list[float] = field(default_factory=list)  # the longest while nobody moved anything, as long


def main() -> int:
    options = _options()
    logging.getLogger("rq_scheduler.scheduler").setLevel(logging.WARNING)
    print(f"queueing: {machine()}; batches of {BATCH}")
    verdicts = Verdicts()
    with private_redis() as client, Pinger(socket_of(client)) as pinger:
        for count in COUNTS:
            measured = measure(client, pinger, count, options.rounds, with_stock=options.full or count <= STOCK_UP_TO)
            _show(measured)
            _judge(measured, verdicts)
    for kind in ("sqlite", "postgresql"):
        _show_marks(kind, options.rounds)
    return verdicts.exit_status


def measure(client: redis.Redis, pinger: Pinger, count: int, rounds: int, *, with_stock: bool) -> Measured:
    measured = Measured(count)
    for number in range(rounds):
        ours_first = number % 2 == 0
        if with_stock and not ours_first:
            measured.stock.append(move_stock(client, count))
        seconds, waits, idle = move_ours(client, pinger, count)
        measured.ours.append(seconds)
        measured.waits.append(max(waits))
        measured.usual_waits.append(percentile(waits, 0.5))
        measured.idle_waits.append(max(idle))
        if with_stock and ours_first:
            measured.stock.append(move_stock(client, count))
    return measured


def move_ours(client: redis.Redis, pinger: Pinger, count: int) -> tuple[float, list[float], list[float]]:
    """Seconds for one pass over `count` due jobs; what another client waits during a second such pass (it would slow
    the first, as it does not slow stock's), and what it waited just before for as long."""
    room = room_with(client, count)
    seconds = seconds_of(room.enqueue_jobs)
    _must_have_moved(client, count)

    room = room_with(client, count)
    pinger.begin()
    time.sleep(count / 100_000)
    idle = pinger.end()
    pinger.begin()
    room.enqueue_jobs()
    waits = pinger.end()
    _must_have_moved(client, count)
    return seconds, waits, idle


def room_with(client: redis.Redis, count: int) -> WaitingRoom:
    """A waiting room with `count` due jobs and nothing else."""
    client.flushdb()
    room = WaitingRoom(client)
    due_at = utc_now() - dt.timedelta(minutes=1)
    room.register(WaitingJob(number, 1, "scheduled", due_at) for number in range(1, count + 1))
    return room


def _must_have_moved(client: redis.Redis, count: int) -> None:
    assert client.llen(f"{keys.QUEUE_PREFIX}scheduled") == count
    assert client.zcard(keys.SCHEDULED) == 0


def move_stock(client: redis.Redis, count: int) -> float:
    """Seconds that rq-scheduler's own pass takes over as many jobs of its own making."""
    client.flushdb()
    scheduler = Scheduler(queue_name="stock", connection=client)
    due_at = utc_now() - dt.timedelta(minutes=1)
    for _ in range(count):
        scheduler.enqueue_at(due_at, nothing)
    seconds = seconds_of(scheduler.enqueue_jobs)
    assert client.llen(f"{keys.QUEUE_PREFIX}stock") == count
    return seconds


# --- another client -------------------------------------------------------------------------------------------------


class Pinger:
    """A process that asks the server for an answer again and again, and notes how long each took, in milliseconds."""

    def __init__(self, socket: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=ping, args=(socket, theirs), daemon=True)
        self._process.start()
        self._pipe.recv()

    def __enter__(self) -> Pinger:
        return self

    def __exit__(self, *error: object) -> None:
        self._pipe.send("stop")
        self._process.join()

    def begin(self) -> None:
        self._pipe.send("begin")
        self._pipe.recv()

    def end(self) -> list[float]:
        self._pipe.send("end")
        waits: list[float] = self._pipe.recv()
        return waits


def ping(socket: str, pipe: Connection) -> None:
    client = redis.Redis(unix_socket_path=socket)
    client.ping()
    pipe.send("ready")
    while pipe.recv() == "begin":
        waits: list[float] = []
        pipe.send("begun")
        while not waits or not pipe.poll():
            waits.append(seconds_of(client.ping) * 1000)
            time.sleep(PING_EVERY)
        pipe.recv()
        pipe.send(waits)


# --- SQL ------------------------------------------------------------------------------------------------------------


def _show_marks(kind: str, rounds: int) -> None:
    with database(kind) as opened:
        spec = ScheduleSpec(name="x", task="nothing", when=(Every(every=dt.timedelta(seconds=1)),), timezone="UTC")
        policy = policy_of(spec).model_dump(mode="json")
        spent = []
        for number in range(rounds + 1):
            rows = [_row(number, one, policy) for one in range(RATIO_AT)]
            with opened.write() as session:
                jobs = [(row.id, 1) for row in tasks.add(session, rows)]
            began = time.perf_counter()
            with opened.write() as session:
                marked = tasks.mark_queued(session, jobs)
            spent.append(time.perf_counter() - began)
            assert marked == RATIO_AT
    print(f"{RATIO_AT:>9,} rows marked as queued on {kind}: {Figures(tuple(spent[1:])).shown()}, in one transaction")


def _row(number: int, one: int, policy: dict[str, object]) -> dict[str, object]:
    now = utc_now()
    return {
        "kind": "scheduled",
        "origin": "schedule",
        "task": "nothing",
        "args": {"source": "README.md"},
        "policy": policy,
        "lane": f"schedule:{one}",
        "queue": "scheduled",
        "attempt": 0,
        "created_at": now,
        "idempotency_key": f"{one}@{number}",
        "due_at": now,
        "start_by": now + dt.timedelta(minutes=10),
        "state": "planned",
    }


# --- telling --------------------------------------------------------------------------------------------------------


def _show(measured: Measured) -> None:
    ours = Figures(tuple(measured.ours))
    print(f"{measured.count:>9,} jobs  ours   {ours.shown()}")
    if measured.stock:
        ratios = Figures(tuple(stock / own for stock, own in zip(measured.stock, measured.ours, strict=True)))
        print(f"{'':>14}  stock  {Figures(tuple(measured.stock)).shown()}; ratio {ratios.shown('times', 1)}")
    print(
        f"{'':>14}  another client waits {Figures(tuple(measured.usual_waits)).shown('ms', 2)}; "
        f"its longest wait {Figures(tuple(measured.waits)).shown('ms', 1)}, "
        f"{Figures(tuple(measured.idle_waits)).shown('ms', 1)} with nothing to move"
    )


def _judge(measured: Measured, verdicts: Verdicts) -> None:
    if measured.count == RATIO_AT:
        ratio = Figures(tuple(stock / own for stock, own in zip(measured.stock, measured.ours, strict=True)))
        verdicts.at_least(f"as fast as stock at {RATIO_AT:,} jobs", ratio.median, RATIO_WANTED, "times")
    if measured.count == LARGEST:
        seconds = Figures(tuple(measured.ours)).median
        verdicts.at_most(f"{LARGEST:,} jobs moved", seconds, ALL_WITHIN, "s")
    verdicts.at_most(
        f"longest wait of another client while {measured.count:,} are moved",
        max(measured.waits),
        OTHERS_WAIT_AT_MOST,
        "ms",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queueing", description=__doc__)
    parser.add_argument("--full", action="store_true", help="stock with 100,000 jobs too: some two minutes a round")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
