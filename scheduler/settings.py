"""Settings: config/settings.toml, then the environment, then options; each remembers where it came from.

The environment names are REDIS_URL and DATABASE_URL, and SCHEDULER_<NAME> for the rest; <NAME>_FILE names a file that
holds the value, for secrets.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scheduler.errors import SettingFault

FILE = Path("config/settings.toml")
SECRETS = frozenset({"smtp_password", "watchdog_url"})
MOST = {"web_port": 65_535}
_URLS = frozenset({"redis_url", "database_url", "smtp_url"})


@dataclass(frozen=True)
class Settings:
    """What can be set. Durations are seconds."""

    redis_url: str | None = None  # None: a private server in the data folder
    database_url: str | None = None  # None: a SQLite file in the data folder
    file: Path = Path("schedules.yaml")
    data: Path = Path("var")  # SQLite file, private Redis, outbox, artifacts
    task_packages: tuple[str, ...] = ("tasks",)
    name: str = "jobs"  # what mails and pages call this service
    workers_scheduled: int = 1  # worker processes of each kind under `scheduler up`
    workers_long: int = 1
    workers_adhoc: int = 1
    lease_seconds: int = 60  # how long a worker holds a task without renewing
    renew_seconds: int = 15
    patience_seconds: int = 6  # what a running task gets when its worker is told to stop; then it runs again elsewhere
    child_tasks: int = 1000  # after so many tasks, or
    child_seconds: int = 3600  # after so long, or
    child_memory_mb: int = 512  # when it holds so many MiB, a worker's warm child is replaced by a new one
    horizon_seconds: int = 120  # how far ahead occurrences are planned
    reconcile_seconds: int = 10
    sqlite_synchronous: str = "FULL"  # NORMAL is faster and loses the last moments with the power
    smtp_url: str | None = None  # None: mails go to <data>/outbox as .eml files
    smtp_password: str | None = None
    mail_from: str = "jobs@localhost"
    base_url: str | None = None  # where people reach the web page, for the links of mails
    realert_seconds: int = 14_400  # how long after it was last told an alert that is still open is told again
    source_folders: str | None = None  # what task functions may read, separated as in PATH; None: what the account may
    max_artifact_mb: int = 100  # MiB of one file that a run may leave as its result
    allowed_commands: tuple[str, ...] = ()  # programs that run_command may run: names or whole paths; *: all
    keep_days: int = 90  # how long rows of ended tasks are kept, unless their schedule says so itself
    keep_failed_days: int = 365  # the same, of those that did not succeed
    keep_audit_days: int = 400  # how long lines of the audit are kept
    web_address: str = "127.0.0.1"  # what the web page listens on; another than this machine's own needs users
    web_port: int = 8080  # 0: no page under `scheduler up`
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose word about who asks counts
    proxy_user_header: str | None = None  # by which they name the user, such as X-Forwarded-User
    watchdog_url: str | None = None  # called each minute while the service moves; a secret
    log_level: str = "INFO"
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def database_url_or_default(self) -> str:
        return self.database_url or f"sqlite:///{self.data.resolve() / 'scheduler.db'}"

    @property
    def web_url(self) -> str:
        """Where the web page is, for people on this machine."""
        address = f"[{self.web_address}]" if ":" in self.web_address else self.web_address
        return f"http://{address}:{self.web_port}"

    @property
    def web_path(self) -> str:
        """Below which path of its host people reach the web page: `/jobs`; "" for the whole host."""
        return urlsplit(self.base_url or "").path.rstrip("/")

    def shown(self) -> list[dict[str, str]]:
        """Each setting with its value, secrets masked, and where it came from."""
        return [
            {
                "name": one.name,
                "value": _shown(one.name, getattr(self, one.name)),
                "source": self.sources.get(one.name, "default"),
            }
            for one in fields(self)
            if one.name != "sources"
        ]


def load_settings(
    options: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path = FILE,
) -> Settings:
    """Settings from all sources; options that are None count as not given. Raises SettingFault naming the source."""
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, found in (*_from_file(file), *_from_environment(environment), *_from_options(options or {})):
        for name, value in found.items():
            values[name], sources[name] = _read(name, value, source), source
    settings = Settings(**values, sources=sources)
    if settings.renew_seconds * 2 > settings.lease_seconds:
        raise SettingFault(
            f"renew_seconds is {settings.renew_seconds} and lease_seconds {settings.lease_seconds}: "
            "renew at least twice within a lease"
        )
    return settings


def environment_name(name: str) -> str:
    """The environment variable of a setting."""
    return name.upper() if name in ("redis_url", "database_url") else f"SCHEDULER_{name.upper()}"


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, for processes that are to see the same; paths in full."""
    values = {one.name: getattr(settings, one.name) for one in fields(settings) if one.name != "sources"}
    values["database_url"] = settings.database_url_or_default
    values["file"], values["data"] = settings.file.resolve(), settings.data.resolve()
    values["task_packages"] = ",".join(settings.task_packages)
    for several in ("allowed_commands", "trusted_proxies"):
        values[several] = ",".join(values[several]) or None
    return {environment_name(name): str(value) for name, value in values.items() if value is not None}


def _from_file(file: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise SettingFault(f"{file} cannot be read: {error}") from error
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingFault(f"{file} is no TOML: {error}") from error
    known = _known()
    for name in found:
        if name not in known:
            raise SettingFault(f'{file}: there is no setting "{name}". Known: {", ".join(sorted(known))}')
    return [(str(file), found)]


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for name in sorted(_known()):
        variable = environment_name(name)
        if environment.get(variable, "") != "":
            found.append((variable, {name: environment[variable]}))
        elif environment.get(f"{variable}_FILE", "") != "":
            path = environment[f"{variable}_FILE"]
            try:
                secret = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingFault(f"{variable}_FILE names {path}, which cannot be read: {error}") from error
            found.append((f"{variable}_FILE", {name: secret}))
    return found


def _from_options(options: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"--{name.replace('_', '-')}", {name: value}) for name, value in options.items() if value is not None]


def _read(name: str, value: Any, source: str) -> Any:
    """The value as its setting wants it. Raises SettingFault."""
    default = next(one.default for one in fields(Settings) if one.name == name)
    try:
        if name == "task_packages":
            return _read_packages(value)
        if name == "allowed_commands":
            return _read_commands(value)
        if name == "trusted_proxies":
            return _read_networks(value)
        if isinstance(default, Path):
            return Path(value).expanduser()
        if isinstance(default, int):
            return _read_number(value, least=0 if name.startswith(("workers_", "web_")) else 1, most=MOST.get(name))
        if name == "sqlite_synchronous":
            return _read_word(value, ("OFF", "NORMAL", "FULL", "EXTRA"))
        if name == "log_level":
            return _read_word(value, ("DEBUG", "INFO", "WARNING", "ERROR"))
        if not isinstance(value, str):
            raise ValueError("give a text")
        if name in ("watchdog_url", "base_url") and not re.match(r"https?://[^/\s]", value):
            raise ValueError("give an address that begins with http:// or https://")
        if name == "web_address":
            return _read_address(value)
        if name == "proxy_user_header" and not re.fullmatch(r"[A-Za-z0-9-]+", value):
            raise ValueError("give the name of a header, such as X-Forwarded-User")
        return value
    except (ValueError, TypeError) as error:
        raise SettingFault(f'{name} is "{_shown(name, value)}" (from {source}): {error}') from error


def _read_packages(value: Any) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
    if not names or not all(isinstance(name, str) and re.fullmatch(r"[A-Za-z_][\w.]*", name) for name in names):
        raise ValueError("give the names of Python packages, separated by commas")
    return tuple(names)


def _read_commands(value: Any) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"\*|[\w.+-]+|/[^,\x00]+", name):
            raise ValueError("give names of programs or their whole paths, separated by commas; * for all")
    return tuple(names)


def _read_networks(value: Any) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
    for name in names:
        try:
            ipaddress.ip_network(name)
        except ValueError:
            raise ValueError("give addresses or networks, such as 10.0.0.0/8, separated by commas") from None
    return tuple(names)


def _read_address(value: str) -> str:
    if value == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(
            "give the address of this machine to listen on: 127.0.0.1, or 0.0.0.0 for all it has"
        ) from None


def _read_number(value: Any, least: int, most: int | None = None) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value)) or int(value) < least:
        raise ValueError(f"give a whole number of at least {least}")
    if most is not None and int(value) > most:
        raise ValueError(f"give a whole number of at most {most}")
    return int(value)


def _read_word(value: Any, words: tuple[str, ...]) -> str:
    word = str(value).upper()
    if word not in words:
        raise ValueError(f"give one of {', '.join(words)}")
    return word


def _known() -> frozenset[str]:
    return frozenset(one.name for one in fields(Settings)) - {"sources"}


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in SECRETS:
        return "***"
    if name in _URLS:
        return re.sub(r"(//[^:/@]*):[^@]*@", r"\1:***@", str(value))
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return str(value)
