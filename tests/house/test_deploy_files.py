"""What can be proved of the deploy files without an engine that runs containers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.exceptions import AuthenticationError, NoPermissionError
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
from rq_scheduler import Scheduler

from scheduler.clock import utc_now
from scheduler.settings import SECRETS, Settings, load_settings
from tests.servers import RedisServer, start_redis

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "config" / "redis.conf"
COMPOSE = ROOT / "compose.yaml"
PASSWORD = "open-sesame"


@pytest.fixture
def composed_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server with config/redis.conf, and with the users that the head of compose.yaml tells people to make."""
    users = re.findall(r"""(?<=['"])user [^'"]+""", COMPOSE.read_text())
    acl = tmp_path / "redis.acl"
    acl.write_text("\n".join(users).replace("$redis", PASSWORD) + "\n")
    arguments = ["--include", str(CONF), "--aclfile", str(acl)]
    with start_redis(tmp_path / "data", extra_args=arguments, probe_as=("health", "none")) as server:
        yield server


def as_scheduler(server: RedisServer) -> redis.Redis:
    return server.client(username="scheduler", password=PASSWORD)


@pytest.mark.parametrize("line", [line for line in CONF.read_text().splitlines() if line and not line.startswith("#")])
def test_redis_takes_each_line_of_its_configuration(tmp_path: Path, line: str) -> None:
    name, value = line.split(maxsplit=1)

    with start_redis(tmp_path, extra_args=["--include", str(CONF)]) as server, server.client() as client:
        assert client.config_get(name) == {name: value.strip('"')}


def test_a_stranger_may_do_nothing(composed_redis: RedisServer) -> None:
    with composed_redis.client() as client, pytest.raises(AuthenticationError):
        client.ping()


def test_the_health_check_may_ask_for_a_ping_and_no_more(composed_redis: RedisServer) -> None:
    with composed_redis.client(username="health", password="none") as client:
        assert client.ping() is True
        with pytest.raises(NoPermissionError):
            client.get("rq:queues")


@pytest.mark.parametrize("command", ["FLUSHALL", "CONFIG GET dir", "KEYS *", "SHUTDOWN", "ACL LIST", "GET other:key"])
def test_the_service_may_not_do_what_it_never_needs(composed_redis: RedisServer, command: str) -> None:
    with as_scheduler(composed_redis) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


def test_the_service_may_do_all_that_rq_needs(composed_redis: RedisServer) -> None:
    with as_scheduler(composed_redis) as client:
        queue = Queue("scheduled", connection=client, serializer=JSONSerializer)
        waiting = Scheduler("scheduled", connection=client)
        late = waiting.enqueue_at(utc_now(), "operator.mul", 6, 7)
        job = queue.enqueue("operator.add", 2, 3)

        SimpleWorker([queue], connection=client, serializer=JSONSerializer).work(burst=True)

        assert job.return_value() == 5
        assert late.id in {found.id for found in waiting.get_jobs()}
        assert len(client.client_list()) > 0


def test_every_part_is_locked_down() -> None:
    services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]

    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        ports = ["127.0.0.1:8080:8080"] if name == "web" else []  # a proxy on the host leads there, nobody else
        assert service.get("ports", []) == ports, name


def test_no_secret_stands_in_compose() -> None:
    document = yaml.safe_load(COMPOSE.read_text())

    for name, service in document["services"].items():
        secret = [key for key in service.get("environment", {}) if re.search("PASSWORD|URL|TOKEN|KEY", key)]
        assert [key for key in secret if not key.endswith("_FILE")] == [], name
    assert {str(Path(secret["file"]).parent) for secret in document["secrets"].values()} == {"var/secrets"}


def test_the_image_runs_as_nobody_on_the_host() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    user = next(line.split()[1] for line in reversed(lines) if line.startswith("USER "))

    assert all(int(number) >= 10_000 for number in user.split(":"))


def test_the_image_takes_in_only_what_is_named() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]

    assert lines[0] == "*"
    assert all((ROOT / line[1:]).exists() for line in lines if line.startswith("!") and line != "!schedules.yaml")


def test_the_image_holds_each_file_that_its_sample_schedules_read() -> None:
    entries = yaml.safe_load((ROOT / "schedules.yaml").read_text())["schedules"].values()
    last_stage = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    copied = [
        name.rstrip("/") for line in re.findall(r"^COPY (?!--)(.*) \S+$", last_stage, re.M) for name in line.split()
    ]

    read = [entry["args"]["source"] for entry in entries if "source" in entry.get("args", {})]

    assert read
    assert [source for source in read if Path(source).parts[0] not in copied] == []


def test_postgres_counts_as_healthy_only_where_the_others_reach_it() -> None:
    """Its first start sets the database up with a server that listens on the socket alone, and is stopped again."""
    check = yaml.safe_load(COMPOSE.read_text())["services"]["postgres"]["healthcheck"]["test"]

    assert check[check.index("--host") + 1] == "127.0.0.1"


def test_the_settings_file_as_it_comes_changes_nothing() -> None:
    assert load_settings(environment={}, file=ROOT / "config" / "settings.toml") == Settings()


def test_the_settings_file_shows_each_setting_with_its_default(tmp_path: Path) -> None:
    lines = (ROOT / "config" / "settings.toml").read_text().splitlines()
    shown = tmp_path / "settings.toml"
    shown.write_text("\n".join(line[1:] for line in lines if re.match(r"#\w", line)))
    without_default: dict[str, Any] = {line[1:].split(" = ")[0]: None for line in lines if line.endswith("# example")}

    settings = load_settings(environment={}, file=shown)

    names = {field.name for field in dataclasses.fields(Settings)} - {"sources"}
    assert settings.sources.keys() == names - SECRETS
    assert dataclasses.replace(settings, **without_default) == Settings()
