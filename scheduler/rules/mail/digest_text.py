"""The text part of a digest: what is read where no HTML is, and what the tests hold still."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from scheduler.rules.mail.digest import DigestSaid, Row, Section

WIDTH = 78  # what a mail program shows without breaking lines


def digest_text(said: DigestSaid) -> str:
    """The whole text; ends with a line end."""
    blocks = [_wrapped(said.sentence), *("\n".join(_section(one)) for one in said.sections)]
    if said.closing:
        blocks.append("\n".join(_wrapped(line) for line in said.closing))
    return "\n\n".join(blocks) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield section.title.upper()
    for row in section.rows:
        yield from _row(row)
    if section.more:
        yield f"  … and {section.more} more"


def _row(row: Row) -> Iterator[str]:
    yield _wrapped(row.head, "- ", "  ")
    for line in row.lines:
        yield _wrapped(line, "  ", "  ")
    if row.link:
        yield f"  {row.link}"


def _wrapped(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
