"""Holding one schedule by a form, or many at once, and letting them go on."""

from __future__ import annotations

import datetime as dt
import shlex
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from scheduler.clock import utc_now
from scheduler.engine.page.frame import service_zone
from scheduler.engine.pause_many import Choice, choices, held_together, pause_many, resume_many
from scheduler.errors import NotFound, Refused, WrongUsage
from scheduler.rules.times.moments import zone_named
from scheduler.web.callers import Caller, Operator
from scheduler.web.here import backends_of
from scheduler.web.pages.forms import Form, Name, actions_of, moment_in, of_schedule, schedule_form, zone_of
from scheduler.web.telling import see_other, told_page

router = APIRouter(include_in_schema=False)

LONGEST_REASON = 500
MOST_AT_ONCE = 500  # schedules held by one press of a button: some seconds
MOST_LEFT = 10  # of those that stay as they are, named one by one


@dataclass
class Hold:
    """A pause as a form has it."""

    why: str
    until: dt.datetime | None = None
    faults: dict[str, str] = field(default_factory=dict)

    def ends_at(self, zone: ZoneInfo) -> str:
        return "" if self.until is None else f" until {self.until.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def read_hold(form: dict[str, str], zone: ZoneInfo) -> Hold:
    hold = Hold(form.get("why", "").strip())
    if not hold.why:
        hold.faults["why"] = "Say why: it is shown beside the schedule, and mailed."
    elif len(hold.why) > LONGEST_REASON:
        hold.faults["why"] = f"This has {len(hold.why):,} letters; {LONGEST_REASON} are the most."
    until = form.get("until", "").strip()
    hold.until = moment_in(until, zone, "until", hold.faults) if until else None
    if hold.until is not None and hold.until <= utc_now():
        hold.faults["until"] = f'"{until}" is past; give a moment to come, or none.'
    return hold


# --- one ------------------------------------------------------------------------------------------------------------


@router.get("/schedules/{name}/pause")
def pause_form(request: Request, caller: Operator, name: Name) -> HTMLResponse:
    return schedule_form(request, caller, "pause.html.jinja", name, {}, {})


@router.post("/schedules/{name}/pause")
def pause(request: Request, caller: Operator, name: Name, form: Form) -> Response:
    zone = zone_of(request, name)
    hold = read_hold(form, zone)
    if not hold.faults:
        try:
            actions_of(request, caller).pause(name, hold.why, hold.until)
        except WrongUsage as error:  # by the database's clock it is past
            hold.faults["until"] = str(error)
    if hold.faults:
        return schedule_form(request, caller, "pause.html.jinja", name, form, hold.faults, 422)
    return see_other(request, of_schedule(name), f"{name} is paused{hold.ends_at(zone)}: {hold.why}")


@router.post("/schedules/{name}/resume")
def resume(request: Request, caller: Operator, name: Name) -> RedirectResponse:
    try:
        actions_of(request, caller).resume(name)
    except Refused as error:
        return see_other(request, of_schedule(name), "Nothing was done.", [str(error)])
    return see_other(request, of_schedule(name), f"{name} goes on. What passed meanwhile stays skipped.")


# --- many -----------------------------------------------------------------------------------------------------------


@router.get("/pause")
def pause_many_form(request: Request, caller: Operator) -> HTMLResponse:
    return _many_page(request, caller, {}, {})


@router.post("/pause")
def pause_chosen(request: Request, caller: Operator, form: Form) -> Response:
    zone = _service_zone(request)
    hold = read_hold(form, zone)
    choice = _choice(form)
    number = choices(backends_of(request).database).get(choice, 0)
    if number > MOST_AT_ONCE:
        word = "--all" if choice.tag is None else f"--tag {shlex.quote(choice.tag)}"
        hold.faults["tag"] = (
            f"These are {number:,} schedules; more than {MOST_AT_ONCE} are held by the command line: "
            f"scheduler pause {word} --why …"
        )
    if not hold.faults:
        try:
            outcome = pause_many(actions_of(request, caller), choice, hold.why, hold.until)
        except NotFound as error:
            hold.faults["tag"] = str(error)
        except WrongUsage as error:
            hold.faults["until"] = str(error)
    if hold.faults:
        return _many_page(request, caller, form, hold.faults, 422)
    told = f"{_counted(outcome.done)} paused{hold.ends_at(zone)}: {hold.why}"
    return see_other(request, "/pause", told, _left(outcome.left))


@router.post("/resume")
def resume_chosen(request: Request, caller: Operator, form: Form) -> RedirectResponse:
    try:
        outcome = resume_many(actions_of(request, caller), _choice(form))
    except NotFound as error:
        return see_other(request, "/pause", "Nothing was done.", [str(error)])
    told = f"{_counted(outcome.done)} resumed. What passed meanwhile stays skipped."
    return see_other(request, "/pause", told, _left(outcome.left))


def _many_page(
    request: Request, caller: Caller, form: dict[str, str], faults: dict[str, str], status: int = 200
) -> HTMLResponse:
    database = backends_of(request).database
    values: dict[str, Any] = {
        "choices": choices(database),
        "held": held_together(database),
        "zone": _service_zone(request).key,
    }
    return told_page(request, caller, "pause_many.html.jinja", status, typed=form, faults=faults, **values)


def _choice(form: dict[str, str]) -> Choice:
    return Choice(form.get("tag", "")[:200] or None)


def _service_zone(request: Request) -> ZoneInfo:
    return zone_named(service_zone(backends_of(request).database))


def _counted(names: list[str]) -> str:
    return f"{len(names):,} schedule{'' if len(names) == 1 else 's'}"


def _left(left: dict[str, str]) -> list[str]:
    """Those that stay paused as they were, and how."""
    told = [f"{name} stays as it is: {reason}" for name, reason in list(left.items())[:MOST_LEFT]]
    more = len(left) - MOST_LEFT
    return [*told, f"and {more:,} more stay as they are"] if more > 0 else told
