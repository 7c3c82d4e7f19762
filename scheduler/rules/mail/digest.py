"""What a digest says: the facts of a span become a verdict and sections, each only when it has rows.

Pure. The text part and the HTML part are both made from the sections, so that they cannot say different things.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from scheduler.rules.brief import brief

MOST_ROWS = 15  # of a section; the rest is counted
MOST_NAMES = 6  # of schedules that fail alike
ALIKE = 4  # so many schedules that did not run for one reason share a row
LONGEST_ERROR = 200

# --- the facts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failing:
    """A schedule whose last runs failed, or the runs of a task function that people asked for (`schedule` is False)."""

    name: str
    owner: str = ""
    since: dt.datetime | None = None
    failures: int = 1  # in a row
    attempts: int = 1  # of the last run
    error: str = ""
    task_id: int | None = None
    schedule: bool = True


@dataclass(frozen=True)
class Unrun:
    """Fire times of one schedule that did not run, or were lost, for one reason."""

    name: str
    state: str  # missed, skipped, lost
    count: int
    last: dt.datetime
    reason: str
    task_id: int | None = None
    code: str = ""  # of the reason: texts may differ in how late each was


@dataclass(frozen=True)
class Slow:
    """A schedule that started late, has not started though it is due, ran for much longer than it does, or had not
    succeeded by its `finish_by`."""

    name: str
    late: dt.timedelta | None = None
    took: dt.timedelta | None = None
    usual: dt.timedelta | None = None
    waits: dt.timedelta | None = None  # since it was due, at the end of the span
    finish_by: dt.datetime | None = None  # the last that it did not keep
    overruns: int = 0  # how many in the span
    done_after: dt.timedelta | None = None  # so long after the last it was done; None: not yet


@dataclass(frozen=True)
class TooFast:
    """A schedule that succeeded sooner than its `too_fast` says, and so may have done nothing."""

    name: str
    count: int  # in the span
    last: dt.datetime
    shortest: dt.timedelta
    limit: dt.timedelta  # of the last
    task_id: int | None = None
    slower_at: dt.datetime | None = None  # when one that was slower has succeeded since


@dataclass(frozen=True)
class Recovered:
    name: str
    failures: int
    at: dt.datetime
    error: str = ""  # of the last failure


@dataclass(frozen=True)
class Held:
    """A schedule that is paused, or parked because it cannot fire."""

    name: str
    by: str
    why: str
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    parked: bool = False


@dataclass(frozen=True)
class KindCount:
    """What ended of one kind, in the span and in the one of the same length before it."""

    kind: str
    ok: int
    bad: int  # failed or lost
    average: dt.timedelta | None = None
    longest: dt.timedelta | None = None
    ok_before: int = 0
    bad_before: int = 0
    average_before: dt.timedelta | None = None


@dataclass(frozen=True)
class Coming:
    name: str
    at: dt.datetime
    why: str


@dataclass(frozen=True)
class Bar:
    """A part of the span: how many runs ended well, badly, or did not start."""

    start: dt.datetime
    ok: int = 0
    bad: int = 0
    other: int = 0


@dataclass(frozen=True)
class Strip:
    """The bars of one schedule."""

    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Change:
    """A revision of the schedule file."""

    revision: int
    at: dt.datetime
    author: str
    what: str


@dataclass(frozen=True)
class Facts:
    """All that a digest is made from."""

    service: str
    zone: str
    covers_from: dt.datetime
    covers_until: dt.datetime
    schedules: int  # in force, of those the digest is about
    failing: tuple[Failing, ...] = ()
    unrun: tuple[Unrun, ...] = ()
    too_fast: tuple[TooFast, ...] = ()
    slow: tuple[Slow, ...] = ()
    recovered: tuple[Recovered, ...] = ()
    held: tuple[Held, ...] = ()
    kinds: tuple[KindCount, ...] = ()
    coming: tuple[Coming, ...] = ()
    bars: tuple[Bar, ...] = ()
    strips: tuple[Strip, ...] = ()
    changes: tuple[Change, ...] = ()
    health: tuple[str, ...] = ()  # what is wrong with the service itself
    is_first: bool = False
    undelivered: int = 0  # issues since the last delivered one, whose spans this one covers again
    next_at: dt.datetime | None = None
    base_url: str | None = None
    only: str = ""  # which schedules it is about, in words; "" for all
    when_green: str = "full"


# --- what is said ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    head: str
    lines: tuple[str, ...] = ()
    link: str | None = None


@dataclass(frozen=True)
class Section:
    title: str
    tone: str  # bad, warn, good, plain
    rows: tuple[Row, ...]
    more: int = 0  # rows left out


@dataclass(frozen=True)
class DigestSaid:
    """A digest, ready to be set as text and as HTML."""

    subject: str
    sentence: str
    is_green: bool
    sections: tuple[Section, ...]
    closing: tuple[str, ...]
    bars: tuple[Bar, ...] = ()
    strips: tuple[Strip, ...] = ()
    service: str = ""
    zone: str = "UTC"


def digest_of(facts: Facts) -> DigestSaid:
    """What the digest says."""
    counts = _counts(facts)
    is_green = not any(counts[word] for word in counts if word not in ("ok", "paused"))
    is_short = is_green and facts.when_green != "full"
    sections = () if is_short else tuple(_sections(facts))
    return DigestSaid(
        subject=f"[{facts.service}] {_verdict(counts)} - {_local(facts.covers_until, facts.zone):%a} "
        f"{_local(facts.covers_until, facts.zone).day} {_local(facts.covers_until, facts.zone):%b}",
        sentence=_sentence(counts, facts),
        is_green=is_green,
        sections=sections,
        closing=tuple(_closing(facts)),
        bars=() if is_short else facts.bars,
        strips=() if is_short else facts.strips,
        service=facts.service,
        zone=facts.zone,
    )


# word of the subject: how one and how several are said in the sentence; the worst first
WORDS = {
    "failing": ("is failing", "are failing"),
    "lost": ("lost a run", "lost runs"),
    "missed": ("missed a run", "missed runs"),
    "parked": ("cannot fire", "cannot fire"),
    "too fast": ("was too fast", "were too fast"),
    "late": ("ran late", "ran late"),
    "slow": ("was slow", "were slow"),
    "recovered": ("has recovered", "have recovered"),
    "paused": ("is paused", "are paused"),
    "ok": ("is ok", "are ok"),
}
AD_HOC, HEALTH = "failed ad hoc", "service faults"


def _counts(facts: Facts) -> dict[str, int]:
    """How many schedules of each word; each is counted once, for the worst of it."""
    names: dict[str, set[str]] = {word: set() for word in WORDS}
    names["failing"] = {one.name for one in facts.failing if one.schedule}
    for state in ("lost", "missed"):
        names[state] = {one.name for one in facts.unrun if one.state == state}
    names["parked"] = {one.name for one in facts.held if one.parked}
    names["too fast"] = {one.name for one in facts.too_fast}
    names["late"] = {one.name for one in facts.slow if (one.late, one.waits, one.finish_by) != (None,) * 3}
    names["slow"] = {one.name for one in facts.slow}
    names["recovered"] = {one.name for one in facts.recovered}
    names["paused"] = {one.name for one in facts.held if not one.parked}
    seen: set[str] = set()
    counts: dict[str, int] = {}
    for word in WORDS:
        counts[word] = len(names[word] - seen)
        seen |= names[word]
    counts["ok"] = max(0, facts.schedules - sum(counts.values()))
    counts[AD_HOC] = sum(not one.schedule for one in facts.failing)
    counts[HEALTH] = len(facts.health)
    return counts


def _verdict(counts: dict[str, int]) -> str:
    told = [word for word in (*list(WORDS)[:-2], AD_HOC, HEALTH) if counts[word]]
    parts = [f"{counts[word]} {_fault_word(word, counts[word])}" for word in told]
    everything = not parts
    if not any(counts.values()):
        return "no schedules"
    if counts["ok"] or not parts:
        parts.append(f"all {counts['ok']} ok" if everything else f"{counts['ok']} ok")
    if counts["paused"]:
        parts.append(f"{counts['paused']} paused")
    return ", ".join(parts)


def _fault_word(word: str, number: int) -> str:
    return "service fault" if word == HEALTH and number == 1 else word


def _sentence(counts: dict[str, int], facts: Facts) -> str:
    total = facts.schedules
    about = f" ({facts.only})" if facts.only else ""
    if total == 0:
        head = f"There are no schedules{about}"
    elif counts["ok"] == total:
        head = f"The one schedule is ok{about}" if total == 1 else f"All {total} schedules{about} are ok"
    else:
        clauses = [f"{counts[word]} {WORDS[word][counts[word] != 1]}" for word in WORDS if counts[word]]
        head = f"Of {total} schedule{'' if total == 1 else 's'}{about} {_listed(clauses)}"
    head += f", from {moment(facts.covers_from, facts.zone)} to {moment(facts.covers_until, facts.zone)} ({facts.zone})"
    if counts[AD_HOC]:
        head += f"; {_number(counts[AD_HOC], 'task function')} asked for by hand failed"
    if counts[HEALTH]:
        head += f"; the service itself has {_number(counts[HEALTH], 'fault')}"
    return f"{head}."


def _sections(facts: Facts) -> Iterable[Section]:
    zone = facts.zone
    found = (
        ("Still failing", "bad", _failing_rows(facts), sum(one.schedule for one in facts.failing)),
        ("Failed when asked for by hand", "bad", _ad_hoc_rows(facts), None),
        ("Missed, skipped, lost", "warn", _unrun_rows(facts), None),
        ("Cannot fire", "warn", [Row(one.name, (one.why,)) for one in facts.held if one.parked], None),
        ("The service itself", "bad", [Row(words) for words in facts.health], None),
        ("Too fast", "warn", _too_fast_rows(facts), None),
        ("Late or slow", "warn", [_slow_row(one, zone) for one in facts.slow], None),
        ("Recovered", "good", _recovered_rows(facts), None),
        ("Paused", "plain", [_held_row(one, zone) for one in facts.held if not one.parked], None),
        ("Runs by kind", "plain", [_kind_row(one) for one in facts.kinds], None),
        ("Trend", "plain", _trend_rows(facts), None),
        ("In the next 24 hours", "plain", [_coming_row(one, zone) for one in facts.coming], None),
        ("Changes to the schedule file", "plain", [_change_row(one, zone) for one in facts.changes], None),
    )
    for title, tone, rows, count in found:
        if rows:
            number = f" ({count})" if count else ""
            yield Section(f"{title}{number}", tone, tuple(rows[:MOST_ROWS]), max(0, len(rows) - MOST_ROWS))


# --- rows -----------------------------------------------------------------------------------------------------------


def _failing_rows(facts: Facts) -> list[Row]:
    """A row for each error; the schedules that fail alike share one. What has failed for longest comes first."""
    groups: dict[str, list[Failing]] = {}
    for one in sorted(facts.failing, key=_by_age):
        if one.schedule:
            groups.setdefault(one.error or f"\0{one.name}", []).append(one)
    return [_failing_row(group[0], facts) if len(group) == 1 else _alike_row(group, facts) for group in groups.values()]


def _by_age(one: Failing) -> tuple[bool, dt.datetime, str]:
    return one.since is None, one.since or dt.datetime.max.replace(tzinfo=dt.UTC), one.name


def _failing_row(one: Failing, facts: Facts) -> Row:
    since = f" since {moment(one.since, facts.zone)}" if one.since else ""
    lines = [
        _how_often(one),
        _short(one.error),
        f"owner: {one.owner}" if one.owner else "",
    ]
    return Row(f"{one.name}:{since or ' failing'}", tuple(filter(None, lines)), _task_link(one.task_id, facts))


def _how_often(one: Failing) -> str:
    attempts = _number(one.attempts, "attempt")
    if one.failures <= 1:
        return f"failed once, after {attempts}"
    return f"failed {one.failures:,} times in a row, the last time after {attempts}"


def _alike_row(group: Sequence[Failing], facts: Facts) -> Row:
    names = _capped([one.name for one in group])
    owners = sorted({one.owner for one in group if one.owner})
    since = f", the first since {moment(group[0].since, facts.zone)}" if group[0].since else ""
    lines = [names, _short(group[0].error), f"owners: {_capped(owners)}" if owners else ""]
    head = f"{len(group)} schedules fail alike{since}"
    return Row(head, tuple(filter(None, lines)), _task_link(group[0].task_id, facts))


def _ad_hoc_rows(facts: Facts) -> list[Row]:
    return [
        Row(
            f"{one.name}: {_number(one.failures, 'run')} failed",
            tuple(filter(None, (_short(one.error),))),
            _task_link(one.task_id, facts),
        )
        for one in facts.failing
        if not one.schedule
    ]


def _unrun_rows(facts: Facts) -> list[Row]:
    """The worst first; many schedules with one reason, as after an outage, share a row."""
    order = {"lost": 0, "missed": 1, "skipped": 2}
    groups: dict[tuple[str, str], list[Unrun]] = {}
    for one in sorted(facts.unrun, key=lambda one: (order.get(one.state, 3), -one.count, one.name)):
        groups.setdefault((one.state, one.code or one.reason), []).append(one)
    rows: list[Row] = []
    for group in groups.values():
        rows.extend([_unrun_alike_row(group, facts)] if len(group) >= ALIKE else [_unrun_row(x, facts) for x in group])
    return rows


def _unrun_alike_row(group: Sequence[Unrun], facts: Facts) -> Row:
    newest = max(group, key=lambda one: one.last)
    times = sum(one.count for one in group)
    head = f"{len(group)} schedules: {newest.state} {times:,} times, last {moment(newest.last, facts.zone)}"
    names = _capped([one.name for one in group])
    return Row(head, (names, f"the last: {_short(newest.reason)}"), _task_link(newest.task_id, facts))


def _unrun_row(one: Unrun, facts: Facts) -> Row:
    times = f"{one.state}" if one.count == 1 else f"{one.state} {one.count} times, last"
    head = f"{one.name}: {times} {moment(one.last, facts.zone)}"
    return Row(head, tuple(filter(None, (_short(one.reason),))), _task_link(one.task_id, facts))


def _too_fast_rows(facts: Facts) -> list[Row]:
    """Those of which none was slower since come first, then by how often."""
    found = sorted(facts.too_fast, key=lambda one: (one.slower_at is not None, -one.count, one.name))
    return [_too_fast_row(one, facts) for one in found]


def _too_fast_row(one: TooFast, facts: Facts) -> Row:
    often, took = (f" {one.count:,} times, last", "took as little as") if one.count > 1 else ("", "took")
    since = f"slower again {moment(one.slower_at, facts.zone)}" if one.slower_at else "none was slower since"
    line = f"{took} {brief(one.shortest, 2)}, less than {brief(one.limit, 2)} is too fast; {since}"
    return Row(f"{one.name}: too fast{often} {moment(one.last, facts.zone)}", (line,), _task_link(one.task_id, facts))


def _slow_row(one: Slow, zone: str) -> Row:
    parts = []
    if one.finish_by is not None:
        parts.append(_overrun(one.finish_by, one, zone))
    if one.late is not None:
        parts.append(f"started up to {brief(one.late, 2)} late")
    if one.waits is not None:
        parts.append(f"due for {brief(one.waits, 2)}, and has not started")
    if one.took is not None:
        usual = f", usually {brief(one.usual, 2)}" if one.usual is not None else ""
        parts.append(f"took up to {brief(one.took, 2)}{usual}")
    return Row(f"{one.name}: {'; '.join(parts)}")


def _overrun(finish_by: dt.datetime, one: Slow, zone: str) -> str:
    after = "nor since" if one.done_after is None else f"but {brief(one.done_after, 2)} later"
    often = f"not done in time {one.overruns} times, the last" if one.overruns > 1 else "not done"
    return f"{often} by {moment(finish_by, zone)}, {after}"


def _recovered_rows(facts: Facts) -> list[Row]:
    """The schedules that had failed alike share a row, as they did while they failed."""
    groups: dict[str, list[Recovered]] = {}
    for one in facts.recovered:
        groups.setdefault(one.error or f"\0{one.name}", []).append(one)
    return [
        _recovered_row(group[0], facts.zone) if len(group) == 1 else _recovered_alike_row(group, facts.zone)
        for group in groups.values()
    ]


def _recovered_alike_row(group: Sequence[Recovered], zone: str) -> Row:
    last, failures = max(one.at for one in group), sum(one.failures for one in group)
    since = f"the last since {moment(last, zone)}, after {_number(failures, 'failure')}"
    lines = _capped([one.name for one in group]), _short(group[0].error)
    return Row(f"{len(group)} schedules: well again, {since}", lines)


def _recovered_row(one: Recovered, zone: str) -> Row:
    return Row(f"{one.name}: well again since {moment(one.at, zone)}, after {_number(one.failures, 'failure')}")


def _held_row(one: Held, zone: str) -> Row:
    since = f" since {moment(one.since, zone)}" if one.since else ""
    until = f"until {moment(one.until, zone)}" if one.until else "until someone resumes it"
    return Row(f"{one.name}: by {one.by}{since}, {until}", tuple(filter(None, (one.why,))))


def _kind_row(one: KindCount) -> Row:
    runs, before = one.ok + one.bad, one.ok_before + one.bad_before
    rate = f"{_number(runs, 'run')}, {_rate(one.ok, runs)} ok" if runs else "no runs"
    was = f"before: {_number(before, 'run')}, {_rate(one.ok_before, before)} ok" if before else "before: no runs"
    lines = []
    if one.average is not None:
        usual = f" (before: {brief(one.average_before, 2)})" if one.average_before is not None else ""
        longest = f", the longest {brief(one.longest, 2)}" if one.longest is not None else ""
        lines.append(f"on average {brief(one.average, 2)}{usual}{longest}")
    failed = f", {one.bad} failed" if one.bad else ""
    return Row(f"{one.kind}: {rate}{failed} ({was})", tuple(lines))


def _trend_rows(facts: Facts) -> list[Row]:
    if not any(bar.ok or bar.bad or bar.other for bar in facts.bars):
        return []
    told = [("ok", [bar.ok for bar in facts.bars]), ("failed", [bar.bad for bar in facts.bars])]
    told.append(("not run", [bar.other for bar in facts.bars]))
    lines = tuple(f"{word}: {' '.join(map(str, numbers))}" for word, numbers in told if word == "ok" or any(numbers))
    return [Row(f"runs in each {bar_length(facts.bars, facts.covers_until)}, oldest first:", lines)]


def _coming_row(one: Coming, zone: str) -> Row:
    return Row(f"{moment(one.at, zone)}  {one.name}: {one.why}")


def _change_row(one: Change, zone: str) -> Row:
    return Row(f"revision {one.revision}, {moment(one.at, zone)}, by {one.author}", (one.what,))


def _closing(facts: Facts) -> Iterable[str]:
    if facts.is_first:
        yield "This is the first issue of this digest."
    if facts.undelivered:
        what = "The issue before has" if facts.undelivered == 1 else f"{facts.undelivered:,} issues before have"
        yield f"{what} not been delivered; this one covers that time too."
    if facts.next_at is not None:
        yield f"The next one comes on {moment(facts.next_at, facts.zone)} ({facts.zone})."


# --- words ----------------------------------------------------------------------------------------------------------


def moment(instant: dt.datetime, zone: str) -> str:
    """Such as «Mon 23 Nov 07:30»."""
    local = _local(instant, zone)
    return f"{local:%a} {local.day} {local:%b} {local:%H:%M}"


def bar_length(bars: Sequence[Bar], until: dt.datetime) -> str:
    end = bars[1].start if len(bars) > 1 else until
    return brief(end - bars[0].start, 2)


def _local(instant: dt.datetime, zone: str) -> dt.datetime:
    return instant.astimezone(ZoneInfo(zone))


def _task_link(task_id: int | None, facts: Facts) -> str | None:
    return f"{facts.base_url.rstrip('/')}/tasks/{task_id}" if facts.base_url and task_id is not None else None


def _rate(ok: int, runs: int) -> str:
    """Rounded down, so that 100 % means all."""
    return f"{ok * 1000 // runs / 10:g} %"


def _number(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_ERROR else line[: LONGEST_ERROR - 1].rstrip() + "…"


def _capped(words: Sequence[str]) -> str:
    told = ", ".join(words[:MOST_NAMES])
    return told if len(words) <= MOST_NAMES else f"{told} … and {len(words) - MOST_NAMES} more"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
