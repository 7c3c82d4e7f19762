"""The HTML part of a digest: the same sentences as the text part."""

from __future__ import annotations

from collections.abc import Mapping

from scheduler.notify.digest_pictures import Picture
from scheduler.notify.mail_html import render
from scheduler.rules.mail.digest import DigestSaid


def digest_html(said: DigestSaid, pictures: Mapping[str, Picture]) -> str:
    """A whole HTML document; the pictures are named by `cid:`."""
    tone = "good" if said.is_green else next((one.tone for one in said.sections if one.tone != "plain"), "plain")
    return render("digest.html.jinja", said=said, pictures=pictures, tone=tone)
