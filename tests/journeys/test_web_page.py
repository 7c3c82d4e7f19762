"""The web part under `up`: it answers, survives a taken port and its own death, and what it is asked for is run."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from sqlalchemy import select

from scheduler.store.tables import Part
from tests.journeys.service import Service
from tests.servers import free_port
from tests.waiting import wait_for


def ask(url: str, body: dict[str, Any] | None = None) -> tuple[int, Any] | None:
    """Status and answer, which is JSON or text; None when nobody answers."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text, status = answer.read().decode(), answer.status
    except HTTPError as error:
        text, status = error.read().decode(), error.code
    except (URLError, OSError):
        return None
    return status, json.loads(text) if text.startswith("{") else text


def web_processes(service: Service) -> set[int]:
    with service.database.read() as session:
        return set(session.scalars(select(Part.pid).where(Part.part == "web")))


def test_the_page_comes_with_everything_else_as_soon_as_its_port_is_free(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    service = Service(tmp_path)
    service.environment["SCHEDULER_WEB_PORT"] = str(port)
    service.write("quick: {task: quick, args: {diary: DIARY}, when: {every: 1h}}")
    with service, socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        service.start()
        wait_for(lambda: "Set SCHEDULER_WEB_PORT to a free port" in service.log.read_text(), what="a warning")
        other.close()

        wait_for(lambda: ask(f"{url}/healthz"), seconds=40, what="an answer")
        first = wait_for(lambda: web_processes(service), what="the web part to tick")
        os.kill(min(first), signal.SIGKILL)
        wait_for(lambda: web_processes(service) - first, seconds=40, what="another web part")
        wait_for(lambda: ask(f"{url}/healthz"), seconds=40, what="an answer again")
        page = ask(f"{url}/")
        asked = ask(f"{url}/api/v1/schedules/quick/run", {})
        assert asked is not None
        assert asked[0] == 201
        task = service.wait_for_state(asked[1]["id"], "succeeded")
        status = service.stop()

    assert f"web         {url}\n" in service.log.read_text()
    assert page is not None
    assert (page[0], page[1][:15]) == (200, "<!DOCTYPE html>")
    assert (task.origin, task.requested_by) == ("api", "local")
    assert status == 0
