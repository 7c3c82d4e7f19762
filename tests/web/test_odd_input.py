"""Whatever is written into an address or a form, no endpoint breaks on it, on either database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.store.database import Database
from scheduler.web.limits import ACT, LIMITS, LOG_IN, READ, Limit, Limits
from tests.builders import a_schedule, a_task
from tests.web.serving import a_client

PARAMETERS = "q schedule who subject action since until state kind date at after before page revision next name task"
FIELDS = "why until from to name password next id do arg.source all dry_run count"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NO_LIMITS = Limits({**LIMITS, **{what: Limit(1_000_000, 1) for what in (LOG_IN, READ, ACT)}})


@pytest.mark.parametrize("odd", ["a%00b", "%ED%A0%80", "%0d%0aX-Evil:%201"])
def test_no_endpoint_breaks_on_odd_input(database: Database, room: WaitingRoom, tmp_path: Path, odd: str) -> None:
    with database.write() as session:
        a_task(session, schedule=a_schedule(session), state="failed")
    broken = []
    with a_client(database, room, tmp_path) as client:
        app: Any = client.app
        app.state.limits = NO_LIMITS
        for route in iter_route_contexts(app.routes):
            path = route.path or ""
            real = re.sub(r"{(\w+)[^}]*}", lambda found: "nightly" if found[1] == "name" else "1", path)
            for method in (route.methods or set()) - {"HEAD"}:
                for address in {re.sub(r"{[^}]*}", odd, path), real}:
                    if "/events/" in address:
                        continue
                    if method == "GET":
                        question = "&".join(f"{name}={odd}" for name in PARAMETERS.split())
                        answers = [client.get(address), client.get(f"{address}?{question}")]
                    else:
                        form = "&".join(f"{name}={odd}" for name in FIELDS.split())
                        answers = [client.request(method, address, content=form, headers=FORM)]
                    broken += [(method, address, one.status_code) for one in answers if one.status_code >= 500]
                    assert [one for one in answers if "x-evil" in one.headers] == []

    assert broken == []
