"""The schedule file: the text in force, what is wrong with that on the disk, revisions and how they differ."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, PlainTextResponse

from scheduler.engine.file.changes import revision as revision_of
from scheduler.engine.file.changes import revisions as revisions_of
from scheduler.engine.page.file import SHOWN_LETTERS, on_disk, text_diff, text_of
from scheduler.web.callers import OPERATOR, Operator, Viewer
from scheduler.web.here import BackendsHere, CatalogueHere, SettingsHere
from scheduler.web.telling import told_page

router = APIRouter(include_in_schema=False)

MOST_REVISIONS = 30
Number = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


@router.get("/file")
def file(
    request: Request,
    caller: Viewer,
    backends: BackendsHere,
    settings: SettingsHere,
    catalogue: CatalogueHere,
    revision: Number = None,
    against: Number = None,
    check: bool = False,
) -> HTMLResponse:
    revisions = revisions_of(backends.database, MOST_REVISIONS)
    latest = revisions[0]["revision"] if revisions else None
    chosen = revision or latest
    old = against or (chosen - 1 if chosen is not None and chosen > 1 else None)
    may_read = caller.may(OPERATOR)  # the texts: a viewer is told which schedules were changed
    text = text_of(backends.database, chosen, letters=SHOWN_LETTERS) if chosen is not None and may_read else ""
    revision_shown = None if chosen is None else revision_of(backends.database, chosen)
    return told_page(
        request,
        caller,
        "file.html.jinja",
        revisions=revisions,
        latest=latest,
        chosen=revision_shown,
        against=old,
        text=text,
        is_cut=revision_shown is not None and len(revision_shown["text"]) > SHOWN_LETTERS,
        diff=text_diff(backends.database, old, chosen) if old is not None and chosen is not None and may_read else None,
        disk=on_disk(backends.database, settings, catalogue, anyhow=check),
    )


@router.get("/file/text")
def file_text(
    caller: Operator, backends: BackendsHere, revision: Annotated[int, Query(ge=1, le=2**31 - 1)]
) -> PlainTextResponse:
    """The text of a revision, whole."""
    return PlainTextResponse(text_of(backends.database, revision))
