"""What programs are told: the shapes of all answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from scheduler.web.api.values import Kind, Origin, Role, State

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Id = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class ProblemPart(BaseModel):
    where: str
    message: str


class Problem(BaseModel):
    """Why it is not done, as RFC 9457 has it."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    errors: list[ProblemPart] | None = None


class Me(BaseModel):
    name: str
    role: Role
    via: str


# --- schedules ------------------------------------------------------------------------------------------------------


class Pause(BaseModel):
    by: str
    why: str
    until: Instant | None
    since: Instant | None
    source: str


class LastTask(BaseModel):
    id: Id
    state: State
    fire_time: Instant | None
    finished_at: Instant | None


class Schedule(BaseModel):
    name: str
    task: str
    kind: Kind
    words: str
    timezone: str
    state: str
    pause: Pause | None
    parked: str | None
    retired_at: Instant | None
    last: LastTask | None
    next: Instant | None
    failures_in_a_row: Count
    owner: str | None
    about: str | None
    tags: list[str]


class Schedules(BaseModel):
    schedules: list[Schedule]
    next_cursor: str | None


class FireTime(BaseModel):
    fire_time: Instant
    local: Instant
    note: str


class FireTimes(BaseModel):
    schedule: str
    timezone: str
    words: str
    fire_times: list[FireTime]


class Held(BaseModel):
    schedule: str
    paused: bool


class BackfillTask(BaseModel):
    id: Id | None
    occurrence: Instant


class Backfill(BaseModel):
    schedule: str
    count: Count
    first: Instant | None
    last: Instant | None
    left_out: Count
    tasks: list[BackfillTask]
    warnings: list[str]


# --- tasks ----------------------------------------------------------------------------------------------------------


class Cause(BaseModel):
    type: str
    message: str


class Attempt(BaseModel):
    number: Id
    worker: str
    host: str
    pid: int
    started_at: Instant
    ended_at: Instant | None
    outcome: str | None
    error_type: str | None
    error_message: str | None
    causes: list[Cause]
    traceback: str | None
    peak_memory: int | None


class Artifact(BaseModel):
    id: Id
    attempt: int
    name: str
    media_type: str
    size: Count
    sha256: str
    created_at: Instant


class Task(BaseModel):
    id: Id
    kind: Kind
    origin: Origin
    schedule: str | None
    task: str
    args: dict[str, Any]
    fire_time: Instant | None
    due_at: Instant
    start_by: Instant | None
    state: State
    reason_code: str | None
    reason: str | None
    created_at: Instant
    queued_at: Instant | None
    started_at: Instant | None
    finished_at: Instant | None
    attempts: list[Attempt]
    result: dict[str, Any] | None
    result_kind: str | None
    artifacts: list[Artifact]
    error: dict[str, Any] | None
    progress: dict[str, Any] | None
    queue: str
    worker: str | None
    requested_by: str | None
    retry_of: Id | None
    idempotency_key: str


class ListedTask(BaseModel):
    id: Id
    kind: Kind
    origin: Origin
    schedule: str | None
    task: str
    fire_time: Instant | None
    due_at: Instant
    state: State
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    attempt: Count
    progress: dict[str, Any] | None
    requested_by: str | None
    retry_of: Id | None
    note: str
    timezone: str | None


class Tasks(BaseModel):
    tasks: list[ListedTask]
    next_cursor: str | None


class Asked(BaseModel):
    """A new task, and what stands in its way."""

    id: Id
    warnings: list[str]


class Cancelled(BaseModel):
    """`running`: its worker was asked to stop it."""

    id: Id
    state: State


class LogPiece(BaseModel):
    id: Id
    attempt: Id
    lines: list[str]


class Log(BaseModel):
    pieces: list[LogPiece]
    after: Annotated[int, Field(ge=0, description="To ask for what comes later.")]
    ended: Annotated[bool, Field(description="The task has ended; its last lines may come a moment later.")]


# --- the file, the service ------------------------------------------------------------------------------------------


class FileFault(BaseModel):
    file: str
    line: int
    column: int
    schedule: str | None
    code: str
    message: str
    hint: str


class Checked(BaseModel):
    ok: bool
    faults: list[FileFault]
    warnings: list[FileFault]
    schedules: list[str]


class KeyChange(BaseModel):
    key: str
    old: str
    new: str


class Fires(BaseModel):
    count: Count
    more: bool
    first: list[Instant]


class ScheduleDifference(BaseModel):
    schedule: str
    how: str
    was: str | None
    when: str
    keys: list[KeyChange]
    gained: Fires
    lost: Fires
    held: str | None


class Difference(BaseModel):
    """The same as `scheduler diff --json`."""

    revision: Annotated[int | None, Field(description="What the file was held against.")]
    differs: bool
    mass_removal: bool
    added: list[str]
    removed: list[str]
    changed: list[str]
    described: list[str]
    renamed: dict[str, str]
    unchanged: Count
    fires_until: Instant
    schedules: list[ScheduleDifference]


class Revision(BaseModel):
    revision: Id
    accepted_at: Instant
    author: str
    host: str
    file: str
    rollback_to: Id | None
    added: list[str]
    changed: list[str]
    described: list[str]
    removed: list[str]
    renamed: dict[str, str]


class RevisionWithText(Revision):
    text: str


class Revisions(BaseModel):
    revisions: list[Revision]
    next_cursor: int | None


class TaskFunction(BaseModel):
    name: str
    kind: Kind | None
    description: str


class TaskFunctions(BaseModel):
    functions: list[TaskFunction]


class AuditLine(BaseModel):
    id: Id
    at: Instant
    who: str
    via: str
    address: str
    action: str
    subject: str
    details: dict[str, Any]


class AuditLines(BaseModel):
    lines: list[AuditLine]
    next_cursor: int | None


class Counts(BaseModel):
    total: Count
    active: Count
    paused: Count
    parked: Count
    failing: Count


class Status(BaseModel):
    """The same as `scheduler status --json`."""

    now: Instant
    ok: bool
    verdict: str
    problems: list[str]
    schedules: Counts
    late_count: Count
    running_count: Count
    counts: dict[str, dict[str, Count]]
    failing: list[dict[str, Any]]
    late: list[dict[str, Any]]
    running: list[dict[str, Any]]
    waiting: list[dict[str, Any]]
    upcoming: list[dict[str, Any]]
    paused: list[dict[str, Any]]
    parked: list[dict[str, Any]]
    parts: list[dict[str, Any]]
    revision: dict[str, Any] | None
    alerts: dict[str, Any]
    outbox: dict[str, Any]
    redis: dict[str, Any] | None
