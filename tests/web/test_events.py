from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from scheduler.errors import DatabaseAway
from scheduler.web import events
from scheduler.web.callers import ADMIN, VIEWER, Caller
from scheduler.web.events import MOST_STREAMS, Hub, Regions, fingerprint, message, stream
from tests.waiting import wait_for

JANA = Caller("jana", ADMIN, "session")
WITHIN = 20.0  # seconds, for what comes within one or two


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "ASK_EVERY", 0.02)
    monkeypatch.setattr(events, "REST", 0)


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub(beat_every=0.2, check_every=0.0)
    yield made
    made.stop()


class Page:
    """What is asked of a topic; a test changes it while pages are open."""

    def __init__(self, **regions: str) -> None:
        self.regions: dict[str, str] = regions
        self.error: Exception | None = None
        self.asked = 0

    def __call__(self) -> Regions:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return dict(self.regions)


def opened(hub: Hub, ask: Callable[[], Regions], caller: Caller = JANA, check: Any = None) -> AsyncIterator[str]:
    answer = stream(hub, "now", ask, caller, check or (lambda: caller))
    return answer.body_iterator  # type: ignore[return-value]


async def told(body: AsyncIterator[str], event: str) -> Any:
    """The content of the next event of that name."""
    async with asyncio.timeout(WITHIN):
        async for text in body:
            name, content = text.split("\n")[:2]
            if name == f"event: {event}":
                return json.loads(content.removeprefix("data: "))
    pytest.fail(f"The stream ended without {event}")


async def rest_of(body: AsyncIterator[str]) -> list[str]:
    """The names of all events until the stream ends."""
    async with asyncio.timeout(WITHIN):
        return [text.split("\n")[0].removeprefix("event: ") async for text in body]


# --- what is sent ---------------------------------------------------------------------------------------------------


def test_a_page_is_given_everything_first_and_then_what_changed(hub: Hub) -> None:
    page = Page(verdict="all is well", running="nothing")

    async def read() -> list[Any]:
        async with aclosing(opened(hub, page)) as body:  # type: ignore[type-var]
            first = await told(body, "parts")
            page.regions["running"] = "task 17"
            return [first, await told(body, "parts")]

    assert asyncio.run(read()) == [{"verdict": "all is well", "running": "nothing"}, {"running": "task 17"}]


def test_a_page_whose_beat_comes_shows_that_the_service_answers(hub: Hub) -> None:
    async def read() -> list[Any]:
        async with aclosing(opened(hub, Page(verdict="all is well"))) as body:  # type: ignore[type-var]
            return [await told(body, "beat"), await told(body, "parts"), await told(body, "beat")]

    assert asyncio.run(read()) == [{}, {"verdict": "all is well"}, {}]


def test_passing_time_alone_is_no_news() -> None:
    before = '<p><time data-since datetime="x" title="y">1 s</time> of usually 3 s</p>'

    assert fingerprint(before) == fingerprint(before.replace(">1 s<", ">2 s<"))
    assert fingerprint(before) != fingerprint(before.replace("usually 3 s", "usually 4 s"))
    assert fingerprint(before) != fingerprint(before.replace('datetime="x"', 'datetime="z"'))


def test_any_number_of_pages_is_asked_for_once(hub: Hub) -> None:
    page = Page(verdict="0")

    async def read() -> None:
        bodies = [opened(hub, page, Caller(f"user{n}", VIEWER, "session")) for n in range(50)]
        for body in bodies:
            await told(body, "parts")
        asked = page.asked
        page.regions["verdict"] = "1"
        for body in bodies:
            assert await told(body, "parts") == {"verdict": "1"}
        assert page.asked - asked < 50
        for body in bodies:
            await body.aclose()  # type: ignore[attr-defined]

    asyncio.run(read())


def test_a_slow_page_is_told_the_last_state_and_none_in_between(hub: Hub) -> None:
    page = Page(count="0")

    async def read() -> Any:
        async with aclosing(opened(hub, page)) as body:  # type: ignore[type-var]
            await told(body, "parts")
            for number in range(1, 30):
                asked, page.regions["count"] = page.asked, str(number)
                await asyncio.to_thread(wait_for, lambda asked=asked: page.asked > asked + 1)  # type: ignore[misc]
            return await told(body, "parts")

    assert asyncio.run(read()) == {"count": "29"}


def test_a_line_break_in_a_text_begins_no_event_of_its_own() -> None:
    for text in ("x\nevent: boom\ndata: 1\n\n", "x\rdata: 1", "x\u2028y\u0085z", "\x00"):
        sent = message("parts", {"log": text})

        assert sent.count("\n") == 3
        assert sent.isascii()
        assert "\r" not in sent
        assert json.loads(sent.split("\n")[1].removeprefix("data: ")) == {"log": text}


def test_a_trouble_is_told_and_the_whole_state_after_it(hub: Hub) -> None:
    page = Page(verdict="all is well")

    async def read() -> list[Any]:
        async with aclosing(opened(hub, page)) as body:  # type: ignore[type-var]
            await told(body, "parts")
            page.error = DatabaseAway("The database at x does not answer: gone")
            trouble = await told(body, "trouble")
            page.error = None
            return [trouble, await told(body, "parts")]

    assert asyncio.run(read()) == ["The database at x does not answer: gone", {"verdict": "all is well"}]


def test_a_fault_of_ours_is_told_without_its_details(hub: Hub) -> None:
    page = Page()
    page.error = KeyError("secret")

    async def read() -> Any:
        async with aclosing(opened(hub, page)) as body:  # type: ignore[type-var]
            return await told(body, "trouble")

    assert asyncio.run(read()) == "The page cannot be drawn; the log says why. Stale"


def test_a_question_that_gets_no_answer_is_no_sign_of_life(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEHIND_AFTER", 0.5)
    page, answers = Page(verdict="all is well"), threading.Event()
    answers.set()

    def ask() -> Regions:
        assert answers.wait(WITHIN)
        return page()

    async def read() -> list[Any]:
        async with aclosing(opened(hub, ask)) as body:  # type: ignore[type-var]
            await told(body, "parts")
            answers.clear()
            trouble = await told(body, "trouble")
            answers.set()
            return [trouble, await told(body, "beat")]

    assert asyncio.run(read()) == ["No news", {}]


# --- who is told, and for how long ----------------------------------------------------------------------------------


def test_the_twenty_first_page_of_one_user_is_refused_until_one_is_closed(hub: Hub) -> None:
    page = Page(verdict="all is well")

    async def read() -> str:
        bodies = [opened(hub, page) for _ in range(MOST_STREAMS)]
        for body in bodies:
            await told(body, "parts")
        with pytest.raises(HTTPException) as refused:
            opened(hub, page)
        opened(hub, page, Caller("max", VIEWER, "session"))  # another user is let in
        await bodies.pop().aclose()  # type: ignore[attr-defined]
        opened(hub, page)
        for body in bodies:
            await body.aclose()  # type: ignore[attr-defined]
        return f"{refused.value.status_code}: {refused.value.detail}"

    assert asyncio.run(read()) == "429: jana has 20 pages open that are kept up to date: close some"


def _logged_out() -> Caller:
    raise HTTPException(401, "Log in")


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(_logged_out, id="logged-out"),
        pytest.param(lambda: Caller("jana", VIEWER, "session"), id="less-of-a-role"),
        pytest.param(lambda: Caller("max", ADMIN, "session"), id="another-user"),
    ],
)
def test_who_may_no_longer_is_told_nothing_more(hub: Hub, check: Callable[[], Caller]) -> None:
    async def read() -> list[str]:
        return await rest_of(opened(hub, Page(verdict="all is well"), check=check))

    assert asyncio.run(read())[-1] == "bye"


def test_nobody_is_sent_off_because_sql_is_away(hub: Hub) -> None:
    checks = []

    def check() -> Caller:
        checks.append(1)
        if len(checks) < 4:
            raise DatabaseAway("gone")
        raise HTTPException(401, "Log in")

    async def read() -> list[str]:
        return await rest_of(opened(hub, Page(verdict="all is well"), check=check))

    assert asyncio.run(read())[-1] == "bye"
    assert len(checks) == 4


def test_stopping_ends_all_streams_and_those_to_come(hub: Hub) -> None:
    async def read() -> list[list[str]]:
        bodies = [opened(hub, Page(verdict="all is well")) for _ in range(3)]
        for body in bodies:
            await told(body, "parts")
        hub.stop()
        ended = [await rest_of(body) for body in bodies]
        return [*ended, await rest_of(opened(hub, Page(verdict="late")))]

    assert [names[:-1] if names[-1:] == ["beat"] else names for names in asyncio.run(read())] == [[], [], [], []]


def test_nothing_is_asked_for_a_page_that_is_closed(hub: Hub) -> None:
    closed, other = Page(verdict="all is well"), Page(verdict="all is well")

    async def read() -> tuple[int, int]:
        async with aclosing(opened(hub, closed)) as body:  # type: ignore[type-var]
            await told(body, "parts")
        body = stream(hub, "other", other, JANA, lambda: JANA).body_iterator
        await told(body, "parts")  # type: ignore[arg-type]
        before = closed.asked
        await asyncio.to_thread(wait_for, lambda: other.asked > 5)
        await body.aclose()  # type: ignore[union-attr]
        return before, closed.asked

    before, after = asyncio.run(read())
    assert before == after
    assert not hub.is_asking


def test_a_topic_that_is_slow_to_answer_is_asked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "REST", 9)
    clock = iter([100.0, 102.0, 102.0])
    monkeypatch.setattr(events.time, "monotonic", lambda: next(clock))
    topic = events.Topic(lambda: {})

    topic.refresh()

    assert topic.due == 102.0 + 9 * 2.0
