"""Tasks: what ran, runs and will run; their logs and files; cancelling, and running again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from scheduler.engine.actions import FUNCTION, Actions
from scheduler.engine.answers.views import task_of
from scheduler.engine.page.task import KeptFile, kept_file, log_since
from scheduler.engine.page.tasks import TaskFilter, place_of, tasks_page
from scheduler.rules.states import FINAL
from scheduler.web.api import told
from scheduler.web.api.asking import OperatorAsks, OperatorRuns
from scheduler.web.api.values import ArtifactId, FunctionName, LogAsked, NothingBody, RunBody, TaskId, TasksAsked
from scheduler.web.callers import Viewer
from scheduler.web.here import BackendsHere, CatalogueHere, SettingsHere

router = APIRouter(tags=["tasks"])

BLOCK = 1 << 16  # bytes
AS_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("/tasks", response_model=told.Tasks)
def list_tasks(caller: Viewer, backends: BackendsHere, asked: TasksAsked) -> Any:
    """Tasks, some at a time: what is going on, then what has ended, the newest first."""
    wanted = TaskFilter(asked.kind, tuple(asked.state), asked.schedule, asked.since, asked.until)
    after = None if asked.cursor is None else place_of(asked.cursor)
    found = tasks_page(backends.database, wanted, after=after, limit=asked.limit)
    return {"tasks": found.tasks, "next_cursor": found.older}


@router.get("/tasks/{task_id}", response_model=told.Task)
def show_task(caller: Viewer, backends: BackendsHere, task_id: TaskId) -> Any:
    """One task, whole."""
    return task_of(backends.database, task_id)


@router.get("/tasks/{task_id}/log", response_model=told.Log)
def show_log(caller: Viewer, backends: BackendsHere, task_id: TaskId, asked: LogAsked) -> Any:
    """What its attempts logged, from the beginning or after a piece; of very much the first part."""
    state = task_of(backends.database, task_id)["state"]  # before the log: what came until its end is told then
    pieces = log_since(backends.database, task_id, asked.after)
    return {
        "pieces": [{"id": one.id, "attempt": one.attempt, "lines": one.lines} for one in pieces],
        "after": pieces[-1].id if pieces else asked.after,
        "ended": state in FINAL,
    }


@router.get("/tasks/{task_id}/artifacts/{artifact_id}", responses=AS_BYTES, response_class=Response)
def fetch_artifact(
    caller: Viewer, backends: BackendsHere, settings: SettingsHere, task_id: TaskId, artifact_id: ArtifactId
) -> Response:
    """A file that it left, to be saved: no browser shows it as a page of ours."""
    stack = ExitStack()
    file = stack.enter_context(kept_file(backends.database, settings, task_id, artifact_id))
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='')}",
        "Content-Length": str(file.size),
    }
    return StreamingResponse(_blocks(file, stack), media_type="application/octet-stream", headers=headers)


@router.post("/tasks/{task_id}/cancel", response_model=told.Cancelled)
def cancel_task(asker: OperatorAsks, backends: BackendsHere, task_id: TaskId, body: NothingBody | None = None) -> Any:
    """Cancel it; one that runs is asked to stop, then interrupted, then killed."""
    state = Actions(backends.database, backends.room, asker).cancel(task_id)
    return {"id": task_id, "state": state}


@router.post("/tasks/{task_id}/retry", response_model=told.Asked, status_code=201)
def retry_task(asker: OperatorAsks, backends: BackendsHere, task_id: TaskId, body: NothingBody | None = None) -> Any:
    """Run one that has ended again, as a new task that names it."""
    asked = Actions(backends.database, backends.room, asker).retry(task_id)
    return {"id": asked.task_id, "warnings": asked.warnings}


@router.get("/functions", response_model=told.TaskFunctions)
def list_functions(caller: Viewer, catalogue: CatalogueHere) -> Any:
    """The task functions that can be run."""
    found = sorted(catalogue.functions.values(), key=lambda one: one.name)
    return {"functions": [{"name": one.name, "kind": one.kind, "description": one.description} for one in found]}


@router.post("/functions/{name}/run", response_model=told.Asked, status_code=201)
def run_function(now: OperatorRuns, name: FunctionName, body: RunBody | None = None) -> Any:
    """Run a task function once, now, as a new task."""
    return now.run(name, body, FUNCTION)


def _blocks(file: KeptFile, stack: ExitStack) -> Iterator[bytes]:
    with stack:
        left = file.size
        while left > 0 and (block := file.file.read(min(BLOCK, left))):
            left -= len(block)
            yield block
