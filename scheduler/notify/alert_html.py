"""The HTML part of an alert: the same facts as the text part, in the dress of the digest."""

from __future__ import annotations

from scheduler.notify.mail_html import render
from scheduler.rules.mail.alert_letters import AlertSaid


def alert_html(said: AlertSaid) -> str:
    """A whole HTML document, without pictures."""
    return render("alert.html.jinja", said=said)
