"""Who is asking, and what that person or program may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

VIEWER, OPERATOR, ADMIN = "viewer", "operator", "admin"
ROLES = (VIEWER, OPERATOR, ADMIN)
"""From the least that one may do to the most; who may do more may do all that comes before."""


@dataclass(frozen=True)
class Caller:
    """Who is asking. `via` is how that is known: session, token, proxy, or open (no users yet, and loopback only)."""

    name: str
    role: str
    via: str

    def may(self, role: str) -> bool:
        """Whether this caller may do what `role` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def caller_of(request: Request) -> Caller:
    """Who is asking. Raises 401 when nobody knows."""
    return Caller("local", ADMIN, "open")


def at_least(role: str) -> Callable[[Caller], Caller]:
    """A dependency: the caller, who may do what `role` may; else 403."""

    def check(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
        if not caller.may(role):
            raise HTTPException(403, f"This needs the role {role}; {caller.name} has {caller.role}")
        return caller

    return check


Viewer = Annotated[Caller, Depends(at_least(VIEWER))]
Operator = Annotated[Caller, Depends(at_least(OPERATOR))]
Admin = Annotated[Caller, Depends(at_least(ADMIN))]
