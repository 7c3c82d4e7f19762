"""Who asks for something, how that is known, and from where: what the audit keeps of it."""

from __future__ import annotations

from dataclasses import dataclass

CLI, FILE, SESSION, TOKEN, PROXY, OPEN = "cli", "file", "session", "token", "proxy", "open"


@dataclass(frozen=True)
class Once:
    """The key by which a program may repeat a request, and a hash of what it asked for."""

    key: str
    request_hash: str


@dataclass(frozen=True)
class Asker:
    """`address` is that of a browser or program, or the host's name; `once` is kept along with what is done."""

    name: str
    via: str = CLI
    address: str = ""
    once: Once | None = None
