from __future__ import annotations

import datetime as dt

import pytest

from scheduler.rules.file.crontab_import import HEADER, Imported, read_crontab, schedules_text, told
from scheduler.rules.file.schedule_file import load_book

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
CRONTAB = """\
# m h dom mon dow command
MAILTO=ops@example.org
PATH=/usr/bin:/bin

# Nightly backup of the shop,
# takes an hour
30 2 * * * /usr/local/bin/backup.sh --all
*/10 * * * mon-fri cd /srv/app && LANG=C ./feed "x"
@daily /usr/local/bin/backup.sh --small
CRON_TZ=America/New_York
0 9 13 * fri /opt/report.py
@reboot /opt/start.sh
61 2 * * * /opt/never.sh
0 5 * * 1 mail -s Hi%Hello
0 6 * * *
"""


def test_a_crontab_is_printed_as_entries_with_what_is_left_to_do() -> None:
    assert schedules_text(read_crontab(CRONTAB)) == HEADER + (
        """\
schedules:
  # line 2: MAILTO=ops@example.org
  #   whom to tell stands under contacts and notify; output is kept with each task, not mailed
  # line 3: PATH=/usr/bin:/bin
  #   set it in the environment of the workers, if the task function needs it
  backup:
    # line 7: /usr/local/bin/backup.sh --all
    # task: the function that does this
    when: {cron: "30 2 * * *"}
    about: "Nightly backup of the shop, takes an hour"
  feed:
    # line 8: cd /srv/app && LANG=C ./feed "x"
    # task: the function that does this
    when: {cron: "*/10 * * * mon-fri"}
  backup-2:
    # line 9: /usr/local/bin/backup.sh --small
    # task: the function that does this
    when: {cron: "@daily"}
  # line 10: CRON_TZ=America/New_York
  #   the entries below have this timezone, as cronie reads it; Debian's cron ignores CRON_TZ
  report:
    # line 11: /opt/report.py
    # both day fields are set: cron fires when either fits, so match_days: any
    # task: the function that does this
    when: {cron: "0 9 13 * fri", match_days: any}
    timezone: America/New_York
  # line 12: @reboot /opt/start.sh
  #   not turned: @reboot follows the start of the host, a schedule the clock; let the host start it
  # line 13: 61 2 * * * /opt/never.sh
  #   not turned: minute 61 does not exist. Minutes run from 0 to 59; for one past two every night write "1 2 * * *".
  mail:
    # line 14: mail -s Hi%Hello
    # in a crontab % ends the command and begins its input
    # task: the function that does this
    when: {cron: "0 5 * * 1"}
    timezone: America/New_York
  # line 15: 0 6 * * *
  #   not turned: it has no command after its times
"""
    )


def test_how_many_became_entries_is_told() -> None:
    assert told(read_crontab(CRONTAB)) == (
        "5 entries, each without its task; not turned: lines 12, 13, 15 (why, is said there)"
    )
    assert told(read_crontab("0 6 * * * a\n")) == "1 entry, without its task"


def test_the_entries_load_once_their_tasks_are_named() -> None:
    text = schedules_text(read_crontab(CRONTAB)).replace("# task: the function that does this", "task: count_words")
    loaded = load_book("version: 1\ntimezone: Europe/Berlin\n" + text, file="x", functions=None, now=NOW)

    assert loaded.faults == ()
    assert loaded.book is not None
    assert list(loaded.book.schedules) == ["backup", "feed", "backup-2", "report", "mail"]


def test_the_entries_miss_nothing_but_their_tasks() -> None:
    text = "version: 1\ntimezone: Europe/Berlin\n" + schedules_text(read_crontab(CRONTAB))

    faults = load_book(text, file="x", functions=None, now=NOW).faults

    assert {fault.code for fault in faults} == {"missing-key"}
    assert {fault.message.split(" has ")[1] for fault in faults} == {'no "task"'}


def test_an_empty_crontab_gives_a_section_without_schedules() -> None:
    text = schedules_text(read_crontab("# nothing\n\n"))

    assert text == HEADER + "schedules: {}\n"
    assert load_book("version: 1\ntimezone: UTC\n" + text, file="x", functions=None, now=NOW).book is not None


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/opt/Nightly Job.sh", "nightly"),
        ("A=1 B=2 /opt/x.y.sh", "x-y"),
        ("cd /srv; ./run", "run"),
        ("~~~", "job"),
        ("[ -x /bin/a ] && a", "job"),
        ("/opt/" + "x" * 99, "x" * 56),
        ("/opt/été.sh", "t"),
    ],
)
def test_an_entry_is_named_after_its_program(command: str, name: str) -> None:
    (found,) = read_crontab(f"0 6 * * * {command}\n")

    assert isinstance(found, Imported)
    assert found.name == name


@pytest.mark.parametrize(
    "line", ["0 6 * * * a\x00b\x07", '# "quoted" \\ back\n0 6 * * * a', "# ä: {x}\n0 6 * * * a # b"]
)
def test_odd_letters_do_no_harm(line: str) -> None:
    text = schedules_text(read_crontab(line)).replace("# task: the function that does this", "task: count_words")

    assert load_book("version: 1\ntimezone: UTC\n" + text, file="x", functions=None, now=NOW).faults == ()
