"""Many schedules paused, and let go, by one command.

Each has a transaction of its own: workers and planners have their turn in between, and where the command is cut off the
same command does the rest. The pause of each keeps what it was chosen by, so that the way back leads past those that
were paused for a reason of their own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches

from scheduler.engine.actions import Actions
from scheduler.errors import NotFound, Refused
from scheduler.store import schedules
from scheduler.store.schedules import pause_of
from scheduler.store.tables import Schedule

OnEach = Callable[[int, int], object]
"""Told after each schedule: how many are done, of how many."""


@dataclass(frozen=True)
class Chosen:
    """All schedules, or those with a tag."""

    tag: str | None = None

    def __str__(self) -> str:
        return "all" if self.tag is None else f"tag {self.tag}"

    def has(self, schedule: Schedule) -> bool:
        return self.tag is None or self.tag in schedule.spec.get("tags", ())


@dataclass
class Outcome:
    done: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)  # by name: how it is paused, and stays


def pause_many(
    actions: Actions,
    chosen: Chosen,
    why: str,
    until: dt.datetime | None = None,
    on_each: OnEach = lambda done, of: None,
) -> Outcome:
    """Hold those that are chosen and not paused yet. Raises NotFound where no schedule has the tag, WrongUsage for an
    end that is past."""
    return _each(
        actions,
        chosen,
        wanted=lambda schedule: pause_of(schedule) is None,
        act=lambda name: actions.pause(name, why, until, batch=str(chosen)),
        on_each=on_each,
    )


def resume_many(actions: Actions, chosen: Chosen, on_each: OnEach = lambda done, of: None) -> Outcome:
    """Let those go on that `pause_many` holds by the same choice. Raises NotFound where no schedule has the tag."""
    return _each(
        actions,
        chosen,
        wanted=lambda schedule: (schedule.pause or {}).get("batch") == str(chosen),
        act=actions.resume,
        on_each=on_each,
    )


def _each(
    actions: Actions,
    chosen: Chosen,
    *,
    wanted: Callable[[Schedule], bool],
    act: Callable[[str], None],
    on_each: OnEach,
) -> Outcome:
    with actions.database.read() as session:
        everyone = schedules.all_schedules(session)
        found = [one for one in everyone if chosen.has(one)]
        _refuse_unknown_tag(chosen, everyone, found)
        names = [one.name for one in found if wanted(one)]
        left = {one.name: str(pause) for one in found if not wanted(one) and (pause := pause_of(one)) is not None}
    outcome = Outcome(left=left)
    for number, name in enumerate(names, start=1):
        try:
            act(name)
        except (NotFound, Refused) as error:  # meanwhile it was retired, or somebody else did it
            outcome.left[name] = str(error)
        else:
            outcome.done.append(name)
        on_each(number, len(names))
    return outcome


def _refuse_unknown_tag(chosen: Chosen, everyone: list[Schedule], found: list[Schedule]) -> None:
    if chosen.tag is None or found:
        return
    known = sorted({tag for one in everyone for tag in one.spec.get("tags", ())})
    near = get_close_matches(chosen.tag, known, n=1)
    raise NotFound(f'No schedule has the tag "{chosen.tag}"' + (f'; did you mean "{near[0]}"?' if near else ""))
