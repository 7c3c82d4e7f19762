"""Secrets made unreadable in what people see and SQL keeps: those whose value is known, and those a key gives away.

Known are the values of environment variables and settings whose name looks secret, of passwords in URLs, and of
arguments under such a name; they are found as they are, percent-encoded, escaped, in hex and inside base64.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

MASK = "***"
SHORTEST = 6  # letters; a shorter known value would mask every second word

_UNRESERVED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_SECRET_VARIABLE = re.compile(r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|API_?KEY|KEYS?(?:_|$)", re.I)
_PLACE_VARIABLE = re.compile(r"_(?:FILE|PATH|DIR|FOLDER|URL|HOST|USER|ID|NAME)$", re.I)
_KEY = r"(?:pass(?:word|wd|phrase)|secret|token|credentials?|(?:api|access|private|secret|auth|signing)[_-]?key)"
_SECRET_KEY = re.compile(rf"(?:{_KEY}|\bpwd|(?:^|_)authorization|(?:^|_)cookie)$", re.I)
_USER_INFO = re.compile(r"(://[^\s/:@'\"]*:)([^\s/@'\"]+)@")
_RULES = (
    # Authorization: Bearer xyz
    (
        re.compile(
            r"(?i)(authorization\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?(?:(?:bearer|basic|token|digest) )?)[^\s\"',]+"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)(\b(?:bearer|basic) )[\w.~+/=-]{8,}"), rf"\1{MASK}"),
    # password=xyz, "api_key": "xyz", token: xyz
    (
        re.compile(
            rf"(?i)((?:{_KEY}|\bpwd)\\?[\"']?\s{{0,3}}(?:=>|[:=])\s{{0,3}})"
            r"(?!(?:none|null|true|false)\b)"
            r"(?:(\\[\"'])(?:(?!\\[\"']).)*|([\"'])(?:\\.|(?!\3)[^\\\n])*|[^\s\"'&,;(){}\[\]\\]+)"
        ),
        rf"\1\2\3{MASK}",
    ),
    # --password xyz
    (re.compile(rf"(?i)(--[a-z-]{{0,20}}{_KEY}[ =])[^\s\"'-][^\s\"']*"), rf"\1{MASK}"),
    (_USER_INFO, rf"\1{MASK}@"),
    (re.compile(r"(://)[^\s/:@'\"]{20,}@"), rf"\1{MASK}@"),
    (re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|\Z)", re.S), rf"\1{MASK}"),
)


def is_secret_name(name: str) -> bool:
    """Whether what stands under this key is a secret, by its last word.

    >>> [is_secret_name(name) for name in ("smtpPassword", "api-key", "token", "tokens", "key")]
    [True, True, True, False, False]
    """
    return _SECRET_KEY.search(name.replace("-", "_")) is not None


def known_secrets(environment: Mapping[str, str], settings: Mapping[str, Any]) -> frozenset[str]:
    """The values that look secret by the name of their variable or setting, and the passwords inside URLs."""
    found: set[str] = set()
    for name, value in (*environment.items(), *settings.items()):
        if not isinstance(value, str):
            continue
        if _SECRET_VARIABLE.search(name) and not _PLACE_VARIABLE.search(name):
            found.add(value)
            found.update(line for line in value.splitlines() if len(line) >= 16)  # of a key of many lines
        found.update(match[2] for match in _USER_INFO.finditer(value))
    return frozenset(_long_enough(found))


def secrets_in(arguments: Any) -> frozenset[str]:
    """The texts that stand under secret-looking keys, however deep."""
    return frozenset(_long_enough(_under_keys(arguments, False)))


class Masker:
    """Masks the secrets it knows, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = frozenset(_long_enough(secrets))
        forms = sorted({form for secret in self.secrets for form in _forms(secret)}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, forms))) if forms else None

    def knowing(self, secrets: Iterable[str]) -> Masker:
        """One that knows these too."""
        more = frozenset(_long_enough(secrets)) - self.secrets
        return Masker(self.secrets | more) if more else self

    def text(self, text: str) -> str:
        """
        >>> Masker(["hunter22"]).text("login with hunter22 at https://me:pw@example.com, token=abc")
        'login with *** at https://me:***@example.com, token=***'
        """
        text = self._of_known(text)
        for rule, instead in _RULES:
            text = rule.sub(instead, text)
        return text

    def value(self, value: Any) -> Any:
        """The same for JSON: texts, and whatever stands under a secret-looking key."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                self._of_known(str(name)): _masked(inner) if is_secret_name(str(name)) else self.value(inner)
                for name, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value

    def _of_known(self, text: str) -> str:
        return text if self._known is None else self._known.sub(MASK, text)


def mask_arguments(arguments: Any) -> Any:
    """Arguments as they may be shown. What is stored stays whole: the worker needs it."""
    return Masker(secrets_in(arguments)).value(arguments)


def _masked(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) or value in ("", [], {}) else MASK


def _under_keys(value: Any, is_secret: bool) -> set[str]:
    if isinstance(value, str):
        return {value} if is_secret else {match[2] for match in _USER_INFO.finditer(value)}
    found: set[str] = set()
    if isinstance(value, Mapping):
        for name, inner in value.items():
            found |= _under_keys(inner, is_secret or is_secret_name(str(name)))
    elif isinstance(value, list | tuple):
        for inner in value:
            found |= _under_keys(inner, is_secret)
    return found


def _long_enough(secrets: Iterable[str]) -> set[str]:
    return {secret.strip() for secret in secrets if len(secret.strip()) >= SHORTEST and secret.strip() != MASK}


def _forms(secret: str) -> set[str]:
    """The ways in which the secret may be written."""
    content = secret.encode("utf-8", "surrogateescape")
    quoted = "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in content)
    found = {
        secret,
        quoted,
        quoted.lower(),
        quoted.replace("%20", "+"),
        quoted.replace("%2F", "/"),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        content.hex(),
        content.hex().upper(),
    }
    for before in range(3):  # base64 of a longer text: what stands before the secret shifts its letters
        encoded = base64.b64encode(b"\0" * before + content)
        first, last = (0, 2, 3)[before], len(encoded) - (0, 3, 2)[(before + len(content)) % 3]
        inner = encoded[first:last].decode()
        if len(inner) >= SHORTEST:
            found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return {form for form in found if len(form) >= SHORTEST}
