"""A crontab line, taken apart: its wall times, its days, and whether it follows real time.

cronsim reads the fields (names, steps, L, LW, #); its own search is not used, since near clock changes it can be wrong
or loop for ever in some zones.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from cronsim import CronSim, CronSimError

from scheduler.rules.times.zones import DAY

# A range of one with a step, such as 20-20/5, is that one for Debian's cron; cronsim 2.8 takes it for 20-59/5.
_RANGE_OF_ONE = re.compile(r"(?<![^\s,])(\w+)-\1/0*[1-9][0-9]*(?![^\s,])", re.IGNORECASE)

# cronsim wants a start; only its parser is used, and without a zone it does least.
_ANY_DAY = dt.datetime(2000, 1, 1)


class Crontab:
    """The five fields of a crontab line. Raises ValueError for a line that cannot be read.

    With both day fields set, `match_days` says whether `any` or `all` must hold; None is as in crontab(5): all when
    one of the two starts with a star, any otherwise.
    """

    def __init__(self, line: str, match_days: Literal["any", "all"] | None = None) -> None:
        fields = line.split()
        if len(fields) != 5:
            raise ValueError(f'"{line}" has {len(fields)} fields; a crontab line has five')
        try:
            self.line = _RANGE_OF_ONE.sub(r"\1", line)
            self._parsed = CronSim(self.line, _ANY_DAY)
        except (CronSimError, ValueError, AssertionError) as error:
            raise ValueError(f'"{line}" is no crontab line: {error}') from error
        minute, hour, month_day, _, weekday = fields
        # As Debian's cron does: what follows the first letter does not matter.
        self.follows_real_time = minute.startswith("*") or hour.startswith("*")
        if match_days == "all":
            self._parsed.day_and = True
        elif match_days == "any":
            # A field that is a mere star says nothing, and so cannot be the one that matches.
            self._parsed.day_and = "*" in (month_day, weekday)
        self.needs_both_days = self._parsed.day_and
        self.times = tuple(
            dt.timedelta(hours=h, minutes=m) for h in sorted(self._parsed.hours) for m in sorted(self._parsed.minutes)
        )

    def days(self, first: dt.date, last: dt.date) -> Iterator[dt.date]:
        """The days that match, from `first` through `last`."""
        parsed = self._parsed
        every_day = parsed.parts[3] == parsed.parts[5] == "*"
        day = first
        while day <= last:
            if day.month not in parsed.months:
                day = (day.replace(day=1) + 32 * DAY).replace(day=1)
                continue
            if every_day or parsed.match_day(day):
                yield day
            day += DAY

    def spelled_out(self) -> tuple[str, str, str, str, str]:
        """The five fields with a step among weekdays turned into their numbers, for words: «*/2» is «0,2,4,6»."""
        minute, hour, month_day, month, weekday = self.line.split()
        if "/" in weekday:
            numbers = {number % 7 for number in self._parsed.weekdays if isinstance(number, int)}
            weekday = ",".join(str(number) for number in sorted(numbers))
        return minute, hour, month_day, month, weekday


@lru_cache(maxsize=4096)
def crontab_of(line: str, match_days: Literal["any", "all"] | None = None) -> Crontab:
    """As Crontab(…), but read once for all the schedules that have the same line."""
    return Crontab(line, match_days)
