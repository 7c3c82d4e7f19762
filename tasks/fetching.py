"""How task functions fetch from addresses that anyone may have named, and what they may not reach.

What is fetched is hostile until proven dull: a name is resolved once, each of its addresses must be a public one, and
the connection goes to the very address that was checked, so that a name server cannot change its mind in between.
Every wait of a fetch shares one deadline. No cookies, no credentials of its own, no proxies from the environment.
SCHEDULER_ALLOW_PRIVATE_URLS=1 in the environment lifts the limits on addresses and ports: for tests and closed
networks.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import os
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from scheduler import progress
from tasks.commons import BadArgument, SourceFault, raise_when_stopped, shown

MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
CHUNK = 256 * 1024
BROKEN = (OSError, http.client.HTTPException, zlib.error)
"""What a fetch may raise beside our own faults; `told` puts it in words."""


class AddressRefused(BadArgument):
    """The address is not one that may be fetched."""


class FetchFailed(SourceFault):
    """The address could be asked, but gave no good answer."""


def named(address: str) -> str:
    """An address as it may stand in a message: without a user, and without its query, where keys and tokens stand."""
    path, question_mark, _ = address.partition("?")
    path = re.sub(r"//[^/]*@", "//***@", path)
    return shown(f"{path}?…" if question_mark else path)


class Deadline:
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

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
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
        """Nothing: http.client closes its socket before the body is read; `answer_of` closes the connection."""


@contextmanager
def answer_of(
    address: str,
    deadline: Deadline,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """What the server at `address` answers, its body not yet read; whatever its status is, and no redirect followed.

    Raises AddressRefused, or one of BROKEN.
    """
    scheme, host, port, path = checked_address(address)
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
        ours = {"Accept-Encoding": "gzip, deflate", "Connection": "close", "User-Agent": "rq-schedules"}
        client.request(method, path, body=body, headers={**ours, **(headers or {})})
        yield client.getresponse()
    finally:
        connection.close()


def redirect_of(address: str, response: http.client.HTTPResponse) -> str:
    """The address that an answer with one of REDIRECTS leads to. Raises FetchFailed or AddressRefused."""
    location = response.headers.get("Location", "")
    if not location:
        raise FetchFailed(f"{named(address)} redirects to nowhere; give the address of the page itself")
    refuse_odd_letters(location)  # before urljoin, which quietly drops line ends
    try:
        return urljoin(address, location)
    except ValueError as error:
        raise AddressRefused(
            f"{named(address)} redirects to {named(location)}, which is no address: {error}"
        ) from error


def body_of(address: str, response: http.client.HTTPResponse, at_most: int) -> Iterator[bytes]:
    """The body, unpacked, piece by piece; raises FetchFailed beyond `at_most` bytes, before and after unpacking."""
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding in ("gzip", "x-gzip"):
        unpack: Any = zlib.decompressobj(wbits=31)
    elif coding == "deflate":
        unpack = zlib.decompressobj()
    elif coding in ("", "identity"):
        unpack = None
    else:
        raise FetchFailed(
            f"{named(address)} is packed as {shown(coding)}, which was not asked for; use another address"
        )
    total = response.length
    taken = given = 0
    while chunk := response.read1(64 * 1024):
        taken += len(chunk)
        pieces = [chunk] if unpack is None else _unpacked(unpack, chunk, at_most - given + 1)
        for piece in pieces:
            given += len(piece)
            if max(taken, given) > at_most:
                raise FetchFailed(f"{named(address)} has more than {at_most:,} bytes (unpacked); give a smaller page")
            yield piece
        raise_when_stopped(f"after {taken:,} bytes of the page")
        progress(taken, total, f"{taken:,} bytes fetched")
    if response.length:
        raise FetchFailed(f"{named(address)} broke off {response.length:,} bytes before its end; try again")
    if unpack is not None and taken and not unpack.eof:
        raise FetchFailed(f"{named(address)} broke off inside its {coding} packing; try again")


def _unpacked(unpack: Any, chunk: bytes, at_most: int) -> Iterator[bytes]:
    while chunk and not unpack.eof:
        piece = unpack.decompress(chunk, min(at_most, CHUNK))
        chunk = unpack.unconsumed_tail
        if piece:
            yield piece


# Which addresses may be fetched


def refuse_odd_letters(address: str) -> None:
    if len(address) > 2000:
        raise AddressRefused(f"{named(address)} has {len(address):,} characters; an address may have 2,000")
    if re.search(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029]|[\ud800-\udfff]", address):
        raise AddressRefused(
            f"{named(address)} has a space, line end, control character or backslash; write it as %20 and so on"
        )


def checked_address(address: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of an address whose form is good; which machine it is comes later."""
    refuse_odd_letters(address)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise AddressRefused(
            f"{named(address)} is no address: {error}; write it as https://example.org/page"
        ) from error
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https"):
        raise AddressRefused(f"{named(address)} begins with {shown(scheme)}; only http:// and https:// are fetched")
    if "@" in parts.netloc:
        # Not shown: what stands before the @ may be a password.
        raise AddressRefused(
            f"the address at {shown(parts.netloc.rpartition('@')[2])} has a user before an @; leave that out"
        )
    if not parts.hostname:
        raise AddressRefused(f"{named(address)} names no host; write it as https://example.org/page")
    try:
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise AddressRefused(f"{named(address)} has a host name that cannot exist; check it") from error
    if port is None:
        port = 443 if scheme == "https" else 80
    if port not in (80, 443) and not _private_allowed():
        raise AddressRefused(f"{named(address)} has port {port}; only 80 and 443 are fetched")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return scheme, host, port, f"{path}?{query}" if query else path


def _connect(address: str, host: str, port: int, deadline: Deadline) -> socket.socket:
    """A connection to the first address of `host` that answers, after all of them were found to be public."""
    found = _resolve(host, port, deadline)
    if not _private_allowed():
        for ip in found:
            if not _is_public(ip):
                raise AddressRefused(f"{named(address)} leads to {ip}, which is no public address; it is not fetched")
    refused: OSError | None = None
    for ip in found:
        try:
            return socket.create_connection((str(ip), port), timeout=deadline.left())
        except OSError as error:
            refused = error
    raise refused or OSError("the name has no address")


_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def _resolve(host: str, port: int, deadline: Deadline) -> list[_IP]:
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
        raise OSError(f"the name {shown(host)} is not known ({told(answer[0])})") from answer[0]
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


def told(error: Exception) -> str:
    """One of BROKEN as words, on one line."""
    if isinstance(error, http.client.IncompleteRead):
        return "it broke off before its end"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good ({error.verify_message.rstrip('.')})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error) or type(error).__name__
    return "".join(letter if letter.isprintable() else " " for letter in text[:200]).strip()
