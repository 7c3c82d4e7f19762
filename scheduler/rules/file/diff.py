"""What would change between two books: schedules, their keys in words, and the fires of the days to come.

Pure: the caller brings both sides and the moment. Fire times are counted one by one, so there is a bound, for each
schedule and for the whole; beyond it the answer is «more than».
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import BaseModel

from scheduler.clock import iso
from scheduler.rules.spec import DESCRIPTIVE, FilePause, ScheduleSpec
from scheduler.rules.times.calendars import blackout_at
from scheduler.rules.times.fire_times import fire_times
from scheduler.rules.times.words import duration_in_words, in_words

SPAN = dt.timedelta(days=30)
FIRST = 5
MOST = 50_000  # fire times looked at for one schedule: enough for one a minute for a month; some 0.1 s
MOST_IN_ALL = 200_000  # the same for the whole book, then …
LEAST = 20  # … so many for each schedule that is left
MOST_REMOVED = 3  # more than this, and more than half of all, asks for a confirmation

# What decides when a schedule fires. A change of anything else neither gains nor loses a fire.
_TIMING = ("when", "timezone", "calendars", "start", "until", "max_runs", "blackout", "paused")
# Words of the spec that the file knows by others.
FILE_WORDS = {"start": "from", "longest": "max", "most": "max", "without": "except"}


@dataclass(frozen=True)
class KeyChange:
    """A key of the file, such as `retry.attempts`, and what it was and becomes, in words."""

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key}: {self.old} → {self.new}"

    def as_json(self) -> dict[str, str]:
        return {"key": self.key, "old": self.old, "new": self.new}


@dataclass(frozen=True)
class Fires:
    """How many fire times of the span one side has alone, and the first of them."""

    count: int = 0
    first: tuple[dt.datetime, ...] = ()
    more: bool = False  # there may be more: the count stopped at its bound

    def __str__(self) -> str:
        return f"{'more than ' if self.more else ''}{self.count:,} {'fire' if self.count == 1 else 'fires'}"

    def as_json(self) -> dict[str, Any]:
        return {"count": self.count, "more": self.more, "first": [iso(moment) for moment in self.first]}


@dataclass(frozen=True)
class ScheduleDiff:
    """What becomes of one schedule."""

    name: str
    how: str  # added, removed, renamed, changed, described
    was: str | None = None  # its old name, where it is renamed
    when: str = ""  # in words; of the new side, or of the old one where it is removed
    keys: tuple[KeyChange, ...] = ()
    gained: Fires = Fires()
    lost: Fires = Fires()

    def as_json(self) -> dict[str, Any]:
        return {
            "schedule": self.name,
            "how": self.how,
            "was": self.was,
            "when": self.when,
            "keys": [change.as_json() for change in self.keys],
            "gained": self.gained.as_json(),
            "lost": self.lost.as_json(),
        }


@dataclass(frozen=True)
class BookDiff:
    """All that differs, by name; nothing of it fires after the fact."""

    schedules: tuple[ScheduleDiff, ...]
    unchanged: int
    before: int  # schedules on the old side
    until: dt.datetime  # fires are counted up to here

    def of(self, how: str) -> tuple[ScheduleDiff, ...]:
        return tuple(one for one in self.schedules if one.how == how)

    @property
    def is_mass_removal(self) -> bool:
        return is_mass_removal(len(self.of("removed")), self.before)

    def __str__(self) -> str:
        counts = [(len(self.of(how)), how) for how in ("added", "removed", "renamed", "changed", "described")]
        return ", ".join([*(f"{count} {how}" for count, how in counts if count), f"{self.unchanged} unchanged"])


def is_mass_removal(removed: int, active: int) -> bool:
    """Whether so many vanish at once that somebody has to say that it is meant."""
    return removed > MOST_REMOVED and removed * 2 > active


def diff_books(
    old: Mapping[str, ScheduleSpec],
    new: Mapping[str, ScheduleSpec],
    now: dt.datetime,
    span: dt.timedelta = SPAN,
    first: int = FIRST,
) -> BookDiff:
    """What differs between the schedules in force and those of a file; fires from `now` on, over `span`."""
    renamed = {
        spec.was: name
        for name, spec in new.items()
        if spec.was is not None and name not in old and spec.was in old and spec.was not in new
    }
    came_from = {name: was for was, name in renamed.items()}
    counting = _Counting(now, now + span, first)
    found = []
    for name in sorted({*new, *old} - renamed.keys()):
        before, after = old.get(came_from.get(name, name)), new.get(name)
        if before is None and after is not None:
            gained, _ = counting.differing(None, after)
            found.append(ScheduleDiff(name, "added", when=in_words(after, with_zone=True), gained=gained))
        elif before is not None and after is None:
            _, lost = counting.differing(before, None)
            found.append(ScheduleDiff(name, "removed", when=in_words(before, with_zone=True), lost=lost))
        elif before is not None and after is not None and (name in came_from or before != after):
            found.append(_differing(name, came_from.get(name), before, after, counting))
    return BookDiff(tuple(found), len(new) - sum(one.how != "removed" for one in found), len(old), now + span)


def key_changes(old: ScheduleSpec, new: ScheduleSpec) -> tuple[KeyChange, ...]:
    """Which keys differ, in the order of the spec, in words; the name is left out."""
    changes: list[KeyChange] = []
    for key in ScheduleSpec.model_fields:
        before, after = getattr(old, key), getattr(new, key)
        if key == "name" or before == after:
            continue
        if key == "when":
            changes.append(KeyChange("when", *_told_apart(in_words(old), in_words(new), before, after)))
        elif key == "paused":
            changes.append(KeyChange("paused", _pause_in_words(before), _pause_in_words(after)))
        else:
            changes.extend(_compare(FILE_WORDS.get(key, key), before, after))
    return tuple(changes)


def _differing(
    name: str, was: str | None, before: ScheduleSpec, after: ScheduleSpec, counting: _Counting
) -> ScheduleDiff:
    keys = key_changes(before, after)
    gained, lost = counting.differing(before, after)
    touches_none = all(change.key.split(".")[0] in DESCRIPTIVE for change in keys)
    how = "renamed" if was is not None else "described" if touches_none else "changed"
    return ScheduleDiff(name, how, was, in_words(after, with_zone=True), keys, gained, lost)


# --- fires ----------------------------------------------------------------------------------------------------------


class _Counting:
    """Counts the fire times that one side has alone, as long as the book's bound allows."""

    def __init__(self, now: dt.datetime, until: dt.datetime, first: int) -> None:
        self.now = now
        self.until = until
        self.first = first
        self.left = MOST_IN_ALL

    def differing(self, old: ScheduleSpec | None, new: ScheduleSpec | None) -> tuple[Fires, Fires]:
        """The fires gained and those lost."""
        if old is not None and new is not None and all(getattr(old, key) == getattr(new, key) for key in _TIMING):
            return Fires(), Fires()
        most = max(LEAST, min(MOST, self.left))
        looks = 0
        lost, gained = _Tally(self.first), _Tally(self.first)
        olds, news = self._starts(old), self._starts(new)
        before, after = next(olds, None), next(news, None)
        while before is not None or after is not None:
            if looks == most:
                break
            looks += 1
            if after is None or (before is not None and before < after):
                assert before is not None
                lost.add(before)
                before = next(olds, None)
            elif before is None or after < before:
                gained.add(after)
                after = next(news, None)
            else:
                before, after = next(olds, None), next(news, None)
        self.left -= looks
        cut = before is not None or after is not None
        return gained.fires(cut), lost.fires(cut)

    def _starts(self, spec: ScheduleSpec | None) -> Iterator[dt.datetime]:
        """The fire times that would start something: not those that the file's pause or a blackout skips."""
        if spec is None:
            return iter(())
        return islice(filter(lambda moment: not _is_skipped(spec, moment), self._fire_times(spec)), spec.max_runs)

    def _fire_times(self, spec: ScheduleSpec) -> Iterator[dt.datetime]:
        after, paused = self.now, spec.paused
        if paused is not None and paused.paused:
            if paused.until is None:
                return iter(())
            after = max(after, paused.until)
        return fire_times(spec, after, self.until) if after < self.until else iter(())


class _Tally:
    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self.first: list[dt.datetime] = []

    def add(self, moment: dt.datetime) -> None:
        self.count += 1
        if len(self.first) < self.most:
            self.first.append(moment)

    def fires(self, cut: bool) -> Fires:
        return Fires(self.count, tuple(self.first), cut and self.count > 0)


def _is_skipped(spec: ScheduleSpec, moment: dt.datetime) -> bool:
    if spec.blackout is None or spec.blackout.then != "skip":
        return False
    return blackout_at(spec.blackout, spec.calendars, spec.timezone, moment) is not None


# --- keys in words --------------------------------------------------------------------------------------------------


def _compare(key: str, old: Any, new: Any) -> Iterator[KeyChange]:
    """What differs at `key` and below it."""
    before, after = _parts(old), _parts(new)
    if before is None or after is None:
        yield KeyChange(key, *_told_apart(value_in_words(old), value_in_words(new), old, new))
        return
    for part in dict.fromkeys((*before, *after)):
        if before.get(part) != after.get(part) or (part in before) != (part in after):
            yield from _compare(f"{key}.{FILE_WORDS.get(part, part)}", before.get(part), after.get(part))


def _parts(value: Any) -> dict[str, Any] | None:
    if isinstance(value, BaseModel):
        return {key: getattr(value, key) for key in type(value).model_fields}
    return value if isinstance(value, dict) else None


def _told_apart(old_words: str, new_words: str, old: Any, new: Any) -> tuple[str, str]:
    """The words; where both sides read the same although they differ, the values as they are."""
    return (old_words, new_words) if old_words != new_words else (repr(old), repr(new))


def _pause_in_words(pause: FilePause | None) -> str:
    if pause is None:
        return "left to the operator"
    if not pause.paused:
        return "no"
    return "yes" + (f", until {iso(pause.until)}" if pause.until else "") + (f" ({pause.why})" if pause.why else "")


def value_in_words(value: Any) -> str:
    """A value of a spec, such as «5 minutes», «none», «a, b»."""
    if value is None or value in ("", (), []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dt.timedelta):
        return duration_in_words(value)
    if isinstance(value, dt.datetime):
        return str(iso(value)) if value.tzinfo is not None else f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, dt.time):
        return f"{value:%H:%M:%S}" if value.second else f"{value:%H:%M}"
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return ", ".join(value_in_words(one) for one in value)
    parts = _parts(value)
    if parts is not None:
        given = [f"{FILE_WORDS.get(key, key)} {value_in_words(one)}" for key, one in parts.items() if one]
        return "; ".join(given) or "none"
    return str(value)
