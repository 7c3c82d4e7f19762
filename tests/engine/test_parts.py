"""What a part holds in memory: no room of another part, and no library that it does not use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTS = "import json, sys; sys.stdout.write(json.dumps(sorted(sys.modules)))"

OF_THE_KEEPER = {
    "scheduler.engine.mail.alerts",
    "scheduler.engine.mail.digest_facts",
    "scheduler.engine.file.file_watch",
    "scheduler.engine.keeper",
    "scheduler.engine.mail.mailer",
    "scheduler.engine.file.parking",
    "scheduler.engine.planner",
    "scheduler.engine.reconcile",
    "scheduler.engine.check.watchdog",
    "scheduler.notify.webhook",
    "scheduler.rules.times.occurrences",
    "scheduler.rules.file.schedule_file",
}
OF_THE_COMMANDS = {"alembic", "apscheduler", "cronsim", "holidays", "jinja2", "rich", "yaml"}
OF_POSTGRES = {"psycopg", "scheduler.store.postgres"}


def modules_of(imports: str) -> set[str]:
    """All modules that a new process has after these imports, as `scheduler start` makes them."""
    done = subprocess.run(
        [sys.executable, "-c", f"import scheduler.cli.service; {imports}; {LISTS}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def of_a_worker() -> set[str]:
    found = "from scheduler.task_functions import find_task_functions as f; assert not f(['tasks']).broken"
    return modules_of(f"from scheduler.engine import parts; from scheduler.engine.work import worker; {found}")


def test_a_worker_imports_nothing_of_the_keeper_and_nothing_heavy(of_a_worker: set[str]) -> None:
    assert of_a_worker & (OF_THE_KEEPER | OF_THE_COMMANDS) == set()


def test_a_worker_imports_the_driver_of_postgresql_only_where_there_is_one(of_a_worker: set[str]) -> None:
    assert of_a_worker & OF_POSTGRES == set()


def test_a_dispatcher_imports_no_worker() -> None:
    modules = modules_of("from scheduler.engine import dispatcher, parts")

    assert modules & (OF_THE_KEEPER | OF_THE_COMMANDS | {"scheduler.engine.work.worker", "pydantic"}) == set()


def test_the_names_of_those_rooms_are_right() -> None:
    modules = modules_of("from scheduler.engine import keeper")

    assert OF_THE_KEEPER - modules - {"scheduler.engine.mail.digest_facts"} == set()
