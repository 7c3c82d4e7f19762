"""The pictures of a digest: the trend of runs and failures, and a strip for each schedule in trouble.

Drawn at twice the size they are shown at, on a background of their own, since a mail program may be dark. Colour never
stands alone: what failed has a cross, what did not run a hollow bar.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from scheduler.rules.mail.digest import Bar, DigestSaid, Strip, moment

SCALE = 2
WIDTH = 400  # the column is 300 to 536 wide: what is drawn for the middle can be read at both
TREND_HEIGHT, STRIP_HEIGHT = 110, 24
NAMES_WIDTH = 134
PAPER, INK, LINE = "#ffffff", "#1f2933", "#cbd2d9"
GOOD, BAD, OTHER, EMPTY = "#2f855a", "#c53030", "#975a16", "#e4e7eb"


@dataclass(frozen=True)
class Picture:
    png: bytes
    alt: str  # carries the numbers
    width: int  # as shown
    height: int


def digest_pictures(said: DigestSaid) -> dict[str, Picture]:
    """The pictures by name; none where there is nothing to draw."""
    found = {}
    if any(bar.ok or bar.bad or bar.other for bar in said.bars):
        found["trend"] = _trend(said.bars, said.zone)
    if said.strips:
        found["strips"] = _strips(said.strips)
    return found


def _trend(bars: Sequence[Bar], zone: str) -> Picture:
    image, draw = _canvas(TREND_HEIGHT)
    top, bottom = 16 * SCALE, (TREND_HEIGHT - 18) * SCALE
    most = max(bar.ok + bar.bad + bar.other for bar in bars)
    step = WIDTH * SCALE / len(bars)
    for number, bar in enumerate(bars):
        left, right = int(number * step + step * 0.12), int((number + 1) * step - step * 0.12)
        edge = bottom
        for count, colour in ((bar.ok, GOOD), (bar.other, OTHER), (bar.bad, BAD)):
            if not count:
                continue
            # One failure of 10,000 is still seen: each part has three points more than its share.
            height = 3 * SCALE + (bottom - top - 9 * SCALE) * count // most
            upper = edge - height
            if colour == OTHER:
                draw.rectangle((left, upper, right, edge - SCALE), PAPER, OTHER, 2 * SCALE)
            else:
                draw.rectangle((left, upper, right, edge - SCALE), colour)
            edge = upper
        if bar.bad:
            draw.text(((left + right) / 2, edge - 2), f"{bar.bad}", BAD, _font(12), anchor="ms")
    draw.line((0, bottom, WIDTH * SCALE, bottom), LINE, SCALE)
    foot = (TREND_HEIGHT - 4) * SCALE
    draw.text((4, foot), moment(bars[0].start, zone), INK, _font(12), anchor="ls")
    draw.text((WIDTH * SCALE - 4, foot), f"highest bar: {most:,}", INK, _font(12), anchor="rs")
    total = {word: sum(getattr(bar, word) for bar in bars) for word in ("ok", "bad", "other")}
    alt = f"Trend: {total['ok']:,} ok, {total['bad']:,} failed, {total['other']:,} not run; failed by bar: "
    return Picture(_png(image), alt + " ".join(str(bar.bad) for bar in bars), WIDTH, TREND_HEIGHT)


def _strips(strips: Sequence[Strip]) -> Picture:
    image, draw = _canvas(STRIP_HEIGHT * len(strips))
    for number, strip in enumerate(strips):
        top = number * STRIP_HEIGHT * SCALE
        draw.text((4, top + STRIP_HEIGHT * SCALE / 2), _cut(strip.name, draw), INK, _font(12), anchor="lm")
        step = (WIDTH - NAMES_WIDTH) * SCALE / len(strip.bars)
        for place, bar in enumerate(strip.bars):
            left = NAMES_WIDTH * SCALE + int(place * step)
            _cell(draw, bar, (left, top + 4 * SCALE, int(left + step - 2 * SCALE), top + (STRIP_HEIGHT - 4) * SCALE))
    alt = "; ".join(f"{strip.name}: {_counted(strip)}" for strip in strips)
    return Picture(_png(image), alt, WIDTH, STRIP_HEIGHT * len(strips))


def _cell(draw: ImageDraw.ImageDraw, bar: Bar, box: tuple[int, int, int, int]) -> None:
    """Bad outweighs the rest: one failure among many runs is what one looks for."""
    left, top, right, bottom = box
    middle, centre, arm = (left + right) / 2, (top + bottom) / 2, 4 * SCALE
    if bar.bad:
        draw.rectangle(box, BAD)
        for slope in (1, -1):
            draw.line((middle - arm, centre - slope * arm, middle + arm, centre + slope * arm), PAPER, 2 * SCALE)
    elif bar.other:
        draw.rectangle(box, PAPER, OTHER, 2 * SCALE)
        draw.line((middle - arm, centre, middle + arm, centre), OTHER, 2 * SCALE)
    else:
        draw.rectangle(box, GOOD if bar.ok else EMPTY)


def _counted(strip: Strip) -> str:
    total = {word: sum(getattr(bar, word) for bar in strip.bars) for word in ("ok", "bad", "other")}
    return f"{total['ok']} ok, {total['bad']} failed, {total['other']} not run"


def _cut(name: str, draw: ImageDraw.ImageDraw) -> str:
    room = (NAMES_WIDTH - 10) * SCALE
    while draw.textlength(name, _font(12)) > room:
        name = name[:-2].rstrip("…") + "…"
    return name


def _canvas(height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), PAPER)
    return image, ImageDraw.Draw(image)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SCALE)  # Pillow's own, so that no font need be installed


def _png(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.quantize(32, dither=Image.Dither.NONE).save(target, "PNG", optimize=True)
    return target.getvalue()
