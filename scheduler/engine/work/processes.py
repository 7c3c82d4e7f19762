"""What we ask of the operating system about processes: die with your parent, how long since boot, how much memory."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
UNDER_UP = "SCHEDULER_UNDER_UP"  # set for the parts of `scheduler up`: what that has said they need not say again


def die_with_parent(parent: int, with_signal: int = signal.SIGKILL) -> None:
    """Have this process killed when its parent ends, however that ends; exits at once if it has ended already.

    Linux only; elsewhere the lease does it, later.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, with_signal, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def boot_seconds() -> float:
    """Seconds since boot, those of a suspended machine included: a lease goes on while it sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def peak_memory() -> int:
    """The most memory this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory() -> int:
    """The memory this process has now, in bytes; where the system does not tell (it is Linux that does), the most."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        return peak_memory()


def kill_group(leader: int) -> None:
    """Kill a process that leads a group and all it has started in it; also when it has not made the group yet."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(leader, signal.SIGKILL)  # not reaped yet, so the number is still its own


def kill_left_over(leader: int) -> None:
    """Kill what a process that has ended, and was reaped, left behind in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
