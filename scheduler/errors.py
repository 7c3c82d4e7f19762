"""What can go wrong in ways a person can mend. Each class's docstring is its message when none is given.

Doors print these without a traceback and end with `exit_status`: 1 a fault in what was given or found,
2 wrong usage, 3 a part that is needed does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class SchedulerError(Exception):
    """Something went wrong."""

    exit_status = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])


class WrongUsage(SchedulerError):
    """The command was used in a way it does not offer."""

    exit_status = 2


class PartAway(SchedulerError):
    """A part that is needed does not answer."""

    exit_status = 3


class RedisAway(PartAway):
    """Redis does not answer."""


class DatabaseAway(PartAway):
    """The database does not answer."""


class NotFound(SchedulerError):
    """There is no such thing."""


class Refused(SchedulerError):
    """The state of things does not allow this."""


class SettingFault(SchedulerError):
    """A setting has a value that cannot be used."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a schedule file, or worth a warning, and where it stands."""

    file: str
    line: int  # from 1
    column: int  # from 1
    code: str  # for machines, such as "unknown-key"
    message: str
    hint: str = ""  # how to mend it; "" when the message says it already
    schedule: str | None = None
    source: str = ""  # the line of the file, as it stands
    length: int = 1  # how many characters the caret underlines

    def __str__(self) -> str:
        head = f"{self.file}:{self.line}:{self.column}: {self.message}"
        if not self.source.strip():
            return head + (f"\n    {self.hint}" if self.hint else "")
        number = f"{self.line:>5} | "
        # Tabs keep their width, so that the caret stands under what it means.
        lead = "".join("\t" if letter == "\t" else " " for letter in self.source[: self.column - 1])
        caret = " " * (len(number) - 2) + "| " + lead + "^" * max(1, self.length)
        lines = [head, number + self.source.rstrip(), caret]
        if self.hint:
            lines.append(f"    {self.hint}")
        return "\n".join(lines)


class FileFaults(SchedulerError):
    """The schedule file has faults."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))
