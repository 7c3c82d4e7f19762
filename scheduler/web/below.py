"""Below a path of a host that serves other things too, as https://ops.example/jobs/: what `base_url` says is put before
every address that goes out, and taken off those that come in.

All of the web part knows its own addresses alone, from `/` on. What leaves it passes here: pages, news for them, and
redirects. So no template and no link can forget the path.
"""

from __future__ import annotations

import re

from markupsafe import escape
from starlette.types import Scope

# Written by templates and charts.py alone: in what others wrote a quotation mark is `&#34;`.
_ADDRESS = re.compile(r' (href|src|action|data-live)="/(?!/)')


def outer(html: str, path: str) -> str:
    """The same page, or piece of one, with `path` before each address of ours.

    >>> outer('<a href="/tasks/7">7</a> <a href="https://example.org/">x</a>', "/jobs")
    '<a href="/jobs/tasks/7">7</a> <a href="https://example.org/">x</a>'
    """
    return _ADDRESS.sub(lambda found: f' {found[1]}="{escape(path)}/', html) if path else html


def outer_address(address: str, path: str) -> str:
    """An address that a browser is sent to; those elsewhere stay as they are."""
    return f"{path}{address}" if address.startswith("/") and not address.startswith("//") else address


def inner(scope: Scope, path: str) -> Scope:
    """The request as it would be without `path`. One that has none is answered too: it comes from this machine, or
    through a proxy that takes the path off."""
    asked = scope["path"]
    if not path or not (asked == path or asked.startswith(f"{path}/")):
        return scope
    raw = scope.get("raw_path", b"")
    return {**scope, "path": asked[len(path) :] or "/", "raw_path": raw.removeprefix(path.encode()) or b"/"}
