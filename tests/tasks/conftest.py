"""What the tests of task functions share: a working folder of their own, runs, and a web server on loopback."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scheduler.context import Run, running


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the test; results go to `var` in it, and no setting is left from outside."""
    for name in ("DATA", "SMTP_URL", "SMTP_PASSWORD", "MAIL_FROM", "SOURCE_FOLDERS", "ALLOW_PRIVATE_URLS"):
        monkeypatch.delenv(f"SCHEDULER_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass
class Watched:
    """What a run told, and whether it is asked to stop: after so many calls of progress()."""

    told: list[dict[str, Any]] = field(default_factory=list)
    stop_after: int | None = None

    def is_stop_requested(self) -> bool:
        return self.stop_after is not None and len(self.told) >= self.stop_after


@pytest.fixture
def in_a_run() -> Iterator[Callable[..., Watched]]:
    """Call it to be in a run until the test ends."""
    with contextlib.ExitStack() as stack:

        def enter(
            key: str = "nightly@2026-11-24T06:30:00Z",
            attempt: int = 1,
            stop_after: int | None = None,
            origin: str = "live/",
        ) -> Watched:
            watched = Watched(stop_after=stop_after)
            ways = (watched.told.append, watched.is_stop_requested, lambda: origin)
            run = Run(1, attempt, "scheduled", key, None, None, None, *ways)
            stack.enter_context(running(run))
            return watched

        yield enter


@dataclass
class Web:
    """A web server whose every page is a function that gets the handler; it remembers what it was asked."""

    port: int
    pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # (Host, path)
    closing: threading.Event = field(default_factory=threading.Event)

    def page(
        self,
        path: str,
        body: bytes = b"",
        kind: str = "text/plain",
        status: int = 200,
        length: int | None = None,
        **more,
    ) -> str:
        """Serve `body` at `path`; `more` are further headers, with _ for -. Returns the address."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Type", kind)
            handler.send_header("Content-Length", str(len(body) if length is None else length))
            for name, value in more.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(body)

        self.pages[path] = answer
        return f"http://127.0.0.1:{self.port}{path}"

    def drip(self, path: str, start: bytes, drop: bytes) -> str:
        """Send `start`, then `drop` after `drop` until the client has gone."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(start)
            while not self.closing.wait(0.01):
                handler.wfile.write(drop)

        self.pages[path] = answer
        return f"http://127.0.0.1:{self.port}{path}"


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append((self.headers["Host"], self.path))
            with contextlib.suppress(OSError):  # clients that go away in the middle are part of the tests
                web.pages[self.path.partition("?")[0]](self)

        def log_message(self, *_: object) -> None:
            """Nothing: what was asked is in `asked`."""

    for method in ("HEAD", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.do_GET)

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # so that they are waited for, and no socket outlives its test

        def handle_error(self, *_: object) -> None:
            """Nothing: clients that refuse a certificate are part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    web = Web(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        web.closing.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as started:
        yield started


@pytest.fixture
def private_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_ALLOW_PRIVATE_URLS", "1")


@dataclass
class Internet:
    """Names and their addresses, one list for each time they are asked; every address leads to the web server."""

    names: dict[str, list[list[str]]] = field(default_factory=dict)
    connected: list[tuple[str, int]] = field(default_factory=list)


@pytest.fixture
def internet(web: Web, monkeypatch: pytest.MonkeyPatch) -> Internet:
    internet = Internet()
    look_up, connect = socket.getaddrinfo, socket.create_connection

    def getaddrinfo(host: str, port: int, *rest: Any, **more: Any) -> Any:
        answers = internet.names.get(host)
        if answers is None:
            return look_up(host, port, *rest, **more)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]

    def create_connection(address: tuple[str, int], *rest: Any, **more: Any) -> socket.socket:
        internet.connected.append(address)
        return connect(("127.0.0.1", web.port), *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    return internet
