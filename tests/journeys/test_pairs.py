"""Two of everything, one of them held at a point while the other passes it: who comes late changes nothing."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from scheduler.clock import utc_now
from scheduler.rules.states import FINAL, SUCCEEDED
from tests.journeys.history import history_of, unended
from tests.journeys.service import Service
from tests.judge import Plan, every, judge
from tests.servers import PostgresServer, start_redis
from tests.waiting import wait_for

SCHEDULES = """
    ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}, overlap: allow}
    once: {task: quick, args: {diary: DIARY}, when: {every: 2s}, delivery: at_most_once, overlap: allow}
"""
PLANS = {"ticks": Plan(every(1), may_overlap=True), "once": Plan(every(2), may_overlap=True, at_most_once=True)}


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(
            ("planner.after_commit", "dispatcher.after_script", "child.before_claim"),
            id="what was planned, dispatched and taken, but not registered, marked and claimed",
        ),
        pytest.param(
            ("reconcile.after_read", "dispatcher.before_mark", "child.after_take"),
            id="what reconcile and a dispatcher know of, but is done by now",
        ),
        pytest.param(
            ("planner.after_insert", "dispatcher.before_script", "child.after_end"),
            id="rows written by one planner and not committed",
        ),
    ],
)
def test_who_is_held_at_a_point_comes_too_late_to_do_harm(
    tmp_path: Path, postgres_server: PostgresServer, points: tuple[str, ...]
) -> None:
    url = postgres_server.create_database()
    reached, go = tmp_path / "reached", tmp_path / "go"
    for folder in (reached, tmp_path / "held", tmp_path / "other"):
        folder.mkdir()
    with (
        start_redis(tmp_path / "redis") as redis,
        Service(tmp_path / "other", database_url=url, redis_url=redis.url) as other,
        Service(tmp_path / "held", database_url=url, redis_url=redis.url) as held,
    ):
        for service in (other, held):
            service.diary = tmp_path / "diary"
            service.write(SCHEDULES)
            service.environment["SCHEDULER_HORIZON_SECONDS"] = "30"
        held.environment["SCHEDULER_POINT"] = ",".join(f"{name}=wait:{go}@2" for name in points)
        held.environment["SCHEDULER_POINT_FOLDER"] = str(reached)

        other.start()
        held.start()
        wait_for(
            lambda: {path.name for path in reached.iterdir()} == set(points),
            seconds=40,
            what=f"{points} to be reached; {held.log}",
        )
        wait_for_passing(other, since=utc_now())
        go.touch()
        until = utc_now()
        wait_for_passing(other, since=until)

        wait_for(lambda: not unended(other, until), seconds=40, what=f"all of before to end; {other.log}")
        assert (held.stop(), other.stop()) == (0, 0)
        history = history_of(other, PLANS, until, faults=[(until - dt.timedelta(hours=1), until)])
        assert judge(history) == []
        assert {row.state for row in history.rows if row.fire_time <= until} == {SUCCEEDED}
    postgres_server.drop(url)


def wait_for_passing(service: Service, since: dt.datetime) -> None:
    """Until some of what is due from then on has been done."""
    wait_for(
        lambda: (
            sum(bool(task.fire_time and task.fire_time > since and task.state in FINAL) for task in service.tasks())
            >= 4
        ),
        seconds=40,
        what=f"four more tasks to end; {service.log}",
    )
