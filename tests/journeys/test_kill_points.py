"""Each kill point, reached by a process that dies there: nothing is lost or doubled, and it goes on by itself.

Generated from the list of points. Several points share a service, since most of the time goes into its coming back.
"""

from __future__ import annotations

import datetime as dt
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from scheduler.broker.connection import connect
from scheduler.broker.private_server import private_url
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.check.doctor import broken_invariants
from scheduler.kill_points import POINTS
from scheduler.rules.mail.messages import Letter, messages_to
from scheduler.rules.spec import Contact
from scheduler.rules.states import FINAL, QUEUED, RETRYING, SUCCEEDED
from scheduler.store import outbox
from scheduler.store.mail_tables import Alert
from scheduler.store.tables import Revision
from tests.journeys.history import history_of, is_over
from tests.journeys.service import Service
from tests.judge import Plan, every, judge
from tests.waiting import wait_for

GROUPS = 3  # a part that ends often is started again later and later
IN_APPLY = sorted(name for name in POINTS if name.startswith("apply."))
IN_PARTS = sorted(POINTS - set(IN_APPLY) - {"migrate.mid"})  # which tests/store/test_migrate.py has

SCHEDULES = """
    ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}, overlap: allow}
    flaky: {task: fail_first, args: {diary: DIARY, times: 1}, when: {every: 2s}, overlap: allow}
    naps: {task: nap, args: {diary: DIARY, seconds: 2.5}, when: {every: 4s}, overlap: queue-one}
"""
PLANS = {"ticks": Plan(every(1), may_overlap=True), "flaky": Plan(every(2), may_overlap=True), "naps": Plan(every(4))}


@pytest.mark.parametrize("number", range(GROUPS))
def test_a_process_killed_at_a_point_loses_and_doubles_nothing(private_service: Service, number: int) -> None:
    kill_and_judge(private_service, IN_PARTS[number::GROUPS])


@pytest.mark.parametrize("service", ["servers"], indirect=True, ids=["postgresql"])
def test_the_same_on_postgresql(service: Service) -> None:
    kill_and_judge(
        service, ["planner.after_commit", "dispatcher.after_script", "child.after_claim", "child.after_call"]
    )


def kill_and_judge(service: Service, points: list[str]) -> None:
    marks = service.folder / "reached"
    marks.mkdir()
    service.write(SCHEDULES)
    service.environment["SCHEDULER_POINT"] = ",".join(f"{name}=kill" for name in points)
    service.environment["SCHEDULER_POINT_FOLDER"] = str(marks)

    service.start()
    queue_mail(service)
    wait_for(lambda: not unreached(marks, points), seconds=40, what=f"{points} to be reached; {service.log}")
    reached_at = utc_now()

    wait_for(lambda: is_over(service, reached_at), seconds=40, what=f"all of before to end; {service.log}")
    expect_order(service)
    if any(name.startswith("alerts.") for name in points):
        wait_for(lambda: alerts_of(service) == ["mail:mail_given_up"], seconds=30, what="one alert, of the lost mail")
    assert service.stop() == 0
    until = reached_at.replace(microsecond=0)
    history = history_of(service, PLANS, until, faults=[(reached_at - dt.timedelta(hours=1), reached_at)])
    assert judge(history) == []
    assert {row.state for row in history.rows if row.schedule != "naps" and row.fire_time <= until} == {SUCCEEDED}


def queue_mail(service: Service) -> None:
    """One message for each of the mailer's points, since one whose mailer died is held by its lease for minutes; and
    one that is given up at once, for which an alert opens."""
    contact = Contact(name="ops", email=("ops@example.org",))
    nobody = Contact(name="nobody", email=("no address",))
    with service.database.write() as session:
        outbox.queue(session, messages_to(nobody, Letter("Lost", "Text"), key="alert:lost", about="alert"))
        for number in range(4):
            letter = Letter(f"Message {number}", "Text")
            outbox.queue(session, messages_to(contact, letter, key=f"alert:{number}", about="alert"))


def alerts_of(service: Service) -> list[str]:
    with service.database.read() as session:
        return list(session.scalars(select(Alert.subject)))


def unreached(marks: Path, points: list[str]) -> set[str]:
    return set(points) - {path.name for path in marks.iterdir()}


def expect_order(service: Service) -> None:
    """The doctor finds no broken promise; what is on its way gets a few seconds."""
    client = connect(service.environment.get("REDIS_URL") or private_url(service.folder / "var"))
    try:
        room = WaitingRoom(client)
        wait_for(
            lambda: not broken_invariants(service.database, room),
            seconds=10,
            what=f"no broken promise: {broken_invariants(service.database, room)}; {service.log}",
        )
    finally:
        client.close()


def test_an_apply_killed_at_a_point_is_in_force_whole_or_not_at_all(private_service: Service) -> None:
    service = private_service
    service.write(SCHEDULES)
    service.start()
    edited = service.folder / "edited.yaml"
    killed = []

    for turn, name in enumerate(IN_APPLY):
        edited.write_text(service.file.read_text().replace("every: 2s", f"every: {turn + 5}s"))
        before = revisions(service)
        ended = subprocess.run(
            [sys.executable, "-m", "scheduler", "apply", str(edited)],
            cwd=service.folder,
            env=service.environment | {"SCHEDULER_POINT": f"{name}=kill"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        killed.append(ended.returncode)
        assert ended.returncode == -signal.SIGKILL, ended.stdout + ended.stderr
        assert revisions(service) - before == (1 if name == "apply.after_commit" else 0), name
        service.command("apply", str(edited))
        assert revisions(service) - before == 1

    assert killed == [-signal.SIGKILL] * len(IN_APPLY)
    expect_order(service)
    assert service.stop() == 0
    starts = Counter((one.task_id, one.attempt) for one in service.diary_entries() if one.word == "start")
    assert set(starts.values()) == {1}
    assert {task.state for task in service.tasks("flaky") if task.attempt} <= {*FINAL, QUEUED, RETRYING}


def revisions(service: Service) -> int:
    with service.database.read() as session:
        return len(list(session.scalars(select(Revision.id))))
