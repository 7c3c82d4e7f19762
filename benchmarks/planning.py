"""How long 10,000 schedules take from a file to planned occurrences in SQL and in Redis; and an edit of the file.

One third each of `every`, `at` and crontab lines, in three zones. On SQLite and on PostgreSQL: loading the file,
applying it, planning (the rows in SQL), registering (the sorted set in Redis); then the unchanged file once more, then
with one line edited.

And what a standstill leaves: 300 schedules that each missed 1,000 fire times, all of which are written down; of every
second schedule all are caught up, and so registered too. With the processor time of the planner itself.

    python -m benchmarks.planning [--schedules N] [--rounds N] [--stood-still N] [--only file|standstill]
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import sys
import time
from collections import defaultdict
from collections.abc import Iterable

import redis
from sqlalchemy import func, select

from benchmarks.measuring import Figures, Verdicts, database, machine, nothing, private_redis, seconds_of
from scheduler.broker import keys
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.file.apply import Applied, apply
from scheduler.engine.planner import Planner
from scheduler.rules.file.schedule_file import load_book
from scheduler.rules.spec import Book, Every, Missed
from scheduler.rules.task.jobs import WaitingJob
from scheduler.settings import Settings
from scheduler.store.database import Database
from scheduler.store.tables import Task
from scheduler.task_functions import TaskFunction
from tests.builders import a_revision, a_schedule, a_spec

WITHIN = 10.0  # seconds, from the file to the sorted set
ROWS_WITHIN = 60.0  # seconds: the promise of rows after a standstill
MINUTE = dt.timedelta(minutes=1)
FUNCTIONS = {"nothing": TaskFunction("nothing", nothing)}
ZONES = ("Europe/Berlin", "America/New_York", "Etc/UTC")
HEAD = """\
version: 1
timezone: Etc/UTC
defaults: {grace: 10m, retry: {attempts: 3, first: 30s}}
schedules:
"""


class TimedRoom(WaitingRoom):
    """Knows how long registering took, so that it can be told apart from planning, which calls it."""

    seconds = 0.0

    def register(self, jobs: Iterable[WaitingJob], *, force: bool = False) -> int:
        began = time.perf_counter()
        put = super().register(jobs, force=force)
        self.seconds += time.perf_counter() - began
        return put


def main() -> int:
    options = _options()
    print(f"planning: {machine()}; {options.schedules:,} schedules")
    verdicts = Verdicts()
    with private_redis() as client:
        for kind in ("sqlite", "postgresql"):
            if options.only != "standstill":
                measure_file(kind, client, options, verdicts)
            if options.only != "file":
                client.flushdb()
                with database(kind) as opened:
                    measure_standstill(opened, kind, WaitingRoom(client), options.stood_still, verdicts)
    return verdicts.exit_status


def measure_file(kind: str, client: redis.Redis, options: argparse.Namespace, verdicts: Verdicts) -> None:
    spent: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        client.flushdb()
        with database(kind) as opened:
            rows = measure(opened, client, options.schedules, spent)
    _show(kind, spent, rows)
    total = Figures(tuple(spent["the whole"])).median
    verdicts.at_most(f"{options.schedules:,} schedules loaded, applied and planned on {kind}", total, WITHIN, "s")


def measure_standstill(opened: Database, kind: str, room: WaitingRoom, count: int, verdicts: Verdicts) -> None:
    with opened.write() as session:
        revision = a_revision(session).id
        for number in range(count):
            missed = Missed(run="all", within=None, most=1000) if number % 2 else Missed(run="none")
            spec = a_spec(name=f"s{number}", when=(Every(every=MINUTE),), missed=missed)
            a_schedule(session, spec, revision_id=revision, planned_until=utc_now() - 1000 * MINUTE)
    planner = Planner(opened, room, 2 * MINUTE)

    used = time.process_time()
    took = seconds_of(lambda: sum(iter(planner.step, 0)))
    used = time.process_time() - used

    with opened.read() as session:
        rows = session.execute(select(func.count()).select_from(Task)).scalar_one()
    assert rows >= 1000 * count, rows
    print(f"{kind}: {used:.1f} s of a processor for {rows:,} rows after a standstill")
    verdicts.at_most(f"the rows of {count} schedules that stood still on {kind}", took, ROWS_WITHIN, "s")


def measure(opened: Database, client: redis.Redis, count: int, spent: dict[str, list[float]]) -> int:
    """One round on an empty database; adds the seconds of each step, and tells how many rows were planned."""
    room = TimedRoom(client)
    planner = Planner(opened, room, dt.timedelta(seconds=Settings().horizon_seconds))
    text = schedule_file(count)

    def timed(step: str, began: float) -> float:
        spent[step].append(time.perf_counter() - began)
        return spent[step][-1]

    began = time.perf_counter()
    book = load(text)
    whole = timed("load", began)
    began = time.perf_counter()
    applied = apply(opened, room, book, text)
    whole += timed("apply", began)
    del book  # in the service the planner is a process of its own, whose garbage collector has no book to look through
    gc.collect()
    began = time.perf_counter()
    planned = sum(iter(planner.step, 0))  # a step gives up after a while
    planning = time.perf_counter() - began
    spent["plan"].append(planning - room.seconds)
    spent["register"].append(room.seconds)
    spent["the whole"].append(whole + planning)
    with opened.read() as session:
        rows = session.execute(select(func.count()).select_from(Task)).scalar_one()
    assert len(applied.added) == planned == count
    assert rows == client.zcard(keys.SCHEDULED)

    assert _apply_again(opened, room, text, "the same file again", spent).revision is None
    edited = text.replace(b"{every: 30s}", b"{every: 31s}", 1)
    assert len(_apply_again(opened, room, edited, "one line edited", spent).changed) == 1
    spent["planner with nothing to do"].append(seconds_of(planner.step))
    spent["planner with nothing to do"][-1] = seconds_of(planner.step)  # the first one planned the edited schedule
    return rows


def _apply_again(opened: Database, room: WaitingRoom, text: bytes, step: str, spent: dict[str, list[float]]) -> Applied:
    began = time.perf_counter()
    book = load(text)
    loaded = time.perf_counter()
    applied = apply(opened, room, book, text)
    spent[f"{step}: load"].append(loaded - began)
    spent[f"{step}: apply"].append(time.perf_counter() - loaded)
    return applied


def load(text: bytes) -> Book:
    loaded = load_book(text, file="schedules.yaml", functions=FUNCTIONS, now=utc_now())
    assert loaded.book is not None, loaded.faults[:3]
    return loaded.book


def schedule_file(count: int) -> bytes:
    """`count` schedules in equal parts of each kind, the times spread over the day."""
    return (HEAD + "".join(_entry(number) for number in range(count))).encode()


def _entry(number: int) -> str:
    minute, hour = number % 60, number // 60 % 24
    zone = ZONES[number // 3 % len(ZONES)]
    when = (
        f"{{every: {30 + number % 570}s}}",
        f'{{at: "{hour:02}:{minute:02}", days: mon-fri}}',
        f'{{cron: "{minute}-59/{5 + number % 20} {hour // 2}-23 * * *"}}',
    )[number % 3]
    owner = f"team-{number % 20}"
    return f"  job-{number:05}:\n    task: nothing\n    when: {when}\n    timezone: {zone}\n    owner: {owner}\n"


def _show(kind: str, spent: dict[str, list[float]], rows: int) -> None:
    print(f"{kind}: {rows:,} occurrences planned")
    for step, seconds in spent.items():
        print(f"    {step:<28} {Figures(tuple(seconds)).shown()}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stood-still", type=int, default=300)
    parser.add_argument("--only", choices=("file", "standstill"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
