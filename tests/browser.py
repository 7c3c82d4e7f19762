"""Chromium for tests: `page` opens pages of one shared browser, and fails the test that made one complain.

A test that asks for `page` or `browser` is a browser test: it carries the marker `browser`, and under xdist one process
runs them all. Without a Chromium they are left out, said in pytest's header; with SCHEDULER_TEST_BROWSER=required each
of them fails instead. Playwright's loop stands in the thread of the test while it runs: what needs a loop of its own
there (asyncio.run, an application served in the test) belongs into another thread or process.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # containers, in which CI runs as root, do not give it what it needs
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",  # the last wall: nothing gets out
)
MISSING = "browser tests: left out, no Chromium found; install chromium or set CHROMIUM"
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
LONGEST_MS = 30_000  # of one step: a busy machine takes its time

OpenPage = Callable[..., Page]


def find_chromium() -> str | None:
    """The program, from CHROMIUM or the PATH."""
    given = os.environ.get("CHROMIUM")
    return shutil.which(given) if given else next(filter(None, map(shutil.which, NAMES)), None)


def is_left_out() -> bool:
    return find_chromium() is None and os.environ.get("SCHEDULER_TEST_BROWSER") != "required"


# --- a plugin of pytest, registered in conftest.py ------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: opens pages in Chromium (tests/browser.py)")


def pytest_report_header() -> list[str]:
    return [MISSING] if is_left_out() else []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the browser tests, and leave them out where there is no Chromium."""
    found = [item for item in items if {"browser", "page"} & set(getattr(item, "fixturenames", ()))]
    for item in found:
        item.add_marker(pytest.mark.browser)
        item.add_marker(pytest.mark.xdist_group("browser"))
    if found and is_left_out():
        config.hook.pytest_deselected(items=found)
        items[:] = [item for item in items if item not in found]


@dataclass(frozen=True)
class _Shared:
    browser: Browser
    loop: asyncio.AbstractEventLoop  # of Playwright; it must be the running one while its functions are called


@pytest.fixture(scope="session")
def shared_browser() -> Iterator[_Shared]:
    program = find_chromium()
    if program is None:
        pytest.fail(MISSING, pytrace=False)
    playwright = sync_playwright().start()
    shared = _Shared(
        playwright.chromium.launch(executable_path=program, headless=True, args=list(FLAGS)), asyncio.get_running_loop()
    )
    asyncio._set_running_loop(None)  # other tests of this thread may run loops of their own; see `page`
    yield shared
    asyncio._set_running_loop(shared.loop)
    shared.browser.close()
    playwright.stop()


@pytest.fixture(scope="session")
def browser(shared_browser: _Shared) -> Browser:
    """The browser that all tests share; ask for `page`."""
    return shared_browser.browser


@pytest.fixture
def page(shared_browser: _Shared) -> Iterator[OpenPage]:
    """Opens pages: `page(width=360, height=780, scheme="dark")`, each in a context of its own.

    The test fails on errors in the console, on errors of scripts, and on requests to other machines. `forgive` names
    parts of complaints that the test expects, such as "404"; other options are those of Playwright's `new_context`.
    """
    complaints: list[str] = []
    contexts: list[BrowserContext] = []
    asyncio._set_running_loop(shared_browser.loop)

    def open_page(
        width: int = 1280,
        height: int = 800,
        scheme: Literal["light", "dark"] = "light",
        *,
        forgive: Sequence[str] = (),
        **options: Any,
    ) -> Page:
        context = shared_browser.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, service_workers="block", **options
        )
        contexts.append(context)
        context.set_default_timeout(LONGEST_MS)

        def complain(what: str) -> None:
            if not any(part in what for part in forgive):
                complaints.append(what)

        def console(message: ConsoleMessage) -> None:
            if message.type == "error":
                complain(f"console: {message.text} ({message.location.get('url', '')})")

        context.on("console", console)
        context.on("weberror", lambda error: complain(f"script: {error.error}"))
        context.on("request", lambda request: None if is_here(request.url) else complain(f"asks {request.url}"))
        return context.new_page()

    try:
        yield open_page
        for context in contexts:
            context.close()
    finally:
        asyncio._set_running_loop(None)
    if complaints:
        pytest.fail("\n".join(["The page complains:", *complaints]), pytrace=False)


def is_here(url: str) -> bool:
    """Whether a request for it stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about", "file") or parts.hostname in LOOPBACK


# --- how a page looks -----------------------------------------------------------------------------------------------


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window; 0 when nothing must be scrolled aside."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def faint_texts(page: Page) -> list[str]:
    """The texts seen whose contrast is below AA (WCAG 2.2, 1.4.3): 4.5, or 3 for large letters; each with its ratio."""
    return list(page.evaluate(_FAINT))


# Backgrounds are laid over each other from the root on, half-transparent ones mixed; pictures behind texts are not
# looked at.
_FAINT = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const read = colour => {  // any CSS colour as r, g, b, alpha
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((part, i) => part * a + below[i] * (1 - a));
  const probe = document.createElement("i");
  probe.style.backgroundColor = "Canvas";  // what lies under everything, by the page's color-scheme
  document.documentElement.append(probe);
  const paper = read(getComputedStyle(probe).backgroundColor).slice(0, 3);
  probe.remove();
  const ground = element => {
    if (!element) return paper;
    return over(read(getComputedStyle(element).backgroundColor), ground(element.parentElement));
  };
  const light = colour => {
    const [r, g, b] = colour.map(part => {
      const share = part / 255; return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = new Map();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), element = walk.currentNode.parentElement;
    if (!text || ["SCRIPT", "STYLE", "NOSCRIPT", "TEMPLATE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (!element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    if (box.width < 2 || box.height < 2 || element.closest("[disabled], [aria-disabled=true]")) continue;
    const below = ground(element), ink = over(read(style.color), below);
    const [a, b] = [light(ink), light(below)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize), bold = parseInt(style.fontWeight) >= 700;
    const enough = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    if (ratio < enough) {
      const told = `${ratio.toFixed(2)}: ${element.tagName.toLowerCase()} "${text.slice(0, 40)}"`;
      faint.set(told, `${told} rgb(${ink.map(Math.round)}) on rgb(${below.map(Math.round)})`);
    }
  }
  return [...faint.values()];
}"""
