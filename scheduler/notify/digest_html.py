"""The HTML part of a digest: the same sentences as the text part, set as a table that mail programs agree on.

css-inline moves the styles onto the elements, since many programs drop a style sheet; what is left of it, the dark
colours, is for those that keep it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import css_inline
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from scheduler.notify.digest_pictures import Picture
from scheduler.rules.digest import DigestSaid

TONES = {"bad": "#c53030", "warn": "#975a16", "good": "#2f855a", "plain": "#52606d"}
MARKS = {"bad": "×", "warn": "!", "good": "✓", "plain": ""}


def digest_html(said: DigestSaid, pictures: Mapping[str, Picture]) -> str:
    """A whole HTML document; the pictures are named by `cid:`."""
    tone = "good" if said.is_green else next((one.tone for one in said.sections if one.tone != "plain"), "plain")
    html = _template().render(said=said, pictures=pictures, tones=TONES, marks=MARKS, tone=tone)
    return css_inline.inline(html, keep_style_tags=False, keep_at_rules=True, load_remote_stylesheets=False)


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kept"] = _kept
    return environment.get_template("digest.html.jinja")


def _kept(text: str) -> str:
    """The text with no line end between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(?:ms|[dhms%])(?:\W|$))", "\u00a0", text)
