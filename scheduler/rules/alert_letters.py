"""What an alert says, in the form of each channel. Pure.

The payload of a webhook (version 1): `what` (opened, again, passed, flapping, closed), `event`, `service`, `summary`,
`subject` of the alert, `alert_id`, `schedule`, `task_id`, `since`, `closed_at`, `downtime_seconds`, `times`, `owner`,
`about`, `error`, `link`, and for a storm `count` and `schedules`.
"""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Sequence
from typing import Any

from scheduler.clock import iso
from scheduler.rules import alerts
from scheduler.rules.alerts import AlertState, Telling
from scheduler.rules.brief import brief
from scheduler.rules.messages import Letter

MOST_LISTED = 20  # of a storm
LONGEST_SUBJECT = 160  # letters; mail programs show fewer
_RED, _GREEN, _GREY = "#b3261e", "#1b6e3c", "#6b6b6b"

_WORDS = {
    alerts.FAILED: "FAILED",
    alerts.LOST: "LOST",
    alerts.MISSED: "MISSED",
    alerts.LATE: "LATE",
    alerts.TOO_FAST: "TOO FAST",
    alerts.TOO_LONG: "TOO LONG",
    alerts.PAUSED: "PAUSED ITSELF",
    alerts.NO_WORKER: "NO WORKER",
    alerts.SILENT_PART: "SILENT",
    alerts.BAD_FILE: "BAD FILE",
    alerts.MAIL_GIVEN_UP: "MAIL GIVEN UP",
}
_OVER = {
    alerts.PAUSED: "goes on:",
    alerts.BAD_FILE: "schedule file in force again:",
    alerts.TOO_LONG: "ended:",
    alerts.NO_WORKER: "has a worker again:",
    alerts.SILENT_PART: "ticks again:",
    alerts.MAIL_GIVEN_UP: "no mail given up lately:",
}


def letter_of(telling: Telling, *, service: str, base_url: str | None, now: dt.datetime) -> Letter:
    """The letter for a telling; its first lines are the same on each channel."""
    headline = _one_line(_headline(telling, now))
    facts = _storm_facts(telling) if telling.is_storm else _facts(telling.alert, now, base_url)
    advice = [] if telling.what == alerts.CLOSED else _advice(telling)
    subject = f"[{service}] {headline}"
    return Letter(
        subject=subject if len(subject) <= LONGEST_SUBJECT else subject[: LONGEST_SUBJECT - 1] + "…",
        text=_text(headline, facts, advice),
        html=_html(headline, facts, advice, telling.what),
        headers={"Auto-Submitted": "auto-generated"},
        replies_to=telling.replies_to,
        payload=_payload(telling, service, headline, base_url),
        chat="\n".join([f"{_mark(telling)} {subject}", *(f"{name}: {value}" for name, value in facts[:4])]),
    )


def _headline(telling: Telling, now: dt.datetime) -> str:
    alert, word = telling.alert, _WORDS[telling.alert.event]
    if telling.is_storm:
        count = len(telling.alerts)
        if telling.what == alerts.CLOSED:
            return f"recovered: {count} schedules ({word.lower()})"
        again = " still" if telling.what == alerts.AGAIN else ""
        return ": ".join(filter(None, (f"{word}{again}: {count} schedules", str(alert.details.get("error") or ""))))
    if telling.what == alerts.CLOSED:
        assert alert.closed_at is not None
        over = _OVER.get(alert.event, "recovered")
        flapped = ", calm for an hour" if alert.flaps else ""
        return f"{over} {_name(alert)} after {_span(alert.closed_at - alert.opened_at)}{flapped}"
    what = f"{word} {_name(alert)}: {_why(alert)}"
    if telling.what == alerts.PASSED:
        assert alert.closed_at is not None
        return f"{what} (over after {_span(alert.closed_at - alert.opened_at)})"
    if telling.what == alerts.FLAPPING:
        return f"flapping {_name(alert)} ({word.lower()}): silent until it is calm for an hour"
    if telling.what == alerts.AGAIN:
        return f"STILL {what} (for {_span(now - alert.opened_at)})"
    return what


def _name(alert: AlertState) -> str:
    return str(alert.details.get("schedule") or alert.details.get("name") or alert.subject)


def _why(alert: AlertState) -> str:
    details = alert.details
    if alert.event == alerts.FAILED and details.get("error"):
        attempts = details.get("attempts") or 1
        return f"{details['error']}" + (f" after {attempts} attempts" if attempts > 1 else "")
    if alert.event == alerts.MISSED:
        return "1 fire time" if alert.times == 1 else f"{alert.times} fire times"
    return str(details.get("why") or details.get("error") or "")


def _facts(alert: AlertState, now: dt.datetime, base_url: str | None) -> list[tuple[str, str]]:
    details = alert.details
    end = alert.closed_at
    span = f" ({_span((end or now) - alert.opened_at)})"
    in_a_row = details.get("in_a_row") or 1
    found = [
        ("since", _moment(alert.opened_at) + ("" if end else span)),
        ("until", _moment(end) + span if end else ""),
        ("times", f"{alert.times}, the last at {_moment(alert.last_at)}" if alert.times > 1 else ""),
        ("failures in a row", str(in_a_row) if in_a_row > 1 else ""),
        ("attempts", str(details.get("attempts") or "")),
        ("error", str(details.get("error") or "")),
        ("reason", str(details.get("why") or "")),
        ("task", str(details.get("task_id") or "")),
        ("file", f"{details['file']} on {details['host']}" if details.get("file") else ""),
        ("owner", str(details.get("owner") or "")),
        ("why it matters", str(details.get("about") or "")),
        ("link", _link(alert, base_url) or ""),
    ]
    return [(name, value) for name, value in found if value]


def _storm_facts(telling: Telling) -> list[tuple[str, str]]:
    names = [_name(one) for one in telling.alerts]
    more = len(names) - MOST_LISTED
    listed = ", ".join(names[:MOST_LISTED]) + (f" … and {more} more" if more > 0 else "")
    since = min(one.opened_at for one in telling.alerts)
    error = str(telling.alert.details.get("error") or "")
    return [("since", _moment(since)), *([("error", error)] if error else []), ("schedules", listed)]


def _advice(telling: Telling) -> list[tuple[str, str]]:
    """Commands for whoever is on call, with what each does."""
    alert = telling.alert
    task_id, name = alert.details.get("task_id"), _name(alert)
    if telling.is_storm:
        return [("scheduler status", "what is failing, since when")]
    if alert.event == alerts.BAD_FILE:
        return [("scheduler check", "all faults, with line and remedy"), ("scheduler history", "what is in force")]
    if alert.event == alerts.NO_WORKER:
        return [("scheduler status", "which parts tick"), (f"scheduler start worker --kind {name}", "start one")]
    if alert.event == alerts.SILENT_PART:
        return [("scheduler status", "which parts tick"), ("scheduler doctor", "what is wrong, and how to mend it")]
    if alert.event == alerts.MAIL_GIVEN_UP:
        return [("scheduler doctor", "what is wrong, and how to mend it")]
    if alert.event == alerts.MISSED:
        return [(f"scheduler explain {name}", "why it did not start"), (f"scheduler run {name}", "run it now")]
    shown = [(f"scheduler show {task_id}", "how it ended, and why")] if task_id else []
    if alert.event in (alerts.FAILED, alerts.LOST):
        return [*shown, (f"scheduler retry {task_id}", "run it once more"), (f"scheduler pause {name}", "hold it")]
    if alert.event == alerts.TOO_LONG:
        return [*shown, (f"scheduler logs {task_id}", "what it does"), (f"scheduler cancel {task_id}", "stop it")]
    if alert.event == alerts.PAUSED:
        return [*shown, (f"scheduler resume {name}", "let it go on, once it is mended")]
    return [*shown, (f"scheduler explain {name}", "what it does, and why")]


def _text(headline: str, facts: Sequence[tuple[str, str]], advice: Sequence[tuple[str, str]]) -> str:
    width = max((len(name) for name, _ in facts), default=0)
    lines = [headline, "", *(f"{name + ':':<{width + 1}} {value}" for name, value in facts)]
    if advice:
        longest = max(len(command) for command, _ in advice)
        lines += ["", "What you can do now:", *(f"  {command:<{longest}}  {what}" for command, what in advice)]
    return "\n".join(lines) + "\n"


def _html(headline: str, facts: Sequence[tuple[str, str]], advice: Sequence[tuple[str, str]], what: str) -> str:
    colour = _GREEN if what == alerts.CLOSED else _RED
    rows = "".join(
        f'<tr><td style="padding:2px 12px 2px 0;color:{_GREY};vertical-align:top">{html.escape(name)}</td>'
        f'<td style="padding:2px 0;overflow-wrap:anywhere">{_value(value)}</td></tr>'
        for name, value in facts
    )
    commands = "".join(
        f'<li style="margin:4px 0"><code>{html.escape(command)}</code> {html.escape(told)}</li>'
        for command, told in advice
    )
    todo = f'<p>What you can do now:</p><ul style="padding-left:20px">{commands}</ul>' if commands else ""
    return (
        '<!doctype html><html><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"></head>'
        '<body style="font-family:sans-serif;font-size:15px;line-height:1.4;max-width:640px">'
        f'<p style="border-left:6px solid {colour};padding-left:10px;font-size:17px"><b>{html.escape(headline)}</b></p>'
        f'<table style="border-collapse:collapse;font-size:15px">{rows}</table>{todo}</body></html>'
    )


def _value(value: str) -> str:
    safe = html.escape(value)
    return f'<a href="{safe}">{safe}</a>' if value.startswith(("https://", "http://")) else safe


def _payload(telling: Telling, service: str, headline: str, base_url: str | None) -> dict[str, Any]:
    alert, details = telling.alert, telling.alert.details
    closed = alert.closed_at
    payload: dict[str, Any] = {
        "version": 1,
        "service": service,
        "what": telling.what,
        "event": alert.event,
        "summary": headline,
        "subject": alert.subject,
        "alert_id": alert.id,
        "schedule": details.get("schedule"),
        "task_id": details.get("task_id"),
        "since": iso(alert.opened_at),
        "closed_at": iso(closed),
        "downtime_seconds": None if closed is None else round((closed - alert.opened_at).total_seconds()),
        "times": alert.times,
        "owner": details.get("owner") or None,
        "about": details.get("about") or None,
        "error": details.get("error") or details.get("why") or None,
        "link": _link(alert, base_url),
    }
    if telling.is_storm:
        names = [_name(one) for one in telling.alerts]
        payload |= {"count": len(names), "schedules": names[:MOST_LISTED]}
    return payload


def _link(alert: AlertState, base_url: str | None) -> str | None:
    if not base_url:
        return None
    base, task_id = base_url.rstrip("/"), alert.details.get("task_id")
    if task_id:
        return f"{base}/tasks/{task_id}"
    return f"{base}/schedules/{_name(alert)}" if alert.schedule_id is not None else base


def _mark(telling: Telling) -> str:
    return ":white_check_mark:" if telling.what == alerts.CLOSED else ":red_circle:"


def _span(duration: dt.timedelta) -> str:
    return brief(duration, units=2) if duration >= dt.timedelta(seconds=1) else "less than a second"


def _moment(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _one_line(text: str) -> str:
    return " ".join(text.split())
