"""How the house talks to Redis: clients with limits of their own, and one clear error when Redis is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from scheduler.broker.remedies import is_away, refusal_of, remedy
from scheduler.errors import RedisAway, SettingFault

ANSWER_SECONDS = 5
CONNECT_SECONDS = 3


def connect(url: str, *, client_name: str | None = None) -> redis.Redis:
    """A client that waits `ANSWER_SECONDS` for an answer and sends a command that got none once more, not eleven times.

    Every command of ours may be sent twice without harm; redis-py's own default goes on for a minute.
    """
    try:
        return redis.Redis.from_url(
            url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 1),
            health_check_interval=30,
            client_name=client_name,
        )
    except ValueError as error:
        raise SettingFault(
            f'REDIS_URL is "{without_password(url)}": {error}. Write redis://host:6379/0, rediss://… or unix:///path'
        ) from error


@contextmanager
def answering(client: redis.Redis) -> Iterator[None]:
    """Raise RedisAway, with the place and the way to mend it, when Redis does not answer, or refuses to work, inside
    the block."""
    try:
        yield
    except RedisError as error:
        if not is_away(error):
            raise
        raise away(client, error) from error


def away(client: redis.Redis, error: RedisError) -> RedisAway:
    lines, code = str(error).strip().splitlines(), refusal_of(error)
    said = lines[0] if lines else type(error).__name__
    if code is not None and not said.startswith(code):
        said = f"{code} {said}"
    has_answered = code is not None or getattr(error, "status_code", None) is not None
    head = "Redis refuses to work" if has_answered else "Redis does not answer"
    return RedisAway(f"{head} at {place_of(client)} ({said}). {remedy(error)}")


def place_of(client: redis.Redis) -> str:
    """Where a client connects to, for people; never with a password."""
    options: dict[str, Any] = client.connection_pool.connection_kwargs
    if options.get("path"):
        return str(options["path"])
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"


def without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    if parts.password is None:
        return url
    user = parts.username or ""
    host = parts.netloc.rsplit("@", 1)[-1]
    return parts._replace(netloc=f"{user}:***@{host}").geturl()
