"""The proxy does to a connection what its mode says, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.proxy import PASS, REFUSE, RESET, SWALLOW, Proxy, cut_after, delay, drop_reply
from tests.waiting import wait_for


class Echo:
    """Answers each line with «you said: <line>», and keeps what it has heard."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb", buffering=0) as stream:
            try:
                for line in stream:
                    self.heard.append(line)
                    stream.write(b"you said: " + line)
            except OSError:
                return

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connect(proxy) as connection:
        yield connection


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def ask(client: socket.socket, word: bytes) -> bytes:
    client.sendall(word + b"\n")
    return client.recv(1000)


def test_what_passes_is_unchanged(client: socket.socket, proxy: Proxy) -> None:
    assert ask(client, b"hello") == b"you said: hello\n"
    assert ask(client, b"again") == b"you said: again\n"
    assert proxy.moments == []


def test_a_refused_connection_is_reset_and_an_open_one_lives_on(client: socket.socket, proxy: Proxy) -> None:
    ask(client, b"hello")
    proxy.set(REFUSE)

    with pytest.raises(ConnectionResetError), connect(proxy) as refused:
        refused.recv(1)

    assert ask(client, b"still") == b"you said: still\n"
    assert len(proxy.faults("refuse")) == 1


def test_a_reset_ends_open_connections_when_they_speak(client: socket.socket, proxy: Proxy, echo: Echo) -> None:
    ask(client, b"hello")
    proxy.set(RESET)

    with pytest.raises(ConnectionResetError):
        ask(client, b"lost")

    assert echo.heard == [b"hello\n"]
    assert len(proxy.faults("reset")) == 1


def test_what_is_swallowed_neither_arrives_nor_comes_later(client: socket.socket, proxy: Proxy, echo: Echo) -> None:
    ask(client, b"hello")
    client.settimeout(0.3)
    proxy.set(SWALLOW)

    with pytest.raises(TimeoutError):
        ask(client, b"lost")
    proxy.set(PASS)

    with pytest.raises(TimeoutError):
        client.recv(1000)
    with connect(proxy) as another:
        assert ask(another, b"new") == b"you said: new\n"
    assert echo.heard == [b"hello\n", b"new\n"]
    assert proxy.faults("swallow")


def test_what_is_delayed_comes_later_and_whole(client: socket.socket, proxy: Proxy) -> None:
    proxy.set(delay(0.2))
    began = time.monotonic()

    assert ask(client, b"hello") == b"you said: hello\n"

    assert time.monotonic() - began >= 0.4  # there and back
    assert len(proxy.faults("delay")) == 2


def test_a_connection_is_cut_in_the_middle_of_a_reply(client: socket.socket, proxy: Proxy) -> None:
    ask(client, b"hello")
    proxy.set(cut_after(20))

    assert ask(client, b"one") == b"you said: one\n"
    assert ask(client, b"two") == b"you sa"
    assert client.recv(1000) == b""
    assert len(proxy.faults("cut")) == 1


def test_a_request_is_delivered_and_its_reply_dropped_once(client: socket.socket, proxy: Proxy, echo: Echo) -> None:
    proxy.set(drop_reply(after=b"commit"))

    assert ask(client, b"begin") == b"you said: begin\n"
    with pytest.raises(ConnectionResetError):
        ask(client, b"commit")

    wait_for(lambda: b"commit\n" in echo.heard, what="the request to arrive")
    assert len(proxy.faults("drop_reply")) == 1
    with connect(proxy) as another:
        assert ask(another, b"commit") == b"you said: commit\n"


def test_a_reply_is_dropped_only_where_something_was_asked_before(proxy: Proxy) -> None:
    with connect(proxy) as reader, connect(proxy) as writer:
        ask(reader, b"hello")
        ask(writer, b"hello")
        proxy.set(drop_reply(after=b"commit", armed_by=b"insert"))
        ask(writer, b"insert")

        assert ask(reader, b"commit") == b"you said: commit\n"
        with pytest.raises(ConnectionResetError):
            ask(writer, b"commit")
