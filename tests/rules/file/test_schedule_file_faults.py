# ruff: noqa: E501  # messages are shown whole
# messages are shown whole
"""Every fault of a schedule file as a person sees it, whole.

The first table gives lines of one schedule (with `task: count_words` before and `when: {every: 1h}` after them, where
they say nothing of it), the second what follows version and time zone, the third whole files.
"""

from __future__ import annotations

import datetime as dt
import textwrap
from pathlib import Path

import pytest

from scheduler.rules.file.schedule_file import load_book
from scheduler.task_functions import TaskFunction

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)


def count_words(source: str = "README.md") -> dict[str, int]:
    return {source: 0}


def create_image_set(source: Path, sizes: list[int] | None = None) -> dict[str, int]:
    return {str(source): len(sizes or [])}


FUNCTIONS = {
    "count_words": TaskFunction("count_words", count_words),
    "create_image_set": TaskFunction("create_image_set", create_image_set),
    "strange": TaskFunction("strange", lambda: None, kind="lang", timeout="soon", retry="hard"),
}
BROKEN = {"tasks.reports": "ImportError: No module named 'pandas'"}
HEAD = "version: 1\ntimezone: Europe/Berlin\n"

IN_A_SCHEDULE = {
    "an unknown key": (
        "rety: gentle",
        """\
schedules.yaml:6:5: schedule "nightly" has an unknown key "rety"; did you mean "retry"?
    6 |     rety: gentle
      |     ^^^^
""",
    ),
    "an unknown key that resembles nothing": (
        "colour: red",
        """\
schedules.yaml:6:5: schedule "nightly" has an unknown key "colour"
    6 |     colour: red
      |     ^^^^^^
    Known here: task, when, kind, retry, overlap, missed, grace, timeout, delivery, spread, blackout, pause_after, failed_after, warn_after, notify, keep, dst, owner, tags, args, timezone, from, until, max_runs, finish_by, too_fast, exclusive, paused, was, about.
""",
    ),
    "a warning that would never come": (
        "timeout: 15m\nwarn_after: 15m",
        """\
schedules.yaml:7:17: schedule "nightly": warn_after (15m) is not shorter than timeout (15m)
    7 |     warn_after: 15m
      |                 ^^^
    It would never warn: the timeout ends the attempt first.
""",
    ),
    "a time of day that is none": (
        "finish_by: 8",
        """\
schedules.yaml:6:16: schedule "nightly": finish_by: 8 is not a time of day
    6 |     finish_by: 8
      |                ^
    Write "HH:MM" or "HH:MM:SS", such as "06:30".
""",
    ),
    "a gap left out": (
        "dst: {gap: skip}",
        """\
schedules.yaml:6:16: schedule "nightly": dst.gap: "skip" is not offered; run-after is all there is
    6 |     dst: {gap: skip}
      |                ^^^^
    A time that the spring change skips fires where the skipped hour ends, as Debian's cron does it; to be clear of it, choose a time outside the hour.
""",
    ),
    "a fold taken twice": (
        "dst: {fold: twice}",
        """\
schedules.yaml:6:17: schedule "nightly": dst.fold: "twice" is not offered; once is all there is
    6 |     dst: {fold: twice}
      |                 ^^^^^
    A time that the autumn change repeats fires the first time, as Debian's cron does it; to fire in both hours, use "every".
""",
    ),
    "a contact that nobody defined": (
        "notify: ops",
        """\
schedules.yaml:6:13: schedule "nightly": there is no contact "ops"
    6 |     notify: ops
      |             ^^^
    Name its addresses under "contacts".
""",
    ),
    "an event that does not exist": (
        "notify: {fail: ops}",
        """\
schedules.yaml:6:14: schedule "nightly": notify has an unknown key "fail"; did you mean "failed"?
    6 |     notify: {fail: ops}
      |              ^^^^
""",
    ),
    "no days to keep": (
        "keep: {days: 0}",
        """\
schedules.yaml:6:18: schedule "nightly": keep.days must be at least 1, got 0
    6 |     keep: {days: 0}
      |                  ^
""",
    ),
    "a span to keep that is not in days": (
        "keep: 90d",
        """\
schedules.yaml:6:11: schedule "nightly": keep must be a mapping, got "90d"
    6 |     keep: 90d
      |           ^^^
""",
    ),
    "an unknown key under keep": (
        "keep: {failed_day: 9}",
        """\
schedules.yaml:6:12: schedule "nightly": keep has an unknown key "failed_day"; did you mean "failed_days"?
    6 |     keep: {failed_day: 9}
      |            ^^^^^^^^^^
""",
    ),
    "a success too fast in numbers": (
        "too_fast: 5",
        """\
schedules.yaml:6:15: schedule "nightly": too_fast: 5 has no unit
    6 |     too_fast: 5
      |               ^
    Write 5s for seconds or 5m for minutes.
""",
    ),
    "a cron minute that does not exist": (
        'when: {cron: "61 2 * * *"}',
        """\
schedules.yaml:6:18: schedule "nightly": minute 61 does not exist
    6 |     when: {cron: "61 2 * * *"}
      |                  ^^^^^^^^^^^^
    Minutes run from 0 to 59; for one past two every night write "1 2 * * *".
""",
    ),
    "a cron hour that does not exist": (
        'when: {cron: "0 24 * * *"}',
        """\
schedules.yaml:6:18: schedule "nightly": hour 24 does not exist
    6 |     when: {cron: "0 24 * * *"}
      |                  ^^^^^^^^^^^^
    Hours run from 0 to 23.
""",
    ),
    "a cron weekday in words": (
        'when: {cron: "0 9 * * monday"}',
        """\
schedules.yaml:6:18: schedule "nightly": weekday "monday" cannot be read
    6 |     when: {cron: "0 9 * * monday"}
      |                  ^^^^^^^^^^^^^^^^
    Write mon.
""",
    ),
    "a cron range that runs backwards": (
        'when: {cron: "0 22-6 * * *"}',
        """\
schedules.yaml:6:18: schedule "nightly": hour "22-6" runs backwards
    6 |     when: {cron: "0 22-6 * * *"}
      |                  ^^^^^^^^^^^^^^
    Write 22-23,0-6.
""",
    ),
    "a cron line with seconds": (
        'when: {cron: "0 0 2 * * *"}',
        """\
schedules.yaml:6:18: schedule "nightly": cron "0 0 2 * * *" has 6 fields
    6 |     when: {cron: "0 0 2 * * *"}
      |                  ^^^^^^^^^^^^^
    Five fields: minute, hour, day of the month, month, weekday. There are no seconds.
""",
    ),
    "a cron step of nothing": (
        'when: {cron: "*/0 * * * *"}',
        """\
schedules.yaml:6:18: schedule "nightly": minute "*/0" has no step after the slash
    6 |     when: {cron: "*/0 * * * *"}
      |                  ^^^^^^^^^^^^^
    A step is a number from 1 on, as in */15.
""",
    ),
    "a cron step without a range": (
        'when: {cron: "5/15 * * * *"}',
        """\
schedules.yaml:6:18: schedule "nightly": minute "5/15" has a step without a range
    6 |     when: {cron: "5/15 * * * *"}
      |                  ^^^^^^^^^^^^^^
    Write 5-59/15.
""",
    ),
    "a cron line that never fires": (
        'when: {cron: "0 0 30 2 *"}',
        """\
schedules.yaml:6:18: schedule "nightly": cron "0 0 30 2 *" never fires: month 2 has no day 30
    6 |     when: {cron: "0 0 30 2 *"}
      |                  ^^^^^^^^^^^^
    For the last day of each month use {at: …, days: last}.
""",
    ),
    "a cron line with both day fields": (
        'when: {cron: "0 0 13 * fri"}',
        """\
schedules.yaml:6:18: schedule "nightly": cron "0 0 13 * fri" sets both the day of the month (13) and the weekday (fri)
    6 |     when: {cron: "0 0 13 * fri"}
      |                  ^^^^^^^^^^^^^^
    Say which is meant: match_days: any (either is enough, as cron does) or match_days: all (both must hold).
""",
    ),
    "match_days that has nothing to match": (
        'when: {cron: "0 0 13 * *", match_days: any}',
        """\
schedules.yaml:6:44: schedule "nightly": match_days goes with a cron line that sets both day fields, and "0 0 13 * *" does not
    6 |     when: {cron: "0 0 13 * *", match_days: any}
      |                                            ^^^
    Remove match_days.
""",
    ),
    "a restart as a time": (
        'when: {cron: "@reboot"}',
        """\
schedules.yaml:6:18: schedule "nightly": "@reboot" cannot be used
    6 |     when: {cron: "@reboot"}
      |                  ^^^^^^^^^
    A restart of the service is no event in time: nothing may fire because of it.
""",
    ),
    "an unknown nickname": (
        'when: {cron: "@dayly"}',
        """\
schedules.yaml:6:18: schedule "nightly": there is no "@dayly"
    6 |     when: {cron: "@dayly"}
      |                  ^^^^^^^^
    There are @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually.
""",
    ),
    "two ways to fire in one entry": (
        'when: {every: 5m, at: "06:30"}',
        """\
schedules.yaml:6:11: schedule "nightly": give exactly one of every, at, cron, once; here are every and at
    6 |     when: {every: 5m, at: "06:30"}
      |           ^^^^^^^^^^^^^^^^^^^^^^^^
    Make it two entries: when: [{…}, {…}].
""",
    ),
    "no way to fire": (
        "when: {evry: 5m}",
        """\
schedules.yaml:6:11: schedule "nightly": give exactly one of every, at, cron, once; did you mean "every" by "evry"?
    6 |     when: {evry: 5m}
      |           ^^^^^^^^^^
""",
    ),
    "when as text": (
        "when: hourly",
        """\
schedules.yaml:6:11: schedule "nightly": when must be a mapping such as {every: 5m} or {at: "06:30"}, got "hourly"
    6 |     when: hourly
      |           ^^^^^^
""",
    ),
    "an empty when": (
        "when: []",
        """\
schedules.yaml:6:11: schedule "nightly": when is empty
    6 |     when: []
      |           ^^
""",
    ),
    "every without a unit": (
        "when: {every: 5}",
        """\
schedules.yaml:6:19: schedule "nightly": when.every: 5 has no unit
    6 |     when: {every: 5}
      |                   ^
    Write 5s for seconds or 5m for minutes.
""",
    ),
    "every shorter than a second": (
        "when: {every: 0.5s}",
        """\
schedules.yaml:6:19: schedule "nightly": when.every: "0.5s" is no whole number of seconds
    6 |     when: {every: 0.5s}
      |                   ^^^^
    The shortest is 1s.
""",
    ),
    "every of no time": (
        "when: {every: 0m}",
        """\
schedules.yaml:6:19: schedule "nightly": when.every: "0m" is no time at all
    6 |     when: {every: 0m}
      |                   ^^
    A duration is longer than nothing, such as 5m.
""",
    ),
    "a negative duration": (
        "grace: -5m",
        """\
schedules.yaml:6:12: schedule "nightly": grace: "-5m" is negative
    6 |     grace: -5m
      |            ^^^
    A duration is longer than nothing, such as 5m.
""",
    ),
    "a duration in months": (
        "grace: 1 month",
        """\
schedules.yaml:6:12: schedule "nightly": grace: "1 month" is not a duration
    6 |     grace: 1 month
      |            ^^^^^^^
    Months and years have no fixed length; give days, such as 30d.
""",
    ),
    "a duration in capitals": (
        "grace: 5M",
        """\
schedules.yaml:6:12: schedule "nightly": grace: "5M" is not a duration
    6 |     grace: 5M
      |            ^^
    Units are lower case: 5m.
""",
    ),
    "a duration of a hundred years": (
        "grace: 36500 days",
        """\
schedules.yaml:6:12: schedule "nightly": grace: "36500 days" is too long
    6 |     grace: 36500 days
      |            ^^^^^^^^^^
    3660d is the most.
""",
    ),
    "a duration with a comma": (
        'grace: "1,5h"',
        """\
schedules.yaml:6:12: schedule "nightly": grace: "1,5h" is not a duration
    6 |     grace: "1,5h"
      |            ^^^^^^
    Write a point, not a comma: 1.5h.
""",
    ),
    "a time of day as a duration": (
        'grace: "01:30"',
        """\
schedules.yaml:6:12: schedule "nightly": grace: "01:30" is not a duration
    6 |     grace: "01:30"
      |            ^^^^^^^
    That is a time of day; a duration goes 1h30m.
""",
    ),
    "between with one time": (
        'when: {every: 5m, between: ["07:00"]}',
        """\
schedules.yaml:6:32: schedule "nightly": when.between: needs two times, got 1
    6 |     when: {every: 5m, between: ["07:00"]}
      |                                ^^^^^^^^^
    Write between: ["07:00", "19:00"].
""",
    ),
    "between that leaves no time": (
        'when: {every: 6h, between: ["07:00", "11:00"]}',
        """\
schedules.yaml:6:32: schedule "nightly": every 6h between 07:00 and 11:00 never fires
    6 |     when: {every: 6h, between: ["07:00", "11:00"]}
      |                                ^^^^^^^^^^^^^^^^^^
    It counts from midnight, and 00:00, 06:00, 12:00, 18:00 are not in between.
""",
    ),
    "between beside at": (
        'when: {at: "06:30", between: ["07:00", "08:00"]}',
        """\
schedules.yaml:6:25: schedule "nightly": when: "between" goes with every, not with at
    6 |     when: {at: "06:30", between: ["07:00", "08:00"]}
      |                         ^^^^^^^
    With at there are at, days and calendar.
""",
    ),
    "an hour that does not exist": (
        'when: {at: ["06:30", "25:00"]}',
        """\
schedules.yaml:6:26: schedule "nightly": when.at: "25:00" is not a time of day: hour 25 does not exist
    6 |     when: {at: ["06:30", "25:00"]}
      |                          ^^^^^^^
    Hours run from 0 to 23.
""",
    ),
    "midnight as 24": (
        'when: {at: "24:00"}',
        """\
schedules.yaml:6:16: schedule "nightly": when.at: "24:00" does not exist
    6 |     when: {at: "24:00"}
      |                ^^^^^^^
    Midnight is "00:00".
""",
    ),
    "a time of day as a number": (
        "when: {at: 630}",
        """\
schedules.yaml:6:16: schedule "nightly": when.at: 630 is not a time of day
    6 |     when: {at: 630}
      |                ^^^
    Write "HH:MM" or "HH:MM:SS", such as "06:30".
""",
    ),
    "an unknown weekday": (
        'when: {at: "06:30", days: mon-fry}',
        """\
schedules.yaml:6:31: schedule "nightly": when.days: "mon-fry" is not a day; did you mean "fri"?
    6 |     when: {at: "06:30", days: mon-fry}
      |                               ^^^^^^^
    Weekdays are mon, tue, wed, thu, fri, sat or sun.
""",
    ),
    "the 32nd": (
        'when: {at: "06:30", days: [1, 32]}',
        """\
schedules.yaml:6:31: schedule "nightly": when.days: day 32 does not exist
    6 |     when: {at: "06:30", days: [1, 32]}
      |                               ^^^^^^^
    Days of the month run from 1 to 31.
""",
    ),
    "days of two sorts": (
        'when: {at: "06:30", days: "mon,1"}',
        """\
schedules.yaml:6:31: schedule "nightly": when.days: "mon,1" mixes kinds of days
    6 |     when: {at: "06:30", days: "mon,1"}
      |                               ^^^^^^^
    It is not clear whether one or all must hold; make it two entries under "when".
""",
    ),
    "a business day without a calendar": (
        'when: {at: "06:30", days: last-business}',
        """\
schedules.yaml:6:31: schedule "nightly": days "last-business" needs a calendar that says which days are business days
    6 |     when: {at: "06:30", days: last-business}
      |                               ^^^^^^^^^^^^^
    Add calendar: and its name.
""",
    ),
    "an unknown calendar": (
        'when: {at: "06:30", calendar: de-busines}',
        """\
schedules.yaml:6:35: schedule "nightly": there is no calendar "de-busines"
    6 |     when: {at: "06:30", calendar: de-busines}
      |                                   ^^^^^^^^^^
    Name its days under "calendars".
""",
    ),
    "a day that does not exist": (
        'when: {once: "2027-02-29 06:00"}',
        """\
schedules.yaml:6:18: schedule "nightly": when.once: "2027-02-29 06:00" does not exist
    6 |     when: {once: "2027-02-29 06:00"}
      |                  ^^^^^^^^^^^^^^^^^^
    Look at a calendar: the month has no such day.
""",
    ),
    "a moment without a time": (
        'when: {once: "2027-02-28"}',
        """\
schedules.yaml:6:18: schedule "nightly": when.once: "2027-02-28" is not a moment
    6 |     when: {once: "2027-02-28"}
      |                  ^^^^^^^^^^^^
    Write "YYYY-MM-DD HH:MM", such as "2026-12-05 23:00".
""",
    ),
    "a moment with an offset": (
        'when: {once: "2027-02-28T06:00+01:00"}',
        """\
schedules.yaml:6:18: schedule "nightly": when.once: "2027-02-28T06:00+01:00" is not a moment
    6 |     when: {once: "2027-02-28T06:00+01:00"}
      |                  ^^^^^^^^^^^^^^^^^^^^^^^^
    It is local time in the zone of the schedule: leave the offset away.
""",
    ),
    "an unknown time zone": (
        "timezone: Europe/Berln",
        """\
schedules.yaml:6:15: schedule "nightly": timezone: there is no time zone "Europe/Berln"; did you mean "Europe/Berlin"?
    6 |     timezone: Europe/Berln
      |               ^^^^^^^^^^^^
    Write an IANA name, such as Europe/Berlin or UTC.
""",
    ),
    "a city as a time zone": (
        "timezone: Berlin",
        """\
schedules.yaml:6:15: schedule "nightly": timezone: there is no time zone "Berlin"; did you mean "Europe/Berlin"?
    6 |     timezone: Berlin
      |               ^^^^^^
    Write an IANA name, such as Europe/Berlin or UTC.
""",
    ),
    "an end before the beginning": (
        """\
from: 2026-12-03
until: 2026-12-01""",
        """\
schedules.yaml:7:12: schedule "nightly": until (2026-12-01 00:00) is not after from (2026-12-03 00:00)
    7 |     until: 2026-12-01
      |            ^^^^^^^^^^
    It would never fire.
""",
    ),
    "an unknown kind": (
        "kind: lnog",
        """\
schedules.yaml:6:11: schedule "nightly": kind must be scheduled, long or adhoc, got "lnog"; did you mean "long"?
    6 |     kind: lnog
      |           ^^^^
""",
    ),
    "an unknown retry policy": (
        "retry: gentel",
        """\
schedules.yaml:6:12: schedule "nightly": there is no retry policy "gentel"; did you mean "gentle"?
    6 |     retry: gentel
      |            ^^^^^^
""",
    ),
    "a retry policy written out with too many attempts": (
        "retry: {attempts: 5000, first: 1m}",
        """\
schedules.yaml:6:23: schedule "nightly": retry.attempts must be at most 1000, got 5000
    6 |     retry: {attempts: 5000, first: 1m}
      |                       ^^^^
""",
    ),
    "a hard limit below the soft one": (
        "timeout: {soft: 3h, hard: 1h}",
        """\
schedules.yaml:6:31: schedule "nightly": hard (1h) is shorter than soft (3h)
    6 |     timeout: {soft: 3h, hard: 1h}
      |                               ^^
    soft is raised inside the function first; at hard its process is killed.
""",
    ),
    "a hard limit alone": (
        "timeout: {hard: 1h}",
        """\
schedules.yaml:6:5: schedule "nightly": timeout has no "soft"
    6 |     timeout: {hard: 1h}
      |     ^^^^^^^
    Add soft, or write one duration: timeout: 10m.
""",
    ),
    "a blackout without what follows": (
        "blackout: {during: [freeze]}",
        """\
schedules.yaml:6:5: schedule "nightly": blackout has no "then"
    6 |     blackout: {during: [freeze]}
      |     ^^^^^^^^
    Say then: skip or then: run-after.
schedules.yaml:6:25: schedule "nightly": there is no calendar "freeze"
    6 |     blackout: {during: [freeze]}
      |                         ^^^^^^
    Name its days under "calendars".
""",
    ),
    "an unknown word of overlap": (
        "overlap: quene-one",
        """\
schedules.yaml:6:14: schedule "nightly": overlap must be skip, queue-one, queue-all, replace or allow, got "quene-one"; did you mean "queue-one"?
    6 |     overlap: quene-one
      |              ^^^^^^^^^
""",
    ),
    "a count that is text": (
        "max_runs: many",
        """\
schedules.yaml:6:15: schedule "nightly": max_runs must be a whole number, got "many"
    6 |     max_runs: many
      |               ^^^^
""",
    ),
    "a count of nothing": (
        "pause_after: 0",
        """\
schedules.yaml:6:18: schedule "nightly": pause_after must be at least 1, got 0
    6 |     pause_after: 0
      |                  ^
""",
    ),
    "a yes that is text": (
        "paused: yes",
        """\
schedules.yaml:6:13: schedule "nightly": paused must be true or false, got "yes"
    6 |     paused: yes
      |             ^^^
""",
    ),
    "text that is a number": (
        "owner: 5",
        """\
schedules.yaml:6:12: schedule "nightly": owner must be text, got 5
    6 |     owner: 5
      |            ^
    Put it in quotes: "5".
""",
    ),
    "a key without a value": (
        "owner:",
        """\
schedules.yaml:6:5: schedule "nightly": owner has no value
    6 |     owner:
      |     ^^^^^
    Give it one, or remove the key.
""",
    ),
    "an unknown task function": (
        "task: count_wrods",
        """\
schedules.yaml:5:11: schedule "nightly": there is no task function "count_wrods"; did you mean "count_words"?
    5 |     task: count_wrods
      |           ^^^^^^^^^^^
""",
    ),
    "a path as a task function": (
        "task: os.system",
        """\
schedules.yaml:5:11: schedule "nightly": there is no task function "os.system"
    5 |     task: os.system
      |           ^^^^^^^^^
    A task function is known by its name alone, not by a path.
""",
    ),
    "a task function in a broken module": (
        "task: reports",
        """\
schedules.yaml:5:11: schedule "nightly": there is no task function "reports": its module tasks.reports cannot be imported: ImportError: No module named 'pandas'
    5 |     task: reports
      |           ^^^^^^^
""",
    ),
    "an argument of a wrong type": (
        """\
task: create_image_set
args: {source: a.png, sizes: big}""",
        """\
schedules.yaml:6:34: schedule "nightly": "sizes": expected a list of whole numbers, got "big"
    6 |     args: {source: a.png, sizes: big}
      |                                  ^^^
""",
    ),
    "a wrong item in a list of an argument": (
        """\
task: create_image_set
args: {source: a.png, sizes: [32, big]}""",
        """\
schedules.yaml:6:39: schedule "nightly": "sizes": expected a list of whole numbers, got "big" as item 2
    6 |     args: {source: a.png, sizes: [32, big]}
      |                                       ^^^
""",
    ),
    "an unknown argument": (
        "args: {sourse: README.md}",
        """\
schedules.yaml:6:12: schedule "nightly": there is no argument "sourse"; did you mean "source"?
    6 |     args: {sourse: README.md}
      |            ^^^^^^
""",
    ),
    "a missing argument": (
        "task: create_image_set",
        """\
schedules.yaml:5:11: schedule "nightly": the argument "source" is missing for task "create_image_set"
    5 |     task: create_image_set
      |           ^^^^^^^^^^^^^^^^
    Add it under args: a path.
""",
    ),
    "a missing argument beside others": (
        """\
task: create_image_set
args: {sizes: [32]}""",
        """\
schedules.yaml:6:5: schedule "nightly": the argument "source" is missing for task "create_image_set"
    6 |     args: {sizes: [32]}
      |     ^^^^
    Add it under args: a path.
""",
    ),
    "arguments that are a list": (
        "args: [1, 2]",
        """\
schedules.yaml:6:11: schedule "nightly": args must be a mapping, got a list
    6 |     args: [1, 2]
      |           ^^^^^^
""",
    ),
    "a task function that declares nonsense": (
        "task: strange",
        """\
schedules.yaml:5:11: schedule "nightly": task function "strange" declares kind "lang", which does not exist; did you mean "long"?
    5 |     task: strange
      |           ^^^^^^^
    There are scheduled, long, adhoc.
schedules.yaml:5:11: schedule "nightly": task function "strange" declares retry "hard", which does not exist
    5 |     task: strange
      |           ^^^^^^^
    Define it under "retry_policies".
schedules.yaml:5:11: schedule "nightly": task function "strange" declares a timeout that cannot be read: "soon" is not a duration
    5 |     task: strange
      |           ^^^^^^^
    Write a number with a unit, such as 90s, 5m, 1h30m or 2d.
""",
    ),
    "a former name that is alive": (
        "was: nightly",
        """\
schedules.yaml:6:10: schedule "nightly": was names "nightly", which is a schedule of this file
    6 |     was: nightly
      |          ^^^^^^^
    Remove was, or the old schedule.
""",
    ),
    "a key written twice": (
        """\
owner: jana
owner: jim""",
        """\
schedules.yaml:7:5: the key "owner" stands twice: first in line 6, again here
    7 |     owner: jim
      |     ^^^^^
    Remove one of the two, or rename it.
""",
    ),
    "a merge key": (
        "<<: {owner: jana}",
        """\
schedules.yaml:6:5: a merge key "<<" cannot be used
    6 |     <<: {owner: jana}
      |     ^^
    Write the value out here, or put what schedules share under "defaults".
""",
    ),
    "an anchor": (
        "owner: &who jana",
        """\
schedules.yaml:6:12: an anchor "&who" cannot be used
    6 |     owner: &who jana
      |            ^^^^
    Write the value out here, or put what schedules share under "defaults".
""",
    ),
    "an alias": (
        "owner: *who",
        """\
schedules.yaml:6:12: an alias "*who" cannot be used
    6 |     owner: *who
      |            ^^^^
    Write the value out here, or put what schedules share under "defaults".
""",
    ),
    "a tag": (
        "owner: !!python/name:os.system jana",
        """\
schedules.yaml:6:12: a tag "!!python/name:os.system" cannot be used
    6 |     owner: !!python/name:os.system jana
      |            ^^^^^^^^^^^^^^^^^^^^^^^
    Values are plain: text, numbers, true, false, lists and mappings. Remove the tag.
""",
    ),
}
IN_A_SECTION = {
    "no task and no when": (
        """\
schedules:
  nightly: {}
""",
        """\
schedules.yaml:4:3: schedule "nightly" has no "task"
    4 |   nightly: {}
      |   ^^^^^^^
    Name the task function that it calls, such as task: count_words.
schedules.yaml:4:3: schedule "nightly" has no "when"
    4 |   nightly: {}
      |   ^^^^^^^
    Say when it fires, such as when: {every: 5m} or when: {at: "06:30"}.
""",
    ),
    "an empty schedule": (
        """\
schedules:
  nightly:
""",
        """\
schedules.yaml:4:3: schedule "nightly" is empty
    4 |   nightly:
      |   ^^^^^^^
""",
    ),
    "a name in capitals": (
        """\
schedules:
  Nightly Report: {task: count_words, when: {every: 1h}}
""",
        """\
schedules.yaml:4:3: schedule "Nightly Report": a name cannot hold "N"
    4 |   Nightly Report: {task: count_words, when: {every: 1h}}
      |   ^
    Names are made of a-z, 0-9, - and _, begin with a letter or digit, and have 64 letters at most. How about "nightly-report"?
""",
    ),
    "a name with a look-alike": (
        """\
schedules:
  nightly-repоrt: {task: count_words, when: {every: 1h}}
""",
        """\
schedules.yaml:4:14: schedule "nightly-repоrt": a name cannot hold о (U+043E CYRILLIC SMALL LETTER O)
    4 |   nightly-repоrt: {task: count_words, when: {every: 1h}}
      |              ^
    Names are made of a-z, 0-9, - and _, begin with a letter or digit, and have 64 letters at most. It may look like another, yet is a letter of its own.
""",
    ),
    "a name that begins with a dash": (
        """\
schedules:
  -nightly: {task: count_words, when: {every: 1h}}
""",
        """\
schedules.yaml:4:3: schedule "-nightly": a name cannot begin with "-"
    4 |   -nightly: {task: count_words, when: {every: 1h}}
      |   ^
    Names are made of a-z, 0-9, - and _, begin with a letter or digit, and have 64 letters at most.
""",
    ),
    "a name of 65 letters": (
        """\
schedules:
  nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn: {task: count_words, when: {every: 1h}}
""",
        """\
schedules.yaml:4:3: schedule "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…" has 65 letters
    4 |   nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn: {task: count_words, when: {every: 1h}}
      |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    Names are made of a-z, 0-9, - and _, begin with a letter or digit, and have 64 letters at most.
""",
    ),
    "two heirs of one name": (
        """\
schedules:
  a: {task: count_words, when: {every: 1h}, was: old}
  b: {task: count_words, when: {every: 1h}, was: old}
""",
        """\
schedules.yaml:5:50: schedule "b": was names "old", as schedule "a" does
    5 |   b: {task: count_words, when: {every: 1h}, was: old}
      |                                                  ^^^
    Only one can take over its history.
""",
    ),
    "no entries under schedules": (
        """\
schedules:
""",
        """\
schedules.yaml:3:1: the file: schedules has no entries
    3 | schedules:
      | ^^^^^^^^^
    For none write "schedules: {}".
""",
    ),
    "schedules that are a list": (
        """\
schedules:
  - nightly
""",
        """\
schedules.yaml:4:3: the file: schedules must be a mapping, got a list
    4 |   - nightly
      |   ^^^^^^^^^
""",
    ),
    "a name for an address": (
        """\
schedules: {}
contacts: {ops: {email: Ops <ops@example.org>}}
""",
        """\
schedules.yaml:4:25: contact "ops": email: "Ops <ops@example.org>" is not an e-mail address
    4 | contacts: {ops: {email: Ops <ops@example.org>}}
      |                         ^^^^^^^^^^^^^^^^^^^^^
    Write the address alone, such as ops@example.org; several stand in a list.
""",
    ),
    "a contact without an address": (
        """\
schedules: {}
contacts: {ops: {}}
""",
        """\
schedules.yaml:4:17: contact "ops": has none of "email", "webhook" and "slack"
    4 | contacts: {ops: {}}
      |                 ^^
    Such as email: ops@example.org, or webhook: {url_env: HOOK_URL}.
""",
    ),
    "a webhook that would send in the clear": (
        """\
schedules: {}
contacts: {ops: {webhook: {url: "http://example.org/hook"}}}
""",
        """\
schedules.yaml:4:33: contact "ops": webhook.url: "http://example.org/hook" is not an https URL
    4 | contacts: {ops: {webhook: {url: "http://example.org/hook"}}}
      |                                 ^^^^^^^^^^^^^^^^^^^^^^^^^
    Write https://host/path; where it holds a secret, name the variable that has it: url_env: HOOK_URL.
""",
    ),
    "a chat with two addresses": (
        """\
schedules: {}
contacts: {ops: {slack: {url: "https://example.org/", url_env: HOOK_URL}}}
""",
        """\
schedules.yaml:4:25: contact "ops": slack: give one of url and url_env
    4 | contacts: {ops: {slack: {url: "https://example.org/", url_env: HOOK_URL}}}
      |                         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    url: https://… stands in the file; url_env: HOOK_URL names the variable that holds it.
""",
    ),
    "a variable that is a value": (
        """\
schedules: {}
contacts: {ops: {webhook: {url_env: HOOK_URL, secret_env: "s3cret!"}}}
""",
        """\
schedules.yaml:4:59: contact "ops": webhook.secret_env: "s3cret!" is not the name of an environment variable
    4 | contacts: {ops: {webhook: {url_env: HOOK_URL, secret_env: "s3cret!"}}}
      |                                                           ^^^^^^^^^
    Write the name alone, such as HOOK_URL; its value is read where the mails are sent.
""",
    ),
    "a contact nearly named": (
        """\
schedules: {}
contacts: {ops: {email: ops@example.org}}
digests: {morning: {to: opps, when: {at: "07:30"}}}
""",
        """\
schedules.yaml:5:25: digest "morning": there is no contact "opps"; did you mean "ops"?
    5 | digests: {morning: {to: opps, when: {at: "07:30"}}}
      |                         ^^^^
""",
    ),
    "a contact of no such name": (
        """\
schedules: {}
contacts: {ops: {email: ops@example.org}}
digests: {morning: {to: finance, when: {at: "07:30"}}}
""",
        """\
schedules.yaml:5:25: digest "morning": there is no contact "finance"
    5 | digests: {morning: {to: finance, when: {at: "07:30"}}}
      |                         ^^^^^^^
    Contacts of this file: ops.
""",
    ),
    "a digest to nobody at no time": (
        """\
schedules: {}
digests: {morning: {}}
""",
        """\
schedules.yaml:4:11: digest "morning" has no "to"
    4 | digests: {morning: {}}
      |           ^^^^^^^
schedules.yaml:4:11: digest "morning" has no "when"
    4 | digests: {morning: {}}
      |           ^^^^^^^
    Say when it fires, such as when: {every: 5m} or when: {at: "06:30"}.
""",
    ),
    "a digest of odd words": (
        """\
schedules: {}
contacts: {ops: {email: ops@example.org}}
digests:
  morning:
    to: ops
    when: {at: "07:30", every: 1h}
    covers: since-lst
    when_green: never
    only: {kinds: slow, tag: prod}
""",
        """\
schedules.yaml:8:11: digest "morning": give exactly one of every, at, cron, once; here are every and at
    8 |     when: {at: "07:30", every: 1h}
      |           ^^^^^^^^^^^^^^^^^^^^^^^^
    Make it two entries: when: [{…}, {…}].
schedules.yaml:9:13: digest "morning": covers must be since-last, got "since-lst"; did you mean "since-last"?
    9 |     covers: since-lst
      |             ^^^^^^^^^
schedules.yaml:10:17: digest "morning": when_green must be full, one-line or skip, got "never"
   10 |     when_green: never
      |                 ^^^^^
schedules.yaml:11:19: digest "morning": only.kinds must be scheduled, long or adhoc, got "slow"
   11 |     only: {kinds: slow, tag: prod}
      |                   ^^^^
schedules.yaml:11:25: digest "morning": only has an unknown key "tag"; did you mean "tags"?
   11 |     only: {kinds: slow, tag: prod}
      |                         ^^^
""",
    ),
    "a digest of an odd span": (
        """\
schedules: {}
contacts: {ops: {email: ops@example.org}}
digests: {morning: {to: ops, when: {at: "07:30"}, covers: 7}}
""",
        """\
schedules.yaml:5:59: digest "morning": covers: 7 has no unit
    5 | digests: {morning: {to: ops, when: {at: "07:30"}, covers: 7}}
      |                                                           ^
    Write 7s for seconds or 7m for minutes.
""",
    ),
    "a kind of odd limits": (
        """\
kinds: {long: {timeout: 1h, warn_after: 2h, max_running: 0}}
schedules: {}
""",
        """\
schedules.yaml:3:41: kind "long": warn_after (2h) is not shorter than timeout (1h)
    3 | kinds: {long: {timeout: 1h, warn_after: 2h, max_running: 0}}
      |                                         ^^
    It would never warn: the timeout ends the attempt first.
schedules.yaml:3:58: kind "long": max_running must be at least 1, got 0
    3 | kinds: {long: {timeout: 1h, warn_after: 2h, max_running: 0}}
      |                                                          ^
""",
    ),
    "a kind of an isolation that there is not": (
        """\
kinds: {long: {isolation: forked}}
schedules: {}
""",
        """\
schedules.yaml:3:27: kind "long": isolation must be warm or fork, got "forked"; did you mean "fork"?
    3 | kinds: {long: {isolation: forked}}
      |                           ^^^^^^
""",
    ),
    "an unknown section": (
        """\
schedules: {}
scedules: {}
""",
        """\
schedules.yaml:4:1: the file has an unknown key "scedules"; did you mean "schedules"?
    4 | scedules: {}
      | ^^^^^^^^
""",
    ),
    "a default that cannot be one": (
        """\
defaults: {exclusive: billing}
schedules: {}
""",
        """\
schedules.yaml:3:12: defaults cannot hold "exclusive"
    3 | defaults: {exclusive: billing}
      |            ^^^^^^^^^
    It belongs to one schedule; move it there.
""",
    ),
    "a bad default": (
        """\
defaults: {grace: 10}
schedules: {}
""",
        """\
schedules.yaml:3:19: defaults: grace: 10 has no unit
    3 | defaults: {grace: 10}
      |                   ^^
    Write 10s for seconds or 10m for minutes.
""",
    ),
    "an unknown kind among kinds": (
        """\
kinds: {longer: {queue: long}}
schedules: {}
""",
        """\
schedules.yaml:3:9: the file: kinds has an unknown key "longer"; did you mean "long"?
    3 | kinds: {longer: {queue: long}}
      |         ^^^^^^
""",
    ),
    "a queue with a bad name": (
        """\
kinds: {long: {queue: "Long"}}
schedules: {}
""",
        """\
schedules.yaml:3:23: kind "long": queue: name "Long": a name cannot hold "L"
    3 | kinds: {long: {queue: "Long"}}
      |                       ^^^^^^
    Names are made of a-z, 0-9, - and _, begin with a letter or digit, and have 64 letters at most. How about "long"?
""",
    ),
    "a policy with an unknown backoff": (
        """\
retry_policies: {mine: {backoff: exponental}}
schedules: {}
""",
        """\
schedules.yaml:3:34: retry policy "mine": backoff must be exponential, linear or fixed, got "exponental"; did you mean "exponential"?
    3 | retry_policies: {mine: {backoff: exponental}}
      |                                  ^^^^^^^^^^
""",
    ),
    "a policy with too much jitter": (
        """\
retry_policies: {mine: {jitter: 20}}
schedules: {}
""",
        """\
schedules.yaml:3:33: retry policy "mine": jitter must be at most 1, got 20
    3 | retry_policies: {mine: {jitter: 20}}
      |                                 ^^
""",
    ),
    "a calendar day that does not exist": (
        """\
calendars: {hol: {dates: ["2026-02-30"]}}
schedules: {}
""",
        """\
schedules.yaml:3:27: calendar "hol": dates: "2026-02-30" does not exist
    3 | calendars: {hol: {dates: ["2026-02-30"]}}
      |                           ^^^^^^^^^^^^
    Look at a calendar: the month has no such day.
""",
    ),
    "a calendar that takes itself out": (
        """\
calendars:
  a: {days: mon-fri, except: [b]}
  b: {days: mon-fri, except: [a]}
schedules: {}
""",
        """\
schedules.yaml:4:30: calendar "a" takes itself out: a → b → a
    4 |   a: {days: mon-fri, except: [b]}
      |                              ^^^
    Remove one of them.
""",
    ),
    "an unknown country": (
        """\
calendars: {hol: {country: de}}
schedules: {}
""",
        """\
schedules.yaml:3:28: calendar "hol": country: no holidays are known for "de"; did you mean "DE"?
    3 | calendars: {hol: {country: de}}
      |                            ^^
""",
    ),
    "an unknown part of a country": (
        """\
calendars: {hol: {country: DE, subdivision: XY}}
schedules: {}
""",
        """\
schedules.yaml:3:45: calendar "hol": subdivision: DE has no part "XY"
    3 | calendars: {hol: {country: DE, subdivision: XY}}
      |                                             ^^
    There are BB, BE, BW, BY, HB, HE, HH, MV, NI, NW, RP, SH, SL, SN, ST, TH, Augsburg.
""",
    ),
    "a part of no country": (
        """\
calendars: {hol: {subdivision: BE}}
schedules: {}
""",
        """\
schedules.yaml:3:32: calendar "hol": subdivision: goes with a country
    3 | calendars: {hol: {subdivision: BE}}
      |                                ^^
    Add country: and its code.
""",
    ),
    "a window that ends before it begins": (
        """\
calendars: {freeze: {windows: [{from: "2026-12-21 18:00", to: "2026-12-20"}]}}
schedules: {}
""",
        """\
schedules.yaml:3:63: calendar "freeze": windows.to: ends at 2026-12-20 00:00 and begins at 2026-12-21 18:00
    3 | calendars: {freeze: {windows: [{from: "2026-12-21 18:00", to: "2026-12-20"}]}}
      |                                                               ^^^^^^^^^^^^
    "from" comes first.
""",
    ),
    "a span that ends before it begins": (
        """\
calendars: {summer: {spans: [{from: "2026-08-01", to: "2026-07-01"}]}}
schedules: {}
""",
        """\
schedules.yaml:3:55: calendar "summer": spans.to: ends at 2026-07-01 and begins at 2026-08-01
    3 | calendars: {summer: {spans: [{from: "2026-08-01", to: "2026-07-01"}]}}
      |                                                       ^^^^^^^^^^^^
    "from" comes first.
""",
    ),
    "an unknown key of a window": (
        """\
calendars: {freeze: {windows: [{from: "2026-12-21", to: "2026-12-22", wy: x}]}}
schedules: {}
""",
        """\
schedules.yaml:3:71: calendar "freeze": windows has an unknown key "wy"; did you mean "why"?
    3 | calendars: {freeze: {windows: [{from: "2026-12-21", to: "2026-12-22", wy: x}]}}
      |                                                                       ^^
""",
    ),
    "a calendar of nothing": (
        """\
calendars: {freeze: {}}
schedules: {}
""",
        """\
schedules.yaml:3:13: calendar "freeze" holds nothing
    3 | calendars: {freeze: {}}
      |             ^^^^^^
    Give it dates, spans, country, days, windows or weekly.
""",
    ),
    "a calendar that only takes out": (
        """\
calendars:
  freeze: {dates: [2026-12-24]}
  rest: {except: [freeze]}
schedules: {}
""",
        """\
schedules.yaml:5:3: calendar "rest" has no days that except could take out of
    5 |   rest: {except: [freeze]}
      |   ^^^^
    Add days: daily, or days: mon-fri.
""",
    ),
    "a calendar of month days": (
        """\
calendars: {first: {days: 1}}
schedules: {}
""",
        """\
schedules.yaml:3:27: calendar "first": days: 1 is more than weekdays
    3 | calendars: {first: {days: 1}}
      |                           ^
    Only weekdays can stand here, such as mon-fri.
""",
    ),
    "windows where days are asked for": (
        """\
calendars: {freeze: {windows: [{from: "2026-12-21", to: "2026-12-22"}]}}
schedules:
  nightly: {task: count_words, when: {at: "06:30", calendar: freeze}}
""",
        """\
schedules.yaml:5:62: schedule "nightly": calendar "freeze" holds windows alone, no days
    5 |   nightly: {task: count_words, when: {at: "06:30", calendar: freeze}}
      |                                                              ^^^^^^
    It can stand under "blackout"; for days give it dates, spans, days or a country.
""",
    ),
}
IN_THE_FILE = {
    "no version": (
        """\
timezone: UTC
schedules: {}
""",
        """\
schedules.yaml:1:1: the file has no "version"
    1 | timezone: UTC
      | ^^^^^^^^^^^^^
    Begin the file with version: 1.
""",
    ),
    "a version of the future": (
        """\
version: 2
timezone: UTC
schedules: {}
""",
        """\
schedules.yaml:1:10: the file: version must be 1, got 2
    1 | version: 2
      |          ^
    Write version: 1.
""",
    ),
    "no time zone": (
        """\
version: 1
schedules: {}
""",
        """\
schedules.yaml:1:1: the file has no "timezone"
    1 | version: 1
      | ^^^^^^^^^^
    Name the zone of all times in the file, such as timezone: Europe/Berlin; the host's is never used.
""",
    ),
    "no schedules": (
        """\
version: 1
timezone: UTC
""",
        """\
schedules.yaml:1:1: the file has no "schedules"
    1 | version: 1
      | ^^^^^^^^^^
    Add schedules: and under it an entry a schedule, or "schedules: {}" for none.
""",
    ),
    "the zone of the host": (
        """\
version: 1
timezone: localtime
schedules: {}
""",
        """\
schedules.yaml:2:11: the file: timezone: there is no time zone "localtime"
    2 | timezone: localtime
      |           ^^^^^^^^^
    The host's own zone is never used: write an IANA name, such as Europe/Berlin or UTC.
""",
    ),
    "an empty file": (
        """\
# nothing yet
""",
        """\
schedules.yaml:1:1: the file is empty
    It needs version: 1, timezone: and schedules:.
""",
    ),
    "a file that is a list": (
        """\
- version: 1
""",
        """\
schedules.yaml:1:1: the file must be a mapping, got a list
    1 | - version: 1
      | ^^^^^^^^^^^^
""",
    ),
}


def printed(text: str) -> str:
    loaded = load_book(text, file="schedules.yaml", functions=FUNCTIONS, broken=BROKEN, now=NOW)
    assert loaded.book is None
    return "".join(f"{fault}\n" for fault in loaded.faults)


def a_schedule(lines: str) -> str:
    task = "" if "task:" in lines else "task: count_words\n"
    when = "" if "when:" in lines else "\nwhen: {every: 1h}"
    return f"{HEAD}schedules:\n  nightly:\n{textwrap.indent(task + lines + when, '    ')}\n"


@pytest.mark.parametrize(("lines", "expected"), IN_A_SCHEDULE.values(), ids=IN_A_SCHEDULE)
def test_a_fault_in_a_schedule_is_told_with_its_place_and_remedy(lines: str, expected: str) -> None:
    assert printed(a_schedule(lines)) == expected


@pytest.mark.parametrize(("sections", "expected"), IN_A_SECTION.values(), ids=IN_A_SECTION)
def test_a_fault_in_a_section_is_told_with_its_place_and_remedy(sections: str, expected: str) -> None:
    assert printed(HEAD + sections) == expected


@pytest.mark.parametrize(("text", "expected"), IN_THE_FILE.values(), ids=IN_THE_FILE)
def test_a_fault_of_the_whole_file_is_told_with_its_remedy(text: str, expected: str) -> None:
    assert printed(text) == expected
