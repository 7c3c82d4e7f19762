"""How what engine/answers tells looks in a terminal: lines no wider than it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from scheduler.cli.tables import (
    Column,
    bar,
    between,
    clean,
    fit,
    flowed,
    moment,
    moment_short,
    paint,
    progress_words,
    seconds_brief,
    table,
    wrapped,
)
from scheduler.clock import iso, parse_iso
from scheduler.rules.brief import brief
from scheduler.rules.pretty_json import pretty
from scheduler.rules.states import FINAL, RUNNING, STATES, SUCCEEDED
from scheduler.rules.task.pace import pace_of
from scheduler.rules.task.task_words import origin_in_words, result_in_words, size_in_words

LABEL = 11  # columns of the words at the left
LAST_LINES = 3  # of a traceback
MOST_JSON_LINES = 200


# --- status ---------------------------------------------------------------------------------------------------------


def status_screen(status: dict[str, Any], width: int, height: int = 24) -> list[str]:
    """One screen: the verdict first; lists are cut where they would not fit, and their label has the whole number."""
    most = {"failing": 2, "late": 1, "running": 2, "paused": 1, "parked": 1}
    lines = _status_lines(status, width, most)
    for name in most:
        while most[name] < len(status[name]):
            longer = _status_lines(status, width, {**most, name: most[name] + 1})
            if len(longer) >= height:  # the line below is the prompt's
                break
            most[name] += 1
            lines = longer
    return lines


def _status_lines(status: dict[str, Any], width: int, most: dict[str, int]) -> list[str]:
    now = parse_iso(status["now"])
    mark = paint("✓", "green") if status["ok"] else paint("✗", "red")
    first, *rest = wrapped(status["verdict"], width - 2)[:3]
    lines = [f"{mark} {paint(first, None, bold=True)}", *(f"  {paint(line, None, bold=True)}" for line in rest), ""]
    lines += _labelled("last 24 h", _counts(status["counts"]), width)
    failing = [line for one in status["failing"][: most["failing"]] for line in _failing(one, now)]
    lines += _labelled(_numbered("failing", status["schedules"]["failing"]), failing, width)
    late = [
        f"{one['name']}: due {moment_short(one['due_at'], now)}, {seconds_brief(one['seconds_late'])} ago "
        f"({one['state']}, queue {one['queue']})"
        for one in status["late"][: most["late"]]
    ]
    lines += _labelled(_numbered("late", status["late_count"]), late, width)
    running = [_running(one) for one in status["running"][: most["running"]]]
    lines += _labelled(_numbered("running", status["running_count"]), running, width)
    waiting = [
        f"{one['queue']} {one['depth']} (oldest {seconds_brief(one['oldest_seconds'])})" for one in status["waiting"]
    ]
    lines += _labelled("waiting", _one_line(waiting, width - LABEL), width)
    upcoming = [f"{one['name']} in {seconds_brief(one['in_seconds'])}" for one in status["upcoming"]]
    lines += _labelled("next", _one_line(upcoming or ["nothing is planned"], width - LABEL), width)
    lines += _labelled(
        _numbered("paused", status["schedules"]["paused"]),
        [f"{_paused_ones(one)}: {_pause_words(one, now)}" for one in status["paused"][: most["paused"]]],
        width,
    )
    lines += _labelled(
        _numbered("parked", status["schedules"]["parked"]),
        [f"{one['schedule']}: {one['why']}" for one in status["parked"][: most["parked"]]],
        width,
    )
    parts = flowed(_parts(status["parts"]), width - LABEL)
    lines += _labelled("parts", [*parts[:1], *([fit(" ".join(parts[1:]), width - LABEL)] if parts[1:] else [])], width)
    alerts = [_alert(one, now) for one in status["alerts"]["newest"][:2]]
    lines += _labelled(_numbered("alerts", status["alerts"]["open"]), alerts, width)
    if status["redis"] is not None:
        lines += _labelled("redis", [status["redis"]["message"]], width)
    lines += _labelled("mail", _outbox(status["outbox"]), width)
    if status["watchdog"] is not None:
        lines += _labelled("watchdog", [_watchdog(status["watchdog"], now)], width)
    lines += _labelled("file", [line for one in status["files"][:2] for line in _file(one, width - LABEL)], width)
    return lines + _labelled("revision", [_revision(status["revision"], now)], width)


def _file(one: dict[str, Any], width: int) -> list[str]:
    """Why the file is not in force, in at most two lines."""
    return wrapped(one["message"], width)[:2]


def _alert(one: dict[str, Any], now: dt.datetime) -> str:
    told = f", told {', '.join(one['told'])}" if one["told"] else ""
    why = f": {clean(one['why'])}" if one["why"] else ""
    return f"{one['about']} {one['event']} since {moment_short(one['since'], now)}{told}{why}"


def _outbox(outbox: dict[str, Any]) -> list[str]:
    """Nothing when all is sent."""
    told = []
    if outbox["waiting"]:
        told.append(f"{outbox['waiting']} waiting (oldest {seconds_brief(outbox['oldest_seconds'])})")
    if outbox["given_up"]:
        told.append(f"{outbox['given_up']} given up in 24 h")
    line = ", ".join(told)
    return [f"{line}: {outbox['last_error']}" if line and outbox["last_error"] else line] if line else []


def _watchdog(watchdog: dict[str, Any], now: dt.datetime) -> str:
    told = f"pinged {moment_short(watchdog['pinged_at'], now)}" if watchdog["pinged_at"] else "not pinged yet"
    return f"{told}; {watchdog['trouble']}" if watchdog["trouble"] else told


def _labelled(label: str, texts: Sequence[str], width: int) -> list[str]:
    labels = [label, *[""] * len(texts)]
    return [
        f"{paint(name.ljust(LABEL), None, bold=True)}{fit(clean(text), width - LABEL)}".rstrip()
        for name, text in zip(labels, texts, strict=False)
    ]


def _one_line(items: Sequence[str], width: int) -> list[str]:
    """The items with commas between; those that do not fit are told by «…»."""
    lines = flowed(items, width - 2)
    return lines if len(lines) < 2 else [f"{lines[0]} …"]


def _numbered(word: str, number: int) -> str:
    return f"{word} {number}" if number > 1 else word


def _counts(counts: dict[str, dict[str, int]]) -> list[str]:
    found = [
        f"{kind:<9}  {', '.join(f'{by_state[state]} {state}' for state in STATES if state in by_state)}"
        for kind, by_state in counts.items()
        if by_state
    ]
    return found or ["nothing has ended"]


def _failing(one: dict[str, Any], now: dt.datetime) -> list[str]:
    times = "once" if one["failures_in_a_row"] == 1 else f"{one['failures_in_a_row']} times in a row"
    head = f"{one['schedule']}: {times}"
    if one["since"]:
        head += f", since {moment_short(one['since'], now)}"
    if one["owner"]:
        head += f", owner {one['owner']}"
    if one["task_id"] is None:
        return [head]
    return [head, f"  task {one['task_id']} {one['state']}{_of_attempts(one)}: {one['error']}"]


def _of_attempts(one: dict[str, Any]) -> str:
    allowed = one["attempts_allowed"]
    return f", attempt {one['attempts']} of {allowed}" if allowed and allowed > 1 else ""


def _running(one: dict[str, Any]) -> str:
    told = [f"task {one['id']} {one['name']}"]
    if one["seconds"] is not None:
        told.append(seconds_brief(one["seconds"]))
    if one["progress"]:
        told.append(f"{bar(one['progress'], 10)} {progress_words(one['progress'])}".strip())
        left = pace_of(one["progress"], dt.timedelta(seconds=one["seconds"] or 0)).left
        if left:
            told.append(f"{brief(left)} left")
    if one["stop_requested"]:
        told.append("asked to stop")
    return ", ".join(told)


def _paused_ones(pause: dict[str, Any]) -> str:
    """Which a pause holds: one, or those that one command paused together."""
    return pause["schedule"] or f"{pause['schedules']:,} at once ({pause['chosen']})"


def _pause_words(pause: dict[str, Any], now: dt.datetime) -> str:
    until = f", until {moment_short(pause['until'], now)}" if pause["until"] else ""
    why = f": {pause['why']}" if pause["why"] else ""
    return f"by {pause['by']} since {moment_short(pause['since'], now)}{until}{why}"


def _parts(parts: Sequence[dict[str, Any]]) -> list[str]:
    """How long ago each sort of part ticked: «dispatcher 1 s», «keeper 2 s (planner 1 s, reconcile 8 s)»."""
    if not parts:
        return ["none has ticked"]
    told = []
    for name in dict.fromkeys(one["part"] for one in parts):
        same = [one for one in parts if one["part"] == name]
        youngest = min(same, key=lambda one: float(one["seconds_since_tick"]))
        words = f"{name} {'SILENT ' if youngest['silent'] else ''}{seconds_brief(youngest['seconds_since_tick'])}"
        if name == "keeper":
            ages = {timer: youngest["details"].get(timer) for timer in ("planner", "reconcile")}
            known = [f"{timer} {seconds_brief(age)}" for timer, age in ages.items() if isinstance(age, int | float)]
            words += f" ({', '.join(known)})" if known else ""
        elif (living := sum(not one["silent"] for one in same)) > 1:
            words += f" ({living})"
        told.append(words)
    return told


def _revision(revision: dict[str, Any] | None, now: dt.datetime) -> str:
    if revision is None:
        return "none: no schedule file is in force; `scheduler apply` puts one in force"
    return (
        f"{revision['id']}, in force since {moment_short(revision['accepted_at'], now)}, "
        f"{revision['file']} by {revision['author']}"
    )


# --- tasks ----------------------------------------------------------------------------------------------------------


def tasks_screen(tasks: Sequence[dict[str, Any]], now: dt.datetime, width: int) -> list[str]:
    columns = (
        Column("id", right=True),
        Column("kind"),
        Column("task", least=12),
        Column("state", paint_by_word=True),
        Column("fire time"),
        Column("took", right=True),
        Column("note", least=14),
    )
    rows = [
        (
            str(task["id"]),
            task["kind"],
            name_of(task),
            task["state"],
            moment_short(task["fire_time"] or task["created_at"], now),
            took(task, now),
            note_of(task),
        )
        for task in tasks
    ]
    return table(columns, rows, width)


def name_of(task: dict[str, Any]) -> str:
    return str(task["schedule"] or task["task"])


def took(task: dict[str, Any], now: dt.datetime) -> str:
    """From its first start to its end, or until now."""
    return between(task["started_at"], task["finished_at"] or iso(now))


def note_of(task: dict[str, Any]) -> str:
    """The one thing to know about a task: how far it is, what it gave, or why it ended as it did."""
    if task["state"] == RUNNING:
        return progress_words(task["progress"])
    if task["state"] == SUCCEEDED:
        return result_in_words(task["result"])
    if task["reason"]:
        return str(task["reason"])
    error = task["error"] or {}
    return ": ".join(filter(None, (error.get("type"), error.get("message"))))


# --- one task -------------------------------------------------------------------------------------------------------


def task_screen(task: dict[str, Any], zone: str | None, now: dt.datetime, width: int) -> list[str]:
    """Everything about one task, and what can be done with it."""
    colour = {"succeeded": "green", "failed": "red", "lost": "red"}.get(task["state"], "yellow")
    head = f"task {task['id']}  {name_of(task)}  {task['kind']}  "
    lines = [paint(fit(head, width - 10), None, bold=True) + paint(task["state"], colour, bold=True)]
    lines += _field("reason", task["reason"] or "", width)
    lines += _field("progress", _progress(task), width)
    lines += _field("function", task["task"], width)
    lines += _field("asked by", origin_in_words(task), width)
    if task["fire_time"]:
        lines += _field("fire time", f"{moment(task['fire_time'])}{_local(task['fire_time'], zone)}", width)
    lines += _field("queue", _queue(task), width)
    lines += ["", paint("timeline", None, bold=True), *_timeline(task, now, width)]
    for attempt in task["attempts"]:
        lines += ["", *_attempt(attempt, now, width)]
    lines += _json_block("args", task["args"], width)
    if task["artifacts"]:
        lines += _files(task["artifacts"], width)
    elif task["result"] is not None:
        lines += _result(task, width)
    return [*lines, "", *_hints(task, width)]


def _field(label: str, text: str, width: int) -> list[str]:
    if not text:
        return []
    found = wrapped(text, width - LABEL)
    return [f"{label.ljust(LABEL)}{found[0]}".rstrip(), *(" " * LABEL + line for line in found[1:])]


def _progress(task: dict[str, Any]) -> str:
    if not task["progress"]:
        return ""
    return f"{bar(task['progress'])} {progress_words(task['progress'])}".strip()


def _queue(task: dict[str, Any]) -> str:
    worker = f", worker {task['worker']}" if task["worker"] else ""
    return f"{task['queue']}{worker}"


def _local(text: str, zone: str | None) -> str:
    return f"  ({parse_iso(text).astimezone(ZoneInfo(zone)):%a %H:%M:%S %Z}, {zone})" if zone else ""


def _timeline(task: dict[str, Any], now: dt.datetime, width: int) -> list[str]:
    """Each step with how long it took from the one before."""
    first_due = task["fire_time"] or task["created_at"]
    steps = [("planned" if task["fire_time"] else "asked for", task["created_at"])]
    if task["fire_time"]:
        steps.append(("fire time", task["fire_time"]))
    if task["due_at"] != first_due:
        steps.append(("due", task["due_at"]))
    steps += [
        ("queued", task["queued_at"]),
        ("started", task["started_at"]),
        (task["state"] if task["state"] in FINAL else "ended", task["finished_at"]),
    ]
    known = sorted(((label, text) for label, text in steps if text), key=lambda step: parse_iso(step[1]))
    lines, before = [], None
    for label, text in known:
        later = f"  + {between(before, text, 2)}" if before else ""
        lines.append(fit(f"  {label:<10} {moment(text)}{later}", width))
        before = text
    if task["state"] == RUNNING:
        lines.append(f"  running    for {between(task['started_at'], iso(now), 2)}")
    elif task["state"] not in FINAL and parse_iso(task["due_at"]) > now:
        lines.append(f"  due        in {between(iso(now), task['due_at'], 2)}")
    return lines


def _attempt(attempt: dict[str, Any], now: dt.datetime, width: int) -> list[str]:
    outcome = attempt["outcome"] or "running"
    head = (
        f"attempt {attempt['number']}: {outcome}, {between(attempt['started_at'], attempt['ended_at'] or iso(now), 2)}"
    )
    where = f"  {moment(attempt['started_at'])} on {attempt['host']}, process {attempt['pid']}"
    if attempt["peak_memory"]:
        where += f", {attempt['peak_memory'] / 1_048_576:.0f} MiB at most"
    lines = [paint(head, None, bold=True), *wrapped(where.strip(), width, "  ")]
    if attempt["error_type"]:
        lines += wrapped(f"{attempt['error_type']}: {attempt['error_message'] or ''}", width, "  ")
    for cause in attempt["causes"]:
        lines += wrapped(f"caused by {cause['type']}: {cause['message']}", width, "  ")
    trace = [line for line in (attempt["traceback"] or "").splitlines() if line.strip()]
    if len(trace) > 1:
        lines.append("  … the last lines of the traceback:" if len(trace) > LAST_LINES else "  traceback:")
        lines += [fit("    " + clean(line.replace("\t", "    ")), width) for line in trace[-LAST_LINES:]]
    return lines


def _result(task: dict[str, Any], width: int) -> list[str]:
    """Text, a page and a link as they are; everything else as JSON."""
    if task["result_kind"] not in ("text", "html", "link"):
        return _json_block("result", task["result"], width)
    text = "\n".join(filter(None, (task["result"].get("title"), task["result"]["value"])))
    shown = text.splitlines()
    lines = [line for one in shown[:MOST_JSON_LINES] for line in wrapped(clean(one) or " ", width, "  ")]
    if len(shown) > MOST_JSON_LINES:
        lines.append(f"  … {len(shown) - MOST_JSON_LINES} more lines: --json shows all")
    return ["", paint(f"result ({task['result_kind']})", None, bold=True), *lines]


def _files(artifacts: Sequence[dict[str, Any]], width: int) -> list[str]:
    lines = ["", paint("files", None, bold=True)]
    for one in artifacts:
        kept = one["path"] if one["path"].startswith("/") else f"artifacts/{one['path']} in the data folder"
        lines += wrapped(
            f"{one['id']}  {one['name']}, {one['media_type']}, {size_in_words(one['size'])}: {kept}", width, "  "
        )
    return lines


def _json_block(label: str, value: Any, width: int) -> list[str]:
    shown = pretty(value, width - 2).splitlines()
    lines = [line for one in shown[:MOST_JSON_LINES] for line in wrapped(one, width, "  ")]
    if len(shown) > MOST_JSON_LINES:
        lines.append(f"  … {len(shown) - MOST_JSON_LINES} more lines: --json shows all")
    return ["", paint(label, None, bold=True), *lines]


def _hints(task: dict[str, Any], width: int) -> list[str]:
    number, state = task["id"], task["state"]
    hints = []
    if state == RUNNING:
        hints = [f"scheduler logs {number} --follow", f"scheduler cancel {number}"]
    elif state in FINAL:
        hints = [f"scheduler logs {number}"] if task["attempts"] else []
        hints.append(f"scheduler retry {number}")
    else:
        hints = [f"scheduler cancel {number}"]
    return _field("next", " · ".join(hints), width)


# --- schedules ------------------------------------------------------------------------------------------------------


def schedules_screen(schedules: Sequence[dict[str, Any]], now: dt.datetime, width: int) -> list[str]:
    columns = (
        Column("schedule", least=12),
        Column("state", paint_by_word=True),
        Column("last (ago)", least=10, paint_by_word=True),
        Column("next (local)", least=8),
        Column("when", least=6),
    )
    rows = [(one["name"], one["state"], _last(one, now), _next(one, now), one["words"]) for one in schedules]
    lines = table(columns, rows, width)
    notes = []
    for one in schedules:
        if one["pause"]:
            notes += wrapped(f"{one['name']} is paused {_pause_words(one['pause'], now)}", width)
        elif one["state"] == "parked":
            notes += wrapped(f"{one['name']} is parked: {one['parked']}", width)
    return [*lines, "", *notes] if notes else lines


def _last(one: dict[str, Any], now: dt.datetime) -> str:
    last = one["last"]
    return f"{last['state']} {between(last['finished_at'], iso(now))}" if last else "never"


def _next(one: dict[str, Any], now: dt.datetime) -> str:
    if one["next"] is None:
        return "–"
    when = parse_iso(one["next"])
    local, here = when.astimezone(ZoneInfo(one["timezone"])), now.astimezone(ZoneInfo(one["timezone"]))
    if local.date() == here.date():
        face = f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"
    else:
        face = f"{local:%a %H:%M}" if when - now < dt.timedelta(days=6) else f"{local:%Y-%m-%d}"
    return f"in {between(iso(now), one['next'])}, {face}"
