"""Tasks by kind, state, schedule and span; and one task, whole, which keeps itself up to date until it has ended."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import HTMLResponse, PlainTextResponse, StreamingResponse

from scheduler.clock import parse_iso, utc_now
from scheduler.engine.answers.views import task_of, zone_of
from scheduler.engine.backends import Backends
from scheduler.engine.page.frame import service_zone
from scheduler.engine.page.task import (
    NO_MEDIA,
    KeptFile,
    is_picture,
    kept_file,
    log_since,
    log_tail,
    pictures_of_set,
    set_picture,
    shown_result,
    why_it_waits,
)
from scheduler.engine.page.tasks import TaskFilter, place_of, tasks_page
from scheduler.errors import NotFound, WrongUsage
from scheduler.rules.pretty_json import pretty
from scheduler.rules.states import FINAL, KINDS, STATES
from scheduler.rules.task.pace import pace_of
from scheduler.rules.task.results import HTML
from scheduler.rules.task.task_words import origin_in_words, size_in_words
from scheduler.rules.task.timeline import timeline_of
from scheduler.rules.times.moments import zone_named
from scheduler.rules.times.typed_moments import typed_moment
from scheduler.settings import Settings
from scheduler.web.callers import OPERATOR, Caller, Viewer, caller_of
from scheduler.web.events import Regions, stream
from scheduler.web.here import BackendsHere, SettingsHere
from scheduler.web.sandbox import sandboxed
from scheduler.web.telling import told_page
from scheduler.web.templating import regions

router = APIRouter(include_in_schema=False)

LARGEST_ID = 2**63 - 1
PARTS = "task_parts.html.jinja"
REGIONS = ("head", "buttons", "timeline", "attempts", "log", "outcome")
BLOCK = 1 << 16
WIDTH = 60  # letters of a line of arguments
MOST_ATTEMPTS = 20  # that a page tells of, the newest first; a policy may allow a thousand
MOST_PICTURES = 24
LONGEST_TRACEBACK = 12_000  # letters of its end, where the error stands
Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Word = Annotated[str, Query(max_length=200)]


@router.get("/tasks")
def tasks(
    request: Request,
    caller: Viewer,
    backends: BackendsHere,
    kind: Word = "",
    state: Annotated[list[str] | None, Query(max_length=len(STATES))] = None,
    schedule: Word = "",
    since: Annotated[str, Query(max_length=40)] = "",
    until: Annotated[str, Query(max_length=40)] = "",
    after: Annotated[str, Query(max_length=60)] = "",
) -> HTMLResponse:
    zone = service_zone(backends.database)
    asked = {"kind": kind, "state": state or [], "schedule": schedule.strip(), "since": since, "until": until}
    faults: dict[str, str] = {}
    span = {}
    for name, text in (("since", since), ("until", until)):
        try:
            span[name] = typed_moment(text, zone_named(zone), utc_now()) if text.strip() else None
        except WrongUsage as error:
            faults[name] = str(error)
    wanted = TaskFilter(
        kind=kind if kind in KINDS else None,
        states=tuple(one for one in STATES if one in (state or [])),
        schedule=schedule.strip() or None,
        **span,
    )
    found = tasks_page(backends.database, wanted, after=place_of(after) if after else None)
    return told_page(
        request,
        caller,
        "tasks.html.jinja",
        422 if faults else 200,
        found=found,
        asked=asked,
        faults=faults,
        after=after,
        kinds=KINDS,
        states=STATES,
        query=[(name, one) for name, value in asked.items() for one in (value if name == "state" else [value]) if one],
    )


@router.get("/tasks/{task_id}")
def task(request: Request, caller: Viewer, backends: BackendsHere, settings: SettingsHere, task_id: Id) -> HTMLResponse:
    values = _of_task(backends, task_id, caller)
    base = settings.base_url or str(request.base_url)
    return told_page(request, caller, "task.html.jinja", link=f"{base.rstrip('/')}/tasks/{task_id}", **values)


@router.get("/events/tasks/{task_id}")
def task_events(
    request: Request, caller: Viewer, backends: BackendsHere, settings: SettingsHere, task_id: Id
) -> StreamingResponse:
    def ask() -> Regions:
        return regions(PARTS, REGIONS, settings, **_of_task(backends, task_id, caller))

    ask()  # that a task is not there is said at once
    return stream(request.app.state.events, f"task {task_id} {caller.role}", ask, caller, lambda: caller_of(request))


def _of_task(backends: Backends, task_id: int, caller: Caller) -> dict[str, Any]:
    found = task_of(backends.database, task_id)
    pace = pace_of(found["progress"], _elapsed_at_progress(found))
    return {
        "task": found,
        "zone": zone_of(backends.database, task_id) or service_zone(backends.database),
        "now": utc_now(),
        "steps": timeline_of(found),
        "took": _between(found["started_at"], found["finished_at"]),
        "share": pace.share,
        "pace": str(pace),
        "args_text": pretty(found["args"], WIDTH),
        "attempts_told": [_attempt(one) for one in reversed(found["attempts"][-MOST_ATTEMPTS:])],
        "log_end": log_tail(backends.database, task_id),
        "result": shown_result(found),
        "pictures": _pictures(found, backends.settings),
        "is_over": found["state"] in FINAL,
        "waits": why_it_waits(backends.database, found),
        "may_act": caller.may(OPERATOR),
        "origin": origin_in_words(found),
        "size_in_words": size_in_words,
    }


def _pictures(task: dict[str, Any], settings: Settings) -> list[dict[str, str]]:
    """Those that the task left as files, else those that its result names."""
    kept = [(f"files/{one['id']}", one["name"]) for one in task["artifacts"] if is_picture(one)]
    named = [(f"pictures/{number}", name) for number, name in pictures_of_set(task, settings)]
    return [{"src": f"/tasks/{task['id']}/{place}", "name": name} for place, name in (kept or named)[:MOST_PICTURES]]


def _attempt(attempt: dict[str, Any]) -> dict[str, Any]:
    traceback = attempt["traceback"] or ""
    cut = traceback if len(traceback) <= LONGEST_TRACEBACK else f"[…]\n{traceback[-LONGEST_TRACEBACK:]}"
    return {**attempt, "took": _between(attempt["started_at"], attempt["ended_at"]), "traceback": cut}


def _elapsed_at_progress(task: dict[str, Any]) -> dt.timedelta | None:
    """How long its attempt had been going when it last told how far it was."""
    attempts, at = task["attempts"], (task["progress"] or {}).get("at")
    return _between(attempts[-1]["started_at"], at) if attempts and isinstance(at, str) else None


def _between(start: str | None, end: str | None) -> dt.timedelta | None:
    return None if start is None or end is None else parse_iso(end) - parse_iso(start)


# --- its log and its files, whole -----------------------------------------------------------------------------------


@router.get("/tasks/{task_id}/log")
def task_log(caller: Viewer, backends: BackendsHere, task_id: Id) -> StreamingResponse:
    """The whole log as plain text; a piece at a time, as it may be long."""
    task_of(backends.database, task_id)

    def lines() -> Iterator[str]:
        after = 0
        while pieces := log_since(backends.database, task_id, after):
            for piece in pieces:
                after = piece.id
                yield "".join(f"{line}\n" for line in piece.lines)

    return StreamingResponse(lines(), media_type="text/plain; charset=utf-8")


@router.get("/tasks/{task_id}/result")
def task_result(caller: Viewer, backends: BackendsHere, task_id: Id) -> PlainTextResponse:
    """The whole result as plain text, whatever its kind."""
    found = shown_result(task_of(backends.database, task_id), letters=2**31)
    return PlainTextResponse(found.text if found is not None else "")


@router.get("/tasks/{task_id}/page")
def task_own_page(caller: Viewer, backends: BackendsHere, task_id: Id) -> HTMLResponse:
    """The result as the page that it is, in a sandbox."""
    found = shown_result(task_of(backends.database, task_id), letters=2**31)
    if found is None or found.kind != HTML:
        raise NotFound(f"The result of task {task_id} is no page")
    return sandboxed(found.text)


@router.get("/tasks/{task_id}/files/{file_id}")
def task_file(
    caller: Viewer, backends: BackendsHere, settings: SettingsHere, task_id: Id, file_id: Id
) -> StreamingResponse:
    """A file to be saved; a picture of a kind that holds no script may also stand in a page."""
    return _sent(kept_file(backends.database, settings, task_id, file_id))


@router.get("/tasks/{task_id}/pictures/{number}")
def task_picture(
    caller: Viewer, backends: BackendsHere, settings: SettingsHere, task_id: Id, number: Id
) -> StreamingResponse:
    """A picture that the task's result names."""
    return _sent(set_picture(backends.database, settings, task_id, number))


def _sent(opening: AbstractContextManager[KeptFile]) -> StreamingResponse:
    kept = opening.__enter__()

    def blocks() -> Iterator[bytes]:
        try:
            while block := kept.file.read(BLOCK):
                yield block
        finally:
            opening.__exit__(None, None, None)

    return StreamingResponse(blocks(), media_type=kept.sent_as, headers=_headers(kept))


def _headers(kept: KeptFile) -> dict[str, str]:
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._- ") else "_" for letter in kept.name
    )
    where = "attachment" if kept.sent_as == NO_MEDIA else "inline"
    whole = quote(kept.name, safe="", errors="replace")
    return {
        "Content-Disposition": f"{where}; filename=\"{plain}\"; filename*=UTF-8''{whole}",
        "Content-Length": str(kept.size),
        "X-Content-Type-Options": "nosniff",
    }
