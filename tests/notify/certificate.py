"""A key and a certificate for tests, made on the spot: no key lies in the tree, and no tool needs to be installed.

Just enough of X.509 (RFC 5280) and RSA (RFC 8017) for a server that signs for itself.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import math
import secrets
from pathlib import Path

SHA256_RSA = "1.2.840.113549.1.1.11"
RSA = "1.2.840.113549.1.1.1"
EXPONENT = 65537


def write_certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """(certificate, key) as PEM files; good for `host` alone, from yesterday until tomorrow."""
    p, q = prime(), prime()
    n, d = p * q, pow(EXPONENT, -1, math.lcm(p - 1, q - 1))
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_text(pem("CERTIFICATE", signed(n, d, host)))
    numbers = (0, n, EXPONENT, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    key.write_text(pem("RSA PRIVATE KEY", sequence(*map(integer, numbers))))
    return certificate, key


def signed(n: int, d: int, host: str) -> bytes:
    algorithm = sequence(oid(SHA256_RSA), der(0x05))
    name = sequence(der(0x31, sequence(oid("2.5.4.3"), der(0x0C, host.encode()))))
    now = dt.datetime.now(dt.UTC)
    span = (now - dt.timedelta(days=1), now + dt.timedelta(days=1))
    public_key = sequence(integer(n), integer(EXPONENT))
    key_id = hashlib.sha256(public_key).digest()[:20]
    extensions = sequence(
        extension("2.5.29.19", sequence(der(0x01, b"\xff")), critical=True),  # an authority, so it may be trusted
        extension("2.5.29.15", der(0x03, b"\x02\x84"), critical=True),  # signs data and certificates
        extension("2.5.29.14", der(0x04, key_id)),
        extension("2.5.29.35", sequence(der(0x80, key_id))),
        extension("2.5.29.17", sequence(der(0x82, host.encode()))),
    )
    body = sequence(
        der(0xA0, integer(2)),  # version 3
        integer(secrets.randbits(64)),
        algorithm,
        name,
        sequence(*(der(0x17, f"{moment:%y%m%d%H%M%SZ}".encode()) for moment in span)),
        name,
        sequence(sequence(oid(RSA), der(0x05)), der(0x03, b"\0" + public_key)),
        der(0xA3, extensions),
    )
    digest = sequence(sequence(oid("2.16.840.1.101.3.4.2.1"), der(0x05)), der(0x04, hashlib.sha256(body).digest()))
    length = (n.bit_length() + 7) // 8
    padded = b"\0\1" + b"\xff" * (length - len(digest) - 3) + b"\0" + digest
    signature = pow(int.from_bytes(padded), d, n).to_bytes(length)
    return sequence(body, algorithm, der(0x03, b"\0" + signature))


def extension(name: str, value: bytes, *, critical: bool = False) -> bytes:
    return sequence(oid(name), *([der(0x01, b"\xff")] if critical else []), der(0x04, value))


def der(tag: int, content: bytes = b"") -> bytes:
    length = len(content)
    if length < 128:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size) + content


def sequence(*parts: bytes) -> bytes:
    return der(0x30, b"".join(parts))


def integer(number: int) -> bytes:
    return der(0x02, number.to_bytes(number.bit_length() // 8 + 1))


def oid(name: str) -> bytes:
    first, second, *rest = map(int, name.split("."))
    content = bytearray([first * 40 + second])
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | number & 0x7F)
        content += bytes(reversed(groups))
    return der(0x06, bytes(content))


def pem(title: str, content: bytes) -> str:
    return f"-----BEGIN {title}-----\n{base64.encodebytes(content).decode()}-----END {title}-----\n"


SMALL_PRIMES = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


def prime() -> int:
    """A prime of 1024 bits, near enough to sure for a key that lives for one test run."""
    while True:
        number = secrets.randbits(1024) | 3 << 1022 | 1
        if any(number % small == 0 for small in SMALL_PRIMES) or number % EXPONENT == 1:
            continue
        if all(pow(base, number - 1, number) == 1 for base in (2, 3, 5)):
            return number
