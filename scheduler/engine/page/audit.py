"""What the page of the audit shows: its lines, the newest first, each as a sentence's worth of words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from scheduler.clock import iso
from scheduler.store import audit
from scheduler.store.access_tables import AuditLine
from scheduler.store.database import Database

AT_ONCE = 60
LONGEST_DETAIL = 300  # letters


@dataclass(frozen=True)
class AuditPage:
    lines: tuple[dict[str, Any], ...]
    older: int | None  # the next page is of ids below this; None on the last


def audit_page(
    database: Database, *, who: str = "", action: str = "", subject: str = "", before: int | None = None
) -> AuditPage:
    """The lines of a person, an action or a subject ("" is any)."""
    with database.read() as session:
        found = audit.newest(
            session, AT_ONCE + 1, before=before, who=who or None, action=action or None, subject=subject or None
        )
        lines = tuple(_line(one) for one in found[:AT_ONCE])
    return AuditPage(lines, lines[-1]["id"] if len(found) > AT_ONCE else None)


def _line(line: AuditLine) -> dict[str, Any]:
    return {
        "id": line.id,
        "at": iso(line.at),
        "who": line.who,
        "via": line.via,
        "address": line.address,
        "action": line.action,
        "subject": line.subject,
        "href": _href(line.subject, line.details),
        "details": _details(line.details),
    }


def _href(subject: str, details: Mapping[str, Any]) -> str:
    """Where a page about the subject is; "" when there is none."""
    kind, _, name = subject.partition(" ")
    if kind == "task" and name.isascii() and name.isdigit():
        return f"/tasks/{name}"
    if kind == "schedule" and name:
        return f"/schedules/{quote(name)}"
    if kind == "revision" and name.isascii() and name.isdigit():
        return f"/file?revision={name}"
    return f"/tasks/{details['task']}" if isinstance(details.get("task"), int) else ""


def _details(details: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name} {_words(value)}" for name, value in details.items() if value not in (None, "", {}, []))
    return told if len(told) <= LONGEST_DETAIL else told[: LONGEST_DETAIL - 1] + "…"


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
