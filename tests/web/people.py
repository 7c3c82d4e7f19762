"""Users and tokens of each role, for tests that ask as somebody."""

from __future__ import annotations

import datetime as dt

from starlette.testclient import TestClient

from scheduler.engine.access import Access
from scheduler.rules.askers import Asker
from scheduler.rules.roles import ROLES
from scheduler.store.database import Database

PASSWORD = "ten green bottles"
TESTER = Asker("tester", address="here")


def add_users(database: Database) -> dict[str, str]:
    """A user for each role, named as the role, and the token of each; ask for `cheap_passwords` too."""
    access = Access(database)
    tokens = {}
    for role in ROLES:
        access.add_user(role, PASSWORD, role, TESTER)
        tokens[role] = access.add_token(f"of-{role}", role, role, dt.timedelta(days=1), TESTER)
    return tokens


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Accept": "application/json"}


def log_in(client: TestClient, name: str, password: str = PASSWORD) -> None:
    """The client's browser has a session from here on."""
    answer = client.post("/log-in", data={"name": name, "password": password})
    assert answer.status_code == 303, answer.text
