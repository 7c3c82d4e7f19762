"""A digest as HTML and pictures: the same words as the text, small, and harmless whatever a name holds."""

from __future__ import annotations

import dataclasses
import html
import io
import re

import pytest
from PIL import Image

from scheduler.notify.digest_html import digest_html
from scheduler.notify.digest_pictures import SCALE, digest_pictures
from scheduler.rules.mail.digest import Bar, Failing, digest_of
from tests.rules.mail.digest_samples import FRIDAY, MIXED, ONLY_MISSED, SITUATIONS, facts


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_html_says_what_the_text_says(situation: str) -> None:
    said = digest_of(SITUATIONS[situation])

    page = digest_html(said, digest_pictures(said))

    words = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page.partition("<body")[2])))
    told = [said.sentence, *said.closing]
    for section in said.sections:
        told.append(section.title)
        told.extend(word for row in section.rows for word in (row.head, *row.lines, row.link or ""))
    assert [one for one in told if re.sub(r"\s+", " ", one) not in words] == []


def test_the_styles_stand_on_the_elements_and_the_dark_ones_in_the_head() -> None:
    said = digest_of(MIXED)

    page = digest_html(said, digest_pictures(said))

    assert 'style="' in page.partition("<body")[2].partition("<table")[2]
    assert "prefers-color-scheme: dark" in page.partition("<body")[0]
    assert "max-width: 600px" in page
    assert re.findall(r'(?:src|href)="(?!cid:|https://jobs\.example\.org/tasks/)[^"]*"', page) == []
    assert "<script" not in page
    assert "<form" not in page


def test_what_a_name_or_an_error_holds_stays_text() -> None:
    evil = Failing("a", error='<img src=x onerror="alert(1)"> </style>')

    page = digest_html(digest_of(facts(failing=(evil,))), {})

    assert "<img" not in page
    assert "&lt;img src=x onerror=" in page


def test_without_a_base_url_nothing_is_a_link() -> None:
    assert "<a " not in digest_html(digest_of(ONLY_MISSED), {})


def test_pictures_are_small_opaque_and_told_in_words() -> None:
    pictures = digest_pictures(digest_of(MIXED))

    assert list(pictures) == ["trend", "strips"]
    assert pictures["trend"].alt == ("Trend: 4,286 ok, 10 failed, 14 not run; failed by bar: 0 0 1 1 5 0 0 0 0 1 1 1")
    assert pictures["strips"].alt.startswith("invoice-export: 2 ok, 3 failed, 0 not run; ledger-sync: 11 ok, 1 failed")
    for picture in pictures.values():
        image = Image.open(io.BytesIO(picture.png))
        assert (image.mode, image.size) == ("P", (picture.width * SCALE, picture.height * SCALE))
        assert "transparency" not in image.info
        assert len(picture.png) < 20_000


def test_the_largest_digest_stays_under_100_kb() -> None:
    failing = tuple(Failing(f"tenant-{number:03}", error=f"Error {number} " + "x" * 400) for number in range(500))
    full = dataclasses.replace(MIXED, schedules=600, failing=failing, unrun=MIXED.unrun * 40, slow=MIXED.slow * 40)
    said = digest_of(full)

    pictures = digest_pictures(said)

    size = len(digest_html(said, pictures).encode()) + sum(len(picture.png) * 4 // 3 for picture in pictures.values())
    assert size < 80_000  # what is left is for the text part


def test_one_run_in_a_span_can_be_drawn() -> None:
    bars = (Bar(FRIDAY, bad=1), Bar(FRIDAY), Bar(FRIDAY, other=1))

    assert list(digest_pictures(digest_of(facts(bars=bars, failing=(Failing("a"),))))) == ["trend"]
