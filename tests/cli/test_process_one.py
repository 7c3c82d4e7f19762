"""As process 1 of a container the service leaves no zombies, and is told to stop as before.

A process that adopts the orphans of its descendants (PR_SET_CHILD_SUBREAPER) stands for process 1.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_for

ADOPT = "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)"
STAND_IN = f"""
{ADOPT}
from scheduler.cli.process_one import stay_behind_for_a_child
stay_behind_for_a_child()
import os, signal, subprocess, sys, time
"""
SERVE = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
for _ in range(3):
    subprocess.run(["sh", "-c", "(sleep 0.05; true) & exit 0"])
print("serving", flush=True)
time.sleep(60)
"""


def children(pid: int) -> list[str]:
    """The states of its children, as /proc names them; Z is a zombie."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    return [state for state, parent, *_ in fields if int(parent) == pid]


@pytest.fixture
def serving() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", STAND_IN + SERVE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.terminate()


def test_process_one_collects_the_orphans_of_tasks(serving: subprocess.Popen[str]) -> None:
    wait_for(lambda: children(serving.pid) == ["S"])


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_process_one_passes_on_that_it_shall_stop(serving: subprocess.Popen[str], told: signal.Signals) -> None:
    serving.send_signal(told)

    assert serving.wait(timeout=10) == {signal.SIGTERM: 7, signal.SIGINT: 128 + signal.SIGINT}[told]


@pytest.mark.parametrize(
    ("end", "status"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", 128 + 9)], ids=["exit", "killed"]
)
def test_process_one_ends_as_the_service_ended(end: str, status: int) -> None:
    ended = subprocess.run([sys.executable, "-c", STAND_IN + end], check=False, timeout=30)

    assert ended.returncode == status


def test_elsewhere_the_service_is_one_process() -> None:
    program = "import os; from scheduler.cli.process_one import step_aside_as_process_one as aside\n"
    program += "before = os.getpid(); aside(); print(os.getpid() == before)"

    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert told.stdout == "True\n"
