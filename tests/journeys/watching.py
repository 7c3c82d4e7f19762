"""What a fault must not do to a running service: keep it away for long, flood its log, keep a processor busy."""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scheduler.errors import DatabaseAway
from scheduler.rules.states import SUCCEEDED
from tests.journeys.service import Service
from tests.waiting import wait_for

BACK_WITHIN = 60  # seconds; the promise is 90
TROUBLE = re.compile(r"^\S+ (?:WARNING|ERROR)\s+(.*)$", re.MULTILINE)
PARTS_ALIKE = 3  # workers, which say the same


def rest(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= until, seconds=seconds + 30, what="time to pass")


def wait_for_something_due_after(service: Service, moment: dt.datetime, fault: str) -> None:
    wait_for(
        lambda: _has_run_something_due_after(service, moment),
        seconds=BACK_WITHIN,
        what=f"a task that was due after «{fault}»; {service.log}",
    )


def _has_run_something_due_after(service: Service, moment: dt.datetime) -> bool:
    try:
        tasks = service.tasks("ticks")
    except DatabaseAway:  # not back yet
        return False
    return any(task.fire_time is not None and task.fire_time > moment and task.state == SUCCEEDED for task in tasks)


@contextmanager
def no_noise_and_no_haste(service: Service, fault: str) -> Iterator[None]:
    """At most a line in ten seconds of each part about each trouble; and no process that uses half a processor."""
    began, spent, said = time.monotonic(), processor_seconds(service), service.log.stat().st_size
    yield
    lasted = time.monotonic() - began
    with service.log.open() as log:
        log.seek(said)
        text = log.read()
    assert "Traceback" not in text, fault
    lines = Counter(re.sub(r"[\d.]+", "#", line) for line in TROUBLE.findall(text))
    noisy = {line: count for line, count in lines.items() if count > PARTS_ALIKE * (1 + lasted // 10)}
    assert noisy == {}, f"{fault}, within {lasted:.0f} s"
    hasty = {
        pid: seconds - spent[pid]
        for pid, seconds in processor_seconds(service).items()
        if pid in spent and seconds - spent[pid] > 1 + lasted / 2
    }
    assert hasty == {}, f"{fault}, within {lasted:.0f} s"


def processor_seconds(service: Service) -> dict[int, float]:
    """How much of a processor's time each process of the service has had so far."""
    found = {}
    for pid in service.processes():
        with suppress(OSError):  # ended meanwhile
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            found[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found
