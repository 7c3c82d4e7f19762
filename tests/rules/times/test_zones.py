"""Local time and UTC. Facts from `zdump -v`; they stand in test_triggers.py."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from scheduler.rules.times.zones import first_moment, is_repeated, is_skipped, last_moment, stretches

# local time, first moment, last moment (UTC)
WALLS = {
    "an ordinary time": ("Europe/Berlin", "2026-06-01 12:00", "2026-06-01 10:00", "2026-06-01 10:00"),
    "in a gap: its end": ("Europe/Berlin", "2026-03-29 02:30", "2026-03-29 01:00", "2026-03-29 01:00"),
    "the end of a gap": ("Europe/Berlin", "2026-03-29 03:00", "2026-03-29 01:00", "2026-03-29 01:00"),
    "in a fold": ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25 00:30", "2026-10-25 01:30"),
    "the end of a fold": ("Europe/Berlin", "2026-10-25 03:00", "2026-10-25 02:00", "2026-10-25 02:00"),
    "half an hour's gap": ("Australia/Lord_Howe", "2026-10-04 02:10", "2026-10-03 15:30", "2026-10-03 15:30"),
    "half an hour's fold": ("Australia/Lord_Howe", "2026-04-05 01:40", "2026-04-04 14:40", "2026-04-04 15:10"),
    "a gap at a quarter to": ("Pacific/Chatham", "2026-09-27 03:44:59", "2026-09-26 14:00", "2026-09-26 14:00"),
    "midnight that is skipped": ("America/Santiago", "2026-09-06 00:00", "2026-09-06 04:00", "2026-09-06 04:00"),
    "a day that is skipped": ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30 10:00", "2011-12-30 10:00"),
}


@pytest.mark.parametrize(("zone", "wall", "first", "last"), WALLS.values(), ids=WALLS.keys())
def test_a_wall_time_names_its_first_and_last_moment(zone, wall, first, last):
    moment = dt.datetime.fromisoformat(wall)

    assert f"{first_moment(moment, ZoneInfo(zone)):%Y-%m-%d %H:%M}" == first
    assert f"{last_moment(moment, ZoneInfo(zone)):%Y-%m-%d %H:%M}" == last


def test_a_skipped_time_and_a_repeated_one_are_known():
    berlin = ZoneInfo("Europe/Berlin")
    skipped, repeated, ordinary = (
        dt.datetime.fromisoformat(wall) for wall in ("2026-03-29 02:00", "2026-10-25 02:59", "2026-10-25 03:00")
    )

    assert (is_skipped(skipped, berlin), is_repeated(skipped, berlin)) == (True, False)
    assert (is_skipped(repeated, berlin), is_repeated(repeated, berlin)) == (False, True)
    assert (is_skipped(ordinary, berlin), is_repeated(ordinary, berlin)) == (False, False)


@pytest.mark.parametrize("zone", ["Africa/Casablanca", "Europe/Berlin", "America/St_Johns", "Antarctica/Troll", "UTC"])
def test_stretches_have_no_holes_and_hold_the_offsets_of_their_zone(zone):
    info = ZoneInfo(zone)
    start, end = dt.datetime(2009, 6, 1, tzinfo=dt.UTC), dt.datetime(2028, 6, 1, tzinfo=dt.UTC)

    found = list(stretches(info, start, end))

    assert found[0].start <= start
    assert found[-1].end > end
    assert all(before.end == after.start for before, after in pairwise(found))
    moment = start
    while moment < end:
        (offset,) = [stretch.offset for stretch in found if stretch.start <= moment < stretch.end]
        assert offset == moment.astimezone(info).utcoffset(), moment
        moment += dt.timedelta(hours=11)
