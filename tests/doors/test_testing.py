"""What others test their schedules and task functions with."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from scheduler.errors import FileFaults, NotFound
from scheduler.testing import Simulated, run_next, simulate

MINUTE = dt.timedelta(minutes=1)
HEAD = "version: 1\ntimezone: Europe/Berlin\nschedules:\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "schedules.yaml"
    path.write_text(
        HEAD
        + """
  nightly: {task: count_words, args: {source: notes.txt}, when: {at: "02:30"}, grace: 10m}
  often: {task: count_words, args: {source: notes.txt}, when: {every: 5m}, grace: 1m, missed: none}
"""
    )
    (tmp_path / "notes.txt").write_text("one two two")
    return path


def told(found: list[Simulated], schedule: str) -> list[tuple[str, str]]:
    return [(f"{one.fire_time:%d %H:%M}", one.state) for one in found if one.schedule == schedule]


def test_days_are_simulated_through_a_clock_change(file: Path) -> None:
    found = simulate(file, "2026-03-27T12:00", "2026-03-30T12:00")

    assert told(found, "nightly") == [("28 01:30", "fired"), ("29 01:00", "fired"), ("30 00:30", "fired")]
    assert len(told(found, "often")) == 3 * 24 * 12


def test_what_passes_while_the_service_is_down_is_caught_up_or_missed(file: Path) -> None:
    down = [("2026-11-24T01:00", "2026-11-24T01:45")]

    found = simulate(file, "2026-11-24T00:50", "2026-11-24T01:50", down=down)

    (nightly,) = [one for one in found if one.schedule == "nightly"]
    assert (nightly.state, nightly.reason) == ("fired", "caught up 15m late (missed: latest)")
    assert told(found, "often") == [
        ("24 00:55", "fired"),
        ("24 01:00", "fired"),
        *((f"24 01:{minute:02}", "missed") for minute in range(5, 45, 5)),
        *((f"24 01:{minute:02}", "fired") for minute in (45, 50)),
    ]


def test_runs_that_last_longer_than_their_interval_are_skipped(file: Path) -> None:
    found = simulate(file, "2026-11-24T02:00", "2026-11-24T02:20", takes={"often": 7 * MINUTE})

    assert [one.state for one in found] == ["fired", "skipped", "fired", "skipped"]
    assert found[1].reason == "overlap: skip"


def test_a_faulty_file_is_told_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "schedules.yaml"
    path.write_text(HEAD + "  nightly: {task: count_words, when: {at: '25:00'}}\n")

    with pytest.raises(FileFaults, match='schedule "nightly"'):
        simulate(path, "2026-11-24", "2026-11-25")


def test_the_next_occurrence_runs_in_this_process(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)

    task = run_next("nightly", file, now="2026-11-24T00:00")

    assert task.state == "succeeded"
    assert task.fire_time == dt.datetime(2026, 11, 24, 1, 30, tzinfo=dt.UTC)
    assert task.result is not None
    assert task.result["words"] == 3
    assert task.idempotency_key == "nightly@2026-11-24T01:30:00Z"


def test_a_failing_function_leaves_its_error_in_the_row(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    (file.parent / "notes.txt").unlink()

    task = run_next("nightly", file, now="2026-11-24T00:00")

    assert task.state == "failed"
    assert task.error is not None
    assert task.error["type"] == "SourceFault"


def test_the_function_sees_the_clock_of_its_due_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clock_tasks.py").write_text(
        "import datetime\nfrom scheduler import task\n\n@task\ndef what_day() -> str:\n"
        "    return datetime.date.today().isoformat()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "schedules.yaml"
    path.write_text(HEAD + "  day: {task: what_day, when: {once: '2031-05-06 12:00'}}\n")

    task = run_next("day", path, now="2026-11-24T00:00", task_packages=["clock_tasks"])

    assert task.result == {"value": "2031-05-06"}


def test_a_schedule_that_is_not_there_or_over_is_refused(file: Path) -> None:
    with pytest.raises(NotFound, match='There is no schedule "weekly"'):
        run_next("weekly", file, now="2026-11-24T00:00")
