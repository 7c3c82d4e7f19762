from __future__ import annotations

import datetime as dt
import re
import xml.etree.ElementTree as ElementTree
from zoneinfo import ZoneInfo

import pytest

from scheduler.engine.page.day import Day, Lane, LaneMark, Span, clock_changes, span_of
from scheduler.rules.states import STATES
from scheduler.web.charts import (
    Bar,
    DayTally,
    Mark,
    day_picture,
    duration_bars,
    heat_map,
    legend,
    linked_strip,
    shape,
    strip,
    tag,
)
from tests.builders import HOUR, MINUTE, at

BERLIN = ZoneInfo("Europe/Berlin")
NASTY = """</title><script>alert('x')</script>"&<b>"""


def a_lane(**fields: object) -> Lane:
    plain: dict[str, object] = {
        "name": "nightly",
        "words": "every hour",
        "state": "active",
        "marks": (),
        "is_summed": False,
        "blackouts": (),
        "gaps": (),
    }
    return Lane(**{**plain, **fields})  # type: ignore[arg-type]


def a_day(*lanes: Lane, date: dt.date = dt.date(2026, 11, 24), **fields: object) -> Day:
    span = span_of(date, BERLIN)
    changes = tuple(clock_changes(BERLIN, span))
    plain: dict[str, object] = {"now": at("12:00"), "outages": (), "found": len(lanes), "page": 1, "pages": 1}
    return Day(date, "Europe/Berlin", span, lanes=lanes, clock_changes=changes, **{**plain, **fields})  # type: ignore[arg-type]


def parsed(markup: object) -> ElementTree.Element:
    return ElementTree.fromstring(str(markup))


def titles(markup: object) -> list[str]:
    return [found.text or "" for found in parsed(markup).iter("title")]


def boxes(day: Day, state: str) -> list[list[tuple[float, float]]]:
    """The left edge and the width of each box of that state, in the halves of the first lane."""
    lane = next(one for one in parsed(day_picture(day)).iter("div") if one.attrib["class"] == "lane")
    return [
        [(float(one.attrib["x"]), float(one.attrib["width"])) for one in half.iter("rect") if one.get("class") == state]
        for half in lane.iter("svg")
    ]


def texts(markup: object) -> list[str]:
    return [found.text or "".join(found.itertext()) for found in parsed(markup).iter("text")]


# --- shapes ---------------------------------------------------------------------------------------------------------


def test_an_element_is_escaped_through_and_through() -> None:
    assert tag("text", "<&>", class_="a", aria_label='"', x=1.50, y=None) == (
        '<text class="a" aria-label="&#34;" x="1.5">&lt;&amp;&gt;</text>'
    )


def test_states_that_tell_different_things_differ_in_form_not_only_in_colour() -> None:
    told = {"missed": "planned", "running": "queued", "retrying": "queued"}

    def form(state: str) -> str:
        return str(shape(state, 0, 0, 5, 20)).replace(f'class="{state} hollow"', "").replace(f'class="{state}"', "")

    forms = {state: form(state) for state in STATES}

    for state, like in told.items():
        assert forms[state].count("<") == forms[like].count("<")
    assert len(set(forms.values())) == 7  # well, failed, lost, not run, skipped, cancelled, going on


def test_the_legend_names_each_state_beside_its_form() -> None:
    found = parsed(legend(["succeeded", "failed"]))

    assert ["".join(one.itertext()) for one in found] == ["succeeded", "failed"]
    assert len(list(found.iter("svg"))) == 2


def test_the_legend_names_what_is_shaded_too() -> None:
    found = parsed(legend(["succeeded"], {"shade-blackout": "blackout"}))

    assert ["".join(one.itertext()) for one in found] == ["succeeded", "blackout"]
    assert [one.attrib["class"] for one in found.iter("rect")] == ["succeeded", "shade-blackout"]


# --- strips ---------------------------------------------------------------------------------------------------------


def test_a_strip_says_in_words_what_it_shows() -> None:
    drawn = strip(["succeeded"] * 5 + ["failed", "succeeded", "missed"])

    assert titles(drawn) == ["last 8: 6 succeeded, 1 failed, 1 missed"]
    assert parsed(drawn).attrib["aria-label"] == "last 8: 6 succeeded, 1 failed, 1 missed"
    assert [one.attrib["class"] for one in parsed(drawn).iter("path")] == [
        "succeeded",
        "failed",
        "missed hollow",
        "cut",
    ]


def test_a_strip_of_nothing_says_so() -> None:
    assert titles(strip([])) == ["nothing has ended yet"]


def test_a_strip_shows_the_newest_at_the_right_and_stays_small() -> None:
    drawn = strip(["failed"] * 40 + ["succeeded"] * 60)

    assert titles(drawn) == ["last 60: 60 succeeded"]
    assert len(drawn) < 1500


def test_what_leads_somewhere_is_no_mere_picture() -> None:
    assert parsed(strip(["succeeded"])).attrib["role"] == "img"
    assert parsed(linked_strip([Mark("succeeded", "2 s", "/tasks/1")])).attrib["role"] == "group"


def test_a_linked_strip_leads_to_each_task() -> None:
    drawn = linked_strip([Mark("succeeded", "06:30 succeeded, 2 s", "/tasks/1"), Mark("failed", NASTY, "/tasks/2")])

    assert [one.attrib["href"] for one in parsed(drawn).iter("a")] == ["/tasks/1", "/tasks/2"]
    assert titles(drawn) == ["last 2: 1 succeeded, 1 failed", "06:30 succeeded, 2 s", NASTY]
    assert "<script" not in drawn


def test_in_a_strip_too_what_differs_differs_in_form() -> None:
    def form(state: str) -> list[str | None]:
        return [one.attrib["d"] for one in parsed(strip([state])).iter("path")]

    forms = {state: form(state) for state in ("succeeded", "failed", "lost", "missed", "skipped", "cancelled")}

    assert len({str(found) for found in forms.values()}) == len(forms)


# --- calendars ------------------------------------------------------------------------------------------------------


def test_a_heat_map_tells_each_day_and_the_sum() -> None:
    first, last = dt.date(2026, 11, 23), dt.date(2026, 11, 25)
    tallies = {first: DayTally(good=10), dt.date(2026, 11, 24): DayTally(good=3, bad=1), last: DayTally(missed=2)}

    drawn = heat_map(tallies, first, last, href="/day?date={day}")

    assert titles(drawn) == [
        "2026-11-23 to 2026-11-25: 13 succeeded, 1 failed, 2 missed",
        "Mon 2026-11-23: 10 succeeded",
        "Tue 2026-11-24: 3 succeeded, 1 failed",
        "Wed 2026-11-25: 2 missed",
    ]
    assert [one.attrib["href"] for one in parsed(drawn).iter("a")] == [
        "/day?date=2026-11-23",
        "/day?date=2026-11-24",
        "/day?date=2026-11-25",
    ]
    assert [one.attrib["class"] for one in parsed(drawn).iter("rect")] == ["heat-4", "heat-bad", "heat-warn"]


def test_a_heat_map_of_a_year_without_runs_is_pale() -> None:
    drawn = heat_map({}, dt.date(2026, 1, 1), dt.date(2026, 12, 31))

    assert {one.attrib["class"] for one in parsed(drawn).iter("rect")} == {"heat-0"}
    assert texts(drawn)[:3] == ["Mon", "Thu", "Sun"]
    assert len(texts(drawn)) == 3 + 12


# --- durations ------------------------------------------------------------------------------------------------------


def test_duration_bars_tell_the_longest_and_what_is_usual() -> None:
    bars = [Bar(2.0, Mark("succeeded", "2 s", "/tasks/1")), Bar(30.0, Mark("failed", "30 s", "/tasks/2"))]

    drawn = duration_bars(bars, usual=3.0)

    assert titles(drawn)[0] == "durations of the last 2 runs, the longest 30 s, usually 3 s"
    assert texts(drawn) == ["30 s", "0"]
    assert len(list(parsed(drawn).iter("rect"))) == 2


def test_the_newest_duration_is_at_the_right_as_in_a_strip() -> None:
    drawn = duration_bars([Bar(2.0, Mark("succeeded", "2 s", "/tasks/1"))])

    box = next(parsed(drawn).iter("rect"))

    assert float(box.attrib["x"]) + float(box.attrib["width"]) == pytest.approx(600, abs=10)


def test_duration_bars_of_nothing_say_so() -> None:
    assert duration_bars([]) == '<p class="empty">No run has ended yet.</p>'


# --- days -----------------------------------------------------------------------------------------------------------


def test_a_day_shows_each_run_with_a_link_and_what_is_to_come_without() -> None:
    lane = a_lane(
        marks=(
            LaneMark("succeeded", at("06:00"), at("06:10"), 1, 17),
            LaneMark("planned", at("18:00"), at("18:00")),
        )
    )

    drawn = day_picture(a_day(lane))

    name, run = parsed(drawn).iter("a")
    assert (name.attrib["href"], name.attrib["title"]) == ("/schedules/nightly", "nightly: every hour")
    assert run.attrib["href"] == "/tasks/17"
    assert titles(drawn) == ["now, 13:00", "07:00 succeeded", "19:00 planned"]
    assert [one.attrib["aria-label"] for one in parsed(drawn).iter() if "aria-label" in one.attrib] == [
        "Tuesday 2026-11-24: 1 schedule, local time of Europe/Berlin",
        "nightly, 00:00 to 12:00",
        "nightly, 12:00 to 00:00",
    ]
    assert [one.text for one in parsed(drawn).iter("span") if one.text] == [" 1\u00a0succeeded, 1\u00a0planned"]


def test_a_day_draws_time_to_scale() -> None:
    lane = a_lane(marks=(LaneMark("succeeded", at("05:00"), at("11:00"), 1, 17),))  # 06:00 to 12:00 in Berlin

    assert boxes(a_day(lane), "succeeded") == [[(495 / 2, 495 / 2)], []]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param("10:00", "14:00", [[(495 - 41.2, 41.2)], [(0, 3 * 41.25)]], id="over noon"),
        pytest.param("10:59:59", "11:00:01", [[(495, 4)], [(0, 1)]], id="hardly over noon"),
        pytest.param("11:00", "11:00", [[], [(0, 4)]], id="at noon"),
        pytest.param("22:30", "23:50", [[], [(495 - 20.6, 20.6)]], id="over midnight"),
    ],
)
def test_what_runs_over_noon_is_drawn_in_both_halves(start: str, end: str, expected: list[object]) -> None:
    lane = a_lane(marks=(LaneMark("succeeded", at(start), at(end), 1, 17),))

    drawn = boxes(a_day(lane), "succeeded")

    assert [[pytest.approx(box, abs=0.1) for box in half] for half in drawn] == expected


def test_what_goes_through_all_lanes_is_drawn_once_and_named_in_each() -> None:
    outage = Span(at("10:00"), at("12:00"), "nobody planned")  # over noon in Berlin

    drawn = parsed(day_picture(a_day(a_lane(), a_lane(name="other"), outages=(outage,))))

    through = {one.attrib["id"]: one for one in drawn.iter("g") if "id" in one.attrib}
    assert [one.attrib["href"] for one in drawn.iter("use")] == ["#day-1", "#day-2"] * 2
    shaded = [[float(one.attrib["width"]) for one in half.iter("rect")] for half in through.values()]
    assert shaded == [[pytest.approx(41.2, abs=0.1)], [pytest.approx(41.2, abs=0.1)]]
    assert [one.attrib["class"] for one in through["day-2"].iter("path")] == ["grid-line", "now"]


def test_the_sums_of_a_lane_tell_the_worst_first_and_why_it_is_held() -> None:
    marks = [LaneMark(state, at("06:00"), at("06:15"), n) for n, state in enumerate(("planned", "succeeded", "lost"))]

    drawn = day_picture(a_day(a_lane(state="paused", marks=tuple(marks), is_summed=True), a_lane(name="none")))

    assert [one.text for one in parsed(drawn).iter("span") if one.text] == [
        " paused, 2\u00a0lost, 1\u00a0succeeded, more\u00a0planned"
    ]


def test_a_lane_of_many_runs_is_summed_by_quarters_and_the_worst_is_seen() -> None:
    marks = [LaneMark("succeeded", at("06:00"), at("06:15"), 14), LaneMark("failed", at("06:00"), at("06:15"), 1)]

    drawn = day_picture(a_day(a_lane(marks=tuple(marks), is_summed=True)))

    assert "nightly: 14 succeeded, 1 failed, by quarters of an hour" in titles(drawn)
    assert {one.attrib["class"] for one in parsed(drawn).iter("path")} >= {"failed"}
    assert "succeeded" not in {one.attrib["class"] for one in parsed(drawn).iter("path")}


@pytest.mark.parametrize(
    ("date", "hours", "told"),
    [
        pytest.param(dt.date(2026, 3, 29), 23, ["clocks go forward, 02:00 becomes 03:00"], id="forward"),
        pytest.param(dt.date(2026, 10, 25), 25, ["clocks go back, 03:00 becomes 02:00"], id="back"),
        pytest.param(dt.date(2026, 11, 24), 24, [], id="none"),
    ],
)
def test_a_day_tells_what_the_clocks_do(date: dt.date, hours: int, told: list[str]) -> None:
    day = a_day(a_lane(), date=date)

    drawn = day_picture(day)

    assert day.span.end - day.span.start == hours * HOUR
    assert [text for text in texts(drawn) if "clocks" in text] == told
    assert [title for title in titles(drawn) if "clocks" in title] == told


def test_a_day_on_which_an_hour_comes_twice_names_it_twice() -> None:
    hours = [
        text
        for text in texts(day_picture(a_day(a_lane(), date=dt.date(2026, 10, 25))))
        if re.fullmatch(r"\d\d:00", text)
    ]

    assert hours[:4] == ["00:00", "02:00", "03:00", "05:00"]


def test_blackouts_gaps_and_outages_are_shaded_with_their_reasons() -> None:
    lane = a_lane(
        blackouts=(Span(at("21:00"), at("22:00"), "deployment"),),
        gaps=(Span(at("01:00"), at("02:00"), "9,000 fire times passed"),),
    )

    drawn = day_picture(a_day(lane, outages=(Span(at("01:00"), at("02:00"), "nobody planned"),)))

    assert {title for title in titles(drawn) if " to " in title} == {
        "22:00 to 23:00: deployment",
        "02:00 to 03:00: 9,000 fire times passed",
        "02:00 to 03:00: nobody planned",
    }


def test_what_nobody_has_counted_is_told_without_a_number() -> None:
    lane = a_lane(marks=(LaneMark("planned", at("12:00"), at("12:15"), 0),), is_summed=True)

    assert "nightly: more planned, by quarters of an hour" in titles(day_picture(a_day(lane)))


def test_no_name_gets_out_of_its_text() -> None:
    lane = a_lane(name=NASTY, words=NASTY, marks=(LaneMark("failed", at("06:00"), at("06:00") + MINUTE, 1, 17),))

    drawn = day_picture(a_day(lane))

    assert "<script" not in drawn
    assert next(parsed(drawn).iter("a")).attrib["title"] == f"{NASTY}: {NASTY}"
    assert next(parsed(drawn).iter("a")).text == NASTY


def test_a_page_of_lanes_stays_small() -> None:
    marks = tuple(LaneMark("failed", at("00:30") + n * HOUR, at("00:30") + n * HOUR, 1, 10**7 + n) for n in range(23))

    drawn = day_picture(a_day(*(a_lane(name=f"a-schedule-with-a-name-{n}", marks=marks) for n in range(20))))

    assert len(drawn) < 95_000
