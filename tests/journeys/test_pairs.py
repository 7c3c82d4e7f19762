"""Two of everything, one of them held at a point while the other passes it: who comes late changes nothing."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from scheduler.clock import utc_now
from scheduler.rules.states import CANCELLED, FINAL, SUCCEEDED
from scheduler.store.tables import Revision, Schedule, Task
from tests.journeys.history import history_of, is_over
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

        wait_for(lambda: is_over(other, until), seconds=40, what=f"all of before to end; {other.log}")
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


def test_a_cancel_before_the_claim_ends_the_task_and_one_after_it_stops_the_run(private_service: Service) -> None:
    service = private_service
    folder = service.folder
    service.write("{}")
    service.environment["SCHEDULER_LEASE_SECONDS"] = "600"  # a busy machine takes its time for a cancel
    service.environment["SCHEDULER_POINT"] = (
        f"child.before_claim=wait:{folder / 'claim'},child.after_claim=wait:{folder / 'claimed'}"
    )
    (folder / "reached").mkdir()
    service.environment["SCHEDULER_POINT_FOLDER"] = str(folder / "reached")
    service.start()

    arguments = (f"diary={service.diary}", f"file={folder / 'never'}")
    early = service.run("long_steps", *arguments)
    wait_for(lambda: (folder / "reached" / "child.before_claim").exists(), what=f"the claim; {service.log}")
    assert "cancelled" in service.command("cancel", str(early))
    (folder / "claim").touch()

    late = service.run("long_steps", *arguments)
    wait_for(lambda: (folder / "reached" / "child.after_claim").exists(), what=f"the claim; {service.log}")
    service.command("cancel", str(late))
    (folder / "claimed").touch()

    service.wait_for_state(late, CANCELLED)
    after = service.run("quick", f"diary={service.diary}")
    service.wait_for_state(after, SUCCEEDED)
    assert service.task(early).state == CANCELLED
    assert [len(service.attempts(one)) for one in (early, late, after)] == [0, 1, 1]
    assert early not in {entry.task_id for entry in service.diary_entries()}
    service.command("doctor")
    assert service.stop() == 0


def test_a_planner_that_passes_an_apply_in_the_middle_plans_nothing_by_the_old_version(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    url = postgres_server.create_database()
    reached, go, edited = tmp_path / "reached", tmp_path / "go", tmp_path / "edited.yaml"
    reached.mkdir()
    with (
        start_redis(tmp_path / "redis") as redis,
        Service(tmp_path, database_url=url, redis_url=redis.url) as service,
    ):
        service.write("ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}, overlap: allow}")
        service.environment["SCHEDULER_HORIZON_SECONDS"] = "4"  # so that there is something to plan every 2 s
        service.start()
        wait_for_passing(service, since=utc_now())
        edited.write_text(service.file.read_text().replace("every: 1s", "every: 3s"))
        orders = {"SCHEDULER_POINT": f"apply.after_version=wait:{go}", "SCHEDULER_POINT_FOLDER": str(reached)}

        applying = subprocess.Popen(
            [sys.executable, "-m", "scheduler", "apply", str(edited)],
            cwd=service.folder,
            env={**service.environment, **orders},
            stdout=subprocess.DEVNULL,
        )
        wait_for(lambda: list(reached.iterdir()), what="the apply to be half way")
        held_at = utc_now()
        wait_for(lambda: utc_now() > held_at + dt.timedelta(seconds=3), what="the planner to have come by")
        go.touch()
        assert applying.wait(20) == 0
        in_force_since = the_schedule(service).in_force_since
        wait_for_passing(service, since=utc_now())

        assert service.stop() == 0
        with service.database.read() as session:
            assert session.scalar(select(func.count()).select_from(Revision)) == 2
            query = select(Task.fire_time, Task.state).where(Task.fire_time > in_force_since)
            later = session.execute(query).all()
            earlier = session.scalars(select(Task.fire_time).where(Task.fire_time <= in_force_since)).all()
        assert {row.fire_time.second % 3 for row in later if row.fire_time} == {0}
        assert SUCCEEDED in {row.state for row in later}
        assert len(earlier) == round((max(earlier) - min(earlier)).total_seconds()) + 1  # each second has its row
    postgres_server.drop(url)


def the_schedule(service: Service) -> Schedule:
    with service.database.read() as session:
        return session.scalars(select(Schedule)).one()
