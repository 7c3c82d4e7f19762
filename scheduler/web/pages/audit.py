"""Audit: who did what, when and from where."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from scheduler.engine.page.audit import audit_page
from scheduler.web.callers import Admin
from scheduler.web.here import BackendsHere
from scheduler.web.telling import told_page

router = APIRouter(include_in_schema=False)

Word = Annotated[str, Query(max_length=200)]


@router.get("/audit")
def audit(
    request: Request,
    caller: Admin,
    backends: BackendsHere,  # it holds addresses, and names that were mistyped
    who: Word = "",
    action: Word = "",
    subject: Word = "",
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> HTMLResponse:
    asked = {"who": who.strip(), "action": action.strip(), "subject": subject.strip()}
    found = audit_page(backends.database, before=before, **asked)
    query = [(name, value) for name, value in asked.items() if value]
    return told_page(request, caller, "audit.html.jinja", found=found, asked=asked, query=query, before=before)
