"""Files as results: kept whole under a name of ours or refused; told in SQL with the end; swept later."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from scheduler.engine.answers.views import task_of
from scheduler.engine.work import artifacts
from scheduler.engine.work.artifacts import FileRefused, keep_files
from scheduler.engine.work.outcomes import Held, end_well
from scheduler.result_kinds import File
from scheduler.rules.states import FAILED, SUCCEEDED
from scheduler.rules.task.policy import TaskPolicy
from scheduler.settings import Settings
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.tables import Artifact
from scheduler.store.tasks import AttemptEnd
from tests.builders import a_task


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", max_artifact_mb=1)


def claimed(database: Database) -> Held:
    """A task that runs its first attempt."""
    with database.write() as session:
        task_id = a_task(session).id
        lease = dt.timedelta(minutes=1)
        taken = tasks.claim(session, task_id, 1, token="t", worker="w", host="h", pid=1, lease=lease)
    assert taken is not None
    return Held(task_id, 1, "t", TaskPolicy.model_validate(taken.policy), "adhoc", None, None, taken.started_at)


def files_in(settings: Settings) -> list[str]:
    root = settings.data / "artifacts"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_a_file_is_copied_under_a_name_of_ours(settings: Settings, tmp_path: Path) -> None:
    report, table = tmp_path / "report.pdf", tmp_path / "table"
    report.write_bytes(b"%PDF")
    table.write_bytes(b"1,2")

    kept = keep_files([File(report), File(str(table), name="../t\n.csv", media_type="text/csv")], settings, 7, 2)

    assert [one.told() for one in kept] == [
        {
            "name": "report.pdf",
            "size": 4,
            "media_type": "application/pdf",
            "sha256": hashlib.sha256(b"%PDF").hexdigest(),
        },
        {"name": "../t.csv", "size": 3, "media_type": "text/csv", "sha256": hashlib.sha256(b"1,2").hexdigest()},
    ]
    assert [one.path for one in kept] == ["7/2/1", "7/2/2"]
    assert files_in(settings) == ["7/2/1", "7/2/2"]
    assert artifacts.place_of(settings, "7/2/1").read_bytes() == b"%PDF"
    assert report.exists()


def test_a_file_may_stay_where_it_is(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")

    [kept] = keep_files([File(tmp_path / "a", keep=False)], settings, 7, 1)
    [in_a_test] = keep_files([File(tmp_path / "a")], None, 7, 1)

    assert (kept.path, kept.size, kept.media_type) == (str(tmp_path / "a"), 3, "application/octet-stream")
    assert in_a_test == kept
    assert artifacts.place_of(settings, kept.path) == tmp_path / "a"
    assert files_in(settings) == []


@pytest.mark.parametrize(
    ("file", "message"),
    [
        pytest.param(File("FOLDER/none"), 'the file "FOLDER/none" of the result is not there', id="none"),
        pytest.param(File("FOLDER"), 'the file "FOLDER" of the result is no regular file', id="a folder"),
        pytest.param(File("FOLDER/pipe"), 'the file "FOLDER/pipe" of the result is no regular file', id="a pipe"),
        pytest.param(
            File("FOLDER/link"),
            'the file "FOLDER/link" of the result is a symbolic link: return the file itself',
            id="a link",
        ),
        pytest.param(
            File("FOLDER/large"),
            'the file "large" of the result has more than 1 MiB (the setting max_artifact_mb)',
            id="too large",
        ),
        pytest.param(
            File("FOLDER/a", media_type="text/html\r\nX: y"),
            '"text/html\r\nX: y" is no media type; give one like "application/pdf"',
            id="a media type with a header in it",
        ),
        pytest.param(
            File("a\x00b"), 'the file "a\x00b" of the result cannot be kept: embedded null byte', id="a NUL in its name"
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_and_leaves_nothing(
    settings: Settings, tmp_path: Path, file: File, message: str
) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    os.mkfifo(tmp_path / "pipe")
    path = str(file.path).replace("FOLDER", str(tmp_path))

    with pytest.raises(FileRefused) as refused:
        keep_files([File(tmp_path / "a"), File(path, media_type=file.media_type)], settings, 7, 1)

    assert str(refused.value).replace(str(tmp_path), "FOLDER") == message
    assert files_in(settings) == []


def test_a_disk_without_room_fails_the_run(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    folder = settings.data / "artifacts" / "7" / "1"
    folder.mkdir(parents=True)
    (folder / "1.part").symlink_to("/dev/full")

    with pytest.raises(FileRefused) as refused:
        keep_files([File(tmp_path / "a")], settings, 7, 1)

    assert str(refused.value) == (
        f'the file "{tmp_path}/a" of the result cannot be kept: no room is left in the data folder'
    )
    assert not folder.exists()


def test_a_file_comes_from_where_tasks_may_read_also_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside, tmp_path / "tmp"):
        folder.mkdir()
        (folder / "a").write_bytes(b"one")
    (inside / "way-out").symlink_to(outside)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    settings = Settings(data=tmp_path / "data", source_folders=f"{inside}:/srv/in")

    keep_files([File(inside / "a"), File(tmp_path / "tmp" / "a")], settings, 7, 1)
    for path in (outside / "a", inside / "way-out" / "a", inside / ".." / "out" / "a"):
        with pytest.raises(FileRefused) as refused:
            keep_files([File(path)], settings, 7, 2)

        assert str(refused.value) == (
            f'the file "{path}" of the result is outside of source_folders and of the folder for '
            "temporary files: write it there, or widen the setting"
        )


def test_the_rows_come_with_the_end_of_the_attempt_or_not_at_all(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    held = claimed(database)
    kept = keep_files([File(tmp_path / "a.txt")], settings, held.task_id, 1)
    result: dict[str, Any] = {"files": [one.told() for one in kept]}

    with database.write() as session:
        first = end_well(session, held, result, result_kind="file", files=kept)
    with database.write() as session:
        second = end_well(session, held, result, result_kind="file", files=kept)

    assert (first, second) == ([], None)
    told = task_of(database, held.task_id)
    [artifact] = told["artifacts"]
    assert (told["state"], told["result_kind"], told["result"]) == (SUCCEEDED, "file", result)
    assert {name: artifact[name] for name in ("id", "name", "size", "path")} == {
        "id": 1,
        "name": "a.txt",
        "size": 3,
        "path": f"{held.task_id}/1/1",
    }


def test_a_sweep_removes_what_no_row_names_and_nothing_else(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"one")
    running, told, untold = claimed(database), claimed(database), claimed(database)
    for held in (running, untold):
        keep_files([File(tmp_path / "a")], settings, held.task_id, 1)
    with database.write() as session:
        kept = keep_files([File(tmp_path / "a")], settings, told.task_id, 1)
        end_well(session, told, {}, result_kind="file", files=kept)
        tasks.end(session, untold.task_id, 1, "t", FAILED, AttemptEnd(FAILED))
    keep_files([File(tmp_path / "a")], settings, 999, 1)  # of a task that was deleted
    stranger = settings.data / "artifacts" / "not-ours"
    stranger.mkdir()

    removed = artifacts.sweep(database, settings)

    assert removed == 2
    assert files_in(settings) == [f"{running.task_id}/1/1", f"{told.task_id}/1/1"]
    assert stranger.exists()
    assert artifacts.sweep(database, settings) == 0
    with database.read() as session:
        assert session.scalars(select(Artifact.task_id)).all() == [told.task_id]
