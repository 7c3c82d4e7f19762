"""Counts the words of a text file or a web page; safe to point at anything.

What is fetched is hostile until proven dull: a name is resolved once, each of its addresses must be a public one, and
the connection goes to the very address that was checked, so that a name server cannot change its mind in between.
Every wait of a fetch shares one deadline. No cookies, no credentials, no proxies from the environment.
"""

from __future__ import annotations

import codecs
import functools
import heapq
import html
import http.client
import io
import ipaddress
import os
import re
import socket
import ssl
import threading
import time
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote, urljoin, urlsplit

from scheduler import progress, task
from tasks.commons import BadArgument, SourceFault, open_source, raise_when_stopped, shown, whole_number

MAX_PAGE_BYTES = 10 * 1024 * 1024  # after decompression; also the most that HTML may have, as it is read in one piece
MAX_SECONDS = 10.0  # for all of a fetch: names, connections, redirects, body
MAX_REDIRECTS = 3
MAX_UNIQUE = 2_000_000  # different words; about 300 MB, and more than any text has
LONGEST_WORD = 100  # letters; a longer one is counted under its first hundred
CHUNK = 256 * 1024


class AddressRefused(BadArgument):
    """The address is not one that may be fetched."""


class FetchFailed(SourceFault):
    """The address could be asked, but gave no text."""


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
    deadline = _Deadline(MAX_SECONDS)
    target = address
    for _ in range(MAX_REDIRECTS + 1):
        raise_when_stopped("before the page was read")
        try:
            answer = _ask(target, deadline)
        except (OSError, http.client.HTTPException, zlib.error) as error:
            raise FetchFailed(
                f"{shown(target)} cannot be read: {_told(error)}; look whether it opens in a browser"
            ) from error
        if isinstance(answer, _Page):
            return answer
        target = answer
    raise FetchFailed(f"{shown(address)} redirects more than {MAX_REDIRECTS} times; give the address it ends at")


class _Deadline:
    """One span of time for everything; `left` raises TimeoutError when it is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"it took longer than {self.seconds:g} seconds")
        return left


class _Wire(io.RawIOBase):
    """A socket as http.client wants it, whose every wait ends with the deadline: a timeout alone would start anew with
    each byte that a slow server sends."""

    def __init__(self, connection: socket.socket, deadline: _Deadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(self._deadline.left())
        try:
            return self._connection.recv_into(buffer)
        except TimeoutError:
            self._deadline.left()
            raise

    def sendall(self, content: bytes) -> None:
        self._connection.settimeout(self._deadline.left())
        self._connection.sendall(content)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Nothing: http.client closes its socket before the body is read; `_ask` closes the connection."""


def _ask(address: str, deadline: _Deadline) -> _Page | str:
    """The page at `address`, or the address that it redirects to."""
    scheme, host, port, path = _checked_address(address)
    connection = _connect(address, host, port, deadline)
    try:
        if scheme == "https":
            context = ssl.create_default_context()
            connection.settimeout(deadline.left())
            connection = context.wrap_socket(connection, server_hostname=host.rstrip("."))
            client: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, context=context)
        else:
            client = http.client.HTTPConnection(host, port)
        client.sock = _Wire(connection, deadline)  # so it never connects by itself
        headers = {"Accept": "text/*, */*;q=0.1", "Accept-Encoding": "gzip, deflate", "Connection": "close"}
        client.request("GET", path, headers={**headers, "User-Agent": "rq-schedules"})
        response = client.getresponse()
        if response.status in (301, 302, 303, 307, 308):
            return _redirected(address, response)
        if response.status != 200:
            reason = f"{response.status} {response.reason}".strip()
            raise FetchFailed(
                f"{shown(address)} answers {shown(reason)} and not 200; look whether it opens in a browser"
            )
        kind = response.headers.get_content_type()
        body = b"".join(_body(address, response))
        return _Page(body, response.headers.get_content_charset(), kind in ("text/html", "application/xhtml+xml"))
    finally:
        connection.close()


def _redirected(address: str, response: http.client.HTTPResponse) -> str:
    location = response.headers.get("Location", "")
    if not location:
        raise FetchFailed(f"{shown(address)} redirects to nowhere; give the address of the page itself")
    _refuse_odd_letters(location)  # before urljoin, which quietly drops line ends
    return urljoin(address, location)


def _body(address: str, response: http.client.HTTPResponse) -> Iterator[bytes]:
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding in ("gzip", "x-gzip"):
        unpack: Any = zlib.decompressobj(wbits=31)
    elif coding == "deflate":
        unpack = zlib.decompressobj()
    elif coding in ("", "identity"):
        unpack = None
    else:
        raise FetchFailed(
            f"{shown(address)} is packed as {shown(coding)}, which was not asked for; use another address"
        )
    total = response.length
    taken = given = 0
    while chunk := response.read1(64 * 1024):
        taken += len(chunk)
        pieces = [chunk] if unpack is None else _unpacked(unpack, chunk, MAX_PAGE_BYTES - given + 1)
        for piece in pieces:
            given += len(piece)
            if max(taken, given) > MAX_PAGE_BYTES:
                raise FetchFailed(
                    f"{shown(address)} has more than {MAX_PAGE_BYTES:,} bytes (unpacked); give a smaller page"
                )
            yield piece
        raise_when_stopped(f"after {taken:,} bytes of the page")
        progress(taken, total, f"{taken:,} bytes fetched")
    if response.length:
        raise FetchFailed(f"{shown(address)} broke off {response.length:,} bytes before its end; try again")
    if unpack is not None and taken and not unpack.eof:
        raise FetchFailed(f"{shown(address)} broke off inside its {coding} packing; try again")


def _unpacked(unpack: Any, chunk: bytes, at_most: int) -> Iterator[bytes]:
    while chunk and not unpack.eof:
        piece = unpack.decompress(chunk, min(at_most, CHUNK))
        chunk = unpack.unconsumed_tail
        if piece:
            yield piece


# Which addresses may be fetched


def _refuse_odd_letters(address: str) -> None:
    if len(address) > 2000:
        raise AddressRefused(f"{shown(address)} has {len(address):,} characters; an address may have 2,000")
    if re.search(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029]|[\ud800-\udfff]", address):
        raise AddressRefused(
            f"{shown(address)} has a space, line end, control character or backslash; write it as %20 and so on"
        )


def _checked_address(address: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of an address whose form is good; which machine it is comes later."""
    _refuse_odd_letters(address)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise AddressRefused(
            f"{shown(address)} is no address: {error}; write it as https://example.org/page"
        ) from error
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https"):
        raise AddressRefused(f"{shown(address)} begins with {shown(scheme)}; only http:// and https:// are fetched")
    if "@" in parts.netloc:
        # Not shown: what stands before the @ may be a password.
        raise AddressRefused(
            f"the address at {shown(parts.netloc.rpartition('@')[2])} has a user before an @; leave that out"
        )
    if not parts.hostname:
        raise AddressRefused(f"{shown(address)} names no host; write it as https://example.org/page")
    try:
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise AddressRefused(f"{shown(address)} has a host name that cannot exist; check it") from error
    if port is None:
        port = 443 if scheme == "https" else 80
    if port not in (80, 443) and not _private_allowed():
        raise AddressRefused(f"{shown(address)} has port {port}; only 80 and 443 are fetched")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return scheme, host, port, f"{path}?{query}" if query else path


def _connect(address: str, host: str, port: int, deadline: _Deadline) -> socket.socket:
    """A connection to the first address of `host` that answers, after all of them were found to be public."""
    found = _resolve(host, port, deadline)
    if not _private_allowed():
        for ip in found:
            if not _is_public(ip):
                raise AddressRefused(f"{shown(address)} leads to {ip}, which is no public address; it is not fetched")
    refused: OSError | None = None
    for ip in found:
        try:
            return socket.create_connection((str(ip), port), timeout=deadline.left())
        except OSError as error:
            refused = error
    raise refused or OSError("the name has no address")


_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def _resolve(host: str, port: int, deadline: _Deadline) -> list[_IP]:
    answer: list[Any] = []

    def look_up() -> None:
        try:
            answer.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:  # UnicodeError: a label of more than 63 letters
            answer.append(error)

    # In a thread, since a look-up knows no timeout; one left behind dies with the process.
    thread = threading.Thread(target=look_up, daemon=True, name="look-up")
    thread.start()
    thread.join(deadline.left())
    if not answer:
        raise TimeoutError(f"the name {shown(host)} was not found within {deadline.seconds:g} seconds")
    if isinstance(answer[0], Exception):
        raise OSError(f"the name {shown(host)} is not known ({_told(answer[0])})") from answer[0]
    addresses: list[_IP] = []
    for *_, where in answer[0]:
        ip = ipaddress.ip_address(where[0])
        if ip not in addresses:
            addresses.append(ip)
    return addresses


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What `is_global` lets pass, at least in some of the Pythons we support (CVE-2024-4032 among them).
_NOT_PUBLIC = (
    ipaddress.ip_network("192.0.0.0/24"),
    ipaddress.ip_network("192.88.99.0/24"),  # 6to4 relays
    ipaddress.ip_network("64:ff9b:1::/48"),
    ipaddress.ip_network("100::/64"),
    ipaddress.ip_network("2001::/23"),  # Teredo among them, which carries an IPv4 address too
    ipaddress.ip_network("3fff::/20"),
    ipaddress.ip_network("5f00::/16"),
    ipaddress.ip_network("fec0::/10"),
)


def _is_public(ip: _IP) -> bool:
    """Whether an address, and the IPv4 address it may carry inside, belongs to the public internet."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return _is_public(ip.ipv4_mapped)
        if ip.sixtofour is not None:
            return _is_public(ip.sixtofour)
        if ip in _NAT64:
            return _is_public(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    if ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    return ip.is_global and not any(ip in network for network in _NOT_PUBLIC if network.version == ip.version)


def _private_allowed() -> bool:
    return os.environ.get("SCHEDULER_ALLOW_PRIVATE_URLS") == "1"


def _told(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "it broke off before its end"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good ({error.verify_message.rstrip('.')})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error) or type(error).__name__
    return "".join(letter if letter.isprintable() else " " for letter in text[:200])
