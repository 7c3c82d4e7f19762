"""What pages cost: each of them over ten thousand schedules and a million tasks; and Now left open under 200 fires a
second, in Chromium: whether the memory of its tab and of the web process stays flat.

    python -m benchmarks.page [--rows N] [--schedules N] [--rounds N] [--minutes N] [--fires N]
                              [--real] [--only sqlite|postgresql]

The fires are rows that one process here writes and moves on (planned, running, succeeded), 200 of each a second: what
the page has to follow is the same, and no worker competes with it for the machine. With `--real` they are those of
`scheduler up` itself, with that many schedules that fire each second.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, sync_playwright
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from benchmarks.measuring import Figures, Verdicts, child_of, database, database_url, machine, private_redis, running
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.backends import Backends
from scheduler.rules.task.policy import TaskPolicy
from scheduler.settings import Settings
from scheduler.store import parts
from scheduler.store.database import Database
from scheduler.store.migrate import migrate
from scheduler.store.schedules import now
from scheduler.store.tables import Schedule, Task
from scheduler.web.app import create_app
from scheduler.web.limits import Limits
from tests.browser import FLAGS, find_chromium
from tests.builders import HOUR, MINUTE, a_spec
from tests.large_table import BUSIEST, Shape, fill, vacuum
from tests.servers import free_port

WITHIN_MS, LARGEST_KB = 200.0, 100.0
GROWTH = 1.15  # of memory, from the first measurement, taken after a minute, to the last
PARTS = ("dispatcher", "keeper", "worker-scheduled", "worker-long", "worker-adhoc")
SECOND = dt.timedelta(seconds=1)
ROOT = Path(__file__).parents[1]
TASKS = """\
from scheduler import task


@task
def nothing():
    return None
"""


def main() -> int:
    options = _options()
    print(f"page: {machine()}; {options.schedules:,} schedules, {options.rows:,} ended tasks")
    verdicts = Verdicts()
    for kind in ("sqlite", "postgresql"):
        if options.only in (None, kind) and options.rounds:
            with database(kind) as opened, private_redis() as client:
                fill(opened, Shape(options.rows))
                add_schedules(opened, options.schedules)
                measure_pages(opened, WaitingRoom(client), options.rows, options.rounds, verdicts)
    if options.minutes and options.real:
        leave_open_beside_a_service(options.minutes, options.fires, verdicts)
    elif options.minutes:
        with database_url("sqlite") as url:
            opened = Database(url)
            migrate(opened)
            leave_open(opened, options.minutes, options.fires, verdicts)
            opened.close()
    return verdicts.exit_status


# --- each page, once ------------------------------------------------------------------------------------------------


def measure_pages(opened: Database, room: WaitingRoom, rows: int, rounds: int, verdicts: Verdicts) -> None:
    """The whole answer, in process: what SQL, the templates and the middleware take, and no network."""
    place = "sqlite" if opened.is_sqlite else "postgresql"
    with tempfile.TemporaryDirectory(prefix="rq-bench-") as folder:
        settings = Settings(data=Path(folder), file=Path(folder) / "schedules.yaml", database_url=opened.url)
        backends = Backends(settings)
        backends.__dict__.update(database=opened, room=room)
        app = create_app(settings, backends, limits=_no_limits())
        with TestClient(app, base_url="http://127.0.0.1:8080", client=("127.0.0.1", 1), headers=_BROWSER) as client:
            for path in pages(rows):
                milliseconds, size = [], 0
                for number in range(rounds + 1):
                    began = time.perf_counter()
                    answer = client.get(path)
                    if number:  # the first brings templates and pages of the file into memory
                        milliseconds.append((time.perf_counter() - began) * 1000)
                    size = len(answer.content)
                    if answer.status_code != 200:
                        raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:300]}")
                figures = Figures(tuple(milliseconds))
                print(f"  {figures.shown('ms', 0):>30}  {size / 1000:5.1f} kB  {path}")
                verdicts.at_most(f"{path} on {place}", figures.median, WITHIN_MS, "ms")
                verdicts.at_most(f"{path} on {place}", size / 1000, LARGEST_KB, "kB")


_BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


def pages(rows: int) -> tuple[str, ...]:
    yesterday = (utc_now() - dt.timedelta(days=1)).date().isoformat()
    return (
        "/",
        "/day",
        f"/day?date={yesterday}",
        "/day?q=every",
        "/workers",
        "/schedules",
        "/schedules?q=schedule-7",
        "/schedules?page=200",
        f"/schedules/{BUSIEST}",
        "/schedules/never-well",
        "/tasks",
        "/tasks?state=failed",
        "/tasks?kind=long",
        f"/tasks?schedule={BUSIEST}",
        f"/tasks/{rows // 2}",
        "/file",
        "/audit",
    )


def _no_limits() -> Limits:
    limits = Limits()
    limits.take = lambda *what: None  # type: ignore[method-assign]  # else the rounds are refused
    return limits


def add_schedules(opened: Database, wanted: int) -> None:
    """As many more schedules as there are to be, each with its next fire time as a row."""
    now = utc_now()
    with opened.write() as session:
        _tick(session)
        revision_id = session.query(Schedule.revision_id).limit(1).scalar()
        first = session.query(Schedule).count() + 1
        specs = [a_spec(name=f"schedule-{n:05}", every=HOUR, owner=f"team-{n % 7}") for n in range(first, wanted + 1)]
        rows = [
            {
                "name": spec.name,
                "spec": spec.model_dump(mode="json"),
                "fingerprint": spec.fingerprint(),
                "revision_id": revision_id,
                "in_force_since": now,
                "planned_until": now + HOUR,
                "planned_runs": 1,
                "failures_in_a_row": 0,
            }
            for spec in specs
        ]
        if rows:
            ids = session.scalars(insert(Schedule).returning(Schedule.id), rows).all()
            due = [now + (n % 3600) * SECOND for n in range(len(ids))]
            planned = [
                {**_row(moment, "planned"), "schedule_id": schedule_id, "schedule": spec.name}
                for schedule_id, spec, moment in zip(ids, specs, due, strict=True)
            ]
            session.execute(insert(Task), planned)
    vacuum(opened)


# --- Now, left open -------------------------------------------------------------------------------------------------


def leave_open(opened: Database, minutes: float, fires: int, verdicts: Verdicts) -> None:
    with private_redis() as client, _web_process(opened, client.connection_pool.connection_kwargs["path"]) as web:
        stop = threading.Event()
        with opened.write() as session:
            _tick(session)
        firing = threading.Thread(target=_fire, args=(opened, fires, stop), daemon=True)
        firing.start()
        try:
            _watch(web, minutes, fires, verdicts)
        finally:
            stop.set()
            firing.join()


def leave_open_beside_a_service(minutes: float, fires: int, verdicts: Verdicts) -> None:
    """The whole of it in one place: planner, dispatcher, workers and web part of `scheduler up`, on SQLite."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="rq-bench-") as name:
        folder = Path(name)
        _write_project(folder, fires)
        ours = ("SCHEDULER_", "REDIS_", "DATABASE_")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        environment |= {"PYTHONPATH": str(ROOT), "SCHEDULER_TASK_PACKAGES": "doing", "SCHEDULER_WEB_PORT": str(port)}
        environment["SCHEDULER_LOG_LEVEL"] = "WARNING"
        with running(folder, environment) as up:
            _answering(up, port)
            web = _Web(f"http://127.0.0.1:{port}", child_of(up.pid, "web"))
            _watch(web, minutes, fires, verdicts)
            done = _done_in_the_last_minute(folder)
            verdicts.at_least("runs that succeeded in the last minute, a second", done / 60, 0.95 * fires, "")


def _done_in_the_last_minute(folder: Path) -> int:
    database = Database(f"sqlite:///{folder}/var/scheduler.db")
    with database.read() as session:
        since = now(session) - MINUTE
        query = select(func.count()).where(Task.finished_at > since, Task.state == "succeeded")
        done: int = session.execute(query).scalar_one()
    database.close()
    return done


def _write_project(folder: Path, fires: int) -> None:
    lines = [f"  every-second-{n:03}: {{task: nothing, when: {{every: 1s}}, spread: 1s}}\n" for n in range(fires)]
    (folder / "schedules.yaml").write_text("version: 1\ntimezone: Etc/UTC\nschedules:\n" + "".join(lines))
    (folder / "doing").mkdir()
    (folder / "doing" / "__init__.py").write_text(TASKS)


def _watch(web: _Web, minutes: float, fires: int, verdicts: Verdicts) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        page = browser.new_page()
        page.goto(web.url)
        page.wait_for_selector("html[data-heard]")
        session = page.context.new_cdp_session(page)
        first: dict[str, float] = {}
        until = time.monotonic() + minutes * 60
        while time.monotonic() < until:
            page.wait_for_timeout(min(60.0, minutes * 60 / 4) * 1000)
            last = {**_of_tab(session, page), "web_mb": _resident_mb(web.pid)}
            first = first or last
            print("  " + ", ".join(f"{name} {value:,.1f}" for name, value in last.items()))
        assert not page.locator("#cut-off").is_visible(), page.locator("#cut-off").inner_text()
        browser.close()
    print(f"  {minutes:g} minutes, {fires} fires a second, load {os.getloadavg()[0]:.1f}")
    for name, limit in (("heap_mb", GROWTH), ("nodes", GROWTH), ("listeners", 1.0), ("web_mb", GROWTH)):
        verdicts.at_most(f"{name} at the end, of what it was after a minute", last[name] / first[name], limit, "times")


def _of_tab(session: CDPSession, page: Page) -> dict[str, float]:
    """What the tab holds once all that can be let go is gone."""
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    told = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return {
        "heap_mb": told["JSHeapUsedSize"] / 1e6,
        "nodes": told["Nodes"],
        "listeners": told["JSEventListeners"],
        "elements": float(page.evaluate("document.querySelectorAll('*').length")),
    }


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


class _Web:
    def __init__(self, url: str, pid: int) -> None:
        self.url, self.pid = url, pid


@contextmanager
def _web_process(opened: Database, redis_socket: str) -> Iterator[_Web]:
    """`scheduler start web` as it is, over the database of the benchmark."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="rq-bench-") as folder:
        environment = {
            **os.environ,
            "DATABASE_URL": opened.url,
            "REDIS_URL": f"unix://{redis_socket}",
            "SCHEDULER_DATA": folder,
            "SCHEDULER_WEB_PORT": str(port),
        }
        process = subprocess.Popen([sys.executable, "-m", "scheduler", "start", "web"], env=environment)
        try:
            yield _Web(f"http://127.0.0.1:{port}", _answering(process, port))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _answering(process: subprocess.Popen[bytes], port: int) -> int:
    import urllib.request

    until = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/static/robots.txt", timeout=5)
            return process.pid
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.1)


def _fire(opened: Database, fires: int, stop: threading.Event) -> None:
    """Each second so many rows are planned, those of before run, and those before them end; the parts tick."""
    before: list[str] = []
    running: list[str] = []
    while not stop.is_set():
        began = time.monotonic()
        now = utc_now()
        rows = [_row(now + SECOND, "planned") for _ in range(fires)]
        with opened.write() as session:
            _tick(session)
            session.execute(insert(Task), rows)
            if running:
                _move(session, running, state="succeeded", finished_at=now)
            if before:
                lease = {"token": "t", "lease_until": now + MINUTE, "attempt": 1}
                _move(session, before, state="running", started_at=now, **lease)
        running, before = before, [row["idempotency_key"] for row in rows]
        stop.wait(max(0.0, 1 - (time.monotonic() - began)))


def _move(session: Session, keys: list[str], **values: Any) -> None:
    change = update(Task).where(Task.idempotency_key.in_(keys), Task.finished_at.is_(None))
    session.execute(change.values(**values).execution_options(synchronize_session=False))


def _row(due_at: dt.datetime, state: str) -> dict[str, Any]:
    return {
        "kind": "scheduled",
        "origin": "schedule",
        "task": "count_words",
        "args": {},
        "policy": TaskPolicy().model_dump(mode="json"),
        "idempotency_key": str(uuid.uuid4()),
        "fire_time": due_at,
        "due_at": due_at,
        "queue": "scheduled",
        "state": state,
        "attempt": 0,
        "created_at": utc_now(),
    }


def _tick(session: Session) -> None:
    for part in PARTS:
        details = {"planner": 1.0, "reconcile": 1.0} if part == "keeper" else {}
        parts.tick(session, f"{part}@bench", part, "bench", 1, details)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5, help="0: leave these out")
    parser.add_argument("--minutes", type=float, default=10, help="0: leave the open page out")
    parser.add_argument("--fires", type=int, default=200)
    parser.add_argument("--real", action="store_true", help="fires of a whole service")
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
