# ruff: noqa: E501  # messages are shown whole
from __future__ import annotations

import copy
import datetime as dt
import json
import textwrap
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.rules import spec
from scheduler.rules.file.schedule_file import MAX_FAULTS, Loaded, load_book, source_text_hash
from scheduler.rules.file.yaml_reader import read_yaml
from scheduler.rules.spec import At, Calendar, Cron, DateSpan, DayRule, Every, FilePause, Missed, Once, Timeout
from scheduler.task_functions import TaskFunction
from tests.effort import work_done
from tests.rules.file.sample_file import SAMPLE

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
HEAD = "version: 1\ntimezone: Europe/Berlin\n"


def count_words(source: str = "README.md") -> dict[str, int]:
    return {source: 0}


def send_mail() -> None: ...


def create_image_set(source: Path, sizes: list[int] | None = None) -> dict[str, int]:
    return {str(source): len(sizes or [])}


def crunch() -> None: ...


FUNCTIONS = {
    "count_words": TaskFunction("count_words", count_words),
    "send_mail": TaskFunction("send_mail", send_mail),
    "create_image_set": TaskFunction("create_image_set", create_image_set),
    "crunch": TaskFunction("crunch", crunch, kind="long", timeout="2h", retry="gentle"),
}


def load(text: str | bytes, *, now: dt.datetime = NOW, functions: Any = FUNCTIONS) -> Loaded:
    return load_book(text, file="schedules.yaml", functions=functions, now=now)


def a_book(sections: str) -> spec.Book:
    loaded = load(HEAD + sections)
    assert loaded.book is not None, "\n".join(map(str, loaded.faults))
    return loaded.book


def a_schedule(lines: str, sections: str = "") -> spec.ScheduleSpec:
    task = "" if "task:" in lines else "task: count_words\n"
    when = "" if "when:" in lines else "\nwhen: {every: 1h}"
    return a_book(f"{sections}schedules:\n  nightly:\n{textwrap.indent(task + lines + when, '    ')}\n").schedules[
        "nightly"
    ]


def warnings_of(lines: str) -> str:
    loaded = load(f"{HEAD}schedules:\n  nightly:\n    task: count_words\n{textwrap.indent(lines, '    ')}\n")
    assert loaded.book is not None
    return "".join(f"{warning}\n" for warning in loaded.warnings)


# --- what a file means ----------------------------------------------------------------------------------------------


def test_the_sample_is_taken_whole_and_without_a_warning() -> None:
    loaded = load(SAMPLE)

    assert loaded.faults == ()
    assert loaded.warnings == ()
    assert loaded.book is not None
    assert list(loaded.book.schedules) == [
        "mail-flush", "daily-word-count", "close-month", "stock-sync", "migrate-legacy", "partner-feed",
    ]  # fmt: skip


def test_a_schedule_is_filled_in_from_defaults_and_kind() -> None:
    book = load(SAMPLE).book
    assert book is not None

    assert book.schedules["close-month"] == spec.ScheduleSpec(
        name="close-month",
        task="create_image_set",
        args={"source": "a.png"},
        kind="long",
        queue="long",
        when=(At(at=(dt.time(19, 30),), days=DayRule(business="last", calendar="de-business")),),
        timezone="Europe/Berlin",
        calendars={
            "de-business": Calendar(
                name="de-business", weekdays=("mon", "tue", "wed", "thu", "fri"), without=("de-holidays",)
            ),
            "de-holidays": Calendar(
                name="de-holidays", dates=(dt.date(2026, 12, 25), dt.date(2026, 12, 26), dt.date(2027, 1, 1))
            ),
            "freeze": Calendar(
                name="freeze",
                windows=(
                    spec.Window(
                        start=dt.datetime(2026, 12, 21, 18), end=dt.datetime(2027, 1, 4, 6), why="year-end freeze"
                    ),
                ),
            ),
        },
        grace=dt.timedelta(minutes=10),
        missed=Missed(run="latest", within=dt.timedelta(hours=1)),
        overlap="queue-one",
        exclusive="billing",
        retry=spec.Retry(
            name="stubborn",
            attempts=8,
            first=dt.timedelta(minutes=1),
            longest=dt.timedelta(hours=2),
            give_up_after=dt.timedelta(hours=12),
            never_on=("ValueError",),
        ),
        timeout=Timeout(soft=dt.timedelta(hours=6), hard=dt.timedelta(hours=6, seconds=10)),
        delivery="at_most_once",
        blackout=spec.Blackout(during=("freeze",), then="run-after"),
        pause_after=2,
    )


def test_a_spec_comes_back_from_json_as_it_was() -> None:
    book = load(SAMPLE).book
    assert book is not None

    for schedule in book.schedules.values():
        assert spec.ScheduleSpec.model_validate(schedule.model_dump(mode="json")) == schedule


def test_days_and_moments_are_read_in_the_zone_of_the_schedule() -> None:
    berlin, new_york = (
        a_schedule(f"timezone: {zone}\nfrom: 2026-12-01\nuntil: 2027-07-01 12:00\npaused: {{until: 2026-12-02}}")
        for zone in ("Europe/Berlin", "America/New_York")
    )

    assert berlin.start == dt.datetime(2026, 11, 30, 23, tzinfo=dt.UTC)
    assert berlin.until == dt.datetime(2027, 7, 1, 10, tzinfo=dt.UTC)
    assert new_york.start == dt.datetime(2026, 12, 1, 5, tzinfo=dt.UTC)
    assert new_york.until == dt.datetime(2027, 7, 1, 16, tzinfo=dt.UTC)
    assert new_york.paused == FilePause(paused=True, until=dt.datetime(2026, 12, 2, 5, tzinfo=dt.UTC))


WHEN: dict[str, tuple[str, tuple[Any, ...]]] = {
    "every": ("{every: 90s}", (Every(every=dt.timedelta(seconds=90)),)),
    "every, within hours": (
        '{every: 1h, between: ["22:00", "06:00"], days: weekends}',
        (Every(every=dt.timedelta(hours=1), between=(dt.time(22), dt.time(6)), days=DayRule(weekdays=("sat", "sun"))),),
    ),
    "at, sorted and without twins": (
        '{at: ["19:00", "07:00:30", "19:00"]}',
        (At(at=(dt.time(7, 0, 30), dt.time(19))),),
    ),
    "at without quotes": ("{at: 19:30}", (At(at=(dt.time(19, 30),)),)),
    "cron": ('{cron: "0  9 * * mon-fri"}', (Cron(cron="0 9 * * mon-fri"),)),
    "a nickname": ('{cron: "@daily"}', (Cron(cron="0 0 * * *"),)),
    "both day fields": ('{cron: "0 0 13 * fri", match_days: all}', (Cron(cron="0 0 13 * fri", match_days="all"),)),
    "once": ("{once: 2026-12-05 23:00:10}", (Once(once=dt.datetime(2026, 12, 5, 23, 0, 10)),)),
    "a union": ("[{every: 1h}, {at: '06:30'}]", (Every(every=dt.timedelta(hours=1)), At(at=(dt.time(6, 30),)))),
}


@pytest.mark.parametrize(("written", "meant"), WHEN.values(), ids=WHEN)
def test_each_way_to_fire_is_read(written: str, meant: tuple[Any, ...]) -> None:
    assert a_schedule(f"when: {written}").when == meant


CALENDARS: dict[str, tuple[str, dict[str, Any]]] = {
    "dates": ("{dates: [2026-12-26, 2026-12-25]}", {"dates": (dt.date(2026, 12, 25), dt.date(2026, 12, 26))}),
    "a country": ("{country: DE, subdivision: BE}", {"country": "DE", "subdivision": "BE"}),
    "days": ("{days: mon-wed}", {"weekdays": ("mon", "tue", "wed")}),
    "a span": (
        "{spans: [{from: 2026-07-01, to: 2026-07-01}]}",
        {"spans": (DateSpan(first=dt.date(2026, 7, 1), last=dt.date(2026, 7, 1)),)},
    ),
    "a weekly window that passes midnight": (
        '{weekly: [{days: [fri, sat], from: "22:00", to: "06:00", why: backup}]}',
        {"weekly": (spec.WeeklyWindow(weekdays=("fri", "sat"), start=dt.time(22), end=dt.time(6), why="backup"),)},
    ),
    "all sorts together": (
        "{dates: 2026-12-24, days: sun, windows: {from: 2026-12-31, to: 2027-01-01}}",
        {
            "dates": (dt.date(2026, 12, 24),),
            "weekdays": ("sun",),
            "windows": (spec.Window(start=dt.datetime(2026, 12, 31), end=dt.datetime(2027, 1, 1)),),
        },
    ),
}


@pytest.mark.parametrize(("written", "meant"), CALENDARS.values(), ids=CALENDARS)
def test_each_sort_of_calendar_is_read(written: str, meant: dict[str, Any]) -> None:
    book = a_book(f"calendars:\n  mine: {written}\nschedules: {{}}\n")

    assert book.calendars["mine"] == Calendar(name="mine", **meant)


def test_a_schedule_carries_the_calendars_it_needs_and_no_other() -> None:
    calendars = """\
calendars:
  needed: {days: mon-fri, except: [deep]}
  deep: {dates: [2026-12-24], except: [deeper]}
  deeper: {dates: [2026-12-25]}
  idle: {days: sat}
"""

    schedule = a_schedule('when: {at: "06:30", calendar: needed}', calendars)

    assert list(schedule.calendars) == ["deep", "deeper", "needed"]


LAYERS: dict[str, tuple[str, str, dict[str, object]]] = {
    "nothing said anywhere": ("", "", {"kind": "scheduled", "overlap": "skip", "owner": "", "tags": ()}),
    "defaults": ("defaults: {kind: long, tags: [a]}\n", "", {"kind": "long", "queue": "long", "tags": ("a",)}),
    "the schedule above defaults": (
        "defaults: {kind: long, tags: [a]}\n",
        "kind: adhoc\ntags: []",
        {"kind": "adhoc", "tags": ()},
    ),
    "the task function above defaults": ("defaults: {kind: adhoc}\n", "task: crunch", {"kind": "long"}),
    "the schedule above the task function": ("", "task: crunch\nkind: scheduled", {"kind": "scheduled"}),
    "a blackout called off": (
        "calendars: {freeze: {dates: 2026-12-24}}\ndefaults: {blackout: {during: freeze, then: skip}}\n",
        "blackout: null",
        {"blackout": None, "calendars": {}},
    ),
    "a pause after failures called off": ("defaults: {pause_after: 3}\n", "pause_after:", {"pause_after": None}),
    "missed is none for what people ask for": ("", "kind: adhoc", {"missed": Missed(run="none")}),
    "missed as a word": ("", "missed: all", {"missed": Missed(run="all")}),
    "missed without a limit": (
        "",
        "missed: {run: all, within: null, max: 5}",
        {"missed": Missed(run="all", within=None, most=5)},
    ),
    "a queue renamed": ("kinds: {long: {queue: slow}}\n", "kind: long", {"queue": "slow"}),
    "paused": ("", "paused: true", {"paused": FilePause(paused=True)}),
    "resumed by the file": ("", "paused: false", {"paused": FilePause(paused=False)}),
    "no word of a pause": ("", "", {"paused": None}),
    "empty args": ("", "args:", {"args": {}}),
}


@pytest.mark.parametrize(("sections", "lines", "expected"), LAYERS.values(), ids=LAYERS)
def test_what_a_schedule_leaves_open_comes_from_the_next_layer(
    sections: str, lines: str, expected: dict[str, object]
) -> None:
    schedule = a_schedule(lines, sections)

    assert {key: getattr(schedule, key) for key in expected} == expected


TIMEOUTS: dict[str, tuple[str, str, int, int]] = {
    "the kind's own": ("", "", 900, 910),
    "the kind's in the file": ("kinds: {scheduled: {timeout: 1m}}\n", "", 60, 70),
    "defaults above the kind": ("defaults: {timeout: 2m}\n", "", 120, 130),
    "the task function above defaults": ("defaults: {timeout: 2m}\n", "task: crunch", 7200, 7210),
    "the schedule above all": ("defaults: {timeout: 2m}\n", "task: crunch\ntimeout: 3m", 180, 190),
    "soft alone": ("", "timeout: {soft: 1m}", 60, 70),
    "soft and hard": ("", "timeout: {soft: 1m, hard: 5m}", 60, 300),
}


@pytest.mark.parametrize(("sections", "lines", "soft", "hard"), TIMEOUTS.values(), ids=TIMEOUTS)
def test_the_nearest_timeout_counts(sections: str, lines: str, soft: int, hard: int) -> None:
    timeout = a_schedule(lines, sections).timeout

    assert (timeout.soft.total_seconds(), timeout.hard.total_seconds()) == (soft, hard)


RETRIES: dict[str, tuple[str, str, str, int]] = {
    "none unless said": ("", "", "none", 1),
    "defaults": ("defaults: {retry: stubborn}\n", "", "stubborn", 8),
    "the task function above defaults": ("defaults: {retry: stubborn}\n", "task: crunch", "gentle", 3),
    "the schedule above all": ("", "task: crunch\nretry: stubborn", "stubborn", 8),
    "written out": ("", "retry: {attempts: 5}", "inline", 5),
    "a built-in one overridden": ("retry_policies: {gentle: {attempts: 4}}\n", "retry: gentle", "gentle", 4),
    "one of the file": ("retry_policies: {mine: {attempts: 9}}\n", "retry: mine", "mine", 9),
}


@pytest.mark.parametrize(("sections", "lines", "name", "attempts"), RETRIES.values(), ids=RETRIES)
def test_the_nearest_retry_policy_counts(sections: str, lines: str, name: str, attempts: int) -> None:
    retry = a_schedule(lines, sections).retry

    assert (retry.name, retry.attempts) == (name, attempts)


def test_without_task_functions_names_and_arguments_are_taken_on_trust() -> None:
    text = f"{HEAD}schedules:\n  a: {{task: no_such, args: {{x: 1}}, when: {{every: 1h}}}}\n"

    book = load(text, functions=None).book

    assert book is not None
    assert book.schedules["a"].args == {"x": 1}


def test_a_file_may_hold_no_schedules() -> None:
    assert a_book("schedules: {}\n").schedules == {}


def test_the_hash_tells_texts_apart() -> None:
    assert source_text_hash("a: 1\n") == source_text_hash(b"a: 1\n")
    assert source_text_hash("a: 1\n") != source_text_hash("a: 1 \n")


def test_each_kind_has_its_isolation_unless_the_file_names_another() -> None:
    plain, other = (
        load(HEAD + f"kinds: {kinds}\nschedules: {{}}\n").book
        for kinds in ("{}", "{long: {isolation: warm}, adhoc: {isolation: fork, queue: people}}")
    )

    assert plain is not None
    assert other is not None
    assert {name: kind.isolation for name, kind in plain.kinds.items()} == spec.ISOLATION
    assert {name: kind.isolation for name, kind in other.kinds.items()} == {
        "scheduled": "warm",
        "long": "warm",
        "adhoc": "fork",
    }


def test_words_about_watching_and_telling_are_carried_into_the_spec() -> None:
    loaded = load(
        HEAD
        + """\
defaults: {keep: {days: 90, failed_days: 365}, notify: ops, dst: {gap: run-after, fold: once}}
kinds: {long: {timeout: 6h, warn_after: 3h, max_running: 2}}
contacts:
  ops: {email: [ops@example.org, root@localhost]}
  finance: {email: money@example.org}
schedules:
  a: {task: count_words, when: {at: "06:30"}, finish_by: "08:00", too_fast: 5s, kind: long}
  b: {task: count_words, when: {at: "06:30"}, notify: {failed: finance, late: [ops, finance]}, warn_after: 5m}
  c: {task: count_words, when: {at: "06:30"}, notify: null, keep: {days: 7}}
digests:
  morning: {to: ops, when: {at: "07:30", days: mon-fri}, only: {tags: prod, kinds: long, owner: jana}}
  weekly: {to: [ops, finance], when: {cron: "0 7 * * mon"}, covers: 7d, when_green: skip}
"""
    )

    assert loaded.book is not None
    book, (a, b, c) = loaded.book, loaded.book.schedules.values()
    assert (a.finish_by, a.too_fast, a.warn_after) == (dt.time(8), dt.timedelta(seconds=5), dt.timedelta(hours=3))
    assert (a.keep, a.notify) == (spec.Keep(days=90, failed_days=365), {"any": ("ops",)})
    assert (b.notify, b.warn_after) == ({"failed": ("finance",), "late": ("ops", "finance")}, dt.timedelta(minutes=5))
    assert (c.notify, c.keep, c.warn_after) == ({}, spec.Keep(days=7), None)
    assert (book.kinds["long"].max_running, book.kinds["long"].warn_after) == (2, dt.timedelta(hours=3))
    assert (a.max_running, b.max_running) == (2, None)
    assert book.contacts["ops"] == spec.Contact(name="ops", email=("ops@example.org", "root@localhost"))
    assert book.digests["morning"] == spec.Digest(
        name="morning",
        to=("ops",),
        when=(spec.At(at=(dt.time(7, 30),), days=spec.DayRule(weekdays=("mon", "tue", "wed", "thu", "fri"))),),
        timezone="Europe/Berlin",
        tags=("prod",),
        kinds=("long",),
        owners=("jana",),
    )
    assert book.digests["weekly"].covers == dt.timedelta(days=7)
    assert [spec.ScheduleSpec.model_validate(one.model_dump(mode="json")) for one in (a, b, c)] == [a, b, c]


def test_words_about_watching_and_telling_touch_no_occurrence() -> None:
    plain = a_schedule("when: {at: '06:30'}")
    watched = a_schedule(
        "when: {at: '06:30'}\nfinish_by: '08:00'\ntoo_fast: 5s\nwarn_after: 5m\nkeep: {days: 9}\nnotify: ops",
        "contacts: {ops: {email: ops@example.org}}\n",
    )

    assert watched != plain
    assert watched.fingerprint() == plain.fingerprint()


# --- warnings -------------------------------------------------------------------------------------------------------

WARNINGS: dict[str, tuple[str, str]] = {
    "a cron step that limps": (
        'when: {cron: "*/45 * * * *"}',
        """\
schedules.yaml:6:18: schedule "nightly": minute */45 does not divide the hour: it means 0 and 45, and begins anew each hour
    6 |     when: {cron: "*/45 * * * *"}
      |                  ^^^^^^^^^^^^^^
""",
    ),
    "an every that limps": (
        "when: {every: 7h}",
        """\
schedules.yaml:6:19: schedule "nightly": every 7h does not divide the day: it fires at 00:00, 07:00, 14:00, 21:00, and starts anew at midnight
    6 |     when: {every: 7h}
      |                   ^^
""",
    ),
    "an every that limps often": (
        "when: {every: 7m}",
        """\
schedules.yaml:6:19: schedule "nightly": every 7m does not divide the day: it fires at 00:00, 00:07, 00:14 … 23:55, and starts anew at midnight
    6 |     when: {every: 7m}
      |                   ^^
""",
    ),
    "an every out of step with its hours": (
        'when: {every: 2h, between: ["07:00", "13:00"]}',
        """\
schedules.yaml:6:19: schedule "nightly": every 2h counts from midnight, not from 07:00: it fires at 08:00, 10:00, 12:00
    6 |     when: {every: 2h, between: ["07:00", "13:00"]}
      |                   ^^
""",
    ),
    "an every of odd hours": (
        "when: {every: 36h}",
        """\
schedules.yaml:6:19: schedule "nightly": every 1d12h is no whole number of days: it counts elapsed time, so its time of day wanders
    6 |     when: {every: 36h}
      |                   ^^^
""",
    ),
    "a moment that is past": (
        'when: {once: "2026-11-24 13:00"}',
        """\
schedules.yaml:6:18: schedule "nightly": once (2026-11-24 13:00) is past: it never fires
    6 |     when: {once: "2026-11-24 13:00"}
      |                  ^^^^^^^^^^^^^^^^^^
    Remove it, or give a moment to come.
""",
    ),
    "an end that is past": (
        "when: {every: 1h}\nuntil: 2026-11-24",
        """\
schedules.yaml:7:12: schedule "nightly": until (2026-11-24 00:00) is past: it never fires again
    7 |     until: 2026-11-24
      |            ^^^^^^^^^^
    Remove the schedule, or move until.
""",
    ),
    "twins in a union": (
        "when:\n  - {every: 1h}\n  - {at: '06:30'}\n  - {every: 60m}",
        """\
schedules.yaml:9:9: schedule "nightly": entries 1 and 3 of when are the same
    9 |       - {every: 60m}
      |         ^^^^^^^^^^^^
    Equal instants fire once; remove one.
""",
    ),
    "every word is acted on": ("finish_by: '08:00'\ntoo_fast: 5s\nkeep: {days: 90}\nwhen: {every: 1h}", ""),
    "the one way through clock changes": ("dst: {gap: run-after, fold: once}\nwhen: {every: 1h}", ""),
    "nothing to wonder at": ('when: [{every: 15m}, {cron: "*/20 * * * *"}, {once: "2026-11-24 13:01"}]', ""),
}


@pytest.mark.parametrize(("lines", "expected"), WARNINGS.values(), ids=WARNINGS)
def test_what_may_surprise_is_told_and_taken_all_the_same(lines: str, expected: str) -> None:
    assert warnings_of(lines) == expected


# --- faults; each of them whole in test_schedule_file_faults.py -----------------------------------------------------


def test_all_faults_are_told_in_one_go_in_the_order_of_the_file() -> None:
    loaded = load("""\
version: 1
timezone: Europe/Berln
schedules:
  a:
    task: count_wrods
    when: {cron: "61 2 * * *"}
    owner: &x jana
  b: {task: count_words, args: {sorce: a}, when: {evry: 5m}, rety: none}
colour: red
""")

    assert loaded.book is None
    assert [(fault.line, fault.column, fault.code, fault.schedule) for fault in loaded.faults] == [
        (2, 11, "unknown-zone", None),
        (5, 11, "unknown-task", "a"),
        (6, 18, "bad-cron", "a"),
        (7, 12, "anchor", "a"),
        (8, 33, "unknown-argument", "b"),
        (8, 50, "one-of-when", "b"),
        (8, 62, "unknown-key", "b"),
        (9, 1, "unknown-key", None),
    ]


def test_a_refused_merge_key_is_not_followed_by_complaints_about_what_it_brings() -> None:
    loaded = load(HEAD + "schedules:\n  a: {<<: {task: count_words}, when: {every: 1h}}\n")

    assert [(fault.code, fault.schedule) for fault in loaded.faults] == [("merge-key", "a")]


def test_two_functions_of_one_name_are_told_of() -> None:
    loaded = load_book(
        HEAD + "schedules: {a: {task: twin, when: {every: 1h}}}\n",
        file="x.yaml",
        functions={},
        broken={"twin": "two task functions are named 'twin': tasks.a.twin and tasks.b.twin"},
        now=NOW,
    )

    assert loaded.faults[0].message == (
        'schedule "a": task function "twin" cannot be used: '
        "two task functions are named 'twin': tasks.a.twin and tasks.b.twin"
    )


def test_modules_that_cannot_be_imported_are_named_when_a_function_is_missing() -> None:
    loaded = load_book(
        HEAD + "schedules: {a: {task: shrink, when: {every: 1h}}}\n",
        file="x.yaml",
        functions=FUNCTIONS,
        broken={"tasks.images": "ImportError: No module named 'PIL'"},
        now=NOW,
    )

    assert loaded.faults[0].hint == (
        "It may stand in a module that cannot be imported: tasks.images (ImportError: No module named 'PIL')."
    )


def test_a_chain_of_calendars_has_an_end() -> None:
    chain = "".join(f"  c{n}: {{days: mon, except: [c{n + 1}]}}\n" for n in range(101))

    loaded = load(f"{HEAD}calendars:\n{chain}  c101: {{days: mon}}\nschedules: {{}}\n")

    assert [fault.message for fault in loaded.faults] == [
        'calendar "c0" takes out more than 100 others, one by another'
    ]


# --- hostile and large files ----------------------------------------------------------------------------------------

HOSTILE: dict[str, str] = {
    "50,000 unknown keys": "\n".join(f"k{n}: 1" for n in range(50_000)),
    "50,000 schedules that are numbers": HEAD + "schedules:\n" + "\n".join(f"  k{n}: 1" for n in range(50_000)),
    "2,000 time zones with a typo": HEAD
    + "schedules:\n"
    + "".join(f"  s{n}: {{task: count_words, when: {{every: 1h}}, timezone: Europe/Berln{n}}}\n" for n in range(2_000)),
    "5,000 calendars in a chain": HEAD
    + "schedules: {}\ncalendars:\n"
    + "".join(f"  c{n}: {{days: mon, except: [c{n + 1}]}}\n" for n in range(5_000)),
    "20,000 unknown arguments": HEAD
    + "schedules: {a: {task: count_words, when: {every: 1h}, args: {"
    + ", ".join(f"a{n}: 1" for n in range(20_000))
    + "}}}",
    "a crontab line of 200,000 letters": HEAD
    + f'schedules: {{a: {{task: x, when: {{cron: "{"1," * 100_000}x * * * *"}}}}}}',
    "a duration of 200,000 letters": f'{HEAD}schedules: {{a: {{task: x, when: {{every: "{"1h" * 100_000}"}}}}}}',
    "words of 100,000 letters": HEAD
    + f"schedules: {{a: {{task: {'x' * 100_000}, kind: {'y' * 100_000}, {'z' * 900}: 1}}}}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_answered_soon(text: str) -> None:
    with work_done() as work:
        loaded = load(text)

    assert work.seconds < 3
    assert 1 <= len(loaded.faults) <= MAX_FAULTS
    assert all(len(str(fault)) < 1_500 for fault in loaded.faults)


def test_ten_thousand_schedules_are_loaded_in_seconds() -> None:
    entry = """\
  job-{n}:
    task: count_words
    args: {{source: file-{n}.txt}}
    when:
      - {{every: 15m, days: mon-fri}}
      - {{cron: "{minute} {hour} * * *"}}
      - {{at: "{hour:02d}:{minute:02d}", calendar: business}}
    owner: jana
    missed: {{run: latest, within: 1h}}
    timeout: 5m
    tags: [a, b]
"""
    sections = "calendars: {hol: {dates: [2026-12-25]}, business: {days: mon-fri, except: hol}}\nschedules:\n"
    text = HEAD + sections + "".join(entry.format(n=n, minute=n % 60, hour=n % 24) for n in range(10_000))
    load(SAMPLE)  # imports and zones

    with work_done() as work:
        loaded = load(text.encode())

    assert loaded.book is not None
    assert len(loaded.book.schedules) == 10_000
    assert work.seconds < 8  # 2 s on an idle core


def test_memory_stays_within_bounds() -> None:
    entries = "".join(f"  job-{n}: {{task: count_words, when: {{every: 15m}}, owner: jana}}\n" for n in range(1_000))

    tracemalloc.start()
    load(f"{HEAD}schedules:\n{entries}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 30_000_000  # so that ten thousand stay below 300 MB


ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**17, "", "x", "19:30", "2026-12-01", "5m", [], [None], [[]], {}, {"": 1}, {"every": None},
    [{"at": []}], {"from": {}, "to": []},
)  # fmt: skip


def places_in(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, value in items for place in places_in(value, (*path, key)))]


def with_value(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.copy(data)
    changed[path[0]] = with_value(data[path[0]], path[1:], value)
    return changed


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
def test_an_odd_value_in_any_place_is_taken_or_answered_with_a_fault(value: Any) -> None:
    data = read_yaml(SAMPLE, "x.yaml").data

    for place in places_in(data):
        loaded = load(json.dumps(with_value(data, place, value)))
        assert (loaded.book is None) == bool(loaded.faults), place
        assert all(str(fault).startswith("schedules.yaml:") for fault in loaded.faults), place


PIECES = st.sampled_from(
    ["{", "}", "[", "]", ":", "- ", "&a ", "*a", "<<: ", "!!x ", "\t", "\n", "\n\n  ", '"', "'", "#", "|", ">", "? ",
     "---\n", "%", "@", "\0", "\u202e", "\x85", "null", "true", "0", "-1", "99999999999999999999",
     "1.5", "а", "🙂", "task", "when", "every"]
)  # fmt: skip


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, len(SAMPLE)), st.integers(0, 40), st.one_of(PIECES, st.text(max_size=5))), max_size=6
    )
)
def test_a_good_file_with_anything_done_to_it_is_loaded_or_answered_with_faults(
    edits: list[tuple[int, int, str]],
) -> None:
    text = SAMPLE
    for place, removed, put in edits:
        text = text[:place] + put + text[place + removed :]

    with work_done() as work:
        loaded = load(text)

    assert work.seconds < 2
    assert (loaded.book is None) == bool(loaded.faults)
    assert all(str(fault).startswith("schedules.yaml:") for fault in (*loaded.faults, *loaded.warnings))
    assert [fault.line for fault in loaded.faults] == sorted(fault.line for fault in loaded.faults)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered_with_faults(data: bytes) -> None:
    assert load(data).faults
