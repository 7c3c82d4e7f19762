"""Lines of a user's crontab (crontab(5)) as entries of a schedule file, as far as they can be.

A line's times are taken over as they stand. Its command is not: a schedule calls a task function, so each entry is
printed without `task`, which a person must name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from scheduler.rules.complaints import Complaint
from scheduler.rules.times.cron_line import read_cron
from scheduler.rules.times.moments import parse_zone

_SETTING = re.compile(r"""\s*["']?([A-Za-z_][A-Za-z0-9_]*)["']?\s*=\s*(.*)\Z""")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=\S*\s+")
_CHANGE_FOLDER = re.compile(r"cd\s+[^;&|]*(?:&&|;)\s*")
LONGEST_ABOUT = 4000  # letters, as the grammar has it

HEADER = """\
# From a crontab. Times are taken over as they stand; what is left to do by hand:
# - Each entry needs its task: a Python function that does what the command did. `scheduler check` names those without.
# - Crontab times are local to the host: the file's timezone must be the zone of that host.
"""


@dataclass(frozen=True)
class Imported:
    """A line that became an entry."""

    line: int
    name: str
    cron: str
    match_days: str | None
    timezone: str | None
    about: str
    command: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remark:
    """What is to be said of a line that became none: a setting, or why it could not be turned."""

    line: int
    text: str
    why: str
    is_entry: bool  # it would have fired, and does not any more


@dataclass
class _Reading:
    timezone: str | None = None
    about: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


def read_crontab(text: str) -> list[Imported | Remark]:
    """All that the crontab says, in its order."""
    reading, found = _Reading(), []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = _printable(raw.strip())
        if not line or line.startswith("#"):
            reading.about = [*reading.about, line.lstrip("# ")] if line.strip("# ") else []
            continue
        setting = _SETTING.match(line)
        found.append(_setting(number, line, setting, reading) if setting else _entry(number, line, reading))
        reading.about = []
    return found


def schedules_text(found: list[Imported | Remark]) -> str:
    """The section `schedules:` of a file, with what is to be said as comments."""
    lines = [HEADER + "schedules:" + ("" if any(isinstance(one, Imported) for one in found) else " {}")]
    for one in found:
        lines.extend(_entry_lines(one) if isinstance(one, Imported) else _remark_lines(one))
    return "\n".join(lines) + "\n"


def _entry_lines(entry: Imported) -> Iterator[str]:
    yield f"  {entry.name}:"
    yield f"    # line {entry.line}: {entry.command}"
    yield from (f"    # {note}" for note in entry.notes)
    yield "    # task: the function that does this"
    match_days = f", match_days: {entry.match_days}" if entry.match_days else ""
    yield f"    when: {{cron: {json.dumps(entry.cron)}{match_days}}}"
    if entry.timezone:
        yield f"    timezone: {entry.timezone}"
    if entry.about:
        yield f"    about: {json.dumps(entry.about, ensure_ascii=False)}"


def _remark_lines(remark: Remark) -> Iterator[str]:
    yield f"  # line {remark.line}: {remark.text}"
    yield f"  #   {'not turned: ' if remark.is_entry else ''}{remark.why}"


def _setting(number: int, line: str, found: re.Match[str], reading: _Reading) -> Remark:
    name, value = found[1], found[2].strip().strip("\"'")
    if name == "CRON_TZ":
        try:
            reading.timezone = parse_zone(value)
        except Complaint as complaint:
            reading.timezone = None
            return Remark(number, line, f"{complaint.message}; the entries below are in the file's zone", False)
        why = "the entries below have this timezone, as cronie reads it; Debian's cron ignores CRON_TZ"
    elif name in ("MAILTO", "MAILFROM"):
        why = "whom to tell stands under contacts and notify; output is kept with each task, not mailed"
    else:
        why = "set it in the environment of the workers, if the task function needs it"
    return Remark(number, line, why, False)


def _entry(number: int, line: str, reading: _Reading) -> Imported | Remark:
    parts = line.split(None, 1 if line.startswith("@") else 5)
    times, command = " ".join(parts[:-1]), parts[-1]
    if len(parts) != (2 if line.startswith("@") else 6):
        return Remark(number, line, "it has no command after its times", True)
    if times.lower() == "@reboot":
        return Remark(
            number, line, "@reboot follows the start of the host, a schedule the clock; let the host start it", True
        )
    try:
        cron = read_cron(times)
    except Complaint as complaint:
        return Remark(number, line, f"{complaint.message}. {complaint.hint}".strip(), True)
    notes = []
    if cron.both_days:
        notes.append("both day fields are set: cron fires when either fits, so match_days: any")
    if re.search(r"(?<!\\)%", command):
        notes.append("in a crontab % ends the command and begins its input")
    if command.startswith("root "):
        notes.append("root looks like the user of a system crontab, and is no part of the command")
    return Imported(
        number,
        _name(command, reading.names),
        times,
        "any" if cron.both_days else None,
        reading.timezone,
        " ".join(reading.about)[:LONGEST_ABOUT],
        command,
        tuple(notes),
    )


def _name(command: str, taken: set[str]) -> str:
    """A name for the entry, made of the program's; with a number when it is taken."""
    words = _CHANGE_FOLDER.sub("", command.removeprefix("root ")).lstrip()
    while assignment := _ASSIGNMENT.match(words):
        words = words[assignment.end() :]
    program = words.split(None, 1)[0].rsplit("/", 1)[-1] if words.split() else ""
    stem = program.rsplit(".", 1)[0] or program
    base = re.sub("[^a-z0-9_-]+", "-", stem.lower()).strip("-_")[:56] or "job"
    name = next(name for n in range(1, len(taken) + 2) if (name := base if n == 1 else f"{base}-{n}") not in taken)
    taken.add(name)
    return name


def _printable(text: str) -> str:
    """A comment of YAML holds no control letters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def told(found: list[Imported | Remark]) -> str:
    """How many lines became entries, in a sentence."""
    turned = sum(isinstance(one, Imported) for one in found)
    lost = [one for one in found if isinstance(one, Remark) and one.is_entry]
    words = "1 entry, without its task" if turned == 1 else f"{turned} entries, each without its task"
    if not lost:
        return words
    lines = ", ".join(str(one.line) for one in lost[:10]) + (" …" if len(lost) > 10 else "")
    return f"{words}; not turned: {'line' if len(lost) == 1 else 'lines'} {lines} (why, is said there)"
