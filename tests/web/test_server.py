"""The web part as it listens: where it may, while another has its port, and how it ends."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import pytest
from fastapi import FastAPI

from scheduler.engine.access import Access
from scheduler.engine.loops import Stop
from scheduler.errors import Refused, SettingFault
from scheduler.settings import Settings, load_settings
from scheduler.store import parts
from scheduler.store.database import Database
from scheduler.web.events import Hub
from scheduler.web.server import Pulse, run_web, serve
from tests.servers import free_port
from tests.waiting import wait_for
from tests.web.people import add_users

ROOT = Path(__file__).resolve().parents[2]
NO_USERS = (
    "The web page would listen on 0.0.0.0, where other machines reach it, and there are no users: whoever comes first "
    "could do everything. Add one (`scheduler user add NAME --role admin`), or leave web_address at 127.0.0.1."
)


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """SQLite alone: it is about sockets and processes."""
    path = tmp_path / "scheduler.sqlite"
    shutil.copyfile(migrated_file, path)
    return f"sqlite:///{path}"


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, redis_url=redis_url, data=tmp_path, web_port=free_port())


def answer_of(settings: Settings, path: str = "/healthz") -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.web_port}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text
    except (URLError, OSError):
        return None


@contextmanager
def running(settings: Settings) -> Iterator[Stop]:
    """The web part in a thread."""
    stop = Stop()
    thread = threading.Thread(target=run_web, args=(settings, stop))
    thread.start()
    try:
        yield stop
    finally:
        stop.is_set = True
        thread.join(20)
    assert not thread.is_alive()


def test_it_answers_and_says_that_it_moves(settings: Settings, database: Database) -> None:
    with running(settings):
        assert wait_for(lambda: answer_of(settings), what="an answer") == "ok\n"
        assert answer_of(settings, "/readyz") == "ready\n"
        with database.read() as session:
            found = [(part.part, part.details) for part in parts.all_parts(session)]

    assert found == [("web", {"url": settings.web_url})]
    with database.read() as session:
        assert parts.all_parts(session) == []


def test_a_loop_that_is_stuck_does_not_pass_for_one_that_answers() -> None:
    go_on, stop, pulse = threading.Event(), Stop(), Pulse(within=0.5)
    app = FastAPI()
    app.state.events = Hub()

    @app.get("/stuck")
    async def stuck() -> None:
        go_on.wait(30)

    listening = socket.create_server(("127.0.0.1", 0))
    serving = threading.Thread(target=serve, args=(app, listening, stop, pulse))
    serving.start()
    try:
        wait_for(lambda: pulse.is_moving, what="a beat")
        with socket.create_connection(listening.getsockname()) as asking:
            asking.sendall(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_for(lambda: not pulse.is_moving, what="the loop to be stuck")
            go_on.set()

            assert wait_for(lambda: pulse.is_moving, what="the loop to go on")
    finally:
        go_on.set()
        stop.is_set = True
        serving.join(20)


def test_a_public_address_needs_users(settings: Settings, database: Database, cheap_passwords: None) -> None:
    public = Settings(**{**vars(settings), "web_address": "0.0.0.0"})

    with pytest.raises(Refused) as refused:
        run_web(public, Stop())

    assert str(refused.value) == NO_USERS
    add_users(database)
    assert Access(database).has_users()
    with running(public):
        assert wait_for(lambda: answer_of(public), what="an answer") == "ok\n"


def test_while_another_has_the_port_it_waits_and_says_what_to_do(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.web_port))
        other.listen()
        with caplog.at_level(logging.WARNING), running(settings):
            wait_for(lambda: caplog.messages, what="a warning")
            other.close()

            assert wait_for(lambda: answer_of(settings), what="an answer") == "ok\n"

    assert caplog.messages[0] == (
        f"The web page cannot listen at http://127.0.0.1:{settings.web_port}: Address already in use. "
        "Set SCHEDULER_WEB_PORT to a free port, or to 0 for no page. Everything else goes on; next try in 1 s."
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_gone_soon_also_while_somebody_listens(
    settings: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url or "",
        "REDIS_URL": settings.redis_url or "",
        "SCHEDULER_WEB_PORT": str(settings.web_port),
        "PYTHONPATH": str(ROOT),
    }
    with (tmp_path / "log").open("w") as log:
        web = subprocess.Popen(
            [sys.executable, "-m", "scheduler", "start", "web"], cwd=tmp_path, env=environment, stderr=log
        )
    try:
        wait_for(lambda: answer_of(settings), seconds=40, what="an answer")
        with urllib.request.urlopen(f"{settings.web_url}/events/now", timeout=30) as stream:
            assert stream.readline().startswith(b"event: ")

            began = time.monotonic()
            web.send_signal(number)
            status = web.wait(20)

        assert status == 0
        assert time.monotonic() - began < 10  # five, on a machine that has nothing else to do
        assert (tmp_path / "log").read_text() == ""
    finally:
        if web.poll() is None:
            web.kill()
            web.wait()


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WEB_PORT", "65536", "give a whole number of at most 65535"),
        ("WEB_PORT", "-1", "give a whole number of at least 0"),
        (
            "WEB_ADDRESS",
            "example.org",
            "give the address of this machine to listen on: 127.0.0.1, or 0.0.0.0 for all it has",
        ),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy", "give addresses or networks, such as 10.0.0.0/8, separated by commas"),
        ("BASE_URL", "jobs.example.org", "give an address that begins with http:// or https://"),
        ("PROXY_USER_HEADER", "X User", "give the name of a header, such as X-Forwarded-User"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told(tmp_path: Path, name: str, value: str, said: str) -> None:
    with pytest.raises(SettingFault) as fault:
        load_settings(environment={f"SCHEDULER_{name}": value}, file=tmp_path / "none")

    assert str(fault.value) == f'{name.lower()} is "{value}" (from SCHEDULER_{name}): {said}'


def test_settings_that_can_be_used_are_taken(tmp_path: Path) -> None:
    given = {
        "SCHEDULER_WEB_ADDRESS": "localhost",
        "SCHEDULER_WEB_PORT": "0",
        "SCHEDULER_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
    }

    settings = load_settings(environment=given, file=tmp_path / "none")

    assert (settings.web_address, settings.web_port, settings.trusted_proxies) == (
        "127.0.0.1",
        0,
        ("10.0.0.0/8", "::1"),
    )
    assert Settings(web_address="::1", web_port=8080).web_url == "http://[::1]:8080"
