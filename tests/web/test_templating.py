from __future__ import annotations

import pytest

from scheduler.rules.states import STATES
from scheduler.web.templating import ENVIRONMENT, SIGNS, counting, local, size, static
from tests.builders import at

MACROS = '{% import "macros.html.jinja" as m with context %}'


def rendered(template: str, **values: object) -> str:
    shared = {"zone": "Europe/Berlin", "now": at("12:00:00")}
    return ENVIRONMENT.from_string(MACROS + template).render({**shared, **values})


@pytest.mark.parametrize(
    ("moment", "told"),
    [
        pytest.param("2026-11-24T06:30:05Z", "07:30:05", id="today"),
        pytest.param("2026-11-23T23:30:00Z", "00:30:00", id="today-there-yesterday-in-utc"),
        pytest.param("2026-11-23T06:30:00Z", "Mon 23 Nov 07:30", id="yesterday"),
        pytest.param("2027-01-02T06:30:00Z", "Sat 2 Jan 07:30", id="soon-in-another-year"),
        pytest.param("2024-07-02T06:30:00Z", "2024-07-02 08:30", id="long-ago"),
    ],
)
def test_a_moment_is_told_in_local_time_as_short_as_the_day_allows(moment: str, told: str) -> None:
    assert local(moment, "Europe/Berlin", at("12:00")) == told


def test_a_moment_has_both_times_in_full_on_hover() -> None:
    assert rendered("{{ m.moment('2026-11-24T06:30:05Z', named=true) }}") == (
        '<time datetime="2026-11-24T06:30:05Z"'
        ' title="Tue 2026-11-24 07:30:05 CET, 2026-11-24 06:30:05 UTC">07:30:05 CET</time>'
    )


@pytest.mark.parametrize(
    ("macro", "moment", "told"),
    [
        ("since", "2026-11-24T11:58:00Z", "2 m"),
        ("since", "2026-11-24T12:00:05Z", "0 s"),  # a clock that is ahead: nothing has been for less than no time
        ("until", "2026-11-24T12:00:07.9Z", "7 s"),
        ("until", "2026-11-24T11:59:00Z", "0 s"),
    ],
)
def test_times_that_count_say_where_they_stand(macro: str, moment: str, told: str) -> None:
    found = rendered("{{ m[macro](moment) }}", macro=macro, moment=moment)

    assert found.startswith(f"<time data-{macro} datetime=")
    assert found.endswith(f">{told}</time>")


def test_a_moment_that_is_not_known_shows_nothing() -> None:
    assert rendered("{{ m.moment(none) }}{{ m.since(none) }}{{ m.until(none) }}") == ""


def test_each_state_has_a_sign_of_its_own() -> None:
    assert len({SIGNS[state] for state in STATES}) == len(STATES)
    assert rendered("{{ m.state('failed', 'late') }}") == (
        '<span class="state state-failed" title="late"><span class="sign" aria-hidden="true">✗</span> failed</span>'
    )
    assert rendered("{{ m.state_sign('lost') }}") == (
        '<span class="state state-lost" title="lost"><span class="sign" aria-hidden="true">?</span>'
        '<span class="unseen">lost</span></span>'
    )


def test_a_progress_bar_is_there_when_the_total_is_known() -> None:
    assert rendered("{{ m.progress(0.416, '41 %') }}") == (
        '<span class="progress"><progress max="100" value="41.6" aria-label="41 percent done"></progress>'
        '<span class="progress-words">41 %</span></span>'
    )
    assert "<progress" not in rendered("{{ m.progress(none, '1200 lines') }}")


def test_what_stands_in_a_page_is_escaped() -> None:
    nasty = "\"><script>alert('x')</script>"

    found = rendered(
        "{{ m.schedule_link(x) }}{{ m.task_link(1, x) }}{{ m.copy(x) }}{{ m.progress(none, x) }}{{ m.state(x, x) }}",
        x=nasty,
    )

    assert "<script" not in found
    assert 'href="/schedules/%22%3E%3Cscript%3Ealert%28%27x%27%29%3C/script%3E"' in found


@pytest.mark.parametrize(("seconds", "told"), [(0.2, "0 s"), (9.9, "9 s"), (59, "59 s"), (125, "2 m"), (90_000, "1 d")])
def test_what_counts_shows_whole_units(seconds: float, told: str) -> None:
    assert counting(seconds) == told


@pytest.mark.parametrize(("number", "told"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (5_300_000_000, "5.3 GB")])
def test_sizes_are_told_in_the_unit_that_fits(number: int, told: str) -> None:
    assert size(number) == told


def test_no_template_trusts_what_it_is_given() -> None:
    for name in ENVIRONMENT.list_templates():
        source, _, _ = ENVIRONMENT.loader.get_source(ENVIRONMENT, name)  # type: ignore[union-attr]

        for forbidden in ("|safe", "| safe", "autoescape false", "style=", " onclick", " onload", "javascript:"):
            assert forbidden not in source, f"{name} has {forbidden!r}"
        assert "<script" not in source.replace('<script src="{{ static(', ""), f"{name} has a script of its own"


def test_the_address_of_a_static_file_changes_with_its_content() -> None:
    assert static("style.css").startswith("/static/style.css?v=")
    assert static("app.js") != static("live.js")
