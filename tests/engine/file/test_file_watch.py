"""The file is looked at, and taken once it has settled; whatever is wrong with it changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.cli.screens import status_screen
from scheduler.clock import utc_now
from scheduler.engine.answers.status import status_of
from scheduler.engine.check.doctor import examine
from scheduler.engine.file.apply import apply
from scheduler.engine.file.changes import roll_back
from scheduler.engine.file.file_watch import MOST_FAULTS, FileWatch
from scheduler.errors import DatabaseAway
from scheduler.rules.file.schedule_file import load_book
from scheduler.store import parts, schedules
from scheduler.store.database import Database
from scheduler.store.tables import Revision, Schedule
from scheduler.task_functions import Catalogue, TaskFunction
from tests.builders import HOUR, a_revision

HEAD = "version: 1\ntimezone: UTC\nschedules:\n"
SETTLED = 2  # looks


def count(source: str) -> None:
    """A task function."""


CATALOGUE = Catalogue({"count": TaskFunction("count", count)})


def file_of(*names: str, every: str = "1h") -> str:
    return HEAD + "".join(
        f"  {name}: {{task: count, args: {{source: a}}, when: {{every: {every}}}}}\n" for name in names
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "schedules.yaml"
    path.write_text(file_of("nightly"))
    return path


@pytest.fixture
def watch(file: Path, database: Database, room: WaitingRoom) -> FileWatch:
    """A watch that has taken the file `nightly`."""
    watch = FileWatch(file, database, room, CATALOGUE)
    look(watch)
    return watch


def look(watch: FileWatch, times: int = SETTLED) -> None:
    for _ in range(times):
        watch.step()


def names(watch: FileWatch) -> list[str]:
    with watch.database.read() as session:
        return [schedule.name for schedule in schedules.all_schedules(session)]


def revisions(watch: FileWatch) -> int:
    with watch.database.read() as session:
        return session.execute(select(func.count()).select_from(Revision)).scalar_one()


def trouble(watch: FileWatch) -> str:
    assert watch.trouble is not None
    return str(watch.trouble["message"])


# --- a good change --------------------------------------------------------------------------------------------------


def test_a_file_is_taken_at_the_start(watch: FileWatch) -> None:
    assert names(watch) == ["nightly"]
    assert watch.trouble is None


def test_a_good_change_is_taken_once(watch: FileWatch, file: Path) -> None:
    file.write_text(file_of("nightly", "hourly"))

    look(watch, 5)

    assert names(watch) == ["hourly", "nightly"]
    assert revisions(watch) == 2
    assert watch.trouble is None


def test_a_file_that_is_touched_changes_nothing(watch: FileWatch, file: Path) -> None:
    os.utime(file, ((utc_now() + HOUR).timestamp(),) * 2)

    look(watch, 3)

    assert revisions(watch) == 1


def test_a_file_is_taken_only_when_two_looks_found_the_same(watch: FileWatch, file: Path) -> None:
    whole = file_of("nightly", "hourly", "weekly")
    for end in (len(HEAD), len(file_of("nightly")), len(file_of("nightly", "hourly"))):  # each a good file by itself
        file.write_text(whole[:end])
        look(watch, 1)
    file.write_text(whole)

    look(watch, 1)
    before = (names(watch), watch.trouble)
    look(watch, 1)

    assert before == (["nightly"], None)
    assert names(watch) == ["hourly", "nightly", "weekly"]
    assert revisions(watch) == 2


def by_rename(file: Path, content: str) -> None:
    """As editors save."""
    new = file.with_name(".schedules.yaml.swp")
    new.write_text(content)
    new.replace(file)


def by_rename_of_the_old(file: Path, content: str) -> None:
    """As editors save that keep a backup: for a moment there is no file."""
    file.rename(file.with_name("schedules.yaml~"))
    file.write_text(content)


@pytest.mark.parametrize("save", [by_rename, by_rename_of_the_old])
def test_an_editor_that_renames_is_seen(watch: FileWatch, file: Path, save: Callable[[Path, str], None]) -> None:
    save(file, file_of("nightly", "hourly"))

    look(watch)

    assert names(watch) == ["hourly", "nightly"]


def test_a_config_map_that_swaps_its_folder_is_seen(tmp_path: Path, database: Database, room: WaitingRoom) -> None:
    """Kubernetes links the file to `..data/file`, and `..data` to a folder that it swaps."""
    for version, text in (("..v1", file_of("nightly")), ("..v2", file_of("nightly", "hourly"))):
        (tmp_path / version).mkdir()
        (tmp_path / version / "schedules.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "schedules.yaml").symlink_to("..data/schedules.yaml")
    watch = FileWatch(tmp_path / "schedules.yaml", database, room, CATALOGUE)
    look(watch)

    (tmp_path / "..data_tmp").symlink_to("..v2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    look(watch)

    assert names(watch) == ["hourly", "nightly"]
    assert revisions(watch) == 2


# --- further files --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(file: Path) -> Path:
    folder = file.parent / "schedules.d"
    folder.mkdir()
    return folder


def further(*names: str) -> str:
    return file_of(*names).removeprefix("version: 1\ntimezone: UTC\n")


def test_further_files_that_appear_change_and_vanish_are_seen(watch: FileWatch, folder: Path) -> None:
    (folder / "more.yaml").write_text(further("hourly"))
    look(watch)
    appeared = names(watch)
    (folder / "more.yaml").write_text(further("hourly", "weekly"))
    look(watch)
    changed = names(watch)
    (folder / "more.yaml").unlink()
    look(watch)

    assert appeared == ["hourly", "nightly"]
    assert changed == ["hourly", "nightly", "weekly"]
    assert names(watch) == ["nightly"]
    assert revisions(watch) == 4
    with watch.database.read() as session:
        latest = schedules.latest_revision(session)
    assert latest is not None
    assert watch.text_hash == latest.text_hash  # or `status` would tell of a file that is not in force


def test_a_further_file_is_taken_only_when_two_looks_found_the_same(watch: FileWatch, folder: Path) -> None:
    whole = further("hourly", "weekly")
    for end in (len(further("hourly")), len(whole)):
        (folder / "more.yaml").write_text(whole[:end])
        look(watch, 1)
    before = names(watch)

    look(watch, 1)

    assert before == ["nightly"]
    assert names(watch) == ["hourly", "nightly", "weekly"]
    assert revisions(watch) == 2


@pytest.mark.parametrize("content", ["schedules: [", further("nightly"), "", None])
def test_a_bad_further_file_keeps_the_last_good_version_of_all(
    watch: FileWatch, file: Path, folder: Path, content: str | None
) -> None:
    file.write_text(file_of("nightly", "new"))
    if content is None:
        (folder / "more.yaml").symlink_to("gone")
    else:
        (folder / "more.yaml").write_text(content)

    look(watch, 3)

    assert names(watch) == ["nightly"]
    assert trouble(watch).startswith(f"{folder}/more.yaml:")


def test_a_config_map_that_swaps_the_folder_of_further_files_is_seen(watch: FileWatch, folder: Path) -> None:
    for version, text in (("..v1", further("hourly")), ("..v2", further("hourly", "weekly"))):
        (folder / version).mkdir()
        (folder / version / "more.yaml").write_text(text)
    (folder / "..data").symlink_to("..v1")
    (folder / "more.yaml").symlink_to("..data/more.yaml")
    look(watch)
    before = names(watch)

    (folder / "..data_tmp").symlink_to("..v2")
    (folder / "..data_tmp").replace(folder / "..data")
    look(watch)

    assert before == ["hourly", "nightly"]
    assert names(watch) == ["hourly", "nightly", "weekly"]


# --- a bad one ------------------------------------------------------------------------------------------------------


def test_a_bad_change_keeps_the_last_good_version_and_is_told(watch: FileWatch, file: Path) -> None:
    file.write_text(file_of("nightly", "hourly", every="never"))

    look(watch, 5)

    assert names(watch) == ["nightly"]
    assert revisions(watch) == 1
    assert trouble(watch).startswith(f"{file}:4:")
    assert watch.trouble is not None
    assert len(watch.trouble["faults"]) == 2
    assert watch.trouble["since"]


def test_a_fix_clears_the_trouble(watch: FileWatch, file: Path) -> None:
    file.write_text("version: 1\n")
    look(watch)
    before = watch.trouble

    file.write_text(file_of("nightly", "hourly"))
    look(watch)

    assert before is not None
    assert watch.trouble is None
    assert names(watch) == ["hourly", "nightly"]


def test_the_last_good_text_again_clears_the_trouble_without_a_revision(watch: FileWatch, file: Path) -> None:
    good = file.read_text()
    file.write_text("")
    look(watch)
    before = watch.trouble

    file.write_text(good)
    look(watch)

    assert before is not None
    assert watch.trouble is None
    assert revisions(watch) == 1


def test_a_file_that_is_deleted_changes_nothing_until_it_is_back(watch: FileWatch, file: Path) -> None:
    good = file.read_text()
    file.unlink()
    look(watch)
    before = trouble(watch)

    file.write_text(good)
    look(watch)

    assert before == f"{file}:1:1: there is no such file"
    assert watch.trouble is None
    assert names(watch) == ["nightly"]
    assert revisions(watch) == 1


def test_of_very_many_faults_the_first_are_kept(watch: FileWatch, file: Path) -> None:
    file.write_text(file_of(*(f"s{number}" for number in range(50)), every="never"))

    look(watch)

    assert watch.trouble is not None
    assert len(watch.trouble["faults"]) == MOST_FAULTS


def test_a_mass_removal_is_refused(watch: FileWatch, file: Path) -> None:
    file.write_text(file_of("a", "b", "c", "d", "nightly"))
    look(watch)

    file.write_text(file_of("nightly"))
    look(watch, 5)

    assert len(names(watch)) == 5
    assert trouble(watch) == (
        "4 of 5 schedules would vanish (a, b, c, d, …); nothing was changed. "
        "If that is meant, say so: `scheduler apply --confirm`."
    )


def test_a_refused_file_that_somebody_then_confirms_is_no_trouble_any_more(watch: FileWatch, file: Path) -> None:
    file.write_text(file_of("a", "b", "c", "d", "nightly"))
    look(watch)
    file.write_text(file_of("nightly"))
    look(watch)
    before = watch.trouble

    confirm(watch, file)
    look(watch, 1)

    assert before is not None
    assert watch.trouble is None
    assert names(watch) == ["nightly"]


def confirm(watch: FileWatch, file: Path) -> None:
    """What `scheduler apply --confirm` does."""
    loaded = load_book(file.read_bytes(), file=str(file), functions=CATALOGUE.functions, broken={}, now=utc_now())
    assert loaded.book is not None
    apply(watch.database, watch.room, loaded.book, file.read_bytes(), confirm=True)


def test_a_file_met_while_sql_is_away_is_judged_later(
    watch: FileWatch, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(file_of("nightly", "hourly"))
    with monkeypatch.context() as patched:
        patched.setattr("scheduler.engine.file.file_watch.apply", _away)
        look(watch, 1)
        with pytest.raises(DatabaseAway):
            look(watch, 1)

    look(watch, 1)

    assert names(watch) == ["hourly", "nightly"]


def _away(*_: object, **__: object) -> None:
    raise DatabaseAway


# --- an outdated copy -----------------------------------------------------------------------------------------------


def test_an_outdated_copy_is_not_taken_at_the_start(
    watch: FileWatch, tmp_path: Path, database: Database, room: WaitingRoom
) -> None:
    """Of two hosts one comes back with the file of last week."""
    copy = tmp_path / "copy.yaml"
    copy.write_text(watch.path.read_text())
    os.utime(copy, ((utc_now() - HOUR).timestamp(),) * 2)
    watch.path.write_text(file_of("nightly", "hourly"))
    look(watch)

    other = FileWatch(copy, database, room, CATALOGUE)
    look(other, 5)

    assert names(other) == ["hourly", "nightly"]
    assert "has replaced since" in trouble(other)


def test_a_rollback_outlives_a_running_watch_and_a_new_one(
    watch: FileWatch, file: Path, database: Database, room: WaitingRoom
) -> None:
    with database.write() as session:
        first = session.execute(select(Revision.id)).scalar_one()
    file.write_text(file_of("nightly", "hourly"))
    look(watch)

    roll_back(database, room, first, CATALOGUE, file)
    look(watch, 3)
    os.utime(file, ((utc_now() + HOUR).timestamp(),) * 2)  # as a ConfigMap that is mounted anew
    restarted = FileWatch(file, database, room, CATALOGUE)
    look(restarted)

    assert names(watch) == ["nightly"]
    assert "has replaced since" in trouble(restarted)
    file.write_text(file_of("nightly", "hourly", "weekly"))  # an edit is what counts
    look(restarted)
    assert names(watch) == ["hourly", "nightly", "weekly"]
    assert restarted.trouble is None


def test_an_operators_pause_survives_a_change_unless_the_file_says_otherwise(watch: FileWatch, file: Path) -> None:
    with watch.database.write() as session:
        session.execute(update(Schedule).values(pause=schedules.pause_fields("jana", "stock", utc_now(), None)))

    file.write_text(file_of("nightly", every="2h"))
    look(watch)
    kept = pause_of_nightly(watch)
    file.write_text(file_of("nightly", every="2h").replace("}}\n", "}, paused: false}\n"))
    look(watch)

    assert kept is not None
    assert kept["why"] == "stock"
    assert pause_of_nightly(watch) is None


def pause_of_nightly(watch: FileWatch) -> dict[str, object] | None:
    with watch.database.read() as session:
        schedule = schedules.by_name(session, "nightly")
        assert schedule is not None
        return schedule.pause


# --- how it is told -------------------------------------------------------------------------------------------------


def tick(watch: FileWatch) -> None:
    """As the keeper on host «here» does."""
    details = {"file": "schedules.yaml", "trouble": watch.trouble, "text_hash": watch.text_hash}
    with watch.database.write() as session:
        parts.tick(session, "keeper@here:1", "keeper", "here", 1, details)


def told(watch: FileWatch) -> list[tuple[bool, str]]:
    """Whether it was refused, and what is said, of each file that is not in force."""
    tick(watch)
    return [(one["refused"], one["message"]) for one in status_of(watch.database, None)["files"]]


def test_of_a_file_in_force_nothing_is_told(watch: FileWatch) -> None:
    assert told(watch) == []


def test_a_refused_file_is_told_by_status_and_doctor(watch: FileWatch, file: Path) -> None:
    file.unlink()
    look(watch)

    assert told(watch) == [(True, f"{file}:1:1: there is no such file")]
    assert "schedule file refused" in status_of(watch.database, None)["problems"]
    (finding,) = [one for one in examine(watch.database, None) if one.name == "file"]
    assert (finding.ok, finding.count) == (False, 1)
    assert finding.message == f"on here: {file}:1:1: there is no such file"
    assert [line for line in status_screen(status_of(watch.database, None), 200) if line.startswith("file")] == [
        f"file       {file}:1:1: there is no such file"
    ]


def test_a_file_that_differs_from_what_another_has_brought_is_told(watch: FileWatch) -> None:
    with watch.database.write() as session:
        other = a_revision(session, accepted_at=utc_now(), text="other", text_hash="other")

    assert told(watch) == [(False, f"schedules.yaml is not the text of revision {other.id}, which is in force")]
    assert "schedule file refused" not in status_of(watch.database, None)["problems"]
    (finding,) = [one for one in examine(watch.database, None) if one.name == "file"]
    assert finding.ok
