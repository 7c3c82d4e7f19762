"""What was answered before the power failed is there afterwards, as far as that can be shown without a switch.

PostgreSQL crashes under load and recovers from its log: what it had not written yet is gone. The file of SQLite and its
log are copied while a process that writes is halted, and after it was killed. In both cases the system lives on, and
with it what was written and not yet flushed: that SQLite is told to wait for the disk at each end is seen to in
tests/store/test_direct.py; that it does, and that the disk speaks the truth, no test of ours can see.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import shutil
import signal
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self

import psycopg
import pytest
from sqlalchemy import make_url, select, update

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine.check.doctor import broken_invariants
from scheduler.engine.reconcile import Reconcile
from scheduler.errors import DatabaseAway
from scheduler.rules.spec import Retry
from scheduler.rules.states import FINAL, LOST, QUEUED, RUNNING, SUCCEEDED
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import tasks
from scheduler.store.database import Database
from scheduler.store.direct import Direct
from scheduler.store.migrate import migrate
from scheduler.store.tables import Attempt, Task
from scheduler.store.tasks import AttemptEnd
from scheduler.store.types import micros
from tests.builders import HOUR, a_task
from tests.servers import PostgresServer, start_postgres
from tests.waiting import wait_for

WORKERS = 3  # threads
ROWS = 120  # a round
MOST_ANSWERS = 130  # of a round, to be in the midst of it
ROUNDS = 4
COPIES = 4
on_one_server = pytest.mark.xdist_group("a server that crashes")  # in one pytest process: to start it takes seconds
WHO: dict[str, Any] = {"worker": "w1", "host": "here", "pid": 7, "lease": HOUR}
SOON = Retry(attempts=9, backoff="fixed", first=dt.timedelta(milliseconds=1))
ONCE = TaskPolicy(delivery="at_most_once")
PLAIN = TaskPolicy(retry=SOON)
LIMITED = TaskPolicy(retry=SOON, max_running=WORKERS * ROWS)


@dataclass(frozen=True)
class Answer:
    """What a worker was told: that it has an attempt, or that the attempt's end counts."""

    word: str  # has, ended
    task_id: int
    token: str


Say = Callable[[Answer], object]


def rows_of_all_kinds(database: Database) -> list[int]:
    """Plain ones, such as run at most once, such as hold a lane, and such whose kind has a limit; in turn."""
    with database.write() as session:
        return [
            a_task(session, state=QUEUED, **fields).id
            for _ in range(ROWS // 4)
            for fields in (
                {"policy": PLAIN},
                {"policy": ONCE},
                {"policy": PLAIN, "lane": f"group:{uuid.uuid4()}"},
                {"policy": LIMITED, "kind": "adhoc"},
            )
        ]


def work(database: Database, rows: Iterable[tuple[int, int]], say: Say, *, leave: int = 5) -> bool:
    """Claim and end row after row, as workers do; each `leave`-th goes on running. False when the database is away."""
    direct = Direct(database)
    try:
        for number, (task_id, attempt) in enumerate(rows, start=1):
            token = str(uuid.uuid4())
            if direct.claim(task_id, attempt, token=token, **WHO) is None:
                continue
            say(Answer("has", task_id, token))
            if number % leave and end(database, direct, task_id, attempt, token, by_session=number % 2 == 0):
                say(Answer("ended", task_id, token))
        return True
    except DatabaseAway:
        return False
    finally:
        direct.close()


def end(database: Database, direct: Direct, task_id: int, attempt: int, token: str, *, by_session: bool) -> bool:
    if not by_session:
        return direct.end_plainly(task_id, attempt, token, {"token": token}, "json", 0)
    with database.write() as session:
        outcome = AttemptEnd(SUCCEEDED)
        return tasks.end(session, task_id, attempt, token, SUCCEEDED, outcome, result={"token": token})


def first_attempts(ids: Sequence[int]) -> list[list[tuple[int, int]]]:
    """The rows of each worker."""
    return [[(one, 1) for one in ids[start::WORKERS]] for start in range(WORKERS)]


# --- what has to be so afterwards -----------------------------------------------------------------------------------


def expect_what_was_answered(database: Database, answers: Sequence[Answer]) -> None:
    """Every end is there, and every claim whose loss would break a promise."""
    ended = {one.task_id: one.token for one in answers if one.word == "ended"}
    has = {one.task_id: one.token for one in answers if one.word == "has"}
    with database.read() as session:
        rows = {row.id: row for row in session.scalars(select(Task))}
        successes = [tuple(row) for row in session.execute(successes_of(ended))]

    assert {one: (rows[one].state, rows[one].result) for one in ended} == {
        one: (SUCCEEDED, {"token": token}) for one, token in ended.items()
    }
    assert sorted(successes) == sorted(ended.items())
    must_last = [one for one in has if not may_be_taken_back(rows[one])]
    assert {one: rows[one].token for one in must_last} == {one: has[one] for one in must_last}


def successes_of(ids: Iterable[int]) -> Any:
    return select(Attempt.task_id, Attempt.token).where(Attempt.task_id.in_(ids), Attempt.outcome == SUCCEEDED)


def may_be_taken_back(row: Task) -> bool:
    return row.lane is None and row.policy["max_running"] is None and not is_once(row)


def is_once(row: Task) -> bool:
    return bool(row.policy["delivery"] == "at_most_once")


def run_what_is_left(database: Database, room: WaitingRoom, answers: list[Answer]) -> None:
    """As the service would: leases end, reconcile sees to what ran, and the rest is claimed and ended."""
    with database.write() as session:
        session.execute(
            update(Task).where(Task.state == RUNNING).values(lease_until=Task.lease_until - micros(2 * HOUR))
        )
    Reconcile(database, room).step()
    with database.read() as session:
        left = [(row.id, row.attempt + 1) for row in session.scalars(select(Task).where(Task.state.not_in(FINAL)))]
    assert work(database, left, answers.append, leave=len(left) + 1)


def expect_one_end_each(database: Database, answers: Sequence[Answer]) -> None:
    with database.read() as session:
        rows = list(session.scalars(select(Task)))
        successes = Counter(row.task_id for row in session.execute(successes_of(select(Task.id))))
    once = {row.id for row in rows if is_once(row)}

    assert {row.state for row in rows if row.id not in once} == {SUCCEEDED}
    assert {row.state for row in rows if row.id in once} <= {SUCCEEDED, LOST}
    assert successes == Counter(row.id for row in rows if row.state == SUCCEEDED)
    told = Counter((one.word, one.task_id) for one in answers)
    assert [one for one, times in told.items() if times > 1 and (one[0] == "ended" or one[1] in once)] == []


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server of our own, even where another is named: nobody else's may be made to crash."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SCHEDULER_TEST_PG_URL", raising=False)
        own = start_postgres(tmp_path_factory.mktemp("postgres"), durable=True)
    with own:
        be_slow_to_flush(own)
        yield own


def be_slow_to_flush(server: PostgresServer) -> None:
    """Else it would flush within 0.2 s what nobody waits for, and a crash would hardly find anything to take back."""
    url = make_url(server.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        admin.execute("SELECT pg_reload_conf()")


@pytest.fixture
def postgres(server: PostgresServer) -> Iterator[Database]:
    database = Database(server.create_database())
    migrate(database)
    yield database
    database.close()
    server.drop(database.url)


@on_one_server
def test_a_crash_of_postgresql_under_load_loses_no_end_and_doubles_nothing(
    server: PostgresServer, postgres: Database, room: WaitingRoom
) -> None:
    answers: list[Answer] = []
    for number in range(ROUNDS):
        ids = rows_of_all_kinds(postgres)
        enough = len(answers) + random.Random(number).randrange(20, MOST_ANSWERS)

        with ThreadPoolExecutor(WORKERS) as pool:
            workers = [pool.submit(work, postgres, rows, answers.append) for rows in first_attempts(ids)]
            wait_for(lambda enough=enough: len(answers) >= enough, every=0.001, what="answers")  # type: ignore[misc]
            server.crash()
        server.restart()

        assert not all(worker.result() for worker in workers), "they had got through before"
        expect_what_was_answered(postgres, answers)

    run_what_is_left(postgres, room, answers)
    expect_one_end_each(postgres, answers)
    assert broken_invariants(postgres, room) == []


@on_one_server
def test_a_claim_that_a_crash_of_postgresql_takes_back_comes_again(
    server: PostgresServer, postgres: Database, room: WaitingRoom
) -> None:
    answers: list[Answer] = []
    with postgres.write() as session:
        waiting = [a_task(session, state=QUEUED, policy=PLAIN).id for _ in range(20)]
        once = a_task(session, state=QUEUED, policy=ONCE).id

    work(postgres, [(one, 1) for one in (once, *waiting)], answers.append, leave=1)
    server.crash()
    server.restart()

    with postgres.read() as session:
        states = {row.id: row.state for row in session.execute(select(Task.id, Task.state))}
    assert len(answers) == 21
    assert states == {once: RUNNING, **dict.fromkeys(waiting, QUEUED)}
    run_what_is_left(postgres, room, answers)
    expect_one_end_each(postgres, answers)
    assert broken_invariants(postgres, room) == []


# --- SQLite ---------------------------------------------------------------------------------------------------------


def test_each_copy_of_a_sqlite_file_and_its_log_holds_what_was_answered(
    migrated_file: Path, tmp_path: Path, room: WaitingRoom
) -> None:
    file = tmp_path / "scheduler.db"
    shutil.copyfile(migrated_file, file)
    database = Database(f"sqlite:///{file}", pooled=False)
    ids = rows_of_all_kinds(database)
    database.close()
    copies: list[tuple[Path, list[Answer]]] = []

    with Working(database.url, ids) as process:
        for number in range(1, COPIES + 1):
            wait_for(partial(process.has_told, number * MOST_ANSWERS // (COPIES + 1)), every=0.001, what="answers")
            with process.halted():
                copies.append((copied(file, tmp_path / str(number)), process.answers()))
        wait_for(partial(process.has_told, MOST_ANSWERS), every=0.001, what="answers")
    copies.append((copied(file, tmp_path / "killed"), process.answers()))

    for copy, answers in copies:
        with opened(f"sqlite:///{copy}") as of_then:
            room.redis.flushall()  # it was lost along with the machine
            expect_what_was_answered(of_then, answers)
            run_what_is_left(of_then, room, answers)
            expect_one_end_each(of_then, answers)
            assert broken_invariants(of_then, room) == []


class Working:
    """A process that works, and tells each answer before it asks again; killed when the block ends."""

    def __init__(self, url: str, ids: Sequence[int]) -> None:
        self._reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            work_until_killed(url, ids, writer)
        os.close(writer)
        os.set_blocking(self._reader, False)
        self._told = bytearray()

    def answers(self) -> list[Answer]:
        """Those it has told so far."""
        words = [line.split() for line in self._told.decode().splitlines()]
        return [Answer(word, int(task_id), token) for word, task_id, token in words]

    def has_told(self, enough: int) -> bool:
        self._listen()
        return len(self.answers()) >= enough

    @contextmanager
    def halted(self) -> Iterator[None]:
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it had ended before"
        self._listen()
        yield
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *of_the_error: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._listen()
        os.close(self._reader)

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            while chunk := os.read(self._reader, 1 << 16):
                self._told.extend(chunk)


def work_until_killed(url: str, ids: Sequence[int], writer: int) -> NoReturn:
    try:
        database = Database(url)

        def say(answer: Answer) -> None:
            os.write(writer, f"{answer.word} {answer.task_id} {answer.token}\n".encode())

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda rows: work(database, rows, say), first_attempts(ids)))
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def copied(file: Path, folder: Path) -> Path:
    folder.mkdir()
    for ending in ("", "-wal"):
        shutil.copyfile(f"{file}{ending}", folder / f"{file.name}{ending}")
    return folder / file.name


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url, synchronous="OFF")
    yield database
    database.close()
