"""What is masked: known values in each of their spellings, and what a key gives away."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from scheduler.rules.task.masking import Masker, is_secret_name, known_secrets, mask_arguments, secrets_in

SECRET = 'ca/na ry"+ä'
MASKER = Masker([SECRET])


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        pytest.param(f"with {SECRET}.", "with ***.", id="as it is"),
        pytest.param(f"?q={quote(SECRET, safe='')}&a=1", "?q=***&a=1", id="percent-encoded"),
        pytest.param(f"?q={quote(SECRET)}&a=1", "?q=***&a=1", id="percent-encoded, its slash kept"),
        pytest.param(f"?q={quote_plus(SECRET)}&a=1", "?q=***&a=1", id="as a form"),
        pytest.param(f"hex {SECRET.encode().hex()}", "hex ***", id="hex"),
        pytest.param('{"a": "ca/na ry\\"+ä"}', '{"a": "***"}', id="in JSON"),
        pytest.param("password=hunter2, more", "password=***, more", id="a key and its value"),
        pytest.param('{"api_key": "a\\"b", "n": 1}', '{"api_key": "***", "n": 1}', id="a JSON key"),
        pytest.param("{'db_passwd': 'x y', 'n': 1}", "{'db_passwd': '***', 'n': 1}", id="a dict as Python shows it"),
        pytest.param('"{\\"token\\": \\"x y\\"}"', '"{\\"token\\": \\"***\\"}"', id="JSON in JSON"),
        pytest.param("Token: abc def", "Token: *** def", id="a token"),
        pytest.param("Authorization: Bearer abc.def", "Authorization: Bearer ***", id="a header"),
        pytest.param("'authorization': 'Basic Zm9v'", "'authorization': 'Basic ***'", id="a header in a dict"),
        pytest.param("sent Bearer abcdefgh1", "sent Bearer ***", id="a bearer alone"),
        pytest.param("psql --db-password x -v", "psql --db-password *** -v", id="an option"),
        pytest.param("at postgresql://me:p%40w@db/x", "at postgresql://me:***@db/x", id="a URL"),
        pytest.param("https://ghp_0123456789abcdefghij@github.com", "https://***@github.com", id="a token in a URL"),
        pytest.param(
            "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----",
            id="a private key",
        ),
        pytest.param("42 tokens: 7; password=None; key=5", "42 tokens: 7; password=None; key=5", id="no secrets"),
        pytest.param("canary", "canary", id="a part of a secret"),
    ],
)
def test_a_text_as_it_may_be_seen(text: str, masked: str) -> None:
    assert MASKER.text(text) == masked
    assert MASKER.text(masked) == masked


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("after", ["", "z", "zz"])
def test_a_secret_inside_base64_cannot_be_read_out_of_it(before: str, after: str) -> None:
    encoded = base64.b64encode(f"{before}{SECRET}{after}".encode()).decode()

    masked = MASKER.text(encoded)

    assert "***" in masked
    assert len(masked) <= 12


def test_json_is_masked_by_its_keys_and_by_what_is_known() -> None:
    value = {
        "smtpPassword": "x",
        "token": 12,
        "api-key": None,
        "credentials": {"a": ["b"]},
        "key": "stays",
        "count": 5,
        "list": [SECRET, {"Authorization": "Basic x"}],
        SECRET: 1,
    }

    assert MASKER.value(value) == {
        "smtpPassword": "***",
        "token": "***",
        "api-key": None,
        "credentials": "***",
        "key": "stays",
        "count": 5,
        "list": ["***", {"Authorization": "***"}],
        "***": 1,
    }


def test_arguments_are_masked_wherever_the_same_value_stands() -> None:
    args = {"password": "hunter22", "command": ["login", "hunter22"], "url": "https://me:opensesame@x.example"}

    assert mask_arguments(args) == {
        "password": "***",
        "command": ["login", "***"],
        "url": "https://me:***@x.example",
    }
    assert secrets_in(args) == {"hunter22", "opensesame"}


def test_known_are_the_values_of_what_is_named_like_a_secret() -> None:
    environment = {
        "SMTP_PASSWORD": "of the mail",
        "AWS_SECRET_ACCESS_KEY": "of the cloud",
        "GITHUB_TOKEN": "of the code",
        "SHORT_TOKEN": "short",
        "DB_PASSWORD_FILE": "/run/secrets/db",
        "DATABASE_URL": "postgresql://me:of-the-rows@db/x",
        "KEYBOARD": "qwertz-layout",
        "PWD": "/home/me/work",
        "TLS_KEY": "first line of a key\nsecond line of a key",
    }
    settings: dict[str, Any] = {"smtp_password": "of the settings", "workers_long": 1, "smtp_url": None}

    assert known_secrets(environment, settings) == {
        "of the mail",
        "of the cloud",
        "of the code",
        "of-the-rows",
        "of the settings",
        environment["TLS_KEY"],
        "first line of a key",
        "second line of a key",
    }


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("password", True),
        ("db_passwd", True),
        ("clientSecret", True),
        ("api_key", True),
        ("x-api-key", True),
        ("access_token", True),
        ("pwd", True),
        ("Set-Cookie", True),
        ("tokens", False),
        ("key", False),
        ("password_hint", False),
        ("keyboard", False),
    ],
)
def test_a_name_looks_secret_by_its_last_word(name: str, is_secret: bool) -> None:
    assert is_secret_name(name) is is_secret


@pytest.mark.parametrize(
    "text", ["a-" * 50_000, "token " * 20_000, "x:y@" * 20_000, "password=" * 10_000, '"' * 50_000]
)
def test_no_text_takes_long(text: str) -> None:
    assert MASKER.text(text)  # the limit of a test's time would tell
