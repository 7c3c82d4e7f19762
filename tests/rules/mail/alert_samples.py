"""Alerts as they stand when they are told, for the tests of their letters and pictures."""

from __future__ import annotations

import datetime as dt
from typing import Any

from scheduler.rules.mail import alerts
from scheduler.rules.mail.alert_letters import AlertSaid, said_of
from scheduler.rules.mail.alerts import AlertState, Telling
from tests.builders import at

NOW = at("02:00")
HOUR = dt.timedelta(hours=1)

CLOSE_MONTH = AlertState(
    "schedule:4:failed",
    alerts.FAILED,
    at("02:00"),
    at("03:10"),
    4,
    id=9,
    times=2,
    details={
        "schedule": "close-month",
        "task_id": 17,
        "error": "Timeout",
        "why": "Timeout (after 3 attempts)",
        "attempts": 3,
        "in_a_row": 2,
        "owner": "jana",
        "about": "Feeds the 08:15 mail <b>.",
    },
)


def with_details(alert: AlertState, **details: Any) -> AlertState:
    return AlertState(**{**vars(alert), "details": {**alert.details, **details}})


def closed(alert: AlertState, after: dt.timedelta) -> AlertState:
    return AlertState(**{**vars(alert), "closed_at": alert.opened_at + after})


def about(event: str, **details: Any) -> AlertState:
    return AlertState(f"x:{event}", event, NOW, NOW, None, id=9, details=details)


FAILED = with_details(
    CLOSE_MONTH,
    task_id=4711,
    error="ConnectionError: bank.example.org refused the connection (port 443)",
    why="ConnectionError: bank.example.org refused the connection (port 443) (after 3 attempts)",
    about="Feeds the 08:15 mail of the finance team.",
)
MISSED = AlertState(
    "schedule:5:missed",
    alerts.MISSED,
    at("02:00"),
    at("02:30"),
    5,
    id=4,
    times=4,
    details={"schedule": "stock-sync", "task_id": 99, "why": "22 m late, grace 10 m: no worker was free"},
)
NO_WORKER = about(alerts.NO_WORKER, name="long", why="none of kind long ticks, and 3 tasks wait on queue rq-long")
BAD_FILE = about(
    alerts.BAD_FILE,
    name="schedules.yaml",
    file="/etc/scheduler/schedules.yaml",
    host="jobs-1",
    why='schedules.yaml:9:5: schedule "mail-flush" has an unknown key "rety"; did you mean "retry"?',
)
STORM = tuple(
    AlertState(
        f"schedule:{number}:failed",
        alerts.FAILED,
        at("02:00"),
        at("02:00"),
        number,
        id=number,
        details={"schedule": f"tenant-{number:03}-nightly-import", "error": "OSError: no space left on device"},
    )
    for number in range(1, 29)
)
LONG_WORDS = with_details(CLOSE_MONTH, schedule="n" * 64, error="x" * 300, owner="o" * 80, about="a" * 500)


def said(what: str, *told: AlertState, base_url: str | None = "https://jobs.example.org") -> AlertSaid:
    telling = Telling(what, "ops", told, "alert:9:opened")
    return said_of(telling, service="jobs prod", base_url=base_url, now=NOW + 1.5 * HOUR, realert=4 * HOUR)


SAID = {
    "failed": said(alerts.OPENED, FAILED),
    "still failed": said(alerts.AGAIN, FAILED),
    "recovered": said(alerts.CLOSED, closed(FAILED, 2.1 * HOUR)),
    "over already": said(alerts.PASSED, closed(FAILED, HOUR / 100)),
    "flapping": said(alerts.FLAPPING, FAILED),
    "missed": said(alerts.OPENED, MISSED),
    "no worker": said(alerts.OPENED, NO_WORKER),
    "bad file": said(alerts.OPENED, BAD_FILE),
    "storm": said(alerts.OPENED, *STORM),
    "storm over": said(alerts.CLOSED, *(closed(one, HOUR) for one in STORM)),
    "long words": said(alerts.OPENED, LONG_WORDS),
    "no page": said(alerts.OPENED, FAILED, base_url=None),
}
