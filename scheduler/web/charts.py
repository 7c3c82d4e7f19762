"""The pictures of the pages, as SVG that the server draws: strips, heat maps, bars, lanes.

Pure: values go in, markup comes out, every text escaped. Each picture has a name for those who cannot see it and a
`<title>` for each thing in it; what a colour tells, a shape tells too. Colours are those of static/style.css, by class.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote
from zoneinfo import ZoneInfo

from markupsafe import Markup

from scheduler.engine.page.day import QUARTER, Day, Lane, Span
from scheduler.rules.brief import brief
from scheduler.rules.states import (
    CANCELLED,
    FAILED,
    LOST,
    MISSED,
    PLANNED,
    QUEUED,
    RETRYING,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
)

DAY = dt.timedelta(days=1)
WEEK = 7


@dataclass(frozen=True)
class Mark:
    """One run in a picture: how it ended (a state), what the hover says, and where a click leads ("": nowhere)."""

    state: str
    title: str
    href: str = ""


def tag(name: str, content: object = "", **attributes: object) -> Markup:
    """An element, its content and attributes escaped. `class_` is class; others have - for _; None is left out.

    >>> tag("title", "a < b"), tag("g", class_="x", aria_label='"')
    (Markup('<title>a &lt; b</title>'), Markup('<g class="x" aria-label="&#34;"></g>'))
    """
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    told = Markup("").join(Markup(' {}="{}"').format(Markup(key), _plain(value)) for key, value in named.items())
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), told, content)


def _plain(value: object) -> object:
    """Numbers as short as they can be: pages hold thousands of them."""
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _picture(label: str, width: float, height: float, content: Markup, class_: str = "", left: float = 0) -> Markup:
    return tag(
        "svg",
        tag("title", label) + content,
        class_=f"chart {class_}".strip(),
        role="group" if "<a " in content else "img",  # what can be followed is no mere picture
        aria_label=label,
        viewBox=f"{_plain(float(left))} 0 {_plain(float(width))} {_plain(float(height))}",
        width=float(width),
        height=float(height),
    )


def _linked(href: str, content: Markup) -> Markup:
    return tag("a", content, href=href) if href else content


# --- one run as a shape ---------------------------------------------------------------------------------------------

DASHES = {SKIPPED: (0.6,), CANCELLED: (0.42, 0.72)}  # at which share of the height


def shape(state: str, x: float, y: float, width: float, height: float, title: str = "") -> Markup:
    """A state as a box that differs by its form: full height for what went wrong, cut through, or hollow where nobody
    knows; hollow for what did not run; a dash for what was skipped, two for what was cancelled; lower for what went
    well, or goes on."""
    told = tag("title", title) if title else Markup("")
    box = {"x": x, "y": y, "width": width, "height": height}
    low = {**box, "y": y + height * 0.3, "height": height * 0.7}
    if state == LOST:
        return _hollow(state, told, **box)
    if state == FAILED:
        cut = f"M{_plain(x)} {_plain(y + height * 0.65)}L{_plain(x + width)} {_plain(y + height * 0.35)}"
        return tag("g", told + tag("rect", rx=1, **box) + tag("path", d=cut, class_="cut"), class_=state)
    if state in (MISSED, PLANNED):
        return _hollow(state, told, **low)
    if state in (SKIPPED, CANCELLED):
        dashes = [
            {"x": x, "y": y + height * at, "width": width, "height": max(height * 0.14, 2.0)} for at in DASHES[state]
        ]
        return tag("g", told + _joined(tag("rect", **one) for one in dashes), class_=state)
    if state in (RUNNING, QUEUED, RETRYING) and width <= height:
        dot = {"cx": x + width / 2, "cy": y + height * 0.65, "r": max(min(width, height) / 2, 1.5)}
        return tag("circle", told, class_=state, **dot)
    return tag("rect", told, class_=state, rx=1 if state == SUCCEEDED else 5, **low)


def _hollow(state: str, told: Markup, x: float, y: float, width: float, height: float) -> Markup:
    """A box of which only the rim is drawn, within the bounds."""
    inner = {"x": x + 0.75, "y": y + 0.75, "width": max(width - 1.5, 0.5), "height": height - 1.5}
    return tag("rect", told, class_=_class(state), rx=1, **inner)


def _class(state: str) -> str:
    return f"{state} hollow" if state in (MISSED, LOST) else state


def legend(states: Sequence[str], shades: Mapping[str, str] | None = None) -> Markup:
    """What the shapes mean; `shades` are words for what is shaded, by class."""
    drawn = [(shape(state, 3.0, 1.0, 8.0, 12.0), state) for state in states]
    drawn += [(tag("rect", class_=class_, width=14, height=14), word) for class_, word in (shades or {}).items()]
    return tag(
        "p",
        _joined(tag("span", tag("svg", form, class_="chart", aria_hidden="true") + word) for form, word in drawn),
        class_="legend",
    )


# --- the last outcomes of a schedule --------------------------------------------------------------------------------

STRIP_BAR, STRIP_STEP, STRIP_HEIGHT = 5, 6, 22


def strip(states: Sequence[str], most: int = 60) -> Markup:
    """The last outcomes, the newest at the right; at most `most` of them. About a kilobyte: for lists of schedules."""
    shown = states[-most:]
    paths: dict[str, list[str]] = {}
    for n, state in enumerate(shown, most - len(shown)):
        paths.setdefault(state, []).append(_outline(state, n * STRIP_STEP))
    drawn = _joined(tag("path", class_=_class(state), d="".join(parts)) for state, parts in paths.items())
    cuts = "".join(
        f"M{n * STRIP_STEP} 14l{STRIP_BAR}-5" for n, state in enumerate(shown, most - len(shown)) if state == FAILED
    )
    cut = tag("path", class_="cut", d=cuts) if cuts else Markup("")
    return _picture(_counted(shown), most * STRIP_STEP, STRIP_HEIGHT, drawn + cut, "strip")


def _outline(state: str, x: int) -> str:
    """The same forms as `shape`, as pieces of one path for all that share a state."""
    if state == FAILED:
        return f"M{x} 1h5v20h-5z"
    if state == LOST:
        return f"M{x}.75 1.75h3.5v18.5h-3.5z"
    if state in (MISSED, PLANNED):
        return f"M{x}.75 8h3.5v12h-3.5z"
    if state == SKIPPED:
        return f"M{x} 13h5v3h-5z"
    if state == CANCELLED:
        return f"M{x} 10h5v2.5h-5zM{x} 16h5v2.5h-5z"
    if state in (RUNNING, QUEUED, RETRYING):
        return f"M{x} 14l2.5-2.5 2.5 2.5-2.5 2.5z"
    return f"M{x} 7h5v14h-5z"


def linked_strip(marks: Sequence[Mark], most: int = 60) -> Markup:
    """The same, each outcome with its title and link; for the page of one schedule."""
    shown = marks[-most:]
    bars = _joined(
        _linked(mark.href, shape(mark.state, n * STRIP_STEP, 1, STRIP_BAR, STRIP_HEIGHT - 2, mark.title))
        for n, mark in enumerate(shown, most - len(shown))
    )
    return _picture(_counted([mark.state for mark in shown]), most * STRIP_STEP, STRIP_HEIGHT, bars, "strip")


def _counted(states: Sequence[str]) -> str:
    """«last 60: 57 succeeded, 2 failed, 1 skipped»."""
    if not states:
        return "nothing has ended yet"
    told = ", ".join(f"{number} {state}" for state, number in Counter(states).most_common())
    return f"last {len(states)}: {told}"


# --- a calendar -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DayTally:
    """How many runs of one local day ended how."""

    good: int = 0
    bad: int = 0  # failed, lost
    missed: int = 0
    other: int = 0  # skipped, cancelled


CELL, CELL_STEP, MAP_LEFT, MAP_TOP = 12, 14, 30, 16


def heat_map(tallies: Mapping[dt.date, DayTally], first: dt.date, last: dt.date, href: str = "") -> Markup:
    """A column a week, a row a weekday, Monday on top. Days on which something failed have a cross, days with missed
    runs a bar; else the darker, the more succeeded. `href` with {day} in it is where a day leads."""
    monday = first - dt.timedelta(days=first.weekday())
    days = [first + DAY * n for n in range((last - first).days + 1)]
    most = max((tallies[day].good for day in days if day in tallies), default=0)
    cells = []
    for day in days:
        column, row = divmod((day - monday).days, WEEK)
        x, y = MAP_LEFT + column * CELL_STEP, MAP_TOP + row * CELL_STEP
        tally = tallies.get(day, DayTally())
        cells.append(_linked(href.replace("{day}", day.isoformat()), _day_cell(day, tally, x, y, most)))
    weeks = (last - monday).days // WEEK + 1
    label = f"{first.isoformat()} to {last.isoformat()}: {_told_tally(_sum(tallies.values()))}"
    width, height = MAP_LEFT + weeks * CELL_STEP, MAP_TOP + WEEK * CELL_STEP
    return _picture(label, width, height, _map_words(days, monday) + _joined(cells), "heat-map")


def _day_cell(day: dt.date, tally: DayTally, x: int, y: int, most: int) -> Markup:
    title = tag("title", f"{day:%a} {day.isoformat()}: {_told_tally(tally)}")
    box = {"x": x, "y": y, "width": CELL, "height": CELL, "rx": 2}
    if tally.bad:
        cross = f"M{x + 3} {y + 3}l6 6m0-6l-6 6"
        return tag("g", title + tag("rect", class_="heat-bad", **box) + tag("path", d=cross, class_="cut"))
    if tally.missed:
        return tag(
            "g", title + tag("rect", class_="heat-warn", **box) + tag("path", d=f"M{x + 3} {y + 6}h6", class_="cut")
        )
    level = 0 if not tally.good else max(1, -(-4 * tally.good // most))
    return tag("rect", title, class_=f"heat-{level}", **box)


def _sum(tallies: Iterable[DayTally]) -> DayTally:
    good = bad = missed = other = 0
    for one in tallies:
        good, bad, missed, other = good + one.good, bad + one.bad, missed + one.missed, other + one.other
    return DayTally(good, bad, missed, other)


def _told_tally(tally: DayTally) -> str:
    pairs = (
        (tally.good, "succeeded"),
        (tally.bad, "failed"),
        (tally.missed, "missed"),
        (tally.other, "skipped or cancelled"),
    )
    return ", ".join(f"{number:,} {word}" for number, word in pairs if number) or "nothing ended"


def _map_words(days: Sequence[dt.date], monday: dt.date) -> Markup:
    rows = [
        tag("text", word, x=0, y=MAP_TOP + row * CELL_STEP + 10) for row, word in ((0, "Mon"), (3, "Thu"), (6, "Sun"))
    ]
    months = [
        tag("text", f"{day:%b}", x=MAP_LEFT + (day - monday).days // WEEK * CELL_STEP, y=11)
        for day in days
        if day.day == 1
    ]
    return _joined([*rows, *months])


# --- how long runs took ---------------------------------------------------------------------------------------------

BARS_WIDTH, BARS_HEIGHT, BARS_LEFT = 600, 130, 50
FEWEST_BARS = 30  # for which there is room, so that few are not drawn as broad as a hand


@dataclass(frozen=True)
class Bar:
    """A run with how long it took."""

    seconds: float
    mark: Mark


def duration_bars(bars: Sequence[Bar], usual: float | None = None) -> Markup:
    """A bar a run, the newest at the right as in a strip; a dashed line at what is `usual` (seconds).

    Failed ones have a cut."""
    if not bars:
        return tag("p", "No run has ended yet.", class_="empty")
    longest = max([bar.seconds for bar in bars] + [usual or 0.0]) or 1.0
    room, bottom = BARS_HEIGHT - 20, BARS_HEIGHT - 8.0
    most = max(len(bars), FEWEST_BARS)
    step = (BARS_WIDTH - BARS_LEFT) / most
    drawn = []
    for n, bar in enumerate(bars, most - len(bars)):
        height = max(bar.seconds / longest * room, 2.0)
        drawn.append(
            _linked(bar.mark.href, _duration_bar(bar, BARS_LEFT + n * step, bottom - height, step * 0.75, height))
        )
    words = tag("text", _brief(longest), x=0, y=bottom - room + 4) + tag("text", "0", x=0, y=bottom)
    axis = tag("path", d=f"M{BARS_LEFT} {_plain(bottom)}H{BARS_WIDTH}", class_="axis")
    label = f"durations of the last {len(bars)} runs, the longest {_brief(max(bar.seconds for bar in bars))}"
    line = Markup("")
    if usual is not None:
        y = bottom - usual / longest * room
        line = tag(
            "path", tag("title", f"usual: {_brief(usual)}"), d=f"M{BARS_LEFT} {_plain(y)}H{BARS_WIDTH}", class_="usual"
        )
        label += f", usually {_brief(usual)}"
    return _picture(label, BARS_WIDTH, BARS_HEIGHT, axis + _joined(drawn) + line + words, "bars")


def _duration_bar(bar: Bar, x: float, y: float, width: float, height: float) -> Markup:
    title = tag("title", bar.mark.title)
    box = tag("rect", title, x=x, y=y, width=width, height=height, rx=1)
    cut = Markup("")
    if bar.mark.state == FAILED:
        cut = tag("path", d=f"M{_plain(x)} {_plain(y + 4)}l{_plain(width)} -4", class_="cut")
    return tag("g", box + cut, class_=_class(bar.mark.state))


def _brief(seconds: float) -> str:
    return brief(dt.timedelta(seconds=seconds))


# --- a day, a lane a schedule ---------------------------------------------------------------------------------------

DAY_WIDTH, DAY_LEFT, DAY_TOP, LANE = 1180, 190, 30, 26
NAME_LETTERS = 25  # of a schedule in the column at the left; the hover has all of it
WORST_FIRST = (FAILED, LOST, MISSED, RUNNING, RETRYING, QUEUED, SKIPPED, CANCELLED, SUCCEEDED, PLANNED)


def day_picture(day: Day) -> Markup:
    """Each schedule's day as a lane, local hours above; what stood in the way is shaded. The names are a picture of
    their own beside it: they stay where they are when the lanes are wider than the window."""
    height = DAY_TOP + max(len(day.lanes), 1) * LANE + 6
    lanes = _joined(_lane(day, lane, DAY_TOP + n * LANE) for n, lane in enumerate(day.lanes))
    label = f"{day.date:%A} {day.date.isoformat()}: {_schedules(day)}, local time of {day.zone}"
    names = _joined(_name(lane, DAY_TOP + n * LANE) for n, lane in enumerate(day.lanes))
    content = _hours(day, height) + _shades(day, height) + lanes + _now(day, height)
    return tag(
        "div",
        _picture("the schedules", DAY_LEFT, height, names, "day-names")
        + _picture(label, DAY_WIDTH - DAY_LEFT, height, content, "day", DAY_LEFT),
        class_="lanes",
    )


def _schedules(day: Day) -> str:
    return "1 schedule" if len(day.lanes) == 1 else f"{len(day.lanes)} schedules"


def _x(day: Day, moment: dt.datetime) -> float:
    return DAY_LEFT + (moment - day.span.start) / (day.span.end - day.span.start) * (DAY_WIDTH - DAY_LEFT)


def _hours(day: Day, height: int) -> Markup:
    """A line each hour of real time, a word each second one: when clocks change, an hour is left out or comes twice."""
    hour = dt.timedelta(hours=1)
    lines, words = [], []
    for n in range(int((day.span.end - day.span.start) / hour) + 1):
        x = _x(day, day.span.start + n * hour)
        lines.append(f"M{_plain(x)} {DAY_TOP - 4}V{height}")
        if n % 2 == 0 and x < DAY_WIDTH - 20:
            words.append(tag("text", _clock(day, day.span.start + n * hour), x=x, y=22.0))
    return tag("path", class_="grid-line", d="".join(lines)) + _joined(words)


def _shades(day: Day, height: int) -> Markup:
    """Outages over all lanes; clock changes as a line with its word."""
    outages = [_shade(day, one, DAY_TOP - 4, height - DAY_TOP + 4, "shade-outage") for one in day.outages]
    changes = []
    for one in day.clock_changes:
        x = _x(day, one.start)
        line = tag("path", class_="clock", d=f"M{_plain(x)} {DAY_TOP - 4}V{height}")
        changes.append(tag("g", tag("title", one.why) + line + tag("text", one.why, class_="clock", x=x + 4, y=8.0)))
    return _joined([*outages, *changes])


def _shade(day: Day, span: Span, y: float, height: float, class_: str) -> Markup:
    x = _x(day, span.start)
    told = f"{_clock(day, span.start)} to {_clock(day, span.end)}: {span.why}"
    box = {"x": x, "y": y, "width": max(_x(day, span.end) - x, 1.0), "height": height}
    return tag("rect", tag("title", told), class_=class_, **box)


def _now(day: Day, height: int) -> Markup:
    if not day.span.start <= day.now < day.span.end:
        return Markup("")
    line = f"M{_plain(_x(day, day.now))} {DAY_TOP - 8}V{height}"
    return tag("path", tag("title", f"now, {_clock(day, day.now)}"), class_="now", d=line)


def _name(lane: Lane, y: int) -> Markup:
    name = lane.name if len(lane.name) <= NAME_LETTERS else f"{lane.name[: NAME_LETTERS - 1]}…"
    held = "" if lane.state == "active" else f" ({lane.state})"
    words = tag("text", tag("title", f"{lane.name}{held}: {lane.words}") + name, class_="name", x=0, y=y + 17)
    axis = tag("path", class_="axis", d=f"M0 {y + LANE}H{DAY_LEFT}")
    return axis + _linked(f"/schedules/{quote(lane.name)}", words)


def _lane(day: Day, lane: Lane, y: int) -> Markup:
    axis = tag("path", class_="axis", d=f"M{DAY_LEFT} {y + LANE}H{DAY_WIDTH}")
    blackouts = [_shade(day, one, y + 1, LANE - 1, "shade-blackout") for one in lane.blackouts]
    gaps = [_shade(day, one, y + 1, LANE - 1, "shade-outage") for one in lane.gaps]
    marks = _summed(day, lane, y + 3) if lane.is_summed else _singly(day, lane, y + 3)
    return _joined([axis, *blackouts, *gaps, marks])


def _singly(day: Day, lane: Lane, y: float) -> Markup:
    """Each run by itself, as long as it took, with a link to its task."""
    drawn = []
    for mark in lane.marks:
        x = _x(day, mark.start)
        width = max(min(_x(day, mark.end), float(DAY_WIDTH)) - x, 4.0)
        title = f"{_clock(day, mark.start)} {mark.state}"
        href = "" if mark.task_id is None else f"/tasks/{mark.task_id}"
        drawn.append(_linked(href, shape(mark.state, x, y, width, LANE - 6.0, title)))
    return _joined(drawn)


def _summed(day: Day, lane: Lane, y: float) -> Markup:
    """A box each quarter of an hour, in the form of the worst that ended in it; one path a state."""
    quarters: dict[int, str] = {}
    counts: Counter[str] = Counter()
    for mark in lane.marks:
        counts[mark.state] += mark.count
        n = (mark.start - day.span.start) // QUARTER
        quarters[n] = min(quarters.get(n, mark.state), mark.state, key=WORST_FIRST.index)
    width = (DAY_WIDTH - DAY_LEFT) / ((day.span.end - day.span.start) / QUARTER) - 1
    paths: dict[str, list[str]] = {}
    for n, state in quarters.items():
        paths.setdefault(state, []).append(_box(state, _x(day, day.span.start + n * QUARTER), y, width))
    drawn = _joined(tag("path", class_=_class(state), d="".join(parts)) for state, parts in paths.items())
    told = ", ".join(f"{number:,} {state}" if number else f"more {state}" for state, number in counts.most_common())
    return tag("g", tag("title", f"{lane.name}: {told}, by quarters of an hour") + drawn)


def _box(state: str, x: float, y: float, width: float) -> str:
    """As `shape` has it: what went wrong stands highest."""
    high, left = LANE - 6, f"{x:.0f}"
    if state in (FAILED, LOST):
        return f"M{left} {_plain(y)}h{width:.0f}v{high}h-{width:.0f}z"
    if state in (SKIPPED, CANCELLED):
        dashes = [f"M{left} {_plain(y + high * at)}h{width:.0f}v3h-{width:.0f}z" for at in DASHES[state]]
        return "".join(dashes)
    top, tall = y + high * 0.3, high * 0.7
    return f"M{left} {_plain(top)}h{width:.0f}v{_plain(tall)}h-{width:.0f}z"


def _clock(day: Day, moment: dt.datetime) -> str:
    return f"{moment.astimezone(ZoneInfo(day.zone)):%H:%M}"
