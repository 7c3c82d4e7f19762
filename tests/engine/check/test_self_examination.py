"""What the doctor would find, the service finds by itself, and tells: once it is sure."""

from __future__ import annotations

import pytest
from sqlalchemy import delete

from scheduler.broker.connection import connect
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.check.self_examination import LOOK_AGAIN_AFTER, LOOK_EVERY, SelfExamination
from scheduler.engine.loops import Stop, Ticker
from scheduler.engine.mail.alert_levels import levels_of
from scheduler.errors import RedisAway
from scheduler.rules.mail import alerts
from scheduler.rules.states import RUNNING
from scheduler.store.database import Database
from scheduler.store.tables import Task
from tests.builders import MINUTE, a_task


@pytest.fixture
def examination(database: Database, room: WaitingRoom) -> SelfExamination:
    return SelfExamination(database, room)


def break_a_promise(database: Database) -> str:
    """A lease that ended long ago, and nobody noticed; what is said of it."""
    with database.write() as session:
        lease_until = utc_now() - 10 * MINUTE
        task_id = a_task(session, state=RUNNING, lease_until=lease_until).id
    return f"task {task_id}: the lease of w1 ended at "


def test_where_all_is_well_there_is_nothing_to_tell(examination: SelfExamination) -> None:
    assert examination.broken is None

    assert examination.step() == LOOK_EVERY
    assert examination.broken == []


def test_what_two_looks_find_is_broken(
    database: Database, examination: SelfExamination, caplog: pytest.LogCaptureFixture
) -> None:
    said = break_a_promise(database)

    assert examination.step() == LOOK_AGAIN_AFTER
    assert examination.broken is None  # it may have been on its way
    assert caplog.messages == []
    assert examination.step() == LOOK_AGAIN_AFTER
    examination.step()

    assert examination.broken is not None
    (one,) = examination.broken
    assert said in one["message"]
    assert caplog.messages == [f"A promise is broken: {one['message']}"]


def test_what_is_mended_is_no_longer_told(database: Database, examination: SelfExamination) -> None:
    break_a_promise(database)
    examination.step()
    examination.step()
    with database.write() as session:
        session.execute(delete(Task))

    assert examination.step() == LOOK_AGAIN_AFTER
    assert examination.broken == []
    assert examination.step() == LOOK_EVERY


def test_while_redis_is_away_what_was_known_stays(database: Database) -> None:
    examination = SelfExamination(database, WaitingRoom(connect("redis://127.0.0.1:1/0")))

    with pytest.raises(RedisAway):
        examination.step()
    assert examination.broken is None


def test_a_broken_promise_is_an_alert_until_a_look_finds_it_mended(
    database: Database, examination: SelfExamination
) -> None:
    break_a_promise(database)
    examination.step()
    examination.step()

    assert alerts_with(database, examination) == ["leases-end"]

    with database.write() as session:
        session.execute(delete(Task))
    examination.step()
    assert alerts_with(database, examination) == []


def test_of_a_keeper_that_has_not_looked_yet_nothing_is_known(database: Database, examination: SelfExamination) -> None:
    ticker = Ticker(database, "keeper")
    ticker.tick({"broken": examination.broken})

    with database.read() as session:
        assert alerts.BROKEN_PROMISE in levels_of(session, utc_now()).unknown


def test_it_ends_with_the_keeper(database: Database, room: WaitingRoom) -> None:
    examination, stop = SelfExamination(database, room), Stop()
    examination.start(stop)

    stop.is_set = True
    examination.join(10)

    assert examination._thread is not None
    assert not examination._thread.is_alive()


def alerts_with(database: Database, examination: SelfExamination) -> list[str]:
    """The names of the alerts about promises that are open while a keeper ticks with what it has found."""
    ticker = Ticker(database, "keeper")
    ticker.tick({"broken": examination.broken})
    with database.read() as session:
        levels = levels_of(session, utc_now())
    ticker.leave()
    assert alerts.BROKEN_PROMISE not in levels.unknown
    return [str(one.details["name"]) for one in levels.troubles if one.event == alerts.BROKEN_PROMISE]
