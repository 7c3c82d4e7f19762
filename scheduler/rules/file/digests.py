"""Digests as schedules: each is planned, queued, retried, listed and retired as any schedule is.

The name `digest.<name>` cannot be taken by a schedule of the file, where no name has a dot.
"""

from __future__ import annotations

import datetime as dt

from scheduler.rules.spec import Book, Digest, Missed, Retry, ScheduleSpec, Timeout

PREFIX = "digest."
FUNCTION = "status_digest"  # the task function that makes and queues one

# A mail server is no part of it, only SQL is: what fails here is soon well again, or needs a person.
RETRY = Retry(name="gentle", attempts=4, first=dt.timedelta(seconds=30), longest=dt.timedelta(minutes=10), jitter=0.2)
MISSED = Missed(run="latest", within=dt.timedelta(hours=24))
TIMEOUT = Timeout(soft=dt.timedelta(minutes=2), hard=dt.timedelta(minutes=2, seconds=10))


def with_digests(book: Book) -> Book:
    """The book with a schedule for each of its digests beside its own."""
    if not book.digests:
        return book
    own = {schedule_name(digest.name): _schedule(digest, book) for digest in book.digests.values()}
    return book.model_copy(update={"schedules": {**book.schedules, **own}})


def schedule_name(digest: str) -> str:
    return f"{PREFIX}{digest}"


def is_digest(schedule: str | None) -> bool:
    """Whether a schedule of that name is a digest's, and so none of the file's `schedules`."""
    return schedule is not None and schedule.startswith(PREFIX)


def _schedule(digest: Digest, book: Book) -> ScheduleSpec:
    return ScheduleSpec(
        name=schedule_name(digest.name),
        task=FUNCTION,
        args={"digest": digest.name},
        queue=book.kinds["scheduled"].queue,
        when=digest.when,
        timezone=digest.timezone,
        calendars=digest.calendars,
        retry=RETRY,
        missed=MISSED,
        timeout=TIMEOUT,
        about=f"The digest {digest.name}, to {', '.join(digest.to)}.",
    )
