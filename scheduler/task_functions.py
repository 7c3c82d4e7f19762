"""Task functions: the `@task` mark, and the catalogue of those found in the task packages.

A task function stays a plain function. It is known by its name alone: the schedule file, the Task table and Redis
name it, and only what stands in the catalogue can be run.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar, overload

_WANTED = {
    "kind": 'give the name of a kind, such as kind="long"',
    "timeout": 'give a duration with its unit, such as timeout="2h"',
    "retry": "give the name of a retry policy, and declare that in the schedule file under retry_policies",
}

Function = TypeVar("Function", bound=Callable[..., Any])
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
SERVICE_FUNCTIONS = "scheduler.engine.service_functions"  # what every catalogue has; found by name, as guests are


@dataclass(frozen=True)
class TaskFunction:
    """A function that schedules and people may ask for, with what it declares about itself."""

    name: str
    function: Callable[..., Any] = field(repr=False)
    kind: str | None = None  # None: the schedule's
    timeout: str | None = None  # a duration such as "2h"
    retry: str | None = None  # the name of a retry policy
    description: str = ""


@dataclass(frozen=True)
class Catalogue:
    """All task functions by name, and the modules that could not be imported, each with the reason."""

    functions: Mapping[str, TaskFunction] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


@overload
def task(function: Function) -> Function: ...
@overload
def task(
    *,
    name: str | None = None,
    kind: str | None = None,
    timeout: str | None = None,
    retry: str | None = None,
    description: str | None = None,
) -> Callable[[Function], Function]: ...


def task(
    function: Function | None = None,
    *,
    name: str | None = None,
    kind: str | None = None,
    timeout: str | None = None,
    retry: str | None = None,
    description: str | None = None,
) -> Function | Callable[[Function], Function]:
    """Mark a function as a task function. Called directly it behaves as before.

    `retry` is the name of a retry policy of the schedule file, `timeout` a duration such as "2h". Raises ValueError for
    a name that a schedule file could not hold, and for what is no name and no duration at all.
    """

    def mark(marked: Function) -> Function:
        known_as = name or marked.__name__
        if not NAME.match(known_as):
            raise ValueError(
                f"{marked.__module__}.{marked.__qualname__}: {known_as!r} cannot be the name of a task function; "
                "use lower-case letters, digits, - and _, 64 at most, or give name="
            )
        for what, value in (("kind", kind), ("timeout", timeout), ("retry", retry)):
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{marked.__module__}.{marked.__qualname__}: {what} is {value!r}; {_WANTED[what]}")
        about = description if description is not None else _first_line(marked)
        marked.__task__ = TaskFunction(known_as, marked, kind, timeout, retry, about)  # type: ignore[attr-defined]
        return marked

    return mark if function is None else mark(function)


def find_task_functions(packages: Iterable[str]) -> Catalogue:
    """Import each package with all its modules and collect the marked functions; the service's own are always there.

    A module that fails to import hides only its own functions; the reason is kept under its name. Two different
    functions of one name: neither is taken, and the reason names both.
    """
    functions: dict[str, TaskFunction] = {}
    broken: dict[str, str] = {}
    for package in (*packages, SERVICE_FUNCTIONS):
        for module in _modules(package, broken):
            for value in list(vars(module).values()):
                found = getattr(value, "__task__", None)
                if not isinstance(found, TaskFunction) or not inspect.isfunction(value):
                    continue
                twin = functions.get(found.name)
                if twin is not None and twin.function is not found.function:
                    broken[found.name] = (
                        f"two task functions are named {found.name!r}: {_where(twin)} and {_where(found)}"
                    )
                functions[found.name] = found
    return Catalogue({name: f for name, f in functions.items() if name not in broken}, broken)


def _modules(package: str, broken: dict[str, str]) -> Iterable[ModuleType]:
    root = _import(package, broken)
    if root is None:
        return
    yield root
    for entry in pkgutil.walk_packages(getattr(root, "__path__", []), prefix=f"{package}.", onerror=lambda name: None):
        module = _import(entry.name, broken)
        if module is not None:
            yield module


def _import(name: str, broken: dict[str, str]) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a user's module does at import is told, never a crash of ours
        broken[name] = f"{type(error).__name__}: {error}"
        return None


def _first_line(function: Callable[..., Any]) -> str:
    lines = (inspect.getdoc(function) or "").splitlines()
    return lines[0] if lines else ""


def _where(found: TaskFunction) -> str:
    return f"{found.function.__module__}.{found.function.__qualname__}"
