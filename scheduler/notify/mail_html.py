"""The HTML parts of mails: templates in one dress, set as tables that mail programs agree on.

css-inline moves the styles onto the elements, since many programs drop a style sheet; what is left of it, the dark
colours, is for those that keep it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import css_inline
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

TONES = {"bad": "#c53030", "warn": "#975a16", "good": "#2f855a", "plain": "#52606d"}
MARKS = {"bad": "×", "warn": "!", "good": "✓", "plain": ""}


def render(template: str, **values: Any) -> str:
    """A whole HTML document from a template of this folder; pictures are named by `cid:`."""
    html = _environment().get_template(template).render(tones=TONES, marks=MARKS, **values)
    return css_inline.inline(html, keep_style_tags=False, keep_at_rules=True, load_remote_stylesheets=False)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kept"] = _kept
    return environment


def _kept(text: str) -> Markup:
    """The text with no line end within «1 h 30 m» or a date."""
    units = re.sub(r"(?<=\d) (?=(?:ms|[dhms%])(?:\W|$))", "\u00a0", text)
    spans = re.sub(r"(?<=\d\u00a0[dhm]) (?=\d+\u00a0[hms])", "\u00a0", units)
    return Markup(re.sub(r"(\d{4}-\d\d-\d\d)", r'<span style="white-space: nowrap">\1</span>', str(escape(spans))))
