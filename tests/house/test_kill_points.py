"""The list of kill points and the code agree, and a point does what SCHEDULER_POINT says of it."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scheduler.errors import SettingFault
from scheduler.kill_points import POINTS, point, read_orders

ROOT = Path(__file__).resolve().parents[2]


def test_each_point_of_the_list_stands_in_the_code_once_and_no_other_does() -> None:
    found = Counter(
        ast.literal_eval(node.args[0])
        for path in (ROOT / "scheduler").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "point"
    )

    assert found == Counter(POINTS)


def test_without_an_order_nothing_happens() -> None:
    assert point("planner.after_commit") is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("planner.after_comit=kill", 'there is no point "planner.after_comit"', id="unknown point"),
        pytest.param("any=explode", "give kill, stop, raise, wait:FILE or sleep:SECONDS", id="unknown action"),
        pytest.param("any=kill@x", "give kill, stop", id="no number"),
        pytest.param("any=wait", "give kill, stop", id="wait for what"),
    ],
)
def test_a_wrong_order_is_told(text: str, fault: str) -> None:
    with pytest.raises(SettingFault, match=fault):
        read_orders(text)


def reach(order: str, folder: Path | None, *, times: int = 5) -> subprocess.CompletedProcess[str]:
    """A process that reaches two points in turn, `times` times each, and tells how often it came through the first."""
    code = f"""if True:
        from scheduler.errors import SchedulerError
        from scheduler.kill_points import point
        for n in range({times}):
            try:
                point("planner.after_commit")
            except SchedulerError as error:
                print(error)
            print(n, flush=True)
            point("planner.after_register")
    """
    environment = dict(os.environ) | {"SCHEDULER_POINT": order}
    if folder is not None:
        environment["SCHEDULER_POINT_FOLDER"] = str(folder)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize(
    ("order", "lines"),
    [
        pytest.param("planner.after_commit=kill", [], id="the first time"),
        pytest.param("planner.after_commit=kill@3", ["0", "1"], id="the third time"),
        pytest.param("any=kill@4", ["0", "1"], id="the fourth of all points"),
        pytest.param("planner.after_register=kill, planner.after_commit=sleep:0", ["0"], id="one of two"),
    ],
)
def test_a_point_kills_its_process(order: str, lines: list[str]) -> None:
    ended = reach(order, None)

    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.split() == lines


def test_a_point_raises_an_error_once() -> None:
    ended = reach("planner.after_commit=raise@2", None, times=3)

    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [
        "0",
        "planner.after_commit: an error as SCHEDULER_POINT wants it",
        "1",
        "2",
    ]


def test_an_order_with_a_folder_is_obeyed_by_one_process_only(tmp_path: Path) -> None:
    first = reach("planner.after_commit=kill", tmp_path)
    second = reach("planner.after_commit=kill", tmp_path)

    assert (first.returncode, second.returncode) == (-signal.SIGKILL, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["planner.after_commit"]


def test_a_point_waits_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "go").touch()

    assert reach(f"planner.after_commit=wait:{tmp_path / 'go'}", None, times=1).stdout.split() == ["0"]
