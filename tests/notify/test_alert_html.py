"""An alert as HTML: the same words as the text, small, and harmless whatever an error holds."""

from __future__ import annotations

import html
import re

import pytest

from scheduler.notify.alert_html import alert_html
from scheduler.rules.mail import alerts
from tests.rules.mail.alert_samples import CLOSE_MONTH, SAID, said, with_details


@pytest.mark.parametrize("name", SAID)
def test_the_html_says_what_the_text_says(name: str) -> None:
    told = SAID[name]

    page = alert_html(told)

    body = re.sub(r"<[^>]+>", " ", page.partition("<body")[2])
    words = " ".join(html.unescape(body).split())
    expected = [told.title, told.error, told.link_text if told.link else "", *told.closing]
    expected += [word for pair in told.facts if pair[0] not in ("error", "link") for word in pair]
    expected += [word for pair in told.advice for word in pair]
    assert [one for one in expected if " ".join(one.split()) not in words] == []
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ([told.link] if told.link else [])


def test_what_an_error_holds_stays_text() -> None:
    page = alert_html(said(alerts.OPENED, with_details(CLOSE_MONTH, error='<img src=x onerror="alert(1)"> </style>')))

    assert "<img" not in page
    assert "&lt;img src=x onerror=" in page
    assert "Feeds the 08:15 mail &lt;b&gt;." in page


def test_a_link_is_one_only_if_its_address_is_of_the_web() -> None:
    assert "<a " not in alert_html(said(alerts.OPENED, CLOSE_MONTH, base_url=None))


def test_the_styles_stand_on_the_elements_and_the_dark_ones_in_the_head() -> None:
    head, _, body = alert_html(SAID["failed"]).partition("<body")

    assert "prefers-color-scheme: dark" in head
    assert body.count('style="') > 10
    assert "<script" not in body
    assert "<form" not in body


@pytest.mark.parametrize("name", SAID)
def test_an_alert_is_small(name: str) -> None:
    assert len(alert_html(SAID[name]).encode()) < 12_000
