"""What an alert says, in the form of each channel. Pure.

The payload of a webhook (version 1): `what` (opened, again, passed, flapping, closed), `event`, `service`, `summary`,
`subject` of the alert, `alert_id`, `schedule`, `task_id`, `since`, `closed_at`, `downtime_seconds`, `times`, `owner`,
`about`, `error`, `link`, and for a storm `count` and `schedules`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from scheduler.clock import iso
from scheduler.rules.brief import brief
from scheduler.rules.mail import alerts
from scheduler.rules.mail.alerts import AlertState, Telling
from scheduler.rules.mail.messages import Letter

MOST_LISTED = 20  # of a storm
LONGEST_SUBJECT = 160  # letters; mail programs show fewer
_BAD = frozenset(
    {
        *(alerts.FAILED, alerts.LOST, alerts.NO_WORKER, alerts.SILENT_PART, alerts.BAD_FILE),
        *(alerts.MAIL_GIVEN_UP, alerts.BROKEN_PROMISE),
    }
)

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
    alerts.BROKEN_PROMISE: "BROKEN PROMISE",
}
_OVER = {
    alerts.PAUSED: "goes on:",
    alerts.BAD_FILE: "schedule file in force again:",
    alerts.TOO_LONG: "ended:",
    alerts.NO_WORKER: "has a worker again:",
    alerts.SILENT_PART: "ticks again:",
    alerts.MAIL_GIVEN_UP: "no mail given up lately:",
    alerts.BROKEN_PROMISE: "the promise holds again:",
}


@dataclass(frozen=True)
class AlertSaid:
    """An alert, ready to be set as text and as HTML."""

    subject: str
    headline: str
    title: str  # the headline without the error, where that is shown beside it
    tone: str  # bad, warn, good
    facts: tuple[tuple[str, str], ...]  # name and value; `error` and `link` among them
    advice: tuple[tuple[str, str], ...]  # a command, and what it does
    closing: tuple[str, ...] = ()
    error: str = ""
    link: str = ""
    link_text: str = ""


def said_of(
    telling: Telling, *, service: str, base_url: str | None, now: dt.datetime, realert: dt.timedelta
) -> AlertSaid:
    """What a telling says; its first lines are the same on each channel."""
    headline = _one_line(_headline(telling, now))
    subject = f"[{service}] {headline}"
    link, link_text = _link(telling, base_url)
    error = _one_line(str(telling.alert.details.get("error") or ""))
    title = headline.replace(f": {error}", "", 1) if error else headline
    facts = tuple(_storm_facts(telling, link) if telling.is_storm else _facts(telling.alert, now, link, headline))
    return AlertSaid(
        subject=subject if len(subject) <= LONGEST_SUBJECT else subject[: LONGEST_SUBJECT - 1] + "…",
        headline=headline,
        title=title[:1].upper() + title[1:],
        tone=_tone(telling),
        facts=facts,
        advice=() if telling.what == alerts.CLOSED else tuple(_advice(telling)),
        closing=tuple(_closing(telling, realert)),
        error=_one_line(dict(facts).get("error", "")),
        link=link,
        link_text=link_text,
    )


def letter_of(telling: Telling, said: AlertSaid, *, service: str, html: str | None = None) -> Letter:
    """The letter for a telling, in the form of each channel."""
    return Letter(
        subject=said.subject,
        text=_text(said),
        html=html,
        replies_to=telling.replies_to,
        payload=_payload(telling, said, service),
        chat="\n".join([f"{_mark(telling)} {said.subject}", *(f"{name}: {value}" for name, value in said.facts[:4])]),
    )


def _tone(telling: Telling) -> str:
    if telling.what == alerts.CLOSED:
        return "good"
    return "bad" if telling.alert.event in _BAD and telling.what in (alerts.OPENED, alerts.AGAIN) else "warn"


def _closing(telling: Telling, realert: dt.timedelta) -> list[str]:
    """When the next letter about it comes."""
    if telling.what == alerts.PASSED:
        return ["It is over already; no letter follows."]
    if telling.what not in (alerts.OPENED, alerts.AGAIN):
        return []
    if telling.alert.event in alerts.ONLY_IF_AGAIN:
        return [f"If it happens again, the next letter comes in {brief(realert, units=2)} at the earliest."]
    return [f"The next letter comes in {brief(realert, units=2)} if it lasts, or when it is over."]


def _headline(telling: Telling, now: dt.datetime) -> str:
    alert, word = telling.alert, _WORDS[telling.alert.event]
    if telling.is_storm:
        count = len(telling.alerts)
        if telling.what == alerts.CLOSED:
            longest = max(one.closed_at - one.opened_at for one in telling.alerts if one.closed_at is not None)
            return f"recovered: {count} schedules ({word.lower()}) after up to {_span(longest)}"
        again = " still" if telling.what == alerts.AGAIN else ""
        return ": ".join(filter(None, (f"{word}{again}: {count} schedules", str(alert.details.get("error") or ""))))
    if telling.what == alerts.CLOSED:
        assert alert.closed_at is not None
        if alert.event == alerts.LATE and alert.details.get("finish_by"):
            lasted = _span(alert.closed_at - alert.opened_at)
            return f"done at last: {_name(alert)}, {lasted} after {alert.details['finish_by']}"
        over = _OVER.get(alert.event, "recovered")
        flapped = ", calm for an hour" if alert.flaps else ""
        return f"{over} {_name(alert)} after {_span(alert.closed_at - alert.opened_at)}{flapped}"
    what = f"{word} {_name(alert)}: {_why(alert)}"
    if telling.what == alerts.PASSED:
        assert alert.closed_at is not None
        lasted, finish_by = _span(alert.closed_at - alert.opened_at), alert.details.get("finish_by")
        if alert.event == alerts.LATE and finish_by:
            return f"{word} {_name(alert)}: done {lasted} after {finish_by}, by which it should have ended"
        return f"{what} (over after {lasted})"
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


def _facts(alert: AlertState, now: dt.datetime, link: str, headline: str) -> list[tuple[str, str]]:
    """A reason that the headline or the error tells is not told again."""
    details = alert.details
    error, why = str(details.get("error") or ""), str(details.get("why") or "")
    end = alert.closed_at
    is_done_late = alert.event == alerts.LATE and end is not None  # then the reason tells how it stood before
    is_told = is_done_late or _one_line(why) in headline or bool(error and why.startswith(error))
    span = f" ({_span((end or now) - alert.opened_at)})"
    in_a_row = details.get("in_a_row") or 1
    found = [
        ("since", _moment(alert.opened_at) + ("" if end else span)),
        ("until", _moment(end) + span if end else ""),
        ("times", f"{alert.times}, the last at {_moment(alert.last_at)}" if alert.times > 1 else ""),
        ("failures in a row", str(in_a_row) if in_a_row > 1 else ""),
        ("attempts", str(details.get("attempts") or "")),
        ("error", error),
        ("reason", "" if is_told else why),
        ("fire time", str(details.get("fire_time") or "") if is_done_late else ""),
        ("task", str(details.get("task_id") or "")),
        ("file", f"{details['file']} on {details['host']}" if details.get("file") else ""),
        ("owner", str(details.get("owner") or "")),
        ("why it matters", str(details.get("about") or "")),
        ("link", link),
    ]
    return [(name, value) for name, value in found if value]


def _storm_facts(telling: Telling, link: str) -> list[tuple[str, str]]:
    names = [_name(one) for one in telling.alerts]
    more = len(names) - MOST_LISTED
    listed = ", ".join(names[:MOST_LISTED]) + (f" … and {more} more" if more > 0 else "")
    since = min(one.opened_at for one in telling.alerts)
    error = str(telling.alert.details.get("error") or "")
    if any(str(one.details.get("error") or "") != error for one in telling.alerts):
        error += f" ({names[0]}; those of the others differ in numbers)"
    found = [("since", _moment(since)), ("error", error), ("schedules", listed), ("link", link)]
    return [(name, value) for name, value in found if value]


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
    if alert.event in (alerts.MAIL_GIVEN_UP, alerts.BROKEN_PROMISE):
        return [("scheduler doctor", "what is wrong, and how to mend it")]
    if alert.event == alerts.MISSED:
        return [(f"scheduler explain {name}", "why it did not start"), (f"scheduler run {name}", "run it now")]
    may_run = alert.event in (alerts.LATE, alerts.TOO_LONG) and alert.is_open
    shown = [(f"scheduler show {task_id}", f"how it {'stands' if may_run else 'ended'}, and why")] if task_id else []
    if alert.event in (alerts.FAILED, alerts.LOST):
        return [*shown, (f"scheduler retry {task_id}", "run it once more"), (f"scheduler pause {name}", "hold it")]
    if alert.event == alerts.TOO_LONG:
        return [*shown, (f"scheduler logs {task_id}", "what it does"), (f"scheduler cancel {task_id}", "stop it")]
    if alert.event == alerts.PAUSED:
        return [*shown, (f"scheduler resume {name}", "let it go on, once it is mended")]
    return [*shown, (f"scheduler explain {name}", "what it does, and why")]


def _text(said: AlertSaid) -> str:
    width = max((len(name) for name, _ in said.facts), default=0)
    lines = [said.headline, "", *(f"{name + ':':<{width + 1}} {value}" for name, value in said.facts)]
    if said.advice:
        longest = max(len(command) for command, _ in said.advice)
        lines += ["", "What you can do now:", *(f"  {command:<{longest}}  {what}" for command, what in said.advice)]
    if said.closing:
        lines += ["", *said.closing]
    return "\n".join(lines) + "\n"


def _payload(telling: Telling, said: AlertSaid, service: str) -> dict[str, Any]:
    alert, details = telling.alert, telling.alert.details
    closed = alert.closed_at
    payload: dict[str, Any] = {
        "version": 1,
        "service": service,
        "what": telling.what,
        "event": alert.event,
        "summary": said.headline,
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
        "link": said.link or None,
    }
    if telling.is_storm:
        names = [_name(one) for one in telling.alerts]
        payload |= {"count": len(names), "schedules": names[:MOST_LISTED]}
    return payload


_PAGES = {
    alerts.NO_WORKER: ("workers", "Open the workers"),
    alerts.SILENT_PART: ("workers", "Open the workers"),
    alerts.BAD_FILE: ("file", "Open the file"),
}


def _link(telling: Telling, base_url: str | None) -> tuple[str, str]:
    """Where in the web page more stands, and what a button there says; empty without a page."""
    alert = telling.alert
    if not base_url:
        return "", ""
    base, task_id = base_url.rstrip("/"), alert.details.get("task_id")
    if telling.is_storm:
        return f"{base}/schedules", "Open the schedules"
    if task_id:
        return f"{base}/tasks/{task_id}", f"Open task {task_id}"
    if alert.schedule_id is not None:
        return f"{base}/schedules/{_name(alert)}", f"Open {_name(alert)}"
    page, text = _PAGES.get(alert.event, ("", "Open the page"))
    return f"{base}/{page}", text


def _mark(telling: Telling) -> str:
    return ":white_check_mark:" if telling.what == alerts.CLOSED else ":red_circle:"


def _span(duration: dt.timedelta) -> str:
    return brief(duration, units=2) if duration >= dt.timedelta(seconds=1) else "less than a second"


def _moment(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _one_line(text: str) -> str:
    return " ".join(text.split())
