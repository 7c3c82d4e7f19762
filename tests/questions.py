"""All that the service asks of its tables, by name: what a test looks up the plans of, and a benchmark takes the time
of. Each goes through the code that people and loops use."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from scheduler.engine.answers import schedule_views, status, views
from scheduler.engine.answers.explain import explain
from scheduler.engine.check.invariants import INVARIANTS, offenders
from scheduler.engine.mail.alert_levels import levels_of
from scheduler.engine.mail.digest_facts import facts_of
from scheduler.engine.page.day import day_of
from scheduler.engine.page.now import now_of
from scheduler.engine.page.schedule import calendar, ledger, schedule_page
from scheduler.engine.page.schedules import schedules_page
from scheduler.engine.page.task import log_tail
from scheduler.engine.page.tasks import Place, TaskFilter, tasks_page
from scheduler.engine.page.workers import workers_of
from scheduler.engine.planner import plan
from scheduler.rules.spec import Digest
from scheduler.rules.states import CANCELLED, FAILED, LOST, PLANNED, QUEUED, SUCCEEDED
from scheduler.store import outbox, retention, schedules, tasks
from scheduler.store.database import Database
from tests.large_table import BUSIEST, NEVER_WELL, NEVER_WELL_ID, Shape

DAY = dt.timedelta(days=1)
MINUTE = dt.timedelta(minutes=1)

Ask = Callable[[Database, Shape], Any]

A_DIGEST = Digest(name="daily", to=(), when=(), timezone="UTC")


def lists() -> dict[str, dict[str, Any]]:
    """Filters of `scheduler tasks`: all combinations, of what is common and of what hardly ever is."""
    choices = {
        "kind": (None, "long"),
        "state": (None, LOST, (FAILED, CANCELLED, QUEUED), PLANNED),
        "schedule": (None, BUSIEST, NEVER_WELL),
        "span": (None, "until", "both"),
    }
    found = {}
    for values in itertools.product(*choices.values()):
        name = " ".join(f"{key}={value}" for key, value in zip(choices, values, strict=True) if value is not None)
        found[f"tasks {name}".strip()] = dict(zip(choices, values, strict=True))
    return found


def ask_list(database: Database, shape: Shape, chosen: dict[str, Any]) -> list[dict[str, Any]]:
    chosen = dict(chosen)
    span = chosen.pop("span")
    since = shape.now - shape.span * 0.7 if span in ("since", "both") else None
    until = shape.now - shape.span * 0.68 if span in ("until", "both") else None
    return views.tasks_list(database, **chosen, since=since, until=until)


def of_session(ask: Callable[[Session, Shape], Any]) -> Ask:
    def asked(database: Database, shape: Shape) -> Any:
        with database.read() as session:
            return ask(session, shape)

    return asked


def _digest(session: Session, shape: Shape) -> Any:
    return facts_of(session, A_DIGEST, service="jobs", covers_from=shape.now - DAY, covers_until=shape.now)


def _wanted(session: Session, shape: Shape) -> int:
    after, found = 0, 0
    while page := tasks.wanted_jobs(session, after, 1000):
        found, after = found + len(page), page[-1].task_id
    return found


def _retention_page(session: Session, shape: Shape) -> Any:
    before = shape.now - shape.span * 0.5
    page = retention.ended_before(session, before, None, 200)
    return retention.ended_before(session, before, (page[-1].finished_at, page[-1].id), 200)


READS: dict[str, Ask] = {
    "status": lambda database, shape: status.status_of(database, None),
    "schedules": lambda database, shape: schedule_views.schedules_list(database),
    "explain, a row": lambda database, shape: explain(database, BUSIEST, lambda zone: shape.now),
    "explain, long ago": lambda database, shape: explain(database, NEVER_WELL, lambda zone: shape.now - 40 * DAY),
    "show": lambda database, shape: views.task_of(database, shape.rows // 2),
    "logs": lambda database, shape: views.log_of(database, shape.rows // 2),
    "ended since": lambda database, shape: views.tasks_ended_since(database, shape.now - DAY),
    "digest": of_session(_digest),
    "usual durations": of_session(lambda session, shape: schedules.recent_runs(session, 20)),
    "alert levels": of_session(lambda session, shape: levels_of(session, shape.now)),
    "outbox": of_session(lambda session, shape: outbox.counts(session, shape.now)),
    "reconcile: wanted": of_session(_wanted),
    "reconcile: late": of_session(lambda session, shape: tasks.late(session)),
    "reconcile: silent": of_session(lambda session, shape: tasks.silent(session, MINUTE)),
    "retention: page": of_session(_retention_page),
    "retention: keeps": of_session(lambda session, shape: retention.keeps(session)),
    "page of schedules": lambda database, shape: schedules_page(database),
    "page of schedules, a search": lambda database, shape: schedules_page(database, query="team-3 every"),
    "page of one schedule": lambda database, shape: schedule_page(database, BUSIEST),
    "ledger": lambda database, shape: ledger(database, BUSIEST),
    "ledger, of one that seldom runs": lambda database, shape: ledger(database, NEVER_WELL),
    "ledger, far back": lambda database, shape: ledger(database, BUSIEST, before=shape.rows // 2),
    "calendar": lambda database, shape: calendar(database, BUSIEST, most=200),
    "page of tasks": lambda database, shape: tasks_page(database, TaskFilter()),
    "page of tasks, far back": lambda database, shape: tasks_page(
        database, TaskFilter(kind="long", states=(FAILED, LOST)), after=Place("e", shape.now - 60 * DAY, 1)
    ),
    "page of a task": lambda database, shape: log_tail(database, shape.rows // 2),
    "page of now": lambda database, shape: now_of(database, None),
    "page of rare tasks": lambda database, shape: tasks_page(
        database, TaskFilter(kind="long", states=(LOST, CANCELLED))
    ),
    "page of a day": lambda database, shape: day_of(database, "UTC", (shape.now - DAY).date()),
    "page of workers": lambda database, shape: workers_of(database, None),
}

CHECKS: dict[str, Ask] = {
    f"doctor: {one.name}": of_session(lambda session, shape, one=one: offenders(session, one))  # type: ignore[misc]
    for one in INVARIANTS
}


# --- what writes; whoever asks rolls back ---------------------------------------------------------------------------


def _a_task(session: Session, state: str) -> Any:
    """The newest: before it come all the others of the backlog."""
    return session.query(tasks.Task).filter(tasks.Task.state == state).order_by(tasks.Task.id.desc()).first()


def _claim(session: Session, shape: Shape) -> None:
    task = _a_task(session, QUEUED)
    who = {"token": "t", "worker": "w", "host": "h", "pid": 1}
    assert tasks.claim(session, task.id, task.attempt + 1, **who, lease=MINUTE) is not None


def _refused(session: Session, shape: Shape) -> None:
    task = _a_task(session, QUEUED)
    tasks.why_refused(session, task.id, task.attempt + 1, "t")


def _end(session: Session, shape: Shape) -> None:
    task = _a_task(session, "running")
    end = tasks.AttemptEnd(SUCCEEDED)
    assert tasks.end(session, task.id, task.attempt, task.token, SUCCEEDED, end)
    tasks.waiting_for_lane(session, task.id)
    tasks.waiting_for_slot(session, task.id)
    schedules.clear_failures(session, task.schedule_id)


def _withdraw(session: Session, shape: Shape) -> None:
    tasks.withdraw_forecast(session, [1, 2, 3], shape.now)
    tasks.cancel_waiting(session, tasks.Task.schedule_id == NEVER_WELL_ID, code="removed", reason="removed")


def _mark(session: Session, shape: Shape) -> None:
    tasks.mark_queued(session, [(_a_task(session, PLANNED).id, 1)])


def _plan(session: Session, shape: Shape) -> None:
    later = shape.now + dt.timedelta(hours=2)
    plan(session, schedules.to_plan(session, later, later, 5), later, dt.timedelta(minutes=2))


def _delete(session: Session, shape: Shape) -> None:
    page = retention.ended_before(session, shape.now, None, 100)
    assert retention.delete_ended(session, [row.id for row in page])


def _mail(session: Session, shape: Shape) -> None:
    assert outbox.claim(session, ("email",)) is not None


WRITES: dict[str, Callable[[Session, Shape], None]] = {
    "claim": _claim,
    "claim refused": _refused,
    "end": _end,
    "withdraw": _withdraw,
    "mark queued": _mark,
    "planner": _plan,
    "retention: delete": _delete,
    "outbox: claim": _mail,
}
