"""Counts the words of a text file or a web page; safe to point at anything.

What is fetched goes through tasks/fetching.py, which says what may be reached; what is read is bounded here.
"""

from __future__ import annotations

import codecs
import functools
import heapq
import html
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from scheduler import progress, task
from tasks.commons import BadArgument, SourceFault, open_source, raise_when_stopped, shown, whole_number
from tasks.fetching import (
    BROKEN,
    MAX_REDIRECTS,
    REDIRECTS,
    AddressRefused,
    Deadline,
    FetchFailed,
    answer_of,
    body_of,
    named,
    redirect_of,
    told,
)

__all__ = ["AddressRefused", "FetchFailed", "count_words"]

MAX_PAGE_BYTES = 10 * 1024 * 1024  # after decompression; also the most that HTML may have, as it is read in one piece
MAX_SECONDS = 10.0  # for all of a fetch: names, connections, redirects, body
MAX_UNIQUE = 2_000_000  # different words; about 300 MB, and more than any text has
LONGEST_WORD = 100  # letters; a longer one is counted under its first hundred
CHUNK = 256 * 1024


@task
def count_words(source: str, top: int = 10) -> dict[str, Any]:
    """The words of a text file or web page: how many, how many different ones, and the most frequent.

    `source` is a path, or an http(s) address on port 80 or 443 of a public host. Returns {source, words, characters,
    lines, unique, top: [[word, count], …], encoding}. A word is a run of letters and digits, with ' ’ or - inside;
    upper and lower case are one. A line end counts as one character. Of HTML only the visible text counts.

    The encoding is, in this order: the byte order mark's, the one the web server names, the one the HTML names,
    UTF-8, else cp1252 (or latin-1 for the few bytes that cp1252 lacks); `encoding` says which it was.

    SCHEDULER_ALLOW_PRIVATE_URLS=1 in the environment also lets addresses of the inner network and other ports be
    fetched. It is meant for tests and for closed networks: whoever may choose `source` can then look around inside.

    Raises BadArgument or SourceFault (AddressRefused and FetchFailed for addresses), with the way to mend it.
    """
    whole_number("top", top, 0, 1000)
    if not isinstance(source, str):
        raise BadArgument(f"source is {shown(source)}; give the path of a file or an http(s) address")
    if _looks_like_address(source):
        page = _fetch(source)
        tally = _tally(io.BytesIO(page.body), page.body, source, page.charset, page.is_html)
    else:
        with open_source(source) as file:
            is_html = source.lower().endswith((".html", ".htm", ".xhtml"))
            tally = _tally(file, file.read(4096), source, None, is_html)
    most = heapq.nsmallest(top, tally.counts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "source": source.encode("utf-8", "replace").decode("utf-8"),
        "words": tally.counts.total(),
        "characters": tally.characters,
        "lines": tally.lines,
        "unique": len(tally.counts),
        "top": [[word, count] for word, count in most],
        "encoding": tally.encoding,
    }


# Counting


class _Tally:
    """Takes a text piece by piece; the pieces may end inside a word."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.counts: Counter[str] = Counter()
        self.characters = 0
        self.lines = 0
        self._held = ""  # the start of a word whose end is in the next piece
        self._ended = True

    def add(self, piece: str) -> None:
        if not piece:
            return
        self.characters += len(piece)
        self.lines += piece.count("\n")
        self._ended = piece.endswith("\n")
        text = self._held + piece
        cut = max(text.rfind(" "), text.rfind("\n"))
        if cut < 0 and len(text) < CHUNK:
            self._held = text
            return
        cut = len(text) if cut < 0 else cut  # text without any space is cut where it happens to end
        self._held = text[cut:]
        self._count(text[:cut])

    def finish(self) -> _Tally:
        self._count(self._held)
        self._held = ""
        self.lines += not self._ended  # a last line without its line end
        return self

    def _count(self, text: str) -> None:
        # Composed, so that «é» as one sign and as letter plus accent is one word.
        words = _word_pattern().findall(unicodedata.normalize("NFC", text).lower().replace("’", "'"))
        self.counts.update(word[:LONGEST_WORD] for word in words)
        if len(self.counts) > MAX_UNIQUE:
            raise SourceFault(f"there are more than {MAX_UNIQUE:,} different words, so this is no text; split the file")


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    """Letters, digits and the marks that belong to letters, which `\\w` leaves out (most Indian scripts need them)."""
    marks: list[str] = []
    start = last = -2
    for point in range(0x300, 0x1F000):
        if unicodedata.category(chr(point)) in ("Mn", "Mc") or point in (0x200C, 0x200D):  # joiners
            if point != last + 1:
                marks.append(f"{chr(start)}-{chr(last)}" if start > 0 else "")
                start = point
            last = point
    marks.append(f"{chr(start)}-{chr(last)}")
    run = rf"[^\W_](?:[^\W_]|[{''.join(marks)}])*+"
    return re.compile(rf"{run}(?:['-]{run})*+")


def _tally(stream: BinaryIO, start: bytes, source: str, charset: str | None, is_html: bool) -> _Tally:
    size = stream.seek(0, io.SEEK_END)
    if is_html and size > MAX_PAGE_BYTES:
        raise SourceFault(
            f"{shown(source)} has {size:,} bytes; HTML may have {MAX_PAGE_BYTES:,}; turn it into text first"
        )
    for encoding in _encodings(start, charset, is_html):
        stream.seek(0)
        tally = _Tally(encoding)
        try:
            pieces = _decoded(stream, size, encoding, source)
            for piece in [_visible_text("".join(pieces))] if is_html else pieces:
                tally.add(piece)
        except UnicodeDecodeError:
            continue
        return tally.finish()
    raise AssertionError("latin-1 decodes everything")


def _decoded(stream: BinaryIO, size: int, encoding: str, source: str) -> Iterator[str]:
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    done = 0
    while done < size:  # not beyond: a log that grows while it is read would never end
        raise_when_stopped(f"after {done:,} of {size:,} bytes")
        chunk = stream.read(min(CHUNK, size - done))
        if not chunk:
            break
        done += len(chunk)
        piece = decoder.decode(chunk)
        if "\0" in piece:
            raise SourceFault(f"{shown(source)} is binary, not text (it has zero bytes); give a text file")
        yield piece
        progress(done, size, f"{done:,} of {size:,} bytes read")
    yield decoder.decode(b"", final=True)


_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Only these of what a server names: among Python's codecs are some that are no encodings, or very slow ones.
_CHARSET = re.compile(
    r"(?:utf-?(?:8|16|16le|16be|32)|us-ascii|ascii|latin-?1|iso-?8859-?\d{1,2}|(?:windows-?|cp)125\d|koi8-[ru]"
    r"|gb2312|gbk|gb18030|big5|shift[-_]jis|euc[-_](?:jp|kr)|iso-2022-jp|macintosh)\Z",
    re.IGNORECASE,
)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?([A-Za-z0-9_-]{1,30})", re.IGNORECASE)


def _encodings(start: bytes, charset: str | None, is_html: bool) -> Iterator[str]:
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            yield encoding
            break
    if charset and _CHARSET.match(charset):
        yield _known(charset)
    if is_html and (meta := _META_CHARSET.search(start[:2048])):
        named = meta.group(1).decode("ascii")
        if _CHARSET.match(named):
            yield _known(named)
    yield from ("utf-8", "cp1252", "latin-1")


def _known(charset: str) -> str:
    try:
        return codecs.lookup(charset).name
    except LookupError:
        return "utf-8"  # iso-8859-99


# HTML

# What stands inside a line: «<b>W</b>ord» is one word. After any other tag a new line begins.
_INLINE = frozenset(("a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins"))
_INLINE |= frozenset(
    ("kbd", "mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup", "tt", "u", "var", "wbr")
)
_HIDDEN = frozenset(("head", "noscript", "script", "style", "svg", "template", "title"))
_TAG = re.compile(r"</?([a-zA-Z][a-zA-Z0-9:-]*+)(?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+>")
_ENDLESS_NUMBER = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")


def _visible_text(page: str) -> str:
    """The text of an HTML page, a line for each block; of what is never closed, nothing.

    Our own, in one pass: Python's html.parser needs quadratic time for pages made to be slow (CVE-2025-6069).
    """
    kept: list[str] = []
    at = 0
    while (opening := page.find("<", at)) >= 0:
        kept.append(page[at:opening])
        if page.startswith("<!--", opening):
            end = page.find("-->", opening + 4)
            at = end + 3
        elif page.startswith(("<!", "<?"), opening):
            end = page.find(">", opening)
            at = end + 1
        elif not page[opening + 1 : opening + 3].lstrip("/")[:1].isalpha():
            kept.append("<")  # a plain «less than»
            at, end = opening + 1, 0
        elif tag := _TAG.match(page, opening):
            name = tag.group(1).lower()
            at, end = tag.end(), 0
            if name in _HIDDEN and page[opening + 1] != "/" and page[at - 2] != "/":
                closing = re.compile(rf"</{name}\s*+>", re.IGNORECASE).search(page, at)
                at, end = (closing.end(), 0) if closing else (0, -1)
            if name not in _INLINE:
                kept.append("\n")
        else:
            end = -1
        if end < 0:  # never closed: the rest is no text; so each search for an end can fail but once
            at = len(page)
            break
    kept.append(page[at:])
    # html.unescape fails on numbers of more than 4,300 digits.
    text = html.unescape(_ENDLESS_NUMBER.sub("\ufffd", "".join(kept)))
    lines = (line.strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


# Fetching


@dataclass(frozen=True)
class _Page:
    body: bytes
    charset: str | None
    is_html: bool


def _looks_like_address(source: str) -> bool:
    """Also for schemes we refuse: `file:/etc/passwd` is told so, and not looked for as a file."""
    return (
        re.match(r"\s*([a-z][a-z0-9+.-]*://|(https?|file|ftp|gopher|data|dict|ldap|jar|javascript):)", source, re.I)
        is not None
    )


def _fetch(address: str) -> _Page:
    deadline = Deadline(MAX_SECONDS)
    target = address
    for _ in range(MAX_REDIRECTS + 1):
        raise_when_stopped("before the page was read")
        try:
            answer = _ask(target, deadline)
        except BROKEN as error:
            raise FetchFailed(
                f"{named(target)} cannot be read: {told(error)}; look whether it opens in a browser"
            ) from error
        if isinstance(answer, _Page):
            return answer
        target = answer
    raise FetchFailed(f"{named(address)} redirects more than {MAX_REDIRECTS} times; give the address it ends at")


def _ask(address: str, deadline: Deadline) -> _Page | str:
    """The page at `address`, or the address that it redirects to."""
    with answer_of(address, deadline, headers={"Accept": "text/*, */*;q=0.1"}) as response:
        if response.status in REDIRECTS:
            return redirect_of(address, response)
        if response.status != 200:
            reason = f"{response.status} {response.reason}".strip()
            raise FetchFailed(
                f"{named(address)} answers {shown(reason)} and not 200; look whether it opens in a browser"
            )
        kind = response.headers.get_content_type()
        body = b"".join(body_of(address, response, MAX_PAGE_BYTES))
        return _Page(body, response.headers.get_content_charset(), kind in ("text/html", "application/xhtml+xml"))
