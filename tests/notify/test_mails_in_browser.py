"""Digests and alerts opened in Chromium, on a phone and on a desk, light and dark: readable, and asking for nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Literal

import pytest

from scheduler.notify.alert_html import alert_html
from scheduler.notify.digest_html import digest_html
from scheduler.notify.digest_pictures import Picture, digest_pictures
from scheduler.rules.mail.digest import digest_of
from tests.browser import OpenPage, faint_texts, overflow
from tests.rules.mail.alert_samples import SAID
from tests.rules.mail.digest_samples import SITUATIONS

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SHEET = "(one => [getComputedStyle(one).backgroundColor, one.offsetWidth])(document.querySelector('.sheet'))"
PICTURES = "[...document.images].map(one => one.naturalWidth && one.offsetWidth)"
GROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(29, 35, 43)"}


def with_pictures(html: str, pictures: Mapping[str, Picture]) -> str:
    """As a mail program shows it, with the attached pictures in their places."""
    for name, picture in pictures.items():
        html = html.replace(f"cid:{name}", f"data:image/png;base64,{base64.b64encode(picture.png).decode()}")
    return html


def digest_page(situation: str) -> str:
    said = digest_of(SITUATIONS[situation])
    pictures = digest_pictures(said)
    return with_pictures(digest_html(said, pictures), pictures)


PAGES = {
    **{f"digest, {name}": lambda name=name: digest_page(name) for name in SITUATIONS},
    **{f"alert, {name}": lambda name=name: alert_html(SAID[name]) for name in SAID},
}


@pytest.mark.parametrize("name", PAGES)
def test_a_mail_is_read_on_a_phone_and_on_a_desk_in_light_and_in_dark(page: OpenPage, name: str) -> None:
    opened = page(360, 780)
    opened.set_content(PAGES[name]())

    for scheme in SCHEMES:
        opened.emulate_media(color_scheme=scheme)
        for width in (360, 700):
            opened.set_viewport_size({"width": width, "height": 780})

            assert overflow(opened) == 0, (width, scheme)
            assert faint_texts(opened) == [], (width, scheme)
            assert opened.evaluate(SHEET) == [GROUNDS[scheme], min(width - 16, 600)], (width, scheme)
            assert [one for one in opened.evaluate(PICTURES) if not 0 < one <= min(width - 56, 536)] == []


def test_a_mail_is_read_also_where_the_style_sheet_is_dropped(page: OpenPage) -> None:
    """As by mail programs that keep only what stands on the elements."""
    opened = page(360, 780)
    for html in (digest_page("mixed"), alert_html(SAID["failed"])):
        head, _, rest = html.partition("<style")
        opened.set_content(head + rest.partition("</style>")[2])

        assert (overflow(opened), faint_texts(opened)) == (0, [])
