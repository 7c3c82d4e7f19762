"""However large the table grows, no question reads it from end to end: the statements that the service really sends,
on a table large enough that both databases plan for it, by their plans and by how much they read. No clock decides.

SQLite plans without knowing how large a table is: its plans here are those of a million rows. PostgreSQL looks at the
size, and here an index is already worth its while. What a statement reads is counted, by the steps of SQLite's virtual
machine and the rows of PostgreSQL's plans: an index read from end to end is a scan as well, though no plan says so.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import event

from scheduler.store.database import Database
from scheduler.store.migrate import migrate
from tests.large_table import Shape, fill
from tests.questions import CHECKS, READS, WRITES, ask_list, lists

ROWS = 30_000
LARGE = "task|attempt|log_chunk"  # the others are small: schedules, parts; or small here: the outbox, alerts
# A step is a fraction of a row: to walk an index takes three to ten a row. The most that one statement takes here is a
# third of this, and a walk over all of the table would be twice this.
MOST_STEPS = 50_000
MOST_ROWS = 6_000  # that PostgreSQL touches for one statement
# What is not counted: it reads the newest 50,000 tasks and no more, which are all that this table has; or the newest
# forty of every schedule.
LIMITED = {
    f"doctor: {name}"
    for name in ("one-row", "attempts-count-up", "at-most-once", "no-overlap", "one-end", "ends-agree", "never-early")
} | {"usual durations"}
MOST_BLOCKS = 100  # of an index, beyond those that lead to what was found


# What every task costs must not grow with those that wait before it either, of which the table has a thousand.
EACH_TASK = ("claim", "claim refused", "end", "mark queued")
FOR_ONE_TASK = {"most_steps": 3_000, "most_rows": 300}


@dataclass
class Large:
    """A filled database; `asked` are the statements that it was sent, as long as somebody listens."""

    database: Database
    shape: Shape
    asked: list[tuple[str, Any]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)  # of SQLite's machine, in hundreds; of each statement

    @contextmanager
    def listening(self) -> Iterator[None]:
        self.asked.clear()
        self.steps.clear()
        event.listen(self.database.engine, "before_cursor_execute", self._note)
        yield
        event.remove(self.database.engine, "before_cursor_execute", self._note)

    def count_step(self) -> int:
        if self.steps:
            self.steps[-1] += 100
        return 0  # go on

    def _note(self, connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        self.asked.append((statement, parameters[0] if isinstance(parameters, list) else parameters))
        self.steps.append(0)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("large") / "scheduler.sqlite"
        shutil.copyfile(request.getfixturevalue("migrated_file"), path)
        url, drop = f"sqlite:///{path}", lambda: None
    else:
        server = request.getfixturevalue("postgres_server")
        url = server.create_database()
        drop = lambda: server.drop(url)  # noqa: E731
    database = Database(url, synchronous="OFF")
    migrate(database)
    found = Large(database, Shape(ROWS, to_come=800))
    fill(database, found.shape)
    if database.is_sqlite:
        database.engine.dispose()
        event.listen(database.engine, "connect", lambda raw, _: raw.set_progress_handler(found.count_step, 100))
    yield found
    database.close()
    drop()


def faults(
    large: Large, name: str, *, counted: bool = True, most_steps: int = MOST_STEPS, most_rows: int = MOST_ROWS
) -> list[str]:
    """What is wrong with the statements just asked, one line each."""
    found = []
    with large.database.engine.connect() as connection:
        for (statement, parameters), steps in zip(list(large.asked), list(large.steps), strict=True):
            if not re.match(r"\s*(SELECT|WITH|UPDATE|DELETE)", statement):
                continue
            short = " ".join(statement.split())[:300]
            if large.database.is_sqlite:
                if counted and steps > most_steps:
                    found.append(f"{name}: {steps} steps: {short}")
                plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
                found += [f"{name}: {line}: {short}" for line in plan if _scans(line, statement)]
            else:
                analyze = "ANALYZE, TIMING OFF, " if re.match(r"\s*(SELECT|WITH)", statement) else ""
                explain = f"EXPLAIN ({analyze}FORMAT JSON) {statement}"
                plan = connection.exec_driver_sql(explain, parameters).scalar_one()
                nodes = list(_nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]))
                found += [f"{name}: Seq Scan of {node}: {short}" for node in nodes if _is_scan(node)]
                rows = sum(_touched(node) for node in nodes)
                if counted and rows > most_rows:
                    found.append(f"{name}: {rows} rows: {short}")
                walked = [node["Index Name"] for node in nodes if _walks(node)]
                found += [f"{name}: {index} is walked: {short}" for index in walked if counted]
    return found


def _scans(line: str, statement: str) -> bool:
    """Whether a line of SQLite's plan reads a whole large table. An index that is walked in order stops at the LIMIT;
    whether it did, the steps tell."""
    scanned = re.match(rf"SCAN ({LARGE})(_\d+)?( |$)", line)
    return scanned is not None and not ("USING" in line and "LIMIT" in statement)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _is_scan(node: dict[str, Any]) -> bool:
    return node["Node Type"] == "Seq Scan" and re.fullmatch(LARGE, node.get("Relation Name", "")) is not None


def _touched(node: dict[str, Any]) -> float:
    if re.fullmatch(LARGE, node.get("Relation Name", "")) is None or "Actual Rows" not in node:
        return 0
    thrown_away = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + thrown_away) * node["Actual Loops"])


def _walks(node: dict[str, Any]) -> bool:
    """Whether an index was read that led to little: PostgreSQL counts no entries that it passed over."""
    if "Index Name" not in node or "Actual Rows" not in node:
        return False
    blocks = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
    return bool(blocks > MOST_BLOCKS + 8 * node["Index Searches"] + 4 * _touched(node))


def test_a_list_of_tasks_reads_little_whatever_is_asked_for(large: Large) -> None:
    found = []
    for name, chosen in lists().items():
        with large.listening():
            ask_list(large.database, large.shape, chosen)
        found += faults(large, name)

    assert found == []


@pytest.mark.parametrize("name", [*READS, *CHECKS])
def test_a_question_reads_little(large: Large, name: str) -> None:
    with large.listening():
        (READS | CHECKS)[name](large.database, large.shape)

    assert large.asked
    assert faults(large, name, counted=name not in LIMITED) == []


@pytest.mark.parametrize("name", WRITES)
def test_a_change_reads_little(large: Large, name: str) -> None:
    with large.listening(), large.database.write() as session:
        WRITES[name](session, large.shape)
        session.rollback()

    most = FOR_ONE_TASK if name in EACH_TASK else {}
    assert large.asked
    assert faults(large, name, **most) == []


def test_a_scan_would_be_seen(large: Large) -> None:
    with large.listening(), large.database.read() as session:
        session.connection().exec_driver_sql("SELECT count(*) FROM task WHERE origin = 'api' AND queue = 'none'")

    assert len(faults(large, "a scan")) >= 1


def test_an_index_read_from_end_to_end_would_be_seen(large: Large) -> None:
    query = "SELECT id FROM task WHERE finished_at > 0 AND reason_code = 'none' ORDER BY finished_at, id LIMIT 5"
    with large.listening(), large.database.read() as session:
        session.connection().exec_driver_sql(query)

    assert len(faults(large, "a walk")) >= 1
