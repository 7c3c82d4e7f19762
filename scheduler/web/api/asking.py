"""Requests that may be repeated: with an Idempotency-Key the first answer comes again, and nothing is done twice.

The answer is kept in the transaction that does what was asked, so that a crash between the two cannot part them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import JSONResponse, Response

from scheduler.engine.actions import Actions
from scheduler.errors import Refused
from scheduler.rules.askers import Asker, Once
from scheduler.store import audit
from scheduler.web.api.values import IdempotencyKey, RunBody
from scheduler.web.callers import Operator
from scheduler.web.here import BackendsHere, CatalogueHere, backends_of

REPEATED = "Idempotency-Replayed"


class Repeated(Exception):
    """The request was answered before."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(str(status))
        self.status = status
        self.body = body


async def hash_of(request: Request) -> str:
    """A hash of what is asked for."""
    told = f"{request.method} {request.url.path}\n".encode() + await request.body()
    return hashlib.sha256(told).hexdigest()


def asker_of(
    request: Request, caller: Operator, request_hash: Annotated[str, Depends(hash_of)], key: IdempotencyKey = None
) -> Asker:
    """A dependency: who asks for something to be done, with the key of the request. Raises Repeated."""
    if key is None:
        return caller.asker
    with backends_of(request).database.read() as session:
        found = audit.answered(session, caller.name, key)
    if found is None:
        return replace(caller.asker, once=Once(key, request_hash))
    if found.request_hash != request_hash:
        raise Refused(f"The key {key} was used for another request; take a new one for each")
    raise Repeated(found.status, found.body)


OperatorAsks = Annotated[Asker, Depends(asker_of)]


@dataclass(frozen=True)
class RunsNow:
    """A dependency: how a schedule, or a task function, is run now."""

    asker: OperatorAsks
    backends: BackendsHere
    catalogue: CatalogueHere

    def run(self, name: str, body: RunBody | None, what: str) -> dict[str, Any]:
        """The task that was made, as told.Asked has it."""
        actions = Actions(self.backends.database, self.backends.room, self.asker)
        asked = actions.run(name, body.args if body else {}, self.catalogue, "api", what=what)
        return {"id": asked.task_id, "warnings": asked.warnings}


OperatorRuns = Annotated[RunsNow, Depends()]


def on_repeated(request: Request, error: Exception) -> Response:
    assert isinstance(error, Repeated)
    return JSONResponse(error.body, error.status, {REPEATED: "true"})
