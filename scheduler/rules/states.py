"""The states of a task, and who may bring it from one to the next.

Planned rows are a forecast; from `queued` on a row is history. A state that is no key of NEXT is final, for ever.
The one place that writes a state is `move` in store/tasks.py.
"""

from __future__ import annotations

PLANNED = "planned"
QUEUED = "queued"
RUNNING = "running"
RETRYING = "retrying"
SUCCEEDED = "succeeded"
FAILED = "failed"
SKIPPED = "skipped"
MISSED = "missed"
CANCELLED = "cancelled"
LOST = "lost"

NEXT: dict[str, frozenset[str]] = {
    # The dispatcher marks it queued; a worker may claim it before that mark is made; the keeper ends what is late.
    PLANNED: frozenset({QUEUED, RUNNING, SKIPPED, MISSED, CANCELLED}),
    # A worker, by its claim.
    QUEUED: frozenset({RUNNING, SKIPPED, MISSED, CANCELLED}),
    # The worker that holds it; the keeper when its lease has ended. QUEUED when its function had not begun by then.
    RUNNING: frozenset({QUEUED, SUCCEEDED, RETRYING, FAILED, CANCELLED, LOST}),
    # As PLANNED; FAILED when its time to go on trying is over.
    RETRYING: frozenset({QUEUED, RUNNING, FAILED, CANCELLED}),
}

STATES: tuple[str, ...] = (
    PLANNED,
    QUEUED,
    RUNNING,
    RETRYING,
    SUCCEEDED,
    FAILED,
    SKIPPED,
    MISSED,
    CANCELLED,
    LOST,
)
FINAL: frozenset[str] = frozenset(STATES) - frozenset(NEXT)
UNFINISHED: frozenset[str] = frozenset(NEXT)

# Why a task ended so, in one word, beside the sentence for people; docs/operations.md tells them all.
REASON_CODES: dict[str, frozenset[str]] = {
    FAILED: frozenset({"error", "timeout", "worker_lost", "poison"}),
    SKIPPED: frozenset({"overlap", "paused", "blackout", "parked"}),
    MISSED: frozenset({"late", "too_old", "superseded", "too_many"}),
    CANCELLED: frozenset({"cancelled", "stopped", "replaced", "edited", "removed"}),
    LOST: frozenset({"worker_lost"}),
}

# How an attempt can end.
TIMED_OUT = "timed_out"
OUTCOMES: tuple[str, ...] = (SUCCEEDED, FAILED, TIMED_OUT, LOST, CANCELLED)

# The kinds of task, each with a queue and workers of its own.
KINDS: tuple[str, ...] = ("scheduled", "long", "adhoc")

# Who asked for a task.
ORIGINS: tuple[str, ...] = ("schedule", "manual", "catch_up", "backfill", "retry", "api")


def sources_of(state: str) -> tuple[str, ...]:
    """The states from which a task may come into `state`; never empty but for PLANNED, where every task begins.

    RETRYING goes back to QUEUED with its next attempt: a retrying task that waits in its queue is again `queued`.
    """
    return tuple(source for source in STATES if state in NEXT.get(source, frozenset()))
