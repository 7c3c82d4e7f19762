"""Draws the pictures of the page in docs/ anew: `python -m tests.web.draw_docs`."""

from __future__ import annotations

import datetime as dt
import io
import random
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright
from sqlalchemy.orm import Session

from scheduler.broker.connection import connect
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.loops import Stop
from scheduler.rules.spec import At, Blackout, Calendar, Window
from scheduler.settings import Settings
from scheduler.store import parts
from scheduler.store.database import Database
from scheduler.store.mail_tables import Alert
from scheduler.store.migrate import migrate
from scheduler.store.tables import LogChunk, Schedule
from scheduler.web.app import create_app
from scheduler.web.server import serve
from tests.browser import FLAGS, MISSING, find_chromium
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task
from tests.notify.draw_docs import DOCS
from tests.servers import start_redis
from tests.web.serving import GivenBackends

DAY = dt.timedelta(days=1)
SHOTS = {  # address, width, height, colours
    "page-now": ("/", 1200, 1110, "light"),
    "page-now-dark": ("/", 1200, 1110, "dark"),
    "page-now-phone": ("/", 360, 1500, "light"),
    "page-day": ("/day", 1180, 800, "light"),
    "page-day-phone": ("/day", 360, 1290, "light"),
    "page-schedules": ("/schedules", 1180, 1108, "light"),
    "page-schedule": ("/schedules/nightly-report", 1180, 1150, "light"),
    "page-task": ("/tasks/TASK", 1180, 930, "light"),
}
LIKELY = random.Random(7)
WORDS = {
    "failed": "ConnectionError: mail.example.org:587 does not answer",
    "missed": "late: due 02:30, now 02:45, grace 10 min",
    "skipped": "task 17 still runs",
}


def main() -> None:
    program = find_chromium()
    if program is None:
        raise SystemExit(MISSING)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        database = Database(f"sqlite:///{data / 'scheduler.sqlite'}", synchronous="OFF")
        migrate(database)
        with database.write() as session:
            fill(session)
            shown = under_way(session)
        stop = Stop()
        listening = socket.create_server(("127.0.0.1", 0))
        chosen = Settings(data=data, file=data / "schedules.yaml", database_url=database.url)
        with start_redis(data) as server:
            room = WaitingRoom(connect(server.url))
            app = create_app(chosen, GivenBackends(chosen, database, room), stop=stop)
            serving = threading.Thread(target=serve, args=(app, listening, stop))
            serving.start()
            try:
                draw(f"http://127.0.0.1:{listening.getsockname()[1]}", program, database, shown)
            finally:
                stop.is_set = True
                serving.join(20)
                database.close()


def draw(site: str, program: str, database: Database, task_id: int) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        for name, (path, width, height, colours) in SHOTS.items():
            with database.write() as session:
                tick_all(session)
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=colours)
            page.goto(site + path.replace("TASK", str(task_id)))
            drawn = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            drawn.save(DOCS / f"{name}.png", "PNG", optimize=True)  # fewer colours would turn amber into red
        browser.close()


def fill(session: Session) -> None:
    """Half a year of a nightly schedule, and a day of others; one is paused, one fails, one has a blackout."""
    revision = a_revision(session, book={"timezone": "Europe/Berlin"}).id
    today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)

    def schedule(name: str, every: dt.timedelta | None = None, **fields: Any) -> Schedule:
        held = fields.pop("held", {})
        when = {"every": every} if every else {"when": (At(at=(dt.time(2, 30),)),)}
        spec = a_spec(name=name, timezone="Europe/Berlin", **when, **fields)
        return a_schedule(session, spec, revision_id=revision, in_force_since=today - 200 * DAY, **held)

    freeze = Calendar(
        name="freeze",
        windows=(
            Window(
                start=dt.datetime.combine(today, dt.time(20)), end=dt.datetime.combine(today, dt.time(22)), why="freeze"
            ),
        ),
    )
    lanes = {
        "cleanup": (
            schedule("cleanup", HOUR, calendars={"freeze": freeze}, blackout=Blackout(during=("freeze",), then="skip")),
            HOUR,
        ),
        "invoices": (
            schedule("invoice-export", 30 * MINUTE, owner="billing", held={"failures_in_a_row": 2}),
            30 * MINUTE,
        ),
        "stock-sync": (schedule("stock-sync", 15 * MINUTE, tags=("shop",)), 15 * MINUTE),
        "thumbnails": (schedule("thumbnails", 2 * HOUR, kind="long", task="create_image_set"), 2 * HOUR),
    }
    for name, (of, every) in lanes.items():
        fired = today - HOUR  # midnight in Berlin
        while fired < utc_now() - 10 * MINUTE:
            is_bad = (name == "invoices" and fired > utc_now() - 70 * MINUTE) or LIKELY.random() < 0.02
            took = dt.timedelta(minutes=20) if name == "thumbnails" else dt.timedelta(seconds=LIKELY.uniform(3, 9))
            ended(session, of, fired, "failed" if is_bad else "succeeded", took)
            fired += every
    held = {"by": "jana", "why": "waits for the new mail server", "since": utc_now().isoformat(), "until": None}
    schedule("mail-flush", 15 * MINUTE, task="send_mail", held={"pause": held})
    nightly = schedule("nightly-report", owner="ops", tags=("finance",), task="send_mail")
    for days in range(150, -1, -1):
        state = LIKELY.choices(("succeeded", "failed", "missed", "skipped"), (90, 4, 3, 3))[0]
        ended(session, nightly, today - days * DAY + 90 * MINUTE, state, dt.timedelta(seconds=LIKELY.uniform(20, 45)))


def under_way(session: Session) -> int:
    """What Now shows: what is late, missed, running, to come, and told; the id of a task that runs."""
    now = utc_now()
    found = {one.name: one for one in session.query(Schedule)}
    a_task(session, schedule=found["stock-sync"], fire_time=now - 3 * MINUTE, state="queued")
    ended(session, found["stock-sync"], now - 5 * HOUR, "missed", MINUTE)
    for name, minutes in {"stock-sync": 2, "cleanup": 14, "invoice-export": 27, "thumbnails": 52}.items():
        a_task(session, schedule=found[name], fire_time=now + minutes * MINUTE, state="planned")
    plain: dict[str, Any] = {"event": "late", "opened_at": now - 40 * MINUTE, "last_at": now}
    why = "not done by 08:00: running, its fire time was 02:30"
    details = {"schedule": "nightly-report", "why": why, "told": ["ops", "finance"]}
    session.add(Alert(subject="schedule:late", details=details, told_at=now - 39 * MINUTE, **plain))
    counted = {"done": 1200, "total": None, "message": "lines read"}
    a_task(session, state="running", kind="adhoc", origin="manual", schedule=None, progress=counted, started_at=now)
    started = now - 8 * MINUTE
    running = a_task(
        session,
        schedule=found["thumbnails"],
        task="create_image_set",
        kind="long",
        queue="long",
        state="running",
        idempotency_key=f"thumbnails@{started:%Y-%m-%dT%H:%M:%SZ}",
        created_at=started - 2 * MINUTE,
        fire_time=started,
        queued_at=started + dt.timedelta(milliseconds=4),
        started_at=started + dt.timedelta(milliseconds=9),
        args={"source": "pictures/", "sizes": [128, 512, 1024]},
        progress={"done": 412, "total": 1000, "message": "product pictures, 512 px", "at": started.isoformat()},
    )
    lines = "\n".join(f"{started + n * MINUTE:%H:%M:%S} INFO {n * 52} pictures done" for n in range(1, 8))
    session.add(LogChunk(task_id=running.id, attempt=1, lines=lines, written_at=now))
    return running.id


def tick_all(session: Session) -> None:
    for part in ("dispatcher", "keeper", "worker-scheduled", "worker-long", "worker-adhoc", "web"):
        details: dict[str, Any] = {"planner": 0.2, "reconcile": 0.3} if part == "keeper" else {}
        if part.startswith("worker-"):
            details = {"queue": part.removeprefix("worker-")}
        parts.tick(session, f"{part}@jobs-1:{part}", part, "jobs-1", 1, details)


def ended(session: Session, schedule: Schedule, fired: dt.datetime, state: str, took: dt.timedelta) -> None:
    ran: dict[str, Any] = {"started_at": fired, "attempt": 1} if state in ("succeeded", "failed") else {}
    error = {"type": "ConnectionError", "message": "mail.example.org:587 does not answer"}
    a_task(
        session,
        schedule=schedule,
        state=state,
        fire_time=fired,
        created_at=_written_at(fired),
        finished_at=fired + (took if ran else MINUTE),
        reason=WORDS.get(state),
        result={"words": LIKELY.randint(4000, 9999), "file": "README.md"} if state == "succeeded" else None,
        error=error if state == "failed" else None,
        **ran,
    )


def _written_at(fired: dt.datetime) -> dt.datetime:
    """Early, but for what fell into the hour in which nobody planned."""
    back = fired.replace(hour=4, minute=0)
    return back if fired.hour == 3 and fired.date() == utc_now().date() else fired - HOUR


if __name__ == "__main__":
    main()
