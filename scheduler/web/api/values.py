"""What programs may send: exact patterns and bounds, which the OpenAPI description tells too.

Numbers and moments are read strictly: pydantic would take «1_000», «yes», or seconds since 1970 as well, and then the
description would not say what is taken.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Annotated, Any, Literal

from fastapi import Header, Path, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
)

from scheduler.clock import parse_iso
from scheduler.rules.task.storable import why_unstorable

LARGEST_ID = 2**63 - 1
LARGEST_REVISION = 2**31 - 1
NAME = r"^[a-z0-9][a-z0-9_.-]{0,70}$"
LINE = r"^[^\x00-\x1f\x7f-\x9f]+$"
MOMENT = (
    r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"([.][0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])$"
)
MOST_ARGUMENTS = 100_000  # bytes of JSON

State = Literal[
    "planned", "queued", "running", "retrying", "succeeded", "failed", "skipped", "missed", "cancelled", "lost"
]
Kind = Literal["scheduled", "long", "adhoc"]
Origin = Literal["schedule", "manual", "catch_up", "backfill", "retry", "api"]
Shown = Literal["active", "paused", "parked", "failing", "retired"]
Role = Literal["viewer", "operator", "admin"]


# --- single values --------------------------------------------------------------------------------------------------


def _read_moment(value: Any) -> dt.datetime:
    if not isinstance(value, str) or not re.fullmatch(MOMENT, value):
        raise ValueError("give a moment of this century with its offset, such as 2026-12-01T06:30:00Z")
    return parse_iso(value)


def _read_number(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"0|-?[1-9][0-9]{0,18}", value):
        raise ValueError("give a whole number")
    return value


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    """What both databases take. Raises ValueError."""
    why = why_unstorable(value)
    if why is not None:
        raise ValueError(why)
    if len(json.dumps(value)) > MOST_ARGUMENTS:
        raise ValueError(f"arguments have at most {MOST_ARGUMENTS:,} bytes")
    return value


Moment = Annotated[
    dt.datetime,
    BeforeValidator(_read_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": MOMENT, "example": "2026-12-01T06:30:00Z"}),
]
Name = Annotated[str, StringConstraints(pattern=NAME)]
Line = Annotated[str, StringConstraints(pattern=LINE, min_length=1, max_length=500)]
ArgumentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Arguments = Annotated[
    dict[ArgumentName, JsonValue],
    AfterValidator(_storable),
    Field(json_schema_extra={"additionalProperties": False}),
]
FileText = Annotated[str, StringConstraints(max_length=1_000_000)]
Limit = Annotated[int, Field(ge=1, le=200), BeforeValidator(_read_number)]
Number = Annotated[int, Field(ge=1, le=LARGEST_ID), BeforeValidator(_read_number)]
SmallNumber = Annotated[int, Field(ge=1, le=LARGEST_REVISION), BeforeValidator(_read_number)]

# --- in the address and the headers ---------------------------------------------------------------------------------

ScheduleName = Annotated[str, Path(pattern=NAME, description="The name of a schedule.")]
FunctionName = Annotated[str, Path(pattern=NAME, description="The name of a task function.")]
TaskId = Annotated[int, Path(ge=1, le=LARGEST_ID, description="The id of a task."), BeforeValidator(_read_number)]
ArtifactId = Annotated[int, Path(ge=1, le=LARGEST_ID, description="The id of a file."), BeforeValidator(_read_number)]
RevisionNumber = Annotated[
    int, Path(ge=1, le=LARGEST_REVISION, description="The number of a revision."), BeforeValidator(_read_number)
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[A-Za-z0-9._~:+/=-]{1,128}$",
        description="Whoever repeats a request with the same key within 24 hours gets the first answer again.",
    ),
]


# --- questions ------------------------------------------------------------------------------------------------------


class Question(BaseModel):
    """Parameters of an address; one that is unknown is refused, as it would else be passed over."""

    model_config = ConfigDict(extra="forbid")


class SchedulesQuestion(Question):
    q: Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")] = Field(
        "", description="Words that its name, task function, owner, tags or description hold."
    )
    state: Shown | None = Field(None, description="All that the file has, unless given.")
    limit: Limit = 50
    cursor: Name | None = Field(None, description="`next_cursor` of the page before.")


class TasksQuestion(Question):
    kind: Kind | None = None
    state: list[State] = Field(
        default_factory=list, max_length=10, description="All but what is only planned, unless given."
    )
    schedule: Name | None = None
    since: Moment | None = Field(None, description="Ended, or due while it has not, at or after.")
    until: Moment | None = Field(None, description="The same, before.")
    limit: Limit = 50
    cursor: Annotated[str, StringConstraints(pattern=r"^[pue][.][0-9]{1,16}[.][0-9]{1,18}$")] | None = Field(
        None, description="`next_cursor` of the page before."
    )


class LogQuestion(Question):
    after: Annotated[int, Field(ge=0, le=LARGEST_ID), BeforeValidator(_read_number)] = Field(
        0, description="The id of the last piece seen: only what came later is told."
    )


class NextQuestion(Question):
    count: Annotated[int, Field(ge=1, le=1000), BeforeValidator(_read_number)] = 10
    after: Moment | None = Field(None, description="Fire times after it; now unless given.")


class ListQuestion(Question):
    limit: Limit = 50
    cursor: Number | None = Field(None, description="`next_cursor` of the page before.")


class RevisionsQuestion(Question):
    limit: Limit = 50
    cursor: SmallNumber | None = Field(None, description="`next_cursor` of the page before.")


SchedulesAsked = Annotated[SchedulesQuestion, Query()]
TasksAsked = Annotated[TasksQuestion, Query()]
LogAsked = Annotated[LogQuestion, Query()]
NextAsked = Annotated[NextQuestion, Query()]
ListAsked = Annotated[ListQuestion, Query()]
RevisionsAsked = Annotated[RevisionsQuestion, Query()]


# --- bodies ---------------------------------------------------------------------------------------------------------


class Body(BaseModel):
    """What a program may set; nothing else is taken, and no text as a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RunBody(Body):
    args: Arguments = Field(default_factory=dict, description="They go before those of the schedule.")


class PauseBody(Body):
    why: Line
    until: Moment | None = Field(None, description="When it goes on by itself.")


class NothingBody(Body):
    """An empty object."""


class BackfillBody(Body):
    first: Moment = Field(alias="from", description="Fire times at or after it.")
    last: Moment = Field(alias="to", description="Fire times up to and with it; not later than now.")
    everything: bool = Field(False, alias="all", description="Also those that succeeded.")
    dry_run: bool = Field(False, description="Only say how many, the first and the last.")


class FileBody(Body):
    text: FileText | None = Field(None, description="Of a schedule file; the one on the disk unless given.")
