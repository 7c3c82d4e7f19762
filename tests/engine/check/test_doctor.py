"""The doctor: each promise that is broken is found, and nothing is found where all is well."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import MetaData, UniqueConstraint, update
from sqlalchemy.orm import Session

from scheduler.broker import keys
from scheduler.broker.connection import connect
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.check import doctor
from scheduler.engine.check.doctor import Finding, broken_invariants, examine
from scheduler.engine.check.invariants import INVARIANTS, MOST, REDIS_INVARIANTS
from scheduler.engine.file.apply import apply
from scheduler.engine.planner import Planner
from scheduler.engine.work.outcomes import Held, end_badly, end_well
from scheduler.errors import DatabaseAway
from scheduler.rules.mail.messages import Letter, messages_to
from scheduler.rules.spec import Contact, Retry
from scheduler.rules.states import CANCELLED, FAILED, LOST, QUEUED, RETRYING, RUNNING, SUCCEEDED
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import outbox, parts, tasks
from scheduler.store.database import Database
from scheduler.store.mail_tables import GIVEN_UP, WAITING, Alert, OutboxMessage
from scheduler.store.tables import Attempt, Base, Part, Task
from scheduler.store.tasks import AttemptEnd
from tests.builders import HOUR, MINUTE, a_book, a_schedule, a_spec, a_task, an_attempt, at
from tests.servers import start_redis

SECOND = dt.timedelta(seconds=1)
FIRED = at("06:30")


def names(findings: list[Finding]) -> list[str]:
    return [finding.name for finding in findings]


def message_of(findings: list[Finding], name: str) -> str:
    [found] = [finding for finding in findings if finding.name == name]
    return found.message


# --- a good one -----------------------------------------------------------------------------------------------------

FILE = """
schedules:
  often: {task: count_words, when: {every: 1m}}
  billing: {task: count_words, when: {every: 1m}, delivery: at_most_once, overlap: queue-all}
  daily: {task: count_words, when: {at: "06:30"}}
  removed: {task: count_words, when: {every: 1m}}
"""


def a_run(session: Session, task: Task, attempt: int, outcome: str, policy: TaskPolicy) -> None:
    """A start of the task's function and its end, written as a worker writes them."""
    token = f"{task.id}-{attempt}"
    claimed = tasks.claim(session, task.id, attempt, token=token, worker="w1", host="here", pid=7, lease=MINUTE)
    assert claimed is not None, tasks.why_refused(session, task.id, attempt, token)
    held = Held(task.id, attempt, token, policy, task.queue, claimed.schedule_id, claimed.fire_time, claimed.started_at)
    if outcome == SUCCEEDED:
        assert end_well(session, held, {"words": 1}) is not None
    else:
        assert end_badly(session, held, AttemptEnd(outcome, "ValueError", "boom")) is not None


def test_nothing_is_found_in_a_good_history(database: Database, room: WaitingRoom) -> None:
    book, text = a_book(FILE)
    apply(database, room, book, text)
    Planner(database, room, HOUR).step()
    twice = TaskPolicy(retry=Retry(attempts=2, first=dt.timedelta(0)))
    once = TaskPolicy(delivery="at_most_once")
    with database.write() as session:
        shared = {"lane": "schedule:1"}
        a_run(session, a_task(session, **shared), 1, SUCCEEDED, TaskPolicy())
        retried = a_task(session, policy=twice, **shared)
        a_run(session, retried, 1, FAILED, twice)
        a_run(session, retried, 2, SUCCEEDED, twice)
        a_run(session, a_task(session, policy=once, **shared), 1, LOST, once)
        later = TaskPolicy(retry=Retry(attempts=2, first=HOUR))
        a_run(session, a_task(session, policy=later), 1, FAILED, later)  # is tried again
        a_task(session, state=RUNNING, **shared)
        a_task(session, state=CANCELLED)
    left_out = FILE.replace("  removed: {task: count_words, when: {every: 1m}}\n", "")
    book, text = a_book(left_out)
    apply(database, room, book, text)

    assert broken_invariants(database, room) == []


def test_nothing_is_found_in_an_empty_database(database: Database, room: WaitingRoom) -> None:
    assert broken_invariants(database, room) == []


def test_every_invariant_has_a_name_of_its_own_and_a_remedy() -> None:
    every = [*INVARIANTS, *REDIS_INVARIANTS]

    assert len({one.name for one in every}) == len(every)
    assert all(one.remedy and one.promise for one in every)


# --- each broken one ------------------------------------------------------------------------------------------------

Break = Callable[[Session], object]


def an_open_attempt_of_an_ended_task(session: Session) -> None:
    an_attempt(session, a_task(session, state=FAILED, attempt=1))


def a_running_task_with_two_open_attempts(session: Session) -> None:
    an_attempt(session, a_task(session, state=RUNNING, attempt=1), number=2)


def a_running_task_without_an_attempt(session: Session) -> None:
    task = a_task(session, state=RUNNING)
    session.delete(session.query(Attempt).filter_by(task_id=task.id).one())


def an_open_attempt_of_a_waiting_task(session: Session) -> None:
    an_attempt(session, a_task(session, state=RETRYING, attempt=1))


def attempts_that_begin_with_two(session: Session) -> None:
    task = a_task(session, state=FAILED, attempt=1)
    an_attempt(session, task, number=2, outcome=FAILED)


def fewer_attempts_than_were_begun(session: Session) -> None:
    an_attempt(session, a_task(session, state=FAILED, attempt=2), number=1, outcome=FAILED)


def an_at_most_once_task_that_began_twice(session: Session) -> None:
    task = a_task(session, state=FAILED, attempt=2, policy=TaskPolicy(delivery="at_most_once"))
    an_attempt(session, task, number=1, outcome=LOST)
    an_attempt(session, task, number=2, outcome=FAILED)


def two_attempts_of_a_lane_at_once(session: Session) -> None:
    now = utc_now()
    for began, ended in ((20, 5), (15, 12), (10, 4)):  # the third begins when the second has ended, not the first
        task = a_task(session, state=FAILED, attempt=1, lane="schedule:1")
        an_attempt(session, task, outcome=FAILED, started_at=now - began * MINUTE, ended_at=now - ended * MINUTE)


def an_open_attempt_and_a_later_one_of_its_lane(session: Session) -> None:
    a_task(session, state=RUNNING, lane="schedule:1", started_at=utc_now() - HOUR)
    task = a_task(session, state=FAILED, attempt=1, lane="schedule:1")
    an_attempt(session, task, outcome=FAILED, started_at=utc_now() - MINUTE)


def a_running_task_above_its_limit(session: Session) -> None:
    two = TaskPolicy(max_running=2)
    for slot in (1, 2, 3):
        a_task(session, state=RUNNING, policy=two, slot=slot)


def a_running_task_without_a_place(session: Session) -> None:
    a_task(session, state=RUNNING, policy=TaskPolicy(max_running=2))


def two_successes_of_one_task(session: Session) -> None:
    task = a_task(session, state=SUCCEEDED, attempt=2)
    an_attempt(session, task, number=1, outcome=SUCCEEDED)
    an_attempt(session, task, number=2, outcome=SUCCEEDED)


def a_success_whose_attempt_failed(session: Session) -> None:
    an_attempt(session, a_task(session, state=SUCCEEDED, attempt=1), outcome=FAILED)


def a_failure_whose_attempt_succeeded(session: Session) -> None:
    an_attempt(session, a_task(session, state=FAILED, attempt=1), outcome=SUCCEEDED)


def a_success_without_an_attempt(session: Session) -> None:
    a_task(session, state=SUCCEEDED)


def a_start_before_the_fire_time(session: Session) -> None:
    task = a_task(session, state=FAILED, attempt=1, fire_time=FIRED, started_at=FIRED - 3 * SECOND)
    an_attempt(session, task, outcome=FAILED)


def a_lease_that_nobody_ended(session: Session) -> None:
    a_task(session, state=RUNNING, lease_until=utc_now() - 91 * SECOND)


def a_task_past_its_grace(session: Session) -> None:
    a_task(session, due_at=utc_now() - HOUR, start_by=utc_now() - 61 * SECOND)


def a_task_of_a_removed_schedule(session: Session) -> None:
    schedule = a_schedule(session, retired_at=utc_now())
    a_task(session, schedule=schedule, fire_time=utc_now(), state=QUEUED)


def mail_that_waits_for_two_days(session: Session) -> None:
    contact = Contact(name="ops", email=("ops@example.org",))
    outbox.queue(session, messages_to(contact, Letter("2 failing", "Text"), key="k", about="alert"))
    session.execute(update(OutboxMessage).values(created_at=utc_now() - dt.timedelta(days=2)))


def a_schedule_that_nobody_plans(session: Session) -> None:
    a_schedule(session, planned_until=utc_now() - 6 * MINUTE)


def a_time_that_the_schedule_does_not_have(session: Session) -> None:
    schedule = a_schedule(session, in_force_since=FIRED)
    a_task(session, schedule=schedule, fire_time=FIRED + MINUTE)


BROKEN: list[tuple[Break, list[str]]] = [
    (an_open_attempt_of_an_ended_task, ["ended-means-ended"]),
    (a_running_task_with_two_open_attempts, ["running-has-one-attempt", "attempts-count-up"]),
    (a_running_task_without_an_attempt, ["running-has-one-attempt", "attempts-count-up"]),
    (an_open_attempt_of_a_waiting_task, ["waiting-has-no-attempt"]),
    (attempts_that_begin_with_two, ["attempts-count-up"]),
    (fewer_attempts_than_were_begun, ["attempts-count-up"]),
    (an_at_most_once_task_that_began_twice, ["at-most-once"]),
    (two_attempts_of_a_lane_at_once, ["no-overlap"]),
    (an_open_attempt_and_a_later_one_of_its_lane, ["no-overlap"]),
    (a_running_task_above_its_limit, ["max-running"]),
    (a_running_task_without_a_place, ["max-running"]),
    (two_successes_of_one_task, ["one-end"]),
    (a_success_whose_attempt_failed, ["ends-agree"]),
    (a_failure_whose_attempt_succeeded, ["ends-agree"]),
    (a_success_without_an_attempt, ["ends-agree"]),
    (a_start_before_the_fire_time, ["never-early"]),
    (a_lease_that_nobody_ended, ["leases-end"]),
    (a_task_past_its_grace, ["late-is-told"]),
    (a_task_of_a_removed_schedule, ["removed-is-removed"]),
    (a_schedule_that_nobody_plans, ["planned-ahead"]),
    (mail_that_waits_for_two_days, ["mail-goes"]),
    (a_time_that_the_schedule_does_not_have, ["fires-as-written"]),
]


@pytest.mark.parametrize(("break_it", "expected"), BROKEN, ids=[one.__name__ for one, _ in BROKEN])
def test_what_is_broken_is_found(database: Database, break_it: Break, expected: list[str]) -> None:
    with database.write() as session:
        break_it(session)

    found = broken_invariants(database, None)

    assert names(found) == expected
    assert all(finding.count >= 1 and finding.remedy for finding in found)


@pytest.fixture
def lax_database(empty_database_url: str) -> Iterator[Database]:
    """The same tables without the constraint that keeps a fire time to one task."""
    lax = MetaData(naming_convention=Base.metadata.naming_convention)
    for table in Base.metadata.tables.values():
        table.to_metadata(lax)
    task = lax.tables["task"]
    task.constraints -= {one for one in task.constraints if isinstance(one, UniqueConstraint)}
    database = Database(empty_database_url)
    lax.create_all(database.engine)
    yield database
    database.close()


def test_two_tasks_of_one_fire_time_are_found(lax_database: Database) -> None:
    with lax_database.write() as session:
        schedule = a_schedule(session)
        for _ in range(2):
            a_task(session, schedule=schedule, fire_time=FIRED, state=FAILED)

    [found] = broken_invariants(lax_database, None)

    assert found.name == "one-row"
    assert found.message == (
        f"not true that each fire time has one task: schedule {schedule.id} at 2026-11-24T06:30:00Z: 2 tasks"
    )


def test_a_finding_names_a_few_and_counts_all(database: Database) -> None:
    with database.write() as session:
        ids = [a_task(session, state=RUNNING, lease_until=utc_now() - HOUR).id for _ in range(7)]
        session.execute(update(Task).values(lease_until=FIRED))

    [found] = broken_invariants(database, None)

    told = "; ".join(f"task {one}: the lease of w1 ended at 2026-11-24T06:30:00Z" for one in ids[:5])
    assert found.count == 7
    assert found.message == f"not true that no lease ended more than 90 s ago: {told}; and 2 more"
    assert MOST > 7


@pytest.mark.parametrize(
    "harmless",
    [
        pytest.param(lambda session: a_schedule(session, planned_until=FIRED, retired_at=FIRED), id="retired"),
        pytest.param(lambda session: a_schedule(session, planned_until=FIRED, parked="gone"), id="parked"),
        pytest.param(
            lambda session: a_schedule(session, planned_until=FIRED, pause={"by": "jana", "since": "2026-11-24"}),
            id="paused",
        ),
        pytest.param(
            lambda session: a_task(session, schedule=a_schedule(session, retired_at=FIRED), origin="retry"),
            id="a removed schedule's task, run again by a person",
        ),
        pytest.param(
            lambda session: a_task(session, start_by=FIRED, due_at=utc_now() + MINUTE),
            id="past its grace, but not due: it waits for its lane",
        ),
        pytest.param(
            lambda session: a_task(session, schedule=a_schedule(session), fire_time=FIRED + MINUTE, state=CANCELLED),
            id="a time of an older version",
        ),
    ],
)
def test_what_is_harmless_is_let_pass(database: Database, harmless: Break) -> None:
    with database.write() as session:
        harmless(session)

    assert broken_invariants(database, None) == []


# --- with Redis -----------------------------------------------------------------------------------------------------


def a_queued_task(session: Session) -> Task:
    """Long enough that reconcile has looked at it."""
    long_ago = utc_now() - 5 * MINUTE
    return a_task(session, state=QUEUED, queued_at=long_ago, due_at=long_ago)


def waits(room: WaitingRoom, task_id: int, due_at: dt.datetime, attempt: int = 1) -> None:
    room.register([WaitingJob(task_id, attempt, "scheduled", due_at, QUEUED)])


def test_a_queued_task_that_redis_lacks_is_found(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        task_id = a_queued_task(session).id

    [found] = broken_invariants(database, room)

    assert found.name == "redis-has-the-queued"
    assert (
        found.message
        == f"not true that Redis has every queued task: task {task_id} is queued, and Redis does not have it"
    )


@pytest.mark.parametrize("place", ["sorted set", "queue", "under way", "handed over"])
def test_a_queued_task_that_redis_has_anywhere_is_let_pass(database: Database, room: WaitingRoom, place: str) -> None:
    with database.write() as session:
        task_id = a_queued_task(session).id
    name = keys.job_id(task_id, 1)

    if place == "sorted set":
        waits(room, task_id, utc_now())
    elif place == "queue":
        room.redis.rpush(f"{keys.QUEUE_PREFIX}scheduled", name)
    elif place == "under way":
        room.redis.zadd(f"{keys.WIP_PREFIX}scheduled", {f"{name}:1": 1.0})
    else:
        room.redis.zadd(keys.HANDOVER, {name: 1.0})

    assert broken_invariants(database, room) == []


def test_a_task_queued_a_moment_ago_may_still_be_on_its_way(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        a_task(session, state=QUEUED, queued_at=utc_now())

    assert broken_invariants(database, room) == []


def test_jobs_that_no_task_answers_to_are_found(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        ended = a_task(session, state=FAILED, finished_at=utc_now() - HOUR).id
        planned = a_task(session, due_at=utc_now() + HOUR).id
    waits(room, 900, utc_now() - HOUR)
    waits(room, ended, utc_now() + HOUR)
    waits(room, planned, utc_now() + HOUR, attempt=3)
    room.redis.zadd(keys.SCHEDULED, {"somebody-elses": 1.0})
    room.redis.rpush(f"{keys.QUEUE_PREFIX}scheduled", "task-901-1")

    [found] = broken_invariants(database, room)

    assert (found.name, found.count) == ("redis-has-no-strangers", 5)
    assert found.message == (
        "not true that Redis has no job without a task: 'somebody-elses' is no job of this service; "
        f"task-{ended}-1 waits, and its task is failed; task-{planned}-3 waits, and its task has begun 0 attempts; "
        "task-900-1: there is no such task; task-901-1: there is no such task"
    )


def test_jobs_of_what_was_withdrawn_or_ended_a_moment_ago_are_left_to_reconcile(
    database: Database, room: WaitingRoom
) -> None:
    with database.write() as session:
        ended = a_task(session, state=CANCELLED).id
    waits(room, 900, utc_now() + HOUR)
    waits(room, ended, utc_now() + HOUR)

    assert broken_invariants(database, room) == []


# --- backends and parts ---------------------------------------------------------------------------------------------

ALL_PARTS = ("dispatcher", "keeper", "worker-scheduled", "worker-long", "worker-adhoc")


def tick(database: Database, *ticking: str, silent: float = 0) -> None:
    with database.write() as session:
        for part in ticking:
            parts.tick(session, f"{part}@here", part, "here", 7, {"planner": 1.0, "reconcile": 1.0})
        if silent:
            session.execute(update(Part).values(ticked_at=utc_now() - silent * SECOND))


def test_a_service_in_order_has_no_faults(database: Database, room: WaitingRoom) -> None:
    tick(database, *ALL_PARTS)

    findings = examine(database, room)

    assert [finding for finding in findings if not finding.ok] == []
    assert names(findings) == [
        *("sql", "redis", "redis-memory", "redis-persistence", "clocks"),
        *(*ALL_PARTS, "schedules", "alerts", "mail"),
        *(one.name for one in (*INVARIANTS, *REDIS_INVARIANTS)),
    ]


def test_parts_that_do_not_tick_are_faults_with_the_way_to_start_them(database: Database) -> None:
    tick(database, "dispatcher", silent=40 * 60)

    findings = {finding.name: finding for finding in examine(database, None)}

    assert findings["dispatcher"].message == "silent for 40 m"
    assert findings["keeper"].message == "none has ticked"
    assert findings["worker-long"].message == "none has ticked on queue long"
    assert findings["worker-long"].remedy == "Start one: `scheduler up`, or `scheduler start worker --kind long`."
    assert {name for name, finding in findings.items() if not finding.ok} == set(ALL_PARTS)


def test_a_web_part_may_be_left_out_but_not_die(database: Database) -> None:
    tick(database, "web", silent=40 * 60)
    tick(database, *ALL_PARTS)

    [fault] = [finding for finding in examine(database, None) if not finding.ok]

    assert (fault.name, fault.message) == ("web", "silent for 40 m")
    assert fault.remedy == "Start one: `scheduler up`, or `scheduler start web`."


def test_a_worker_is_looked_for_on_the_queue_that_the_file_names(database: Database) -> None:
    book, text = a_book("kinds: {long: {queue: big}}\nschedules: {}")
    apply(database, None, book, text)
    tick(database, *ALL_PARTS)

    assert message_of(examine(database, None), "worker-long").startswith("ticks on queue big, last ")


def test_a_keeper_that_gets_nothing_done_is_a_fault(database: Database) -> None:
    with database.write() as session:
        parts.tick(session, "keeper@here", "keeper", "here", 7, {"planner": 300.0, "reconcile": 1.0})

    assert message_of(examine(database, None), "planner") == "the keeper's planner last got through 5 m ago"


def test_a_parked_schedule_is_a_fault(database: Database) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(name="nightly"), parked="its task function is gone")

    assert message_of(examine(database, None), "schedules") == "nightly is parked: its task function is gone"


def test_alerts_in_force_are_told_and_are_no_fault_of_the_service(database: Database) -> None:
    with database.write() as session:
        for minute, (event, name) in enumerate((("failed", "nightly"), ("no_worker", "long"))):
            moment = FIRED + minute * MINUTE
            details = {"name": name}
            session.add(Alert(subject=event, event=event, opened_at=moment, last_at=moment, details=details))

    [found] = [finding for finding in examine(database, None) if finding.name == "alerts"]

    assert (found.ok, found.message) == (True, "2 open, the newest: no worker long; failed nightly")


@pytest.mark.parametrize(
    ("state", "waits", "ok", "message"),
    [
        pytest.param(WAITING, MINUTE, True, "2 waiting, none given up within 24 h", id="on their way"),
        pytest.param(WAITING, 20 * MINUTE, False, "2 waiting, the oldest for 20 m: 451 busy", id="stuck"),
        pytest.param(
            GIVEN_UP, MINUTE, False, "2 messages were given up within 24 h, the last to ops: 451 busy", id="given up"
        ),
        pytest.param(GIVEN_UP, 25 * HOUR, True, "0 waiting, none given up within 24 h", id="given up long ago"),
    ],
)
def test_mail_that_nobody_gets_is_a_fault(
    database: Database, state: str, waits: dt.timedelta, ok: bool, message: str
) -> None:
    with database.write() as session:
        for number in range(2):
            contact = Contact(name="ops", email=("ops@example.org",))
            outbox.queue(session, messages_to(contact, Letter("A", "B"), key=f"alert:{number}", about="alert"))
        when = utc_now() - waits
        values = {"state": state, "created_at": when, "next_try_at": when, "last_error": "451 busy"}
        session.execute(update(OutboxMessage).values(values))

    [found] = [finding for finding in examine(database, None) if finding.name == "mail"]

    assert (found.ok, found.message) == (ok, message)


def test_a_database_of_another_version_is_a_fault_and_nothing_else_is_asked(empty_database_url: str) -> None:
    database = Database(empty_database_url)

    [found] = examine(database, None)
    place = database.place
    database.close()

    assert found.message == f"{place} is not of the version this program needs"
    assert found.remedy == "Bring it there: `scheduler up`, or any part that starts, does."


def test_a_database_that_is_away_is_raised() -> None:
    database = Database("postgresql://127.0.0.1:1/none")

    with pytest.raises(DatabaseAway):
        examine(database, None)


def test_redis_away_is_one_fault_and_the_tables_are_examined(database: Database) -> None:
    tick(database, *ALL_PARTS)
    client = connect("redis://127.0.0.1:1/0")

    findings = examine(database, WaitingRoom(client))
    client.close()

    assert [finding.name for finding in findings if not finding.ok] == ["redis"]
    assert names(findings)[-len(INVARIANTS) :] == [one.name for one in INVARIANTS]


@pytest.mark.parametrize(
    ("options", "name", "ok", "message"),
    [
        pytest.param(
            ["--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb"],
            "redis-memory",
            False,
            "maxmemory-policy is allkeys-lru, maxmemory 104,857,600 bytes",
            id="evicts",
        ),
        pytest.param(
            ["--appendonly", "yes"], "redis-persistence", True, "keeps an append-only file", id="append-only file"
        ),
        pytest.param(["--save", "60 1"], "redis-persistence", True, "saves its memory now and then (60 1)", id="saves"),
        pytest.param(
            [],
            "redis-persistence",
            True,
            "keeps nothing over a restart; it is filled again from SQL",
            id="keeps nothing",
        ),
        pytest.param(
            ["--rename-command", "CONFIG", ""],
            "redis-persistence",
            True,
            "not told; if it keeps nothing, it is filled again from SQL",
            id="does not tell",
        ),
    ],
)
def test_how_redis_is_set_up_is_told(tmp_path: Path, options: list[str], name: str, ok: bool, message: str) -> None:
    with start_redis(tmp_path, extra_args=options) as server:
        client = connect(server.url)
        found = {finding.name: finding for finding in doctor.redis_findings(WaitingRoom(client))}
        client.close()

    assert (found[name].ok, found[name].message) == (ok, message)


def test_clocks_that_differ_are_a_fault(database: Database, room: WaitingRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    tick(database, *ALL_PARTS)
    monkeypatch.setattr(doctor, "utc_now", lambda: utc_now() - dt.timedelta(minutes=3, seconds=30))

    found = {finding.name: finding for finding in examine(database, room)}["clocks"]

    assert (found.ok, found.count) == (False, 2)
    assert found.message == "clocks differ: SQL ahead by 3 m, Redis ahead by 3 m"
