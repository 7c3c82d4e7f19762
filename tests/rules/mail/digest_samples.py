"""The facts of eight mornings, for the tests of a digest's text and HTML."""

from __future__ import annotations

import datetime as dt

from scheduler.rules.mail.digest import (
    Bar,
    Change,
    Coming,
    Facts,
    Failing,
    Held,
    KindCount,
    Recovered,
    Slow,
    Strip,
    TooFast,
    Unrun,
)

FRIDAY, MONDAY = (dt.datetime(2026, 11, day, 6, 30, tzinfo=dt.UTC) for day in (20, 23))
SECOND, MINUTE = dt.timedelta(seconds=1), dt.timedelta(minutes=1)


def local(day: int, clock: str) -> dt.datetime:
    """A moment of November in Berlin, an hour before UTC."""
    hour, minute = map(int, clock.split(":"))
    return dt.datetime(2026, 11, day, hour, minute, tzinfo=dt.UTC) - dt.timedelta(hours=1)


def bars(ok: str, bad: str = "", other: str = "") -> tuple[Bar, ...]:
    """A bar of the weekend for each number."""
    numbers = [[int(word) for word in words.split()] for words in (ok, bad, other)]
    good = numbers[0]
    length = (MONDAY - FRIDAY) / len(good)
    return tuple(
        Bar(FRIDAY + length * place, *(row[place] if row else 0 for row in numbers)) for place in range(len(good))
    )


def facts(**fields: object) -> Facts:
    plain: dict[str, object] = {
        "service": "jobs prod",
        "zone": "Europe/Berlin",
        "covers_from": FRIDAY,
        "covers_until": MONDAY,
        "schedules": 41,
        "next_at": local(24, "07:30"),
        "base_url": "https://jobs.example.org",
    }
    return Facts(**{**plain, **fields})  # type: ignore[arg-type]


QUIET = KindCount("scheduled", 4_320, 0, 2.4 * SECOND, 41 * SECOND, 4_318, 2, 2.3 * SECOND)

ALL_GREEN = facts(kinds=(QUIET,), bars=bars("360 " * 12), when_green="full")

MIXED = facts(
    failing=(
        Failing("invoice-export", "jana", local(21, "02:00"), 3, 4, "ConnectionError: bank.example refused", 4711),
        Failing("ledger-sync", "ops", local(22, "23:10"), 1, 3, "ValueError: row 17 has no amount", 4790),
    ),
    unrun=(
        Unrun("stock-sync", "missed", 2, local(22, "03:00"), "could not start within its grace, 22 m late", 4755),
        Unrun("thumbnails", "skipped", 12, local(23, "06:15"), "the run before it was still going", 4788),
    ),
    slow=(Slow("nightly-report", 4 * MINUTE, 31 * MINUTE, 12 * MINUTE),),
    recovered=(Recovered("mail-flush", 5, local(21, "09:05")),),
    held=(Held("partner-feed", "jana", "partner API outage", local(20, "16:00"), local(25, "08:00")),),
    kinds=(
        KindCount("scheduled", 4_301, 9, 2.4 * SECOND, 31 * MINUTE, 4_318, 2, 2.3 * SECOND),
        KindCount("long", 6, 0, 48 * MINUTE, 70 * MINUTE, 6, 0, 45 * MINUTE),
        KindCount("adhoc", 14, 1, 9.5 * SECOND, 40 * SECOND),
    ),
    coming=(
        Coming("close-month", local(23, "19:30"), "long"),
        Coming("migrate-legacy", local(23, "23:00"), "one-off"),
    ),
    bars=bars("358 360 361 355 340 362 360 359 360 351 360 360", "0 0 1 1 5 0 0 0 0 1 1 1", "0 0 0 0 0 0 0 2 0 0 6 6"),
    strips=(
        Strip("invoice-export", bars("1 0 0 1 0 0 0 0 0 0 0 0", "0 0 1 0 0 0 1 0 0 0 1 0")),
        Strip("ledger-sync", bars("1 1 1 1 1 1 1 1 1 1 1 0", "0 0 0 0 0 0 0 0 0 0 0 1")),
        Strip("stock-sync", bars("9 9 9 9 9 9 9 7 9 9 9 9", "", "0 0 0 0 0 0 0 2 0 0 0 0")),
        Strip("mail-flush", bars("30 30 30 29 27 30 30 30 30 30 30 30", "0 0 0 1 4 0 0 0 0 0 0 0")),
    ),
    changes=(Change(12, local(20, "15:58"), "jana", "added migrate-legacy; changed partner-feed"),),
)

FIRST_EVER = facts(
    covers_from=MONDAY - dt.timedelta(hours=24),
    schedules=3,
    kinds=(KindCount("scheduled", 20, 0, 0.4 * SECOND, 1.1 * SECOND),),
    coming=(Coming("nightly", local(24, "02:00"), "its first run"),),
    changes=(Change(1, local(22, "18:00"), "jana", "added hourly, nightly, weekly"),),
    is_first=True,
)

AFTER_AN_OUTAGE = facts(
    unrun=tuple(
        Unrun(f"feed-{number:02}", "missed", 70 - number, local(23, "05:00"), "older than 1h (missed: latest, within)")
        for number in range(18)
    ),
    slow=(Slow("nightly-report", dt.timedelta(hours=4, minutes=2)),),
    health=("tick: 41,000 fire times passed while the service was down, too many for a row each",),
    kinds=(KindCount("scheduled", 120, 0, 2 * SECOND, 9 * SECOND, 4_318, 2, 2.3 * SECOND),),
    undelivered=1,
)

ONLY_MISSED = facts(
    unrun=(Unrun("morning-words", "missed", 1, local(23, "06:30"), "no worker was free", 99),),
    base_url=None,
)

FIVE_HUNDRED_FAILING = facts(
    schedules=520,
    failing=tuple(
        Failing(f"tenant-{number:03}", f"team-{number % 9}", local(23, "01:00"), 2, 3, "OSError: no space left", number)
        for number in range(500)
    ),
)

TOO_FAST = facts(
    too_fast=(
        TooFast("backup", 3, local(23, "02:00"), 0.4 * SECOND, 30 * SECOND, 4801, slower_at=local(23, "04:00")),
        TooFast("invoice-import", 1, local(23, "03:00"), 1.2 * SECOND, 5 * MINUTE, 4803),
        TooFast("stock-import", 2, local(22, "03:00"), 0 * SECOND, 10 * SECOND, 4790),
    ),
    slow=(Slow("backup", took=31 * MINUTE, usual=12 * MINUTE),),
    kinds=(QUIET,),
    base_url="https://jobs.example.org/",
)

REFUSED = "ConnectionError: bank.example refused"
ALL_WELL_AGAIN = facts(
    recovered=(
        Recovered("ledger-sync", 1, local(22, "23:10"), "ValueError: row 17 has no amount"),
        Recovered("invoice-export", 5, local(22, "02:10"), REFUSED),
        Recovered("invoice-import", 1_200, local(22, "02:20"), REFUSED),
        Recovered("mail-flush", 2, local(21, "09:05"), ""),
        Recovered("partner-feed", 3, local(22, "02:15"), REFUSED),
        Recovered("thumbnails", 1, local(21, "09:00"), ""),
    ),
)

SITUATIONS = {
    "all green": ALL_GREEN,
    "mixed": MIXED,
    "first ever": FIRST_EVER,
    "after an outage": AFTER_AN_OUTAGE,
    "only missed": ONLY_MISSED,
    "500 failing": FIVE_HUNDRED_FAILING,
    "too fast": TOO_FAST,
    "well again": ALL_WELL_AGAIN,
}
