"""A TCP proxy before a server of the tests, which breaks what passes through it in chosen ways.

It runs in a thread of its own; a change of mode holds for what comes from then on, also on connections already open.
`moments` tells what it has done to whom: a test whose fault never took place has proved nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

CHUNK = 65_536
END_OF_MAIL = b"\r\n.\r\n"  # for drop_reply before an SMTP server: it has taken the mail, and nobody learns of it


@dataclass(frozen=True)
class Mode:
    """What the proxy does; made by the functions below."""

    name: str
    seconds: float = 0.0  # delay: before each chunk
    count: int = 0  # cut: bytes of replies let through on each connection, counted from the change of mode
    after: bytes = b""  # drop_reply: what the request must hold
    armed_by: bytes = b""  # drop_reply: what must have been asked on the same connection before


PASS = Mode("pass")
REFUSE = Mode("refuse")  # new connections are closed by a reset; open ones live on
RESET = Mode("reset")  # new connections and whatever speaks is reset
SWALLOW = Mode("swallow")  # connections are taken, and nothing passes, either way


def delay(seconds: float) -> Mode:
    """Each chunk comes later, either way."""
    return Mode("delay", seconds=seconds)


def cut_after(count: int) -> Mode:
    """A connection is reset when `count` bytes of replies have passed."""
    return Mode("cut", count=count)


def drop_reply(after: bytes = b"", *, armed_by: bytes = b"") -> Mode:
    """Deliver the next request that holds `after`, and reset its connection instead of replying; then pass.

    With `armed_by`, only on a connection that has asked that since the mode was set: the COMMIT of an INSERT, say.
    """
    return Mode("drop_reply", after=after, armed_by=armed_by)


@dataclass
class _Pair:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    mode: Mode = PASS
    replied: int = 0  # bytes since the mode was set
    doomed: bool = False  # its request has been delivered, its reply will not be
    armed: bool = False
    held: bytes = b""  # the end of what was sent before: what is looked for may lie across two chunks


@dataclass
class Proxy:
    """Before host:port; connect to `port` of 127.0.0.1. A context manager."""

    host: str
    target: int
    port: int = 0
    mode: Mode = PASS
    moments: list[tuple[float, str]] = field(default_factory=list)  # when (time.time()) and which fault took place

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: list[asyncio.WriteTransport] = []
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="proxy", daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(10)

    def set(self, mode: Mode) -> None:
        self.mode = mode

    def faults(self, name: str) -> list[float]:
        """When a fault of that mode took place."""
        return [moment for moment, fault in list(self.moments) if fault == name]

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._closing = asyncio.Event()
        try:
            self._loop.run_until_complete(self._accept(ready))
        finally:
            self._loop.close()

    async def _accept(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._closing.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0.01)  # a transport closes its socket in a later turn of the loop

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._transports.append(writer.transport)
        if self.mode in (REFUSE, RESET):
            self._reset(writer, self.mode.name)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self.target)
        except OSError:  # the server is away: so it looks to whoever connects
            self._reset(writer, "")
            return
        self._transports.append(far_writer.transport)
        pair = _Pair(writer, far_writer)
        ways = [
            asyncio.ensure_future(self._carry(reader, far_writer, pair, is_reply=False)),
            asyncio.ensure_future(self._carry(far_reader, writer, pair, is_reply=True)),
        ]
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the proxy is closing
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, far_writer):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair, *, is_reply: bool
    ) -> None:
        while True:
            try:
                chunk = await reader.read(CHUNK)
            except OSError:
                return
            if not chunk or not await self._may_pass(chunk, pair, is_reply):
                return
            writer.write(chunk)
            with contextlib.suppress(OSError):
                await writer.drain()

    async def _may_pass(self, chunk: bytes, pair: _Pair, is_reply: bool) -> bool:
        """Whether this chunk goes on; False also ends the connection."""
        mode = self.mode
        if pair.mode != mode:
            pair.mode, pair.replied, pair.armed, pair.held = mode, 0, False, b""
        if pair.doomed and is_reply:
            self._reset(pair.client, "drop_reply")
            return False
        if mode == RESET:
            self._reset(pair.client, "reset")
            return False
        if mode == SWALLOW:
            self._note("swallow")
            await asyncio.Event().wait()  # for ever: what was swallowed does not come later
        if mode.name == "delay":
            self._note("delay")
            await asyncio.sleep(mode.seconds)
        if mode.name == "drop_reply" and not is_reply:
            asked = pair.held + chunk
            pair.armed = pair.armed or mode.armed_by in asked
            if pair.armed and mode.after in asked and self.mode == mode:
                pair.doomed, self.mode = True, PASS
            pair.held = chunk[-100:]
        if mode.name == "cut" and is_reply:
            rest = mode.count - pair.replied
            pair.replied += len(chunk)
            if len(chunk) > rest:
                pair.client.write(chunk[:rest])
                await pair.client.drain()
                self._note("cut")
                pair.client.close()  # not a reset, which might overtake the bytes
                return False
        return True

    def _reset(self, writer: asyncio.StreamWriter, fault: str) -> None:
        if fault:
            self._note(fault)
        found = writer.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends RST
        writer.transport.abort()

    def _note(self, fault: str) -> None:
        self.moments.append((time.time(), fault))
