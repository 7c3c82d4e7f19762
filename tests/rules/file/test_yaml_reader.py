from __future__ import annotations

import pytest
import yaml

from scheduler.errors import FileFaults
from scheduler.rules.file import yaml_reader
from scheduler.rules.file.source_text import MAX_FAULTS, Mark
from scheduler.rules.file.yaml_reader import MAX_DEPTH, read_yaml
from tests.effort import work_done

SCALARS: dict[str, tuple[str, object]] = {
    "text": ("jana", "jana"),
    "a whole number": ("15", 15),
    "zero": ("0", 0),
    "a negative number": ("-3", -3),
    "a decimal number": ("0.25", 0.25),
    "true": ("true", True),
    "false": ("False", False),
    "null": ("null", None),
    "a tilde": ("~", None),
    "nothing": ("", None),
    "quoted true": ('"true"', "true"),
    "a quoted number": ("'15'", "15"),
    "yes, which YAML 1.1 takes for true": ("yes", "yes"),
    "no, which is Norway": ("no", "no"),
    "on, which YAML 1.1 takes for true": ("on", "on"),
    "off, which YAML 1.1 takes for false": ("off", "off"),
    "a leading zero, octal in YAML 1.1": ("012", "012"),
    "hexadecimal": ("0x1f", "0x1f"),
    "underscores": ("1_000", "1_000"),
    "a time of day, 1170 in YAML 1.1": ("19:30", "19:30"),
    "a day, a date in YAML 1.1": ("2026-12-01", "2026-12-01"),
    "an exponent, as in a commit's hash": ("1e10", "1e10"),
    "infinity": (".inf", ".inf"),
    "a plus": ("+5", "+5"),
    "a number too long to be a count": ("1234567890123456789", "1234567890123456789"),
    "an equals sign, which PyYAML cannot read": ("=", "="),
    "several lines": ("|\n  one\n  two\n", "one\ntwo\n"),
    "an escape": (r'"a\tb"', "a\tb"),
}

REFUSED: dict[str, tuple[bytes | str, str]] = {
    "a tab as indentation": (
        "a:\n\tb: 1\n",
        """\
x.yaml:2:1: line 2 is indented with a tab
    2 | \tb: 1
      | ^
    YAML takes spaces alone.""",
    ),
    "a bracket left open": (
        "a: [1, 2\nb: 3\n",
        """\
x.yaml:1:4: the "[" is not closed
    1 | a: [1, 2
      |    ^
    Add the "]", or the comma before this.""",
    ),
    "a brace left open": (
        "a: {b: 1\nc: 2\n",
        """\
x.yaml:1:4: the "{" is not closed
    1 | a: {b: 1
      |    ^
    Add the "}", or the comma before this.""",
    ),
    "a quote left open": (
        'a: "b\nc: 2\n',
        """\
x.yaml:1:4: the quote is never closed
    1 | a: "b
      |    ^
    Add the closing quote.""",
    ),
    "a colon inside text": (
        "about: note: this\n",
        """\
x.yaml:1:12: a ":" stands where none can
    1 | about: note: this
      |            ^
    Text that holds ": " needs quotes; otherwise look at the indentation here and in the line above.""",
    ),
    "a line indented too little": (
        "a:\n    b: 1\n  c: 2\n",
        """\
x.yaml:3:3: this line does not fit the mapping it stands in
    3 |   c: 2
      |   ^
    Compare its indentation with that of the lines above, and look for a bracket or quote left open there.""",
    ),
    "a line that is no key": (
        "a: 1\nb\nc: 2\n",
        """\
x.yaml:2:1: a key without ":" after it
    2 | b
      | ^
    Compare its indentation with that of the lines above, and look for a bracket or quote left open there.""",
    ),
    "text that begins with @": (
        "a: @daily\n",
        """\
x.yaml:1:4: a value cannot begin with "@"
    1 | a: @daily
      |    ^
    Put it in quotes.""",
    ),
    "a backslash in double quotes": (
        r'a: "C:\data"' + "\n",
        r"""x.yaml:1:7: no such escape
    1 | a: "C:\data"
      |       ^
    After "\" write n, t, \ or "; or use single quotes.""",
    ),
    "a second document": (
        "a: 1\n---\nb: 2\n",
        """\
x.yaml:2:1: a second document begins here
    2 | ---
      | ^^^
    Remove the line "---".""",
    ),
    "a list as a key": (
        "? [a, b]\n: 1\n",
        """\
x.yaml:1:3: a key must be text, not a mapping or a list
    1 | ? [a, b]
      |   ^^^^^^
    Text that begins with { or [ needs quotes.""",
    ),
    "a template left unfilled": (
        "a: {{ name }}\n",
        """\
x.yaml:1:5: a key must be text, not a mapping or a list
    1 | a: {{ name }}
      |     ^^^^^^^^^
    Text that begins with { or [ needs quotes.""",
    ),
    "a tag of Python": (
        "a: !!python/object/apply:os.system [ls]\n",
        """\
x.yaml:1:4: a tag "!!python/object/apply:os.system" cannot be used
    1 | a: !!python/object/apply:os.system [ls]
      |    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    Values are plain: text, numbers, true, false, lists and mappings. Remove the tag.""",
    ),
    "UTF-16": (
        "a: 1\n".encode("utf-16"),
        "x.yaml:1:1: the file is not UTF-8 but UTF-16\n    Save it as UTF-8.",
    ),
    "UTF-16 without a mark": (
        "a: 1\n".encode("utf-16-le"),
        "x.yaml:1:1: the file is not UTF-8 but UTF-16\n    Save it as UTF-8.",
    ),
    "Latin-1": (
        "a: 1\nb: caf\xe9\n".encode("latin-1"),
        """\
x.yaml:2:7: byte 0xE9 is not UTF-8
    2 | b: caf�
      |       ^
    Save the file as UTF-8.""",
    ),
    "a NUL": (
        "a: b\0c\n",
        """\
x.yaml:1:5: the letter U+0000 cannot stand in the file
    1 | a: b�c
      |     ^
    Remove it; it cannot be seen.""",
    ),
    "NEL, a line break that no editor shows": (
        "a: b\x85c: d\n",
        """\
x.yaml:1:5: the letter U+0085 cannot stand in the file
    1 | a: b�c: d
      |     ^
    Remove it; it cannot be seen.""",
    ),
    "a mark that turns the direction of writing": (
        "a: b # \u202e\n",
        """\
x.yaml:1:8: the letter U+202E (RIGHT-TO-LEFT OVERRIDE) cannot stand in the file
    1 | a: b # �
      |        ^
    Remove it; it cannot be seen.""",
    ),
    "such a mark as an escape": (
        r'a: "b\u202e"' + "\n",
        r"""x.yaml:1:4: the letter U+202E (RIGHT-TO-LEFT OVERRIDE) cannot stand in the file, nor be written as an escape
    1 | a: "b\u202e"
      |    ^^^^^^^^^
    Remove it; it cannot be seen.""",
    ),
    "half a pair": (
        "a: \ud800\n",
        """\
x.yaml:1:4: the letter U+D800 cannot stand in the file
    1 | a: �
      |    ^
    Remove it; it cannot be seen.""",
    ),
}

HOSTILE: dict[str, str] = {
    "100,000 brackets": "[" * 100_000,
    "100,000 mappings": "{a: " * 100_000,
    "100,000 dashes": "- " * 100_000,
    "100,000 question marks": "? " * 100_000,
    "2,000 steps of indentation": "\n".join(" " * step + "a:" for step in range(2_000)),
    "a line of 10 MB": "a: " + "x" * 10_000_000,
    "a quote that never ends": 'a: "' + "x\n" * 100_000,
    "100,000 aliases": "a: &a [x]\nb: [" + ",".join(["*a"] * 100_000) + "]",
    "an alias bomb": "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 100)),
    "a merge bomb": "\n".join(f"k{n}: &k{n}\n  <<: *k{n - 1}\n  <<: *k{n - 1}" for n in range(1, 1_000)),
    "one key 100,000 times": "a: 1\n" * 100_000,
    "a key of 100,000 letters": "k" * 100_000 + ": 1",
    "100,000 colons": ":" * 100_000,
    "100,000 NULs": "\0" * 100_000,
    "100,000 percent signs": "%" * 100_000,
}


@pytest.fixture(params=["libyaml", "pure Python"])
def either_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test that asks for it runs with the C part of PyYAML and without."""
    if request.param == "pure Python":
        monkeypatch.setattr(yaml_reader, "_LOADER", yaml.SafeLoader)
    else:
        assert yaml_reader._LOADER is yaml.CSafeLoader


def faults_of(text: bytes | str) -> str:
    with pytest.raises(FileFaults) as caught:
        read_yaml(text, "x.yaml")
    return "\n".join(str(fault) for fault in caught.value.faults)


@pytest.mark.usefixtures("either_parser")
@pytest.mark.parametrize(("written", "value"), SCALARS.values(), ids=SCALARS)
def test_a_scalar_is_text_unless_it_is_plainly_something_else(written: str, value: object) -> None:
    read = read_yaml(f"a: {written}", "x.yaml").data["a"]

    assert read == value
    assert type(read) is type(value)


def test_a_key_is_always_text() -> None:
    assert read_yaml("1: a\ntrue: b\non: c\n", "x.yaml").data == {"1": "a", "true": "b", "on": "c"}


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_told_with_its_place_and_remedy(text: bytes | str, expected: str) -> None:
    assert faults_of(text) == expected


def test_all_that_is_refused_is_told_in_one_go() -> None:
    text = """\
a: &x 1
a: 2
b: *x
c: !!str 3
d: {<<: {e: 1}}
"""

    assert (
        faults_of(text)
        == """\
x.yaml:1:4: an anchor "&x" cannot be used
    1 | a: &x 1
      |    ^^
    Write the value out here, or put what schedules share under "defaults".
x.yaml:2:1: the key "a" stands twice: first in line 1, again here
    2 | a: 2
      | ^
    Remove one of the two, or rename it.
x.yaml:3:4: an alias "*x" cannot be used
    3 | b: *x
      |    ^^
    Write the value out here, or put what schedules share under "defaults".
x.yaml:4:4: a tag "!!str" cannot be used
    4 | c: !!str 3
      |    ^^^^^
    Values are plain: text, numbers, true, false, lists and mappings. Remove the tag.
x.yaml:5:5: a merge key "<<" cannot be used
    5 | d: {<<: {e: 1}}
      |     ^^
    Write the value out here, or put what schedules share under "defaults"."""
    )


@pytest.mark.usefixtures("either_parser")
def test_every_key_and_value_has_its_place() -> None:
    document = read_yaml('a:\n  b: "c"\n  d: [1, {e: f}]\n', "x.yaml")

    assert document.data == {"a": {"b": "c", "d": [1, {"e": "f"}]}}
    assert document.marks[("a",)] == (Mark(1, 1, 1), Mark(2, 3, 0))
    assert document.marks[("a", "b")] == (Mark(2, 3, 1), Mark(2, 6, 3))
    assert document.marks[("a", "d")] == (Mark(3, 3, 1), Mark(3, 6, 11))
    assert document.marks[("a", "d", 1)][1] == Mark(3, 10, 6)
    assert document.marks[("a", "d", 1, "e")] == (Mark(3, 11, 1), Mark(3, 14, 1))
    assert len(document.marks) == 7


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_line_end_is_taken(line_end: str) -> None:
    document = read_yaml(line_end.join(["a: 1", "b: |", "  x", "  y", "c: 2", ""]), "x.yaml")

    assert document.data == {"a": 1, "b": "x\ny\n", "c": 2}
    assert document.marks[("c",)][0] == Mark(5, 1, 1)


def test_a_byte_order_mark_is_taken_and_moves_no_column() -> None:
    document = read_yaml("\ufeffa: 1\n".encode(), "x.yaml")

    assert document.data == {"a": 1}
    assert document.marks[("a",)] == (Mark(1, 1, 1), Mark(1, 4, 1))


def test_columns_count_letters_not_bytes() -> None:
    assert read_yaml("{ä: ö, 🙂: x}", "x.yaml").marks[("🙂",)] == (Mark(1, 8, 1), Mark(1, 11, 1))


def test_a_file_too_large_is_not_read() -> None:
    with pytest.raises(FileFaults) as caught:
        read_yaml(b"a: 1" * 300, "x.yaml", max_bytes=1000)

    assert str(caught.value) == "x.yaml:1:1: the file has 1,200 bytes; 1,000 are the most"


def test_nesting_has_an_end() -> None:
    fits = "[" * MAX_DEPTH + "]" * MAX_DEPTH

    assert read_yaml(fits, "x.yaml").data is not None
    assert faults_of(f"[{fits}]").startswith("x.yaml:1:21: more than 20 levels of nesting\n")


@pytest.mark.usefixtures("either_parser")
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_answered_at_once(text: str) -> None:
    with work_done() as work, pytest.raises(FileFaults) as caught:
        read_yaml(text, "x.yaml")

    assert work.seconds < 1
    assert 1 <= len(caught.value.faults) <= MAX_FAULTS + 1
    assert all(len(str(fault)) < 1_500 for fault in caught.value.faults)
