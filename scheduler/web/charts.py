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
CLOSED_AT_ONCE = frozenset({"circle", "path", "rect", "use"})  # if empty: pages hold hundreds of them


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
    if not content and name in CLOSED_AT_ONCE:
        return Markup("<{0}{1}/>").format(Markup(name), told)
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

HALF, LANE = 495, 26  # of half a lane: width and height
HOURS, TICK = 30, 26  # of the hours above the lanes: height, and where their lines begin
THROUGH = ("day-1", "day-2")  # names of what goes through all lanes: drawn once, shown in each
WORST_FIRST = (FAILED, LOST, MISSED, RUNNING, RETRYING, QUEUED, SKIPPED, CANCELLED, SUCCEEDED, PLANNED)


@dataclass(frozen=True)
class _Half:
    """Half a day, and where in its picture a moment is."""

    day: Day
    number: int  # 0, 1

    @property
    def start(self) -> dt.datetime:
        return self.day.span.start + self.number * self.length

    @property
    def length(self) -> dt.timedelta:
        return (self.day.span.end - self.day.span.start) / 2

    @property
    def end(self) -> dt.datetime:
        return self.start + self.length

    def x(self, moment: dt.datetime) -> float:
        return min(max((moment - self.start) / self.length, 0.0), 1.0) * HALF

    def has(self, moment: dt.datetime) -> bool:
        return self.start <= moment < self.end

    def touches(self, start: dt.datetime, end: dt.datetime) -> bool:
        return self.has(start) or (start < self.end and end > self.start)

    def clock(self, moment: dt.datetime) -> str:
        return f"{moment.astimezone(ZoneInfo(self.day.zone)):%H:%M}"


def day_picture(day: Day) -> Markup:
    """Each schedule's day as a lane under the local hours, in two halves: beside each other where there is room, below
    each other on a phone (static/style.css). What stood in the way is shaded."""
    halves = _Half(day, 0), _Half(day, 1)
    label = f"{day.date:%A} {day.date.isoformat()}: {_schedules(day)}, local time of {day.zone}"
    hours = tag("div", tag("span") + _joined(map(_hours, halves)), class_="lane-hours")
    lanes = _joined(_lane(lane, halves) for lane in day.lanes)
    return tag("div", hours + lanes, class_="lanes", role="region", aria_label=label)


def _schedules(day: Day) -> str:
    return "1 schedule" if len(day.lanes) == 1 else f"{len(day.lanes)} schedules"


def _half_picture(half: _Half, height: int, content: Markup, label: str | None = None) -> Markup:
    return tag(
        "svg",
        content,
        class_="chart half",
        viewBox=f"0 0 {HALF} {height}",
        preserveAspectRatio="none" if label else None,
        role=None if label is None else "group" if "<a " in content else "img",
        aria_label=label,
        aria_hidden=None if label else "true",
    )


def _hours(half: _Half) -> Markup:
    """A line each hour of real time, a word each second one: when clocks change, an hour is left out or comes twice.
    With it what goes through all lanes, so that each of them need only name it."""
    hour = dt.timedelta(hours=1)
    first = half.day.span.start
    hours = [first + n * hour for n in range(int((half.day.span.end - first) / hour) + 1)]
    lines = [half.x(one) for one in hours if half.has(one) or one == half.day.span.end == half.end]
    words = [tag("text", half.clock(one), x=half.x(one), y=22.0) for one in hours[::2] if half.has(one)]
    through = tag("g", _through(half, lines), id=THROUGH[half.number], class_="chart")
    ticks = [_upright("grid-line", lines, TICK, HOURS)]
    if half.has(half.day.now):
        ticks.append(_upright("now", [half.x(half.day.now)], TICK - 4, HOURS))
    return _half_picture(half, HOURS, tag("defs", through) + _joined([*ticks, *words, *_changes(half)]))


def _upright(class_: str, places: Iterable[float], top: int, bottom: int, title: str = "") -> Markup:
    told = tag("title", title) if title else Markup("")
    return tag("path", told, class_=class_, d="".join(f"M{_plain(x)} {top}V{bottom}" for x in places))


def _through(half: _Half, lines: Sequence[float]) -> Markup:
    """The hours, outages, changes of the clocks and now, as high as a lane."""
    day = half.day
    parts = [_upright("grid-line", lines, 0, LANE), *_shades(half, day.outages, "shade-outage")]
    for one in day.clock_changes:
        if half.has(one.start):
            parts.append(_upright("clock", [half.x(one.start)], 0, LANE, one.why))
    if half.has(day.now):
        parts.append(_upright("now", [half.x(day.now)], 0, LANE, f"now, {half.clock(day.now)}"))
    return _joined(parts)


def _changes(half: _Half) -> Iterable[Markup]:
    for one in half.day.clock_changes:
        if half.has(one.start):
            x = half.x(one.start)
            place = {"x": x + 4, "text_anchor": None} if x < HALF / 2 else {"x": x - 4, "text_anchor": "end"}
            yield tag("text", one.why, class_="clock", y=8.0, **place)


def _shades(half: _Half, spans: Iterable[Span], class_: str) -> Iterable[Markup]:
    for span in spans:
        if half.touches(span.start, span.end):
            x = half.x(span.start)
            told = f"{half.clock(span.start)} to {half.clock(span.end)}: {span.why}"
            box = {"x": x, "y": 0, "width": max(half.x(span.end) - x, 1.0), "height": LANE}
            yield tag("rect", tag("title", told), class_=class_, **box)


def _lane(lane: Lane, halves: Sequence[_Half]) -> Markup:
    pictures = [_half_picture(half, LANE, _half_lane(lane, half), _named(lane, half)) for half in halves]
    return tag("div", _name(lane) + _joined(pictures), class_="lane")


def _named(lane: Lane, half: _Half) -> str:
    return f"{lane.name}, {half.clock(half.start)} to {half.clock(half.end)}"


def _name(lane: Lane) -> Markup:
    """The name; for phones, on which nothing can be hovered over, the sums as well, the worst first."""
    held = "" if lane.state == "active" else f" ({lane.state})"
    link = tag("a", lane.name, href=f"/schedules/{quote(lane.name)}", title=f"{lane.name}{held}: {lane.words}")
    sums = _sums(lane)
    told = [_told_sum(state, sums[state]).replace(" ", "\u00a0") for state in sorted(sums, key=WORST_FIRST.index)]
    words = ", ".join([lane.state, *told] if held else told)
    return tag("p", link + (tag("span", f" {words}", class_="sums") if words else ""), class_="name")


def _sums(lane: Lane) -> Counter[str]:
    sums: Counter[str] = Counter()
    for mark in lane.marks:
        sums[mark.state] += mark.count
    return sums


def _told_sum(state: str, number: int) -> str:
    return f"{number:,} {state}" if number else f"more {state}"


def _half_lane(lane: Lane, half: _Half) -> Markup:
    shades = [*_shades(half, lane.blackouts, "shade-blackout"), *_shades(half, lane.gaps, "shade-outage")]
    marks = _summed(lane, half) if lane.is_summed else _singly(lane, half)
    return _joined([tag("use", href=f"#{THROUGH[half.number]}"), *shades, marks])


def _singly(lane: Lane, half: _Half) -> Markup:
    """Each run by itself, as long as it took, with a link to its task."""
    drawn = []
    for mark in lane.marks:
        if half.touches(mark.start, mark.end):
            x = half.x(mark.start)
            width = max(half.x(mark.end) - x, 4.0 if half.has(mark.start) else 1.0)
            title = f"{half.clock(mark.start)} {mark.state}"
            href = "" if mark.task_id is None else f"/tasks/{mark.task_id}"
            drawn.append(_linked(href, shape(mark.state, x, 3, width, LANE - 6.0, title)))
    return _joined(drawn)


def _summed(lane: Lane, half: _Half) -> Markup:
    """A box each quarter of an hour, in the form of the worst that ended in it; one path a state."""
    quarters: dict[int, str] = {}
    for mark in lane.marks:
        if half.has(mark.start):
            n = (mark.start - half.start) // QUARTER
            quarters[n] = min(quarters.get(n, mark.state), mark.state, key=WORST_FIRST.index)
    width = HALF / (half.length / QUARTER) - 1
    paths: dict[str, list[str]] = {}
    for n, state in quarters.items():
        paths.setdefault(state, []).append(_box(state, half.x(half.start + n * QUARTER), 3, width))
    drawn = _joined(tag("path", class_=_class(state), d="".join(parts)) for state, parts in paths.items())
    told = ", ".join(_told_sum(state, number) for state, number in _sums(lane).most_common())
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
