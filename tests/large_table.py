"""A table as it looks after months: made inside SQL, a million rows in a minute, always of the same shape.

Made to be hard: half of all tasks are of one schedule, which never fails; another has never succeeded; kinds and states
are as unevenly spread as in life; some thousand tasks are still to come, and a few hundred are on their way.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.orm import Session

from scheduler.clock import MICROSECOND, to_micros, utc_now
from scheduler.rules.task.policy import TaskPolicy
from scheduler.store.database import Database
from tests.builders import HOUR, a_revision, a_schedule, a_spec

SCHEDULES = 200
BUSIEST, NEVER_WELL, BUSIEST_ID, NEVER_WELL_ID = "every-minute", "never-well", 1, 4
QUARTER = dt.timedelta(days=90)
UNDER_WAY = {"queued": 1000, "retrying": 20, "running": 8}


@dataclass(frozen=True)
class Shape:
    """How many tasks have ended, evenly over which span, up to an hour before which moment; how many are planned."""

    rows: int
    span: dt.timedelta = QUARTER
    to_come: int = 4000
    now: dt.datetime = field(default_factory=utc_now)


def fill(database: Database, shape: Shape) -> None:
    """Fill an empty database that has its tables."""
    with database.write_unhurried() as session:
        _add_schedules(session, shape.now)
        _run(session, ENDED, shape, count=shape.rows)
        _run(session, PLANNED, shape, count=shape.to_come)
        for state, count in UNDER_WAY.items():
            _run(session, GOING, shape, count=count, state=state)
        _run(session, ATTEMPTS, shape)
        _run(session, LOGS, shape)
        for statement in (MAILS, ALERTS):
            _run(session, statement, shape, count=max(100, shape.rows // 100))
    vacuum(database)


def vacuum(database: Database) -> None:
    """What autovacuum does on PostgreSQL by itself. SQLite has no such thing, and plans without figures."""
    if not database.is_sqlite:
        engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("VACUUM (ANALYZE)")


def _add_schedules(session: Session, now: dt.datetime) -> None:
    revision = a_revision(session, accepted_at=now - QUARTER)
    names = {BUSIEST_ID: BUSIEST, NEVER_WELL_ID: NEVER_WELL}
    for number in range(1, SCHEDULES + 1):
        more: dict[str, Any] = {"warn_after": HOUR} if number % 3 == 0 else {}
        if number % 4 == 0:
            more["finish_by"] = dt.time(7 + number % 3)
        if number % 10 == 0:
            more["tags"] = ("money",)
        spec = a_spec(name=names.get(number, f"schedule-{number:03}"), owner=f"team-{number % 7}", **more)
        a_schedule(
            session,
            spec,
            revision_id=revision.id,
            in_force_since=now - QUARTER,
            planned_until=now + HOUR,
            failures_in_a_row=1 if number in (NEVER_WELL_ID, 5, 9) else 0,
        )


def _run(session: Session, statement: str, shape: Shape, **more: Any) -> None:
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    values = {
        "now": to_micros(shape.now),
        "step": shape.span // MICROSECOND // shape.rows,
        "rows": shape.rows,
        "policy": json.dumps(TaskPolicy().model_dump(mode="json")),
        "error": json.dumps({"type": "TimeoutError", "message": "no answer", "traceback": "Traceback …\n" * 20}),
        "word": json.dumps({"words": 1234, "top": {"the": 99, "of": 71}}),
        "empty": "{}",
        **more,
    }
    sql = statement.replace("AS_JSON", "AS TEXT" if is_sqlite else "AS JSONB").replace(
        "WITH NUMBERS",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
        if is_sqlite
        else "WITH n(i) AS (SELECT generate_series(CAST(1 AS BIGINT), CAST(:count AS BIGINT)))",
    )
    given = [bindparam(name, value) for name, value in values.items() if f":{name}" in sql]
    session.execute(text(sql).bindparams(*given))


SCHEDULE_OF = f"CASE WHEN i % 25 = 1 THEN NULL WHEN i % 2 = 0 THEN {BUSIEST_ID} ELSE 2 + (i / 2) % {SCHEDULES - 1} END"
KIND_OF = "CASE WHEN schedule_id IS NULL THEN 'adhoc' WHEN schedule_id % 50 = 3 THEN 'long' ELSE 'scheduled' END"
STATE_OF = f"""CASE WHEN schedule_id = {BUSIEST_ID} THEN 'succeeded' WHEN schedule_id = {NEVER_WELL_ID} THEN 'failed'
    WHEN r < 200 THEN 'failed' WHEN r < 300 THEN 'missed' WHEN r < 350 THEN 'skipped' WHEN r < 360 THEN 'cancelled'
    WHEN r < 363 AND schedule_id < 100 THEN 'lost' ELSE 'succeeded' END"""

ENDED = f"""
WITH NUMBERS,
placed AS (SELECT i, (i * 7919) % 10007 AS r, {SCHEDULE_OF} AS schedule_id,
    :now - 3600000000 - (:rows - i) * :step AS moment FROM n),
told AS (SELECT i, r, schedule_id, moment, {KIND_OF} AS kind, {STATE_OF} AS state FROM placed),
begun AS (SELECT told.*, CASE WHEN state IN ('missed', 'skipped', 'cancelled') THEN 0 WHEN r < 20 THEN 2 ELSE 1 END
    AS attempt FROM told)
INSERT INTO task (kind, origin, schedule_id, schedule, task, args, policy, idempotency_key, fire_time, due_at,
    start_by, lane, queue, state, reason_code, reason, attempt, token, created_at, queued_at, started_at, finished_at,
    worker, result, result_kind, error)
SELECT kind, CASE WHEN schedule_id IS NULL OR i % 400 = 7 THEN 'manual' ELSE 'schedule' END, schedule_id,
    CASE schedule_id WHEN {BUSIEST_ID} THEN '{BUSIEST}' WHEN {NEVER_WELL_ID} THEN '{NEVER_WELL}'
        ELSE 'schedule-' || schedule_id END,
    'count_words', CAST(:empty AS_JSON), CAST(:policy AS_JSON), 'key@' || i,
    CASE WHEN schedule_id IS NULL OR i % 400 = 7 THEN NULL ELSE moment END, moment,
    moment + 600000000, 'schedule:' || schedule_id, kind, state,
    CASE state WHEN 'missed' THEN 'late' WHEN 'skipped' THEN 'overlap' END,
    CASE state WHEN 'missed' THEN 'late: grace 10 min' WHEN 'skipped' THEN 'an earlier one ran' END,
    attempt, CASE WHEN attempt > 0 THEN 'token-' || i END, moment - 120000000, moment,
    CASE WHEN attempt > 0 THEN moment + 5000 END,
    moment + CASE state WHEN 'missed' THEN 600000000 ELSE 50000 + r * 500 END,
    CASE WHEN attempt > 0 THEN 'worker@host:1' END,
    CASE WHEN state = 'succeeded' THEN CAST(:word AS_JSON) END, CASE WHEN state = 'succeeded' THEN 'json' END,
    CASE WHEN state = 'failed' THEN CAST(:error AS_JSON) END
FROM begun ORDER BY i
"""  # noqa: S608 - of nothing but what stands here

PLANNED = f"""
WITH NUMBERS, placed AS (SELECT i, 1 + i % {SCHEDULES} AS schedule_id FROM n)
INSERT INTO task (kind, origin, schedule_id, schedule, task, args, policy, idempotency_key, fire_time, due_at,
    start_by, lane, queue, state, attempt, created_at)
SELECT {KIND_OF}, 'schedule', schedule_id, 'schedule-' || schedule_id, 'count_words',
    CAST(:empty AS_JSON), CAST(:policy AS_JSON), 'key-to-come@' || i, :now + 3600000000 + i * 1000000,
    :now + 3600000000 + i * 1000000, :now + 4200000000 + i * 1000000, 'schedule:' || schedule_id, {KIND_OF},
    'planned', 0, :now
FROM placed
"""  # noqa: S608 - of nothing but what stands here

GOING = f"""
WITH NUMBERS, placed AS (SELECT i, 5 + i % {SCHEDULES - 10} AS schedule_id FROM n)
INSERT INTO task (kind, origin, schedule_id, schedule, task, args, policy, idempotency_key, due_at, lane, queue, state,
    attempt, token, lease_until, created_at, queued_at, started_at, worker)
SELECT {KIND_OF}, 'manual', schedule_id, 'schedule-' || schedule_id, 'count_words',
    CAST(:empty AS_JSON), CAST(:policy AS_JSON), 'key-going@' || i, :now - 1000000 * i,
    'going:' || CAST(:state AS TEXT) || i, {KIND_OF},
    CAST(:state AS TEXT), CASE WHEN CAST(:state AS TEXT) = 'queued' THEN 0 ELSE 1 END, 'token-going-' || i,
    CASE WHEN CAST(:state AS TEXT) = 'running' THEN :now + 86400000000 END, :now - 1000000 * i, :now, :now,
    'worker@host:1'
FROM placed
"""  # noqa: S608 - of nothing but what stands here

ATTEMPTS = """
INSERT INTO attempt (task_id, number, token, worker, host, pid, started_at, ended_at, outcome, error_type,
    error_message)
SELECT task.id, numbers.number, 'token-' || task.id || '-' || numbers.number, 'worker@host:1', 'host', 1,
    started_at + 1000000 * (numbers.number - 1),
    CASE WHEN state = 'running' THEN NULL ELSE coalesce(finished_at, started_at) END,
    CASE WHEN state = 'running' THEN NULL WHEN number < attempt OR state = 'retrying' THEN 'failed' ELSE state END,
    CASE WHEN state = 'failed' THEN 'TimeoutError' END, CASE WHEN state = 'failed' THEN 'no answer' END
FROM task JOIN (SELECT 1 AS number UNION ALL SELECT 2) AS numbers ON numbers.number <= task.attempt
ORDER BY task.id, numbers.number
"""

LOGS = """
INSERT INTO log_chunk (task_id, attempt, written_at, lines)
SELECT id, 1, started_at, '06:30:01 INFO counted' FROM task WHERE started_at IS NOT NULL AND id % 5 = 0 ORDER BY id
"""

MAILS = """
WITH NUMBERS
INSERT INTO outbox (key, message_id, about, channel, contact, address, content, created_at, next_try_at, tries, state,
    sent_at)
SELECT 'mail-' || i, 'id-' || i, 'alert', 'email', 'ops', CAST(:empty AS_JSON), CAST(:empty AS_JSON),
    :now - 60000000 * i, :now - 60000000 * i, 1, CASE WHEN i < 4 THEN 'waiting' ELSE 'sent' END,
    CASE WHEN i < 4 THEN NULL ELSE :now - 60000000 * i END
FROM n
"""

ALERTS = f"""
WITH NUMBERS
INSERT INTO alert (subject, event, schedule_id, state, opened_at, last_at, told_at, closed_at, times, told_times,
    details)
SELECT 'schedule:' || i || '-failed', 'failed', 1 + i % {SCHEDULES}, CASE WHEN i < 4 THEN 'open' ELSE 'closed' END,
    :now - 120000000 * i, :now - 60000000 * i, :now - 60000000 * i,
    CASE WHEN i < 4 THEN NULL ELSE :now - 50000000 * i END, 1, 1, CAST(:empty AS_JSON)
FROM n
"""  # noqa: S608 - of nothing but what stands here
