"""Draws the pictures of Day, Schedules and a schedule in docs/ anew: `python -m tests.web.draw_docs`."""

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
from scheduler.store.database import Database
from scheduler.store.migrate import migrate
from scheduler.store.tables import Schedule
from scheduler.web.app import create_app
from scheduler.web.server import serve
from tests.browser import FLAGS, MISSING, find_chromium
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task
from tests.notify.draw_docs import DOCS
from tests.web.serving import GivenBackends

DAY = dt.timedelta(days=1)
SHOTS = {
    "page-day": ("/day", 800),
    "page-schedules": ("/schedules", 1108),
    "page-schedule": ("/schedules/nightly-report", 1150),
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
        stop = Stop()
        listening = socket.create_server(("127.0.0.1", 0))
        chosen = Settings(data=data, file=data / "schedules.yaml", database_url=database.url)
        room = WaitingRoom(connect("redis://127.0.0.1:1/0"))  # none of these pages asks for it
        app = create_app(chosen, GivenBackends(chosen, database, room), stop=stop)
        serving = threading.Thread(target=serve, args=(app, listening, stop))
        serving.start()
        try:
            draw(f"http://127.0.0.1:{listening.getsockname()[1]}", program)
        finally:
            stop.is_set = True
            serving.join(20)
            database.close()


def draw(site: str, program: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        for name, (path, height) in SHOTS.items():
            page = browser.new_page(viewport={"width": 1180, "height": height})
            page.goto(site + path)
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
        "thumbnails": (schedule("thumbnails", 2 * HOUR, kind="long"), 2 * HOUR),
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
