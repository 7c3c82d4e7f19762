"""The web part as a process: listens, answers, ticks, until SIGTERM or SIGINT; then it is gone within 5 seconds."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from scheduler.engine.access import Access
from scheduler.engine.backends import Backends
from scheduler.engine.loops import Stop, Ticker
from scheduler.engine.troubles import Pauses, tell
from scheduler.errors import Refused
from scheduler.settings import Settings
from scheduler.web.app import create_app
from scheduler.web.callers import is_loopback

log = logging.getLogger(__name__)

TICK_EVERY = 1.0  # seconds; the ticker itself writes less often
ANSWERS_END_WITHIN = 2  # seconds after being told to stop; whoever still reads then is cut off
GONE_WITHIN = 4.0  # seconds, also when an answer hangs on a database that does not answer
LOOK_EVERY = 0.1
STUCK_AFTER = 10.0  # seconds in which the loop does not look
BACKLOG = 128
MOST_AT_ONCE = 500  # connections; more are told to come again


class Pulse:
    """Whether the loop that answers goes round: a part that ticks and answers nobody would be taken for well."""

    def __init__(self, within: float = STUCK_AFTER) -> None:
        self._within = within
        self._beaten_at = time.monotonic()

    def beat(self) -> None:
        self._beaten_at = time.monotonic()

    @property
    def is_moving(self) -> bool:
        return time.monotonic() - self._beaten_at < self._within


def run_web(settings: Settings, stop: Stop, *, is_process: bool = False) -> None:
    """Answer at the address of the settings until `stop` is set; a process of its own then ends whatever hangs.

    Raises Refused for a public address without users.
    """
    backends = Backends(settings)
    try:
        check_address(settings, Access(backends.database))
        listening = _listen(settings, stop)
        if listening is None:
            return
        app = create_app(settings, backends, stop=stop)
        ticker = Ticker(backends.database, "web")
        pulse = Pulse()
        ticking = threading.Thread(target=_tick, args=(ticker, settings, stop, pulse), name="ticker", daemon=True)
        ticking.start()
        if is_process:
            threading.Thread(target=_end_for_sure, args=(stop,), name="end", daemon=True).start()
        with listening:
            serve(app, listening, stop, pulse)
        stop.is_set = True
        ticking.join(LOOK_EVERY + TICK_EVERY)
        ticker.leave()
    finally:
        backends.close()


def serve(app: FastAPI, listening: socket.socket, stop: Stop, pulse: Pulse | None = None) -> None:
    """Answer on the socket until `stop` is set; `pulse` beats meanwhile."""
    config = uvicorn.Config(
        app,
        log_config=None,  # our own: see log_to_stderr
        access_log=False,
        server_header=False,
        proxy_headers=False,  # callers.py knows whom to trust
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=ANSWERS_END_WITHIN,
        backlog=BACKLOG,
        limit_concurrency=MOST_AT_ONCE,
    )
    asyncio.run(_serve(_Server(config), app, listening, stop, pulse or Pulse()))


def check_address(settings: Settings, access: Access) -> None:
    """Raises Refused for an address that other machines reach while there are no users."""
    if not is_loopback(settings.web_address) and not access.has_users():
        raise Refused(
            f"The web page would listen on {settings.web_address}, where other machines reach it, and there are no "
            "users: whoever comes first could do everything. Add one (`scheduler user add NAME --role admin`), or "
            "leave web_address at 127.0.0.1."
        )


class _Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn would end the process by them once more."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(server: _Server, app: FastAPI, listening: socket.socket, stop: Stop, pulse: Pulse) -> None:
    watching = asyncio.create_task(_watch(server, app, stop, pulse))
    try:
        await server.serve(sockets=[listening])
    finally:
        watching.cancel()


async def _watch(server: _Server, app: FastAPI, stop: Stop, pulse: Pulse) -> None:
    while not stop.is_set:
        pulse.beat()
        await asyncio.sleep(LOOK_EVERY)
    app.state.events.stop()
    server.should_exit = True


def _listen(settings: Settings, stop: Stop) -> socket.socket | None:
    """A socket at the address; waits for it, saying so, while another has it. None when told to stop meanwhile."""
    pauses = Pauses(1.0, 30.0)
    family = socket.AF_INET6 if ":" in settings.web_address else socket.AF_INET
    while not stop.is_set:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.web_address, settings.web_port))
            return listening
        except OSError as error:
            listening.close()
            pause = pauses.next()
            log.warning(
                "The web page cannot listen at %s: %s. Set SCHEDULER_WEB_PORT to a free port, or to 0 for no page. "
                "Everything else goes on; next try in %.0f s.",
                settings.web_url,
                error.strerror,
                pause,
                extra={"event": "web_port_taken"},
            )
            stop.wait(pause)
    return None


def _end_for_sure(stop: Stop) -> None:
    """End the process a while after it was told to stop: a thread that waits for SQL cannot be ended otherwise."""
    while not stop.is_set:
        stop.wait(TICK_EVERY)
    time.sleep(GONE_WITHIN)
    log.warning("Some answers were still under way", extra={"event": "web_cut_off"})
    os._exit(0)


def _tick(ticker: Ticker, settings: Settings, stop: Stop, pulse: Pulse) -> None:
    pauses = Pauses()
    while not stop.is_set:
        try:
            if pulse.is_moving:
                ticker.tick({"url": settings.web_url})
            pauses.reset()
            stop.wait(TICK_EVERY)
        except Exception as error:  # a loop logs and goes on
            tell("web's ticker", error)
            stop.wait(pauses.next())
