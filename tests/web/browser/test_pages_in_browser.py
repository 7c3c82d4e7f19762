"""Schedules, tasks, the file and the audit in Chromium: each screen, each action, and what hostile texts do there."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pytest
from playwright.sync_api import Dialog, Page, expect
from sqlalchemy import select, update

from scheduler.clock import utc_now
from scheduler.engine.work.artifacts import keep_files, record
from scheduler.result_kinds import File
from scheduler.rules.askers import Asker
from scheduler.rules.states import FAILED, MISSED, QUEUED, RETRYING, RUNNING, SKIPPED, SUCCEEDED
from scheduler.settings import Settings
from scheduler.store import audit, tasks
from scheduler.store.tables import Schedule, Task
from tests.browser import OpenPage, faint_texts, overflow
from tests.builders import HOUR, MINUTE, a_revision, a_schedule, a_spec, a_task, an_attempt
from tests.web.browser.payloads import PAYLOADS, SEPARATOR
from tests.web.browser.site import Site

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
TEXT = """version: 1
timezone: Europe/Berlin
schedules:
  stock-sync: {task: count_words, args: {source: README.md, top: 5}, when: {every: 15m}}
"""
ONE_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738"
    "550000000049454e44ae426082"
)


def a_shop(site: Site) -> None:
    """A schedule that has run for an hour, and one that is paused; a revision, and the file as it is not taken."""
    spec = a_spec(
        name="stock-sync",
        every=15 * MINUTE,
        args={"source": "README.md", "top": 5},
        timezone="Europe/Berlin",
        owner="jana",
        tags=("shop",),
        about="Fetches the stock of all shops.\nSafe to run twice.",
    )
    now = utc_now()
    with site.database.write() as session:
        for text in (TEXT.replace("15m", "30m"), TEXT):
            revision = a_revision(session, text=text, book={"timezone": "Europe/Berlin"}, accepted_at=now)
        revision.changes = {
            "changed": ["stock-sync"],
            "keys": {"stock-sync": [{"key": "when", "old": "a", "new": "b"}]},
        }
        schedule = a_schedule(session, spec, revision_id=revision.id)
        held = {"by": "jana", "why": "deploy", "since": now.isoformat(), "until": None}
        a_schedule(session, a_spec(name="mail-flush", task="send_mail"), revision_id=revision.id, pause=held)
        for number in range(20):
            fired = now - (20 - number) * 15 * MINUTE
            state = (SUCCEEDED, FAILED, SKIPPED, MISSED)[max(0, number % 6 - 2)]
            ran = {"started_at": fired, "attempt": 1} if state in (SUCCEEDED, FAILED) else {}
            a_task(
                session,
                schedule=schedule,
                state=state,
                fire_time=fired,
                finished_at=fired + MINUTE,
                reason=None if state == SUCCEEDED else "late",
                result={"words": 120, "file": "README.md"} if state == SUCCEEDED else None,
                **ran,
            )
        audit.record(session, Asker("jana", "session", "10.0.0.7"), "pause", "schedule mail-flush", {"why": "deploy"})
    (site.data / "schedules.yaml").write_text(TEXT.replace("every", "evry"))


def a_task_with_everything(site: Site, state: str, **fields: Any) -> int:
    """A task with attempts, a log, an error, arguments and progress."""
    now = utc_now()
    with site.database.write() as session:
        plain: dict[str, Any] = {
            "state": state,
            "fire_time": now - MINUTE,
            "created_at": now - 2 * MINUTE,
            "queued_at": now - MINUTE,
            "started_at": now - MINUTE,
            "args": {"source": "README.md", "api_token": "abcdef-secret"},
            "reason": "ValueError: no such shop",
            "progress": {"done": 3, "total": 10, "message": "shop 3", "at": now.isoformat()},
        }
        task = a_task(session, **{**plain, **fields})
        first = 2 if state == RUNNING else 1
        for number in range(first, 4):
            an_attempt(
                session,
                task,
                number=number,
                outcome="failed",
                error_type="ValueError",
                error_message="no such shop",
                traceback="Traceback (most recent call last):\n  …\nValueError: no such shop",
            )
        for number in range(1, 4):
            tasks.write_log(session, task.id, number, [f"06:30:0{line} INFO  shop {line}" for line in range(9)])
        return task.id


def pictures(site: Site) -> int:
    """A task that left a picture and a table."""
    (site.data / "a.png").write_bytes(ONE_PIXEL)
    (site.data / "a.csv").write_text("a,b\n")
    with site.database.write() as session:
        task_id = a_task(session, state=SUCCEEDED, result_kind="file", result={"files": []}).id
        files = [File(site.data / "a.png"), File(site.data / "a.csv")]
        record(session, task_id, 1, keep_files(files, Settings(data=site.data), task_id, 1))
        return task_id


def newest(site: Site) -> Task:
    with site.database.read() as session:
        return session.scalars(select(Task).order_by(Task.id.desc()).limit(1)).one()


# --- each screen ----------------------------------------------------------------------------------------------------


def test_every_screen_is_readable_and_fits_in_light_dark_and_on_a_phone(site: Site, page: OpenPage) -> None:
    a_shop(site)
    failed = a_task_with_everything(site, FAILED, attempt=3)
    paths = [
        "/schedules",
        "/schedules/stock-sync?at=2026-11-24",
        "/schedules/mail-flush",
        "/tasks",
        f"/tasks/{failed}",
        f"/tasks/{pictures(site)}",
        "/run",
        "/run/stock-sync",
        "/schedules/stock-sync/pause",
        "/schedules/stock-sync/backfill",
        "/pause",
        "/file",
        "/audit",
    ]

    for scheme in SCHEMES:
        for width in (1280, 360):
            opened = page(width=width, height=800, scheme=scheme)
            for path in paths if width == 360 or scheme == "dark" else paths[:1]:
                opened.goto(site.url + path)
                assert overflow(opened) == 0, (path, width)
                assert faint_texts(opened) == [], (path, scheme)


def test_the_search_finds_while_one_types(site: Site, page: OpenPage) -> None:
    a_shop(site)
    opened = page()
    opened.goto(f"{site.url}/schedules")

    opened.keyboard.press("/")
    opened.keyboard.type("send")

    expect(opened.locator("#found .counted")).to_have_text("1 schedule found")
    expect(opened.locator("#found tbody tr")).to_have_count(1)
    expect(opened).to_have_url(re.compile(r"/schedules\?q=send$"))
    opened.keyboard.press("Control+a")
    opened.keyboard.press("Delete")
    expect(opened.locator("#found tbody tr")).to_have_count(2)
    opened.locator("select[name=state]").select_option("paused")
    expect(opened.locator("#found tbody tr")).to_have_count(1)


def test_tasks_are_narrowed_by_choosing(site: Site, page: OpenPage) -> None:
    a_shop(site)
    opened = page()
    opened.goto(f"{site.url}/tasks")

    opened.locator("select[name=state]").select_option("missed")

    expect(opened).to_have_url(re.compile("state=missed"))
    expect(opened.locator("tbody .state-missed")).to_have_count(3)
    expect(opened.locator("tbody tr")).to_have_count(3)


def test_a_click_in_the_ledger_tells_why(site: Site, page: OpenPage) -> None:
    a_shop(site)
    opened = page()
    opened.goto(f"{site.url}/schedules/stock-sync")

    opened.locator("table .state-missed").first.locator("xpath=ancestor::tr").get_by_text("why").click()

    expect(opened.locator(".answer")).to_contain_text("it did not run, it was missed: late")


def test_the_file_tells_its_faults_and_compares_revisions(site: Site, page: OpenPage) -> None:
    a_shop(site)
    opened = page()
    opened.goto(f"{site.url}/file")

    expect(opened.locator(".fault-block .error")).to_contain_text('did you mean "every" by "evry"?')
    expect(opened.locator("pre.diff .added")).to_have_count(1)
    opened.get_by_text("Its text").click()
    expect(opened.locator("details pre")).to_contain_text("timezone: Europe/Berlin")


def test_pictures_of_a_task_are_seen(site: Site, page: OpenPage) -> None:
    task_id = pictures(site)
    opened = page()

    opened.goto(f"{site.url}/tasks/{task_id}")

    expect(opened.locator(".pictures img")).to_have_count(1)
    assert opened.locator(".pictures img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 1


# --- each action ----------------------------------------------------------------------------------------------------


def test_a_schedule_is_run_with_changed_arguments(site: Site, page: OpenPage) -> None:
    a_shop(site)
    opened = page(forgive=("422",))
    opened.goto(f"{site.url}/schedules/stock-sync")
    opened.get_by_role("link", name="Run now").click()

    opened.get_by_label("top").fill("many")
    opened.get_by_label("source").fill("docs/tasks.md")
    opened.get_by_role("button", name="Run now").click()

    expect(opened.locator(".fault")).to_have_text('"top": expected a whole number, got "many"')
    expect(opened.get_by_label("source")).to_have_value("docs/tasks.md")
    opened.get_by_label("top").fill("7")
    opened.get_by_role("button", name="Run now").click()
    expect(opened.locator(".notice")).to_contain_text("stock-sync was asked for: this is its task")
    assert newest(site).args == {"source": "docs/tasks.md", "top": 7}


def test_a_double_click_asks_for_one_run(site: Site, page: OpenPage) -> None:
    a_shop(site)
    opened = page()
    opened.goto(f"{site.url}/run/stock-sync")
    sent: list[str] = []
    opened.on("request", lambda request: sent.append(request.method) if request.method == "POST" else None)

    opened.locator("main form").evaluate("form => { form.requestSubmit(); setTimeout(() => form.requestSubmit(), 5); }")

    expect(opened.locator(".notice")).to_contain_text("stock-sync was asked for")
    assert sent == ["POST"]
    with site.database.read() as session:
        assert session.query(Task).filter(Task.origin == "manual").count() == 1


def test_a_task_is_cancelled_after_it_was_asked_and_run_again(site: Site, page: OpenPage) -> None:
    with site.database.write() as session:
        task_id = a_task(session, state=QUEUED).id
    opened = page()
    opened.goto(f"{site.url}/tasks/{task_id}")
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        (dialog.accept if len(asked) > 1 else dialog.dismiss)()

    opened.on("dialog", answer)
    opened.get_by_role("button", name="Cancel").click()
    expect(opened.locator("#head .state-queued")).to_have_count(1)
    opened.get_by_role("button", name="Cancel").click()

    expect(opened.locator(".notice")).to_have_text(f"Task {task_id} is cancelled.")
    expect(opened.locator("#head .state-cancelled")).to_have_count(1)
    assert asked == [f"Cancel task {task_id}?"] * 2
    opened.get_by_role("button", name="Run again").click()
    expect(opened.locator(".notice")).to_contain_text(f"which repeats task {task_id}.")
    assert newest(site).retry_of == task_id


def test_all_that_a_list_shows_is_run_again(site: Site, page: OpenPage) -> None:
    a_shop(site)
    opened = page()
    opened.goto(f"{site.url}/tasks?state=missed")

    opened.get_by_label("Choose all").check()
    opened.get_by_role("button", name="Run again").click()

    expect(opened.locator(".notice")).to_contain_text("3 of 3 tasks were asked for again.")
    expect(opened).to_have_url(re.compile(r"/tasks\?state=missed$"))
    assert newest(site).origin == "retry"


def test_a_schedule_is_paused_and_resumed(site: Site, page: OpenPage) -> None:
    a_shop(site)
    opened = page()
    opened.goto(f"{site.url}/schedules/stock-sync")

    opened.get_by_role("link", name="Pause").click()
    opened.get_by_label("Why").fill("deploy of the shop")
    opened.get_by_label("Until").fill("in 2h")
    opened.get_by_role("button", name="Pause").click()

    expect(opened.locator(".notice")).to_contain_text(": deploy of the shop")
    expect(opened.locator(".page-head .state-paused")).to_have_count(1)
    opened.get_by_role("button", name="Resume").click()
    expect(opened.locator(".notice")).to_have_text("stock-sync goes on. What passed meanwhile stays skipped.")
    expect(opened.locator(".page-head .state-active")).to_have_count(1)


def test_a_backfill_is_counted_and_then_run(site: Site, page: OpenPage) -> None:
    a_shop(site)
    opened = page()
    opened.goto(f"{site.url}/schedules/stock-sync")

    opened.get_by_role("link", name="Backfill").click()
    opened.get_by_label("From").fill("2026-11-20 10:00")
    opened.get_by_label("Up to").fill("2026-11-20 11:00")
    opened.get_by_role("button", name="Count").click()
    expect(opened.locator("#count")).to_have_text("5 fire times to make good")
    opened.get_by_role("button", name="Run 5 tasks").click()

    expect(opened.locator(".notice")).to_contain_text("5 tasks were asked for; the oldest is due first.")
    expect(opened.locator("tbody .state-planned")).to_have_count(0)
    assert newest(site).origin == "backfill"


def test_all_of_it_works_without_scripts(site: Site, page: OpenPage) -> None:
    a_shop(site)
    opened = page(java_script_enabled=False)
    opened.goto(f"{site.url}/schedules")

    opened.locator("main input[name=q]").fill("stock")
    opened.locator("main").get_by_role("button", name="Search").click()
    expect(opened.locator("#found tbody tr")).to_have_count(1)
    opened.locator("#found").get_by_role("link", name="stock-sync").click()
    opened.get_by_role("link", name="Run now").click()
    opened.get_by_role("button", name="Run now").click()

    expect(opened.locator(".notice")).to_contain_text("stock-sync was asked for")
    opened.get_by_role("button", name="Cancel").click()
    expect(opened.locator(".notice")).to_contain_text("is cancelled")


# --- a task that runs -----------------------------------------------------------------------------------------------


def test_a_running_task_is_followed_to_its_end_without_a_reload(site: Site, page: OpenPage) -> None:
    task_id = a_task_with_everything(site, RUNNING, reason=None)
    opened = page()
    opened.goto(f"{site.url}/tasks/{task_id}")
    opened.evaluate("window.isTheSame = true")
    expect(opened.locator("#head progress")).to_have_attribute("value", "30.0")

    with site.database.write() as session:
        tasks.write_log(session, task_id, 3, [f"06:31:{line:02} INFO  and on <b>{line}</b>" for line in range(60)])
        session.execute(update(Task).where(Task.id == task_id).values(progress={"done": 9, "total": 10}))
    expect(opened.locator("#log pre")).to_contain_text("and on <b>59</b>")
    expect(opened.locator("#head progress")).to_have_attribute("value", "90.0")
    assert opened.locator("#log pre").evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight") < 30

    with site.database.write() as session:
        ended = {"state": SUCCEEDED, "finished_at": utc_now(), "result": {"words": 120}, "result_kind": "json"}
        session.execute(update(Task).where(Task.id == task_id).values(**ended))
    expect(opened.locator("#head .state-succeeded")).to_have_count(1)
    expect(opened.locator("#outcome pre")).to_have_text('{"words": 120}')
    expect(opened.get_by_role("button", name="Run again")).to_have_count(1)
    assert opened.title().startswith("✓ ")
    assert opened.evaluate("window.isTheSame") is True


# --- hostile texts --------------------------------------------------------------------------------------------------


def watched(page: OpenPage) -> tuple[Page, list[str]]:
    """A page, and what it was made to do: dialogs, and scripts that a text brought."""
    done: list[str] = []
    opened = page(forgive=("404",))
    opened.on("dialog", lambda dialog: (done.append(dialog.message), dialog.dismiss()))  # type: ignore[func-returns-value]
    return opened, done


def seen(opened: Page) -> str:
    return " ".join(opened.locator("main").inner_text().split())


@pytest.mark.parametrize("part", [0, 1, 2])
def test_hostile_texts_are_texts_wherever_they_stand(site: Site, page: OpenPage, part: int) -> None:
    some = PAYLOADS[part::3]
    text = SEPARATOR.join(some)
    task_id, schedule = _everywhere(site, text, site.data)
    opened, done = watched(page)

    shown = {}
    for path in (
        f"/tasks/{task_id}",
        f"/schedules/{schedule}",
        "/schedules",
        "/tasks?state=retrying",
        "/audit",
        "/file",
    ):
        opened.goto(site.url + path)
        shown[path] = seen(opened)
        assert opened.evaluate("typeof window.pwned") == "undefined", path
        assert opened.locator("main script, main iframe, main object, main embed, main base, main meta").count() == 0
    for payload in some:
        opened.goto(f"{site.url}/schedules/{schedule}?at={quote(payload[:40])}")
        assert opened.evaluate("typeof window.pwned") == "undefined", payload

    assert done == []
    for payload in some:
        told = " ".join(payload.split())
        assert shown[f"/tasks/{task_id}"].count(told) >= 8, payload  # reason, error, cause, traceback, log, result …
        assert told in shown[f"/schedules/{schedule}"], payload
        assert told in shown["/file"], payload


def test_a_page_that_a_task_made_can_do_nothing(site: Site, page: OpenPage) -> None:
    more = (
        "<script>parent.document.title = top.pwned = 1</script><a id=out href=https://evil.example/ target=_top>x</a>"
    )
    made = f"<h1>Stock</h1>{''.join(f'<div>{one}</div>' for one in PAYLOADS)}{more}"
    with site.database.write() as session:
        task_id = a_task(session, state=SUCCEEDED, result={"value": made}, result_kind="html").id
    done: list[str] = []
    # What the policy blocks is told as asked for, and as failed.
    opened = page(forgive=("sandbox", "Content Security Policy", "asks https://evil.example/x.css"))
    blocked: list[str | None] = []
    opened.context.on("requestfailed", lambda request: blocked.append(request.failure))
    opened.context.on("dialog", lambda dialog: (done.append(dialog.message), dialog.dismiss()))  # type: ignore[func-returns-value]

    opened.goto(f"{site.url}/tasks/{task_id}")
    framed = opened.frame_locator("iframe.own-page")
    expect(framed.locator("h1")).to_have_text("Stock")
    framed.locator("#out").dispatch_event("click")
    within = next(frame for frame in opened.frames if frame.url.endswith("/page"))
    expect(opened).to_have_title(re.compile(f"#{task_id}"))

    assert within.evaluate("self.origin") == "null"
    assert within.evaluate("try { document.cookie } catch (error) { error.name }") == "SecurityError"
    assert opened.evaluate("typeof window.pwned") == "undefined"
    assert opened.url == f"{site.url}/tasks/{task_id}"

    opened.goto(f"{site.url}/tasks/{task_id}/page")
    expect(opened.locator("h1")).to_have_text("Stock")
    assert opened.evaluate("self.origin") == "null"
    assert opened.evaluate("typeof window.pwned") == "undefined"
    assert done == []
    assert set(blocked) == {"csp"}


def _everywhere(site: Site, text: str, data: Path) -> tuple[int, str]:
    """The text in every field that people, the file, and task functions can fill; a task's id and a schedule's name."""
    now = utc_now()
    with site.database.write() as session:
        changes = {"changed": ["nightly"], "keys": {"nightly": [{"key": text, "old": text, "new": text}]}}
        revision = a_revision(session, author=text, host=text, file=text, text=text, changes=changes)
        spec = a_spec(owner=text, about=text, tags=(text, "x"), args={"source": text, text: text})
        held = {"by": text, "why": text, "since": now.isoformat(), "until": None}
        schedule = a_schedule(session, spec, revision_id=revision.id, pause=held)
        a_schedule(session, a_spec(name="parked"), revision_id=revision.id, parked=text)
        task = a_task(
            session,
            schedule=schedule,
            state=RETRYING,
            args={"source": text, text: text},
            fire_time=now - HOUR,
            reason=text,
            worker=text,
            requested_by=text,
            idempotency_key=text,
            result={text: text},
            result_kind="json",
            error={"type": text, "message": text, "traceback": text},
            progress={"done": 1, "total": 2, "message": text, "at": now.isoformat()},
            started_at=now - HOUR,
        )
        an_attempt(
            session,
            task,
            outcome="failed",
            worker=text,
            host=text,
            error_type=text,
            error_message=text,
            traceback=text,
            causes=[{"type": text, "message": text}],
        )
        tasks.write_log(session, task.id, 1, [text, f"event: boom\ndata: {text}"])
        for kind in ("text", "html", "link"):
            result = {"value": text, "title": text}
            a_task(session, schedule=schedule, state=SUCCEEDED, result=result, result_kind=kind, fire_time=_other(task))
        source = data / "x.txt"
        source.write_text("x")
        settings = Settings(data=data)
        record(session, task.id, 1, keep_files([File(source, name=text[:180])], settings, task.id, 1))
        audit.record(session, Asker(text, "proxy", text), "pause", f"schedule {text}", {"why": text, text: text})
        name = session.get_one(Schedule, schedule.id).name
    (data / "schedules.yaml").write_text(f"version: 1\ntimezone: UTC\nschedules: {{}}\nodd: {text!r}\n")
    return task.id, name


def _other(task: Task) -> dt.datetime:
    """A fire time that no other task of the schedule has."""
    assert task.fire_time is not None
    _other.count = getattr(_other, "count", 0) + 1  # type: ignore[attr-defined]
    return task.fire_time - _other.count * MINUTE  # type: ignore[attr-defined, no-any-return]
