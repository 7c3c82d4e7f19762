"""What people and programs ask for: run now, cancel, retry, pause, resume. Each a transaction; Redis after."""

from __future__ import annotations

import datetime as dt
import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sqlalchemy.orm import Session

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import iso
from scheduler.engine.pauses import hold, release
from scheduler.engine.rows import asked_of_schedule, asked_row
from scheduler.errors import NotFound, RedisAway, Refused, WrongUsage
from scheduler.rules.askers import Asker
from scheduler.rules.complaints import Complaint
from scheduler.rules.file.assembly import RETRY_POLICIES
from scheduler.rules.spec import KindSpec, Missed, Retry, ScheduleSpec, Timeout
from scheduler.rules.states import CANCELLED, FINAL, KINDS, RUNNING
from scheduler.rules.task.arguments import check_arguments
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.task.policy import GRACE_OF_KILL, TaskPolicy
from scheduler.rules.task.storable import why_unstorable
from scheduler.rules.times.durations import parse_duration
from scheduler.store import audit, parts, schedules, tasks
from scheduler.store.database import Database
from scheduler.store.schedules import pause_of
from scheduler.store.tables import Schedule, Task
from scheduler.task_functions import Catalogue, TaskFunction

log = logging.getLogger(__name__)

START_WITHIN = dt.timedelta(hours=1)  # what a person asked for and could not start by then is missed, not run at night
SILENT_AFTER = dt.timedelta(seconds=30)
SCHEDULE, FUNCTION = "schedule", "function"


@dataclass(frozen=True)
class Asked:
    """A run that was asked for, and what stands in its way."""

    task_id: int
    warnings: tuple[str, ...] = ()


class Actions:
    def __init__(self, database: Database, room: WaitingRoom, by: str | Asker) -> None:
        self.database = database
        self.room = room
        self.asker = by if isinstance(by, Asker) else Asker(by, address=socket.gethostname())
        self.by = self.asker.name

    # --- run now ----------------------------------------------------------------------------------------------------

    def run(
        self, name: str, args: Mapping[str, Any], catalogue: Catalogue, origin: str = "manual", *, what: str = ""
    ) -> Asked:
        """Ask for one run of a schedule, or of a task function, now. Arguments given override the schedule's.

        With `what` it must be a schedule, or a function; without it a schedule goes before a function of that name.
        """
        with self.database.write() as session:
            schedule = None if what == FUNCTION else schedules.by_name(session, name)
            if what == SCHEDULE:
                schedule = _schedule(session, name)
            if schedule is not None and schedule.retired_at is None:
                row = self._row_of_schedule(session, schedule, args, catalogue, origin)
            else:
                row = self._row_of_function(session, name, args, catalogue, origin)
            added = tasks.add(session, [row])
            warnings = self._no_worker(session, row["kind"])
            subject = f"schedule {name}" if row["schedule"] else f"function {name}"
            self._note(session, "run", subject, {"args": row["args"]}, added[0].id, warnings)
        job = WaitingJob(added[0].id, 1, added[0].queue, added[0].due_at)
        return Asked(job.task_id, (*warnings, *self._register([job])))

    def _row_of_schedule(
        self, session: Session, schedule: Schedule, args: Mapping[str, Any], catalogue: Catalogue, origin: str
    ) -> dict[str, Any]:
        spec = ScheduleSpec.model_validate(schedule.spec)
        merged = {**spec.args, **args}
        _refuse_bad_arguments(catalogue.functions.get(spec.task), merged)
        policy, lane = asked_of_schedule(schedule, spec)
        now = schedules.now(session)
        return asked_row(
            origin=origin,
            task=spec.task,
            args=merged,
            kind=spec.kind,
            queue=spec.queue,
            policy=policy,
            now=now,
            start_by=now + START_WITHIN,
            requested_by=self.by,
            idempotency_key=f"{schedule.name}@{now.isoformat()} {origin}",
            schedule=schedule,
            lane=lane,
        )

    def _row_of_function(
        self, session: Session, name: str, args: Mapping[str, Any], catalogue: Catalogue, origin: str
    ) -> dict[str, Any]:
        function = catalogue.functions.get(name)
        if function is None:
            known = [one.name for one in schedules.all_schedules(session)] + list(catalogue.functions)
            raise NotFound(
                f'There is no schedule and no task function "{name}"{_nearest(name, known)}{_broken(catalogue)}'
            )
        _refuse_bad_arguments(function, args)
        kind = function.kind or "adhoc"
        if kind not in KINDS:
            raise Refused(f'Task function "{name}" asks for kind "{kind}"; there are {", ".join(KINDS)}')
        now = schedules.now(session)
        found = _kind_spec(session, kind)
        return asked_row(
            origin=origin,
            task=name,
            args=dict(args),
            kind=kind,
            queue=found.queue,
            policy=_policy_of_function(session, function, found),
            now=now,
            start_by=now + START_WITHIN,
            requested_by=self.by,
            idempotency_key=f"{name}@{now.isoformat()} {origin}",
        )

    # --- cancel and retry -------------------------------------------------------------------------------------------

    def cancel(self, task_id: int) -> str:
        """Cancel a task: one that waits at once, one that runs by asking its worker; the state it is in now."""
        with self.database.write() as session:
            task = _task(session, task_id)
            rows = tasks.cancel_waiting(session, Task.id == task_id, code="cancelled", reason=f"cancelled by {self.by}")
            asked = not rows and tasks.request_stop(session, task_id, self.by)
            if rows or asked:
                state = CANCELLED if rows else RUNNING
                details = {"was": task.state, "name": task.schedule or task.task}
                answer = {"id": task_id, "state": state}
                audit.record(session, self.asker, "cancel", f"task {task_id}", details, answer=answer)
            jobs = [(row.id, row.attempt + 1, row.queue) for row in rows]
        if jobs:
            self._withdraw(jobs)
            return CANCELLED
        if asked:
            return RUNNING
        raise Refused(f"Task {task_id} has ended already ({task.state}); an end never changes")

    def retry(self, task_id: int) -> Asked:
        """Run an ended task again, as a new task that names the old one."""
        with self.database.write() as session:
            old = _task(session, task_id)
            if old.state not in FINAL:
                raise Refused(f"Task {task_id} is {old.state}; only one that has ended can be run again")
            now = schedules.now(session)
            schedule = session.get(Schedule, old.schedule_id) if old.schedule_id is not None else None
            policy = TaskPolicy.model_validate(old.policy)
            if policy.overlap != "allow":
                policy = policy.model_copy(update={"overlap": "queue-all"})
            row = asked_row(
                origin="retry",
                task=old.task,
                args=dict(old.args),
                kind=old.kind,
                queue=old.queue,
                policy=policy.model_copy(
                    update={"missed": Missed(run="none"), "max_running": _kind_spec(session, old.kind).max_running}
                ),
                now=now,
                start_by=now + START_WITHIN,
                requested_by=self.by,
                idempotency_key=old.idempotency_key,
                schedule=schedule,
                lane=old.lane,
                retry_of=task_id,
            )
            added = tasks.add(session, [row])
            warnings = self._no_worker(session, old.kind)
            details = {"name": old.schedule or old.task}
            self._note(session, "retry", f"task {task_id}", details, added[0].id, warnings)
        job = WaitingJob(added[0].id, 1, added[0].queue, added[0].due_at)
        return Asked(job.task_id, (*warnings, *self._register([job])))

    # --- pause and resume -------------------------------------------------------------------------------------------

    def pause(self, name: str, why: str, until: dt.datetime | None = None, *, chosen: str = "") -> None:
        """Hold a schedule; survives restarts and applies.

        `chosen`: what it was chosen by, together with others; one that is paused otherwise meanwhile is then refused.
        """
        with self.database.write() as session:
            schedules.take_turns(session)
            schedule = _schedule(session, name)
            now, held = schedules.now(session), pause_of(schedule)
            if chosen and held is not None:
                raise Refused(str(held))
            if until is not None and until <= now:
                raise WrongUsage(f"until {until:%Y-%m-%d %H:%M} UTC is past; give a moment to come, or none")
            jobs = hold(session, schedule, schedules.pause_fields(self.by, why, now, until, chosen), now)
            details = {"why": why, "until": iso(until), **({"chosen": chosen} if chosen else {})}
            answer = {"schedule": name, "paused": True}
            audit.record(session, self.asker, "pause", f"schedule {name}", details, answer=answer)
        self._withdraw(jobs)

    def resume(self, name: str, *, chosen: str = "") -> None:
        """Let a held schedule go on; what passed meanwhile stays skipped. With `chosen` only from that pause."""
        with self.database.write() as session:
            schedules.take_turns(session)
            schedule = _schedule(session, name)
            if schedule.file_pause is not None:
                raise Refused(
                    f'Schedule "{name}" is paused by {schedule.file_pause["by"]}: '
                    "take `paused` out of the file and apply it"
                )
            if pause_of(schedule) is None:
                raise Refused(f'Schedule "{name}" is not paused')
            if chosen and (schedule.pause or {}).get("chosen") != chosen:
                raise Refused(str(pause_of(schedule)))
            jobs = release(session, schedule, schedules.now(session))
            answer = {"schedule": name, "paused": False}
            audit.record(session, self.asker, "resume", f"schedule {name}", answer=answer)
        self._withdraw(jobs)

    # --- what they share --------------------------------------------------------------------------------------------

    def _note(
        self,
        session: Session,
        action: str,
        subject: str,
        details: Mapping[str, Any],
        task_id: int,
        warnings: tuple[str, ...],
    ) -> None:
        """Write down that a new task was asked for."""
        answer = {"id": task_id, "warnings": list(warnings)}
        audit.record(session, self.asker, action, subject, {**details, "task": task_id}, answer=answer, status=201)

    def _register(self, jobs: list[WaitingJob]) -> tuple[str, ...]:
        try:
            self.room.register(jobs)
        except RedisAway as error:
            return (f"recorded, but not queued yet: {error}",)
        return ()

    def _withdraw(self, jobs: list[tuple[int, int, str]]) -> None:
        try:
            self.room.withdraw(jobs)
        except RedisAway as error:
            log.info("Left in Redis for reconcile: %s", error)

    def _no_worker(self, session: Session, kind: str) -> tuple[str, ...]:
        alive = any(
            part.part == f"worker-{kind}" and schedules.now(session) - part.ticked_at < SILENT_AFTER
            for part in parts.all_parts(session)
        )
        if alive:
            return ()
        return (f"no worker of kind {kind} has been seen lately; it waits until one is started",)


def _task(session: Session, task_id: int) -> Task:
    task = session.get(Task, task_id)
    if task is None:
        raise NotFound(f"There is no task {task_id}")
    return task


def _schedule(session: Session, name: str) -> Schedule:
    schedule = schedules.by_name(session, name, lock=True)
    if schedule is None or schedule.retired_at is not None:
        known = [one.name for one in schedules.all_schedules(session)]
        raise NotFound(f'There is no schedule "{name}"{_nearest(name, known)}')
    return schedule


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _broken(catalogue: Catalogue) -> str:
    """Where else a task function may be that is not to be had."""
    modules = "; ".join(f"{module} ({why})" for module, why in catalogue.broken.items())
    return f". It may stand in a module that cannot be imported: {modules}" if modules else ""


def _refuse_bad_arguments(function: TaskFunction | None, args: Mapping[str, Any]) -> None:
    why = why_unstorable(dict(args))
    if why is not None:
        raise WrongUsage(f"The arguments cannot be stored: {why}")
    if function is None:
        return  # the worker may know it; if not, the task fails and says so
    problems = check_arguments(function.function, args)
    if problems:
        raise WrongUsage("\n".join(f"{function.name}: {one.message}. {one.hint}".rstrip(". ") for one in problems))


def _kind_spec(session: Session, kind: str) -> KindSpec:
    revision = schedules.latest_revision(session)
    found = (revision.book.get("kinds") or {}).get(kind) if revision else None
    if found is not None:
        return KindSpec.model_validate(found)
    soft = dt.timedelta(minutes=10)
    return KindSpec(name=kind, queue=kind, timeout=Timeout(soft=soft, hard=soft + GRACE_OF_KILL))


def _policy_of_function(session: Session, function: TaskFunction, kind: KindSpec) -> TaskPolicy:
    return TaskPolicy(
        retry=_retry_of(session, function),
        timeout=_timeout_of(function, kind.timeout),
        overlap="allow",
        missed=Missed(run="none"),
        max_running=kind.max_running,
    )


def _retry_of(session: Session, function: TaskFunction) -> Retry:
    revision = schedules.latest_revision(session)
    declared = (revision.book.get("retry_policies") or {}) if revision else {}
    policies = {**RETRY_POLICIES, **{name: Retry.model_validate(found) for name, found in declared.items()}}
    name = function.retry or "none"
    if name not in policies:
        raise Refused(
            f'Task function "{function.name}" asks for retry policy "{name}"{_nearest(name, list(policies)) or "."} '
            f"There are {', '.join(sorted(policies))}; others are declared under retry_policies in the schedule file"
        )
    return policies[name]


def _timeout_of(function: TaskFunction, of_kind: Timeout) -> Timeout:
    if function.timeout is None:
        return of_kind
    try:
        soft = parse_duration(function.timeout)
    except Complaint as complaint:
        raise Refused(
            f'Task function "{function.name}" asks for timeout "{function.timeout}", which cannot be read. '
            'Give a duration with its unit, such as timeout="2h"'
        ) from complaint
    return Timeout(soft=soft, hard=soft + GRACE_OF_KILL)
