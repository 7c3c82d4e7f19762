"""The browser of the tests: what a page complains of fails its test, and what is not there is left out or missed."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import MISSING, OpenPage, faint_texts, is_here, overflow

ROOT = Path(__file__).resolve().parents[1]

BAD_PAGES = """
    import pytest

    @pytest.mark.parametrize("html", [
        "<p>Fine</p>",
        "<script>console.error('so it is told')</script>",
        "<script>nothing()</script>",
        "<img src='http://pictures.example.org/a.png'>",
    ], ids=["fine", "console", "script", "elsewhere"])
    def test_page(page, html):
        page().set_content(html)

    def test_forgiven(page):
        page(forgive=["expected"]).set_content("<script>console.error('expected')</script>")
"""


def run_pytest(folder: Path, source: str, **environment: str) -> tuple[int, str]:
    (folder / "test_pages.py").write_text("if True:\n" + source)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.browser", "-p", "no:randomly", f"--rootdir={folder}", "-rA"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return ended.returncode, ended.stdout


def test_what_a_page_complains_of_fails_its_test(page: OpenPage, tmp_path: Path) -> None:
    _, told = run_pytest(tmp_path, BAD_PAGES)

    words = {name: outcome for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\S+)", told, re.MULTILINE)}
    assert words == {
        "test_page[fine]": "PASSED",
        "test_page[console]": "ERROR",
        "test_page[script]": "ERROR",
        "test_page[elsewhere]": "ERROR",
        "test_forgiven": "PASSED",
    }, told
    assert "console: so it is told" in told
    assert "script: nothing is not defined" in told
    assert "asks http://pictures.example.org/a.png" in told


def test_without_chromium_its_tests_are_left_out_and_the_header_says_so(tmp_path: Path) -> None:
    source = "    def test_page(page): page()\n    def test_other(): assert True"

    status, told = run_pytest(tmp_path, source, CHROMIUM=str(tmp_path / "none"), SCHEDULER_TEST_BROWSER="")

    assert status == 0, told
    assert MISSING in told.splitlines()
    assert "1 passed, 1 deselected" in told


def test_without_chromium_its_tests_fail_where_they_are_required(tmp_path: Path) -> None:
    source = "    def test_page(page): page()"

    status, told = run_pytest(tmp_path, source, CHROMIUM=str(tmp_path / "none"), SCHEDULER_TEST_BROWSER="required")

    assert status == 1, told
    assert "1 error" in told
    assert MISSING in told


def test_between_browser_tests_a_loop_may_run_in_their_thread(browser: Browser) -> None:
    assert asyncio.run(asyncio.sleep(0, "ran")) == "ran"


@pytest.mark.parametrize(
    ("url", "is_so"),
    [
        ("http://127.0.0.1:8000/x", True),
        ("ws://localhost:1/", True),
        ("http://[::1]:1/", True),
        ("data:text/plain,a", True),
        ("https://example.org/", False),
        ("http://127.0.0.1.example.org/", False),
        ("http://10.0.0.1/", False),
    ],
)
def test_only_loopback_is_here(url: str, is_so: bool) -> None:
    assert is_here(url) is is_so


def test_what_must_be_scrolled_aside_is_measured(page: OpenPage) -> None:
    narrow = page(width=360)

    narrow.set_content('<body style="margin:0"><div style="width:400px">wide</div>')
    assert overflow(narrow) == 40

    narrow.set_content('<body style="margin:0"><div style="width:360px">fits</div>')
    assert overflow(narrow) == 0


@pytest.mark.parametrize(
    ("html", "faint"),
    [
        pytest.param("<p style='color:#767676'>grey", [], id="just enough on white"),
        pytest.param(
            "<p style='color:#777777'>grey",
            ['4.48: p "grey" rgb(119,119,119) on rgb(255,255,255)'],
            id="just too little",
        ),
        pytest.param("<p style='color:#888;font-size:24px'>grey", [], id="large letters need less"),
        pytest.param("<div style='background:#000'><p style='color:#fff'>white", [], id="the ground of a parent"),
        pytest.param(
            "<div style='background:rgba(0,0,0,0.5)'><p style='color:#000'>half",
            [],
            id="half-transparent grounds are mixed",
        ),
        pytest.param("<p style='color:#eee;display:none'>hidden", [], id="what is not seen"),
    ],
)
def test_faint_texts_are_told_with_their_contrast(page: OpenPage, html: str, faint: list[str]) -> None:
    opened = page()

    opened.set_content(html)

    assert faint_texts(opened) == faint


def test_the_paper_of_a_dark_page_is_dark(page: OpenPage) -> None:
    dark = page(scheme="dark")

    dark.set_content('<meta name="color-scheme" content="light dark"><p>ink</p><p style="color:#333">too dark</p>')

    assert [one.partition(" rgb(51,51,51) on ")[2] for one in faint_texts(dark)] == ["rgb(18,18,18)"]
