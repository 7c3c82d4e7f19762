"""How long, in a word or two, where people glance: «1 s», «2 m», «3 h 5 m»."""

from __future__ import annotations

import datetime as dt

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def brief(duration: dt.timedelta, units: int = 1) -> str:
    """The duration in its largest unit, or in so many units from there; rounded down. Below ten seconds with a
    tenth, below a tenth in milliseconds.

    >>> brief(dt.timedelta(seconds=125)), brief(dt.timedelta(seconds=125), units=2), brief(dt.timedelta(seconds=0.46))
    ('2 m', '2 m 5 s', '0.4 s')
    """
    tenths = abs(duration) // dt.timedelta(milliseconds=100)
    if tenths == 0:
        return f"{abs(duration) // dt.timedelta(milliseconds=1)} ms"
    if tenths < 100:
        return f"{tenths / 10:g} s"
    left = tenths // 10
    parts: list[tuple[int, str]] = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append((number, unit))
    return " ".join(f"{number} {unit}" for number, unit in parts[:units] if number)
