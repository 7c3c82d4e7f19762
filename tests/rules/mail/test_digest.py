"""What a digest says, whole, on eight mornings."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from scheduler.rules.mail.digest import Facts, Failing, Held, Slow, digest_of
from scheduler.rules.mail.digest_text import digest_text
from tests.rules.mail.digest_samples import ALL_GREEN, MINUTE, SECOND, SITUATIONS, facts, local

TEXT_ALL_GREEN = """\
[jobs prod] all 41 ok - Mon 23 Nov

All 41 schedules are ok, from Fri 20 Nov 07:30 to Mon 23 Nov 07:30
(Europe/Berlin).

RUNS BY KIND
- scheduled: 4,320 runs, 100 % ok (before: 4,320 runs, 99.9 % ok)
  on average 2.4 s (before: 2.3 s), the longest 41 s

TREND
- runs in each 6 h, oldest first:
  ok: 360 360 360 360 360 360 360 360 360 360 360 360

The next one comes on Tue 24 Nov 07:30 (Europe/Berlin).
"""

TEXT_MIXED = """\
[jobs prod] 2 failing, 1 missed, 1 late, 1 recovered, 35 ok, 1 paused - Mon 23 Nov

Of 41 schedules 2 are failing, 1 missed a run, 1 ran late, 1 has recovered, 1
is paused and 35 are ok, from Fri 20 Nov 07:30 to Mon 23 Nov 07:30
(Europe/Berlin).

STILL FAILING (2)
- invoice-export: since Sat 21 Nov 02:00
  failed 3 times in a row, the last time after 4 attempts
  ConnectionError: bank.example refused
  owner: jana
  https://jobs.example.org/tasks/4711
- ledger-sync: since Sun 22 Nov 23:10
  failed once, after 3 attempts
  ValueError: row 17 has no amount
  owner: ops
  https://jobs.example.org/tasks/4790

MISSED, SKIPPED, LOST
- stock-sync: missed 2 times, last Sun 22 Nov 03:00
  could not start within its grace, 22 m late
  https://jobs.example.org/tasks/4755
- thumbnails: skipped 12 times, last Mon 23 Nov 06:15
  the run before it was still going
  https://jobs.example.org/tasks/4788

LATE OR SLOW
- nightly-report: started up to 4 m late; took up to 31 m, usually 12 m

RECOVERED
- mail-flush: well again since Sat 21 Nov 09:05, after 5 failures

PAUSED
- partner-feed: by jana since Fri 20 Nov 16:00, until Wed 25 Nov 08:00
  partner API outage

RUNS BY KIND
- scheduled: 4,310 runs, 99.7 % ok, 9 failed (before: 4,320 runs, 99.9 % ok)
  on average 2.4 s (before: 2.3 s), the longest 31 m
- long: 6 runs, 100 % ok (before: 6 runs, 100 % ok)
  on average 48 m (before: 45 m), the longest 1 h 10 m
- adhoc: 15 runs, 93.3 % ok, 1 failed (before: no runs)
  on average 9.5 s, the longest 40 s

TREND
- runs in each 6 h, oldest first:
  ok: 358 360 361 355 340 362 360 359 360 351 360 360
  failed: 0 0 1 1 5 0 0 0 0 1 1 1
  not run: 0 0 0 0 0 0 0 2 0 0 6 6

IN THE NEXT 24 HOURS
- Mon 23 Nov 19:30  close-month: long
- Mon 23 Nov 23:00  migrate-legacy: one-off

CHANGES TO THE SCHEDULE FILE
- revision 12, Fri 20 Nov 15:58, by jana
  added migrate-legacy; changed partner-feed

The next one comes on Tue 24 Nov 07:30 (Europe/Berlin).
"""

TEXT_FIRST_EVER = """\
[jobs prod] all 3 ok - Mon 23 Nov

All 3 schedules are ok, from Sun 22 Nov 07:30 to Mon 23 Nov 07:30
(Europe/Berlin).

RUNS BY KIND
- scheduled: 20 runs, 100 % ok (before: no runs)
  on average 0.4 s, the longest 1.1 s

IN THE NEXT 24 HOURS
- Tue 24 Nov 02:00  nightly: its first run

CHANGES TO THE SCHEDULE FILE
- revision 1, Sun 22 Nov 18:00, by jana
  added hourly, nightly, weekly

This is the first issue of this digest.
The next one comes on Tue 24 Nov 07:30 (Europe/Berlin).
"""

TEXT_AFTER_AN_OUTAGE = """\
[jobs prod] 18 missed, 1 late, 1 service fault, 22 ok - Mon 23 Nov

Of 41 schedules 18 missed runs, 1 ran late and 22 are ok, from Fri 20 Nov
07:30 to Mon 23 Nov 07:30 (Europe/Berlin); the service itself has 1 fault.

MISSED, SKIPPED, LOST
- 18 schedules: missed 1,107 times, last Mon 23 Nov 05:00
  feed-00, feed-01, feed-02, feed-03, feed-04, feed-05 … and 12 more
  the last: older than 1h (missed: latest, within)

THE SERVICE ITSELF
- tick: 41,000 fire times passed while the service was down, too many for a
  row each

LATE OR SLOW
- nightly-report: started up to 4 h 2 m late

RUNS BY KIND
- scheduled: 120 runs, 100 % ok (before: 4,320 runs, 99.9 % ok)
  on average 2 s (before: 2.3 s), the longest 9 s

The issue before has not been delivered; this one covers that time too.
The next one comes on Tue 24 Nov 07:30 (Europe/Berlin).
"""

TEXT_ONLY_MISSED = """\
[jobs prod] 1 missed, 40 ok - Mon 23 Nov

Of 41 schedules 1 missed a run and 40 are ok, from Fri 20 Nov 07:30 to Mon 23
Nov 07:30 (Europe/Berlin).

MISSED, SKIPPED, LOST
- morning-words: missed Mon 23 Nov 06:30
  no worker was free

The next one comes on Tue 24 Nov 07:30 (Europe/Berlin).
"""

TEXT_FIVE_HUNDRED_FAILING = """\
[jobs prod] 500 failing, 20 ok - Mon 23 Nov

Of 520 schedules 500 are failing and 20 are ok, from Fri 20 Nov 07:30 to Mon
23 Nov 07:30 (Europe/Berlin).

STILL FAILING (500)
- 500 schedules fail alike, the first since Mon 23 Nov 01:00
  tenant-000, tenant-001, tenant-002, tenant-003, tenant-004, tenant-005 … and
  494 more
  OSError: no space left
  owners: team-0, team-1, team-2, team-3, team-4, team-5 … and 3 more
  https://jobs.example.org/tasks/0

The next one comes on Tue 24 Nov 07:30 (Europe/Berlin).
"""

TEXT_TOO_FAST = """\
[jobs prod] 3 too fast, 38 ok - Mon 23 Nov

Of 41 schedules 3 were too fast and 38 are ok, from Fri 20 Nov 07:30 to Mon 23
Nov 07:30 (Europe/Berlin).

TOO FAST
- stock-import: too fast 2 times, last Sun 22 Nov 03:00
  took as little as 0 ms, less than 10 s is too fast; none was slower since
  https://jobs.example.org/tasks/4790
- invoice-import: too fast Mon 23 Nov 03:00
  took 1.2 s, less than 5 m is too fast; none was slower since
  https://jobs.example.org/tasks/4803
- backup: too fast 3 times, last Mon 23 Nov 02:00
  took as little as 0.4 s, less than 30 s is too fast; slower again Mon 23 Nov
  04:00
  https://jobs.example.org/tasks/4801

LATE OR SLOW
- backup: took up to 31 m, usually 12 m

RUNS BY KIND
- scheduled: 4,320 runs, 100 % ok (before: 4,320 runs, 99.9 % ok)
  on average 2.4 s (before: 2.3 s), the longest 41 s

The next one comes on Tue 24 Nov 07:30 (Europe/Berlin).
"""

TEXT_WELL_AGAIN = """\
[jobs prod] 6 recovered, 35 ok - Mon 23 Nov

Of 41 schedules 6 have recovered and 35 are ok, from Fri 20 Nov 07:30 to Mon
23 Nov 07:30 (Europe/Berlin).

RECOVERED
- ledger-sync: well again since Sun 22 Nov 23:10, after 1 failure
- 3 schedules: well again, the last since Sun 22 Nov 02:20, after 1,208
  failures
  invoice-export, invoice-import, partner-feed
  ConnectionError: bank.example refused
- mail-flush: well again since Sat 21 Nov 09:05, after 2 failures
- thumbnails: well again since Sat 21 Nov 09:00, after 1 failure

The next one comes on Tue 24 Nov 07:30 (Europe/Berlin).
"""

TEXTS = {
    "all green": TEXT_ALL_GREEN,
    "mixed": TEXT_MIXED,
    "first ever": TEXT_FIRST_EVER,
    "after an outage": TEXT_AFTER_AN_OUTAGE,
    "only missed": TEXT_ONLY_MISSED,
    "500 failing": TEXT_FIVE_HUNDRED_FAILING,
    "too fast": TEXT_TOO_FAST,
    "well again": TEXT_WELL_AGAIN,
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_digest_says_the_worst_first_and_only_what_there_is(situation: str) -> None:
    said = digest_of(SITUATIONS[situation])

    assert f"{said.subject}\n\n{digest_text(said)}" == TEXTS[situation]


def test_a_green_digest_is_one_line_where_that_is_asked_for() -> None:
    said = digest_of(dataclasses.replace(ALL_GREEN, when_green="one-line"))

    assert said.is_green
    assert digest_text(said) == (
        "All 41 schedules are ok, from Fri 20 Nov 07:30 to Mon 23 Nov 07:30\n(Europe/Berlin).\n\n"
        "The next one comes on Tue 24 Nov 07:30 (Europe/Berlin).\n"
    )


@pytest.mark.parametrize(
    ("given", "subject", "sentence"),
    [
        pytest.param(facts(schedules=1), "all 1 ok", "The one schedule is ok", id="one schedule"),
        pytest.param(facts(schedules=0), "no schedules", "There are no schedules", id="no schedule"),
        pytest.param(
            facts(schedules=3, only="tagged prod"), "all 3 ok", "All 3 schedules (tagged prod) are ok", id="of some"
        ),
        pytest.param(
            facts(schedules=3, held=(Held("a", "jana", "off"),)),
            "all 2 ok, 1 paused",
            "Of 3 schedules 1 is paused and 2 are ok",
            id="a paused one is no fault",
        ),
        pytest.param(
            facts(schedules=2, held=(Held("a", "the service", "its task function is gone", parked=True),)),
            "1 parked, 1 ok",
            "Of 2 schedules 1 cannot fire and 1 is ok",
            id="a parked one is",
        ),
        pytest.param(
            facts(schedules=1, failing=(Failing("a"), Failing("count_words", schedule=False))),
            "1 failing, 1 failed ad hoc",
            "Of 1 schedule 1 is failing",
            id="nothing is ok",
        ),
    ],
)
def test_the_verdict_counts_each_schedule_once(given: Facts, subject: str, sentence: str) -> None:
    said = digest_of(given)

    assert said.subject == f"[jobs prod] {subject} - Mon 23 Nov"
    assert said.sentence.startswith(f"{sentence}, from Fri 20 Nov 07:30 to Mon 23 Nov 07:30 (Europe/Berlin)")


@pytest.mark.parametrize(
    ("slow", "expected"),
    [
        (Slow("a", overruns=1, done_after=4 * SECOND), "a: not done by Mon 23 Nov 07:00, but 4 s later"),
        (Slow("a", overruns=1), "a: not done by Mon 23 Nov 07:00, nor since"),
        (
            Slow("a", overruns=3, late=MINUTE),
            "a: not done in time 3 times, the last by Mon 23 Nov 07:00, nor since; started up to 1 m late",
        ),
    ],
    ids=["a little later", "not yet", "again and again"],
)
def test_what_was_not_done_in_time_is_late(slow: Slow, expected: str) -> None:
    at_seven = dt.datetime(2026, 11, 23, 6, tzinfo=dt.UTC)

    said = digest_of(facts(slow=(dataclasses.replace(slow, finish_by=at_seven),)))

    assert said.subject == "[jobs prod] 1 late, 40 ok - Mon 23 Nov"
    assert [row.head for row in said.sections[0].rows] == [expected]


def test_rows_are_capped_and_the_rest_is_counted() -> None:
    failing = tuple(Failing(f"s-{number:02}", error=f"ValueError: row {number}") for number in range(29))

    section = digest_of(facts(failing=failing)).sections[0]

    assert (section.title, len(section.rows), section.more) == ("Still failing (29)", 15, 14)
    assert digest_text(digest_of(facts(failing=failing))).count("  … and 14 more\n") == 1


def test_times_are_those_of_the_digests_zone_on_both_sides_of_a_clock_change() -> None:
    change = dt.datetime(2026, 10, 25, 5, 30, tzinfo=dt.UTC)
    given = facts(covers_from=change - dt.timedelta(hours=24), covers_until=change, next_at=local(24, "07:30"))

    assert digest_of(given).sentence == (
        "All 41 schedules are ok, from Sat 24 Oct 07:30 to Sun 25 Oct 06:30 (Europe/Berlin)."
    )
