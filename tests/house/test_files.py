"""What may stand in the files of this project, and what may not."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
THIS = Path(__file__).resolve()  # it names what it looks for

IGNORED = re.compile(r"\.(?!ci$).*|var|dist|__pycache__|.*\.egg-info")  # .git, .venv, caches, what git ignores
LARGEST = 1_000_000  # bytes
MACHINE_PATH = re.compile(r"(?<![A-Za-z])/(?:work|root|farm)/")
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|registry\.npmjs\.org|(?:deb|security)\.debian\.org|--(?:extra-)?index-url|--find-links"
)
# What no file may hold; this is the check itself, and leaves nothing undone.
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|raise NotImplementedError)\b")
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "manager", "data", "info", "misc"}
JUDGES = re.compile(r"assert|check|wait|judge|expect|raises|warns|fail")  # a call of such a name judges something
STATE_WRITER = "scheduler/store/tasks.py"
STATE_IN_SQL = re.compile(r"\bset\s+(?:[\w.\"]+\s*=[^,]+,\s*)*\"?state\"?\s*=", re.IGNORECASE)

Checker = Callable[[ast.Module], Iterator[tuple[int, str]]]


def our_files(*folders: str, suffix: str = "") -> Iterator[Path]:
    """Files of the project (all, or below some folders) in a fixed order, without what git ignores."""
    for start in folders or ("",):
        for folder, names, found in os.walk(ROOT / start):
            names[:] = sorted(name for name in names if not IGNORED.fullmatch(name))
            if "pyvenv.cfg" in found:  # someone's virtual environment under a name of its own
                names.clear()
                continue
            for name in sorted(found):
                if name.endswith(suffix) and not name.endswith(".pyc"):
                    yield Path(folder) / name


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_with(pattern: re.Pattern[str], *folders: str) -> list[str]:
    found = []
    for path in our_files(*folders):
        if path != THIS:
            lines = path.read_text(errors="replace").splitlines()
            found += [f"{place(path)}:{n}: {line.strip()}" for n, line in enumerate(lines, 1) if pattern.search(line)]
    return found


def judged(checker: Checker, *folders: str, but_not: str = "") -> list[str]:
    return [
        f"{place(path)}:{line}: {fault}"
        for path in our_files(*folders, suffix=".py")
        if place(path) != but_not
        for line, fault in checker(ast.parse(path.read_text()))
    ]


# --- text -----------------------------------------------------------------------------------------------------------


def test_no_file_is_large() -> None:
    assert [place(path) for path in our_files() if path.stat().st_size > LARGEST] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert lines_with(MACHINE_PATH) == []


def test_no_file_names_a_package_registry() -> None:
    assert lines_with(REGISTRY) == []


def test_the_locks_name_no_address_and_a_hash_for_each_package() -> None:
    for lock in ROOT.glob("requirements*.lock"):
        text = lock.read_text()
        packages = re.findall(r"^[a-z0-9][^\n]*==", text, re.MULTILINE | re.IGNORECASE)
        hashed = re.findall(r"^[a-z0-9][^\n]*==[^\n]*\\\n\s+--hash=sha256:", text, re.MULTILINE | re.IGNORECASE)

        assert "://" not in text, lock.name
        assert len(packages) == len(hashed) > 0, lock.name


def test_nothing_is_left_unfinished() -> None:
    assert lines_with(UNFINISHED, "scheduler", "tasks") == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    modules = our_files("scheduler", "tasks", "tests", suffix=".py")

    assert [place(path) for path in modules if {path.stem, path.parent.name} & SAYS_NOTHING] == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (MACHINE_PATH, "cd /wor" + "k/main"),
        (MACHINE_PATH, 'HOME="/roo' + 't/x"'),
        (REGISTRY, "pip install --index" + "-url x"),
        (UNFINISHED, "raise NotImpl" + "ementedError"),
    ],
)
def test_a_forbidden_line_is_seen(pattern: re.Pattern[str], line: str) -> None:
    assert pattern.search(line)


@pytest.mark.parametrize("line", ["docs/work/plan.md", "/var/lib/valkey", "/homework/1"])
def test_an_innocent_path_is_let_pass(line: str) -> None:
    assert not MACHINE_PATH.search(line)


# --- tests ----------------------------------------------------------------------------------------------------------


def name_of(function: ast.expr) -> str:
    """The last word of what is called: `c` of a.b.c()."""
    return getattr(function, "attr", getattr(function, "id", ""))


def idle_tests(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            inside = [part for statement in node.body for part in ast.walk(statement)]
            asserts = any(isinstance(part, ast.Assert) for part in inside)
            calls = any(isinstance(part, ast.Call) and JUDGES.search(name_of(part.func)) for part in inside)
            if not asserts and not calls:
                yield node.lineno, f"{node.name} asserts nothing"


def sleeps(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time" and any(n.name == "sleep" for n in node.names):
            yield node.lineno, "imports sleep; wait for a condition (tests/waiting.py)"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep":
            yield node.lineno, "sleeps; wait for a condition (tests/waiting.py)"


def skips(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail", "importorskip"}:
            yield node.lineno, f"{node.attr}: a test runs, or is not there"


def test_every_test_judges_something() -> None:
    assert judged(idle_tests, "tests") == []


def test_no_test_sleeps() -> None:
    assert judged(sleeps, "tests", but_not="tests/waiting.py") == []


def test_no_test_is_skipped() -> None:
    assert judged(skips, "tests") == []


def test_every_example_in_a_docstring_is_true() -> None:
    failed = []
    for path in our_files("scheduler", "tasks", suffix=".py"):
        if ">>> " in path.read_text():
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            failed += [place(path)] * doctest.testmod(module).failed  # prints what it got, for pytest to show

    assert failed == []


# --- state ----------------------------------------------------------------------------------------------------------


def state_writes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg for keyword in node.keywords}
            keys = {
                key.value
                for argument in node.args
                if isinstance(argument, ast.Dict)
                for key in argument.keys
                if isinstance(key, ast.Constant)
            }
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if name_of(node.func) in {"values", "update"} and "state" in keywords | keys:
                yield node.lineno, f"{name_of(node.func)}(state=…)"
            elif name_of(node.func) == "setattr" and "state" in texts:
                yield node.lineno, "setattr(…, 'state', …)"
        elif isinstance(node, ast.Attribute) and node.attr == "state" and isinstance(node.ctx, ast.Store):
            yield node.lineno, f"{ast.unparse(node)} = …"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and STATE_IN_SQL.search(node.value):
            yield node.lineno, "SQL that sets state"


def test_state_is_written_in_one_place() -> None:
    assert judged(state_writes, "scheduler", "tasks", but_not=STATE_WRITER) == []


@pytest.mark.parametrize(
    ("checker", "source"),
    [
        (idle_tests, "def test_a(page):\n    page.open()"),
        (idle_tests, "class TestA:\n    def test_a(self):\n        print(1)"),
        (sleeps, "import time\ntime.sleep(1)"),
        (sleeps, "from time import sleep"),
        (skips, "@pytest.mark.skip\ndef test_a(): ..."),  # a sample that the check has to find; skips nothing
        (skips, "pytest.importorskip('x')"),
        (state_writes, "update(Task).where(x).values(state=RUNNING)"),
        (state_writes, "update(Task).values({'state': RUNNING})"),
        (state_writes, "task.state = RUNNING"),
        (state_writes, "setattr(task, 'state', RUNNING)"),
        (state_writes, "text('UPDATE task SET lease = 1, state = :new')"),
    ],
)
def test_a_fault_is_told(checker: Checker, source: str) -> None:
    assert len(list(checker(ast.parse(source)))) == 1


@pytest.mark.parametrize(
    ("checker", "source"),
    [
        (idle_tests, "def test_a(page):\n    wait_for(page.is_open)"),
        (idle_tests, "def test_a():\n    with pytest.raises(ValueError):\n        f()"),
        (sleeps, "wait_for(done)"),
        (state_writes, "if task.state == RUNNING: move(session, task.id, SUCCEEDED)"),
        (state_writes, "update(Schedule).values(planned_until=now)"),
    ],
)
def test_what_is_right_is_let_pass(checker: Checker, source: str) -> None:
    assert list(checker(ast.parse(source))) == []


# --- words ----------------------------------------------------------------------------------------------------------


def event_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "event" and isinstance(value, ast.Constant):
                    yield str(value.value)


def test_each_event_name_of_the_log_stands_once() -> None:
    names = Counter(
        name for path in our_files("scheduler", suffix=".py") for name in event_names(ast.parse(path.read_text()))
    )

    assert [name for name, count in names.items() if count > 1] == []
