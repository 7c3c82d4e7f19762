"""Why Redis does not do what we need, and what helps: each cause has a sentence of its own.

A cause is known by the code that begins Redis' answer (redis-py takes it off some answers and keeps it beside them), or
by words of redis-py where there was no answer.
"""

from __future__ import annotations

from redis.exceptions import ConnectionError, MaxConnectionsError, RedisError, TimeoutError

LOG_IN = "Correct the user and the password in REDIS_URL, redis://USER:PASSWORD@host:6379/0."
PRIMARY = "It is a replica: set REDIS_URL to the primary, or make it one with REPLICAOF NO ONE."
NO_CLUSTER = "It is part of a Redis Cluster, which cannot be used here: set REDIS_URL to a server that is none."
MORE_CLIENTS = "It has all the clients it may have: end some, or raise maxclients there."
ENDED = (
    "It ended the connection: it was started anew, or something between ends what is idle. Wait; if it lasts, see its "
    "log."
)
START_IT = "Start it, set REDIS_URL, or unset REDIS_URL to use a private one."

# By the code of an answer: Redis is there, and for now, or as it is set up, does not do what we need.
REFUSALS = {
    "ASK": NO_CLUSTER,
    "BUSY": "Somebody's script does not end: SCRIPT KILL there ends it.",
    "CLUSTERDOWN": NO_CLUSTER,
    "CROSSSLOT": NO_CLUSTER,
    "LOADING": "It reads its data after a start: wait.",
    "MASTERDOWN": "It is a replica that has lost its primary: set REDIS_URL to the primary, or bring that back.",
    "MISCONF": "It cannot write to its disk: make room there, or give it the right to; its log tells which.",
    "MOVED": NO_CLUSTER,
    "NOAUTH": "It wants a password: put it into REDIS_URL, redis://:PASSWORD@host:6379/0.",
    "NOPERM": "Its user may not do that: give it the rights that compose.yaml lists.",
    "NOREPLICAS": "Too few of its replicas are there: bring them back, or lower min-replicas-to-write there.",
    "OOM": "It is full: raise maxmemory there, or delete what others keep in it; maxmemory-policy is to be noeviction.",
    "READONLY": PRIMARY,
    "TRYAGAIN": NO_CLUSTER,
    "UNBLOCKED": PRIMARY,
    "WRONGPASS": LOG_IN,
}
# By words of an error that has no such code; the first that is found.
WORDS = {
    "max number of clients reached": MORE_CLIENTS,
    "invalid username-password": LOG_IN,
    "Timeout connecting": "Nothing answers there: see whether REDIS_URL is right and the way there is open.",
    "Name or service not known": "Nobody knows that host: correct its name in REDIS_URL, or the name service.",
    "name resolution": "The name service does not answer: mend it, or write an address into REDIS_URL.",
    "SSL": "The two do not agree about TLS: write rediss:// for a server that speaks it with a certificate that is "
    "trusted here, redis:// for any other.",
    "closed by server": ENDED,
    "reset by peer": ENDED,
}
MUTE = "It takes connections and says nothing: see what holds it, a stopped process or a slow command; else restart it."


def refusal_of(error: RedisError) -> str | None:
    """The code of an answer by which Redis refuses to work for us; None for any other error."""
    code = str(getattr(error, "status_code", None) or "")
    if code in REFUSALS:
        return code
    first = str(error).partition(" ")[0]
    return first if first in REFUSALS else None


def is_away(error: RedisError) -> bool:
    """Whether nothing was wrong with the command: Redis did not answer, or refuses to work."""
    return isinstance(error, ConnectionError | TimeoutError) or refusal_of(error) is not None


def remedy(error: RedisError) -> str:
    """What helps, as a sentence."""
    code, said = refusal_of(error), str(error)
    if code is not None:
        return REFUSALS[code]
    if isinstance(error, MaxConnectionsError):
        return MORE_CLIENTS
    for words, sentence in WORDS.items():
        if words in said:
            return sentence
    return MUTE if isinstance(error, TimeoutError) else START_IT
