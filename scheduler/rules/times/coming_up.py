"""The next fire times of a schedule, each with what will become of it where that is not plain.

Pure: the caller brings the moment and the pauses.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from scheduler.rules.spec import ScheduleSpec
from scheduler.rules.times.fire_times import dst_note, fire_times
from scheduler.rules.times.noteworthy import blackout_note
from scheduler.rules.times.pause import Pause


@dataclass(frozen=True)
class Coming:
    fire_time: dt.datetime
    note: str = ""  # such as «clocks go back: 02:30 comes twice, runs the first time»


def coming_up(
    spec: ScheduleSpec, after: dt.datetime, count: int, *, pauses: Sequence[Pause] = (), runs_left: int | None = None
) -> list[Coming]:
    """The first `count` fire times after `after`; no more than `runs_left`."""
    most = count if runs_left is None else min(count, max(0, runs_left))
    return [Coming(moment, _note(spec, moment, pauses)) for moment in islice(fire_times(spec, after), most)]


def _note(spec: ScheduleSpec, moment: dt.datetime, pauses: Sequence[Pause]) -> str:
    pause = next((pause for pause in pauses if pause.covers(moment)), None)
    held = f"is skipped: {pause}" if pause is not None else blackout_note(spec, moment)
    return "; ".join(filter(None, (held, dst_note(spec, moment))))
