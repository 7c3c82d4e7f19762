"""How pages are written: Jinja templates with autoescape on, and the words and filters that all of them share.

Filters give text, never HTML: what needs tags is a macro of macros.html.jinja, and pictures are drawn by charts.py.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

import scheduler
from scheduler.clock import iso, parse_iso, utc_now
from scheduler.engine.page.frame import service_zone
from scheduler.rules import states
from scheduler.rules.brief import brief
from scheduler.rules.times.moments import zone_named
from scheduler.settings import Settings
from scheduler.web.below import outer
from scheduler.web.callers import ADMIN, OPERATOR, Caller

HERE = Path(__file__).parent
Moment = dt.datetime | str  # a text is ISO 8601, as the engine's answers have it

# Each state's sign stands before its word, so that none is told by colour alone.
SIGNS = {
    states.PLANNED: "○",
    states.QUEUED: "◔",
    states.RUNNING: "▶",
    states.RETRYING: "↻",
    states.SUCCEEDED: "✓",
    states.FAILED: "✗",
    states.SKIPPED: "–",
    states.MISSED: "!",
    states.CANCELLED: "⊘",
    states.LOST: "?",
    # of schedules and of parts
    "active": "✓",
    "paused": "‖",
    "parked": "⊟",
    "retired": "–",
    "late": "!",
    "silent": "✗",
}

NAVIGATION = (
    ("/", "Now"),
    ("/schedules", "Schedules"),
    ("/tasks", "Tasks"),
    ("/day", "Day"),
    ("/file", "File"),
    ("/workers", "Workers"),
    ("/audit", "Audit"),
)


# --- filters --------------------------------------------------------------------------------------------------------


def moment_of(value: Moment) -> dt.datetime:
    return parse_iso(value) if isinstance(value, str) else value


def iso_of(value: Moment) -> str:
    return iso(moment_of(value)) or ""


def utc(value: Moment) -> str:
    """In full, for the hover: `2026-11-24 06:30:05 UTC`."""
    return f"{moment_of(value).astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def local(value: Moment, zone: str, now: dt.datetime) -> str:
    """A moment in `zone`, as short as the day of `now` allows: `07:30:05`, `Mon 23 Nov 07:30`, `2025-11-23 07:30`.

    >>> local("2026-11-23T06:30:00Z", "Europe/Berlin", parse_iso("2026-11-24T06:00:00Z"))
    'Mon 23 Nov 07:30'
    """
    when, today = (one.astimezone(zone_named(zone)) for one in (moment_of(value), now))
    if when.date() == today.date():
        return f"{when:%H:%M:%S}"
    if when.year == today.year or abs(when - today) < dt.timedelta(days=90):
        return f"{when:%a} {when.day} {when:%b %H:%M}"
    return f"{when:%Y-%m-%d %H:%M}"


def local_full(value: Moment, zone: str) -> str:
    """In full: `Mon 2026-11-23 07:30:00 CET`."""
    return f"{moment_of(value).astimezone(zone_named(zone)):%a %Y-%m-%d %H:%M:%S %Z}"


def local_day(value: Moment, zone: str) -> str:
    """The day that it is in the zone: `2026-11-23`."""
    return f"{moment_of(value).astimezone(zone_named(zone)):%Y-%m-%d}"


def offset(value: Moment, zone: str) -> str:
    """What the zone is called at that moment: `CET`, `+03`."""
    return f"{moment_of(value).astimezone(ZoneInfo(zone)):%Z}"


def lasting(value: float | dt.timedelta | None, units: int = 1) -> str:
    """How long, in a word: `2 m`; "" for None. A number is seconds."""
    if value is None:
        return ""
    return brief(value if isinstance(value, dt.timedelta) else dt.timedelta(seconds=value), units)


def counting(seconds: float) -> str:
    """The same in whole seconds, as live.js goes on counting: `0 s`, `59 s`, `2 m`."""
    return brief(dt.timedelta(seconds=int(seconds))) if seconds >= 1 else "0 s"


def seconds_since(value: Moment, now: dt.datetime) -> float:
    """Negative for what is still to come."""
    return (now - moment_of(value)).total_seconds()


def thousands(number: float) -> str:
    """`1,234,567`."""
    return f"{number:,}"


def sign(state: str) -> str:
    """The state's sign, such as ✓; • for a word that is no state."""
    return SIGNS.get(state, "•")


def plural(number: int, word: str, more: str = "") -> str:
    """`1 schedule`, `2,000 schedules`; `more` for words that do not just get an s."""
    return f"{number:,} {word if number == 1 else more or word + 's'}"


def size(number: float) -> str:
    """Bytes as people read them: `0 B`, `1.5 kB`, `23 MB`.

    >>> size(1536), size(23_000_000)
    ('1.5 kB', '23 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1000
    return ""


FILTERS = {
    "iso": iso_of,
    "utc": utc,
    "local": local,
    "local_full": local_full,
    "local_day": local_day,
    "offset": offset,
    "lasting": lasting,
    "counting": counting,
    "seconds_since": seconds_since,
    "thousands": thousands,
    "sign": sign,
    "plural": plural,
    "size": size,
}


# --- pages ----------------------------------------------------------------------------------------------------------


@cache
def static(name: str) -> str:
    """The address of a static file; it changes with the content, so that no browser shows yesterday's."""
    content = (HERE / "static" / name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:10]}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.globals.update(
        static=static,
        navigation=NAVIGATION,
        version=scheduler.__version__,
        OPERATOR=OPERATOR,
        ADMIN=ADMIN,
    )
    return environment


ENVIRONMENT = _environment()


def page(request: Request, caller: Caller | None, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page as it goes out.

    Every template also knows `caller` (None: nobody has logged in), `service`, `root` (below which path it stands; see
    below.py), `path`, `zone` (of the service; a page about one schedule gives the schedule's) and `now`.
    """
    text = ENVIRONMENT.get_template(template).render({**_shared(request, caller), **values})
    return HTMLResponse(outer(text, request.app.state.settings.web_path), status)


def regions(template: str, names: Sequence[str], settings: Settings, **values: Any) -> dict[str, str]:
    """The parts of a page that change while it is open, by name: the macros of `template` without arguments."""
    module = ENVIRONMENT.get_template(template).make_module({"service": settings.name, **values})
    return {name: outer(str(getattr(module, name)()), settings.web_path) for name in names}


def _shared(request: Request, caller: Caller | None) -> dict[str, Any]:
    state = request.app.state
    return {
        "caller": caller,
        "service": state.settings.name,
        "root": state.settings.web_path,
        "path": request.url.path,
        "zone": service_zone(state.backends.database),
        "now": utc_now(),
    }
