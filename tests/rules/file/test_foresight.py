# ruff: noqa: E501  # messages are shown whole
"""Warnings about the fire times to come, and notes on clock changes, each as a person sees it."""

from __future__ import annotations

import datetime as dt
import textwrap

import pytest

from scheduler.rules.file.schedule_file import Loaded, load_book
from tests.effort import work_done

NOW = dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)
HEAD = "version: 1\ntimezone: Europe/Berlin\n"
CALENDARS = "calendars: {gone: {dates: 2020-01-01}}\n"


def load(schedules: str, now: dt.datetime = NOW) -> Loaded:
    text = HEAD + CALENDARS + "schedules:\n" + textwrap.indent(schedules, "  ")
    loaded = load_book(text, file="schedules.yaml", functions=None, now=now, look_ahead=True)
    assert loaded.faults == ()
    return loaded


def warnings_of(schedules: str) -> str:
    return "".join(f"{warning}\n" for warning in load(schedules).warnings)


def notes_of(when: str, now: dt.datetime = NOW, more: str = "") -> list[str]:
    return [
        f"{note.local:%Y-%m-%d %H:%M} {note.schedule}: {note.note}"
        for note in load(f"nightly: {{task: a, when: {when}{more}}}\n", now).notes
    ]


def some(count: int, rest: str) -> str:
    return "".join(f"job-{number}: {{task: a, {rest}}}\n" for number in range(count))


WARNINGS = {
    "a minute in which ten fire": (
        some(10, 'when: {at: "06:30"}'),
        """\
schedules.yaml:5:26: 10 schedules fire in one minute, 2026-11-25 06:30 (Europe/Berlin): job-0, job-1, job-2 and 7 more
    5 |   job-0: {task: a, when: {at: "06:30"}}
      |                          ^^^^^^^^^^^^^
    Give them (or defaults) spread: 5m, so that their starts lie apart.
""",
    ),
    "minutes in which the same ones fire": (
        some(10, "when: {every: 1h}"),
        """\
schedules.yaml:5:26: 10 schedules fire in one minute, 2026-11-24 08:00 (Europe/Berlin) and in 23 more of the next 24 hours: job-0, job-1, job-2 and 7 more
    5 |   job-0: {task: a, when: {every: 1h}}
      |                          ^^^^^^^^^^^
    Give them (or defaults) spread: 5m, so that their starts lie apart.
""",
    ),
    "two of a group in one minute": (
        'a: {task: a, when: {at: "06:30"}, exclusive: billing}\n'
        'b: {task: a, when: {cron: "30 6 1 * *"}, exclusive: billing}\n',
        """\
schedules.yaml:6:55: schedule "b" and schedule "a" of the group "billing" fire in the same minute, 2026-12-01 06:30 (Europe/Berlin)
    6 |   b: {task: a, when: {cron: "30 6 1 * *"}, exclusive: billing}
      |                                                       ^^^^^^^
    One waits for the other, and its grace runs meanwhile; give one of them another time.
""",
    ),
    "a calendar whose days are gone": (
        'a: {task: a, when: {at: "06:30", calendar: gone}}\n',
        """\
schedules.yaml:5:22: schedule "a" never fires within the next year
    5 |   a: {task: a, when: {at: "06:30", calendar: gone}}
      |                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    Look at its when, its calendar and until; if it is not wanted now, say paused: true.
""",
    ),
    "an end before the next fire time": (
        'a: {task: a, when: {cron: "0 9 1 2 *"}, until: 2027-01-31}\n',
        """\
schedules.yaml:5:22: schedule "a" never fires within the next year
    5 |   a: {task: a, when: {cron: "0 9 1 2 *"}, until: 2027-01-31}
      |                      ^^^^^^^^^^^^^^^^^^^
    Look at its when, its calendar and until; if it is not wanted now, say paused: true.
""",
    ),
    "a once in the past, told of once": (
        'a: {task: a, when: {once: "2026-01-01 06:30"}}\n',
        """\
schedules.yaml:5:29: schedule "a": once (2026-01-01 06:30) is past: it never fires
    5 |   a: {task: a, when: {once: "2026-01-01 06:30"}}
      |                             ^^^^^^^^^^^^^^^^^^
    Remove it, or give a moment to come.
""",
    ),
}


@pytest.mark.parametrize(("schedules", "expected"), WARNINGS.values(), ids=WARNINGS)
def test_what_will_surprise_is_told(schedules: str, expected: str) -> None:
    assert warnings_of(schedules) == expected


@pytest.mark.parametrize(
    "schedules",
    [
        some(9, 'when: {at: "06:30"}'),
        some(10, 'when: {at: "06:30"}, spread: 5m'),
        some(10, 'when: {at: "06:30"}, paused: true'),
        some(10, "when: {every: 5m}"),
        'a: {task: a, when: {at: "06:30"}, exclusive: x}\nb: {task: a, when: {at: "06:30"}, exclusive: y}\n',
        'a: {task: a, when: {at: "06:30"}, exclusive: x}\nb: {task: a, when: {at: "06:31"}, exclusive: x}\n',
        'a: {task: a, when: {at: "06:30", calendar: gone}, paused: true}\n',
        'a: {task: a, when: {at: "06:30"}, from: 2028-01-01}\n',
    ],
    ids=["few", "spread", "paused", "dense", "two groups", "two minutes", "paused and never", "begins later"],
)
def test_what_is_well_is_not_told(schedules: str) -> None:
    assert warnings_of(schedules) == ""


def test_no_more_than_ten_crowds_are_listed() -> None:
    crowds = [f'{{at: "{hour:02d}:00"}}' for hour in range(12)]
    schedules = "".join(some(10, f"when: {when}").replace("job", f"job-{n}") for n, when in enumerate(crowds))

    warnings = load(schedules).warnings

    assert len(warnings) == 10
    assert [warning.hint for warning in warnings if "further" in warning.hint] == [
        "Give them (or defaults) spread: 5m, so that their starts lie apart. 2 further crowds are not listed."
    ]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (
            '{at: "02:30"}',
            [
                "2027-03-28 03:00 nightly: clocks go forward: 02:30 does not exist, runs at 03:00",
                "2027-10-31 02:30 nightly: clocks go back: 02:30 comes twice, runs the first time",
            ],
        ),
        (
            '{cron: "15,45 2 * * *"}',
            [
                "2027-03-28 03:00 nightly: clocks go forward: 02:15 and 02:45 do not exist, runs once at 03:00",
                "2027-10-31 02:15 nightly: clocks go back: 02:15 comes twice, runs the first time (and 1 more like it)",
            ],
        ),
        ('{at: "03:00"}', []),
        ('{at: "02:30", days: mon-fri}', []),
        ("{every: 30m}", []),
        ('{cron: "*/30 * * * *"}', []),
        (
            '{once: "2027-03-28 02:30"}',
            ["2027-03-28 03:00 nightly: clocks go forward: 02:30 does not exist, runs at 03:00"],
        ),
    ],
)
def test_clock_changes_of_the_next_twelve_months_are_noted(when: str, expected: list[str]) -> None:
    assert notes_of(when) == expected


def test_a_change_of_half_an_hour_is_noted_in_its_zone() -> None:
    assert notes_of('{at: ["01:45", "02:15"]}', more=", timezone: Australia/Lord_Howe") == [
        "2027-04-04 01:45 nightly: clocks go back: 01:45 comes twice, runs the first time",
        "2027-10-03 02:30 nightly: clocks go forward: 02:15 does not exist, runs at 02:30",
    ]


def test_without_looking_ahead_nothing_of_it_is_told() -> None:
    text = HEAD + "schedules:\n" + textwrap.indent(some(10, 'when: {at: "02:30"}'), "  ")

    loaded = load_book(text, file="x", functions=None, now=NOW)

    assert (loaded.warnings, loaded.notes) == ((), ())


def test_ten_thousand_schedules_that_all_fire_apart_are_looked_at_in_seconds() -> None:
    schedules = "".join(
        f'job-{n}: {{task: a, exclusive: g{n % 2000}, when: [{{cron: "{n % 60} {n % 24} * * *"}}, '
        f'{{at: "02:{n // 60 % 60:02d}:{n % 60:02d}"}}, {{at: "{n % 23:02d}:{n % 59:02d}", days: mon-fri}}]}}\n'
        for n in range(10_000)
    )
    bare = load_book(HEAD + "schedules: {}\n", file="x", functions=None, now=NOW)  # imports
    assert bare.book is not None

    with work_done() as work:
        loaded = load(schedules)

    assert loaded.warnings
    assert len(loaded.notes) == 20_000
    assert work.seconds < 15  # 5 s on an idle core, of which the reading takes more than half


# --- runs that take longer than an interval -------------------------------------------------------------------------


def told_of_runs(entry: str, minutes: float = 18, *, ran: str = "sync", more: str = "") -> str:
    text = f"{HEAD}schedules:\n  sync: {{task: a, when: {entry}{more}}}\n"
    usual = {ran: dt.timedelta(minutes=minutes)}
    loaded = load_book(text, file="schedules.yaml", functions=None, now=NOW, usual=usual)
    return "".join(f"{one}\n" for one in loaded.warnings if one.code == "longer-than-interval")


def test_runs_that_take_longer_than_the_interval_are_told_of_at_its_entry() -> None:
    assert (
        told_of_runs('[{at: "03:00"}, {every: 15m, between: ["07:00", "19:00"]}]')
        == """\
schedules.yaml:4:41: schedule "sync" usually runs 18m, but fires again after 15m (its shortest interval)
    4 |   sync: {task: a, when: [{at: "03:00"}, {every: 15m, between: ["07:00", "19:00"]}]}
      |                                         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    With overlap: skip, what falls due meanwhile is skipped; give it a longer interval, or make it faster.
"""
    )


@pytest.mark.parametrize(
    ("when", "interval"),
    [
        ("{every: 10m}", "10m"),
        ("{every: 7h}", None),
        ('{cron: "*/45 * * * *"}', "15m"),
        ('{at: ["06:00", "06:10"]}', "10m"),
        ('[{at: "06:00"}, {at: "06:05"}]', "5m"),
        ('{at: "06:00"}', None),
        ("{every: 18m}", None),
        ("{every: 1h}", None),
    ],
)
def test_the_shortest_interval_of_a_schedule_counts(when: str, interval: str | None) -> None:
    told = told_of_runs(when)

    assert (f"after {interval} (its" in told) if interval else told == ""


def test_an_interval_cut_short_at_midnight_counts() -> None:
    assert "usually runs 3h20m, but fires again after 3h (" in told_of_runs("{every: 7h}", 200)


def test_a_renamed_schedule_has_the_runs_of_its_former_name() -> None:
    assert "usually runs 18m" in told_of_runs("{every: 10m}", ran="old-sync", more=", was: old-sync")


@pytest.mark.parametrize("more", [", paused: true", ", paused: {why: slow}"])
def test_the_runs_of_a_paused_schedule_are_not_looked_at(more: str) -> None:
    assert told_of_runs("{every: 10m}", more=more) == ""


@pytest.mark.parametrize("overlap", ["skip", "queue-one", "queue-all", "replace", "allow"])
def test_it_is_told_what_overlap_makes_of_it(overlap: str) -> None:
    assert f"    With overlap: {overlap}, " in told_of_runs("{every: 10m}", more=f", overlap: {overlap}")


def test_runs_of_very_many_schedules_are_looked_at_in_bounded_time() -> None:
    text = HEAD + "schedules:\n" + some(5000, 'when: {cron: "*/45 * * * *"}, until: 2027-01-01')
    text = "".join(f"{line}\n".replace("*/45", f"{number % 60}-59/7") for number, line in enumerate(text.splitlines()))
    usual = {f"job-{number}": dt.timedelta(minutes=5) for number in range(5000)}

    with work_done() as work:
        load_book(text, file="schedules.yaml", functions=None, now=NOW, usual=usual)

    assert work.seconds < 10
