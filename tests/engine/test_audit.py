"""Whatever somebody does leaves a line, also at the keyboard and in the file; whatever is refused leaves none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.actions import Actions
from scheduler.engine.backfill import Backfills
from scheduler.engine.file.apply import apply
from scheduler.engine.file.changes import roll_back
from scheduler.engine.file.file_watch import FileWatch
from scheduler.errors import SchedulerError
from scheduler.rules.askers import Asker
from scheduler.rules.spec import Every
from scheduler.store import audit
from scheduler.store.access_tables import AuditLine
from scheduler.store.database import Database
from scheduler.store.tables import Task
from scheduler.task_functions import Catalogue, find_task_functions
from tests.builders import HOUR, a_book, a_schedule, a_spec, a_task

JANA = Asker("jana", "session", "203.0.113.7")
ENTRY = 'schedules: {nightly: {task: count_words, args: {source: a}, when: {at: "02:00"}}}'


@pytest.fixture(autouse=True)
def at_the_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_AUTHOR", "otto")
    monkeypatch.setattr("socket.gethostname", lambda: "here")


def lines(database: Database) -> list[tuple[str, str, str, str, str, dict[str, Any]]]:
    with database.read() as session:
        found = session.scalars(select(AuditLine).order_by(AuditLine.id)).all()
    return [(one.who, one.via, one.address, one.action, one.subject, one.details) for one in found]


def test_each_action_leaves_a_line_with_who_and_from_where(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(when=(Every(every=HOUR),), args={"password": "open-sesame"}))
        a_task(session, state="failed")
    actions = Backfills(database, room, JANA)
    now = utc_now()

    run = actions.run("nightly", {}, Catalogue()).task_id
    actions.cancel(run)
    again = actions.retry(1).task_id
    actions.pause("nightly", "stocktaking")
    actions.resume("nightly")
    made = actions.backfill("nightly", now - HOUR, now)

    assert [one[:3] for one in lines(database)] == [("jana", "session", "203.0.113.7")] * 6
    assert [one[3:] for one in lines(database)] == [
        ("run", "schedule nightly", {"args": {"password": "***"}, "task": run}),
        ("cancel", f"task {run}", {"was": "planned", "name": "nightly"}),
        ("retry", "task 1", {"name": "count_words", "task": again}),
        ("pause", "schedule nightly", {"why": "stocktaking", "until": None}),
        ("resume", "schedule nightly", {}),
        ("backfill", "schedule nightly", {**lines(database)[-1][5], "all": False, "count": len(made.fire_times)}),
    ]


def test_what_is_refused_leaves_none(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        a_schedule(session)
        a_task(session, state="succeeded")
    actions = Backfills(database, room, JANA)
    now = utc_now()
    refused = [
        lambda: actions.run("nightlx", {}, Catalogue()),
        lambda: actions.cancel(1),
        lambda: actions.retry(9),
        lambda: actions.resume("nightly"),
        lambda: actions.backfill("nightly", now, now - HOUR),
    ]

    for ask in refused:
        with pytest.raises(SchedulerError):
            ask()
    actions.backfill("nightly", now - HOUR, now, dry_run=True)

    assert lines(database) == []


def test_a_line_is_written_with_what_it_tells_or_not_at_all(
    database: Database, room: WaitingRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as session:
        a_schedule(session)
    monkeypatch.setattr(audit, "record", lambda *_, **__: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        Actions(database, room, JANA).run("nightly", {}, Catalogue())

    with database.read() as session:
        assert session.scalars(select(Task)).all() == []


def test_files_that_come_in_force_leave_a_line(database: Database, room: WaitingRoom, tmp_path: Path) -> None:
    book, text = a_book(ENTRY)
    file = tmp_path / "schedules.yaml"
    file.write_bytes(text.replace(b"02:00", b"03:00"))
    catalogue = find_task_functions(["tasks"])
    watch = FileWatch(file, database, room, catalogue)

    apply(database, room, book, text)
    apply(database, room, book, text)  # in force already: nothing is done
    watch.step()
    watch.step()
    roll_back(database, room, 1, catalogue, file, asker=JANA)

    assert lines(database) == [
        ("otto", "cli", "here", "apply", "revision 1", {"changes": "1 added, 0 unchanged"}),
        ("otto", "file", "here", "apply", "revision 2", {"changes": "1 changed, 0 unchanged"}),
        ("jana", "session", "203.0.113.7", "rollback", "revision 3", {"changes": "1 changed, 0 unchanged", "to": 1}),
    ]


def test_a_name_makes_no_second_line(database: Database) -> None:
    asker = Asker("jana\r\n2026 admin", address="x\x1b[2Ky" + "z" * 300)

    with database.write() as session:
        audit.record(session, asker, "run", "schedule a\u2028b")

    who, _, address, _, subject, _ = lines(database)[0]
    assert (who, subject) == ("jana 2026 admin", "schedule a b")
    assert address.startswith("x [2Ky")
    assert len(address) == 200
