"""The page of one task: the end of its log, its result, its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scheduler.clock import utc_now
from scheduler.engine.answers.views import task_of
from scheduler.engine.page.task import (
    kept_file,
    log_since,
    log_tail,
    pictures_of_set,
    set_picture,
    shown_result,
    why_it_waits,
)
from scheduler.engine.work.artifacts import keep_files, record
from scheduler.errors import NotFound
from scheduler.result_kinds import File
from scheduler.rules.states import QUEUED, SUCCEEDED
from scheduler.settings import Settings
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.tables import Artifact, Part
from tests.builders import HOUR, MINUTE, a_task, at


def test_the_tail_of_a_short_log_is_all_of_it(database: Database) -> None:
    with database.write() as session:
        task_id = a_task(session).id
        tasks.write_log(session, task_id, 1, ["one", "two"])
        tasks.write_log(session, task_id, 2, ["three"])

    tail = log_tail(database, task_id)

    assert [(piece.attempt, piece.lines) for piece in tail.pieces] == [(1, ["one", "two"]), (2, ["three"])]
    assert not tail.is_cut
    assert log_since(database, task_id, tail.pieces[0].id) == tail.pieces[1:]
    assert log_since(database, task_id, tail.last) == ()


def test_of_a_long_log_whole_lines_of_its_end_are_shown(database: Database) -> None:
    with database.write() as session:
        task_id = a_task(session).id
        tasks.write_log(session, task_id, 1, [f"line {number}" for number in range(100)])
        tasks.write_log(session, task_id, 1, ["the last"])

    tail = log_tail(database, task_id, letters=30)

    assert [piece.lines for piece in tail.pieces] == [["line 98", "line 99"], ["the last"]]
    assert tail.is_cut


def test_a_long_line_alone_at_the_end_is_left_to_the_whole_log(database: Database) -> None:
    with database.write() as session:
        task_id = a_task(session).id
        tasks.write_log(session, task_id, 1, ["first"])
        tasks.write_log(session, task_id, 1, ["x" * 100])

    tail = log_tail(database, task_id, letters=30)

    assert (tail.pieces, tail.is_cut) == ((), True)


def test_a_log_that_is_not_there_has_no_tail(database: Database) -> None:
    assert log_tail(database, 7).pieces == ()
    assert log_tail(database, 7).last == 0


@pytest.mark.parametrize(
    ("kind", "result", "told"),
    [
        pytest.param("json", {"words": 3}, ("json", '{"words": 3}', ""), id="json"),
        pytest.param("json", {"value": [1, 2]}, ("json", "[1, 2]", ""), id="no dict"),
        pytest.param("text", {"value": "all\nis well"}, ("text", "all\nis well", ""), id="text"),
        pytest.param("html", {"value": "<b>x</b>"}, ("html", "<b>x</b>", ""), id="html"),
        pytest.param("link", {"value": "https://e.org", "title": "here"}, ("link", "https://e.org", "here"), id="link"),
        pytest.param("link", {"odd": 1}, ("json", '{"odd": 1}', ""), id="a kind that does not fit its value"),
    ],
)
def test_a_result_is_shown_by_its_kind(
    database: Database, kind: str, result: dict[str, object], told: tuple[str, str, str]
) -> None:
    with database.write() as session:
        task_id = a_task(session, state=SUCCEEDED, result=result, result_kind=kind).id

    shown = shown_result(task_of(database, task_id))

    assert shown is not None
    assert (shown.kind, shown.text, shown.title) == told
    assert not shown.is_cut


def test_a_long_result_is_cut_and_none_is_none(database: Database) -> None:
    with database.write() as session:
        long = a_task(session, state=SUCCEEDED, result={"value": "x" * 100}, result_kind="text").id
        none = a_task(session, state=SUCCEEDED).id

    shown = shown_result(task_of(database, long), letters=10)

    assert shown is not None
    assert (shown.text, shown.is_cut) == ("x" * 10, True)
    assert shown_result(task_of(database, none)) is None


# --- files ----------------------------------------------------------------------------------------------------------


def a_kept_file(
    database: Database, data: Path, name: str = "report.txt", keep: bool = True
) -> tuple[int, int, Settings]:
    """A task with a file that it left: (task id, file id, settings)."""
    settings = Settings(data=data)
    source = data / "source.txt"
    source.write_text("what it found")
    with database.write() as session:
        task_id = a_task(session, state=SUCCEEDED, fire_time=at("10:00"), result_kind="file").id
        record(session, task_id, 1, keep_files([File(source, name=name, keep=keep)], settings, task_id, 1))
        [row] = session.query(Artifact).filter_by(task_id=task_id)
        return task_id, row.id, settings


def test_a_file_is_found_by_its_row(database: Database, tmp_path: Path) -> None:
    task_id, file_id, settings = a_kept_file(database, tmp_path, name='../"x\n.txt')

    with kept_file(database, settings, task_id, file_id) as kept:
        assert kept.file.read() == b"what it found"
        assert (kept.size, kept.sent_as) == (13, "application/octet-stream")


def test_a_file_of_another_task_is_not_found(database: Database, tmp_path: Path) -> None:
    task_id, file_id, settings = a_kept_file(database, tmp_path)

    with pytest.raises(NotFound) as caught, kept_file(database, settings, task_id + 1, file_id):
        pass

    assert str(caught.value) == f"Task {task_id + 1} has no file {file_id}"


def test_a_file_that_was_left_where_it_is_is_not_sent(database: Database, tmp_path: Path) -> None:
    task_id, file_id, settings = a_kept_file(database, tmp_path, keep=False)

    with pytest.raises(NotFound) as caught, kept_file(database, settings, task_id, file_id):
        pass

    assert str(caught.value) == f"The file was left where it is, on the host of its worker: {tmp_path / 'source.txt'}"


@pytest.mark.parametrize("path", ["../../outside.txt", "1/1/../../../../outside.txt", "1/../../../outside.txt"])
def test_a_path_that_leads_out_is_not_followed(database: Database, tmp_path: Path, path: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "outside.txt").write_text("secret")
    task_id, file_id, settings = a_kept_file(database, data)
    with database.write() as session:
        session.query(Artifact).update({"path": path})

    with pytest.raises(NotFound), kept_file(database, settings, task_id, file_id):
        pass


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_that_a_task_made_in_its_place_is_not_followed(database: Database, tmp_path: Path, what: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "1").write_text("secret")
    task_id, file_id, settings = a_kept_file(database, data)
    place = data / "artifacts" / str(task_id) / "1" / "1"
    place.unlink()
    if what == "file":
        place.symlink_to(tmp_path / "outside" / "1")
    else:
        place.parent.rmdir()
        place.parent.symlink_to(tmp_path / "outside")

    with pytest.raises(NotFound) as caught, kept_file(database, settings, task_id, file_id):
        pass

    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_is_gone_or_a_pipe_is_told(database: Database, tmp_path: Path) -> None:
    task_id, file_id, settings = a_kept_file(database, tmp_path)
    place = tmp_path / "artifacts" / str(task_id) / "1" / "1"

    place.unlink()
    with pytest.raises(NotFound) as gone, kept_file(database, settings, task_id, file_id):
        pass
    os.mkfifo(place)
    with pytest.raises(NotFound) as pipe, kept_file(database, settings, task_id, file_id):
        pass

    assert str(gone.value) == (
        f"File {file_id} of task {task_id} is gone: No such file or directory. Is the data folder that of its worker?"
    )
    assert str(pipe.value) == f"File {file_id} of task {task_id} is no regular file"


# --- the pictures of a set ------------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n and so on"


def a_set(database: Database, *files: object) -> int:
    """A task whose result names these pictures."""
    with database.write() as session:
        result = {"images": [{"file": str(file), "width": 1} for file in files]}
        return a_task(session, state=SUCCEEDED, result=result, result_kind="json").id


def test_pictures_that_a_result_names_are_found_in_the_data_folder(database: Database, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    inside, outside = data / "images" / "a.png", tmp_path / "b.png"
    inside.write_bytes(PNG)
    outside.write_bytes(PNG)
    task_id = a_set(database, inside, outside)
    settings = Settings(data=data)

    assert pictures_of_set(task_of(database, task_id), settings) == [(1, "a.png")]
    with set_picture(database, settings, task_id, 1) as kept:
        assert (kept.sent_as, kept.file.read()) == ("image/png", PNG)
    for number, why in ((2, "is not where files are kept"), (3, "is not there"), (0, "is not there")):
        with pytest.raises(NotFound) as caught, set_picture(database, settings, task_id, number):
            pass
        assert str(caught.value) == f"Picture {number} of task {task_id} {why}"


def test_what_is_no_picture_is_not_sent_as_one_and_links_are_not_followed(database: Database, tmp_path: Path) -> None:
    (tmp_path / "secrets.sqlite").write_bytes(b"SQLite format 3\0")
    (tmp_path / "a.png").write_text("<svg onload=alert(1)>")
    (tmp_path / "link.png").symlink_to(tmp_path / "secrets.sqlite")
    task_id = a_set(
        database,
        tmp_path / "secrets.sqlite",
        tmp_path / "a.png",
        tmp_path / "link.png",
        tmp_path / "x" / ".." / "a.png",
    )

    for number in (1, 2, 3, 4):
        with pytest.raises(NotFound), set_picture(database, Settings(data=tmp_path), task_id, number):
            pass


@pytest.mark.parametrize(
    "result", [None, {}, {"images": 3}, {"images": [3, None, {"file": 4}, {"file": "a\0b"}]}, {"images": [{}]}]
)
def test_a_result_that_names_no_pictures_has_none(database: Database, tmp_path: Path, result: object) -> None:
    with database.write() as session:
        task_id = a_task(session, state=SUCCEEDED).id

    assert pictures_of_set({**task_of(database, task_id), "result": result}, Settings(data=tmp_path)) == []


# --- why it waits ---------------------------------------------------------------------------------------------------


def test_a_task_that_is_due_tells_what_keeps_it(database: Database) -> None:
    now = utc_now()
    with database.write() as session:
        lone = a_task(session, state=QUEUED, kind="long", due_at=now - MINUTE).id
        later = a_task(session, kind="long", fire_time=now + HOUR).id
        served = a_task(session, state=QUEUED, due_at=now - MINUTE).id
        stuck = a_task(session, due_at=now - MINUTE).id
        over = a_task(session, state=SUCCEEDED, due_at=now - MINUTE).id
        tick = {"host": "here", "pid": 1, "started_at": now, "details": {}}
        session.add(Part(name="w", part="worker-scheduled", ticked_at=now + HOUR, **tick))

    told = {one: why_it_waits(database, task_of(database, one)) for one in (lone, later, served, stuck, over)}

    assert told[lone] == "It waits 1 m for a worker: none of kind long has ticked lately. Start one."
    assert told[stuck] == "It waits 1 m for the dispatcher, which has not ticked lately."
    assert (told[later], told[served], told[over]) == ("", "", "")
