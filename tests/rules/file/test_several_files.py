"""Several files as one text and one document: nothing is lost on the way, and each fault stands in its own file."""

from __future__ import annotations

import datetime as dt

import pytest

from scheduler.rules.file.schedule_file import Loaded, load_book
from scheduler.rules.file.several_files import further_names, joined, parted
from tests.effort import calls_made_by

NOW = dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)
HEAD = "version: 1\ntimezone: UTC\n"
HOURLY = "{task: a, when: {every: 1h}}"
MAIN = f"{HEAD}calendars:\n  feast: {{dates: 2026-12-24}}\nschedules:\n  main: {HOURLY}\n"


def load(main: str, *, usual: dict[str, dt.timedelta] | None = None, **further: str) -> Loaded:
    """Each further file by its name without the ending."""
    text = joined(main.encode(), {f"{name}.yaml": content.encode() for name, content in further.items()})
    return load_book(text, file="config/schedules.yaml", functions=None, now=NOW, usual=usual or {})


def faults(main: str, **further: str) -> str:
    loaded = load(main, **further)
    assert loaded.book is None
    return "".join(f"{fault}\n" for fault in loaded.faults)


# --- one text -------------------------------------------------------------------------------------------------------


def test_the_text_of_one_file_is_its_bytes() -> None:
    assert joined(b"version: 1\r\n# no end", {}) == b"version: 1\r\n# no end"


def test_the_text_of_several_names_each_in_order() -> None:
    text = joined(b"a", {"z.yaml": b"z\n", "b \xc3\xbc.yaml".encode("latin-1").decode(): b"b"})

    assert text == "a\n# --- schedules.d/b ü.yaml\nb\n# --- schedules.d/z.yaml\nz\n".encode()
    assert parted(text) == [("", b"a\n"), ("b ü.yaml", b"b\n"), ("z.yaml", b"z\n")]
    assert further_names(text) == ["b ü.yaml", "z.yaml"]


@pytest.mark.parametrize("main", [b"", b"a", b"a\n", b"a\r\n", b"a\r", b"\n\n"])
def test_parting_and_joining_again_gives_the_same_text(main: bytes) -> None:
    text = joined(main, {"a.yaml": b"", "b.yaml": b"x: 1"})

    first, *others = parted(text)

    assert joined(first[1], dict(others)) == text


# --- one document ---------------------------------------------------------------------------------------------------


def test_the_schedules_of_all_files_are_in_the_book() -> None:
    loaded = load(
        MAIN, billing=f"schedules: {{close: {HOURLY}}}\n", other=f"version: 1\nschedules: {{other: {HOURLY}}}\n"
    )

    assert loaded.faults == ()
    assert loaded.book is not None
    assert list(loaded.book.schedules) == ["main", "close", "other"]
    assert loaded.files == (
        "config/schedules.yaml",
        "config/schedules.d/billing.yaml",
        "config/schedules.d/other.yaml",
    )


def test_entries_refer_to_each_other_across_files() -> None:
    main = f"{HEAD}defaults: {{retry: often}}\nschedules:\n  main: {{task: a, when: {{at: '06:30', calendar: work}}}}\n"
    further = f"""\
calendars: {{work: {{days: mon-fri}}}}
retry_policies: {{often: {{attempts: 7}}}}
contacts: {{ops: {{email: [ops@example.org]}}}}
digests: {{morning: {{to: ops, when: {{at: "07:30"}}}}}}
schedules: {{close: {HOURLY}}}
"""

    loaded = load(main, a="schedules: {first: {task: a, when: {at: '06:30', calendar: work}}}\n", b=further)

    assert loaded.faults == ()
    assert loaded.book is not None
    assert loaded.book.schedules["close"].retry.attempts == 7
    assert [name for name, spec in loaded.book.schedules.items() if spec.calendars] == ["main", "first"]
    assert list(loaded.book.digests) == ["morning"]


def test_the_schedules_may_all_stand_in_further_files() -> None:
    loaded = load(HEAD, a=f"schedules: {{one: {HOURLY}}}\n")

    assert loaded.faults == ()


def test_one_key_in_two_files_names_both_places() -> None:
    told = faults(
        MAIN,
        a=f"schedules:\n  twin: {HOURLY}\n",
        b=f"# more\nschedules:\n  twin: {HOURLY}\n  main: {HOURLY}\ncalendars:\n  feast: {{days: mon}}\n",
    )

    assert (
        told
        == """\
config/schedules.d/b.yaml:3:3: schedule "twin" stands twice: first in config/schedules.d/a.yaml:2:3, again here
    3 |   twin: {task: a, when: {every: 1h}}
      |   ^^^^
    Remove one of the two, or rename it.
config/schedules.d/b.yaml:4:3: schedule "main" stands twice: first in config/schedules.yaml:6:3, again here
    4 |   main: {task: a, when: {every: 1h}}
      |   ^^^^
    Remove one of the two, or rename it.
config/schedules.d/b.yaml:6:3: calendar "feast" stands twice: first in config/schedules.yaml:4:3, again here
    6 |   feast: {days: mon}
      |   ^^^^^
    Remove one of the two, or rename it.
"""
    )


def test_faults_of_all_files_are_told_in_one_pass() -> None:
    told = faults(
        f"{HEAD}schedules:\n  main: {{task: a, when: {{every: 0s}}}}\n",
        a="schedules:\n  one: {task: a, when: {every: 1h}, rety: gentle}\n",
        b="schedules:\n  two: {task: a, when: {at: '06:30', calendar: fest}}\n  two: 1\n",
    )

    assert (
        told
        == """\
config/schedules.yaml:4:33: schedule "main": when.every: "0s" is no time at all
    4 |   main: {task: a, when: {every: 0s}}
      |                                 ^^
    A duration is longer than nothing, such as 5m.
config/schedules.d/a.yaml:2:37: schedule "one" has an unknown key "rety"; did you mean "retry"?
    2 |   one: {task: a, when: {every: 1h}, rety: gentle}
      |                                     ^^^^
config/schedules.d/b.yaml:2:48: schedule "two": there is no calendar "fest"
    2 |   two: {task: a, when: {at: '06:30', calendar: fest}}
      |                                                ^^^^
    Name its days under "calendars".
config/schedules.d/b.yaml:3:3: the key "two" stands twice: first in line 2, again here
    3 |   two: 1
      |   ^^^
    Remove one of the two, or rename it.
"""
    )


def test_a_file_that_cannot_be_read_hides_no_fault_of_another_and_makes_none() -> None:
    told = faults(
        f"{HEAD}schedules:\n  main: {{task: a, when: {{at: '06:30', calendar: there}}, grace: -1m}}\n",
        a="calendars:\n  there: {days: mon-fri\n",
    )

    assert (
        told
        == """\
config/schedules.yaml:4:64: schedule "main": grace: "-1m" is negative
    4 |   main: {task: a, when: {at: '06:30', calendar: there}, grace: -1m}
      |                                                                ^^^
    A duration is longer than nothing, such as 5m.
config/schedules.d/a.yaml:2:10: the "{" is not closed
    2 |   there: {days: mon-fri
      |          ^
    Add the "}", or the comma before this.
"""
    )


def test_of_a_main_file_that_cannot_be_read_nothing_is_said_to_be_missing() -> None:
    told = faults("version: 1\nschedules: {\n", a=f"schedules: {{one: {HOURLY}}}\n")

    assert [line for line in told.splitlines() if line.startswith("config")] == [
        "config/schedules.yaml:3:1: a value is missing here"
    ]


WRONG = {
    "a key of the main file": (
        "timezone: UTC\n",
        """\
config/schedules.d/a.yaml:1:1: timezone stands in the main file alone
    1 | timezone: UTC
      | ^^^^^^^^
    Move it to config/schedules.yaml.
""",
    ),
    "an unknown key": (
        "shedules: {}\n",
        """\
config/schedules.d/a.yaml:1:1: the file has an unknown key "shedules"; did you mean "schedules"?
    1 | shedules: {}
      | ^^^^^^^^
""",
    ),
    "another version": (
        "version: 2\n",
        """\
config/schedules.d/a.yaml:1:10: the file: version must be 1, got 2
    1 | version: 2
      |          ^
    Write version: 1, or nothing.
""",
    ),
    "a section without entries": (
        "schedules:\n",
        """\
config/schedules.d/a.yaml:1:1: the file: schedules has no entries
    1 | schedules:
      | ^^^^^^^^^
    For none write "schedules: {}".
""",
    ),
    "nothing": (
        "# nothing\n",
        """\
config/schedules.d/a.yaml:1:1: the file is empty
    For none write "schedules: {}", or remove the file.
""",
    ),
    "a list": (
        "[]\n",
        """\
config/schedules.d/a.yaml:1:1: the file must be a mapping, got a list
    1 | []
      | ^^
""",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_further_file_that_is_wrong_is_told_of(name: str) -> None:
    content, message = WRONG[name]

    assert faults(MAIN, a=content) == message


def test_a_warning_stands_in_its_own_file() -> None:
    loaded = load(MAIN, a="# its own lines\nschedules:\n  odd: {task: a, when: {every: 7h}}\n")

    assert [(one.file, one.line, one.column, one.code) for one in loaded.warnings] == [
        ("config/schedules.d/a.yaml", 3, 32, "uneven-every")
    ]


def test_the_size_of_all_files_together_has_a_bound() -> None:
    text = joined(MAIN.encode(), {"a.yaml": b"#" * 1000})

    loaded = load_book(text, file="schedules.yaml", functions=None, now=NOW, max_bytes=1000)

    assert [fault.message for fault in loaded.faults] == [
        f"the file and those of schedules.d together have {len(text):,} bytes; 1,000 are the most"
    ]


def test_a_hundred_files_are_less_than_twice_the_work_of_one() -> None:
    entries = [f"  job-{number}: {{task: a, when: {{every: 1h}}}}\n" for number in range(2000)]
    further = {f"f{part}": "schedules:\n" + "".join(entries[part::100]) for part in range(100)}
    whole = f"{HEAD}schedules:\n{''.join(entries)}"
    one, many = load(whole), load(HEAD, **further)
    assert one.book is not None
    assert many.book is not None
    assert len(many.book.schedules) == len(one.book.schedules) == 2000

    assert calls_made_by(lambda: load(HEAD, **further)) < 2 * calls_made_by(lambda: load(whole))
