"""Many schedules paused, and let go, by one command.

Each has a transaction of its own: workers and planners have their turn in between, and where the command is cut off the
same command does the rest. The pause of each keeps what it was chosen by, so that the way back leads past those that
were paused for a reason of their own.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Self

from scheduler.engine.actions import Actions
from scheduler.errors import NotFound, Refused
from scheduler.rules.times.pause import Pause, stored_pause
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.schedules import pause_of
from scheduler.store.tables import Schedule

OF_TAG = "tag "
OnEach = Callable[[int, int], object]
"""Told after each schedule: how many are done, of how many."""


@dataclass(frozen=True)
class Choice:
    """All schedules, or those with a tag."""

    tag: str | None = None

    def __str__(self) -> str:
        return "all" if self.tag is None else f"{OF_TAG}{self.tag}"

    @classmethod
    def named(cls, text: str) -> Self:
        """The choice that reads so."""
        return cls(text.removeprefix(OF_TAG) if text.startswith(OF_TAG) else None)

    def has(self, schedule: Schedule) -> bool:
        return self.tag is None or self.tag in tags_of(schedule)


def tags_of(schedule: Schedule) -> tuple[str, ...]:
    return tuple(schedule.spec.get("tags") or ())


@dataclass
class Outcome:
    done: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)  # by name: how it is paused, and stays


@dataclass(frozen=True)
class HeldTogether:
    """Schedules that one command holds: how many, and the pause of the first of them."""

    choice: Choice
    number: int
    pause: Pause


def choices(database: Database) -> dict[Choice, int]:
    """What there is to choose: all schedules, and those with each tag; with how many they are."""
    with database.read() as session:
        everyone = schedules.all_schedules(session)
        tags = Counter(tag for one in everyone for tag in tags_of(one))
    return {Choice(): len(everyone), **{Choice(tag): tags[tag] for tag in sorted(tags)}}


def held_together(database: Database) -> list[HeldTogether]:
    """What `pause_many` holds, the latest first."""
    found: dict[str, list[Pause]] = {}
    with database.read() as session:
        for one in schedules.all_schedules(session):
            if one.pause is not None and one.pause.get("chosen"):
                found.setdefault(one.pause["chosen"], []).append(stored_pause(one.pause))
    held = [HeldTogether(Choice.named(name), len(pauses), pauses[0]) for name, pauses in found.items()]
    return sorted(held, key=lambda one: one.pause.since, reverse=True)


def pause_many(
    actions: Actions,
    choice: Choice,
    why: str,
    until: dt.datetime | None = None,
    on_each: OnEach = lambda done, of: None,
) -> Outcome:
    """Hold those that are chosen and not paused yet. Raises NotFound where no schedule has the tag, WrongUsage for an
    end that is past."""
    return _each(
        actions,
        choice,
        wanted=lambda schedule: pause_of(schedule) is None,
        act=lambda name: actions.pause(name, why, until, chosen=str(choice)),
        on_each=on_each,
    )


def resume_many(actions: Actions, choice: Choice, on_each: OnEach = lambda done, of: None) -> Outcome:
    """Let those go on that `pause_many` holds by the same choice. Raises NotFound where no schedule has the tag."""
    return _each(
        actions,
        choice,
        wanted=lambda schedule: (schedule.pause or {}).get("chosen") == str(choice),
        act=lambda name: actions.resume(name, chosen=str(choice)),
        on_each=on_each,
    )


def _each(
    actions: Actions,
    choice: Choice,
    *,
    wanted: Callable[[Schedule], bool],
    act: Callable[[str], None],
    on_each: OnEach,
) -> Outcome:
    with actions.database.read() as session:
        everyone = schedules.all_schedules(session)
        found = [one for one in everyone if choice.has(one)]
        _refuse_unknown_tag(choice, everyone, found)
        names = [one.name for one in found if wanted(one)]
        left = {one.name: str(pause) for one in found if not wanted(one) and (pause := pause_of(one)) is not None}
    outcome = Outcome(left=left)
    for number, name in enumerate(names, start=1):
        try:
            act(name)
        except (NotFound, Refused) as error:  # meanwhile it was retired, paused or let go by somebody else
            outcome.left[name] = str(error)
        else:
            outcome.done.append(name)
        on_each(number, len(names))
    return outcome


def _refuse_unknown_tag(choice: Choice, everyone: list[Schedule], found: list[Schedule]) -> None:
    if choice.tag is None or found:
        return
    known = sorted({tag for one in everyone for tag in tags_of(one)})
    near = get_close_matches(choice.tag, known, n=1)
    raise NotFound(f'No schedule has the tag "{choice.tag}"' + (f'; did you mean "{near[0]}"?' if near else ""))
