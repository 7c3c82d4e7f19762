"""What SQL wants Redis to hold: the next attempt of a task that waits for its time or for a worker."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True)
class WaitingJob:
    task_id: int
    attempt: int  # the number it will have
    queue: str
    due_at: dt.datetime
    state: str = "planned"
