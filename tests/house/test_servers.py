"""The servers of tests/servers.py do what the other tests rely on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from tests.servers import PostgresServer, start_postgres, start_redis
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]


def is_gone(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # An orphan that has ended stays a zombie where process 1 does not collect it, as in many containers.
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def tables(url: str) -> list[str]:
    engine = create_engine(url)
    try:
        return inspect(engine).get_table_names()
    finally:
        engine.dispose()


def execute(url: str, statement: str) -> None:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()


@pytest.mark.parametrize("port", [None, 0], ids=["unix socket", "TCP"])
def test_redis_answers_at_its_url_and_is_gone_after_stop(tmp_path: Path, port: int | None) -> None:
    with start_redis(tmp_path, port=port) as server, server.client() as client:
        answer = client.ping()

    assert answer is True
    assert is_gone(server.pid)


def test_a_long_folder_still_gives_redis_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 100) / ("b" * 100)

    with start_redis(deep) as server, server.client() as client:
        assert client.ping() is True


def test_a_persistent_redis_keeps_its_keys_over_a_kill(tmp_path: Path) -> None:
    with start_redis(tmp_path, persistent=True) as server, server.client() as client:
        client.set("colour", "green")
        killed = server.pid

        server.kill()
        server.restart()

        assert is_gone(killed)
        assert server.pid != killed
        assert client.get("colour") == b"green"


def test_a_throw_away_redis_forgets_its_keys_over_a_restart(tmp_path: Path) -> None:
    with start_redis(tmp_path) as server, server.client() as client:
        client.set("colour", "green")

        server.restart()

        assert client.get("colour") is None


def test_a_redis_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with status 1 at its start:(?s:.*)no-such-option"):
        start_redis(tmp_path, extra_args=["--no-such-option", "1"])


def test_two_databases_of_postgres_share_nothing(postgres_server: PostgresServer) -> None:
    first, second = postgres_server.create_database(), postgres_server.create_database()

    execute(first, "CREATE TABLE colours (name text)")

    assert tables(first) == ["colours"]
    assert tables(second) == []
    postgres_server.drop(first)
    postgres_server.drop(second)


def test_a_database_made_from_a_template_has_its_tables(postgres_server: PostgresServer) -> None:
    template = postgres_server.create_database()
    execute(template, "CREATE TABLE colours (name text)")

    copy = postgres_server.create_database(template)

    assert tables(copy) == ["colours"]
    postgres_server.drop(copy)
    postgres_server.drop(template)


def test_postgres_leaves_no_process_and_no_file_after_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEDULER_TEST_PG_URL", raising=False)

    with start_postgres(tmp_path) as server:
        home = server.folder
        assert home is not None
        assert home.exists()

    assert is_gone(server.pid)
    assert not home.exists()


def test_a_database_is_empty_whatever_ran_before(empty_database_url: str) -> None:
    assert tables(empty_database_url) == []

    execute(empty_database_url, "CREATE TABLE leftovers (name text)")


if sys.platform == "linux":  # elsewhere the kernel cannot be asked for it

    def test_servers_end_with_a_pytest_that_is_killed(tmp_path: Path) -> None:
        code = """if True:
            import os, pathlib, signal, sys
            from tests.servers import start_postgres, start_redis
            folder = pathlib.Path(sys.argv[1])
            redis, postgres = start_redis(folder), start_postgres(folder)
            print(redis.pid, postgres.pid, postgres.folder, redis.url.removeprefix("unix://"), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
        environment = {name: value for name, value in os.environ.items() if name != "SCHEDULER_TEST_PG_URL"}

        killed = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )

        redis_pid, postgres_pid, home, socket = killed.stdout.split()
        wait_for(lambda: is_gone(int(redis_pid)), what="the end of Redis")
        wait_for(lambda: is_gone(int(postgres_pid)), what="the end of PostgreSQL")
        shutil.rmtree(home)
        shutil.rmtree(Path(socket).parent)
