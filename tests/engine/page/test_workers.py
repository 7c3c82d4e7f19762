from __future__ import annotations

from scheduler.broker.connection import connect
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import iso, utc_now
from scheduler.engine.page.workers import workers_of
from scheduler.store import parts
from scheduler.store.database import Database
from tests.builders import MINUTE, a_revision, a_task
from tests.engine.page.test_now import tick


def test_workers_are_told_with_what_they_do(database: Database, room: WaitingRoom) -> None:
    started_at = utc_now() - MINUTE
    with database.write() as session:
        going = a_task(session, schedule="nightly", state="running", started_at=started_at)
        ended = a_task(session, task="count_words", kind="adhoc", state="succeeded")
        tick(session, "worker-scheduled", queue="scheduled", task=going.id)
        parts.tick(session, "busy a moment ago", "worker-adhoc", "there", 2, {"queue": "asked", "task": ended.id})

    told = workers_of(database, room)

    assert [(one["kind"], one["queue"], one["host"], one["doing"]) for one in told["workers"]] == [
        ("adhoc", "asked", "there", None),
        ("scheduled", "scheduled", "here", {"id": going.id, "name": "nightly", "since": iso(started_at)}),
    ]


def test_parts_say_in_a_few_words_what_they_did(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        tick(session, "dispatcher", moved=12345)
        tick(session, "keeper", planner=0.2, reconcile=8.0)
        tick(session, "web", url="http://127.0.0.1:8080")

    told = workers_of(database, room)

    assert {one["part"]: one["said"] for one in told["parts"]} == {
        "dispatcher": "moved 12,345 tasks to their queues",
        "keeper": "planner 0 s ago, reconcile 8 s ago",
        "web": "http://127.0.0.1:8080",
    }
    assert told["troubles"] == []


def test_kinds_are_told_with_their_limits_and_how_many_run(database: Database, room: WaitingRoom) -> None:
    with database.write() as session:
        a_revision(session, book={"kinds": {"long": {"queue": "slow", "max_running": 2}}})
        a_task(session, kind="long", state="running")

    told = workers_of(database, room)

    assert told["kinds"] == [
        {"kind": "scheduled", "queue": "scheduled", "max_running": None, "running": 0},
        {"kind": "long", "queue": "slow", "max_running": 2, "running": 1},
        {"kind": "adhoc", "queue": "adhoc", "max_running": None, "running": 0},
    ]
    assert told["idle_kinds"] == ["long"]


def test_without_an_answer_of_redis_the_rest_is_told_and_that(database: Database) -> None:
    client = connect("redis://127.0.0.1:1/0")
    with database.write() as session:
        tick(session, "worker-scheduled", queue="scheduled")

    told = workers_of(database, WaitingRoom(client))

    assert [one["in_redis"] for one in told["queues"]] == [None]
    assert told["redis"].startswith("Redis does not answer at 127.0.0.1:1")
    assert told["redis"] in told["troubles"]
