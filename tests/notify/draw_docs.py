"""Draws the pictures of mails in docs/ anew: `python -m tests.notify.draw_docs`."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from scheduler.notify.alert_html import alert_html
from tests.browser import FLAGS, MISSING, find_chromium
from tests.notify.test_mails_in_browser import digest_page
from tests.rules.mail.alert_samples import SAID

DOCS = Path(__file__).resolve().parents[2] / "docs"
GAP = 16  # pixels between two pictures side by side


def draw(browser: Browser, html: str, width: int, scheme: str = "light") -> Image.Image:
    context = browser.new_context(viewport={"width": width, "height": 200}, color_scheme=scheme)
    page = context.new_page()
    page.set_content(html)
    png = page.screenshot(full_page=True)
    context.close()
    return Image.open(io.BytesIO(png)).convert("RGB")


def beside(*images: Image.Image) -> Image.Image:
    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    whole = Image.new("RGB", (width, max(image.height for image in images)), "#ffffff")
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + GAP
    return whole


def save(image: Image.Image, name: str) -> None:
    image.quantize(200, dither=Image.Dither.NONE).save(DOCS / name, "PNG", optimize=True)


def main() -> None:
    program = find_chromium()
    if program is None:
        raise SystemExit(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        save(draw(browser, digest_page("mixed"), 700), "digest.png")
        save(draw(browser, digest_page("mixed"), 360, "dark"), "digest-phone.png")
        alert = alert_html(SAID["failed"])
        save(beside(draw(browser, alert, 700), draw(browser, alert, 360, "dark")), "alert.png")
        browser.close()


if __name__ == "__main__":
    main()
