"""`scheduler pause` and `resume`, of one schedule and of many, as they are typed and as they answer."""

from __future__ import annotations

import json
import re

import pytest

from scheduler.store.database import Database
from tests.builders import a_schedule, a_spec
from tests.cli.conftest import Ask

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # engine/test_pause_many asks both


@pytest.fixture(autouse=True)
def three(database: Database) -> None:
    with database.write() as session:
        for name, tags in (("load", ("etl",)), ("mail", ()), ("merge", ("etl",))):
            a_schedule(session, a_spec(name=name, tags=tags))


def test_one_is_paused_and_goes_on(ask: Ask) -> None:
    paused = ask("pause", "load", "--why", "partner is down", "--until", "2199-12-01T06:30")

    assert paused == (0, "load is paused until 2199-12-01 06:30 UTC: partner is down\n", "")
    assert ask("resume", "load") == (0, "load goes on\n", "")


def test_all_are_paused_but_for_what_is_already(ask: Ask) -> None:
    ask("pause", "load", "--why", "partner is down")

    paused = ask("pause", "--all", "--why", "new disks", "--until", "2199-12-01T06:30")
    resumed = ask("resume", "--all")

    assert paused == (
        0,
        """\
2 schedules paused until 2199-12-01 06:30 UTC: new disks
1 paused otherwise, left as it is:
  load: paused by jana: partner is down
scheduler resume --all  lets them go on
""",
        "",
    )
    assert resumed == (
        0,
        "2 schedules resumed\n1 paused otherwise, left as it is:\n  load: paused by jana: partner is down\n",
        "",
    )


def test_status_tells_them_in_one_line(ask: Ask) -> None:
    ask("pause", "mail", "--why", "partner is down")
    ask("pause", "--all", "--why", "new disks")

    lines = ask("status")[1].splitlines()

    together, alone = (line for line in lines if ": by jana since " in line)
    assert re.sub(r"\S+Z", "…", together) == "paused 3   2 at once (all): by jana since …: new disks"
    assert re.sub(r"\S+Z", "…", alone) == "           mail: by jana since …: partner is down"


def test_those_with_a_tag_are_paused_and_resumed(ask: Ask) -> None:
    assert ask("pause", "--tag", "etl", "--why", "the warehouse moves")[1].splitlines() == [
        "2 schedules paused: the warehouse moves",
        "scheduler resume --tag etl  lets them go on",
    ]
    assert ask("resume", "--tag", "etl") == (0, "2 schedules resumed\n", "")
    assert ask("resume", "--tag", "etl") == (0, "0 schedules resumed\n", "")


def test_a_tag_with_spaces_is_told_as_it_has_to_be_typed(ask: Ask, database: Database) -> None:
    with database.write() as session:
        a_schedule(session, a_spec(name="year-end", tags=("end of year",)))

    told = ask("pause", "--tag", "end of year", "--why", "audit")[1]

    assert told.splitlines()[-1] == "scheduler resume --tag 'end of year'  lets them go on"


def test_of_very_many_that_are_left_ten_are_named(ask: Ask, database: Database) -> None:
    with database.write() as session:
        for number in range(12):
            a_schedule(session, a_spec(name=f"job-{number:02d}"))
    ask("pause", "--all", "--why", "new disks")

    *_, ninth, tenth, more = ask("pause", "--all", "--why", "again")[1].splitlines()

    assert (ninth, tenth) == (
        "  job-08: paused by jana: new disks",
        "  job-09: paused by jana: new disks",
    )
    assert more == "  … and 5 more: scheduler schedules"


def test_programs_get_one_document(ask: Ask) -> None:
    ask("pause", "mail", "--why", "partner is down")

    paused = json.loads(ask("pause", "--all", "--why", "new disks", "--json")[1])
    resumed = json.loads(ask("resume", "--all", "--json")[1])
    alone = json.loads(ask("resume", "mail", "--json")[1])

    left = {"mail": "paused by jana: partner is down"}
    assert paused == {"paused": ["load", "merge"], "why": "new disks", "until": None, "left": left}
    assert resumed == {"resumed": ["load", "merge"], "left": left}
    assert alone == {"schedule": "mail", "paused": False}


@pytest.mark.parametrize("what", [(), ("load", "--all"), ("--tag", "etl", "--all"), ("load", "--tag", "etl")])
@pytest.mark.parametrize("command", [("pause", "--why", "x"), ("resume",)])
def test_it_has_to_be_clear_which_are_meant(ask: Ask, command: tuple[str, ...], what: tuple[str, ...]) -> None:
    assert ask(*command, *what) == (2, "", "Give one of these: the NAME of a schedule, --tag TAG, or --all\n")


def test_an_unknown_tag_is_answered_with_the_nearest(ask: Ask) -> None:
    status, out, err = ask("pause", "--tag", "elt", "--why", "x")

    assert (status, out, err) == (1, "", 'No schedule has the tag "elt"; did you mean "etl"?\n')
