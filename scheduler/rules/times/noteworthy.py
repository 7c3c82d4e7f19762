"""Which fire times of the next day are worth a word in a digest: what is rare, long, or not as on other days."""

from __future__ import annotations

import datetime as dt
from itertools import islice

from scheduler.rules.spec import Once, ScheduleSpec, When
from scheduler.rules.times.calendars import blackout_at
from scheduler.rules.times.fire_times import dst_note, fire_times
from scheduler.rules.times.moments import zone_named

SELDOM = 4  # times in the span
WORKING_DAYS = 5  # Monday to Friday; that a calendar leaves a weekend out surprises nobody


def worth_a_word(
    spec: ScheduleSpec, after: dt.datetime, until: dt.datetime, *, has_run: bool
) -> tuple[dt.datetime, str] | None:
    """The first fire time in the span, and why it is worth a word; None when it is not."""
    fire_time = next(fire_times(spec, after, until), None)
    if fire_time is None:
        return _left_out(spec, after, until)
    why = []
    if all(isinstance(entry, Once) for entry in spec.when):
        why.append("one-off")
    elif not has_run:
        why.append("its first run")
    if spec.kind == "long" and not _is_often(spec, after, until):
        why.append("long")
    why.extend(filter(None, (blackout_note(spec, fire_time), dst_note(spec, fire_time))))
    return (fire_time, ", ".join(why)) if why else None


def _is_often(spec: ScheduleSpec, after: dt.datetime, until: dt.datetime) -> bool:
    """Whether it fires more than SELDOM times: then its next run is no news."""
    return next(islice(fire_times(spec, after, until), SELDOM, None), None) is not None


def blackout_note(spec: ScheduleSpec, fire_time: dt.datetime) -> str:
    """What a blackout does to this fire time, for people; "" when nothing."""
    if spec.blackout is None:
        return ""
    found = blackout_at(spec.blackout, spec.calendars, spec.timezone, fire_time)
    if found is None:
        return ""
    then = "is skipped" if spec.blackout.then == "skip" or found.endless else "runs after it"
    return f"{then}: blackout" + (f" ({found.why})" if found.why else "")


def _left_out(spec: ScheduleSpec, after: dt.datetime, until: dt.datetime) -> tuple[dt.datetime, str] | None:
    """When it would have fired, were it not for a calendar; on a working day."""
    names = sorted({entry.days.calendar for entry in spec.when if not isinstance(entry, Once) and entry.days.calendar})
    if not names:
        return None
    bare = spec.model_copy(update={"when": tuple(map(_without_calendar, spec.when))})
    for fire_time in fire_times(bare, after, until):
        if fire_time.astimezone(zone_named(spec.timezone)).weekday() < WORKING_DAYS:
            return fire_time, f"does not run: no day of {' or '.join(names)}"
    return None


def _without_calendar(entry: When) -> When:
    if isinstance(entry, Once) or entry.days.business is not None:  # «the last business day» is an exception each day
        return entry
    return entry.model_copy(update={"days": entry.days.model_copy(update={"calendar": None})})
