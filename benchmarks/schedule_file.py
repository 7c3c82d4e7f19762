"""What a large schedule file costs: `scheduler check`, an edit of a running service's file, and fire-time arithmetic.

`check` is timed as a whole process, start of Python included, with its peak of memory. The reload is that of a running
`scheduler up`: from the moment the edited file stands there to the edited schedule's rows being planned anew.

    python -m benchmarks.schedule_file [--rounds N] [--schedules N]
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
from itertools import islice
from pathlib import Path

from sqlalchemy import func, select

from benchmarks.measuring import Figures, Verdicts, machine, seconds_of
from scheduler.errors import DatabaseAway
from scheduler.rules.file.schedule_file import load_book
from scheduler.rules.times.fire_times import fire_times
from scheduler.store.database import Database
from scheduler.store.tables import Revision, Schedule, Task

ROOT = Path(__file__).parents[1]
CHECK_WITHIN = {1_000: 1.0, 10_000: 6.0}  # seconds
CHECK_MEMORY = 400.0  # MB, at 10,000
RELOAD_WITHIN = 5.0  # seconds
FIRES_A_SECOND = 20_000
FIRES = 50_000
ENTRIES = {
    "cron */5": '{cron: "*/5 * * * *"}',
    "cron weekdays": '{cron: "30 6 * * 1-5"}',
    "at weekdays": '{at: "06:30", days: mon-fri}',
    "at three times": '{at: ["07:00", "13:00", "19:00"]}',
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--schedules", type=int, default=10_000)
    options = parser.parse_args()
    print(f"schedule_file: {machine()}")
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory(prefix="rq-bench-") as folder:
        for count, limit in CHECK_WITHIN.items():
            check(Path(folder), count, options.rounds, limit, verdicts)
        reload(Path(folder) / "service", options.schedules, verdicts)
    arithmetic(options.rounds, verdicts)
    return verdicts.exit_status


def file_text(count: int, edited: bool = False) -> str:
    """A file of `count` schedules, half of them daily, the rest by crontab lines and intervals."""
    whens = (
        '{at: "06:%02d", days: mon-fri}',
        '{cron: "%d 4 * * *"}',
        '{at: ["07:%02d", "13:00"], days: mon-sat}',
        "{every: 2h} # %d",
    )
    lines = ["version: 1", "timezone: Europe/Berlin", "schedules:"]
    for number in range(count):
        minute = (number + (edited and number == count // 2)) % 60
        lines += [
            f"  job-{number:05}:",
            "    task: count_words",
            f"    args: {{source: README.md, top: {number % 9 + 1}}}",
            f"    when: {whens[number % 4] % minute}",
            f"    owner: team-{number % 20}",
        ]
    return "\n".join(lines) + "\n"


def check(folder: Path, count: int, rounds: int, limit: float, verdicts: Verdicts) -> None:
    file = folder / "schedules.yaml"
    file.write_text(file_text(count))
    spent, memory = [], 0.0
    for _ in range(rounds):
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "scheduler", "check", str(file)], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        spent.append(time.perf_counter() - began)
        memory = max(memory, usage.ru_maxrss / 1024)
    figures = Figures(tuple(spent))
    print(f"check of {count:,}: {figures.shown()}, peak memory {memory:.0f} MB")
    verdicts.at_most(f"check of {count:,} schedules", figures.median, limit, "s")
    verdicts.at_most(f"its peak memory at {count:,}", memory, CHECK_MEMORY, "MB")


def reload(folder: Path, count: int, verdicts: Verdicts) -> None:
    folder.mkdir()
    file = folder / "schedules.yaml"
    file.write_text(file_text(count))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SCHEDULER_TASK_PACKAGES": "tasks"}
    up = subprocess.Popen(
        [sys.executable, "-m", "scheduler", "up"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    database = Database(f"sqlite:///{folder / 'var' / 'scheduler.db'}")
    try:
        _until(lambda: _planned(database) >= count, 60)
        edited = folder / "edited.yaml"
        edited.write_text(file_text(count, edited=True))
        name = f"job-{count // 2:05}"
        spent = seconds_of(lambda: (edited.replace(file), _until(lambda: _is_planned_anew(database, name), 60)))
        print(f"reload of a file of {count:,} after a one-line edit: {spent:.2f} s to planned anew")
        verdicts.at_most(f"reload of {count:,} schedules", spent, RELOAD_WITHIN, "s")
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(30)
        database.close()


def _planned(database: Database) -> int:
    try:
        with database.read() as session:
            return session.execute(select(func.count(Task.schedule_id.distinct()))).scalar_one()
    except DatabaseAway:  # no tables yet
        return 0


def _is_planned_anew(database: Database, name: str) -> bool:
    with database.read() as session:
        latest = session.execute(select(func.max(Revision.id))).scalar_one()
        row = session.execute(select(Schedule.id, Schedule.revision_id).where(Schedule.name == name)).one()
        if latest < 2 or row.revision_id != latest:
            return False
        query = select(func.count()).where(Task.schedule_id == row.id, Task.state == "planned")
        return session.execute(query).scalar_one() > 0


def _until(condition: object, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > until:
            raise RuntimeError(f"not within {seconds:g} s")
        time.sleep(0.05)


def arithmetic(rounds: int, verdicts: Verdicts) -> None:
    text = "version: 1\ntimezone: Europe/Berlin\nschedules:\n" + "".join(
        f"  entry-{number}: {{task: nothing, when: {when}}}\n" for number, when in enumerate(ENTRIES.values())
    )
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    book = load_book(text, file="schedules.yaml", functions=None, now=now).book
    assert book is not None
    for (name, _), spec in zip(ENTRIES.items(), book.schedules.values(), strict=True):
        rates = []
        for _ in range(rounds):
            found: list[int] = []

            def count(spec: object = spec, found: list[int] = found) -> None:
                found.append(sum(1 for _ in islice(fire_times(spec, now), FIRES)))  # type: ignore[arg-type]

            spent = seconds_of(count)
            rates.append(found[0] / spent)
        figures = Figures(tuple(rates))
        print(f"fire times, {name}: {figures.shown('a second', 0)}")
        verdicts.at_least(f"fire times of {name}", figures.median, FIRES_A_SECOND, "a second")


if __name__ == "__main__":
    sys.exit(main())
