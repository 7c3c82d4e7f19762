"""News for open pages, as server-sent events: what of a page has changed, and that the service still answers.

One thread asks for all pages that show the same thing (a topic), however many are open; what is sent is decided by a
hash of each region, times that count on by themselves left aside. A page that takes its news slowly gets the last state
of each region and nothing in between: nothing piles up. live.js is the other end.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from scheduler.engine.troubles import tell
from scheduler.errors import PartAway
from scheduler.web.callers import Caller

Regions = Mapping[str, str]  # the id of an element -> what stands in it

MOST_STREAMS = 20  # of one user; a browser opens six to a server
ASK_EVERY = 1.0  # seconds; a topic that takes long to answer is asked less often:
REST = 9  # times as long as it took, so that pages take no more than a tenth of a processor
BEHIND_AFTER = 10.0  # seconds after it was due, a topic that has not been asked anew is no news any more
BEAT_EVERY = 5.0  # live.js calls a stream cut off that has been silent three times as long
CHECK_EVERY = 60.0  # whether who listens still may

COUNTING = re.compile(r"(<time data-(?:since|until)[^>]*>)[^<]*")
NO_STORE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the latter for nginx, which holds answers back


def message(event: str, content: Any) -> str:
    """One event. JSON has no raw line break: whatever a text holds, it cannot begin an event of its own.

    >>> message("parts", {"log": "x\\nevent: boom"})
    'event: parts\\ndata: {"log": "x\\\\nevent: boom"}\\n\\n'
    """
    return f"event: {event}\ndata: {json.dumps(content)}\n\n"


def fingerprint(html: str) -> bytes:
    """The same for a region in which only time has passed."""
    return hashlib.sha256(COUNTING.sub(r"\1", html).encode()).digest()


class Listener:
    """An open page: what it has not been told yet."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()
        self._lock = threading.Lock()
        self._parts: dict[str, str] = {}
        self._trouble: str | None = None
        self.knows = False  # whether it has been given the whole state once
        self.is_over = False

    def give(self, parts: Regions, trouble: str | None) -> None:
        """From the hub's thread."""
        with self._lock:
            self._parts.update(parts)
            self._trouble = trouble
        self._wake()

    def end(self) -> None:
        self.is_over = True
        self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._awake.set)
        except RuntimeError:  # the server's loop has ended, and the page with it
            self.is_over = True

    async def news(self, within: float) -> list[str]:
        """The events to send; [] when there is nothing new within so many seconds."""
        try:
            await asyncio.wait_for(self._awake.wait(), within)
        except TimeoutError:
            return []
        self._awake.clear()
        with self._lock:
            parts, self._parts = self._parts, {}
            trouble = self._trouble
        found = [message("parts", parts)] if parts and trouble is None else []
        return [*found, message("trouble", trouble)] if trouble is not None else found


@dataclass
class Topic:
    """What some pages show, and how it is asked for."""

    ask: Callable[[], Regions]
    listeners: set[Listener] = field(default_factory=set)
    regions: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, bytes] = field(default_factory=dict)
    due: float = 0.0

    def refresh(self) -> None:
        """Ask, and tell each listener what it does not know."""
        began = time.monotonic()
        try:
            self._take(self.ask())
        except Exception as error:  # whatever it is: a page that is not told shows what no longer holds
            tell("web", error)
            trouble = str(error) if isinstance(error, PartAway) else "The page cannot be drawn; the log says why. Stale"
            for listener in list(self.listeners):
                listener.give({}, trouble)
                listener.knows = False
        self.due = time.monotonic() + max(ASK_EVERY, REST * (time.monotonic() - began))

    def _take(self, regions: Regions) -> None:
        fresh = {name: fingerprint(html) for name, html in regions.items()}
        changed = {name: html for name, html in regions.items() if self.fingerprints.get(name) != fresh[name]}
        self.regions, self.fingerprints = dict(regions), fresh
        for listener in list(self.listeners):
            if not listener.knows:
                listener.knows = True
                listener.give(regions, None)
            elif changed:
                listener.give(changed, None)


class Hub:
    """All topics with a listener, and the thread that asks for them; it rests while nobody listens."""

    def __init__(self, beat_every: float = BEAT_EVERY, check_every: float = CHECK_EVERY) -> None:
        self.beat_every = beat_every
        self.check_every = check_every
        self._topics: dict[str, Topic] = {}
        self._streams: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def has_room(self, user: str) -> bool:
        return self._streams[user] < MOST_STREAMS

    def listen(self, name: str, ask: Callable[[], Regions], user: str) -> Listener:
        """A new listener of the topic `name`; `ask` is used when it is the first. Call `leave` in the end."""
        listener = Listener()
        with self._lock:
            if self._is_stopped:
                listener.is_over = True
            self._streams[user] += 1
            topic = self._topics.setdefault(name, Topic(ask))
            topic.listeners.add(listener)
            topic.due = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="events", daemon=True)
                self._thread.start()
        self._wake.set()
        return listener

    def leave(self, name: str, listener: Listener, user: str) -> None:
        with self._lock:
            self._streams[user] -= 1
            if self._streams[user] <= 0:
                del self._streams[user]
            topic = self._topics.get(name)
            if topic is None:
                return
            topic.listeners.discard(listener)
            if not topic.listeners:
                del self._topics[name]

    def beat(self, name: str) -> str:
        """That all is as the pages of the topic show it; or, when whoever is asked for it has not answered, not."""
        topic = self._topics.get(name)
        is_behind = topic is not None and time.monotonic() - topic.due > BEHIND_AFTER
        return message("trouble", "No news") if is_behind else message("beat", {})

    def stop(self) -> None:
        """End all streams, now and from now on: a server that stops waits for them."""
        with self._lock:
            self._is_stopped = True
            listeners = [one for topic in self._topics.values() for one in topic.listeners]
        for listener in listeners:
            listener.end()
        self._wake.set()

    @property
    def is_asking(self) -> bool:
        """Whether any page is open that is kept up to date."""
        return bool(self._topics)

    def _run(self) -> None:
        while not self._is_stopped:
            with self._lock:
                topics = list(self._topics.values())
            for topic in topics:
                if topic.due <= time.monotonic():
                    topic.refresh()
            first = min((topic.due for topic in topics), default=None)
            self._wake.wait(None if first is None else max(0.0, first - time.monotonic()))
            self._wake.clear()


def stream(
    hub: Hub, name: str, ask: Callable[[], Regions], caller: Caller, check: Callable[[], Caller]
) -> StreamingResponse:
    """The answer that goes on for as long as the page is open, and the caller may see it.

    `check` says who asks now, as at the beginning; it raises when nobody knows. Raises 429 for too many of one user.
    """
    if not hub.has_room(caller.name):
        raise HTTPException(429, f"{caller.name} has {MOST_STREAMS} pages open that are kept up to date: close some")
    return StreamingResponse(_events(hub, name, ask, caller, check), media_type="text/event-stream", headers=NO_STORE)


async def _events(
    hub: Hub, name: str, ask: Callable[[], Regions], caller: Caller, check: Callable[[], Caller]
) -> AsyncIterator[str]:
    listener = hub.listen(name, ask, caller.name)
    checked_at = time.monotonic()
    try:
        yield message("beat", {})
        while not listener.is_over:
            for event in await listener.news(hub.beat_every) or [hub.beat(name)]:
                yield event
            if time.monotonic() - checked_at >= hub.check_every:
                checked_at = time.monotonic()
                if not await run_in_threadpool(_still_may, caller, check):
                    yield message("bye", {})
                    return
    finally:
        hub.leave(name, listener, caller.name)


def _still_may(caller: Caller, check: Callable[[], Caller]) -> bool:
    """Whether the caller is who it was, with no less of a role. While SQL is away nobody is sent off."""
    try:
        now = check()
    except HTTPException:
        return False
    except PartAway:
        return True
    return now.name == caller.name and now.may(caller.role)
