"""The commands that look: whole screens at 80 columns, JSON, exit statuses. The clocks are held at noon."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.cli import look, run
from scheduler.cli.tables import width_of
from scheduler.rules.spec import At, Retry
from scheduler.rules.states import CANCELLED, FAILED, MISSED, QUEUED, RETRYING, RUNNING, SKIPPED, SUCCEEDED
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import parts, schedules, tasks
from scheduler.store.database import Database
from scheduler.store.tables import Artifact, Part, Schedule, Task
from tests.builders import a_revision, a_schedule, a_spec, a_task, an_attempt, at

NOON = at("12:00")
NOWHERE = "redis://127.0.0.1:1/0"

Answer = tuple[int, list[str], str]
Ask = Callable[..., Answer]


@pytest.fixture(autouse=True)
def a_terminal_at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "now", lambda session: NOON)
    monkeypatch.setattr(look, "utc_now", lambda: NOON)
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "DATABASE_URL", "REDIS_URL", "SCHEDULER_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ask(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ask:
    """A command's exit status, its lines on standard output, and what it said on standard error."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", NOWHERE)

    def run_it(*arguments: str) -> Answer:
        status = run(list(arguments))
        said = capsys.readouterr()
        lines = said.out.splitlines()
        too_wide = [line for line in lines if width_of(click.unstyle(line)) > int(os.environ["COLUMNS"])]
        assert "--json" in arguments or too_wide == []
        return status, lines, said.err

    return run_it


@pytest.fixture
def with_redis(ask: Ask, room: WaitingRoom, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)


def screen(text: str) -> list[str]:
    """The lines of an expected screen."""
    return text.strip("\n").splitlines()


def a_service(session: Session) -> None:
    for part, seconds in (("dispatcher", 1), ("keeper", 2), *((f"worker-{kind}", 3) for kind in ("scheduled", "long"))):
        name = f"{part}@here"
        parts.tick(session, name, part, "here", 7, {"planner": 0.4, "reconcile": 8.0})
        ticked = {"ticked_at": NOON - dt.timedelta(seconds=seconds), "started_at": at("10:00")}
        session.execute(update(Part).where(Part.name == name).values(**ticked))


def a_nightly(session: Session, **fields: Any) -> Schedule:
    spec = a_spec(when=(At(at=(dt.time(6, 30),)),), timezone="Europe/Berlin", owner="jana")
    return a_schedule(session, spec, planned_until=NOON, in_force_since=at("00:00"), **fields)


# --- status ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("with_redis")
def test_status_counts_the_parts_that_live(ask: Ask, database: Database) -> None:
    with database.write() as session:
        a_service(session)
        for name, age in (("dispatcher@second", 2), ("dispatcher@dead", 3600)):
            parts.tick(session, name, "dispatcher", "there", 8, {})
            ticked_at = NOON - dt.timedelta(seconds=age)
            session.execute(update(Part).where(Part.name == name).values(ticked_at=ticked_at, started_at=at("10:00")))

    lines = ask("status")[1]

    assert any(line.startswith("parts      dispatcher 1 s (2), keeper") for line in lines)


@pytest.mark.usefixtures("with_redis")
def test_status_when_all_is_well(ask: Ask, database: Database) -> None:
    with database.write() as session:
        a_service(session)
        schedule = a_nightly(session, revision_id=a_revision(session, accepted_at=at("06:00")).id)
        a_task(session, schedule=schedule, fire_time=at("12:02:30"))
        a_task(session, kind="long", task="create_image_set", due_at=at("12:30"))
        a_task(session, schedule=schedule, state=SUCCEEDED, finished_at=at("05:31"))
        a_task(session, kind="long", state=SKIPPED, finished_at=at("11:50"))
        a_task(session, kind="long", state=SUCCEEDED, finished_at=at("11:55"))

    assert ask("status") == (
        0,
        screen(
            """
✓ 1 schedule, all is well; ticked 2 s ago; next: nightly in 2 m

last 24 h  scheduled  1 succeeded
           long       1 succeeded, 1 skipped
next       nightly in 2 m, create_image_set in 30 m
parts      dispatcher 1 s, keeper 2 s (planner 0.4 s, reconcile 8 s),
           worker-long 3 s, worker-scheduled 3 s
redis      answers
revision   1, in force since 06:00:00Z, schedules.yaml by jana
"""
        ),
        "",
    )


def test_status_when_much_is_wrong(ask: Ask, database: Database) -> None:
    progress = {"done": 1, "total": 2, "message": "128 px"}
    error = {"type": "ValueError", "message": "no such account: " + "9" * 80, "traceback": ""}
    policy = TaskPolicy(retry=Retry(attempts=3))
    with database.write() as session:
        a_service(session)
        taken = {"revision_id": a_revision(session, accepted_at=at("06:00", day="2026-11-20")).id}
        failing = a_schedule(session, a_spec(name="close-month", owner="jana"), failures_in_a_row=2, **taken)
        a_task(session, schedule=failing, state=FAILED, finished_at=at("05:00", day="2026-11-23"))
        a_task(session, schedule=failing, state=FAILED, finished_at=at("09:00"), attempt=3, error=error, policy=policy)
        a_task(session, task="count_words", state=QUEUED, due_at=at("11:50"))
        a_task(session, kind="long", task="create_image_set", state=RUNNING, progress=progress, started_at=at("11:58"))
        pause = schedules.pause_fields("ops", "partner outage", at("11:00"), at("08:00", day="2026-11-26"))
        a_schedule(session, a_spec(name="partner-feed"), pause=pause, **taken)
        a_schedule(session, a_spec(name="gone"), parked='there is no task function "gone"', **taken)

    status, lines, _ = ask("status")

    assert status == 1
    assert lines == screen(
        """
✗ 3 schedules, 1 failing, 1 late, 1 parked, Redis is away; ticked 2 s ago

last 24 h  scheduled  1 failed
failing    close-month: 2 times in a row, since 11-23 05:00Z, owner jana
             task 2 failed, attempt 3 of 3: ValueError: no such account: 999999…
late       count_words: due 11:50:00Z, 10 m ago (queued, queue scheduled)
running    task 4 create_image_set, 2 m, [#####.....] 50 % 128 px, 2 m left
waiting    scheduled 1 (oldest 10 m)
next       nothing is planned
paused     partner-feed: by ops since 11:00:00Z, until 11-26 08:00Z: partner ou…
parked     gone: there is no task function "gone"
parts      dispatcher 1 s, keeper 2 s (planner 0.4 s, reconcile 8 s),
           worker-long 3 s, worker-scheduled 3 s
redis      Redis does not answer at 127.0.0.1:1 (Error 111 connecting to 127.0.…
revision   1, in force since 11-20 06:00Z, schedules.yaml by jana
"""
    )


def test_status_says_silence(ask: Ask) -> None:
    status, lines, _ = ask("status")

    assert status == 1
    assert lines[:7] == screen(
        """
✗ 0 schedules, no part has ticked: is the service running? `scheduler up`

last 24 h  nothing has ended
next       nothing is planned
parts      none has ticked
redis      Redis does not answer at 127.0.0.1:1 (Error 111 connecting to 127.0.…
revision   none: no schedule file is in force; `scheduler apply` puts one in fo…
"""
    )


def test_status_never_takes_more_than_a_screen(ask: Ask, database: Database) -> None:
    with database.write() as session:
        a_service(session)
        revision_id = a_revision(session).id
        for number in range(12):
            spec = a_spec(name=f"failing-{number:02}")
            schedule = a_schedule(session, spec, revision_id=revision_id, failures_in_a_row=1)
            a_task(session, schedule=schedule, state=FAILED, finished_at=at("11:00"))
            for name, fields in (
                ("paused", {"pause": {"by": "ops", "since": NOON.isoformat()}}),
                ("gone", {"parked": "x"}),
            ):
                a_schedule(session, a_spec(name=f"{name}-{number:02}"), revision_id=revision_id, **fields)
            a_task(session, state=QUEUED, due_at=at("11:00"), queue=f"queue-{number}")
            for kind in ("scheduled", "long", "adhoc"):
                a_task(session, kind=kind, state=RUNNING)
                a_task(session, kind=kind, state=SUCCEEDED, finished_at=at("11:00"))

    _, lines, _ = ask("status")

    assert len(lines) <= 23  # and the prompt
    labels = {line[:10].strip() for line in lines[3:]} - {""}
    assert labels == {
        *("last 24 h", "failing 12", "late 12", "running 36", "waiting", "next", "paused 12", "parked 12"),
        *("parts", "redis", "revision"),
    }


def test_status_as_json_is_one_document(ask: Ask, database: Database) -> None:
    with database.write() as session:
        a_service(session)

    status, lines, _ = ask("status", "--json")

    document = json.loads("\n".join(lines))
    assert status == 1
    assert document["verdict"] == "0 schedules, Redis is away; ticked 2 s ago"
    assert document["ok"] is False
    assert document["counts"] == {"scheduled": {}, "long": {}, "adhoc": {}}


# --- tasks ----------------------------------------------------------------------------------------------------------


def some_tasks(session: Session) -> None:
    """Ids 1 to 8: planned, succeeded (twice), failed, missed, running, retrying, cancelled."""
    nightly = a_nightly(session)
    shared: dict[str, Any] = {"schedule": nightly, "created_at": at("00:00")}
    a_task(session, fire_time=at("05:30", day="2026-11-25"), **shared)
    times = {"started_at": at("05:30"), "finished_at": at("05:30:12")}
    result = {"source": "README.md", "words": 6123, "top": [["the", 25], ["and", 23]]}
    a_task(session, fire_time=at("05:30"), state=SUCCEEDED, result=result, **times, **shared)
    fields = {"task": "send_mail", "kind": "adhoc", "created_at": at("11:00")}
    a_task(
        session, state=SUCCEEDED, result={"value": 7}, started_at=at("11:00"), finished_at=at("11:00:00.040"), **fields
    )
    error = {"type": "ValueError", "message": "no such file", "traceback": ""}
    yesterday = at("05:30", day="2026-11-23")
    ended = {"started_at": yesterday, "finished_at": yesterday + dt.timedelta(minutes=65, seconds=3)}
    a_task(
        session, fire_time=yesterday, state=FAILED, error=error, reason="ValueError: no such file", **ended, **shared
    )
    late = "5m late, older than 1h (missed: latest, within)"
    a_task(session, fire_time=at("05:30", day="2026-11-22"), state=MISSED, reason=late, finished_at=yesterday, **shared)
    progress = {"done": 1, "total": 2, "message": "128 px"}
    images = {"task": "create_image_set", "kind": "long", "created_at": at("11:58")}
    a_task(session, state=RUNNING, progress=progress, started_at=at("11:58"), due_at=at("11:58"), **images)
    again = "attempt 2 of 3 at 12:01"
    a_task(session, state=RETRYING, attempt=1, reason=again, started_at=at("11:59"), due_at=at("12:01"), **fields)
    a_task(session, state=CANCELLED, reason="cancelled by jana", finished_at=at("10:00"), **fields)


def test_tasks_are_listed(ask: Ask, database: Database) -> None:
    with database.write() as session:
        some_tasks(session)

    status, lines, _ = ask("tasks")

    assert status == 0
    assert lines == screen(
        """
id  kind       task              state      fire time      took  note
 7  adhoc      send_mail         retrying   11:00:00Z       1 m  attempt 2 of 3…
 6  long       create_image_set  running    11:58:00Z       2 m  50 % 128 px
 3  adhoc      send_mail         succeeded  11:00:00Z     40 ms  7
 8  adhoc      send_mail         cancelled  11:00:00Z            cancelled by j…
 2  scheduled  nightly           succeeded  05:30:00Z      12 s  words 6123, so…
 4  scheduled  nightly           failed     11-23 05:30Z    1 h  ValueError: no…
 5  scheduled  nightly           missed     11-22 05:30Z         5m late, older…
"""
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([], [7, 6, 3, 8, 2, 4, 5], id="what ran"),
        pytest.param(["--all"], [1, 7, 6, 3, 8, 2, 4, 5], id="what is planned too"),
        pytest.param(["--state", "planned"], [1], id="planned"),
        pytest.param(["--state", "failed", "--state", "missed"], [4, 5], id="two states"),
        pytest.param(["--kind", "adhoc", "--limit", "2"], [7, 3], id="kind and limit"),
        pytest.param(["--schedule", "nightly", "--since", "2026-11-23"], [2, 4, 5], id="schedule and since"),
        pytest.param(["--until", "2026-11-23T05:31"], [5], id="until"),
    ],
)
def test_tasks_are_chosen_by_options(ask: Ask, database: Database, arguments: list[str], expected: list[int]) -> None:
    with database.write() as session:
        some_tasks(session)

    status, lines, _ = ask("tasks", "--json", *arguments)

    assert status == 0
    assert [task["id"] for task in json.loads("\n".join(lines))] == expected


def test_no_tasks_are_said_to_be_none(ask: Ask) -> None:
    assert ask("tasks") == (0, ["no task has run yet"], "")
    assert ask("tasks", "--kind", "long") == (0, ["no such task"], "")
    assert ask("tasks", "--json") == (0, ["[]"], "")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_list_never_wraps_whatever_its_rows_hold(
    ask: Ask, database: Database, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    with database.write() as session:
        schedule = a_schedule(session, a_spec(name="a" * 64))
        nasty = "\x1b[31mred\x1b[0m\nnext line\ttab \x9b31m " + "界" * 80
        a_task(session, schedule=schedule, id=123_456_789, state=FAILED, reason=nasty, fire_time=at("05:30"))

    screens = [ask(*arguments)[1] for arguments in (["tasks"], ["show", "123456789"], ["schedules"])]

    assert not any(letter in line for lines in screens for line in lines for letter in "\x1b\x9b\t")
    assert "reason     red" in screens[1]


# --- show -----------------------------------------------------------------------------------------------------------


def test_a_task_is_shown_whole(ask: Ask, database: Database) -> None:
    trace = "Traceback (most recent call last):\n" + "\n".join(f'  File "a.py", line {n}' for n in range(9))
    error = {
        "error_type": "ValueError",
        "error_message": "no such file",
        "traceback": f"{trace}\nValueError: no such file",
    }
    with database.write() as session:
        task = a_task(
            session,
            schedule=a_nightly(session),
            args={"sizes": [32, 64], "source": "README.md"},
            fire_time=at("05:30"),
            created_at=at("05:28"),
            due_at=at("05:31"),
            queued_at=at("05:30:00.020"),
            started_at=at("05:30:00.050"),
            finished_at=at("05:31:02.050"),
            state=SUCCEEDED,
            worker="w1",
            attempt=2,
            progress={"done": 3, "total": 4, "message": "almost"},
            result={"top": [{"word": "the", "count": 25}, {"word": "scheduler", "count": 21}], "words": 6123},
        )
        times = {"started_at": at("05:30:00.050"), "ended_at": at("05:30:01.050")}
        causes = [{"type": "KeyError", "message": "'file'"}, {"type": "OSError", "message": "away"}]
        an_attempt(session, task, outcome=FAILED, causes=causes, **error, **times)
        times = {"started_at": at("05:31:01"), "ended_at": at("05:31:02.050")}
        an_attempt(session, task, number=2, outcome=SUCCEEDED, peak_memory=80 * 1024 * 1024, **times)

    status, lines, _ = ask("show", "1")

    assert status == 0
    assert lines == screen(
        """
task 1  nightly  scheduled  succeeded
progress   [###############.....] 75 % almost
function   count_words
asked by   schedule nightly
fire time  2026-11-24 05:30:00Z  (Tue 06:30:00 CET, Europe/Berlin)
queue      scheduled, worker w1

timeline
  planned    2026-11-24 05:28:00Z
  fire time  2026-11-24 05:30:00Z  + 2 m
  queued     2026-11-24 05:30:00Z  + 20 ms
  started    2026-11-24 05:30:00Z  + 30 ms
  due        2026-11-24 05:31:00Z  + 59 s
  succeeded  2026-11-24 05:31:02Z  + 2 s

attempt 1: failed, 1 s
  2026-11-24 05:30:00Z on here, process 1
  ValueError: no such file
  caused by KeyError: 'file'
  caused by OSError: away
  … the last lines of the traceback:
      File "a.py", line 7
      File "a.py", line 8
    ValueError: no such file

attempt 2: succeeded, 1 s
  2026-11-24 05:31:01Z on here, process 1, 80 MiB at most

args
  {"sizes": [32, 64], "source": "README.md"}

result
  {
    "top": [{"word": "the", "count": 25}, {"word": "scheduler", "count": 21}],
    "words": 6123
  }

next       scheduler logs 1 · scheduler retry 1
"""
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param(
            {"state": RUNNING, "started_at": at("11:58")},
            ["  running    for 2 m", "next       scheduler logs 1 --follow · scheduler cancel 1"],
            id="running",
        ),
        pytest.param(
            {"due_at": at("12:05")},
            ["  due        in 5 m", "next       scheduler cancel 1"],
            id="planned",
        ),
        pytest.param(
            {"state": MISSED, "reason": "late", "finished_at": NOON},
            ["reason     late", "next       scheduler retry 1"],
            id="missed",
        ),
        pytest.param(
            {"origin": "manual", "requested_by": "jana", "state": QUEUED, "due_at": at("11:00")},
            ["asked by   manual, by jana", "  asked for  2026-11-24 11:00:00Z"],
            id="asked for",
        ),
        pytest.param(
            {"result": {"value": "one\n\x1b[31mtwo"}, "result_kind": "text"},
            ["result (text)", "  one", "  two"],
            id="text",
        ),
        pytest.param(
            {"result": {"value": "https://x.example/a", "title": "The report"}, "result_kind": "link"},
            ["result (link)", "  The report", "  https://x.example/a"],
            id="a link",
        ),
        pytest.param(
            {"args": {"user": "jana", "password": "hunter22"}},
            ['  {"user": "jana", "password": "***"}'],
            id="a secret among its arguments",
        ),
        pytest.param(
            {"origin": "retry", "retry_of": 1, "state": QUEUED},
            ["asked by   retry of task 1"],
            id="retry",
        ),
    ],
)
def test_a_task_tells_where_it_is_and_what_can_be_done(
    ask: Ask, database: Database, fields: dict[str, Any], told: list[str]
) -> None:
    with database.write() as session:
        a_task(session, id=1, created_at=at("11:00"), **fields)

    _, lines, _ = ask("show", "1")

    assert [line for line in told if line not in lines] == []


def test_a_task_tells_which_files_it_left(ask: Ask, database: Database) -> None:
    files = [{"name": "a.pdf"}, {"name": "b.bin"}]
    with database.write() as session:
        a_task(session, id=1, state=SUCCEEDED, finished_at=NOON, result={"files": files}, result_kind="file")
        plain = {"task_id": 1, "attempt": 1, "media_type": "a/b", "sha256": "", "created_at": NOON}
        session.add(Artifact(**plain, name="a.pdf", size=1_500_000, path="1/1/1"))
        session.add(Artifact(**plain, name="b.bin", size=7, path="/srv/b.bin"))

    _, lines, _ = ask("show", "1")
    _, listed, _ = ask("tasks")

    assert lines[lines.index("files") :][:3] == [
        "files",
        "  1  a.pdf, a/b, 1.4 MiB: artifacts/1/1/1 in the data folder",
        "  2  b.bin, a/b, 7 bytes: /srv/b.bin",
    ]
    assert listed[-1].endswith("a.pdf, b.bin")


def test_a_task_that_is_not_there(ask: Ask) -> None:
    missing = "There is no task 99; `scheduler tasks` lists those there are\n"

    assert ask("show", "99") == (1, [], missing)
    assert ask("logs", "99") == (1, [], missing)
    assert ask("show", "0")[0] == 2
    assert ask("show", str(2**63))[0] == 2


def test_a_task_as_json_is_that_of_the_contract(ask: Ask, database: Database) -> None:
    with database.write() as session:
        a_task(session, id=5, fire_time=at("05:30"))

    status, lines, _ = ask("show", "5", "--json")

    task = json.loads("\n".join(lines))
    assert status == 0
    assert (task["id"], task["fire_time"], task["attempts"], task["result"]) == (5, "2026-11-24T05:30:00Z", [], None)


# --- logs -----------------------------------------------------------------------------------------------------------


def a_logged_task(session: Session, **fields: Any) -> None:
    """Task 1, with two attempts and a log of each."""
    task = a_task(session, id=1, state=SUCCEEDED, attempt=2, finished_at=at("11:00"), **fields)
    an_attempt(session, task, number=1, outcome=FAILED)
    an_attempt(session, task, number=2, outcome=SUCCEEDED)
    tasks.write_log(session, 1, 1, ["11:00:00 INFO one", "11:00:00 ERROR \x1b[31mred"])
    tasks.write_log(session, 1, 2, ["11:00:09 INFO two"])


def test_logs_are_printed_by_attempt(ask: Ask, database: Database) -> None:
    with database.write() as session:
        a_logged_task(session)

    expected = [
        "--- attempt 1 ---",
        "11:00:00 INFO one",
        "11:00:00 ERROR red",
        "--- attempt 2 ---",
        "11:00:09 INFO two",
    ]
    assert ask("logs", "1") == (0, expected, "")
    assert ask("logs", "1", "--attempt", "2") == (0, ["11:00:09 INFO two"], "")
    assert ask("logs", "1", "--follow") == (0, expected, "")
    assert ask("logs", "1", "--attempt", "3") == (1, [], "Task 1 has no attempt 3; it has begun 2\n")


def test_logs_as_json_are_objects(ask: Ask, database: Database) -> None:
    with database.write() as session:
        a_logged_task(session)

    _, lines, _ = ask("logs", "1", "--json")
    _, followed, _ = ask("logs", "1", "--json", "--follow")

    assert json.loads("\n".join(lines))[2] == {"attempt": 2, "line": "11:00:09 INFO two"}
    assert [json.loads(line) for line in followed] == json.loads("\n".join(lines))


def test_an_empty_log_is_said_to_be_empty(ask: Ask, database: Database) -> None:
    with database.write() as session:
        a_task(session, id=1, state=MISSED, finished_at=at("11:00"))

    assert ask("logs", "1") == (0, [], "task 1 (missed) has logged nothing\n")


def test_a_log_is_followed_until_the_task_has_ended(
    ask: Ask, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wait of the command is filled with what happens meanwhile."""
    with database.write() as session:
        a_task(session, id=1, state=RUNNING)
        tasks.write_log(session, 1, 1, ["one"])
    happenings: list[Callable[[Session], None]] = [
        lambda session: tasks.write_log(session, 1, 1, ["two"]),
        lambda session: tasks.move(session, SUCCEEDED, Task.id == 1, finished_at=NOON) and None,
        lambda session: tasks.write_log(session, 1, 1, ["a last line, written after the end"]),
    ]
    clock = iter([NOON, NOON + dt.timedelta(seconds=3)])  # looked at once the task has ended

    def wait(seconds: float) -> None:
        with database.write() as session:
            happenings.pop(0)(session)

    monkeypatch.setattr("time.sleep", wait)
    monkeypatch.setattr(look, "utc_now", lambda: next(clock))

    assert ask("logs", "1", "--follow") == (0, ["one", "two", "a last line, written after the end"], "")
    assert happenings == []


# --- schedules ------------------------------------------------------------------------------------------------------


def test_schedules_are_listed(ask: Ask, database: Database) -> None:
    pause = schedules.pause_fields("ops", "partner API outage", at("11:00"), None)
    with database.write() as session:
        nightly = a_nightly(session)
        a_task(session, schedule=nightly, fire_time=at("05:30"), state=SUCCEEDED, finished_at=at("05:31"))
        often = a_schedule(session, a_spec(name="often"))
        a_task(session, schedule=often, fire_time=at("12:05"))
        a_task(session, schedule=often, fire_time=at("11:55"), state=FAILED, finished_at=at("11:55:30"))
        a_schedule(session, a_spec(name="partner-feed"), pause=pause)
        a_schedule(session, a_spec(name="gone"), parked="its task function is gone")
        a_schedule(session, a_spec(name="removed"), retired_at=NOON)

    assert ask("schedules") == (
        0,
        screen(
            """
schedule      state   last (ago)     next (local)        when
gone          parked  never          –                   every 5 minutes
nightly       active  succeeded 6 h  in 17 h, Wed 06:30  every day at 06:30
often         active  failed 4 m     in 5 m, 12:05       every 5 minutes
partner-feed  paused  never          –                   every 5 minutes

gone is parked: its task function is gone
partner-feed is paused by ops since 11:00:00Z: partner API outage
"""
        ),
        "",
    )
    assert (
        ask("schedules", "--all")[1][5] == "removed       retired  never          –                   every 5 minutes"
    )
    assert [one["name"] for one in json.loads("\n".join(ask("schedules", "--json")[1]))] == [
        *("gone", "nightly", "often", "partner-feed"),
    ]


def test_no_schedules_are_said_to_be_none(ask: Ask) -> None:
    assert ask("schedules") == (0, ["no schedules: `scheduler apply` puts a schedule file in force"], "")


# --- doctor and settings --------------------------------------------------------------------------------------------


def test_the_doctor_prints_a_line_a_check_and_the_remedy_of_each_fault(
    ask: Ask, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scheduler.engine.check.doctor import Finding

    findings = [
        Finding("sql", True, "answers"),
        Finding("keeper", False, "none has ticked", "Start one: `scheduler up`, or `scheduler start keeper`, " * 2, 1),
    ]
    monkeypatch.setattr("scheduler.engine.check.doctor.examine", lambda database, room: findings)

    assert ask("doctor") == (
        1,
        screen(
            """
ok    sql: answers
FAULT keeper: none has ticked
      -> Start one: `scheduler up`, or `scheduler start keeper`, Start one:
      `scheduler up`, or `scheduler start keeper`,
2 checks, 1 fault
"""
        ),
        "",
    )
    assert json.loads("\n".join(ask("doctor", "--json")[1]))[0] == {
        "name": "sql",
        "ok": True,
        "message": "answers",
        "remedy": "",
        "count": 0,
    }


def test_the_doctor_looks_at_a_real_service(ask: Ask, database: Database) -> None:
    status, lines, _ = ask("doctor", "--json")

    faults = {one["name"] for one in json.loads("\n".join(lines)) if not one["ok"]}
    assert status == 1
    assert {"redis", "dispatcher", "keeper", "worker-long"} <= faults


def test_settings_are_shown_with_their_source_and_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://jana:secret@db.example.org/jobs")

    status = run(["settings"])

    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert [line.split() for line in lines if line.startswith("database_url")] == [
        ["database_url", "postgresql://jana:***@db.example.org/jobs", "DATABASE_URL"]
    ]
    run(["settings", "--json"])
    assert {"name": "name", "value": "jobs", "source": "default"} in json.loads(capsys.readouterr().out)


# --- what is away ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "tasks", "schedules", "show 1", "logs 1", "doctor"])
def test_a_folder_where_nothing_has_run_is_told_how_to_begin(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run([*command.split(), "--data", str(tmp_path / "new")])

    assert status == 3
    assert capsys.readouterr().err == (
        f"There is no database at {tmp_path / 'new' / 'scheduler.db'} yet: `scheduler up` makes one. "
        "Another folder is named with --data.\n"
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["status", "tasks", "schedules", "show 1", "logs 1", "doctor"])
def test_a_database_that_is_away_ends_with_3(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/jobs")

    status = run(command.split())

    said = capsys.readouterr()
    assert status == 3
    assert said.out == ""
    assert said.err.startswith("The database at postgresql+psycopg://127.0.0.1:1/jobs does not answer: ")


def test_a_database_of_another_version_is_not_read(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    made = Database(empty_database_url)
    with made.write() as session:
        session.connection().exec_driver_sql("CREATE TABLE other (id INTEGER)")
    place = made.place
    made.close()

    status = run(["tasks"])

    assert status == 1
    assert capsys.readouterr().err == (
        f"The database at {place} is not of the version that this program needs. "
        "`scheduler up`, or any part that starts, brings it there.\n"
    )


# --- colours --------------------------------------------------------------------------------------------------------


def test_colours_come_only_where_they_are_wanted_and_the_words_stay(
    ask: Ask, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as session:
        a_task(session, id=1, state=FAILED, reason="boom", finished_at=NOON, created_at=NOON)
    plain = ask("tasks")[1]

    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = ask("tasks")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    not_wanted = ask("tasks")[1]

    assert "\x1b[31mfailed\x1b[0m" in coloured[1]
    assert [click.unstyle(line) for line in coloured] == plain == not_wanted
