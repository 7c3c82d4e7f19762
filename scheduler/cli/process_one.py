"""What process 1 of a container owes to the others: it collects those that nobody waits for, and passes signals on.

An orphan, such as what a task function left running, becomes a child of process 1. Where that does not collect it, it
stays a zombie when it ends, until the container may start no further process. The service waits for its own children
only: with a wait for any child it would take their exit statuses from those who need them.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

PASSED_ON = {signal.SIGTERM, signal.SIGINT}  # those the service listens to; process 1 ignores all others
SI_KERNEL = 128  # asm-generic/siginfo.h: from the terminal, so every process in it has got the signal itself


def step_aside_as_process_one() -> None:
    """Return in a child when this is process 1, which stays behind for it; return at once when it is not."""
    if os.getpid() == 1 and sys.platform == "linux":
        stay_behind_for_a_child()


def stay_behind_for_a_child() -> None:
    """Return in a child; this process passes signals on to it, collects all that end, and ends with its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, the kernel collects, and tells no status
    waited_for = PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)  # before the fork, so that none gets lost
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    status = None
    while status is None:
        got = signal.sigwaitinfo(waited_for)
        if got.si_signo == signal.SIGCHLD:
            status = _collect(child)
        elif got.si_code != SI_KERNEL:
            os.kill(child, got.si_signo)
    os._exit(status)


def _collect(child: int) -> int | None:
    """Collect each process that has ended; the exit status of `child` as a shell tells it, if it is among them."""
    status = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                status = code if code >= 0 else 128 - code
    return status
