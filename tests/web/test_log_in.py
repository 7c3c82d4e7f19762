"""Log-in and what follows: sessions and their end, limits, cookies, proxies, and the time before there are users."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from starlette.testclient import TestClient

from scheduler.broker.waiting_room import WaitingRoom
from scheduler.engine import passwords
from scheduler.engine.access import Access
from scheduler.store.access_tables import AuditLine, WebSession
from scheduler.store.database import Database
from scheduler.web.limits import Limit, Limits
from scheduler.web.pages.log_in import local_path
from tests.effort import work_done
from tests.web.people import PASSWORD, TESTER, add_users, bearer, log_in
from tests.web.serving import a_client

NOBODY = {"type": "about:blank", "title": "Unauthorized", "status": 401}
ME = "/api/v1/me"


@pytest.fixture
def tokens(database: Database, cheap_passwords: None) -> dict[str, str]:
    return add_users(database)


@pytest.fixture
def client(database: Database, room: WaitingRoom, tmp_path: Path, tokens: dict[str, str]) -> Iterator[TestClient]:
    with a_client(database, room, tmp_path) as opened:
        yield opened


def audit_lines(database: Database) -> list[tuple[str, str, str]]:
    query = select(AuditLine).where(AuditLine.via != "cli").order_by(AuditLine.id)
    with database.read() as session:
        return [(line.who, line.action, line.subject) for line in session.scalars(query)]


# --- in and out -----------------------------------------------------------------------------------------------------


def test_who_logs_in_is_known_until_the_log_out(client: TestClient, database: Database) -> None:
    log_in(client, "operator")
    assert client.get(ME).json() == {"name": "operator", "role": "operator", "via": "session"}

    answer = client.post("/log-out")

    assert (answer.status_code, answer.headers["location"]) == (303, "/log-in")
    assert client.get(ME).status_code == 401
    assert audit_lines(database) == [
        ("operator", "log in", "user operator"),
        ("operator", "log out", "user operator"),
    ]


def test_a_cookie_is_worth_nothing_after_the_log_out(client: TestClient) -> None:
    log_in(client, "operator")
    cookie = client.cookies["scheduler"]
    client.post("/log-out")

    client.cookies.set("scheduler", cookie)

    assert client.get(ME).status_code == 401


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("operator", "eleven green bottles"),
        ("nobody", PASSWORD),
        ("", ""),
        ("Operator", PASSWORD),
        ("a\0b", "\0"),
    ],
)
def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(client: TestClient, name: str, password: str) -> None:
    answer = client.post("/log-in", data={"name": name, "password": password})

    assert answer.status_code == 401
    assert "Name or password are wrong." in answer.text
    assert "set-cookie" not in answer.headers


def test_a_disabled_user_is_nobody(client: TestClient, database: Database, tokens: dict[str, str]) -> None:
    log_in(client, "operator")

    Access(database).set_disabled("operator", True, TESTER)

    assert client.get(ME).status_code == 401
    assert client.get(ME, headers=bearer(tokens["operator"])).status_code == 401
    assert client.post("/log-in", data={"name": "operator", "password": PASSWORD}).status_code == 401


def test_unknown_and_known_users_take_the_same_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    costly = passwords.Cost(n=2**12, r=8, p=1)  # some 10 ms
    monkeypatch.setattr(passwords, "COST", costly)
    monkeypatch.setattr(passwords, "_NOBODYS", passwords._written(costly, bytes(16), bytes(32)))
    known = passwords.hash_password(PASSWORD)

    def took(password_hash: str | None) -> float:
        times = []
        for _ in range(5):
            with work_done() as work:
                assert not passwords.is_password("wrong", password_hash)
            times.append(work.seconds)
        return min(times)

    assert took(None) == pytest.approx(took(known), rel=0.5)


def test_a_flood_of_log_ins_waits_its_turn_and_is_told(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "PATIENCE", 0.01)
    with passwords._AT_ONCE, passwords._AT_ONCE, passwords._AT_ONCE:
        answer = client.post("/log-in", data={"name": "viewer", "password": PASSWORD})

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "Too many people log in at once; try again in a moment" in answer.text


# --- sessions -------------------------------------------------------------------------------------------------------


def test_a_log_in_takes_no_cookie_that_was_there_before(client: TestClient, database: Database) -> None:
    client.cookies.set("scheduler", "chosen-by-somebody-else")

    answer = client.post("/log-in", data={"name": "operator", "password": PASSWORD})

    assert "chosen-by-somebody-else" not in answer.headers["set-cookie"]
    assert Access(database).of_session("chosen-by-somebody-else") is None


def test_a_second_log_in_ends_the_first_session(client: TestClient, database: Database) -> None:
    log_in(client, "operator")
    first = client.cookies["scheduler"]

    log_in(client, "viewer")

    assert client.cookies["scheduler"] != first
    assert Access(database).of_session(first) is None


@pytest.mark.parametrize("column", ["seen_at", "created_at"])
@pytest.mark.parametrize("over", [False, True])
def test_a_session_ends_when_it_is_idle_and_when_it_is_old(
    client: TestClient, database: Database, column: str, over: bool
) -> None:
    log_in(client, "operator")
    longest = {"seen_at": dt.timedelta(minutes=30), "created_at": dt.timedelta(hours=12)}[column]
    then = dt.datetime.now(dt.UTC) - longest + dt.timedelta(minutes=-1 if over else 1)

    with database.write() as session:
        session.execute(update(WebSession).values({column: then}))

    assert client.get(ME).status_code == (401 if over else 200)


def test_a_session_that_is_used_does_not_grow_idle(client: TestClient, database: Database) -> None:
    log_in(client, "operator")
    then = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=20)
    with database.write() as session:
        session.execute(update(WebSession).values(seen_at=then))

    client.get(ME)

    with database.read() as session:
        assert session.scalars(select(WebSession.seen_at)).one() > then + dt.timedelta(minutes=19)


def test_no_secret_stands_in_the_database(client: TestClient, database: Database, tokens: dict[str, str]) -> None:
    log_in(client, "operator")
    cookie = client.cookies["scheduler"]

    with database.read() as session:
        stored = [session.execute(select(WebSession.token_hash)).scalar_one()]
        connection = session.connection()
        for table in ("web_user", "api_token", "audit"):
            stored += [str(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}").all()]  # noqa: S608

    for secret in (cookie, PASSWORD, *tokens.values()):
        assert [row for row in stored if secret in row] == []


# --- cookies --------------------------------------------------------------------------------------------------------


def test_a_cookie_is_for_this_host_and_no_script(client: TestClient) -> None:
    answer = client.post("/log-in", data={"name": "viewer", "password": PASSWORD})

    name, _, rest = answer.headers["set-cookie"].partition("=")
    assert name == "scheduler"
    assert rest.split("; ")[1:] == ["HttpOnly", "Max-Age=43200", "Path=/", "SameSite=lax"]


def test_over_https_a_cookie_is_never_sent_in_the_clear(
    database: Database, room: WaitingRoom, tmp_path: Path, tokens: dict[str, str]
) -> None:
    with a_client(database, room, tmp_path, base_url="https://jobs.example.org") as client:
        answer = client.post("/log-in", data={"name": "viewer", "password": PASSWORD})

    name, _, rest = answer.headers["set-cookie"].partition("=")
    assert name == "__Host-scheduler"
    assert "Secure" in rest.split("; ")
    assert "Domain" not in rest


# --- where one goes after it ----------------------------------------------------------------------------------------


def test_a_page_that_needs_a_log_in_leads_there_and_back(client: TestClient) -> None:
    answer = client.get("/tasks?state=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/log-in?next=/tasks%3Fstate%3Dfailed")

    there = client.post("/log-in", data={"name": "viewer", "password": PASSWORD, "next": "/tasks?state=failed"})

    assert there.headers["location"] == "/tasks?state=failed"


@pytest.mark.parametrize(
    "evil",
    ["//evil", "/\\evil", "https:evil", "https://evil", "\\\\evil", "evil", "", "javascript:x", "/\t/evil", "/\n/evil"],
)
def test_a_log_in_leads_to_no_other_site(client: TestClient, evil: str) -> None:
    answer = client.post("/log-in", data={"name": "viewer", "password": PASSWORD, "next": evil})

    assert answer.headers["location"] == "/"
    assert client.get("/log-in", params={"next": evil}).headers["location"] == "/"


def test_what_is_quoted_twice_stays_a_path() -> None:
    assert local_path("/%2f%2fevil") == "/%2f%2fevil"  # a path of ours, which is not there


# --- limits ---------------------------------------------------------------------------------------------------------


def test_after_twenty_tries_an_account_has_to_wait(client: TestClient) -> None:
    statuses = [client.post("/log-in", data={"name": "operator", "password": "x"}).status_code for _ in range(20)]

    answer = client.post("/log-in", data={"name": "operator", "password": PASSWORD})

    assert set(statuses) == {401}
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 300
    assert "Too many tries; wait" in answer.text


def test_an_address_that_tries_many_accounts_has_to_wait_too(client: TestClient) -> None:
    for number in range(20):
        client.post("/log-in", data={"name": f"user{number}", "password": "x"})

    assert client.post("/log-in", data={"name": "operator", "password": PASSWORD}).status_code == 429


def test_who_asks_too_often_is_told_when_to_come_again(
    database: Database, room: WaitingRoom, tmp_path: Path, tokens: dict[str, str]
) -> None:
    with a_client(database, room, tmp_path) as client:
        client.app.state.limits = Limits({"read": Limit(3, 60), "act": Limit(1, 60), "bad token": Limit(2, 60)})  # type: ignore[attr-defined]
        reads = [client.get(ME, headers=bearer(tokens["operator"])).status_code for _ in range(4)]
        cancel = "/api/v1/tasks/1/cancel"
        acts = [client.post(cancel, json={}, headers=bearer(tokens["operator"])).status_code for _ in range(2)]
        guesses = [client.get(ME, headers=bearer(f"sch_{number}")).status_code for number in range(3)]
        other = client.get(ME, headers=bearer(tokens["viewer"]))

    assert reads == [200, 200, 200, 429]
    assert acts == [404, 429]
    assert guesses == [401, 401, 429]
    assert other.status_code == 200


def test_limits_forget_what_is_long_past() -> None:
    now = [0.0]
    limits = Limits({"read": Limit(2, 10)}, clock=lambda: now[0])

    first = [limits.take("read", "jana") for _ in range(3)]
    now[0] = 10.5
    later = limits.take("read", "jana")

    assert first == [None, None, 10]
    assert later is None


# --- without users, through proxies ---------------------------------------------------------------------------------


def test_before_there_are_users_whoever_is_on_this_machine_may_do_everything(
    database: Database, room: WaitingRoom, tmp_path: Path, cheap_passwords: None
) -> None:
    with a_client(database, room, tmp_path) as client:
        assert client.get(ME).json() == {"name": "local", "role": "admin", "via": "open"}
        through_a_proxy = client.get(ME, headers={"X-Forwarded-For": "203.0.113.7"})
        add_users(database)

        after = client.get(ME)

    assert through_a_proxy.status_code == 401
    assert after.status_code == 401
    assert after.json() == {**NOBODY, "detail": "Log in, or bring a token: Authorization: Bearer sch_…"}
    assert after.headers["www-authenticate"] == "Bearer"


def test_a_public_address_is_never_open(database: Database, room: WaitingRoom, tmp_path: Path) -> None:
    with a_client(database, room, tmp_path, web_address="0.0.0.0") as client:
        assert client.get(ME).status_code == 401


def test_a_wrong_token_is_not_replaced_by_anything_else(client: TestClient) -> None:
    log_in(client, "operator")

    answers = [
        client.get(ME, headers={"Authorization": given}).status_code
        for given in ("Bearer sch_wrong", "bearer sch_", "Bearer", b"Bearer \xff", "Bearer operator")
    ]

    assert answers == [401] * 5


def test_what_a_proxy_asked_for_itself_is_none_of_ours(client: TestClient) -> None:
    log_in(client, "operator")

    answer = client.get(ME, headers={"Authorization": "Basic b3BlcmF0b3I6eA=="})

    assert answer.json()["via"] == "session"


def test_the_user_that_a_trusted_proxy_names_is_believed_and_no_one_else(
    database: Database, room: WaitingRoom, tmp_path: Path, tokens: dict[str, str]
) -> None:
    trusting = {"trusted_proxies": ("127.0.0.1",), "proxy_user_header": "X-Forwarded-User"}
    named = {"X-Forwarded-User": "operator"}
    with a_client(database, room, tmp_path, **trusting) as client:
        believed = client.get(ME, headers=named)
        unknown = client.get(ME, headers={"X-Forwarded-User": "stranger"})
    with a_client(database, room, tmp_path, **{**trusting, "trusted_proxies": ("10.0.0.0/8",)}) as client:
        from_elsewhere = client.get(ME, headers=named)
    with a_client(database, room, tmp_path) as client:
        off = client.get(ME, headers=named)

    assert believed.json() == {"name": "operator", "role": "operator", "via": "proxy"}
    assert unknown.json()["detail"] == "The proxy names a user whom nobody knows here; `scheduler user add` adds one"
    assert [unknown.status_code, from_elsewhere.status_code, off.status_code] == [401, 401, 401]


def test_the_audit_knows_the_address_that_a_trusted_proxy_saw(
    database: Database, room: WaitingRoom, tmp_path: Path, tokens: dict[str, str]
) -> None:
    seen = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7, 127.0.0.1"}
    with a_client(database, room, tmp_path, trusted_proxies=("127.0.0.1",)) as client:
        client.post("/log-in", data={"name": "viewer", "password": PASSWORD}, headers=seen)
    with a_client(database, room, tmp_path) as client:
        client.post("/log-in", data={"name": "viewer", "password": PASSWORD}, headers=seen)

    with database.read() as session:
        lines = session.scalars(select(AuditLine.address).where(AuditLine.action == "log in").order_by(AuditLine.id))
        assert lines.all() == ["203.0.113.7", "127.0.0.1"]


def test_a_name_with_a_line_break_makes_no_second_line_in_the_audit(client: TestClient, database: Database) -> None:
    client.post("/log-in", data={"name": "x\r\n2026-11-24 admin log in", "password": "x"})

    who, action, subject = audit_lines(database)[-1]
    assert (action, subject) == ("log in refused", "user x 2026-11-24 admin log in")
    assert "\n" not in who + subject
