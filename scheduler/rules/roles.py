"""What a person or program may do: roles, from the least to the most."""

from __future__ import annotations

VIEWER, OPERATOR, ADMIN = "viewer", "operator", "admin"
ROLES = (VIEWER, OPERATOR, ADMIN)
"""Who may do more may do all that comes before."""


def reaches(role: str, wanted: str) -> bool:
    """Whether who has `role` may do what `wanted` may."""
    return ROLES.index(role) >= ROLES.index(wanted)


def lesser(one: str, other: str) -> str:
    """The one that may do less."""
    return min(one, other, key=ROLES.index)
