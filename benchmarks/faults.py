"""How soon the service notices what died, and is back: `scheduler up` with its settings as they come, real processes.

    python -m benchmarks.faults [--rounds 3] [--away MINUTES]

A round takes some minutes: a worker's lease lasts a minute. With --away it measures something else instead: Redis, then
PostgreSQL, is away for so long, while a task runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import redis

from benchmarks.measuring import Figures, Verdicts, machine
from scheduler.clock import utc_now
from scheduler.rules.states import SUCCEEDED
from tests.journeys.history import is_over
from tests.journeys.service import Service
from tests.journeys.test_redis_faults import started_again_empty
from tests.journeys.test_sql_faults import Admin, letting_nobody_in
from tests.journeys.watching import no_noise_and_no_haste, rest, wait_for_something_due_after
from tests.servers import start_postgres, start_redis
from tests.waiting import wait_for

KILLED_CHILD, KILLED_WORKER = "killed child, noticed after", "killed worker, noticed after"
LIMITS = {KILLED_CHILD: 5, KILLED_WORKER: 75}
LONG = 200  # seconds: whatever takes longer is no figure any more

SCHEDULES = """
    ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}, overlap: allow}
    slow: {task: wait_for_file, args: {diary: DIARY, file: FOLDER/never, first_attempts: 1}, when: {at: "00:00"}}
"""


def seconds_until_noticed(service: Service, victim_of: Callable[[int], int]) -> float:
    """A task runs; a process is killed, and its attempt is seen to be lost: how long that takes."""
    task_id = service.ask("slow")
    started = service.wait_for_entry("start", task_id)
    began = time.monotonic()
    os.kill(victim_of(started.pid), signal.SIGKILL)
    wait_for(lambda: service.attempts(task_id)[0].ended_at is not None, seconds=LONG, what="the end of the attempt")
    noticed = time.monotonic() - began
    service.wait_for_state(task_id, SUCCEEDED, seconds=LONG)
    return noticed


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def seconds_until_back(service: Service, break_it: Callable[[], None]) -> float:
    """Something is broken; how long until a task that was due after it has succeeded."""
    break_it()
    began, moment = time.monotonic(), utc_now()
    wait_for(
        lambda: any(
            task.state == SUCCEEDED and task.fire_time is not None and task.fire_time > moment
            for task in service.tasks("ticks")[-400:]
        ),
        seconds=LONG,
        what="a task to succeed",
    )
    return time.monotonic() - began


def redis_of(service: Service) -> redis.Redis:
    return redis.Redis.from_url(service.redis_url)


def flush(service: Service) -> None:
    with redis_of(service) as client:
        client.flushall()


def kill_redis(service: Service) -> None:
    with redis_of(service) as client:
        os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)


def kill_part(service: Service, part: str) -> None:
    os.kill(service.parts()[part].pid, signal.SIGKILL)


def measure_absences(seconds: float) -> int:
    print(f"{machine()}; PostgreSQL and Redis, away for {seconds:g} s each")
    verdicts = Verdicts()
    with (
        tempfile.TemporaryDirectory(prefix="rq-bench-") as name,
        start_redis(Path(name) / "redis", port=0) as server,
        start_postgres(Path(name) / "postgres", durable=True) as postgres,
        Service(Path(name), database_url=postgres.create_database(), redis_url=server.url) as service,
    ):
        admin = Admin(postgres, service.environment["DATABASE_URL"])
        service.environment["SCHEDULER_WORKERS_SCHEDULED"] = "2"  # one is at the task that runs all the time
        service.write(SCHEDULES)
        service.start()
        for what, away in (("Redis", started_again_empty(server)), ("PostgreSQL", letting_nobody_in(admin))):
            task_id = service.ask("slow")
            service.wait_for_entry("start", task_id)
            with no_noise_and_no_haste(service, what):
                with away:
                    rest(seconds)
                back_at = utc_now()
                began = time.monotonic()
                wait_for_something_due_after(service, back_at, what)
                back = time.monotonic() - began
                wait_for(lambda: is_over(service, back_at), seconds=LONG, what="all that was due to end")  # noqa: B023
            verdicts.at_most(f"{what} away for {seconds:g} s, back after", back, 90, "s")
            verdicts.at_most(f"{what} away: all of it settled after", time.monotonic() - began, LONG, "s")
            with (service.folder / "never").open("w"):
                pass
            service.wait_for_state(task_id, SUCCEEDED, seconds=LONG)
            (service.folder / "never").unlink()
        states = Counter(task.state for task in service.tasks("ticks") if task.fire_time and task.fire_time <= back_at)
        print(f"ends: {dict(states)}")
        service.stop()
    return verdicts.exit_status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--away", type=float, metavar="MINUTES")
    options = parser.parse_args()
    if options.away is not None:
        return measure_absences(options.away * 60)
    print(f"{machine()}; SQLite, a private Redis")
    measured: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="rq-bench-") as folder, Service(Path(folder)) as service:
        for name in [one for one in service.environment if one.endswith("_SECONDS")]:
            del service.environment[name]  # those of the tests are short
        service.write(SCHEDULES)
        service.start()
        measurements: dict[str, Callable[[], float]] = {
            KILLED_CHILD: partial(seconds_until_noticed, service, lambda pid: pid),
            KILLED_WORKER: partial(seconds_until_noticed, service, parent_of),
            "emptied Redis, back after": partial(seconds_until_back, service, partial(flush, service)),
            "killed Redis, back after": partial(seconds_until_back, service, partial(kill_redis, service)),
            "killed keeper, back after": partial(seconds_until_back, service, partial(kill_part, service, "keeper")),
            "killed dispatcher, back after": partial(
                seconds_until_back, service, partial(kill_part, service, "dispatcher")
            ),
        }
        for _ in range(options.rounds):
            for what, measure in measurements.items():
                measured.setdefault(what, []).append(measure())
        service.stop()
    verdicts = Verdicts()
    for what, values in measured.items():
        print(f"{what}: {Figures(tuple(values)).shown(digits=1)}")
        verdicts.at_most(what, max(values), LIMITS.get(what, 90), "s")
    return verdicts.exit_status


if __name__ == "__main__":
    sys.exit(main())
