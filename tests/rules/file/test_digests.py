"""A digest becomes a schedule of its own."""

from __future__ import annotations

import datetime as dt

from scheduler.rules.file.digests import is_digest, with_digests
from scheduler.rules.spec import Missed
from scheduler.rules.times.fire_times import fire_times
from tests.builders import a_book, at

TEXT = """
contacts: {ops: {email: ops@example.org}}
digests:
  ops-morning: {to: ops, when: {at: "07:30", days: mon-fri}}
schedules:
  nightly: {task: count_words, when: {at: "02:00"}}
"""


def test_each_digest_becomes_a_schedule_beside_those_of_the_file() -> None:
    book, _ = a_book(TEXT)

    schedules = with_digests(book).schedules

    assert list(schedules) == ["nightly", "digest.ops-morning"]
    digest = schedules["digest.ops-morning"]
    assert (digest.task, digest.args, digest.kind) == ("status_digest", {"digest": "ops-morning"}, "scheduled")
    assert (digest.missed, digest.overlap) == (Missed(run="latest", within=dt.timedelta(hours=24)), "skip")
    assert digest.about == "The digest ops-morning, to ops."
    assert next(fire_times(digest, at("08:00"))) == at("07:30", "2026-11-25")
    assert [is_digest(name) for name in (*schedules, None)] == [False, True, False]


def test_a_book_without_digests_stays_as_it_is() -> None:
    book, _ = a_book("schedules: {nightly: {task: count_words, when: {every: 1h}}}")

    assert with_digests(book) is book
