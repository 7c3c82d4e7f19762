"""Column types mean the same on both databases: moments, and JSON that notices changes inside it."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import literal, select, text, type_coerce

from scheduler.clock import EPOCH, MICROSECOND, utc_now
from scheduler.store.database import Database
from scheduler.store.tables import Task
from scheduler.store.types import Instant, micros, sql_now
from tests.builders import a_task, at

BERLIN = dt.timezone(dt.timedelta(hours=1))


# --- moments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(EPOCH, id="1970"),
        pytest.param(EPOCH - MICROSECOND, id="before 1970"),
        pytest.param(at("02:00") + MICROSECOND, id="a microsecond"),
        pytest.param(dt.datetime(9999, 1, 1, tzinfo=dt.UTC), id="for ever"),
        pytest.param(dt.datetime(1, 1, 1, tzinfo=dt.UTC), id="the first"),
    ],
)
def test_a_moment_comes_back_as_it_was(database: Database, moment: dt.datetime) -> None:
    with database.write() as session:
        task = a_task(session, due_at=moment)

    with database.read() as session:
        assert session.scalars(select(Task.due_at).where(Task.due_at == moment)).one() == moment
        assert session.get_one(Task, task.id).due_at.tzinfo is dt.UTC


def test_a_moment_of_another_zone_is_the_same_moment(database: Database) -> None:
    with database.write() as session:
        a_task(session, due_at=dt.datetime(2026, 11, 24, 3, 0, tzinfo=BERLIN))

        assert session.scalars(select(Task.due_at)).one() == at("02:00")


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^2026-11-24T02:00:00 has no time zone$"):
        Instant().process_bind_param(dt.datetime(2026, 11, 24, 2), None)  # type: ignore[arg-type]


def test_the_databases_clock_is_that_of_the_host(database: Database) -> None:
    with database.read() as session:
        before = utc_now()
        now = session.execute(select(sql_now())).scalar_one()
        after = utc_now()

    assert before - dt.timedelta(seconds=1) < now < after + dt.timedelta(seconds=1)


def test_the_databases_clock_goes_on_within_a_transaction(database: Database) -> None:
    with database.write() as session:
        first = session.execute(select(sql_now())).scalar_one()
        moments = (session.execute(select(sql_now())).scalar_one() for _ in range(100_000))

        assert any(moment > first for moment in moments)


def test_a_duration_is_added_inside_sql(database: Database) -> None:
    with database.read() as session:
        moment = literal(at("02:00"), Instant())
        shifted = type_coerce(moment + micros(dt.timedelta(days=40, microseconds=7)), Instant())

        assert session.execute(select(shifted)).scalar_one() == at("02:00", "2027-01-03") + 7 * MICROSECOND


# --- JSON that changes ----------------------------------------------------------------------------------------------

START: dict[str, Any] = {"plain": 1, "inner": {"deep": {"list": [3, {"x": 1}, 2]}}, "list": [1, [2]]}


def assign(row: Task) -> None:
    row.args["plain"] = 2


def list_of(row: Task) -> Any:
    return row.args["inner"]["deep"]["list"]


def twice(row: Task) -> None:
    row.args["new"] = {}
    row.args["new"]["inner"] = []
    row.args["new"]["inner"].append({})
    row.args["new"]["inner"][0]["x"] = 1


CHANGES: dict[str, Callable[[Task], Any]] = {
    "a key": assign,
    "a new key": lambda row: row.args.update(new=1),
    "update with pairs": lambda row: row.args.update([("plain", 5)]),
    "del": lambda row: row.args.__delitem__("plain"),
    "pop": lambda row: row.args.pop("plain"),
    "popitem": lambda row: row.args.popitem(),
    "clear": lambda row: row.args.clear(),
    "setdefault": lambda row: row.args.setdefault("new", []).append(1),
    "or": lambda row: row.args.__ior__({"new": {"x": 1}}),
    "an inner key": lambda row: row.args["inner"].__setitem__("deep", 1),
    "an inner del": lambda row: row.args["inner"].__delitem__("deep"),
    "an inner pop": lambda row: row.args["inner"].pop("deep"),
    "an inner pop of nothing and something": lambda row: (row.args["inner"].pop("no", 0), row.args["inner"].popitem()),
    "an inner update": lambda row: row.args["inner"].update({"deep": {}}, more=1),
    "an inner setdefault": lambda row: row.args["inner"].setdefault("new", {}).update(x=1),
    "an inner or": lambda row: row.args["inner"].__ior__({"new": 1}),
    "an inner clear": lambda row: row.args["inner"].clear(),
    "append": lambda row: list_of(row).append({"y": 1}),
    "append, then inside": lambda row: (list_of(row).append({}), list_of(row)[-1].update(y=1)),
    "extend": lambda row: list_of(row).extend([1, 2]),
    "plus": lambda row: list_of(row).__iadd__([{"z": 1}]),
    "times": lambda row: list_of(row).__imul__(2),
    "insert": lambda row: list_of(row).insert(0, {"a": 1}),
    "list pop": lambda row: list_of(row).pop(),
    "remove": lambda row: list_of(row).remove(3),
    "list clear": lambda row: list_of(row).clear(),
    "reverse": lambda row: list_of(row).reverse(),
    "sort": lambda row: list_of(row).sort(key=str),
    "an item": lambda row: list_of(row).__setitem__(0, {"q": []}),
    "a slice": lambda row: list_of(row).__setitem__(slice(0, 2), [{"s": 1}, 9]),
    "del of a slice": lambda row: list_of(row).__delitem__(slice(0, 2)),
    "a dict in a list": lambda row: list_of(row)[1].update(x=2),
    "a list in a list": lambda row: row.args["list"][1].append(3),
    "what was put in a moment ago": twice,
    "the whole": lambda row: setattr(row, "args", {"other": [1]}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_inside_is_written(database: Database, change: Callable[[Task], Any]) -> None:
    with database.write() as session:
        task_id = a_task(session, args=copy.deepcopy(START)).id

    with database.write() as session:
        task = session.get_one(Task, task_id)
        change(task)
        expected = copy.deepcopy(dict(task.args))

    assert expected != START
    with database.read() as session:
        assert session.get_one(Task, task_id).args == expected


def test_a_second_change_after_a_write_is_written_too(database: Database) -> None:
    with database.write() as session:
        task = a_task(session, args=copy.deepcopy(START))
        list_of(task).append(1)
        session.flush()
        list_of(task).append(2)
        session.flush()
        session.expire(task)

        assert list_of(task)[-2:] == [1, 2]


def test_reading_alone_writes_nothing(database: Database) -> None:
    with database.write() as session:
        task_id = a_task(session, args=copy.deepcopy(START)).id

    with database.write() as session:
        task = session.get_one(Task, task_id)
        assert list(task.args["inner"]["deep"]["list"]) == START["inner"]["deep"]["list"]

        assert not session.dirty


def test_what_is_copied_from_a_row_leaves_the_row_alone(database: Database) -> None:
    with database.write() as session:
        task = a_task(session, args=copy.deepcopy(START))
        session.flush()

        for copied in (copy.deepcopy(task.args), pickle.loads(pickle.dumps(task.args))):  # noqa: S301 - our own
            copied["inner"]["deep"]["list"].append("only in the copy")

        assert task.args == START
        assert not session.dirty


def test_none_is_no_value_and_not_the_word_null(database: Database) -> None:
    with database.write() as session:
        a_task(session, result=None)

        assert session.execute(text("SELECT count(*) FROM task WHERE result IS NULL")).scalar() == 1


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
LARGEST_EXACT = 2.0**53  # PostgreSQL keeps a float as a decimal, and gives a large one back as a whole number
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(-LARGEST_EXACT, LARGEST_EXACT, allow_nan=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=15,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.dictionaries(TEXTS, VALUES, max_size=5))
def test_json_comes_back_as_it_was(database: Database, value: dict[str, Any]) -> None:
    with database.write() as session:
        task_id = a_task(session, args=value).id

    with database.read() as session:
        assert session.get_one(Task, task_id).args == value
