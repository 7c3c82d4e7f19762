"""What operators do by forms: run now, cancel, retry, backfill.

Each POST ends in a redirect to a page that says what was done; what does not fit comes back beside its field, with
nothing lost that was typed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from scheduler.engine.backfill import MOST, Backfilled, Backfills
from scheduler.engine.page.schedule import runnable
from scheduler.errors import NotFound, Refused, WrongUsage
from scheduler.rules.states import RUNNING
from scheduler.rules.task.argument_forms import argument_fields, read_form
from scheduler.web.callers import Caller, Operator
from scheduler.web.here import backends_of, catalogue_of
from scheduler.web.pages.forms import MOST_FIELDS, Form, Name, actions_of, moment_in, schedule_form, zone_of
from scheduler.web.telling import see_other, told_page

router = APIRouter(include_in_schema=False)

LARGEST_ID = 2**63 - 1
_ID = re.compile(r"[1-9][0-9]{0,17}")
_LIST = re.compile(r"/tasks(\?[^\s\\]{0,500})?")
Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]


# --- run now --------------------------------------------------------------------------------------------------------


@router.get("/run")
def functions(request: Request, caller: Operator) -> HTMLResponse:
    catalogue = catalogue_of(request)
    found = sorted(catalogue.functions.values(), key=lambda one: one.name)
    return told_page(request, caller, "functions.html.jinja", functions=found, broken=dict(catalogue.broken))


@router.get("/run/{name}")
def run_form(request: Request, caller: Operator, name: Name) -> HTMLResponse:
    return _run_page(request, caller, name, {}, {})


@router.post("/run/{name}")
def run(request: Request, caller: Operator, name: Name, form: Form) -> Response:
    catalogue = catalogue_of(request)
    chosen = runnable(backends_of(request).database, catalogue, name)
    function = chosen.function.function if chosen.function is not None else None
    typed = {key.removeprefix("arg."): value for key, value in form.items() if key.startswith("arg.")}
    filled = read_form(function, argument_fields(function, chosen.args), chosen.args, typed)
    if filled.faults:
        return _run_page(request, caller, name, typed, filled.faults, 422)
    try:
        asked = actions_of(request, caller).run(name, filled.args, catalogue)
    except WrongUsage as error:
        return _run_page(request, caller, name, typed, {"": str(error)}, 422)
    return see_other(
        request, f"/tasks/{asked.task_id}", f"{name} was asked for: this is its task {asked.task_id}.", asked.warnings
    )


def _run_page(
    request: Request, caller: Caller, name: str, typed: dict[str, str], faults: dict[str, str], status: int = 200
) -> HTMLResponse:
    chosen = runnable(backends_of(request).database, catalogue_of(request), name)
    function = chosen.function.function if chosen.function is not None else None
    return told_page(
        request,
        caller,
        "run.html.jinja",
        status,
        chosen=chosen,
        fields=argument_fields(function, chosen.args),
        typed=typed,
        faults=faults,
    )


# --- one task -------------------------------------------------------------------------------------------------------


@router.post("/tasks/{task_id}/cancel")
def cancel(request: Request, caller: Operator, task_id: Id) -> RedirectResponse:
    here = f"/tasks/{task_id}"
    try:
        state = actions_of(request, caller).cancel(task_id)
    except Refused as error:
        return see_other(request, here, "Nothing was done.", [str(error)])
    if state == RUNNING:
        return see_other(request, here, f"Task {task_id} runs; its worker was asked to stop it.")
    return see_other(request, here, f"Task {task_id} is cancelled.")


@router.post("/tasks/{task_id}/retry")
def retry(request: Request, caller: Operator, task_id: Id) -> RedirectResponse:
    try:
        asked = actions_of(request, caller).retry(task_id)
    except Refused as error:
        return see_other(request, f"/tasks/{task_id}", "Nothing was done.", [str(error)])
    return see_other(
        request,
        f"/tasks/{asked.task_id}",
        f"This is task {asked.task_id}, which repeats task {task_id}.",
        asked.warnings,
    )


@dataclass(frozen=True)
class Chosen:
    """Tasks of a list, and what is to be done with them."""

    ids: tuple[int, ...]
    do: str  # retry or cancel
    back: str  # the list


async def chosen_of(request: Request) -> Chosen:
    """A dependency: the boxes that were ticked. Raises 422 for what no list of ours sends."""
    async with request.form(max_files=0, max_fields=MOST_FIELDS) as form:
        texts = [str(value) for value in form.getlist("id")]
        do, back = str(form.get("do", "")), str(form.get("back", ""))
    if do not in ("retry", "cancel") or not all(_ID.fullmatch(text) for text in texts):
        raise HTTPException(422, "Choose tasks by their boxes, then what to do with them")
    return Chosen(tuple(dict.fromkeys(map(int, texts))), do, back if _LIST.fullmatch(back) else "/tasks")


@router.post("/tasks/chosen")
def act_on_chosen(request: Request, caller: Operator, chosen: Annotated[Chosen, Depends(chosen_of)]) -> Response:
    """Each by itself: what is refused of one does not stop the others, and is told."""
    if not chosen.ids:
        return see_other(request, chosen.back, "Nothing was done: no task was chosen.")
    actions = actions_of(request, caller)
    refused: list[str] = []
    for task_id in chosen.ids:
        try:
            actions.retry(task_id) if chosen.do == "retry" else actions.cancel(task_id)
        except (Refused, NotFound) as error:
            refused.append(str(error))
    done, number = len(chosen.ids) - len(refused), len(chosen.ids)
    word = "asked for again" if chosen.do == "retry" else "cancelled, or asked to stop"
    told = f"{done} of {number} tasks {'was' if done == 1 else 'were'} {word}."
    return see_other(request, chosen.back, told, refused)


# --- backfill -------------------------------------------------------------------------------------------------------


@router.get("/schedules/{name}/backfill")
def backfill_form(request: Request, caller: Operator, name: Name) -> HTMLResponse:
    return _backfill_page(request, caller, name, {}, {})


@router.post("/schedules/{name}/backfill")
def backfill(request: Request, caller: Operator, name: Name, form: Form) -> Response:
    """Counts first; asks for the tasks only when the form says `do`, which that of the counted span does."""
    zone = zone_of(request, name)
    faults: dict[str, str] = {}
    spans = {word: moment_in(form.get(word, ""), zone, word, faults) for word in ("from", "to")}
    first, last = spans["from"], spans["to"]
    if first is None or last is None:
        return _backfill_page(request, caller, name, form, faults, status=422)
    backfills = Backfills(backends_of(request).database, backends_of(request).room, caller.asker)
    try:
        found = backfills.backfill(name, first, last, everything="all" in form, dry_run="do" not in form)
    except (WrongUsage, Refused) as error:
        return _backfill_page(request, caller, name, form, {"": str(error)}, status=422)
    if not found.task_ids:
        return _backfill_page(request, caller, name, form, {}, found)
    number = len(found.task_ids)
    told = f"{number:,} {'task was' if number == 1 else 'tasks were'} asked for; the oldest is due first."
    return see_other(request, f"/tasks?schedule={quote(name)}", told, found.warnings)


def _backfill_page(
    request: Request,
    caller: Caller,
    name: str,
    form: dict[str, str],
    faults: dict[str, str],
    counted: Backfilled | None = None,
    status: int = 200,
) -> HTMLResponse:
    return schedule_form(request, caller, "backfill.html.jinja", name, form, faults, status, counted=counted, most=MOST)
