"""What follows an attempt that did not succeed: another one, and when, or the end, and which.

Pure: the caller brings the moments and the random number.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from scheduler.rules.spec import Retry
from scheduler.rules.states import CANCELLED, FAILED, LOST, RETRYING, TIMED_OUT
from scheduler.rules.task.policy import TaskPolicy
from scheduler.rules.times.durations import format_duration

POISON_AFTER = 3  # workers lost by one task: it is the task that kills them


@dataclass(frozen=True)
class Ended:
    """How an attempt ended, other than well, and what is known of the task by then."""

    outcome: str  # failed, timed_out, lost, cancelled
    attempt: int  # its number: 1, 2, …
    lost: int = 0  # attempts of this task whose worker vanished, this one included
    worker_stopped: bool = False  # its worker was told to stop while it ran: no fault of the task
    forgiven: int = 0  # earlier attempts that ended so; they use up none of those the policy allows
    error_names: tuple[str, ...] = ()  # the exception's class and its bases, the nearest first
    error: str = ""  # one line
    first_started_at: dt.datetime | None = None
    next_fire_time: dt.datetime | None = None  # of the schedule, after this occurrence


@dataclass(frozen=True)
class Verdict:
    """The state that follows, why, and for RETRYING when."""

    state: str
    reason_code: str
    reason: str
    due_at: dt.datetime | None = None


def next_delay(policy: Retry, failed: int) -> dt.timedelta | None:
    """How long to wait after the `failed`-th failed attempt (1, 2, …); None when none is left.

    exponential: first * factor ** (failed - 1); linear: first * failed; fixed: first. At most `policy.longest`. Jitter
    is added by the caller.

    >>> next_delay(Retry(attempts=4, first=dt.timedelta(seconds=10), factor=2), failed=3)
    datetime.timedelta(seconds=40)
    """
    if failed >= policy.attempts:
        return None
    if policy.backoff == "fixed":
        return min(policy.first, policy.longest)
    try:
        if policy.backoff == "linear":
            return min(policy.first * failed, policy.longest)
        return min(policy.first * policy.factor ** (failed - 1), policy.longest)
    except OverflowError:
        return policy.longest


def after_attempt(policy: TaskPolicy, ended: Ended, now: dt.datetime, luck: float = 0.0) -> Verdict:
    """What follows the attempt; `luck` in [0, 1) says how much of the jitter is added to the delay."""
    if ended.outcome == CANCELLED:
        return Verdict(CANCELLED, "stopped", "stopped while it ran")
    if ended.outcome == LOST:
        if policy.delivery == "at_most_once":
            return Verdict(LOST, "worker_lost", f"{ended.error}; it may have done all, part or nothing (at_most_once)")
        if ended.worker_stopped:
            reason = f"attempt {ended.attempt} ended with its worker; runs again"
            return Verdict(RETRYING, "worker_stopped", reason, now)
        if ended.lost >= POISON_AFTER:
            return Verdict(FAILED, "poison", f"its worker vanished {ended.lost} times; last: {ended.error}")
    if policy.delivery == "at_most_once":
        return Verdict(FAILED, _code(ended), f"{ended.error} (at_most_once: no further attempt)")
    refusal = _why_no_more(policy.retry, ended)
    delay = next_delay(policy.retry, ended.attempt - ended.forgiven)
    if refusal or delay is None:
        return Verdict(FAILED, _code(ended), f"{ended.error} ({refusal or _tries(policy.retry)})")
    due_at = now + delay + delay * (policy.retry.jitter * luck)
    late = _why_too_late(policy.retry, ended, due_at)
    if late:
        return Verdict(FAILED, _code(ended), f"{ended.error} ({late})")
    reason = f"attempt {ended.attempt} of {policy.retry.attempts} {_verb(ended)}: {ended.error}"
    return Verdict(RETRYING, _code(ended), reason, due_at)


def _why_no_more(policy: Retry, ended: Ended) -> str:
    if ended.outcome != FAILED:
        return ""
    for name in policy.never_on:
        if name in ended.error_names:
            return f"no retry on {name}"
    if policy.only_on and not _any_of(policy.only_on, ended.error_names):
        return f"retried only on {', '.join(policy.only_on)}"
    return ""


def _why_too_late(policy: Retry, ended: Ended, due_at: dt.datetime) -> str:
    started = ended.first_started_at
    if policy.give_up_after is not None and started is not None and due_at > started + policy.give_up_after:
        after = format_duration(policy.give_up_after)
        return f"given up after {ended.attempt} attempts: the next would come more than {after} after the first"
    if policy.until_next and ended.next_fire_time is not None and due_at >= ended.next_fire_time:
        return "the next occurrence is due before another attempt would be"
    return ""


def _any_of(names: Iterable[str], among: Iterable[str]) -> bool:
    return not set(names).isdisjoint(among)


def _tries(policy: Retry) -> str:
    return "no retry" if policy.attempts == 1 else f"after {policy.attempts} attempts"


def _code(ended: Ended) -> str:
    return {TIMED_OUT: "timeout", LOST: "worker_lost"}.get(ended.outcome, "error")


def _verb(ended: Ended) -> str:
    return {TIMED_OUT: "timed out", LOST: "was lost"}.get(ended.outcome, "failed")
