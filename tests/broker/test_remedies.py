"""Each way in which Redis does not do what we need is told as such, with the one thing that helps."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from scheduler.broker import connection
from scheduler.broker.connection import answering, connect
from scheduler.errors import RedisAway
from tests.servers import RedisServer, free_port, start_redis
from tests.waiting import wait_for

LOG_IN = "Correct the user and the password in REDIS_URL, redis://USER:PASSWORD@host:6379/0."
PRIMARY = "It is a replica: set REDIS_URL to the primary, or make it one with REPLICAOF NO ONE."
NO_CLUSTER = "It is part of a Redis Cluster, which cannot be used here: set REDIS_URL to a server that is none."
HELLO = b"%1\r\n+proto\r\n:3\r\n"


def told(url: str) -> str:
    """What a write there is answered with."""
    client = connect(url)
    with pytest.raises(RedisAway) as away, answering(client):
        client.set("a", 1)
    client.close()
    return str(away.value)


# --- a server that refuses ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with start_redis(tmp_path_factory.mktemp("redis"), port=0) as started:
        yield started


@contextmanager
def configured(server: RedisServer, password: str | None = None, **values: Any) -> Iterator[None]:
    """With other settings, given as `name=(while, after)`."""
    with server.client() as client:
        for name, (value, _) in values.items():
            client.config_set(name.replace("_", "-"), value)
    yield
    with server.client(password=password) as client:
        for name, (_, value) in values.items():
            client.config_set(name.replace("_", "-"), value)


@contextmanager
def a_replica(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        yield
        client.replicaof("no", "one")


@contextmanager
def a_replica_cut_off(server: RedisServer) -> Iterator[None]:
    with configured(server, replica_serve_stale_data=("no", "yes")), a_replica(server):
        yield


@contextmanager
def a_disk_that_takes_nothing(server: RedisServer) -> Iterator[None]:
    """It saves what has changed, and finds a folder where its file belongs."""
    dump = server.folder / "dump.rdb"
    dump.mkdir()
    with configured(server, save=("3600 1", "")), server.client() as client:
        client.bgsave()
        wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", what="a save that fails")
        yield
        dump.rmdir()
        client.save()
    dump.unlink()


@contextmanager
def a_script_without_end(server: RedisServer) -> Iterator[None]:
    def loop() -> None:
        with server.client() as other, pytest.raises(ResponseError):
            other.eval("while true do end", 0)

    with configured(server, busy_reply_threshold=(20, 5000)):
        thread = threading.Thread(target=loop)
        thread.start()
        with server.client() as client:
            wait_for(lambda: is_busy(client), what="a server that is busy", every=0.01)
            yield
            client.execute_command("SCRIPT KILL")
        thread.join()


def is_busy(client: redis.Redis) -> bool:
    try:
        return not client.ping()
    except ResponseError:
        return True


@contextmanager
def no_place_for_another_client(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.config_set("maxclients", 1)
        yield
        client.config_set("maxclients", 100)


@contextmanager
def a_user_who_may_only_read(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+get", "+hello", "+client")
    yield


@pytest.mark.parametrize(
    ("fault", "log_in", "message"),
    [
        pytest.param(
            a_replica,
            "",
            f"refuses to work at PLACE (READONLY You can't write against a read only replica.). {PRIMARY}",
            id="READONLY",
        ),
        pytest.param(
            a_replica_cut_off,
            "",
            "refuses to work at PLACE (MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to "
            "'no'.). It is a replica that has lost its primary: set REDIS_URL to the primary, or bring that back.",
            id="MASTERDOWN",
        ),
        pytest.param(
            lambda server: configured(server, maxmemory=(1, 0)),
            "",
            "refuses to work at PLACE (OOM command not allowed when used memory > 'maxmemory'.). It is full: raise "
            "maxmemory there, or delete what others keep in it; maxmemory-policy is to be noeviction.",
            id="OOM",
        ),
        pytest.param(
            lambda server: configured(server, min_replicas_to_write=(1, 0)),
            "",
            "refuses to work at PLACE (NOREPLICAS Not enough good replicas to write.). Too few of its replicas are "
            "there: bring them back, or lower min-replicas-to-write there.",
            id="NOREPLICAS",
        ),
        pytest.param(
            a_disk_that_takes_nothing,
            "",
            "refuses to work at PLACE (MISCONF *). It cannot write to its disk: make room there, or give it the right "
            "to; its log tells which.",
            id="MISCONF",
        ),
        pytest.param(
            a_script_without_end,
            "",
            "refuses to work at PLACE (BUSY *). Somebody's script does not end: SCRIPT KILL there ends it.",
            id="BUSY",
        ),
        pytest.param(
            lambda server: configured(server, "secret", requirepass=("secret", "")),
            "",
            "refuses to work at PLACE (NOAUTH *). It wants a password: put it into REDIS_URL, "
            "redis://:PASSWORD@host:6379/0.",
            id="NOAUTH",
        ),
        pytest.param(
            a_user_who_may_only_read,
            "bob:wrong@",
            f"refuses to work at PLACE (WRONGPASS invalid username-password pair or user is disabled.). {LOG_IN}",
            id="WRONGPASS",
        ),
        pytest.param(
            a_user_who_may_only_read,
            "bob:pw@",
            "refuses to work at PLACE (NOPERM User bob has no permissions to run the 'set' command). Its user may not "
            "do that: give it the rights that compose.yaml lists.",
            id="NOPERM",
        ),
        pytest.param(
            no_place_for_another_client,
            "",
            "refuses to work at PLACE (max number of clients reached). It has all the clients it may have: end some, "
            "or raise maxclients there.",
            id="maxclients",
        ),
    ],
)
def test_each_refusal_says_what_helps(
    server: RedisServer, fault: Callable[[RedisServer], Any], log_in: str, message: str
) -> None:
    with fault(server):
        said = told(f"redis://{log_in}127.0.0.1:{server.port}/0")

    # Some servers word the middle in their own way: a star stands for it.
    assert fnmatchcase(said, f"Redis {message}".replace("PLACE", f"127.0.0.1:{server.port}")), said


def test_a_server_of_a_cluster_cannot_be_used(tmp_path: Path) -> None:
    bus = str(free_port())  # else it takes its own port and 10,000, which may be none
    with start_redis(tmp_path, port=0, extra_args=["--cluster-enabled", "yes", "--cluster-port", bus]) as server:
        said = told(server.url)

    assert said == (
        f"Redis refuses to work at 127.0.0.1:{server.port} (CLUSTERDOWN Hash slot not served). {NO_CLUSTER}"
    )


# --- what a test cannot have at will --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("LOADING Redis is loading the dataset in memory", "It reads its data after a start: wait."),
        ("MOVED 3999 127.0.0.1:6381", NO_CLUSTER),
        ("ASK 3999 127.0.0.1:6381", NO_CLUSTER),
        ("TRYAGAIN Multiple keys request during rehashing of slot", NO_CLUSTER),
        ("CROSSSLOT Keys in request don't hash to the same slot", NO_CLUSTER),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", PRIMARY),
    ],
    ids=lambda value: value.partition(" ")[0],
)
def test_each_answer_that_is_rare_says_what_helps_too(answer: str, message: str) -> None:
    with one_who_answers(answer) as port:
        said = told(f"redis://127.0.0.1:{port}/0")

    assert said == f"Redis refuses to work at 127.0.0.1:{port} ({answer}). {message}"


@pytest.mark.parametrize("answer", ["ERR unknown command", "WRONGTYPE Operation against a key", "NOSCRIPT No script"])
def test_a_command_that_is_wrong_is_no_refusal(answer: str) -> None:
    with one_who_answers(answer) as port:
        client = connect(f"redis://127.0.0.1:{port}/0")
        with pytest.raises(ResponseError), answering(client):
            client.set("a", 1)
        client.close()


# --- nobody answers -------------------------------------------------------------------------------------------------


def test_a_server_that_is_down_is_to_be_started() -> None:
    assert told("redis://127.0.0.1:1/0") == (
        "Redis does not answer at 127.0.0.1:1 (Error 111 connecting to 127.0.0.1:1. Connection refused.). "
        "Start it, set REDIS_URL, or unset REDIS_URL to use a private one."
    )
    assert told("unix:///nowhere/redis.sock") == (
        "Redis does not answer at /nowhere/redis.sock (Error 2 connecting to /nowhere/redis.sock. No such file or "
        "directory.). Start it, set REDIS_URL, or unset REDIS_URL to use a private one."
    )


def test_a_name_that_nobody_knows_is_to_be_corrected() -> None:
    assert fnmatchcase(
        told("redis://nowhere.invalid:6379/0"),
        "Redis does not answer at nowhere.invalid:6379 (Error -* connecting *). *",
    )


def test_a_server_that_is_mute_is_looked_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.1)
    with one_who_answers("") as port:
        said = told(f"redis://127.0.0.1:{port}/0")

    assert said == (
        f"Redis does not answer at 127.0.0.1:{port} (Timeout reading from socket). It takes connections and says "
        "nothing: see what holds it, a stopped process or a slow command; else restart it."
    )


def test_a_connection_that_is_ended_is_no_reason_to_do_anything() -> None:
    with one_who_answers(None) as port:
        said = told(f"redis://127.0.0.1:{port}/0")

    assert said == (
        f"Redis does not answer at 127.0.0.1:{port} (Connection closed by server.). It ended the connection: it was "
        "started anew, or something between ends what is idle. Wait; if it lasts, see its log."
    )


@contextmanager
def one_who_answers(line: str | None) -> Iterator[int]:
    """The port of a server that lets everybody in and answers a SET by this error: "" never, None by hanging up."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while request := self.request.recv(65_536):
                for command in re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n", request):
                    if command != b"SET":
                        self.wfile.write(HELLO if command == b"HELLO" else b"+OK\r\n")
                    elif line is None:
                        return
                    elif line:
                        self.wfile.write(f"-{line}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
