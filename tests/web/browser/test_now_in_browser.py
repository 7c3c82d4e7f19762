"""Now, Day, Workers and what stands round every page, in Chromium: they stay true while they are open."""

from __future__ import annotations

import datetime as dt
import re
import urllib.request
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import update
from sqlalchemy.orm import Session

from scheduler.clock import iso, utc_now
from scheduler.store import users
from scheduler.store.tables import Part, Schedule, Task
from scheduler.web.events import BEAT_EVERY, CHECK_EVERY
from tests.browser import OpenPage, faint_texts, overflow
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task, at
from tests.engine.page.test_now import all_parts, tick
from tests.proxy import PASS, SWALLOW, Proxy
from tests.waiting import wait_for
from tests.web.browser.site import Site
from tests.web.test_pages_that_watch import NASTY, a_busy_service

ROOT = Path(__file__).resolve().parents[3]
SECOND = dt.timedelta(seconds=1)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PATHS = ("/", "/day", "/workers", "/log-in")
HIDE, SHOW = (
    f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}});"
    "document.dispatchEvent(new Event('visibilitychange'))"
    for hidden in ("true", "false")
)
SERVER_IS_GONE = ("/events/now", "/static/", "ERR_CONNECTION")


def fill(site: Site, running: int = 0) -> int:
    """A busy service; the id of a task that waits in its queue."""
    with site.database.write() as session:
        a_busy_service(session)
        waiting = a_task(session, task="count_words", kind="adhoc", queue="adhoc", state="queued")
        for _ in range(running):
            a_task(session, task="count_words", kind="adhoc", queue="adhoc", state="running")
        return waiting.id


def begin(site: Site, task_id: int, **fields: object) -> None:
    with site.database.write() as session:
        values = {
            "state": "running",
            "attempt": 1,
            "token": "t",
            "lease_until": utc_now() + HOUR,
            "started_at": utc_now(),
        }
        session.execute(update(Task).where(Task.id == task_id).values({**values, **fields}))


def end(site: Site, task_id: int) -> None:
    with site.database.write() as session:
        session.execute(update(Task).where(Task.id == task_id).values(state="succeeded", finished_at=utc_now()))


def silence(site: Site, *parts: str) -> None:
    with site.database.write() as session:
        gone = update(Part).values(ticked_at=utc_now() - 2 * MINUTE)
        session.execute(gone.where(Part.part.in_(parts)) if parts else gone)


def a_user(session: Session) -> None:
    """From then on nobody is let in without a name."""
    users.add(session, "jana", "no hash of any password", "viewer")


def top_of(page: Page, selector: str) -> float:
    found = page.locator(selector).bounding_box()
    assert found is not None, selector
    return found["y"]


def serve_hasty(page: Page, before: str, after: str) -> None:
    """The script with another of its waiting times."""
    script = (ROOT / "scheduler/web/static/live.js").read_text()
    assert before in script
    hasty = script.replace(before, after)
    page.route("**/static/live.js*", lambda route: route.fulfill(body=hasty, content_type="text/javascript"))


def is_live(page: Page) -> None:
    """Wait until the page has had its first news."""
    expect(page.locator("html[data-heard]")).to_have_count(1)


# --- it stays true --------------------------------------------------------------------------------------------------


def test_now_shows_a_task_that_starts_and_ends_without_moving_what_is_read(site: Site, page: OpenPage) -> None:
    task_id = fill(site, running=12)
    opened = page(1280, 500)
    opened.goto(site.url)
    is_live(opened)
    opened.evaluate("window.isTheSame = true")
    opened.mouse.wheel(0, 700)
    wait_for(lambda: opened.evaluate("scrollY") > 300, what="the page to scroll")
    last = opened.locator("#running li:last-child a").first
    last.focus()
    words, anchor = last.inner_text(), opened.locator("#running li:last-child").get_attribute("id")
    place = top_of(opened, f"#{anchor}")

    begin(site, task_id, started_at=utc_now() - HOUR, progress={"done": 3, "total": 4, "message": "three files"})

    expect(opened.locator(f"#running-{task_id}")).to_contain_text("75 % three files")
    assert top_of(opened, f"#{anchor}") == pytest.approx(place, abs=2)
    assert opened.evaluate("document.activeElement.innerText") == words

    end(site, task_id)

    expect(opened.locator(f"#running-{task_id}")).to_have_count(0)
    assert top_of(opened, f"#{anchor}") == pytest.approx(place, abs=2)
    assert opened.evaluate("[document.activeElement.innerText, window.isTheSame]") == [words, True]


def test_what_is_marked_on_the_page_stays_marked_until_it_is_let_go(site: Site, page: OpenPage) -> None:
    fill(site)
    opened = page()
    opened.goto(site.url)
    is_live(opened)
    opened.locator("#failing .error").select_text()

    with site.database.write() as session:
        session.execute(update(Schedule).where(Schedule.name == "invoices").values(failures_in_a_row=7))

    expect(opened.locator("#verdict")).to_contain_text("failing")
    opened.wait_for_timeout(1500)
    assert opened.evaluate("getSelection().toString()") == "ConnectionError: billing does not answer"
    expect(opened.locator("#failing")).to_contain_text("3 times in a row")

    opened.evaluate("getSelection().removeAllRanges()")

    expect(opened.locator("#failing")).to_contain_text("7 times in a row")


def test_times_count_on_by_themselves_also_when_no_news_comes(site: Site, page: OpenPage) -> None:
    with site.database.write() as session:
        all_parts(session)
        a_task(session, schedule=a_schedule(session), fire_time=utc_now() + 10 * MINUTE)
        a_task(session, state="running", started_at=utc_now() - 20 * SECOND)
    opened = page(forgive=SERVER_IS_GONE)
    opened.route("**/events/now", lambda route: route.abort())
    opened.goto(site.url)
    counting = opened.locator("#running time[data-since]")

    first = counting.inner_text()

    expect(counting).not_to_have_text(first)
    assert re.fullmatch(r"2\d s", first)
    assert opened.locator("#coming time[data-until]").inner_text() in ("10 m", "9 m")


def test_times_can_be_told_by_another_clock_and_stay_so(site: Site, page: OpenPage) -> None:
    fire_time = utc_now().replace(hour=12, minute=34, second=56, microsecond=0)
    with site.database.write() as session:
        all_parts(session)
        revision = a_revision(session, book={"timezone": "Asia/Tokyo"})
        schedule = a_schedule(session, a_spec(name="nightly"), revision_id=revision.id)
        a_task(session, schedule=schedule, fire_time=fire_time, state="missed", finished_at=utc_now())
    opened = page(timezone_id="America/Bogota")
    opened.goto(site.url)
    told, choice = opened.locator("#missed time"), opened.locator("[data-times]")
    expect(told).to_contain_text("21:34")

    choice.select_option("utc")
    expect(told).to_have_text(re.compile(r"12:34.* UTC"))
    choice.select_option("browser")
    expect(told).to_contain_text("07:34")
    opened.reload()
    is_live(opened)
    expect(told).to_contain_text("07:34")
    expect(opened.locator("footer")).to_contain_text("Times are of this browser (America/Bogota)")
    choice.select_option("page")
    expect(told).to_contain_text("21:34")


# --- it never says that all is well when it is not ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        pytest.param((), "No part of the service has ticked for 2 m: nothing starts", id="all"),
        pytest.param(("dispatcher",), "The dispatcher has not ticked for 2 m", id="dispatcher"),
        pytest.param(("keeper",), "The keeper has not ticked for 2 m", id="keeper"),
    ],
)
def test_now_is_not_green_when_the_scheduler_dies_under_it(
    site: Site, page: OpenPage, parts: tuple[str, ...], told: str
) -> None:
    with site.database.write() as session:
        all_parts(session)
        if parts:
            tick(session, "web")
    opened = page()
    opened.goto(site.url)
    expect(opened.locator(".verdict.is-good")).to_be_visible()
    expect(opened).to_have_title("✓ Now · jobs")

    silence(site, *parts)

    expect(opened.locator(".verdict.is-bad")).to_be_visible()
    expect(opened.locator(".verdict.is-good")).to_have_count(0)
    expect(opened.locator("#troubles")).to_contain_text(told)
    expect(opened).to_have_title("✗ Now · jobs")


def test_a_page_on_which_everything_is_marked_tells_all_the_same_when_the_scheduler_dies(
    site: Site, page: OpenPage
) -> None:
    with site.database.write() as session:
        all_parts(session)
    opened = page()
    opened.goto(site.url)
    is_live(opened)
    opened.keyboard.press("Control+a")

    silence(site)

    expect(opened.locator(".verdict.is-bad")).to_be_visible()
    expect(opened.locator("#troubles")).to_contain_text("No part of the service has ticked")
    assert opened.evaluate("getSelection().isCollapsed") is False


def test_a_page_that_is_cut_off_says_so_greys_and_comes_back(site: Site, page: OpenPage) -> None:
    with site.database.write() as session:
        all_parts(session)
    opened = page(forgive=SERVER_IS_GONE)
    opened.goto(site.url)
    is_live(opened)
    opened.evaluate("window.isTheSame = true")
    green = opened.evaluate("getComputedStyle(document.querySelector('.verdict')).backgroundColor")

    site.stop()

    notice = opened.locator("#cut-off")
    expect(notice).to_be_visible()
    expect(notice).to_have_text(re.compile(r"Cut off since \d\d:\d\d:\d\d; trying again\."))
    assert opened.evaluate("getComputedStyle(document.querySelector('main')).filter") == "grayscale(1)"
    assert opened.evaluate("getComputedStyle(document.querySelector('.verdict')).backgroundColor") != green
    expect(opened).to_have_title("cut off · Now · jobs")
    for scheme in SCHEMES:
        opened.emulate_media(color_scheme=scheme)
        assert faint_texts(opened) == []

    opened.emulate_media(color_scheme="light")
    with site.database.write() as session:
        all_parts(session)
    site.start()

    expect(notice).to_be_hidden()
    expect(opened.locator(".verdict.is-good")).to_be_visible()
    assert opened.evaluate("getComputedStyle(document.querySelector('.verdict')).backgroundColor") == green
    assert opened.evaluate("window.isTheSame") is True
    expect(opened).to_have_title("✓ Now · jobs")


def test_a_network_that_swallows_everything_is_noticed_wherever_one_reads(site: Site, page: OpenPage) -> None:
    with site.database.write() as session:
        all_parts(session)
    opened = page(1280, 400, forgive=SERVER_IS_GONE)
    serve_hasty(opened, "SILENT_AFTER = 15_000", "SILENT_AFTER = 2_000")
    site.app.state.events.beat_every = 0.5
    with Proxy("127.0.0.1", site.port) as proxy:
        opened.goto(f"http://127.0.0.1:{proxy.port}/")
        is_live(opened)
        opened.mouse.wheel(0, 500)

        proxy.set(SWALLOW)

        expect(opened.locator("#cut-off")).to_be_in_viewport()
        assert proxy.faults("swallow")
        proxy.set(PASS)
        expect(opened.locator("#cut-off")).to_be_hidden()
        opened.close()
    site.app.state.events.beat_every = BEAT_EVERY


# --- keys -----------------------------------------------------------------------------------------------------------


def test_keys_lead_from_page_to_page(site: Site, page: OpenPage) -> None:
    opened = page()
    opened.goto(site.url)

    for keys, path in (("gw", "/workers"), ("gd", "/day"), ("gn", "/")):
        for key in keys:
            opened.keyboard.press(key)
        opened.wait_for_url(f"{site.url}{path}")


def test_a_slash_searches_and_escape_lets_go(site: Site, page: OpenPage) -> None:
    opened = page()
    opened.goto(f"{site.url}/workers")

    opened.keyboard.press("/")
    opened.keyboard.type("gn")  # letters of a search, no keys that lead away

    field = opened.locator(".search input")
    expect(field).to_be_focused()
    expect(field).to_have_value("gn")
    opened.keyboard.press("Escape")
    expect(field).not_to_be_focused()
    assert opened.url == f"{site.url}/workers"


def test_a_question_mark_shows_the_keys(site: Site, page: OpenPage) -> None:
    opened = page()
    opened.goto(site.url)
    help_ = opened.locator("#help")

    opened.keyboard.press("?")
    expect(help_).to_be_visible()
    expect(help_).to_contain_text("search, or filter what is shown")
    opened.keyboard.press("Escape")
    expect(help_).to_be_hidden()

    opened.locator("[data-help]").click()
    expect(help_).to_be_visible()


def test_keys_can_be_switched_off(site: Site, page: OpenPage) -> None:
    opened = page()
    opened.goto(site.url)
    opened.locator("[data-help]").click()
    opened.get_by_label("Keys are on in this browser").uncheck()
    opened.get_by_role("button", name="Close").click()

    opened.reload()
    for key in ("g", "w", "?", "/"):
        opened.keyboard.press(key)

    expect(opened.locator("#help")).to_be_hidden()
    expect(opened.locator(".search input")).not_to_be_focused()
    assert opened.url == f"{site.url}/"
    opened.locator("[data-help]").click()
    expect(opened.get_by_label("Keys are on in this browser")).not_to_be_checked()


# --- it can be read by all, everywhere ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_every_page_is_read_in_light_and_dark_on_a_phone_and_on_a_desk(site: Site, page: OpenPage, path: str) -> None:
    fill(site, running=2)
    if path == "/log-in":
        with site.database.write() as session:
            a_user(session)
    opened = page(360, 780)
    opened.goto(f"{site.url}{path}")

    for scheme in SCHEMES:
        opened.emulate_media(color_scheme=scheme)
        for width in (360, 700, 1280):
            opened.set_viewport_size({"width": width, "height": 780})

            assert overflow(opened) == 0, (width, scheme)
            assert faint_texts(opened) == [], (width, scheme)


LANE = """name => {
    const lane = [...document.querySelectorAll(".lane")].find(one => one.querySelector("a").textContent === name);
    return [".name", ".half", ".half + .half"].map(part => lane.querySelector(part).getBoundingClientRect().toJSON());
}"""
BOXES_SCROLLED_ASIDE = """[...document.querySelectorAll("main *")]
    .filter(one => one.scrollWidth > one.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(one).overflowX))
    .map(one => one.outerHTML.slice(0, 80))"""


def test_on_a_phone_a_day_is_two_halves_under_the_name_and_nothing_is_scrolled_aside(
    site: Site, page: OpenPage
) -> None:
    name = "backup-of-all-customers-with-all-that-they-have-ever-sent-to-us"
    with site.database.write() as session:
        schedule = a_schedule(session, a_spec(name=name, every=HOUR))
        night = at("01:00", "2026-11-23")
        ran = {"state": "failed", "fire_time": night, "started_at": night, "finished_at": night + 20 * SECOND}
        task = a_task(session, schedule=schedule, **ran).id
    opened = page(360, 740, java_script_enabled=False)

    opened.goto(f"{site.url}/day?date=2026-11-23")

    assert overflow(opened) == 0
    assert opened.evaluate(BOXES_SCROLLED_ASIDE) == []
    told, morning, afternoon = opened.evaluate(LANE, name)
    assert told["bottom"] <= morning["top"] < morning["bottom"] <= afternoon["top"]
    assert (morning["left"], morning["width"]) == (afternoon["left"], afternoon["width"])
    assert morning["width"] > 290
    expect(opened.locator(".lane", has_text=name)).to_contain_text("1 failed")

    link = opened.locator(f"a[href='/tasks/{task}']")
    link.scroll_into_view_if_needed()
    mark = link.bounding_box()
    assert mark is not None
    opened.mouse.click(mark["x"] + mark["width"] / 2 + 6, mark["y"] + mark["height"] / 2)  # a thumb is broad
    opened.wait_for_url(f"**/tasks/{task}")


def test_on_a_desk_a_day_is_one_line_beside_its_name(site: Site, page: OpenPage) -> None:
    fill(site)
    opened = page(1000, 780)

    opened.goto(f"{site.url}/day")

    name, morning, afternoon = opened.evaluate(LANE, "nightly")
    assert name["right"] <= morning["left"]
    assert morning["right"] == pytest.approx(afternoon["left"], abs=0.1)
    assert morning["top"] == afternoon["top"] == pytest.approx(name["top"], abs=6)
    assert opened.evaluate(BOXES_SCROLLED_ASIDE) == []


def test_without_scripts_everything_stands_there_too(site: Site, page: OpenPage) -> None:
    fill(site)
    opened = page(java_script_enabled=False)

    opened.goto(site.url)

    expect(opened.locator("#verdict")).to_contain_text("2 schedules, 1 failing")
    expect(opened.locator("#running")).to_contain_text("41 % product pictures")
    expect(opened.locator("[data-help]")).to_be_hidden()
    opened.get_by_role("link", name="Day").first.click()
    expect(opened.locator("h1")).to_contain_text(str(utc_now().year))


@pytest.mark.parametrize("path", ["/", "/day", "/workers"])
def test_no_name_no_error_and_no_reason_becomes_more_than_text(site: Site, page: OpenPage, path: str) -> None:
    now = utc_now()
    with site.database.write() as session:
        all_parts(session)
        schedule = a_schedule(session, a_spec(name=NASTY[:64], owner=NASTY), failures_in_a_row=1)
        error = {"type": NASTY, "message": NASTY}
        a_task(session, schedule=schedule, fire_time=now - HOUR, state="failed", error=error)
        a_task(session, schedule=schedule, fire_time=now - MINUTE, state="missed", reason=NASTY)
    opened = page()
    dialogs: list[str] = []
    opened.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    opened.goto(f"{site.url}{path}")
    if path != "/day":
        is_live(opened)

    with site.database.write() as session:  # and when it comes as news
        running = {"done": 1, "message": NASTY, "at": iso(now)}
        a_task(session, task=NASTY[:64], kind="adhoc", state="running", queue=NASTY[:60], progress=running)
        tick(session, "worker-adhoc", queue=NASTY)
    if path != "/day":
        expect(opened.locator("#queues")).to_contain_text("onerror")

    assert opened.evaluate("document.querySelectorAll('img, main script').length") == 0
    assert dialogs == []


def test_an_open_page_goes_to_the_log_in_when_its_session_ends(site: Site, page: OpenPage) -> None:
    site.app.state.events.check_every = 0.2
    with site.database.write() as session:
        all_parts(session)
    opened = page(forgive=("401", "/events/now"))
    opened.goto(site.url)
    is_live(opened)

    with site.database.write() as session:
        a_user(session)

    opened.wait_for_url(re.compile("/log-in"))
    expect(opened.get_by_label("Password")).to_be_visible()
    site.app.state.events.check_every = CHECK_EVERY


def test_who_was_logged_out_while_cut_off_is_shown_the_way_in(site: Site, page: OpenPage) -> None:
    with site.database.write() as session:
        all_parts(session)
    opened = page(forgive=(*SERVER_IS_GONE, "401"))
    opened.goto(site.url)
    is_live(opened)
    site.stop()
    expect(opened.locator("#cut-off")).to_be_visible()

    with site.database.write() as session:
        a_user(session)
    site.start()

    opened.wait_for_url(re.compile("/log-in"))


def test_a_page_that_nobody_sees_stops_asking_and_catches_up_when_it_is_seen(site: Site, page: OpenPage) -> None:
    task_id = fill(site)
    opened = page()
    serve_hasty(opened, "HIDDEN_FOR = 10_000", "HIDDEN_FOR = 50")
    opened.goto(site.url)
    is_live(opened)

    opened.evaluate(HIDE)
    wait_for(lambda: not site.app.state.events.is_asking, what="the page to stop asking")
    begin(site, task_id)
    opened.evaluate(SHOW)

    expect(opened.locator(f"#running-{task_id}")).to_be_visible()
    expect(opened.locator("#cut-off")).to_be_hidden()


def test_news_are_never_kept_by_anyone_in_between(site: Site) -> None:
    with urllib.request.urlopen(f"{site.url}/events/now", timeout=30) as answer:
        headers, first = answer.headers, answer.readline()

    assert first == b"event: beat\n"
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Accel-Buffering"] == "no"
    assert "unsafe" not in headers["Content-Security-Policy"]
