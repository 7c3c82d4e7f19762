"""Passwords and other secrets: made, kept as hashes, compared in the same time whatever is wrong with them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass

from scheduler.errors import PartAway, WrongUsage

SHORTEST, LONGEST = 12, 256  # letters
TOKEN_PREFIX = "sch_"  # by which a token that leaked into a repository is found
MEMORY = 128 * 1024 * 1024  # bytes that one hash may take
PATIENCE = 3.0  # seconds to wait for one's turn
_AT_ONCE = threading.BoundedSemaphore(3)  # so that a flood of log-ins takes 100 MB, not the machine


@dataclass(frozen=True)
class Cost:
    """What a guess costs: 128 * n * r bytes of memory, p times over. OWASP asks for these or others as dear."""

    n: int = 2**15
    r: int = 8
    p: int = 3


COST = Cost()


def hash_password(password: str) -> str:
    """`scrypt$n$r$p$salt$hash`: the cost stands in it, so that it may grow later."""
    salt = secrets.token_bytes(16)
    return _written(COST, salt, _scrypt(password, salt, COST))


def is_password(password: str, password_hash: str | None) -> bool:
    """Whether it is the password. None, for a user whom nobody knows, takes as long as a wrong one."""
    cost, salt, wanted = _read(password_hash or _NOBODYS)
    return hmac.compare_digest(_scrypt(password, salt, cost), wanted) and password_hash is not None


def check_password(password: str, name: str) -> None:
    """Raises WrongUsage for one that is guessed too soon."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise WrongUsage(f"A password has {SHORTEST} to {LONGEST} letters; a few words in a row are easy to keep")
    if len(set(password)) < 5 or password.casefold().strip("0123456789") == name.casefold():
        raise WrongUsage("This password is guessed too soon; take a few words in a row")


def new_password() -> str:
    return secrets.token_urlsafe(15)


def new_token() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def new_session_token() -> str:
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """SHA-256: what has 256 random bits needs no salt and no cost."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _scrypt(password: str, salt: bytes, cost: Cost) -> bytes:
    content = password.encode("utf-8", "surrogatepass")
    if not _AT_ONCE.acquire(timeout=PATIENCE):
        raise PartAway("Too many people log in at once; try again in a moment")
    try:
        return hashlib.scrypt(content, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=MEMORY, dklen=32)
    finally:
        _AT_ONCE.release()


def _written(cost: Cost, salt: bytes, content: bytes) -> str:
    fields = (base64.b64encode(one).decode() for one in (salt, content))
    return "$".join(("scrypt", str(cost.n), str(cost.r), str(cost.p), *fields))


def _read(password_hash: str) -> tuple[Cost, bytes, bytes]:
    _, n, r, p, salt, content = password_hash.split("$")
    return Cost(int(n), int(r), int(p)), base64.b64decode(salt), base64.b64decode(content)


_NOBODYS = _written(COST, bytes(16), bytes(32))
