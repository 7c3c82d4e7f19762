"""Holding many schedules with one command and letting just those go again."""

from __future__ import annotations

import datetime as dt

import pytest

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.actions import Actions
from scheduler.engine.pause_many import Choice, pause_many, resume_many
from scheduler.errors import NotFound, WrongUsage
from scheduler.store.database import Database
from scheduler.store.schedules import all_schedules, pause_fields, pause_of
from tests.builders import HOUR, a_schedule, a_spec

ALL, ETL = Choice(), Choice(tag="etl")


@pytest.fixture
def actions(database: Database, room: WaitingRoom) -> Actions:
    return Actions(database, room, by="jana")


@pytest.fixture
def four(database: Database) -> None:
    """Two with the tag etl, one without, one that is gone."""
    with database.write() as session:
        for name, tags in (("load", ("etl",)), ("merge", ("etl", "big")), ("mail", ())):
            a_schedule(session, a_spec(name=name, tags=tags))
        a_schedule(session, a_spec(name="gone", tags=("etl",)), retired_at=utc_now())


def held(database: Database) -> dict[str, str]:
    """Why each schedule is paused that is."""
    with database.read() as session:
        pauses = {one.name: pause_of(one) for one in all_schedules(session)}
    return {name: pause.why for name, pause in pauses.items() if pause is not None}


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("choice", "names"),
    [pytest.param(ALL, ["load", "mail", "merge"], id="all"), pytest.param(ETL, ["load", "merge"], id="tag")],
)
def test_all_or_those_with_a_tag_are_held_and_let_go(
    database: Database, actions: Actions, choice: Choice, names: list[str]
) -> None:
    paused = pause_many(actions, choice, "new disks")

    assert (paused.done, paused.left) == (names, {})
    assert held(database) == dict.fromkeys(names, "new disks")
    resumed = resume_many(actions, choice)
    assert (resumed.done, resumed.left) == (names, {})
    assert held(database) == {}


@pytest.mark.usefixtures("four")
def test_what_was_paused_before_keeps_its_pause_and_is_told(database: Database, actions: Actions) -> None:
    actions.pause("load", "partner is down")

    paused = pause_many(actions, ALL, "new disks")
    between = held(database)
    resumed = resume_many(actions, ALL)

    assert (paused.done, paused.left) == (["mail", "merge"], {"load": "paused by jana: partner is down"})
    assert between == {"load": "partner is down", "mail": "new disks", "merge": "new disks"}
    assert (resumed.done, resumed.left) == (["mail", "merge"], {"load": "paused by jana: partner is down"})
    assert held(database) == {"load": "partner is down"}


@pytest.mark.usefixtures("four")
def test_each_word_lets_go_what_it_held(database: Database, actions: Actions) -> None:
    pause_many(actions, ETL, "the warehouse moves")
    pause_many(actions, ALL, "new disks")

    resume_many(actions, ALL)

    assert held(database) == dict.fromkeys(["load", "merge"], "the warehouse moves")
    assert resume_many(actions, ETL).done == ["load", "merge"]
    assert held(database) == {}


@pytest.mark.usefixtures("four")
def test_what_the_file_holds_is_left_to_the_file(database: Database, actions: Actions) -> None:
    with database.write() as session:
        found = {one.name: one for one in all_schedules(session)}
        found["mail"].file_pause = pause_fields("schedules.yaml", "", utc_now(), None)

    paused, resumed = pause_many(actions, ALL, "new disks"), resume_many(actions, ALL)

    assert (paused.done, paused.left) == (["load", "merge"], {"mail": "paused by schedules.yaml"})
    assert (resumed.done, resumed.left) == (["load", "merge"], {"mail": "paused by schedules.yaml"})


@pytest.mark.usefixtures("four")
def test_a_pause_by_hand_after_the_common_one_is_not_ended_with_it(database: Database, actions: Actions) -> None:
    pause_many(actions, ALL, "new disks")
    actions.pause("mail", "its server is down too")

    resumed = resume_many(actions, ALL)

    assert (resumed.done, list(resumed.left)) == (["load", "merge"], ["mail"])
    assert held(database) == {"mail": "its server is down too"}


@pytest.mark.usefixtures("four")
def test_the_end_of_the_pause_is_that_of_each(database: Database, actions: Actions) -> None:
    until = utc_now() + HOUR

    pause_many(actions, ETL, "new disks", until)

    with database.read() as session:
        ends = {one.name: pause.until for one in all_schedules(session) if (pause := pause_of(one))}
    assert ends == {"load": until, "merge": until}


@pytest.mark.usefixtures("four")
def test_progress_is_told_after_each(actions: Actions) -> None:
    told: list[tuple[int, int]] = []

    pause_many(actions, ALL, "new disks", on_each=lambda done, of: told.append((done, of)))

    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("pause", [True, False])
def test_a_tag_that_nothing_has_is_an_error(actions: Actions, pause: bool) -> None:
    with pytest.raises(NotFound) as missing:
        pause_many(actions, Choice(tag="etll"), "") if pause else resume_many(actions, Choice(tag="etll"))

    assert str(missing.value) == 'No schedule has the tag "etll"; did you mean "etl"?'


@pytest.mark.usefixtures("four")
def test_a_pause_that_would_be_over_holds_nothing(database: Database, actions: Actions) -> None:
    with pytest.raises(WrongUsage):
        pause_many(actions, ALL, "", dt.datetime(2020, 1, 1, tzinfo=dt.UTC))

    assert held(database) == {}


@pytest.mark.usefixtures("four")
def test_who_pauses_one_meanwhile_is_not_overruled(database: Database, actions: Actions) -> None:
    def pause_the_next(done: int, of: int) -> None:
        if done == 1:
            actions.pause("mail", "its server is down")

    paused = pause_many(actions, ALL, "new disks", on_each=pause_the_next)
    actions.resume("load")
    resumed = resume_many(actions, ALL)

    assert (paused.done, paused.left) == (["load", "merge"], {"mail": "paused by jana: its server is down"})
    assert (resumed.done, resumed.left) == (["merge"], {"mail": "paused by jana: its server is down"})


@pytest.mark.usefixtures("four")
def test_who_pauses_one_anew_while_many_are_let_go_is_not_overruled(database: Database, actions: Actions) -> None:
    pause_many(actions, ALL, "new disks")

    def pause_the_next(done: int, of: int) -> None:
        if done == 1:
            actions.pause("mail", "its server is down")

    resumed = resume_many(actions, ALL, on_each=pause_the_next)

    assert (resumed.done, resumed.left) == (["load", "merge"], {"mail": "paused by jana: its server is down"})
    assert held(database) == {"mail": "its server is down"}
