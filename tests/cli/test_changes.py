"""`diff`, `history` and `rollback`: whole screens at 80 columns, JSON, exit statuses. It is noon."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler.cli import changes, run
from scheduler.cli.tables import width_of
from scheduler.engine.file import changes as engine_changes
from scheduler.engine.file.apply import why_outdated
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.tables import Revision, Schedule
from tests.builders import a_revision, a_schedule, a_spec, a_task, at

NOON = at("12:00")
HEAD = "version: 1\ntimezone: UTC\nschedules:\n"
ONE = 'nightly: {task: count_words, args: {source: a}, when: {at: "02:00"}}'
TWO = f"{ONE}\nhourly: {{task: count_words, args: {{source: a}}, when: {{every: 1h}}}}"
FIVE = "\n".join(f"s{n}: {{task: count_words, args: {{source: a}}, when: {{every: 1h}}}}" for n in range(5))

Answer = tuple[int, list[str], str]
Ask = Callable[..., Answer]
Write = Callable[[str], None]


@pytest.fixture(autouse=True)
def a_folder_at_noon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "now", lambda session: NOON)
    monkeypatch.setattr(changes, "utc_now", lambda: NOON)
    monkeypatch.setattr(engine_changes, "utc_now", lambda: NOON)
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "DATABASE_URL", "REDIS_URL", "SCHEDULER_DATA", "SCHEDULER_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("SCHEDULER_AUTHOR", "jana")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_it(entries: str) -> None:
        (tmp_path / "schedules.yaml").write_text(HEAD + textwrap.indent(textwrap.dedent(entries), "  "))

    return write_it


@pytest.fixture
def ask_nowhere(capsys: pytest.CaptureFixture[str]) -> Ask:
    """A command's exit status, its lines on standard output, and what it said on standard error."""

    def run_it(*arguments: str) -> Answer:
        status = run(list(arguments))
        said = capsys.readouterr()
        lines = said.out.splitlines()
        assert "--json" in arguments or "--text" in arguments or [one for one in lines if width_of(one) > 80] == []
        return status, lines, said.err

    return run_it


@pytest.fixture
def ask(ask_nowhere: Ask, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The same where a database is."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    return ask_nowhere


def answer_of(answer: Answer) -> Any:
    status, lines, _ = answer
    assert status == 0
    return json.loads("\n".join(lines))


def screen(lines: str) -> list[str]:
    return textwrap.dedent(lines).strip().splitlines()


# --- diff -----------------------------------------------------------------------------------------------------------


def test_without_a_database_all_is_new_and_none_is_made(ask_nowhere: Ask, write: Write, tmp_path: Path) -> None:
    write(ONE)

    status, lines, _ = ask_nowhere("diff")

    assert status == 0
    assert lines == screen("""
        schedules.yaml against nothing in force yet: 1 added, 0 unchanged

        + nightly  new: every day at 02:00 (UTC)
            gains 30 fires in the next 30 days:
              2026-11-25 02:00Z, 2026-11-26 02:00Z, 2026-11-27 02:00Z,
              2026-11-28 02:00Z, 2026-11-29 02:00Z, …

        Nothing would be caught up now: nothing fires after the fact because of an edit.
    """)
    assert not (tmp_path / "var" / "scheduler.db").exists()


def test_a_diff_tells_what_becomes_of_each_schedule(ask: Ask, write: Write) -> None:
    write(TWO + '\nold: {task: count_words, args: {source: a}, when: {at: "06:00"}}')
    ask("apply")
    write("""
        nightly: {task: count_words, args: {source: a}, when: {at: "02:00"}, owner: jana}
        hourly: {task: count_words, args: {source: b}, when: {every: 2h}, grace: 90s}
        new: {task: count_words, args: {source: a}, when: {at: "06:00"}, was: old}
    """)

    status, lines, _ = ask("diff")

    assert status == 0
    assert lines == screen("""
        schedules.yaml against revision 1: 1 renamed, 1 changed, 1 described, 0
        unchanged

        ~ hourly  changed
            args.source: a → b
            when: every hour → every 2 hours
            grace: 10 minutes → 1 minute and 30 seconds
            loses 360 fires in the next 30 days:
              2026-11-24 13:00Z, 2026-11-24 15:00Z, 2026-11-24 17:00Z,
              2026-11-24 19:00Z, 2026-11-24 21:00Z, …

        > new  renamed from old, with its history
            was: none → old

        = nightly  described anew; what is planned stays as it is
            owner: none → jana

        Nothing would be caught up now: nothing fires after the fact because of an edit.
    """)


def test_a_diff_for_programs(ask: Ask, write: Write) -> None:
    write(TWO)
    ask("apply")
    ask("pause", "hourly", "--why", "stocktaking")
    write(TWO.replace("1h", "2h"))

    found = answer_of(ask("diff", "--json"))

    (one,) = found.pop("schedules")
    assert found == {
        "file": "schedules.yaml",
        "revision": 1,
        "differs": True,
        "mass_removal": False,
        "added": [],
        "removed": [],
        "changed": ["hourly"],
        "described": [],
        "renamed": {},
        "unchanged": 1,
        "fires_until": "2026-12-24T12:00:00Z",
        "caught_up": [],
    }
    assert one["keys"] == [{"key": "when", "old": "every hour", "new": "every 2 hours"}]
    assert one["lost"]["count"] == 360
    assert one["held"] == "paused by jana: stocktaking"


def test_a_file_in_force_differs_in_nothing(ask: Ask, write: Write) -> None:
    write(TWO)
    ask("apply")

    assert ask("diff") == (0, ["schedules.yaml against revision 1: in force as it is (2 unchanged)"], "")
    assert answer_of(ask("diff", "--json"))["differs"] is False


def test_a_mass_removal_is_announced(ask: Ask, write: Write) -> None:
    write(FIVE)
    ask("apply")
    write(FIVE.splitlines()[0])

    _, lines, _ = ask("diff")

    assert lines[1] == "4 of 5 schedules would vanish: an apply refuses that without --confirm."


def test_a_file_with_faults_has_no_diff(ask: Ask, write: Write) -> None:
    write(ONE.replace("02:00", "25:00"))

    status, lines, error = ask("diff")

    assert (status, lines) == (1, [])
    assert error.startswith("schedules.yaml:4:")


# --- history --------------------------------------------------------------------------------------------------------


def test_the_history_lists_the_revisions(ask: Ask, write: Write) -> None:
    write(TWO)
    ask("apply")
    write(ONE)
    ask("apply")

    assert ask("history")[1] == [
        "    2  2026-11-24 12:00:00Z  jana on here, schedules.yaml",
        "       1 removed (hourly)",
        "    1  2026-11-24 12:00:00Z  jana on here, schedules.yaml",
        "       2 added (nightly, hourly)",
    ]
    assert [one["revision"] for one in answer_of(ask("history", "--limit", "1", "--json"))] == [2]


def test_a_revision_tells_its_changes_key_by_key_and_its_text(ask: Ask, write: Write, tmp_path: Path) -> None:
    write(TWO)
    ask("apply")
    write(TWO.replace("1h", "2h"))
    ask("apply")

    assert ask("history", "2")[1] == screen("""
        revision 2, accepted 2026-11-24 12:00:00Z from schedules.yaml, by jana on here
        ~ hourly  changed
            when: every hour → every 2 hours
    """)
    assert ask("history", "2", "--text")[1] == (tmp_path / "schedules.yaml").read_text().splitlines()
    found = answer_of(ask("history", "2", "--json"))
    assert found["keys"] == {"hourly": [{"key": "when", "old": "every hour", "new": "every 2 hours"}]}
    assert found["changed"] == ["hourly"]


def test_a_revision_of_an_older_program_is_shown_without_keys(ask: Ask, database: Database) -> None:
    with database.write() as session:
        a_revision(session, accepted_at=at("06:00"), changes={"added": ["nightly"], "changed": ["hourly"]})

    assert ask("history", "1")[1][1:] == ["~ hourly  changed", "+ nightly  added"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("history", "7"), 1, "There is no revision 7; there is none yet. `scheduler history` lists them.\n"),
        (("rollback", "7"), 1, "There is no revision 7; there is none yet. `scheduler history` lists them.\n"),
        (("history", "--text"), 2, "--text goes with a revision: `scheduler history N --text`\n"),
    ],
    ids=["history", "rollback", "text"],
)
def test_what_is_not_there_is_said(ask: Ask, words: tuple[str, ...], status: int, said: str) -> None:
    assert ask(*words) == (status, [], said)


def test_without_a_database_there_is_no_history(ask_nowhere: Ask) -> None:
    status, _, error = ask_nowhere("history")

    assert status == 3
    assert error.startswith("There is no database at ")


# --- rollback -------------------------------------------------------------------------------------------------------


def test_a_rollback_is_a_new_revision_with_the_old_text(ask: Ask, write: Write, database: Database) -> None:
    write(TWO)
    ask("apply")
    write(ONE)
    ask("apply")

    status, lines, error = ask("rollback", "1")

    assert (status, lines) == (0, ["revision 3, the text of revision 1: 1 added, 1 unchanged"])
    assert error == (
        "warning: schedules.yaml holds another text. A restart does not take it, the next edit does. "
        "To bring it in line: scheduler history 1 --text > schedules.yaml\n"
    )
    with database.read() as session:
        first, third = session.get_one(Revision, 1), session.get_one(Revision, 3)
        assert [one.name for one in schedules.all_schedules(session)] == ["hourly", "nightly"]
    assert (third.author, third.text, third.file) == ("jana", first.text, "schedules.yaml")
    assert ask("history", "--limit", "1")[1][1] == "       rollback to 1: 1 added (hourly)"


@pytest.mark.parametrize("moved", [-60, 60], ids=["untouched since", "mounted anew since"])
def test_a_restart_does_not_undo_a_rollback(
    ask: Ask, write: Write, database: Database, tmp_path: Path, moved: int
) -> None:
    write(TWO)
    ask("apply")
    write(ONE)
    ask("apply")
    ask("rollback", "1")
    file = tmp_path / "schedules.yaml"
    os.utime(file, (NOON.timestamp() + moved,) * 2)

    outdated = why_outdated(database, Path("schedules.yaml"), file.read_bytes())

    assert outdated == (
        "schedules.yaml is the text of revision 2, which revision 3 has replaced since; "
        "revision 3 stays in force. `scheduler apply` puts the file in force."
    )
    write(ONE + "\n# an edit")
    assert why_outdated(database, file, file.read_bytes()) is None


def test_a_rollback_over_a_rename_keeps_the_history(ask: Ask, write: Write, database: Database) -> None:
    write(ONE)
    ask("apply")
    write(ONE.replace("nightly:", "daily:").replace("}}", "}, was: nightly}"))
    ask("apply")
    write(ONE.replace("nightly:", "morning:").replace("}}", "}, was: daily}"))
    ask("apply")

    _, lines, _ = ask("rollback", "1")

    assert lines == ["revision 4, the text of revision 1: 1 changed, 1 renamed, 0 unchanged"]
    with database.read() as session:
        (one,) = session.query(Schedule).all()
    assert (one.name, one.retired_at) == ("nightly", None)


def test_a_rollback_to_what_is_in_force_changes_nothing(ask: Ask, write: Write) -> None:
    write(ONE)
    ask("apply")

    assert ask("rollback", "1") == (0, ["the text of revision 1 is in force already"], "")
    assert len(answer_of(ask("history", "--json"))) == 1


def test_a_text_that_is_no_longer_good_is_not_taken(ask: Ask, write: Write, database: Database) -> None:
    old = f"{HEAD}  gone: {{task: no_longer, when: {{every: 1h}}}}\n"
    with database.write() as session:
        a_revision(session, text=old)

    status, lines, error = ask("rollback", "1")

    assert (status, lines) == (1, [])
    assert error.startswith('revision 1:4:16: schedule "gone": there is no task function "no_longer"')


def test_a_rollback_that_removes_most_asks_for_a_confirmation(ask: Ask, write: Write) -> None:
    write("s0: {task: count_words, args: {source: a}, when: {every: 1h}}")
    ask("apply")
    write(FIVE)
    ask("apply")

    assert ask("rollback", "1") == (
        1,
        [],
        "4 of 5 schedules would vanish (s1, s2, s3, s4, …); nothing was changed. "
        "If that is meant, say so: `scheduler rollback 1 --confirm`.\n",
    )
    assert answer_of(ask("rollback", "1", "--confirm", "--json"))["removed"] == ["s1", "s2", "s3", "s4"]


# --- several files --------------------------------------------------------------------------------------------------


def write_further(folder: Path, **entries: str) -> None:
    for name, entry in entries.items():
        (folder / "schedules.d").mkdir(exist_ok=True)
        (folder / "schedules.d" / f"{name}.yaml").write_text(f"schedules:\n  {entry}\n")


HOURLY = TWO.splitlines()[1]


def test_further_files_are_compared_and_applied_with_the_main_one(ask: Ask, write: Write, tmp_path: Path) -> None:
    write(ONE)
    ask("apply")
    write_further(tmp_path, more=HOURLY)

    compared, applied, again = (ask(command) for command in ("diff", "apply", "diff"))

    assert compared[1][0] == "schedules.yaml against revision 1: 1 added, 1 unchanged"
    assert applied[:2] == (0, ["revision 2: 1 added, 1 unchanged", "  added     hourly"])
    assert again[1] == ["schedules.yaml against revision 2: in force as it is (2 unchanged)"]
    assert ask("history", "2", "--text")[1][-3:] == ["# --- schedules.d/more.yaml", "schedules:", f"  {HOURLY}"]


def test_a_rollback_puts_the_combination_of_files_in_force_again(
    ask: Ask, write: Write, tmp_path: Path, database: Database
) -> None:
    write(ONE)
    write_further(tmp_path, more=HOURLY)
    ask("apply")
    (tmp_path / "schedules.d" / "more.yaml").unlink()
    ask("apply")

    status, lines, error = ask("rollback", "1")

    assert (status, lines) == (0, ["revision 3, the text of revision 1: 1 added, 1 unchanged"])
    assert error == (
        "warning: schedules.yaml holds another text. A restart does not take it, the next edit does. "
        "To bring it in line: `scheduler history 1 --text` prints schedules.yaml, then, each after a line "
        '"# --- schedules.d/NAME", the files of schedules.d (1; no others were there)\n'
    )
    with database.read() as session:
        first, third = session.get_one(Revision, 1), session.get_one(Revision, 3)
    assert (third.text, third.text_hash) == (first.text, first.text_hash)
    assert why_outdated(database, Path("schedules.yaml"), first.text.encode()) is None
    write_further(tmp_path, more=HOURLY)
    assert ask("diff")[1] == ["schedules.yaml against revision 3: in force as it is (2 unchanged)"]


def test_a_rollback_to_one_file_tells_of_those_that_are_there_now(ask: Ask, write: Write, tmp_path: Path) -> None:
    write(ONE)
    ask("apply")
    write_further(tmp_path, more=HOURLY)
    ask("apply")

    assert ask("rollback", "1")[2].endswith(
        "To bring it in line: scheduler history 1 --text > schedules.yaml, and empty schedules.d\n"
    )


def test_a_fault_of_a_rollback_names_the_file_of_the_revision(
    ask: Ask, write: Write, tmp_path: Path, database: Database
) -> None:
    write(ONE)
    write_further(tmp_path, more="hourly: {task: count_words, args: {source: a}, when: {every: 1h}}")
    ask("apply")
    with database.write() as session:
        revision = session.get_one(Revision, 1)
        revision.text = revision.text.replace("every: 1h", "ever: 1h")

    status, _, error = ask("rollback", "1")

    assert status == 1
    assert error.startswith("revision 1, schedules.d/more.yaml:2:")


# --- runs longer than intervals -------------------------------------------------------------------------------------


def test_diff_and_apply_warn_of_runs_that_take_longer_than_the_interval(
    ask: Ask, write: Write, database: Database
) -> None:
    with database.write() as session:
        slow = a_schedule(session, a_spec(name="hourly"))
        for _ in range(5):
            told = {"started_at": at("01:00"), "finished_at": at("02:20")}
            a_task(session, schedule=slow, state="succeeded", attempt=1, **told)
    write(TWO)
    warning = (
        'warning: schedules.yaml:5:56: schedule "hourly" usually runs 1h20m, but fires again after 1h '
        "(its shortest interval)\n"
    )

    compared, applied = ask("diff"), ask("apply")

    assert compared[2].startswith(warning)
    assert applied[2].startswith(warning)
