"""What would change between two books. Now is noon of Tuesday 2026-11-24; spans are 30 days unless told otherwise."""

from __future__ import annotations

import datetime as dt

import pytest

from scheduler.rules.file import diff
from scheduler.rules.file.diff import BookDiff, Fires, KeyChange, diff_books, is_mass_removal, key_changes
from scheduler.rules.spec import At, Blackout, Calendar, DayRule, FilePause, Retry, ScheduleSpec, Window
from tests.builders import HOUR, MINUTE, a_spec, at

NOON = at("12:00")
DAY = dt.timedelta(days=1)
DAILY = (At(at=(dt.time(6, 30),)),)
HOLIDAYS = Calendar(name="de", dates=(dt.date(2026, 12, 25),))


def daily(**fields: object) -> ScheduleSpec:
    return a_spec(**{"when": DAILY, **fields})


def between(old: list[ScheduleSpec], new: list[ScheduleSpec], span: dt.timedelta = 30 * DAY) -> BookDiff:
    return diff_books({spec.name: spec for spec in old}, {spec.name: spec for spec in new}, NOON, span)


def test_equal_books_differ_in_nothing() -> None:
    found = between([daily(), daily(name="other")], [daily(), daily(name="other")])

    assert found.schedules == ()
    assert str(found) == "2 unchanged"


def test_a_new_schedule_gains_its_fires() -> None:
    (found,) = between([], [daily()]).schedules

    assert (found.how, found.when) == ("added", "every day at 06:30 (UTC)")
    assert found.gained == Fires(30, tuple(at("06:30", f"2026-11-{day}") for day in (25, 26, 27, 28, 29)))
    assert found.lost == Fires()
    assert found.keys == ()


def test_a_removed_schedule_loses_them() -> None:
    (found,) = between([daily()], []).schedules

    assert (found.how, found.gained, found.lost.count) == ("removed", Fires(), 30)
    assert str(found.lost) == "30 fires"


def test_a_changed_when_gains_and_loses_what_is_not_in_both() -> None:
    twice = At(at=(dt.time(6, 30), dt.time(18)), days=DayRule(weekdays=("mon", "tue", "wed", "thu", "fri")))

    (found,) = between([daily()], [daily(when=(twice,))], span=7 * DAY).schedules

    assert found.how == "changed"
    assert found.keys == (KeyChange("when", "every day at 06:30", "weekdays at 06:30 and 18:00"),)
    assert found.lost.first == (at("06:30", "2026-11-28"), at("06:30", "2026-11-29"))  # the weekend
    assert found.gained.count == 5
    assert found.gained.first[0] == at("18:00")


def test_a_change_of_what_does_not_decide_when_gains_and_loses_nothing() -> None:
    (found,) = between([daily()], [daily(grace=HOUR, spread=5 * MINUTE)]).schedules

    assert (found.how, found.gained, found.lost) == ("changed", Fires(), Fires())


def test_words_for_people_alone_are_told_apart() -> None:
    found = between([daily()], [daily(owner="jana", tags=("prod", "eu"))])

    assert [(one.how, [str(key) for key in one.keys]) for one in found.schedules] == [
        ("described", ["owner: none → jana", "tags: none → prod, eu"])
    ]


def test_a_renamed_schedule_is_one_and_not_two() -> None:
    found = between([daily(name="old"), daily(name="other")], [daily(name="new", was="old"), daily(name="other")])

    (one,) = found.schedules
    assert (one.name, one.was, one.how, one.gained, one.lost) == ("new", "old", "renamed", Fires(), Fires())
    assert str(found) == "1 renamed, 1 unchanged"


@pytest.mark.parametrize("old", [[], ["new"], ["old", "new"]], ids=["old name unknown", "new name there", "both there"])
def test_was_counts_only_where_there_is_something_to_rename(old: list[str]) -> None:
    found = between([daily(name=name) for name in old], [daily(name="new", was="old")])

    assert found.of("renamed") == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"grace": MINUTE}, {"grace": 90 * MINUTE}, ["grace: 1 minute → 1 hour and 30 minutes"]),
        (
            {"blackout": None},
            {"calendars": {"de": HOLIDAYS}},
            ["calendars.de: none → name de; dates 2026-12-25"],
        ),
        ({}, {"task": "send_mail"}, ["task: count_words → send_mail"]),
        (
            {"args": {"source": "a", "sizes": [1, 2]}},
            {"args": {"source": "b", "sizes": [1, 2], "deep": True}},
            ["args.source: a → b", "args.deep: none → yes"],
        ),
        (
            {"retry": Retry(attempts=3)},
            {"retry": Retry(attempts=8, longest=2 * HOUR)},
            ["retry.attempts: 3 → 8", "retry.max: 1 hour → 2 hours"],
        ),
        ({}, {"start": at("06:00")}, ["from: none → 2026-11-24T06:00:00Z"]),
        (
            {"calendars": {"de": HOLIDAYS}},
            {"calendars": {"de": HOLIDAYS.model_copy(update={"dates": ()})}},
            ["calendars.de.dates: 2026-12-25 → none"],
        ),
        (
            {},
            {"blackout": Blackout(during=("freeze",), then="skip")},
            ["blackout: none → during freeze; then skip"],
        ),
        (
            {},
            {"paused": FilePause(paused=True, until=at("06:00", "2026-12-01"), why="outage")},
            ["paused: left to the operator → yes, until 2026-12-01T06:00:00Z (outage)"],
        ),
        ({"paused": FilePause(paused=True)}, {"paused": FilePause(paused=False)}, ["paused: yes → no"]),
    ],
    ids=["duration", "new calendar", "task", "args", "retry", "from", "calendar", "blackout", "paused", "resumed"],
)
def test_keys_are_told_in_words(old: dict[str, object], new: dict[str, object], said: list[str]) -> None:
    assert [str(change) for change in key_changes(daily(**old), daily(**new))] == said


def test_a_pause_of_the_file_loses_the_fires_it_covers() -> None:
    paused = FilePause(paused=True, until=at("06:30", "2026-11-26"))

    (found,) = between([daily()], [daily(paused=paused)]).schedules

    assert found.lost.first == (at("06:30", "2026-11-25"), at("06:30", "2026-11-26"))
    assert found.gained == Fires()


def test_a_blackout_that_skips_loses_the_fires_it_covers() -> None:
    freeze = Calendar(name="freeze", windows=(Window(start=dt.datetime(2026, 11, 25), end=dt.datetime(2026, 11, 27)),))
    skipping = {"calendars": {"freeze": freeze}, "blackout": Blackout(during=("freeze",), then="skip")}

    (found,) = between([daily()], [daily(**skipping)]).schedules

    assert found.lost.first == (at("06:30", "2026-11-25"), at("06:30", "2026-11-26"))


def test_max_runs_bounds_what_is_gained() -> None:
    (found,) = between([], [daily(max_runs=3)]).schedules

    assert found.gained.count == 3


def test_counting_stops_at_its_bound_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "MOST", 100)

    (found,) = between([], [a_spec(every=MINUTE)]).schedules

    assert str(found.gained) == "more than 100 fires"
    assert len(found.gained.first) == 5


def test_a_book_has_a_bound_for_all_its_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "MOST_IN_ALL", 100)

    found = between([], [a_spec(name=name, every=HOUR) for name in ("a", "b")])

    assert [str(one.gained) for one in found.schedules] == ["more than 100 fires", "more than 20 fires"]


@pytest.mark.parametrize(("removed", "active", "mass"), [(3, 3, False), (4, 8, False), (4, 7, True), (0, 0, False)])
def test_more_than_three_and_more_than_half_are_a_mass_removal(removed: int, active: int, mass: bool) -> None:
    assert is_mass_removal(removed, active) is mass


def test_the_document_for_programs_is_whole() -> None:
    (found,) = between([daily()], [daily(max_runs=2)], span=3 * DAY).schedules

    assert found.as_json() == {
        "schedule": "nightly",
        "how": "changed",
        "was": None,
        "when": "every day at 06:30 (UTC)",
        "keys": [{"key": "max_runs", "old": "none", "new": "2"}],
        "gained": {"count": 0, "more": False, "first": []},
        "lost": {"count": 1, "more": False, "first": ["2026-11-27T06:30:00Z"]},
    }
