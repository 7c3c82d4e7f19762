"""What a run leaves in SQL: its log, its error with the causes, its files; and no secret anywhere."""

from __future__ import annotations

import json
import re

import redis
from sqlalchemy import select

from scheduler.broker.private_server import private_url
from scheduler.engine.answers.views import task_of
from scheduler.rules.states import FAILED, LOST, SUCCEEDED
from scheduler.rules.task.log_lines import LONGEST_LINE, MOST_LINES
from scheduler.store.tables import Base, LogChunk
from tests.journeys.service import Service
from tests.waiting import wait_for

TOKEN = "canary-of-the-environment"
PASSWORD = "canary/of the args"
ONCE_EACH = """
    flood: {task: flood, args: {diary: DIARY, lines: 100000}, when: {every: 1s}, max_runs: 1}
    killed: {task: print_and_die, args: {diary: DIARY}, when: {every: 1s}, max_runs: 1, retry: none}
    files: {task: leave_files, args: {diary: DIARY, folder: FOLDER}, when: {every: 1s}, max_runs: 1}
"""


def log_of(service: Service, task_id: int, last: str) -> list[str]:
    """The whole log, once its last line is there; without the moments."""

    def found() -> list[str]:
        with service.database.read() as session:
            query = select(LogChunk.lines).where(LogChunk.task_id == task_id).order_by(LogChunk.id)
            return [line for chunk in session.scalars(query) for line in chunk.split("\n")]

    wait_for(lambda: found() and last in found()[-1], seconds=15, what=f"the end of the log; {service.log}")
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in found()]


def everything_in_sql(service: Service) -> str:
    with service.database.read() as session:
        rows = [session.execute(table.select()).mappings().all() for table in Base.metadata.sorted_tables]
    return json.dumps([dict(row) for found in rows for row in found], default=str, ensure_ascii=False)


def everything_in_redis(service: Service) -> str:
    url = service.environment.get("REDIS_URL", private_url(service.folder / "var"))
    with redis.Redis.from_url(url) as client:
        return repr([(key, client.dump(key)) for key in client.scan_iter()])


def test_a_run_leaves_all_it_said_and_no_secret(service: Service) -> None:
    service.environment["CANARY_TOKEN"] = TOKEN
    service.write(ONCE_EACH)
    service.start()

    said = service.run("tell", f"diary={service.diary}", f"password={PASSWORD}")
    flooded, killed, files = (service.tasks(name)[0].id for name in ("flood", "killed", "files"))

    # All that was said, whoever said it, masked
    assert service.wait_for_state(said, FAILED, SUCCEEDED).state == FAILED
    lines = log_of(service, said, "the last line has no end")
    assert [line for line in lines if line.startswith("OUT")] == [
        "OUT to standard output",
        "OUT from a process of its own",
        "OUT 100 %",
        "OUT \\xff is no letter",
        f"OUT {'x' * LONGEST_LINE} […]",
        "OUT *** and ***",
        "OUT the last line has no end",
    ]
    assert lines[lines.index("OUT to standard output") + 1 :][:2] == [
        "WARNING logged with ['***', '***'] in two",
        "    lines",
    ]
    assert "ERR to standard error" in lines
    assert any("UserWarning: about to end" in line for line in lines)

    # The error and what it came from
    task = service.task(said)
    [attempt] = service.attempts(said)
    assert attempt.error_message == "not with *** at https://jana:***@example.com"
    assert attempt.causes == [{"type": "KeyError", "message": "'no ***'"}]
    assert task.error is not None
    assert task.error["causes"] == attempt.causes
    assert task.progress is not None
    assert task.progress["message"] == "with ***"
    shown = service.command("show", str(said))
    assert "caused by KeyError: 'no ***'" in shown
    assert '"password": "***"' in shown

    # What was too much is counted; the lease did not suffer
    task = service.wait_for_state(flooded, SUCCEEDED)
    assert (task.attempt, task.result) == (1, {"lines": 100_000, "token": "***", "seen": "***!"})
    lines = log_of(service, flooded, "more lines came")
    assert lines[:2] == ["OUT line 0", "OUT line 1"]
    assert lines[MOST_LINES - 1 :] == [
        f"OUT line {MOST_LINES - 1}",
        "[the log is full: what follows is counted, not kept]",
        "[90,000 more lines came and are not kept]",
    ]

    # One that was killed loses nothing
    service.wait_for_state(killed, LOST, FAILED)
    assert log_of(service, killed, "half")[-2:] == ["OUT a whole line", "OUT half a li"]

    # Files
    task = service.wait_for_state(files, SUCCEEDED, FAILED)
    assert (task.state, task.result_kind) == (SUCCEEDED, "file")
    first, second = task_of(service.database, files)["artifacts"]
    assert (first["name"], first["media_type"], first["size"]) == ("../../report.txt", "text/plain", 3)
    assert first["path"] == f"{files}/1/1"
    assert (service.folder / "var" / "artifacts" / first["path"]).read_text() == "one"
    assert second["path"] == str(service.folder / "b.bin")

    # No secret
    sql, in_redis = everything_in_sql(service), everything_in_redis(service)
    assert TOKEN not in sql + in_redis
    assert sql.count(PASSWORD) == 1  # the arguments, which the worker needs
    assert PASSWORD not in in_redis
    own_log = service.log.read_text()
    assert "logged with ['***', '***'] in two" in own_log
    assert (TOKEN in own_log, PASSWORD in own_log) == (False, False)
    assert service.stop() == 0
