"""At which times of day an `every` really fires: it counts from local midnight, whatever `between` says."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

from scheduler.rules.complaints import Complaint
from scheduler.rules.times.durations import format_duration

DAY = dt.timedelta(days=1)
Between = tuple[dt.time, dt.time] | None


def check_every(every: dt.timedelta, between: Between) -> None:
    """Raises Complaint when no time of day is left."""
    if between is not None and not (_times(every, between) if every < DAY else _is_within(0, between)):
        raise Complaint(
            f"every {format_duration(every)} between {_span(between)} never fires",
            f"It counts from midnight, and {_told(every, None)} are not in between."
            if every < DAY
            else 'It fires at midnight alone; for a time of day use "at".',
            code="never-fires",
            plain=True,
        )


@lru_cache(maxsize=1024)
def every_note(every: dt.timedelta, between: Between) -> str:
    """What may surprise, with the real fire times; "" when the day divides evenly."""
    short = format_duration(every)
    if every > DAY:
        if every % DAY:
            return f"every {short} is no whole number of days: it counts elapsed time, so its time of day wanders"
        return ""
    if DAY % every:
        return (
            f"every {short} does not divide the day: it fires at {_told(every, between)}, and starts anew at midnight"
        )
    if between is not None and _seconds(between[0]) % every.total_seconds():
        start = _clock(_seconds(between[0]))
        return f"every {short} counts from midnight, not from {start}: it fires at {_told(every, between)}"
    return ""


@lru_cache(maxsize=1024)
def _times(every: dt.timedelta, between: Between) -> tuple[int, ...]:
    """Seconds of the day, in order."""
    step = int(every.total_seconds())
    return tuple(second for second in range(0, 86_400, step) if _is_within(second, between))


def _is_within(second: int, between: Between) -> bool:
    if between is None:
        return True
    first, last = (_seconds(bound) for bound in between)
    return first <= second <= last if first <= last else second >= first or second <= last


def _told(every: dt.timedelta, between: Between) -> str:
    times = _times(every, between)
    if between is not None and between[0] > between[1]:  # past midnight: in the order in which they come
        first = _seconds(between[0])
        times = tuple(sorted(times, key=lambda second: (second < first, second)))
    if len(times) <= 6:
        return ", ".join(_clock(second) for second in times)
    return f"{', '.join(_clock(second) for second in times[:3])} … {_clock(times[-1])}"


def _seconds(time: dt.time) -> int:
    return time.hour * 3600 + time.minute * 60 + time.second


def _clock(second: int) -> str:
    minutes, seconds = divmod(second, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}" + (f":{seconds:02d}" if seconds else "")


def _span(between: tuple[dt.time, dt.time]) -> str:
    return f"{_clock(_seconds(between[0]))} and {_clock(_seconds(between[1]))}"
