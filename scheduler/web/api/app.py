"""/api/v1 as an application of its own, below the other: its errors are problems, its description is its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy.exc import IntegrityError
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from scheduler.errors import SchedulerError
from scheduler.settings import Settings
from scheduler.web import answers
from scheduler.web.api import schedules, service, tasks
from scheduler.web.api.asking import Repeated, on_repeated
from scheduler.web.api.told import Problem
from scheduler.web.callers import cookie_name, role_for

API_PATH = "/api/v1"
VERSION = "1"  # of the interface
ABOUT = """
Everything that the command line can look at and do, for programs.

Bring a token (`scheduler token add`): `Authorization: Bearer sch_…`; `x-role` of an operation says what it may do at
least. Moments are ISO 8601 with an offset; answers give
them in UTC. Lists come in pages: ask again with `cursor` set to `next_cursor` until that is null. Errors are problems
as RFC 9457 has them. A POST with an `Idempotency-Key` may be repeated: the first answer comes again.
"""
# What every operation may answer, and why.
EVERYWHERE = {
    401: "Nobody knows who asks.",
    403: "Who asks may not do that.",
    421: "The service does not go by that name.",
    422: "A value does not fit.",
    429: "Too many requests; `Retry-After` says when to come again.",
    500: "Our mistake.",
    503: "SQL or Redis do not answer; `Retry-After` says when to come again.",
}
WITH_NAME = {404: "There is no such thing."}
WITH_BODY = {
    400: "The body cannot be read.",
    404: "There is no such thing.",
    409: "The state of things does not allow it.",
    413: "The request is too large.",
}


def create_api(state: State) -> FastAPI:
    """The interface, with the state of the application it belongs to."""
    api = FastAPI(
        title="rq-schedules",
        version=VERSION,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        root_path_in_servers=False,  # it knows nothing of the path below which all of it stands
    )
    vars(api)["state"] = state  # the very same: what is set later is seen here too
    for router in (schedules.router, tasks.router, service.router):
        api.include_router(router)
    api.add_exception_handler(HTTPException, answers.on_http_error)
    api.add_exception_handler(SchedulerError, answers.on_our_error)
    api.add_exception_handler(RequestValidationError, answers.on_bad_input)
    api.add_exception_handler(Exception, answers.on_fault)
    api.add_exception_handler(Repeated, on_repeated)
    api.add_exception_handler(IntegrityError, _on_race)
    described: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not described:
            described.update(_describe(api, state.settings))
        return described

    api.openapi = openapi  # type: ignore[method-assign]
    return api


def _on_race(request: Request, error: Exception) -> Response:
    """Two requests with one key came at once: the other one was first."""
    assert isinstance(error, IntegrityError)
    if "idempotency_key" not in str(error.orig):
        raise error
    return answers.problem(409, "A request with this key has just been answered; repeat it to get that answer.")


def _describe(api: FastAPI, settings: Settings) -> dict[str, Any]:
    """The description that FastAPI makes, with our errors and who may come in."""
    described = get_openapi(
        title=api.title,
        version=api.version,
        description=api.description,
        routes=api.routes,
        servers=[{"url": settings.web_path + API_PATH}],
    )
    schemas, cookie = described["components"]["schemas"], cookie_name(settings)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    described["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "`scheduler token add` makes one."},
        "session": {"type": "apiKey", "in": "cookie", "name": cookie, "description": "Of a browser, after log-in."},
    }
    roles = dict(_roles(api))
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            operation["x-role"] = roles[path, method]
            operation["security"] = [{"token": []}, {"session": []}]
            named = "{" in path or any(one["name"] == "schedule" for one in operation.get("parameters", []))
            causes = EVERYWHERE | (WITH_NAME if named else {}) | (WITH_BODY if method == "post" else {})
            for status, why in sorted(causes.items()):
                operation["responses"][str(status)] = _problem_answer(why)
    return described


def _roles(api: FastAPI) -> Iterator[tuple[tuple[str, str], str]]:
    """By path and method, what role an operation asks for."""
    for route in iter_route_contexts(api.routes):
        original = route.original_route
        if isinstance(original, APIRoute):
            role = next(role for call in _calls(original.dependant) if (role := role_for(call)) is not None)
            for method in route.methods or ():
                yield (route.path_format or "", method.lower()), role


def _calls(dependant: Dependant) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls(inner)


def _problem_answer(why: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": why, "content": {"application/problem+json": {"schema": schema}}}
