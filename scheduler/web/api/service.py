"""The service itself: how it is, who asks, its schedule file and revisions, who did what."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from scheduler.clock import utc_now
from scheduler.engine.answers.api_views import audit_page, proposed, told_difference
from scheduler.engine.answers.status import status_of
from scheduler.engine.file.changes import difference, revision, revisions
from scheduler.errors import Fault, FileFaults
from scheduler.web.api import told
from scheduler.web.api.values import FileBody, ListAsked, RevisionNumber, RevisionsAsked
from scheduler.web.callers import Admin, Operator, Viewer
from scheduler.web.here import BackendsHere, CatalogueHere, SettingsHere

router = APIRouter()


@router.get("/me", response_model=told.Me, tags=["service"])
def who_am_i(caller: Viewer) -> Any:
    """Who asks, and what that person or program may do."""
    return {"name": caller.name, "role": caller.role, "via": caller.via}


@router.get("/status", response_model=told.Status, tags=["service"])
def show_status(caller: Viewer, backends: BackendsHere) -> Any:
    """One glance: is all well?"""
    status = status_of(backends.database, backends.room)
    for part in status["parts"]:  # what is wrong with the file may quote it; that is for operators, by /check
        part["details"].pop("trouble", None)
    return status


@router.post("/check", response_model=told.Checked, tags=["file"])
def check_file(caller: Operator, settings: SettingsHere, catalogue: CatalogueHere, body: FileBody | None = None) -> Any:
    """All faults and warnings of a schedule file, each with line and column. Nothing is changed."""
    try:
        _, loaded = proposed(settings, body.text if body else None, catalogue, utc_now())
    except FileFaults as error:
        return {"ok": False, "faults": [_fault(one) for one in error.faults], "warnings": [], "schedules": []}
    return {
        "ok": not loaded.faults,
        "faults": [_fault(one) for one in loaded.faults],
        "warnings": [_fault(one) for one in loaded.warnings],
        "schedules": sorted(loaded.book.schedules) if loaded.book else [],
    }


@router.post("/diff", response_model=told.Difference, tags=["file"])
def diff_file(
    caller: Operator,
    backends: BackendsHere,
    settings: SettingsHere,
    catalogue: CatalogueHere,
    body: FileBody | None = None,
) -> Any:
    """What a schedule file would change: schedules, keys, and the fires of the next 30 days. Nothing is changed."""
    text, loaded = proposed(settings, body.text if body else None, catalogue, utc_now())
    if loaded.book is None:
        raise FileFaults(loaded.faults)
    return told_difference(difference(backends.database, loaded.book, text))


@router.get("/revisions", response_model=told.Revisions, tags=["file"])
def list_revisions(caller: Viewer, backends: BackendsHere, asked: RevisionsAsked) -> Any:
    """The revisions of the schedule file, the newest first."""
    found = revisions(backends.database, asked.limit + 1, before=asked.cursor)
    rows = found[: asked.limit]
    return {"revisions": rows, "next_cursor": rows[-1]["revision"] if len(found) > asked.limit else None}


@router.get("/revisions/{number}", response_model=told.RevisionWithText, tags=["file"])
def show_revision(caller: Operator, backends: BackendsHere, number: RevisionNumber) -> Any:
    """One revision, with its text."""
    return revision(backends.database, number)


@router.get("/audit", response_model=told.AuditLines, tags=["service"])
def list_audit(caller: Admin, backends: BackendsHere, asked: ListAsked) -> Any:
    """Who did what, the newest first."""
    found = audit_page(backends.database, asked.cursor, asked.limit)
    return {"lines": found.rows, "next_cursor": found.next_cursor}


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "file": fault.file,
        "line": fault.line,
        "column": fault.column,
        "schedule": fault.schedule,
        "code": fault.code,
        "message": fault.message,
        "hint": fault.hint,
    }
