"""A worker as a process of its own, with one child for many tasks or one for each: both end right, whatever happens."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from sqlalchemy import select

from scheduler.broker.connection import connect
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.rules.spec import Retry, Timeout
from scheduler.rules.states import CANCELLED, FAILED, FINAL, LOST, SUCCEEDED
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.tables import Attempt, LogChunk, Task
from tests.builders import a_revision, a_task
from tests.servers import start_redis
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]
TWICE = Retry(attempts=2, backoff="fixed", first=dt.timedelta(milliseconds=1))
QUICK = Timeout(soft=dt.timedelta(seconds=0.3), hard=dt.timedelta(seconds=0.8))


class RunningWorker:
    """`scheduler start worker --kind scheduled`, and a dispatcher's part played by whoever waits."""

    def __init__(self, database_url: str, redis_url: str, folder: Path, **settings: str) -> None:
        self.diary = folder / "diary"
        self.log = folder / "worker.log"
        self.database = Database(database_url)
        self.room = WaitingRoom(connect(redis_url))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SCHEDULER_")}
        environment |= {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
            "SCHEDULER_TASK_PACKAGES": "worker_tasks",
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scheduler", "start", "worker", "--kind", "scheduled"],
                cwd=folder,
                env=environment | {f"SCHEDULER_{name.upper()}": value for name, value in settings.items()},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def put(self, task: str, args: dict[str, Any] | None = None, **policy: Any) -> int:
        """A task that is due, and its job in the queue; its id."""
        with self.database.write() as session:
            row = a_task(session, task=task, args=args or {}, policy=TaskPolicy(**policy))
            job = WaitingJob(row.id, 1, row.queue, row.due_at)
        self.room.register([job])
        self.room.enqueue_jobs()
        return row.id

    def run(self, task: str, args: dict[str, Any] | None = None, **policy: Any) -> Task:
        return self.ended(self.put(task, args, **policy))

    def ended(self, task_id: int) -> Task:
        def look() -> Task | None:
            self.room.enqueue_jobs()
            with self.database.read() as session:
                row = session.get_one(Task, task_id)
            return row if row.state in FINAL else None

        return wait_for(look, seconds=40, what=f"task {task_id} to end; {self.log.read_text()}")

    def begun(self, task_id: int) -> int:
        """The process that has begun the first attempt of the task."""

        def look() -> int:
            lines = self.diary.read_text().splitlines() if self.diary.exists() else []
            return next((int(line.split()[2]) for line in lines if line.startswith(f"{task_id} 1 ")), 0)

        return wait_for(look, seconds=40, what=f"task {task_id} to begin; {self.log.read_text()}")

    def attempts(self, task_id: int) -> list[tuple[str | None, str | None]]:
        with self.database.read() as session:
            query = select(Attempt).where(Attempt.task_id == task_id).order_by(Attempt.number)
            return [(one.outcome, one.error_type) for one in session.scalars(query)]

    def lines(self, task_id: int) -> list[str]:
        """What was logged, once it is written."""

        def look() -> list[str]:
            with self.database.read() as session:
                chunks = session.scalars(select(LogChunk).where(LogChunk.task_id == task_id).order_by(LogChunk.id))
                return [line for chunk in chunks for line in chunk.lines.splitlines()]

        return wait_for(look, what=f"the log of task {task_id}")

    def pids(self, number: int, **args: Any) -> list[int]:
        """The processes that so many tasks run in, one after the other."""
        results = [self.run("whoami", args).result for _ in range(number)]
        return [result["pid"] for result in results if result is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        finally:
            self.process.kill()
            self.database.close()
            self.room.redis.close()


@pytest.fixture(scope="module", params=["warm", "fork"])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def worker(isolation: str, migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    """Of the isolation that the file in force names."""
    folder = tmp_path_factory.mktemp(isolation)
    shutil.copyfile(migrated_file, folder / "scheduler.db")
    url = f"sqlite:///{folder / 'scheduler.db'}"
    database = Database(url)
    with database.write() as session:
        a_revision(session, book={"kinds": {"scheduled": {"queue": "scheduled", "isolation": isolation}}})
    database.close()
    with start_redis(folder / "redis") as server, RunningWorker(url, server.url, folder) as running:
        yield running


def test_a_warm_process_runs_many_tasks_and_a_forked_one_runs_one(worker: RunningWorker, isolation: str) -> None:
    pids = worker.pids(3)

    assert len(set(pids)) == (1 if isolation == "warm" else 3)
    assert worker.process.pid not in pids


def test_a_task_whose_process_is_killed_runs_again_in_another(worker: RunningWorker) -> None:
    task_id = worker.put("hang_at_first", {"diary": str(worker.diary)}, retry=TWICE)
    pid = worker.begun(task_id)

    os.kill(pid, signal.SIGKILL)

    task = worker.ended(task_id)
    assert worker.attempts(task_id) == [(LOST, "ProcessKilled"), (SUCCEEDED, None)]
    assert task.state == SUCCEEDED
    assert task.result is not None
    assert task.result["pid"] != pid


def test_a_task_that_ignores_its_timeout_is_killed_and_the_next_one_runs(worker: RunningWorker) -> None:
    task = worker.run("swallow", {"diary": str(worker.diary)}, timeout=QUICK)

    assert (task.state, worker.attempts(task.id)) == (FAILED, [("timed_out", "TaskTimeout")])
    assert task.error is not None
    assert task.error["message"] == "did not end by its timeout; its process was killed"
    assert len(worker.pids(1)) == 1


def test_a_task_that_is_asked_to_stop_ends_and_the_next_one_is_not_stopped(worker: RunningWorker) -> None:
    task_id = worker.put("until_stopped", {"diary": str(worker.diary)})
    worker.begun(task_id)

    with worker.database.write() as session:
        assert tasks.request_stop(session, task_id, "jana")

    assert worker.ended(task_id).state == CANCELLED
    assert worker.attempts(task_id) == [(CANCELLED, None)]
    assert len(worker.pids(1)) == 1


def test_a_task_that_fails_is_tried_again(worker: RunningWorker) -> None:
    task = worker.run("fail_at_first", retry=TWICE)

    assert (task.state, worker.attempts(task.id)) == (SUCCEEDED, [(FAILED, "RuntimeError"), (SUCCEEDED, None)])


def test_what_a_function_changes_of_its_process_is_as_before_for_the_next(worker: RunningWorker) -> None:
    before = worker.run("look_around")

    mess = worker.run("leave_a_mess")
    after = worker.run("look_around")

    assert (mess.state, after.state) == (SUCCEEDED, SUCCEEDED), (mess.error, after.error)
    assert after.result == before.result
    assert [line[9:] for line in worker.lines(after.id)] == ["OUT printed", "INFO logged"]
    assert (worker.log.parent / "var" / "artifacts" / str(mess.id) / "1" / "1").read_text() == "hello"


# --- a warm process is replaced -------------------------------------------------------------------------------------


@pytest.fixture
def file_url(migrated_file: Path, tmp_path: Path) -> str:
    shutil.copyfile(migrated_file, tmp_path / "scheduler.db")
    return f"sqlite:///{tmp_path / 'scheduler.db'}"


def test_a_process_is_replaced_after_so_many_tasks(file_url: str, redis_url: str, tmp_path: Path) -> None:
    with RunningWorker(file_url, redis_url, tmp_path, child_tasks="2") as worker:
        first, second, third, fourth = worker.pids(4)

    assert (first, third) == (second, fourth)
    assert first != third


def test_a_process_that_has_grown_is_replaced_between_two_tasks(file_url: str, redis_url: str, tmp_path: Path) -> None:
    with RunningWorker(file_url, redis_url, tmp_path, child_memory_mb="250") as worker:
        small, other_small = worker.pids(2)
        large, after_it = *worker.pids(1, hoard_mb=300), *worker.pids(1)

    assert small == other_small == large
    assert after_it != large


def test_a_process_without_a_file_to_open_ends_its_task_and_is_replaced(
    file_url: str, redis_url: str, tmp_path: Path
) -> None:
    with RunningWorker(file_url, redis_url, tmp_path) as worker:
        ends = [worker.run("use_up_files", {"returns": returns}) for returns in (True, False)]
        after = worker.run("whoami")

    assert [(one.state, (one.error or {}).get("message")) for one in ends] == [
        (SUCCEEDED, None),
        (FAILED, "too many open files"),
    ]
    assert after.state == SUCCEEDED


def test_a_process_is_replaced_when_it_is_old_also_when_it_has_nothing_to_do(
    file_url: str, redis_url: str, tmp_path: Path
) -> None:
    with RunningWorker(file_url, redis_url, tmp_path, child_seconds="1") as worker:
        (young,) = worker.pids(1)

        wait_for(lambda: not Path(f"/proc/{young}").exists(), seconds=30, what="the process to end")

        assert worker.pids(1) != [young]


# --- ended while it starts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["dispatcher", "keeper", "worker"])
def test_a_part_that_is_ended_while_it_starts_ends(file_url: str, redis_url: str, tmp_path: Path, part: str) -> None:
    ended = "from scheduler.engine.loops import Stop; stop = Stop().listen(); os.kill(os.getpid(), signal.SIGTERM)"
    room = "keeper" if part == "keeper" else "parts"
    kind = '"scheduled", ' if part == "worker" else ""
    run = f"from scheduler.engine.{room} import run_{part} as run; run(load_settings(), {kind}stop)"

    done = subprocess.run(
        [sys.executable, "-c", f"import os, signal; from scheduler.settings import load_settings; {ended}; {run}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DATABASE_URL": file_url, "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=40,
    )

    assert (done.returncode, done.stderr) == (0, "")
