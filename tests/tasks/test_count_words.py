from __future__ import annotations

import codecs
import gzip
import importlib
import os
import socket
import ssl
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import count_words
from tasks.commons import BadArgument, SourceFault, Stopped
from tests.notify.certificate import write_certificate
from tests.tasks.conftest import Internet, Watched, Web, serving

module = importlib.import_module("tasks.count_words")  # `tasks.count_words` is the function
PUBLIC = "93.184.215.14"
SAMPLE = Path(__file__).resolve().parents[2] / "config" / "samples" / "lighthouse.txt"


# Files


def test_a_file_is_counted(folder: Path):
    (folder / "a.txt").write_text("One fish two fish.\nRed fish, blue fish!\n")

    assert count_words("a.txt", top=2) == {
        "source": "a.txt",
        "words": 8,
        "characters": 40,
        "lines": 2,
        "unique": 5,
        "top": [["fish", 4], ["blue", 1]],
        "encoding": "utf-8",
    }


def test_the_sample_is_counted():
    result = count_words(str(SAMPLE), top=1)

    assert (result["words"], result["lines"], result["top"]) == (187, 17, [["the", 18]])


WORDS = {
    "empty": ("", []),
    "spaces and signs": (" \t\n -- ... !? ", []),
    "upper and lower": ("Word WORD word", [["word", 3]]),
    "apostrophes": ("don't don’t 'quoted'", [["don't", 2], ["quoted", 1]]),
    "hyphens": ("well-known -- a-b-", [["a-b", 1], ["well-known", 1]]),
    "underscores part": ("snake_case", [["case", 1], ["snake", 1]]),
    "numbers": ("3 3.14 2026-11-24", [["14", 1], ["2026-11-24", 1], ["3", 2]]),
    "umlauts": ("Straße STRASSE ÄÖÜ äöü", [["straße", 1], ["strasse", 1], ["äöü", 2]]),
    "composed or not": ("café cafe\u0301", [["café", 2]]),
    "vowel signs": ("हिन्दी हिन्दी", [["हिन्दी", 2]]),
    "cyrillic": ("Привет привет", [["привет", 2]]),
    "no spaces": ("今日は", [["今日は", 1]]),
    "bidi marks are no letters": ("ab\u202ecd", [["ab", 1], ["cd", 1]]),
    "emoji": ("go 🚀 go", [["go", 2]]),
}


@pytest.mark.parametrize(("text", "expected"), WORDS.values(), ids=WORDS)
def test_what_a_word_is(folder: Path, text: str, expected: list):
    (folder / "a.txt").write_text(text, encoding="utf-8")

    result = count_words("a.txt", top=10)

    assert sorted(result["top"]) == sorted(expected)
    assert (result["words"], result["unique"]) == (sum(n for _, n in expected), len(expected))


@given(text=st.text(st.sampled_from("ab é'-\n\r_7日"), max_size=300), size=st.integers(1, 40))
def test_where_pieces_end_changes_nothing(tmp_path_factory: pytest.TempPathFactory, text: str, size: int):
    path = tmp_path_factory.getbasetemp() / "pieces.txt"
    path.write_bytes(text.encode())
    whole = count_words(str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", size)
        in_pieces = count_words(str(path))

    # A run of letters without any space may be cut where it is longer than a piece.
    assert {**in_pieces, "top": 0, "words": 0, "unique": 0} == {**whole, "top": 0, "words": 0, "unique": 0}
    if all(len(word.encode()) < size for word in text.split()):
        assert in_pieces == whole


LINES = {
    "empty": (b"", 0, 0),
    "one without end": (b"a", 1, 1),
    "one with end": (b"a\n", 1, 2),
    "windows": (b"a\r\nb\r\n", 2, 4),
    "old mac": (b"a\rb", 2, 3),
    "empty lines": (b"\n\n", 2, 2),
}


@pytest.mark.parametrize(("content", "lines", "characters"), LINES.values(), ids=LINES)
def test_lines_and_characters(folder: Path, content: bytes, lines: int, characters: int):
    (folder / "a.txt").write_bytes(content)

    result = count_words("a.txt")

    assert (result["lines"], result["characters"]) == (lines, characters)


ENCODINGS = {
    "utf-8": ("größe".encode(), "utf-8"),
    "utf-8 with mark": (codecs.BOM_UTF8 + "größe".encode(), "utf-8-sig"),
    "utf-16": ("größe".encode("utf-16"), "utf-16"),
    "utf-16, other order": (codecs.BOM_UTF16_BE + "größe".encode("utf-16-be"), "utf-16"),
    "utf-32": ("größe".encode("utf-32"), "utf-32"),
    "windows": ("größe".encode("cp1252"), "cp1252"),
    "latin-1": ("größe \x81".encode("latin-1"), "latin-1"),
    "windows after a megabyte of plain text": (b"a " * 500_000 + "größe".encode("cp1252"), "cp1252"),
}


@pytest.mark.parametrize(("content", "encoding"), ENCODINGS.values(), ids=ENCODINGS)
def test_the_encoding_is_found_and_told(folder: Path, content: bytes, encoding: str):
    (folder / "a.txt").write_bytes(content)

    result = count_words("a.txt", top=1000)

    assert result["encoding"] == encoding
    assert ["größe", 1] in result["top"]


def test_a_file_tells_its_progress_in_bytes(folder: Path, in_a_run: Callable[..., Watched]):
    (folder / "a.txt").write_bytes(b"word " * 100_000)
    watched = in_a_run()

    count_words("a.txt")

    assert watched.told == [
        {"done": 262_144, "total": 500_000, "message": "262,144 of 500,000 bytes read"},
        {"done": 500_000, "total": 500_000, "message": "500,000 of 500,000 bytes read"},
    ]


def test_a_run_that_is_asked_to_stop_does(folder: Path, in_a_run: Callable[..., Watched]):
    (folder / "a.txt").write_bytes(b"word " * 100_000)
    in_a_run(stop_after=1)

    with pytest.raises(Stopped) as fault:
        count_words("a.txt")

    assert str(fault.value) == "stopped on request after 262,144 of 500,000 bytes"


def a_folder(folder: Path) -> str:
    (folder / "sub").mkdir()
    return "sub"


def a_pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return "pipe"


def a_binary(folder: Path) -> str:
    (folder / "a.bin").write_bytes(b"ELF\0\1\2")
    return "a.bin"


def too_large(folder: Path) -> str:
    with (folder / "large.txt").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    return "large.txt"


def a_loop(folder: Path) -> str:
    (folder / "loop").symlink_to("loop")
    return "loop"


def a_way_out(folder: Path) -> str:
    (folder / "link.txt").symlink_to("/etc/hostname")
    return "link.txt"


def large_html(folder: Path) -> str:
    (folder / "a.html").write_bytes(b"<p>" * 4_000_000)
    return "a.html"


BAD_FILES = {
    "missing": (
        lambda _: "READNE.md",
        'there is no file "READNE.md" in the working folder "HERE"; check the path, it is case-sensitive',
    ),
    "below a file": (
        lambda folder: a_binary(folder) + "/x",
        'there is no file "a.bin/x" in the working folder "HERE"; check the path, it is case-sensitive',
    ),
    "folder": (a_folder, '"sub" is a folder; give the path of a file'),
    "pipe": (a_pipe, '"pipe" is no regular file (a device, pipe or socket); give the path of a file'),
    "device": (
        lambda _: "/dev/zero",
        '"/dev/zero" is no regular file (a device, pipe or socket); give the path of a file',
    ),
    "binary": (a_binary, '"a.bin" is binary, not text (it has zero bytes); give a text file'),
    "too large": (
        too_large,
        '"large.txt" has 67,108,865 bytes, more than the 67,108,864 allowed; give a smaller file',
    ),
    "empty name": (lambda _: "", '"" names no file; give the path of a file'),
    "zero byte in the name": (lambda _: "a\0b", '"a\\x00b" names no file; give the path of a file'),
    "overlong name": (lambda _: "x" * 5000, f'"{"x" * 200}…" is too long for a path; check it'),
    "link to itself": (a_loop, None),  # each Python words it its own way
    "link out of its folder": (
        a_way_out,
        '"link.txt" is a symbolic link that leaves its folder; give the file itself, '
        "or name the folder it leads to in SCHEDULER_SOURCE_FOLDERS",
    ),
    "large HTML": (
        large_html,
        '"a.html" has 12,000,000 bytes; HTML may have 10,485,760; turn it into text first',
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_cannot_be_counted_is_told(folder: Path, make: Callable[[Path], str], message: str | None):
    source = make(folder)

    with pytest.raises((SourceFault, BadArgument)) as fault:
        count_words(source)

    assert message is None or str(fault.value) == message.replace("HERE", str(folder))


def test_a_link_within_its_folder_is_followed(folder: Path):
    (folder / "..2026").mkdir()
    (folder / "..2026" / "a.txt").write_text("mounted as Kubernetes does")
    (folder / "a.txt").symlink_to("..2026/a.txt")

    assert count_words("a.txt")["words"] == 4


def test_only_named_folders_are_read_from(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("open", "closed"):
        (folder / name).mkdir()
        (folder / name / "a.txt").write_text("word")
    (folder / "open" / "link.txt").symlink_to("../closed/a.txt")
    monkeypatch.setenv("SCHEDULER_SOURCE_FOLDERS", f"open{os.pathsep}{folder / 'other'}")

    assert count_words("open/a.txt")["words"] == 1
    for source in ("closed/a.txt", "open/../closed/a.txt", str(folder / "closed" / "a.txt"), "open/link.txt"):
        with pytest.raises(BadArgument) as fault:
            count_words(source)
        assert str(fault.value) == (
            f'"{source}" lies outside the folders that may be read ("open", "{folder}/other"); put it there, '
            "or name its folder in SCHEDULER_SOURCE_FOLDERS"
        )


BAD_TOPS = {"negative": -1, "too many": 1001, "text": "10", "true": True, "fraction": 2.5, "nan": float("nan")}


@pytest.mark.parametrize("top", BAD_TOPS.values(), ids=BAD_TOPS)
def test_top_is_bounded(folder: Path, top: object):
    (folder / "a.txt").write_text("word")

    with pytest.raises(BadArgument) as fault:
        count_words("a.txt", top=top)  # type: ignore[arg-type]

    assert str(fault.value) == f'top is "{top}"; give a whole number from 0 to 1000'


def test_text_that_is_no_text_does_not_fill_the_memory(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "a.txt").write_text(" ".join(str(number) for number in range(2000)))
    monkeypatch.setattr(module, "MAX_UNIQUE", 1000)

    with pytest.raises(SourceFault) as fault:
        count_words("a.txt")

    assert str(fault.value) == "there are more than 1,000 different words, so this is no text; split the file"


def test_an_endless_word_is_counted_under_its_start(folder: Path):
    (folder / "a.txt").write_bytes(b"x" * 1_000_000)

    assert count_words("a.txt", top=1)["top"][0][0] == "x" * 100


# HTML

PAGES = {
    "tags": ("<h1>Hello</h1><p>big <b>w</b>orld", [["big", 1], ["hello", 1], ["world", 1]]),
    "blocks part words": ("<td>a</td><td>b</td>c<br>d", [["a", 1], ["b", 1], ["c", 1], ["d", 1]]),
    "script and style": ("<script>var x='</b>';</script>a<STYLE>b{}</STYLE >c", [["a", 1], ["c", 1]]),
    "head": ("<html><head><title>t</title></head><body>b", [["b", 1]]),
    "comment": ("a<!-- <b>hidden</b> -->b", [["ab", 1]]),
    "entities": ("caf&eacute; &amp; &#98;ar &lt;b&gt;", [["b", 1], ["bar", 1], ["café", 1]]),
    "tag in quotes": ('<a title="x > y">z</a>', [["z", 1]]),
    "less than": ("1 < 2", [["1", 1], ["2", 1]]),
    "doctype": ("<!DOCTYPE html><?php x ?>a", [["a", 1]]),
    "unclosed comment": ("a <!-- b", [["a", 1]]),
    "unclosed tag": ("a <b c", [["a", 1]]),
    "unclosed script": ("a <script>b", [["a", 1]]),
    "unclosed quote": ("a <b c='d>e", [["a", 1]]),
    "endless number": (f"a &#{'9' * 5000}; b", [["a", 1], ["b", 1]]),
    "zero by number": ("a&#0;b", [["a", 1], ["b", 1]]),
    "half of a character": ("a&#xD800;b", [["a", 1], ["b", 1]]),
}


@pytest.mark.parametrize(("page", "expected"), PAGES.values(), ids=PAGES)
def test_of_html_the_visible_text_counts(folder: Path, page: str, expected: list):
    (folder / "a.html").write_text(page)

    assert sorted(count_words("a.html")["top"]) == expected


SLOW_PAGES = {
    "open tags": "<a " * 1_000_000,
    "open comments": "<!--" * 1_000_000,
    "open quotes": "<a b='" * 500_000,
    "open scripts": "<script>" * 500_000,
    "angle brackets": "<" * 3_000_000,
    "half entities": "&#" * 1_500_000,
    "space": " \n" * 1_500_000,
}


@pytest.mark.timeout(20)  # each takes some tenths of a second; in quadratic time it would be hours
@pytest.mark.parametrize("page", SLOW_PAGES.values(), ids=SLOW_PAGES)
def test_a_page_made_to_be_slow_is_not(folder: Path, page: str):
    (folder / "a.html").write_text(page)

    assert count_words("a.html")["words"] == 0


# Addresses


@pytest.mark.usefixtures("private_allowed")
def test_a_page_is_counted_as_its_server_says(web: Web):
    address = web.page("/a?b=c d".partition("?")[0], "<p>größe größe</p>".encode("cp1252"), "text/html; charset=cp1252")

    result = count_words(address + "?b=c%20d&e=ü", top=1)

    assert result == {
        "source": address + "?b=c%20d&e=ü",
        "words": 2,
        "characters": 11,
        "lines": 1,
        "unique": 1,
        "top": [["größe", 2]],
        "encoding": "cp1252",
    }
    assert web.asked == [(f"127.0.0.1:{web.port}", "/a?b=c%20d&e=%C3%BC")]


CHARSETS = {
    "named by the server": ("text/plain; charset=iso-8859-1", "größe".encode("latin-1"), "iso8859-1"),
    "mark before name": ("text/plain; charset=iso-8859-1", codecs.BOM_UTF8 + "größe".encode(), "utf-8-sig"),
    "named wrongly": ("text/plain; charset=utf-8", "größe".encode("latin-1"), "cp1252"),
    "unknown": ("text/plain; charset=klingon", "größe".encode(), "utf-8"),
    "no encoding of text": ("text/plain; charset=zip", "größe".encode(), "utf-8"),
    "an evil one": ("text/plain; charset=unicode_escape", "größe".encode(), "utf-8"),
    "named by the page": ("text/html", '<meta charset="windows-1252">größe'.encode("cp1252"), "cp1252"),
    "not named": ("text/plain", "größe".encode(), "utf-8"),
}


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize(("kind", "body", "encoding"), CHARSETS.values(), ids=CHARSETS)
def test_the_encoding_of_a_page(web: Web, kind: str, body: bytes, encoding: str):
    result = count_words(web.page("/", body, kind))

    assert (result["top"], result["encoding"]) == ([["größe", 1]], encoding)


PACKINGS = {
    "gzip": ("gzip", gzip.compress(b"a b " * 100_000)),
    "deflate": ("deflate", zlib.compress(b"a b " * 100_000)),
    "none": ("identity", b"a b " * 100_000),
}


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize(("coding", "body"), PACKINGS.values(), ids=PACKINGS)
def test_a_packed_page_is_unpacked(web: Web, coding: str, body: bytes):
    assert count_words(web.page("/", body, Content_Encoding=coding))["words"] == 200_000


def test_a_redirect_is_followed_and_checked_each_time(web: Web, internet: Internet):
    internet.names = {"one.example": [[PUBLIC]], "two.example": [["151.101.1.6"]]}
    web.page("/old", status=301, Location="//two.example/new")
    web.page("/new", b"found")

    assert count_words("http://one.example/old")["words"] == 1

    assert internet.connected == [(PUBLIC, 80), ("151.101.1.6", 80)]
    assert web.asked == [("one.example", "/old"), ("two.example", "/new")]


def test_the_connection_goes_to_the_address_that_was_checked(web: Web, internet: Internet):
    internet.names = {"rebinding.example": [[PUBLIC], ["127.0.0.1"]]}
    web.page("/", b"public")

    assert count_words("http://rebinding.example/")["words"] == 1

    assert internet.connected == [(PUBLIC, 80)]


def test_one_private_address_among_public_ones_is_enough_to_refuse(internet: Internet):
    internet.names = {"mixed.example": [[PUBLIC, "10.0.0.1"]]}

    with pytest.raises(module.AddressRefused) as fault:
        count_words("http://mixed.example/")

    assert str(fault.value) == (
        '"http://mixed.example/" leads to 10.0.0.1, which is no public address; it is not fetched'
    )
    assert internet.connected == []


PUBLIC_ADDRESSES = {
    "IPv4": PUBLIC,
    "IPv6": "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
    "NAT64, as networks without IPv4 have it": "64:ff9b::5db8:d70e",
    "6to4": "2002:5db8:d70e::1",
}


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES.values(), ids=PUBLIC_ADDRESSES)
def test_public_addresses_are_fetched(web: Web, internet: Internet, address: str):
    internet.names = {"public.example": [[address]]}
    web.page("/", b"public")

    assert count_words("http://public.example/")["words"] == 1

    assert internet.connected == [(address, 80)]


REDIRECTS = {
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "loopback": "http://127.0.0.1/",
    "loopback by name": "http://localhost/",
    "other port": "http://public.example:6379/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://public.example/_FLUSHALL",
    "user": "http://me:pw@public.example/",
    "space": "http://public.example/a b",
    "tab": "http://public.example/\ta",
    "mapped": "http://[::ffff:10.0.0.1]/",
}


@pytest.mark.parametrize("location", REDIRECTS.values(), ids=REDIRECTS)
def test_a_redirect_to_where_nobody_may_go_is_refused(web: Web, internet: Internet, location: str):
    internet.names = {"public.example": [[PUBLIC]]}
    web.page("/", status=302, Location=location)

    with pytest.raises(module.AddressRefused):
        count_words("http://public.example/")

    assert internet.connected == [(PUBLIC, 80)]


REFUSED = {
    "loopback": ("http://127.0.0.1/", "leads to 127.0.0.1, which is no public address; it is not fetched"),
    "any": ("http://0.0.0.0/", "leads to 0.0.0.0, which is no public address; it is not fetched"),
    "as one number": ("http://2130706433/", "leads to 127.0.0.1, which is no public address; it is not fetched"),
    "hexadecimal": ("http://0x7f.1/", "leads to 127.0.0.1, which is no public address; it is not fetched"),
    "octal": ("http://0177.0.0.1/", "leads to 127.0.0.1, which is no public address; it is not fetched"),
    "short": ("http://127.1/", "leads to 127.0.0.1, which is no public address; it is not fetched"),
    "full-width digits": ("http://１２７.0.0.1/", "leads to 127.0.0.1, which is no public address; it is not fetched"),
    "IPv6 any": ("http://[::]/", "leads to ::, which is no public address; it is not fetched"),
    "IPv6 loopback": ("http://[::1]/", "leads to ::1, which is no public address; it is not fetched"),
    "mapped": (
        "http://[::ffff:127.0.0.1]/",
        "leads to ::ffff:7f00:1, which is no public address; it is not fetched",
    ),
    "IPv4-compatible": ("http://[::127.0.0.1]/", "leads to ::7f00:1, which is no public address; it is not fetched"),
    "6to4": ("http://[2002:7f00:1::]/", "leads to 2002:7f00:1::, which is no public address; it is not fetched"),
    "NAT64": (
        "http://[64:ff9b::7f00:1]/",
        "leads to 64:ff9b::7f00:1, which is no public address; it is not fetched",
    ),
    "local NAT64": (
        "http://[64:ff9b:1::808:808]/",
        "leads to 64:ff9b:1::808:808, which is no public address; it is not fetched",
    ),
    "teredo": (
        "http://[2001:0:808:808::1]/",
        "leads to 2001:0:808:808::1, which is no public address; it is not fetched",
    ),
    "unique local": ("http://[fd00::1]/", "leads to fd00::1, which is no public address; it is not fetched"),
    "site local": ("http://[fec0::1]/", "leads to fec0::1, which is no public address; it is not fetched"),
    "link local": ("http://[fe80::1]/", "leads to fe80::1, which is no public address; it is not fetched"),
    "metadata": (
        "http://169.254.169.254/",
        "leads to 169.254.169.254, which is no public address; it is not fetched",
    ),
    "private": ("http://192.168.0.1/", "leads to 192.168.0.1, which is no public address; it is not fetched"),
    "carrier": ("http://100.64.0.1/", "leads to 100.64.0.1, which is no public address; it is not fetched"),
    "multicast": ("http://224.0.0.1/", "leads to 224.0.0.1, which is no public address; it is not fetched"),
    "broadcast": (
        "http://255.255.255.255/",
        "leads to 255.255.255.255, which is no public address; it is not fetched",
    ),
    "documentation": ("http://192.0.2.1/", "leads to 192.0.2.1, which is no public address; it is not fetched"),
    "localhost with dot": ("http://localhost./", "leads to 127.0.0.1, which is no public address; it is not fetched"),
    "port": ("http://93.184.215.14:6379/", "has port 6379; only 80 and 443 are fetched"),
    "port zero": ("http://93.184.215.14:0/", "has port 0; only 80 and 443 are fetched"),
    "port too large": (
        "http://93.184.215.14:99999/",
        "is no address: Port out of range 0-65535; write it as https://example.org/page",
    ),
    "user": ("http://me:pw@127.0.0.1/", None),
    "user without password": ("http://example.org@127.0.0.1/", None),
    "file": ("file:///etc/passwd", 'begins with "file"; only http:// and https:// are fetched'),
    "file, short": ("file:/etc/passwd", 'begins with "file"; only http:// and https:// are fetched'),
    "gopher": ("gopher://127.0.0.1:6379/_x", 'begins with "gopher"; only http:// and https:// are fetched'),
    "ftp": ("ftp://example.org/", 'begins with "ftp"; only http:// and https:// are fetched'),
    "data": ("data:text/plain,hello", 'begins with "data"; only http:// and https:// are fetched'),
    "no host": ("http:///etc/passwd", "names no host; write it as https://example.org/page"),
    "half a host": ("http:example.org", "names no host; write it as https://example.org/page"),
    "broken IPv6": ("http://[::1", "is no address: Invalid IPv6 URL; write it as https://example.org/page"),
    "overlong host": (f"http://{'ü' * 100}/", "has a host name that cannot exist; check it"),
}


@pytest.mark.parametrize(("address", "message"), REFUSED.values(), ids=REFUSED)
def test_an_address_that_may_not_be_fetched_is_refused(internet: Internet, address: str, message: str | None):
    internet.names = {"localhost.": [["127.0.0.1"]]}  # on some machines it has ::1 as well

    with pytest.raises(module.AddressRefused) as fault:
        count_words(address)

    if message is None:  # what stands before an @ may be a password
        assert str(fault.value) == 'the address at "127.0.0.1" has a user before an @; leave that out'
    else:
        assert str(fault.value) == f'"{address}" {message}'
    assert internet.connected == []


ODD_LETTERS = {
    "line end in the path": "http://93.184.215.14/a\r\nX-Evil: 1",
    "line end in the host": "http://93.184.215.14\r\nHost: evil/",
    "tab": "http://93.184.215.14/\ta",
    "space": "http://93.184.215.14/a b",
    "space in front": " http://93.184.215.14/",
    "backslash": "http://93.184.215.14\\@127.0.0.1/",
    "zero byte": "http://93.184.215.14/\0",
    "line separator": "http://93.184.215.14/\u2028",
    "half of a character": "http://93.184.215.14/\ud800",
}


@pytest.mark.parametrize("address", ODD_LETTERS.values(), ids=ODD_LETTERS)
def test_an_address_with_odd_letters_is_refused(internet: Internet, address: str):
    with pytest.raises(module.AddressRefused) as fault:
        count_words(address)

    assert str(fault.value).endswith("has a space, line end, control character or backslash; write it as %20 and so on")
    assert "\r" not in str(fault.value)
    assert internet.connected == []


def test_an_overlong_address_is_refused():
    with pytest.raises(module.AddressRefused) as fault:
        count_words("http://example.org/" + "a" * 2000)

    assert str(fault.value) == (f'"http://example.org/{"a" * 181}…" has 2,019 characters; an address may have 2,000')


def redirects_without_end(web: Web) -> str:
    return web.page("/r", status=302, Location="/r")


BAD_ANSWERS = {
    "not found": (
        lambda web: web.page("/x", status=404),
        '"ADDRESS/x" answers "404 Not Found" and not 200; look whether it opens in a browser',
    ),
    "redirects without end": (
        redirects_without_end,
        '"ADDRESS/r" redirects more than 3 times; give the address it ends at',
    ),
    "redirects to nowhere": (
        lambda web: web.page("/x", status=302),
        '"ADDRESS/x" redirects to nowhere; give the address of the page itself',
    ),
    "broken off": (
        lambda web: web.page("/x", b"abc", length=10),
        '"ADDRESS/x" broke off 7 bytes before its end; try again',
    ),
    "too large": (
        lambda web: web.page("/x", b"a " * 5_500_000),
        '"ADDRESS/x" has more than 10,485,760 bytes (unpacked); give a smaller page',
    ),
    "gzip bomb": (
        lambda web: web.page("/x", gzip.compress(bytes(300_000_000), compresslevel=1), Content_Encoding="gzip"),
        '"ADDRESS/x" has more than 10,485,760 bytes (unpacked); give a smaller page',
    ),
    "damaged packing": (
        lambda web: web.page("/x", b"no gzip", Content_Encoding="gzip"),
        '"ADDRESS/x" cannot be read: Error -3 while decompressing data: incorrect header check; '
        "look whether it opens in a browser",
    ),
    "packing broken off": (
        lambda web: web.page("/x", gzip.compress(b"abc " * 99)[:-9], Content_Encoding="gzip"),
        '"ADDRESS/x" broke off inside its gzip packing; try again',
    ),
    "packing not asked for": (
        lambda web: web.page("/x", b"abc", Content_Encoding="br"),
        '"ADDRESS/x" is packed as "br", which was not asked for; use another address',
    ),
    "picture": (
        lambda web: web.page("/x", b"\x89PNG\r\n\x1a\n\0\0", "image/png"),
        '"ADDRESS/x" is binary, not text (it has zero bytes); give a text file',
    ),
    "endless slow body": (
        lambda web: web.drip("/x", b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
        '"ADDRESS/x" cannot be read: it took longer than 0.3 seconds; look whether it opens in a browser',
    ),
    "endless slow header": (
        lambda web: web.drip("/x", b"HTTP/1.1 200 OK\r\nX: ", b"a"),
        '"ADDRESS/x" cannot be read: it took longer than 0.3 seconds; look whether it opens in a browser',
    ),
    "endless interim answers": (
        lambda web: web.drip("/x", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        '"ADDRESS/x" cannot be read: it took longer than 0.3 seconds; look whether it opens in a browser',
    ),
    "silence": (
        lambda web: web.drip("/x", b"", b""),
        '"ADDRESS/x" cannot be read: it took longer than 0.3 seconds; look whether it opens in a browser',
    ),
}


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize(("serve", "message"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_an_answer_that_is_no_page_is_told(
    web: Web, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Web], str], message: str
):
    address = serve(web)
    if "0.3 seconds" in message:
        monkeypatch.setattr(module, "MAX_SECONDS", 0.3)

    with pytest.raises(SourceFault) as fault:
        count_words(address)

    assert str(fault.value) == message.replace("ADDRESS", f"http://127.0.0.1:{web.port}")


def test_an_unknown_name_is_told(monkeypatch: pytest.MonkeyPatch):
    def no_such_name(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)

    with pytest.raises(module.FetchFailed) as fault:
        count_words("https://exmaple.org/")

    assert str(fault.value) == (
        '"https://exmaple.org/" cannot be read: the name "exmaple.org" is not known (Name or service not known); '
        "look whether it opens in a browser"
    )


def test_proxies_from_the_environment_are_not_used(web: Web, internet: Internet, monkeypatch: pytest.MonkeyPatch):
    internet.names = {"public.example": [[PUBLIC]]}
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://10.0.0.1:3128")
    web.page("/", b"direct")

    assert count_words("http://public.example/")["words"] == 1

    assert internet.connected == [(PUBLIC, 80)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("certificate"), "localhost")


@pytest.mark.usefixtures("private_allowed")
def test_https_asks_for_the_name_and_proves_it(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.sni_callback = lambda _connection, name, _context: names.append(name)
    with serving(context) as web:
        web.page("/", b"secret")

        with pytest.raises(module.FetchFailed) as fault:
            count_words(f"https://localhost:{web.port}/")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        result = count_words(f"https://localhost:{web.port}/")

    assert str(fault.value).replace("self signed", "self-signed") == (
        f'"https://localhost:{web.port}/" cannot be read: its certificate is not good (self-signed certificate); '
        "look whether it opens in a browser"
    )
    assert result["words"] == 1
    assert names == ["localhost", "localhost"]
    assert web.asked == [(f"localhost:{web.port}", "/")]
