"""What a large table costs: every question of the service on a table of a million tasks, and the digest of it all.

Half of the tasks are of one schedule; see tests/large_table.py. On SQLite and on PostgreSQL, each question a few times.

    python -m benchmarks.table [--rows N] [--rounds N] [--only sqlite|postgresql]
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from benchmarks.measuring import Figures, Verdicts, database, machine, seconds_of
from scheduler.engine.mail.digest_facts import facts_of
from scheduler.store.database import Database
from tests.large_table import Shape, fill
from tests.questions import A_DIGEST, CHECKS, READS, WRITES, ask_list, lists

WITHIN_MS = 100.0  # one question
DIGEST_WITHIN = 2.0  # seconds, when all rows lie in its span
SLOWEST = 5  # lists shown


def main() -> int:
    options = _options()
    print(f"table: {machine()}; {options.rows:,} ended tasks")
    verdicts = Verdicts()
    for kind in ("sqlite", "postgresql"):
        if options.only in (None, kind):
            with database(kind) as opened:
                shape = Shape(options.rows)
                began = time.perf_counter()
                fill(opened, shape)
                print(f"\n{kind}: filled in {time.perf_counter() - began:.0f} s")
                measure(opened, shape, options.rounds, verdicts)
    return verdicts.exit_status


def measure(opened: Database, shape: Shape, rounds: int, verdicts: Verdicts) -> None:
    place = "sqlite" if opened.is_sqlite else "postgresql"
    found = {
        name: timed(rounds, lambda chosen=chosen: ask_list(opened, shape, chosen))  # type: ignore[misc]
        for name, chosen in lists().items()
    }
    for name in sorted(found, key=lambda name: -found[name].median)[:SLOWEST]:
        print(f"  {found[name].shown('ms', 1):>34}  {name}")
    slowest = max(figures.median for figures in found.values())
    verdicts.at_most(f"the slowest of {len(found)} lists of tasks on {place}", slowest, WITHIN_MS, "ms")
    for name, ask in READS.items():
        tell(verdicts, f"{name} on {place}", timed(rounds, lambda ask=ask: ask(opened, shape)))  # type: ignore[misc]
    for name, write in WRITES.items():
        tell(verdicts, f"{name} on {place}", timed(rounds, lambda write=write: rolled_back(opened, shape, write)))  # type: ignore[misc]
    for name, ask in CHECKS.items():
        print(f"  {timed(1, lambda ask=ask: ask(opened, shape)).shown('ms', 1):>34}  {name}")  # type: ignore[misc]
    whole = timed(rounds, lambda: whole_digest(opened, shape))
    what = f"a digest of {shape.rows:,} tasks on {place} ({whole.cpu / 1000:.1f} s of processor time)"
    verdicts.at_most(what, whole.median / 1000, DIGEST_WITHIN, "s")


def tell(verdicts: Verdicts, what: str, figures: Timed) -> None:
    verdicts.at_most(f"{what} ({figures.cpu:,.1f} ms of processor time)", figures.median, WITHIN_MS, "ms")


@dataclass(frozen=True)
class Timed(Figures):
    """Along with the processor time of this process, the least of all rounds: that a busy machine stretches little."""

    cpu: float = 0.0


def timed(rounds: int, call: Callable[[], Any]) -> Timed:
    """Milliseconds; the first call, which brings the pages into memory, is not among them."""
    call()
    taken, used = [], []
    for _ in range(rounds):
        began = time.process_time()
        taken.append(seconds_of(call) * 1000)
        used.append((time.process_time() - began) * 1000)
    return Timed(tuple(taken), min(used))


def rolled_back(opened: Database, shape: Shape, write: Callable[[Session, Shape], None]) -> None:
    with opened.write() as session:
        write(session, shape)
        session.rollback()


def whole_digest(opened: Database, shape: Shape) -> Any:
    covers_from = shape.now - shape.span - dt.timedelta(days=1)
    with opened.read() as session:
        return facts_of(session, A_DIGEST, service="jobs", covers_from=covers_from, covers_until=shape.now)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
