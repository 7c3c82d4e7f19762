"""The whole page below a path of a host that serves other things too, in Chromium, behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from scheduler.store.database import Database
from tests.browser import OpenPage
from tests.builders import a_revision, a_schedule, a_spec, a_task
from tests.web.browser.path_proxy import proxied
from tests.web.browser.site import Site
from tests.web.people import PASSWORD, add_users

PATH = "/jobs"


@pytest.fixture
def below(site: Site, cheap_passwords: None) -> Iterator[str]:
    """Where the service is reached below the path, through a proxy."""
    fill(site.database, site.data)
    with proxied(site.port, PATH) as address:
        site.stop()
        site.base_url = f"{address}/"
        site.start()
        try:
            yield address
        finally:
            site.stop()
            site.base_url = None


def fill(database: Database, data: Path) -> None:
    add_users(database)
    with database.write() as session:
        revision = a_revision(session)
        args = {"source": "README.md"}
        schedule = a_schedule(session, a_spec(name="nightly", args=args), revision_id=revision.id)
        a_task(session, schedule=schedule, state="succeeded", result={"value": "<h1>Stock</h1>"}, result_kind="html")
        a_task(session, schedule=schedule, state="running")


def test_everything_works_below_a_path_and_asks_for_nothing_beside_it(below: str, page: OpenPage) -> None:
    opened = page()
    beside: list[str] = []
    opened.on(
        "request",
        lambda request: None if urlsplit(request.url).path.startswith(PATH) else beside.append(request.url),
    )

    opened.goto(f"{below}/tasks?state=running")
    opened.get_by_label("Name").fill("operator")
    opened.get_by_label("Password").fill(PASSWORD)
    opened.get_by_role("button", name="Log in").click()
    expect(opened).to_have_url(f"{below}/tasks?state=running")
    assert [(one["name"], one["path"]) for one in opened.context.cookies()] == [("scheduler", PATH)]

    for word in ("Schedules", "Day", "File", "Workers", "Now"):
        opened.get_by_role("navigation").first.get_by_role("link", name=word, exact=True).click()
        expect(opened.locator("nav [aria-current]")).to_have_text(word)
    expect(opened.locator("html[data-heard]")).to_have_count(1)  # news have come
    opened.locator("#running a").first.click()
    expect(opened.locator("html[data-heard]")).to_have_count(1)

    opened.keyboard.press("g")
    opened.keyboard.press("s")
    expect(opened).to_have_url(f"{below}/schedules")
    opened.locator("[data-search] input[type=search]").fill("night")
    expect(opened).to_have_url(f"{below}/schedules?q=night")
    opened.get_by_role("link", name="nightly", exact=True).click()
    opened.get_by_role("link", name="Run now").click()
    opened.get_by_role("button", name="Run now").click()
    expect(opened.get_by_text("nightly was asked for")).to_be_visible()
    assert urlsplit(opened.url).path.startswith(f"{PATH}/tasks/")

    opened.goto(f"{below}/tasks?state=succeeded")
    opened.locator("tbody a").first.click()
    expect(opened.frame_locator("iframe.own-page").locator("h1")).to_have_text("Stock")
    opened.get_by_role("button", name="Log out").click()
    expect(opened).to_have_url(f"{below}/log-in")
    assert opened.context.cookies() == []
    assert beside == []
