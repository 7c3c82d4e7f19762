"""What the forms of operators share: reading their fields, and showing them again with what does not fit."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from fastapi import Depends, Path, Request
from starlette.responses import HTMLResponse

from scheduler.clock import utc_now
from scheduler.engine.actions import Actions
from scheduler.engine.page.schedule import runnable
from scheduler.errors import WrongUsage
from scheduler.rules.times.moments import zone_named
from scheduler.rules.times.typed_moments import typed_moment
from scheduler.web.callers import Caller
from scheduler.web.here import backends_of
from scheduler.web.telling import told_page

MOST_FIELDS = 200
Name = Annotated[str, Path(max_length=200)]


async def form_of(request: Request) -> dict[str, str]:
    """A dependency: the fields of a form; of two with one name the last. Files are not taken."""
    async with request.form(max_files=0, max_fields=MOST_FIELDS) as form:
        return {name: value for name, value in form.multi_items() if isinstance(value, str)}


Form = Annotated[dict[str, str], Depends(form_of)]


def schedule_form(
    request: Request,
    caller: Caller,
    template: str,
    name: str,
    form: dict[str, str],
    faults: dict[str, str],
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """A form about one schedule, with what was typed before and what does not fit."""
    zone = zone_of(request, name)
    return told_page(request, caller, template, status, name=name, typed=form, faults=faults, zone=zone.key, **values)


def zone_of(request: Request, name: str) -> ZoneInfo:
    """The zone of a schedule that can be acted on. Raises NotFound for any other name."""
    return zone_named(runnable(backends_of(request).database, None, name).timezone or "UTC")


def moment_in(text: str, zone: ZoneInfo, field: str, faults: dict[str, str]) -> dt.datetime | None:
    """A moment as it was typed; None, and a fault of its field, for what is none."""
    try:
        return typed_moment(text, zone, utc_now())
    except WrongUsage as error:
        faults[field] = str(error)
        return None


def of_schedule(name: str) -> str:
    """The address of a schedule's page."""
    return f"/schedules/{quote(name)}"


def actions_of(request: Request, caller: Caller) -> Actions:
    return Actions(backends_of(request).database, backends_of(request).room, caller.asker)
