"""The watchdog is called while everything moves, and only then. A real HTTP server hears the calls."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from scheduler.engine.answers.status import status_of
from scheduler.engine.check.watchdog import Watchdog
from scheduler.errors import DatabaseAway, SettingFault
from scheduler.settings import load_settings
from scheduler.store import parts, schedules
from scheduler.store.database import Database
from scheduler.store.tables import Part
from tests.builders import a_task, at
from tests.waiting import wait_for

NOON = at("12:00")


@pytest.fixture(autouse=True)
def the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "now", lambda session: NOON)


class Listener:
    """Answers each GET with `status`, after `before_answer`; keeps the paths that were asked for."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.status = 200
        self.before_answer: Callable[[], Any] = lambda: None
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listener.heard.append(self.path)
                listener.before_answer()
                self.send_response(listener.status)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/ping/secret"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def watchdog(database: Database, listener: Listener) -> Watchdog:
    return Watchdog(database, listener.url)


def a_part(session: Session, part: str, seconds: float = 1.0, **details: Any) -> None:
    """A part that ticked so many seconds before noon, and was started at ten."""
    parts.tick(session, f"{part}@here:{seconds}", part, "here", 7, details)
    ticked = {"ticked_at": NOON - dt.timedelta(seconds=seconds), "started_at": at("10:00")}
    session.execute(update(Part).where(Part.name == f"{part}@here:{seconds}").values(**ticked))


def a_service(database: Database, **silent: float) -> None:
    """All parts, ticking; `silent` ones ticked so many seconds ago."""
    with database.write() as session:
        a_task(session)
        a_part(session, "dispatcher", silent.get("dispatcher", 1.0))
        a_part(session, "keeper", 1.0, planner=silent.get("planner", 0.4), reconcile=silent.get("reconcile", 8.0))
        a_part(session, "worker-scheduled", silent.get("worker", 1.0), silent_seconds=silent.get("child", 1.5))
        a_part(session, "worker-long", 500.0)  # it has no tasks to run


def wait_for_answer(watchdog: Watchdog) -> None:
    wait_for(lambda: watchdog.pinged_at or watchdog.trouble, every=0.01, what="an answer")


def test_while_all_moves_the_watchdog_is_called(database: Database, watchdog: Watchdog, listener: Listener) -> None:
    a_service(database)

    watchdog.step()
    wait_for_answer(watchdog)

    assert listener.heard == ["/ping/secret"]
    assert watchdog.trouble is None


@pytest.mark.parametrize(
    ("silent", "told"),
    [
        pytest.param({"dispatcher": 45}, "dispatcher has not moved since 2026-11-24 11:59:15 UTC", id="dispatcher"),
        pytest.param({"planner": 90}, "planner has not got through since 2026-11-24 11:58:29 UTC", id="planner"),
        pytest.param({"reconcile": 200}, "reconcile has not got through since 2026-11-24 11:56:39 UTC", id="reconcile"),
        pytest.param({"worker": 100}, "worker-scheduled has not moved since 2026-11-24 11:58:20 UTC", id="worker"),
        pytest.param({"child": 119}, "worker-scheduled takes no jobs since 2026-11-24 11:58:00 UTC", id="its child"),
    ],
)
def test_while_a_part_stands_still_the_watchdog_is_not_called_and_the_log_says_which(
    database: Database,
    watchdog: Watchdog,
    listener: Listener,
    caplog: pytest.LogCaptureFixture,
    silent: dict[str, float],
    told: str,
) -> None:
    a_service(database, **silent)

    watchdog.step()

    [record] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert (record.getMessage(), vars(record)["event"]) == (
        f"The watchdog is not pinged: {told}",
        "watchdog_not_pinged",
    )
    assert (listener.heard, watchdog.pinged_at) == ([], None)


def test_without_a_dispatcher_ever_seen_it_is_not_called(database: Database, watchdog: Watchdog) -> None:
    with database.write() as session:
        a_part(session, "keeper", 1.0, planner=0.4, reconcile=8.0)

    watchdog.step()

    assert watchdog.trouble == "there is no dispatcher"


def test_a_worker_that_runs_a_long_task_moves(database: Database, watchdog: Watchdog, listener: Listener) -> None:
    a_service(database, worker=100)
    with database.write() as session:
        a_part(session, "worker-scheduled", 2.0, task=7, silent_seconds=3000.0)

    watchdog.step()
    wait_for_answer(watchdog)

    assert listener.heard == ["/ping/secret"]


def test_without_sql_the_watchdog_is_not_called(listener: Listener) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none")

    with pytest.raises(DatabaseAway):
        Watchdog(away, listener.url).step()

    assert listener.heard == []


def test_an_answer_that_does_not_come_delays_nothing(
    database: Database, watchdog: Watchdog, listener: Listener
) -> None:
    a_service(database)
    answer = threading.Event()
    listener.before_answer = answer.wait

    watchdog.step()
    wait_for(lambda: listener.heard, every=0.01)
    watchdog.step()

    assert listener.heard == ["/ping/secret"]
    assert (watchdog.pinged_at, watchdog.trouble) == (None, "no answer: the call before is still not answered")
    answer.set()
    wait_for(lambda: watchdog.pinged_at, every=0.01)
    assert watchdog.trouble is None


def test_a_call_is_given_up_in_time(database: Database, listener: Listener) -> None:
    a_service(database)
    answer = threading.Event()
    listener.before_answer = answer.wait
    watchdog = Watchdog(database, listener.url, answers_within=0.1)

    watchdog.step()
    wait_for_answer(watchdog)
    answer.set()

    assert watchdog.trouble == "no answer: timed out"


def test_a_call_in_vain_is_told_without_the_address(
    database: Database, watchdog: Watchdog, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    a_service(database)
    listener.status = 404

    watchdog.step()
    wait_for_answer(watchdog)

    assert "The watchdog was called in vain: status 404" in caplog.messages
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("watchdogs", "shown"),
    [
        pytest.param([None], None, id="none is set"),
        pytest.param(
            [{"pinged_at": None, "trouble": "x"}, {"pinged_at": "2026-11-24T11:59:30Z", "trouble": None}],
            {"pinged_at": "2026-11-24T11:59:30Z", "trouble": None},
            id="the newest call of two keepers",
        ),
    ],
)
def test_status_tells_the_last_call(database: Database, watchdogs: list[Any], shown: Any) -> None:
    with database.write() as session:
        for number, one in enumerate(watchdogs, 1):
            a_part(session, "keeper", float(number), watchdog=one)

    assert status_of(database, None)["watchdog"] == shown


def test_the_address_is_masked_and_must_be_one() -> None:
    settings = load_settings(environment={"SCHEDULER_WATCHDOG_URL": "https://hc.example.org/secret"})
    [shown] = [one["value"] for one in settings.shown() if one["name"] == "watchdog_url"]
    with pytest.raises(SettingFault) as refused:
        load_settings(environment={"SCHEDULER_WATCHDOG_URL": "file:///etc/passwd"})

    assert shown == "***"
    assert str(refused.value) == (
        'watchdog_url is "***" (from SCHEDULER_WATCHDOG_URL): give an address that begins with http:// or https://'
    )
