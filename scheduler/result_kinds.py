"""What a task function may return besides plain values: a text, a page, a link, files.

    from scheduler import File, Html, Link, Text

    return File("out/report.pdf")

A plain value, a str too, is stored as JSON.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """Text to read: shown as it is, line by line."""

    text: str


@dataclass(frozen=True)
class Html:
    """A page, or a part of one. It is shown in a sandbox; no script of it is run."""

    html: str


@dataclass(frozen=True)
class Link:
    """Where the result stands: an http or https URL."""

    url: str
    title: str = ""


@dataclass(frozen=True)
class File:
    """A file as the result, or as one of a list of them. It is copied into the data folder.

    `name` is what people see (the file's own name unless given); the copy has a name of the service's. With
    `keep=False` no copy is made: the row says where the file is, and it may be gone later.
    """

    path: str | os.PathLike[str]
    name: str | None = None
    media_type: str | None = None  # guessed by the name unless given
    keep: bool = True
