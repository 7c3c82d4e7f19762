"""Log-in and log-out as a browser does them; and what another site's page cannot do with the session."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from sqlalchemy import select

from scheduler.store.access_tables import AuditLine
from tests.browser import OpenPage
from tests.web.browser.site import Site
from tests.web.people import PASSWORD, add_users


def log_in(opened: Page, name: str, password: str = PASSWORD) -> None:
    opened.get_by_label("Name").fill(name)
    opened.get_by_label("Password").fill(password)
    opened.get_by_role("button", name="Log in").click()


def test_one_logs_in_goes_where_one_wanted_to_and_logs_out(site: Site, page: OpenPage, cheap_passwords: None) -> None:
    add_users(site.database)
    opened = page(forgive=["401"])
    opened.goto(f"{site.url}/tasks?state=failed")
    log_in(opened, "viewer", "wrong")
    expect(opened.get_by_text("Name or password are wrong.")).to_be_visible()

    log_in(opened, "viewer")

    expect(opened).to_have_url(f"{site.url}/tasks?state=failed")
    expect(opened.get_by_role("link", name="Audit")).to_have_count(0)
    assert opened.evaluate("document.cookie") == ""
    opened.get_by_role("button", name="Log out").click()
    expect(opened).to_have_url(f"{site.url}/log-in")
    opened.go_back()
    expect(opened.get_by_role("button", name="Log in")).to_be_visible()  # no page of before comes out of a cache


def test_the_page_of_another_site_cannot_use_the_session(site: Site, page: OpenPage, cheap_passwords: None) -> None:
    add_users(site.database)
    opened = page(forgive=["403", "favicon.ico"])
    opened.goto(f"{site.url}/log-in")
    log_in(opened, "operator")
    expect(opened.get_by_role("button", name="Log out")).to_be_visible()

    opened.goto("about:blank")
    opened.set_content(f'<form method="post" action="{site.url}/log-out"><button>Win a prize</button></form>')
    opened.get_by_role("button").click()

    expect(opened.get_by_text("must come from a page of this service")).to_be_visible()
    opened.goto(site.url)
    expect(opened.get_by_role("button", name="Log out")).to_be_visible()
    with site.database.read() as session:
        actions = session.scalars(select(AuditLine.action).where(AuditLine.via == "session")).all()
    assert actions == ["log in"]
