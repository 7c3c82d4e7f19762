"""The file is edited by hand while the service runs: well, badly, with a rename, with a removal; and taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from scheduler.rules.states import CANCELLED, FINAL, PLANNED, SUCCEEDED
from scheduler.store.tables import Revision, Schedule
from tests.journeys.service import Service
from tests.waiting import wait_for

WITHIN = 10  # seconds: the promise of `scheduler up`

TICKS = "ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}}\n"
DAILY = 'daily: {task: quick, args: {diary: DIARY}, when: {at: "02:00"}}\n'


def in_force(service: Service) -> dict[str, Schedule]:
    with service.database.read() as session:
        return {one.name: one for one in session.scalars(select(Schedule).where(Schedule.retired_at.is_(None)))}


def latest(service: Service) -> Revision:
    with service.database.read() as session:
        return session.scalars(select(Revision).order_by(Revision.id.desc()).limit(1)).one()


def status(service: Service) -> Any:
    """`scheduler status`, whose exit status is 1 while something is the matter."""
    return json.loads(service.command("status", "--json", or_status=1))


def trouble(service: Service) -> str:
    """What is told of the file; "" when it is in force."""
    return " ".join(one["message"] for one in status(service)["files"])


def soon(condition: Callable[[], Any], what: str) -> Any:
    return wait_for(condition, seconds=WITHIN, what=what)


def test_the_file_is_edited_by_hand_while_the_service_runs(private_service: Service) -> None:
    service = private_service
    service.write(TICKS + DAILY)
    service.start()
    service.wait_for_task(lambda task: task.state == SUCCEEDED, schedule="ticks")
    service.command("pause", "daily", "--why", "stocktaking")
    ticks = in_force(service)["ticks"]

    # good: taken once; the operator's pause stands
    service.write(TICKS + DAILY.replace("02:00", "03:00") + DAILY.replace("daily", "weekly"))
    soon(lambda: set(in_force(service)) == {"ticks", "daily", "weekly"}, "the good edit")
    good = latest(service)
    assert (good.changes["added"], good.changes["changed"]) == (["weekly"], ["daily"])
    assert good.changes["keys"] == {
        "daily": [{"key": "when", "old": "every day at 02:00", "new": "every day at 03:00"}]
    }
    daily = in_force(service)["daily"]
    assert daily.pause is not None
    assert daily.pause["why"] == "stocktaking"
    assert not [task for task in service.tasks("daily") if task.state in (PLANNED, *FINAL - {CANCELLED, "skipped"})]
    assert status(service)["revision"]["id"] == good.id

    # bad: nothing changes, and it is told where to look
    service.write(TICKS + DAILY.replace("02:00", "26:00"))
    soon(lambda: "26:00" in trouble(service), "the bad edit to be told")
    assert latest(service).id == good.id
    assert set(in_force(service)) == {"ticks", "daily", "weekly"}
    assert "26:00" in service.log.read_text()
    assert "schedule file refused" in status(service)["verdict"]
    assert "26:00" in service.command("doctor", status=1)
    done = len(service.diary_entries())
    wait_for(lambda: len(service.diary_entries()) > done, what="the last good version to go on")

    # a rename: history and all go along; the file says that daily goes on
    renamed = TICKS.replace("ticks:", "tocks:").replace("}}", "}, was: ticks}")
    service.write(renamed + DAILY.replace('"02:00"}}', '"03:00"}, paused: false}'))
    soon(lambda: "tocks" in in_force(service), "the rename")
    assert set(in_force(service)) == {"tocks", "daily"}  # weekly went too
    assert in_force(service)["tocks"].id == ticks.id
    assert latest(service).changes["renamed"] == {"ticks": "tocks"}
    assert in_force(service)["daily"].pause is None
    soon(lambda: trouble(service) == "", "the trouble to be over")
    tocks = service.wait_for_task(lambda task: task.state == SUCCEEDED, schedule="tocks")
    assert tocks.schedule_id == ticks.id
    of_both = {task.schedule for task in service.tasks() if task.schedule_id == ticks.id}
    assert of_both == {"ticks", "tocks"}

    # a removal: retired, its history stays, nothing of it is left to start
    service.write(DAILY)
    soon(lambda: set(in_force(service)) == {"daily"}, "the removal")
    with service.database.read() as session:
        assert session.get_one(Schedule, ticks.id).retired_at is not None
    soon(lambda: {task.state for task in service.tasks("tocks")} <= FINAL, "its tasks to end")
    assert service.tasks("ticks")

    # and back: a rollback, which a restart does not undo
    service.command("rollback", str(good.id))
    assert set(in_force(service)) == {"ticks", "daily", "weekly"}
    soon(lambda: "is not the text of revision" in trouble(service), "the difference to be told")
    service.stop()
    service.start()
    assert set(in_force(service)) == {"ticks", "daily", "weekly"}
    assert latest(service).changes["rollback_to"] == good.id
    soon(lambda: "has replaced since" in trouble(service), "the outdated file to be told")
