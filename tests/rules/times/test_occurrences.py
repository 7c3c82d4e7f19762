"""Which rows fire times become, and what becomes of late ones."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.rules.spec import At, Blackout, Calendar, Cron, Every, Missed, Once, ScheduleSpec, Window
from scheduler.rules.states import MISSED, PLANNED, SKIPPED
from scheduler.rules.times.fire_times import fire_times
from scheduler.rules.times.occurrences import MOST_ROWS, Fate, Forecast, Gap, Occurrence, forecast, judge_late
from scheduler.rules.times.pause import Pause
from tests.builders import HOUR, MINUTE, a_spec, at

SECOND = dt.timedelta(seconds=1)


def foretell(spec: ScheduleSpec, **fields: Any) -> Forecast:
    plain: dict[str, Any] = {"planned_until": at("02:00"), "now": at("02:00"), "horizon": 2 * MINUTE}
    return forecast(spec, **{**plain, **fields})


def seen(foretold: Forecast) -> list[tuple[str, str]]:
    return [(f"{one.fire_time:%H:%M:%S}", one.state) for one in foretold.occurrences]


# --- ahead ----------------------------------------------------------------------------------------------------------


def test_all_fire_times_up_to_the_horizon_are_planned() -> None:
    spec = a_spec(every=MINUTE, grace=10 * MINUTE)

    foretold = foretell(spec)

    assert foretold.occurrences == (
        Occurrence(at("02:01"), PLANNED, at("02:01"), at("02:11")),
        Occurrence(at("02:02"), PLANNED, at("02:02"), at("02:12")),
    )
    assert foretold.planned_until == at("02:02")
    assert foretold.runs == 2


def test_the_next_fire_time_is_planned_however_far_it_is() -> None:
    spec = a_spec(when=(At(at=(dt.time(19, 30),)),))

    foretold = foretell(spec)

    assert seen(foretold) == [("19:30:00", PLANNED)]
    assert foretold.planned_until == at("19:30")


def test_a_schedule_without_a_fire_time_left_is_planned_for_ever() -> None:
    spec = a_spec(when=(Once(once=dt.datetime(2026, 11, 24, 2, 1)),))

    foretold = foretell(spec)

    assert seen(foretold) == [("02:01:00", PLANNED)]
    assert foretold.planned_until is None


def test_what_is_planned_already_is_not_told_again() -> None:
    spec = a_spec(every=MINUTE)

    foretold = foretell(spec, planned_until=at("02:01"))

    assert seen(foretold) == [("02:02:00", PLANNED)]


def test_a_spread_start_is_due_later_and_its_grace_begins_then() -> None:
    spec = a_spec(every=5 * MINUTE, spread=MINUTE, grace=10 * MINUTE)

    (one,) = foretell(spec).occurrences

    assert at("02:05") < one.due_at < at("02:06")
    assert one.start_by == one.due_at + 10 * MINUTE


FREEZE = Calendar(
    name="freeze",
    windows=(Window(start=dt.datetime(2026, 11, 24, 2, 0), end=dt.datetime(2026, 11, 24, 3, 0), why="year end"),),
)


def test_a_blackout_skips_with_its_reason() -> None:
    spec = a_spec(calendars={"freeze": FREEZE}, blackout=Blackout(during=("freeze",), then="skip"))

    (one,) = foretell(spec).occurrences

    assert one == Occurrence(at("02:05"), SKIPPED, at("02:05"), None, "schedule", "blackout", "blackout: year end")


def test_after_a_blackout_runs_what_was_due_in_it() -> None:
    spec = a_spec(
        every=30 * MINUTE,
        calendars={"freeze": FREEZE},
        blackout=Blackout(during=("freeze",), then="run-after"),
        grace=10 * MINUTE,
    )

    (one,) = foretell(spec).occurrences

    assert one == Occurrence(at("02:30"), PLANNED, at("03:00"), at("03:10"))


def test_after_a_blackout_runs_the_last_of_what_was_due_in_it() -> None:
    spec = a_spec(
        every=20 * MINUTE, calendars={"freeze": FREEZE}, blackout=Blackout(during=("freeze",), then="run-after")
    )

    first, last = foretell(spec, horizon=45 * MINUTE).occurrences

    assert (first.fire_time, first.state, first.reason_code) == (at("02:20"), SKIPPED, "blackout")
    assert first.reason is not None
    assert first.reason.endswith("; a later one runs after it")
    assert (last.fire_time, last.state, last.due_at) == (at("02:40"), PLANNED, at("03:00"))


# --- max_runs -------------------------------------------------------------------------------------------------------


def test_no_more_than_the_runs_left_are_planned() -> None:
    spec = a_spec(every=SECOND)

    foretold = foretell(spec, runs_left=3)

    assert seen(foretold) == [("02:00:01", PLANNED), ("02:00:02", PLANNED), ("02:00:03", PLANNED)]
    assert foretold.planned_until is None
    assert foretold.runs == 3


def test_without_a_run_left_nothing_is_planned_ever() -> None:
    assert foretell(a_spec(), runs_left=0) == Forecast((), None)


def test_a_missed_fire_time_counts_as_a_run() -> None:
    # As it does when it is missed after it was planned: else a standstill would count otherwise than a late start.
    spec = a_spec(every=5 * MINUTE, grace=MINUTE, missed=Missed(run="none"))

    foretold = foretell(spec, planned_until=at("01:40"), runs_left=9)

    assert seen(foretold)[:3] == [("01:45:00", MISSED), ("01:50:00", MISSED), ("01:55:00", MISSED)]
    assert foretold.runs == 5  # 02:00, which is on time, and 02:05 too


def test_a_skipped_fire_time_counts_as_no_run() -> None:
    spec = a_spec(every=5 * MINUTE)
    pause = Pause(at("01:00"), "jana", until=at("01:51"))

    foretold = foretell(spec, planned_until=at("01:40"), runs_left=1, pauses=[pause])

    assert seen(foretold) == [("01:45:00", SKIPPED), ("01:50:00", SKIPPED), ("01:55:00", PLANNED)]


# --- after a standstill ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "states"),
    [
        pytest.param(Missed(run="none"), "m m m P P P", id="none"),
        pytest.param(Missed(run="latest", within=None), "m m C P P P", id="the latest"),
        pytest.param(Missed(run="latest", within=HOUR), "m m C P P P", id="the latest, within"),
        pytest.param(Missed(run="latest", within=15 * MINUTE), "m m m P P P", id="the latest is too old"),
        pytest.param(Missed(run="all", within=None), "C C C P P P", id="all"),
        pytest.param(Missed(run="all", within=None, most=2), "m C C P P P", id="all, at most two"),
        pytest.param(Missed(run="all", within=30 * MINUTE), "m C C P P P", id="all within"),
        pytest.param(Missed(run="all", within=30 * MINUTE, most=1), "m m C P P P", id="all within, at most one"),
    ],
)
def test_what_a_standstill_left_is_caught_up_or_missed(missed: Missed, states: str) -> None:
    spec = a_spec(every=10 * MINUTE, grace=10 * MINUTE, missed=missed)

    # 01:20, 01:30 and 01:40 are late; 01:50 may start until 02:00 just now, 02:00 is due, 02:10 is to come
    foretold = foretell(spec, planned_until=at("01:15"))

    letters = {(PLANNED, "schedule"): "P", (PLANNED, "catch_up"): "C", (MISSED, "schedule"): "m"}
    assert [one.fire_time.minute for one in foretold.occurrences] == [20, 30, 40, 50, 0, 10]
    assert " ".join(letters[one.state, one.origin] for one in foretold.occurrences) == states


class Counted(dt.datetime):
    """A moment that counts how often it is held against another."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    __hash__ = dt.datetime.__hash__


@pytest.mark.parametrize("most", [1, 1000], ids=["too many", "all count"])
def test_a_thousand_late_ones_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(Counted, "compared", 0)
    first = Counted(2026, 11, 24, tzinfo=dt.UTC)
    late = {first + number * SECOND: first for number in range(1000)}

    fates = judge_late(Missed(run="all", within=None, most=most), late, at("12:00"))

    assert [fate.reason_code for fate in fates.values()] == ["too_many"] * (1000 - most) + ["catch_up"] * most
    assert Counted.compared < 10_000


def test_a_long_standstill_leaves_the_newest_rows_and_one_gap() -> None:
    spec = a_spec(every=SECOND, missed=Missed(run="none"), grace=MINUTE)

    foretold = foretell(spec, planned_until=at("01:00"))

    past = [one for one in foretold.occurrences if one.fire_time <= at("02:00")]
    assert len(past) == MOST_ROWS
    assert (past[0].fire_time, past[-1].fire_time) == (at("01:43:21"), at("02:00"))
    assert foretold.gap == Gap(at("01:00:01"), at("01:43:20"), 2600)
    assert foretold.planned_until == at("02:02")


@pytest.mark.parametrize(("count", "gap"), [(MOST_ROWS, None), (MOST_ROWS + 1, 1)])
def test_a_gap_begins_where_rows_end(count: int, gap: int | None) -> None:
    spec = a_spec(every=SECOND)

    foretold = foretell(spec, planned_until=at("02:00") - count * SECOND)

    assert (foretold.gap and foretold.gap.count) == gap


def test_a_blackout_skips_also_what_is_past() -> None:
    spec = a_spec(every=30 * MINUTE, calendars={"freeze": FREEZE}, blackout=Blackout(during=("freeze",), then="skip"))

    foretold = foretell(spec, planned_until=at("01:45"), now=at("04:00"), horizon=MINUTE)

    assert seen(foretold)[:3] == [("02:00:00", SKIPPED), ("02:30:00", SKIPPED), ("03:00:00", MISSED)]


# --- pauses ---------------------------------------------------------------------------------------------------------


def test_a_pause_skips_what_passed_and_leaves_the_future_open() -> None:
    pause = Pause(at("01:45"), "jana", "partner is down", at("08:00"))

    foretold = foretell(a_spec(), planned_until=at("01:45"), pauses=[pause])

    reason = "paused by jana until 2026-11-24 08:00 UTC: partner is down"
    assert foretold.occurrences == tuple(
        Occurrence(moment, SKIPPED, moment, None, "schedule", "paused", reason)
        for moment in (at("01:50"), at("01:55"), at("02:00"))
    )
    assert foretold.planned_until == at("02:00")


@pytest.mark.parametrize(
    ("pause", "states"),
    [
        pytest.param(Pause(at("01:45"), "x"), "PsssP", id="not before it began"),
        pytest.param(Pause(at("01:40"), "x", until=at("01:51")), "ssPPP", id="not after it ended"),
        pytest.param(Pause(at("01:40"), "x", until=at("01:50")), "sPPPP", id="not at the moment of its end"),
        pytest.param(Pause(at("01:46"), "x", until=at("01:49")), "PPPPP", id="between two fire times"),
    ],
)
def test_a_pause_covers_what_lies_within_it(pause: Pause, states: str) -> None:
    # Told at 02:05, when a pause without an end is still on, and so what comes after it is not told.
    spec = a_spec(every=5 * MINUTE, grace=HOUR)

    foretold = foretell(spec, planned_until=at("01:40"), now=at("02:00"), pauses=[pause])

    letters = {PLANNED: "P", SKIPPED: "s"}
    told = "".join(letters[one.state] for one in foretold.occurrences)
    assert told == (states if pause.until else states[:-1])


def test_of_two_pauses_the_longer_one_holds() -> None:
    by_file = Pause(at("01:00"), "schedules.yaml", until=at("01:52"))
    by_jana = Pause(at("01:30"), "jana")

    foretold = foretell(a_spec(), planned_until=at("01:45"), pauses=[by_file, by_jana])

    assert [(one.state, one.reason) for one in foretold.occurrences] == [
        (SKIPPED, "paused by schedules.yaml until 2026-11-24 01:52 UTC"),
        (SKIPPED, "paused by jana"),
        (SKIPPED, "paused by jana"),
    ]
    assert foretold.planned_until == at("02:00")


# --- the judgement of late ones -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "late", "fates"),
    [
        pytest.param(
            Missed(run="none"),
            ["01:50"],
            [Fate(None, "late", "could not start within its grace, 10m late (missed: none)")],
            id="none",
        ),
        pytest.param(
            Missed(run="latest", within=HOUR),
            ["01:40", "01:50"],
            [
                Fate(None, "superseded", "20m late, and a later one counts instead (missed: latest)"),
                Fate(at("02:50"), "catch_up", "caught up 10m late (missed: latest)"),
            ],
            id="the latest",
        ),
        pytest.param(
            Missed(run="latest", within=HOUR),
            ["00:59:59"],
            [Fate(None, "too_old", "1h1s late, older than 1h (missed: latest, within)")],
            id="too old",
        ),
        pytest.param(
            Missed(run="latest", within=HOUR),
            ["01:00"],
            [Fate(at("02:00"), "catch_up", "caught up 1h late (missed: latest)")],
            id="just young enough",
        ),
        pytest.param(
            Missed(run="all", within=None, most=1),
            ["01:40", "01:50"],
            [
                Fate(None, "too_many", "20m late, and 1 newer ones count instead (missed: all, max)"),
                Fate(at("02:00", "2026-11-25"), "catch_up", "caught up 10m late (missed: all)"),
            ],
            id="all, without a limit of age",
        ),
    ],
)
def test_the_fate_of_late_ones(policy: Missed, late: list[str], fates: list[Fate]) -> None:
    moments = [at(one) for one in late]

    assert judge_late(policy, on_time(moments), at("02:00")) == dict(zip(moments, fates, strict=True))


def on_time(moments: list[dt.datetime]) -> dict[dt.datetime, dt.datetime]:
    """Fire times that were due at once."""
    return dict(zip(moments, moments, strict=True))


@pytest.mark.parametrize(
    ("policy", "fate"),
    [
        pytest.param(
            Missed(run="latest", within=HOUR),
            Fate(at("02:50"), "catch_up", "caught up 10m late (missed: latest)"),
            id="latest",
        ),
        pytest.param(
            Missed(run="all", within=5 * MINUTE),
            Fate(None, "too_old", "10m late, older than 5m (missed: all, within)"),
            id="all",
        ),
        pytest.param(
            Missed(run="none"),
            Fate(None, "late", "could not start within its grace, 10m late (missed: none)"),
            id="none",
        ),
    ],
)
def test_the_age_of_what_a_blackout_held_back_is_counted_from_its_end(policy: Missed, fate: Fate) -> None:
    late = {at("18:00", "2026-11-23"): at("01:50")}

    assert list(judge_late(policy, late, at("02:00")).values()) == [fate]


def test_after_a_long_blackout_and_a_standstill_the_latest_still_counts() -> None:
    night = Calendar(
        name="night", windows=(Window(start=dt.datetime(2026, 11, 23, 18), end=dt.datetime(2026, 11, 24, 1, 45)),)
    )
    spec = a_spec(
        every=HOUR,
        grace=MINUTE,
        calendars={"night": night},
        blackout=Blackout(during=("night",), then="run-after"),
        missed=Missed(run="latest", within=30 * MINUTE),
    )

    foretold = foretell(spec, planned_until=at("00:30"), now=at("02:00"), horizon=MINUTE)

    first = foretold.occurrences[0]
    assert (first.fire_time, first.due_at, first.start_by) == (at("01:00"), at("01:45"), at("02:15"))
    assert (first.state, first.reason) == (PLANNED, "caught up 15m late (missed: latest)")


def test_the_order_of_late_ones_does_not_matter() -> None:
    moments = [at("01:50"), at("01:40"), at("01:45")]

    fates = judge_late(Missed(run="latest"), on_time(moments), at("02:00"))

    assert [moment for moment, fate in fates.items() if fate.start_by is not None] == [at("01:50")]


# --- what holds for all of them -------------------------------------------------------------------------------------

WHENS = st.one_of(
    st.sampled_from([1, 7, 30, 60, 300, 3600]).map(lambda seconds: Every(every=seconds * SECOND)),
    st.sampled_from(["*/7 * * * *", "0 2 * * *", "30 */2 * * mon", "15 1,2,3 * * *"]).map(lambda line: Cron(cron=line)),
    st.just(At(at=(dt.time(2, 30), dt.time(14)))),
)
MISSED_POLICIES = st.builds(
    Missed,
    run=st.sampled_from(["none", "latest", "all"]),
    within=st.none() | st.sampled_from([MINUTE, HOUR]),
    most=st.sampled_from([1, 3, 100]),
)
SPECS = st.builds(
    lambda **fields: a_spec(**fields),
    when=st.tuples(WHENS) | st.tuples(WHENS, WHENS),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Chatham"]),
    missed=MISSED_POLICIES,
    grace=st.sampled_from([0, 5, 60, 3600]).map(lambda seconds: seconds * SECOND),
    spread=st.sampled_from([0, 30]).map(lambda seconds: seconds * SECOND),
)
# Two days about the end of summer time in Europe.
NOWS = st.integers(0, 2 * 86_400).map(lambda seconds: at("12:00", "2026-10-24") + seconds * SECOND)
BEHIND = st.integers(0, 4 * 3600).map(lambda seconds: seconds * SECOND)
HORIZONS = st.integers(0, 600).map(lambda seconds: seconds * SECOND)
RUNS_LEFT = st.none() | st.integers(0, 50)


@st.composite
def some_pauses(draw: st.DrawFn, now: dt.datetime) -> list[Pause]:
    pauses = []
    for _ in range(draw(st.integers(0, 2))):
        since = now - draw(st.integers(1, 4 * 3600)) * SECOND
        length = draw(st.none() | st.integers(1, 8 * 3600))
        pauses.append(Pause(since, "x", until=None if length is None else since + length * SECOND))
    return pauses


@given(spec=SPECS, now=NOWS, behind=BEHIND, horizon=HORIZONS, runs_left=RUNS_LEFT, draw=st.data())
def test_a_forecast_is_sound(
    spec: ScheduleSpec,
    now: dt.datetime,
    behind: dt.timedelta,
    horizon: dt.timedelta,
    runs_left: int | None,
    draw: st.DataObject,
) -> None:
    planned_until = now - behind
    pauses = draw.draw(some_pauses(now))

    foretold = forecast(spec, planned_until=planned_until, now=now, horizon=horizon, pauses=pauses, runs_left=runs_left)

    told = [one.fire_time for one in foretold.occurrences]
    assert told == sorted(set(told))
    assert all(moment > planned_until for moment in told)
    assert foretold.planned_until is None or all(moment <= foretold.planned_until for moment in told)
    assert foretold.planned_until is None or foretold.planned_until >= planned_until
    assert sum(moment <= now for moment in told) <= MOST_ROWS
    assert runs_left is None or foretold.runs <= runs_left
    expected = list(fire_times(spec, planned_until, told[-1] if told else planned_until))
    left_out = foretold.gap.count if foretold.gap else 0
    assert told == expected[left_out:]
    for one in foretold.occurrences:
        assert one.due_at >= one.fire_time
        covered = any(pause.covers(one.fire_time) for pause in pauses)
        assert (one.state == SKIPPED) == covered
        if one.state == PLANNED:
            assert one.start_by is not None
            assert one.start_by >= now
        else:
            assert one.reason
            assert one.start_by is None
        if one.fire_time > now:
            assert (one.state, one.origin) == (PLANNED, "schedule")


@given(spec=SPECS, now=NOWS, behind=BEHIND, near=HORIZONS, further=HORIZONS, runs_left=RUNS_LEFT)
def test_two_steps_tell_the_same_as_one(
    spec: ScheduleSpec,
    now: dt.datetime,
    behind: dt.timedelta,
    near: dt.timedelta,
    further: dt.timedelta,
    runs_left: int | None,
) -> None:
    far = near + further

    one = forecast(spec, planned_until=now - behind, now=now, horizon=far, runs_left=runs_left)
    first = forecast(spec, planned_until=now - behind, now=now, horizon=near, runs_left=runs_left)
    rows = list(first.occurrences)
    if first.planned_until is not None and first.planned_until < now + far:
        rest = None if runs_left is None else runs_left - first.runs
        rows += forecast(spec, planned_until=first.planned_until, now=now, horizon=far, runs_left=rest).occurrences

    # The second step promises the next one too, so it may tell one more, beyond the horizon.
    assert [row for row in rows if row.fire_time <= now + far] == [
        row for row in one.occurrences if row.fire_time <= now + far
    ]
