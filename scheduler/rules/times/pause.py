"""A pause of a schedule: the operator's, the file's, or its own after failures."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pause:
    """Since when, by whom, why and until when a schedule fires nothing; it fires again at `until` itself."""

    since: dt.datetime
    by: str
    why: str = ""
    until: dt.datetime | None = None

    def covers(self, moment: dt.datetime) -> bool:
        return self.since < moment and (self.until is None or moment < self.until)

    def __str__(self) -> str:
        until = f" until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else ""
        return f"paused by {self.by}{until}" + (f": {self.why}" if self.why else "")


def stored_pause(held: Mapping[str, Any]) -> Pause:
    """A pause as its column holds it."""
    until = dt.datetime.fromisoformat(held["until"]) if held.get("until") else None
    return Pause(dt.datetime.fromisoformat(held["since"]), str(held["by"]), str(held.get("why") or ""), until)
