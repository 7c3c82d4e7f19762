"""What people ask for: run now, cancel, retry, pause, resume."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import select

from scheduler import task
from scheduler.broker.connection import connect
from scheduler.broker.keys import job_id
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.actions import Actions
from scheduler.engine.planner import Planner
from scheduler.errors import NotFound, Refused, WrongUsage
from scheduler.rules.spec import KindSpec, Missed, Retry, Timeout
from scheduler.rules.states import (
    CANCELLED,
    FAILED,
    FINAL,
    PLANNED,
    QUEUED,
    RETRYING,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
)
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store import parts, schedules
from scheduler.store.database import Database
from scheduler.store.schedules import pause_fields, pause_of
from scheduler.store.tables import Schedule, Task
from scheduler.task_functions import Catalogue, TaskFunction
from tests.builders import HOUR, MINUTE, a_book_of, a_revision, a_schedule, a_spec, a_task

SECOND = dt.timedelta(seconds=1)
HORIZON = 2 * MINUTE


@task(kind="long", timeout="2m", retry="gentle")
def count_words(source: str, top: int = 3) -> int:
    return len(source.split()) * top


@task
def say_hello() -> str:
    return "hello"


def a_catalogue() -> Catalogue:
    functions: list[TaskFunction] = [vars(function)["__task__"] for function in (count_words, say_hello)]
    return Catalogue({one.name: one for one in functions})


CATALOGUE = a_catalogue()


@pytest.fixture
def actions(database: Database, room: WaitingRoom) -> Actions:
    return Actions(database, room, by="jana")


def task_of(database: Database, task_id: int) -> Task:
    with database.read() as session:
        return session.get_one(Task, task_id)


def put(database: Database, **fields: Any) -> int:
    with database.write() as session:
        return a_task(session, **fields).id


def in_force(database: Database, **fields: Any) -> int:
    """A schedule that fires each second, unless told otherwise; its id."""
    spec = a_spec(**{"every": SECOND, "args": {"source": "a b"}, "grace": HOUR, **fields})
    with database.write() as session:
        return a_schedule(session, spec, planned_until=schedules.now(session)).id


def schedule(database: Database) -> Schedule:
    with database.read() as session:
        return session.scalars(select(Schedule)).one()


def let_pass(database: Database, span: dt.timedelta) -> None:
    """As if the schedule, its pause and its forecast were that much older."""
    with database.write() as session:
        found = session.scalars(select(Schedule)).one()
        found.planned_until -= span
        if found.pause is not None:
            found.pause["since"] = (dt.datetime.fromisoformat(found.pause["since"]) - span).isoformat()


def states(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(Task.state).order_by(Task.fire_time)))


def moments(database: Database, state: str) -> list[dt.datetime]:
    with database.read() as session:
        return [moment for moment in session.scalars(select(Task.fire_time).where(Task.state == state)) if moment]


# --- run ------------------------------------------------------------------------------------------------------------


def test_a_schedule_is_run_now_with_its_own_policies(database: Database, room: WaitingRoom, actions: Actions) -> None:
    retry = Retry(name="gentle", attempts=3)
    schedule_id = in_force(database, kind="long", queue="long", retry=retry, missed=Missed(run="all"))

    asked = actions.run("nightly", {}, CATALOGUE)

    made = task_of(database, asked.task_id)
    assert (made.state, made.origin, made.kind, made.queue) == (PLANNED, "manual", "long", "long")
    assert (made.schedule_id, made.schedule, made.fire_time) == (schedule_id, "nightly", None)
    assert (made.args, made.requested_by, made.lane) == ({"source": "a b"}, "jana", f"schedule:{schedule_id}")
    policy = TaskPolicy.model_validate(made.policy)
    assert (policy.retry, policy.overlap, policy.missed.run) == (retry, "queue-all", "none")
    assert made.start_by == made.due_at + HOUR
    assert room.enqueue_jobs() == [job_id(made.id, 1)]


def test_arguments_given_come_before_the_schedules(database: Database, actions: Actions) -> None:
    in_force(database)

    asked = actions.run("nightly", {"top": 9}, CATALOGUE)

    assert task_of(database, asked.task_id).args == {"source": "a b", "top": 9}


def test_a_function_is_run_with_the_limits_it_declares(database: Database, actions: Actions) -> None:
    gentle = Retry(name="gentle", attempts=3)
    book, _ = a_book_of(retry_policies={"gentle": gentle})
    with database.write() as session:
        a_revision(session, book=book.model_dump(mode="json"))

    asked = actions.run("count_words", {"source": "x"}, CATALOGUE, origin="api")

    made = task_of(database, asked.task_id)
    assert (made.kind, made.queue, made.origin, made.schedule, made.lane) == ("long", "long", "api", None, None)
    policy = TaskPolicy.model_validate(made.policy)
    assert (policy.retry, policy.timeout.soft, policy.overlap) == (gentle, 2 * MINUTE, "allow")


def test_a_function_without_limits_has_those_of_its_kind(database: Database, actions: Actions) -> None:
    asked = actions.run("say_hello", {}, CATALOGUE)

    made = task_of(database, asked.task_id)
    assert (made.kind, made.queue) == ("adhoc", "adhoc")
    policy = TaskPolicy.model_validate(made.policy)
    assert (policy.retry.attempts, policy.timeout.soft) == (1, 10 * MINUTE)


def test_what_is_asked_for_keeps_to_the_limit_of_its_kind(database: Database, actions: Actions) -> None:
    kinds = {"long": KindSpec(name="long", queue="long", timeout=Timeout(soft=HOUR, hard=HOUR), max_running=2)}
    book, _ = a_book_of(kinds=kinds)
    in_force(database, kind="long", max_running=2)
    with database.write() as session:
        a_revision(session, book=book.model_dump(mode="json"))
    old = put(database, kind="long", state=FAILED, attempt=1)  # of a time without a limit

    asked = [
        actions.run("count_words", {"source": "x"}, CATALOGUE),
        actions.run("nightly", {}, CATALOGUE),
        actions.retry(old),
    ]

    assert [task_of(database, one.task_id).policy["max_running"] for one in asked] == [2, 2, 2]


def test_two_runs_that_are_asked_for_are_two_tasks(database: Database, actions: Actions) -> None:
    in_force(database)

    first, second = actions.run("nightly", {}, CATALOGUE), actions.run("nightly", {}, CATALOGUE)

    assert first.task_id != second.task_id
    keys = {task_of(database, one.task_id).idempotency_key for one in (first, second)}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nightli", 'There is no schedule and no task function "nightli"; did you mean "nightly"?'),
        ("say_helo", 'There is no schedule and no task function "say_helo"; did you mean "say_hello"?'),
        ("zzz", 'There is no schedule and no task function "zzz"'),
    ],
)
def test_what_does_not_exist_is_not_run(database: Database, actions: Actions, name: str, message: str) -> None:
    in_force(database)

    with pytest.raises(NotFound) as missing:
        actions.run(name, {}, CATALOGUE)

    assert str(missing.value) == message
    assert states(database) == []


def test_a_function_whose_module_cannot_be_imported_is_not_run_and_that_is_said(
    database: Database, actions: Actions
) -> None:
    in_force(database)

    with pytest.raises(NotFound) as missing:
        actions.run("feed", {}, Catalogue({}, {"tasks.feeds": "ValueError: tasks.feeds.feed: retry is 3"}))

    assert str(missing.value) == (
        'There is no schedule and no task function "feed". '
        "It may stand in a module that cannot be imported: tasks.feeds (ValueError: tasks.feeds.feed: retry is 3)"
    )


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"kind": "huge"}, 'Task function "odd" asks for kind "huge"; there are scheduled, long, adhoc'),
        (
            {"retry": "gently"},
            'Task function "odd" asks for retry policy "gently"; did you mean "gentle"? '
            "There are gentle, none, stubborn; others are declared under retry_policies in the schedule file",
        ),
        (
            {"timeout": "2 moons"},
            'Task function "odd" asks for timeout "2 moons", which cannot be read. '
            'Give a duration with its unit, such as timeout="2h"',
        ),
    ],
)
def test_a_function_that_declares_what_is_not_there_is_refused(
    database: Database, actions: Actions, declared: dict[str, str], message: str
) -> None:
    in_force(database)
    odd = Catalogue({"odd": TaskFunction("odd", lambda: None, **declared)})  # type: ignore[arg-type]

    with pytest.raises(Refused) as refused:
        actions.run("odd", {}, odd)

    assert str(refused.value) == message
    assert states(database) == []


def test_a_function_may_name_a_policy_that_every_service_has(database: Database, actions: Actions) -> None:
    odd = Catalogue({"odd": TaskFunction("odd", lambda: None, retry="gentle")})

    asked = actions.run("odd", {}, odd)  # no schedule file is in force yet

    assert TaskPolicy.model_validate(task_of(database, asked.task_id).policy).retry.attempts == 3


def test_arguments_that_do_not_fit_are_refused_at_once(database: Database, actions: Actions) -> None:
    in_force(database)

    with pytest.raises(WrongUsage, match=r'count_words: .*"tip"'):
        actions.run("nightly", {"tip": 1}, CATALOGUE)

    assert states(database) == []


def test_a_retired_schedule_is_not_run(database: Database, actions: Actions) -> None:
    in_force(database)
    with database.write() as session:
        session.scalars(select(Schedule)).one().retired_at = utc_now()

    with pytest.raises(NotFound, match='no task function "nightly"'):
        actions.run("nightly", {}, CATALOGUE)


def test_a_paused_schedule_can_be_run_by_hand(database: Database, actions: Actions) -> None:
    in_force(database)
    actions.pause("nightly", "why")

    asked = actions.run("nightly", {}, CATALOGUE)

    assert task_of(database, asked.task_id).state == PLANNED


def test_who_asks_is_told_what_stands_in_the_way(database: Database) -> None:
    actions = Actions(database, WaitingRoom(connect("redis://127.0.0.1:1/0")), by="jana")

    asked = actions.run("say_hello", {}, CATALOGUE)

    first, second = asked.warnings
    assert first == "no worker of kind adhoc has been seen lately; it waits until one is started"
    assert second.startswith("recorded, but not queued yet: Redis does not answer at 127.0.0.1:1 (")
    assert task_of(database, asked.task_id).state == PLANNED


def test_with_a_worker_there_is_nothing_to_warn_of(database: Database, actions: Actions) -> None:
    with database.write() as session:
        parts.tick(session, "worker-adhoc@here:1", "worker-adhoc", "here", 1, {})

    assert actions.run("say_hello", {}, CATALOGUE).warnings == ()


# --- cancel ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"state": PLANNED}, {"state": QUEUED}, {"state": RETRYING, "attempt": 1}])
def test_what_waits_is_cancelled_at_once(
    database: Database, room: WaitingRoom, actions: Actions, fields: dict[str, Any]
) -> None:
    task_id = put(database, **fields)
    attempt = fields.get("attempt", 0) + 1
    room.redis.zadd("rq:scheduler:scheduled_jobs", {job_id(task_id, attempt): 1})

    assert actions.cancel(task_id) == CANCELLED

    cancelled = task_of(database, task_id)
    assert (cancelled.state, cancelled.reason_code, cancelled.reason) == (CANCELLED, "cancelled", "cancelled by jana")
    assert cancelled.finished_at is not None
    assert room.waiting_ids() == set()


def test_what_runs_is_asked_to_stop(database: Database, actions: Actions) -> None:
    task_id = put(database, state=RUNNING)

    assert actions.cancel(task_id) == RUNNING

    asked = task_of(database, task_id)
    assert (asked.state, asked.stop_requested_by) == (RUNNING, "jana")
    assert asked.stop_requested_at is not None


@pytest.mark.parametrize("state", sorted(FINAL))
def test_an_end_is_not_cancelled(database: Database, actions: Actions, state: str) -> None:
    task_id = put(database, state=state)

    with pytest.raises(Refused) as refused:
        actions.cancel(task_id)

    assert str(refused.value) == f"Task {task_id} has ended already ({state}); an end never changes"
    assert task_of(database, task_id).state == state


def test_a_task_that_is_not_there_is_not_cancelled(actions: Actions) -> None:
    with pytest.raises(NotFound) as missing:
        actions.cancel(999)

    assert str(missing.value) == "There is no task 999"


# --- retry ----------------------------------------------------------------------------------------------------------


def test_an_ended_task_is_run_again_as_a_new_one(database: Database, room: WaitingRoom, actions: Actions) -> None:
    schedule_id = in_force(database)
    policy = TaskPolicy(overlap="skip", missed=Missed(run="all"), retry=Retry(attempts=3))
    with database.write() as session:
        nightly = session.get_one(Schedule, schedule_id)
        old = a_task(
            session,
            schedule=nightly,
            fire_time=utc_now() - HOUR,
            state=FAILED,
            args={"source": "x"},
            policy=policy,
            lane="schedule:1",
            attempt=3,
        )

    asked = actions.retry(old.id)

    again = task_of(database, asked.task_id)
    assert again.id != old.id
    assert (again.retry_of, again.origin, again.state, again.attempt) == (old.id, "retry", PLANNED, 0)
    assert (again.idempotency_key, again.args, again.lane) == (old.idempotency_key, {"source": "x"}, "schedule:1")
    assert (again.fire_time, again.schedule, again.requested_by) == (None, "nightly", "jana")
    kept = TaskPolicy.model_validate(again.policy)
    assert (kept.overlap, kept.missed.run, kept.retry.attempts) == ("queue-all", "none", 3)
    assert task_of(database, old.id).state == FAILED
    assert room.enqueue_jobs() == [job_id(again.id, 1)]


@pytest.mark.parametrize("state", [PLANNED, QUEUED, RUNNING, RETRYING])
def test_only_what_has_ended_is_run_again(database: Database, actions: Actions, state: str) -> None:
    task_id = put(database, state=state)

    with pytest.raises(Refused) as refused:
        actions.retry(task_id)

    assert str(refused.value) == f"Task {task_id} is {state}; only one that has ended can be run again"


def test_a_success_may_be_run_again(database: Database, actions: Actions) -> None:
    task_id = put(database, state=SUCCEEDED)

    assert task_of(database, actions.retry(task_id).task_id).retry_of == task_id


# --- pause and resume -----------------------------------------------------------------------------------------------


def test_a_pause_takes_the_forecast_back_and_skips_what_has_not_started(
    database: Database, room: WaitingRoom, actions: Actions
) -> None:
    schedule_id = in_force(database, every=30 * SECOND)
    Planner(database, room, HORIZON).step()
    with database.write() as session:
        nightly = session.get_one(Schedule, schedule_id)
        kept = {
            a_task(session, schedule=nightly, fire_time=utc_now() - HOUR, state=RUNNING).id: RUNNING,
            a_task(session, schedule=nightly, fire_time=utc_now() - MINUTE, state=RETRYING, attempt=1).id: RETRYING,
            a_task(session, schedule=nightly, fire_time=None, origin="manual").id: PLANNED,
        }
        queued = a_task(session, schedule=nightly, fire_time=utc_now() - SECOND, state=QUEUED).id

    actions.pause("nightly", "partner is down")

    assert room.waiting_ids() == set()
    skipped = task_of(database, queued)
    assert (skipped.state, skipped.reason) == (SKIPPED, "paused by jana: partner is down")
    assert {task_id: task_of(database, task_id).state for task_id in kept} == kept
    assert moments(database, PLANNED) == []
    held = pause_of(schedule(database))
    assert held is not None
    assert (held.by, held.why, held.until) == ("jana", "partner is down", None)


def test_nothing_is_planned_while_a_pause_is_on(database: Database, room: WaitingRoom, actions: Actions) -> None:
    in_force(database)
    actions.pause("nightly", "")
    let_pass(database, 10 * MINUTE)

    Planner(database, room, HORIZON).step()

    assert set(states(database)) == {SKIPPED}
    assert len(states(database)) > 500
    assert room.waiting_ids() == set()


def test_a_resume_opens_the_future_and_fires_nothing_after_the_fact(
    database: Database, room: WaitingRoom, actions: Actions
) -> None:
    in_force(database)
    actions.pause("nightly", "")
    let_pass(database, 5 * MINUTE)

    actions.resume("nightly")
    resumed_at = schedule(database).planned_until
    Planner(database, room, HORIZON).step()

    assert pause_of(schedule(database)) is None
    assert len(moments(database, SKIPPED)) >= 300
    assert max(moments(database, SKIPPED)) <= resumed_at < min(moments(database, PLANNED))


def test_a_second_pause_leaves_no_hole_after_the_first(database: Database, room: WaitingRoom, actions: Actions) -> None:
    # The planner writes down what passes during a pause only now and then.
    in_force(database)
    actions.pause("nightly", "first")
    let_pass(database, 20 * SECOND)

    actions.pause("nightly", "second")
    let_pass(database, SECOND)
    Planner(database, room, HORIZON).step(utc_now() + MINUTE)

    assert set(states(database)) == {SKIPPED}
    assert room.waiting_ids() == set()


def test_a_pause_and_a_resume_use_up_no_run(database: Database, room: WaitingRoom, actions: Actions) -> None:
    in_force(database, every=30 * SECOND, max_runs=2)
    planner = Planner(database, room, HORIZON)
    planner.step()
    assert len(moments(database, PLANNED)) == 2

    actions.pause("nightly", "")
    actions.resume("nightly")
    planner.step()

    assert len(moments(database, PLANNED)) == 2


def test_the_failures_in_a_row_begin_anew_after_a_resume(database: Database, actions: Actions) -> None:
    in_force(database)
    with database.write() as session:
        found = session.scalars(select(Schedule)).one()
        found.pause = pause_fields("itself", "2 final failures in a row", utc_now(), None)
        found.failures_in_a_row = 2

    actions.resume("nightly")

    assert schedule(database).failures_in_a_row == 0


def test_a_pause_that_would_be_over_is_refused(database: Database, actions: Actions) -> None:
    in_force(database)

    with pytest.raises(WrongUsage) as wrong:
        actions.pause("nightly", "", until=dt.datetime(2020, 1, 1, 8, tzinfo=dt.UTC))

    assert str(wrong.value) == "until 2020-01-01 08:00 UTC is past; give a moment to come, or none"
    assert pause_of(schedule(database)) is None


def test_what_is_not_paused_cannot_be_resumed(database: Database, actions: Actions) -> None:
    in_force(database)

    with pytest.raises(Refused) as refused:
        actions.resume("nightly")

    assert str(refused.value) == 'Schedule "nightly" is not paused'


def test_the_files_pause_is_ended_in_the_file(database: Database, actions: Actions) -> None:
    in_force(database)
    with database.write() as session:
        found = session.scalars(select(Schedule)).one()
        found.file_pause = pause_fields("schedules.yaml", "", utc_now(), None)

    with pytest.raises(Refused) as refused:
        actions.resume("nightly")

    assert str(refused.value) == (
        'Schedule "nightly" is paused by schedules.yaml: take `paused` out of the file and apply it'
    )


@pytest.mark.parametrize("act", ["pause", "resume"])
def test_a_schedule_that_is_not_there(database: Database, actions: Actions, act: str) -> None:
    in_force(database)

    with pytest.raises(NotFound) as missing:
        actions.pause("nightlie", "") if act == "pause" else actions.resume("nightlie")

    assert str(missing.value) == 'There is no schedule "nightlie"; did you mean "nightly"?'


def test_a_pause_without_redis_holds_all_the_same(database: Database) -> None:
    in_force(database)
    with database.write() as session:
        nightly = session.scalars(select(Schedule)).one()
        a_task(session, schedule=nightly, fire_time=utc_now() - HOUR, state=QUEUED)
    let_pass(database, SECOND)

    Actions(database, WaitingRoom(connect("redis://127.0.0.1:1/0")), by="jana").pause("nightly", "")

    assert len(states(database)) >= 2
    assert set(states(database)) == {SKIPPED}
