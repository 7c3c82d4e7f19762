"""A job can be nothing but an attempt at a task."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from scheduler.broker import job as job_module
from scheduler.broker import keys
from scheduler.broker.job import FOREIGN_FIELDS, FUNCTION, TaskJob, check_data, job_data, run_task, run_tasks_with
from scheduler.broker.keys import job_id, parse_job_id
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.errors import Refused
from scheduler.rules.task.jobs import WaitingJob
from tests.builders import at

OURS = job_data(17, 2)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        pytest.param("task-17-2", (17, 2), id="ours"),
        pytest.param(b"task-17-2", (17, 2), id="ours, as bytes"),
        pytest.param(f"task-{2**63 - 1}-1", (2**63 - 1, 1), id="the largest id of SQL"),
        pytest.param(f"task-{2**63}-1", None, id="an id that SQL cannot hold"),
        pytest.param("task-17-999999", (17, 999_999), id="very many attempts"),
        pytest.param("task-17-1000000", None, id="too many attempts"),
        pytest.param("task-0-1", None, id="no task 0"),
        pytest.param("task-17-0", None, id="no attempt 0"),
        pytest.param("task-017-1", None, id="a second spelling"),
        pytest.param("task-17-2\n", None, id="a line end"),
        pytest.param("task-17-2 ", None, id="a space"),
        pytest.param(" task-17-2", None, id="a space before"),
        pytest.param("task-١٧-2", None, id="digits of another script"),
        pytest.param(b"task-17-2\xff", None, id="no UTF-8"),
        pytest.param("task--17-2", None, id="less than nothing"),
        pytest.param("xtask-17-2", None, id="more before"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_an_id_is_ours_in_one_spelling_only(text: str | bytes, parsed: tuple[int, int] | None) -> None:
    assert parse_job_id(text) == parsed


def test_an_id_is_read_as_it_was_written() -> None:
    assert parse_job_id(job_id(17, 2)) == (17, 2)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(OURS, id="as we write it"),
        pytest.param(OURS.encode(), id="as bytes"),
        pytest.param(OURS.replace(" ", ""), id="without spaces"),
    ],
)
def test_what_we_write_is_taken(data: str | bytes) -> None:
    assert check_data("task-17-2", data) == (17, 2)


def asking_for(function: Any, args: Any = (17, 2), kwargs: Any = None) -> bytes:
    return json.dumps([function, None, list(args), kwargs or {}]).encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(asking_for("os.system", ["true"]), id="another function"),
        pytest.param(asking_for(FUNCTION, (18, 2)), id="another task"),
        pytest.param(asking_for(FUNCTION, (17, 3)), id="another attempt"),
        pytest.param(asking_for(FUNCTION, (17, 2), {"x": 1}), id="an argument more"),
        pytest.param(asking_for(FUNCTION, ("17", 2)), id="a text for a number"),
        pytest.param(zlib.compress(OURS.encode()), id="compressed"),
        pytest.param(b"\x80\x04K\x01.", id="a pickle"),
        pytest.param(b"", id="nothing"),
        pytest.param(OURS.encode() + b"x", id="something more"),
        pytest.param(b" " * 300 + OURS.encode(), id="long"),
        pytest.param(b"\xff\xfe", id="no text"),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        check_data("task-17-2", data)

    assert str(refused.value) == (
        "job task-17-2 asks for something else than its task; it was not written by this service"
    )


def test_a_job_that_is_not_ours_is_refused() -> None:
    with pytest.raises(Refused, match=r"^job 'mail-1' is not ours$"):
        check_data("mail-1", OURS)


def put(room: WaitingRoom, **fields: str | bytes) -> str:
    """A job of ours in Redis, with these fields of its hash changed; its id."""
    room.register([WaitingJob(17, 2, "scheduled", at("02:00"))])
    for field, value in fields.items():
        room.redis.hset(f"{keys.JOB_PREFIX}task-17-2", field, value)
    return "task-17-2"


def test_a_job_of_ours_is_read_from_redis(room: WaitingRoom) -> None:
    job = TaskJob.fetch(put(room), connection=room.redis)

    assert (job.func_name, job.args, job.kwargs, job.origin) == (FUNCTION, (17, 2), {}, "scheduled")
    assert job.func is run_task
    assert job.get_status().value == "scheduled"


@pytest.mark.parametrize("field", sorted(FOREIGN_FIELDS))
def test_a_job_that_asks_for_more_is_refused(room: WaitingRoom, field: str) -> None:
    name = put(room, **{field: '["os.system"]'})

    with pytest.raises(Refused) as refused:
        TaskJob.fetch(name, connection=room.redis)

    assert str(refused.value) == f"job task-17-2 carries {field}, which no job of ours has"


@pytest.mark.parametrize(
    "fields",
    [{"success_callback_name": ""}, {"meta": "{}"}, {"dependency_ids": "[]"}, {"webhooks": "null"}],
    ids=lambda fields: next(iter(fields)),
)
def test_a_field_that_asks_for_nothing_is_let_pass(room: WaitingRoom, fields: dict[str, str]) -> None:
    job = TaskJob.fetch(put(room, **fields), connection=room.redis)

    assert job.id == "task-17-2"


def test_a_job_whose_data_was_changed_is_refused(room: WaitingRoom) -> None:
    name = put(room, data=asking_for("os.system", ["true"]))

    with pytest.raises(Refused, match="asks for something else than its task"):
        TaskJob.fetch(name, connection=room.redis)


def test_a_job_never_unpickles(room: WaitingRoom) -> None:
    job = TaskJob.fetch(put(room), connection=room.redis)

    assert job.serializer is JSONSerializer
    assert TaskJob("task-17-2", connection=room.redis, serializer="pickle").serializer is JSONSerializer


def test_tools_of_rq_can_read_a_job_of_ours(room: WaitingRoom) -> None:
    job = Job.fetch(put(room), connection=room.redis, serializer=JSONSerializer)

    assert (job.func_name, list(job.args), job.description, job.timeout) == (FUNCTION, [17, 2], "task-17-2", 604_800)


def test_a_process_that_is_no_worker_runs_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "_runner", None)

    with pytest.raises(Refused) as refused:
        run_task(17, 2)

    assert str(refused.value) == "this process is no worker of the service: start one with `scheduler start worker`"


def test_a_worker_runs_tasks_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "_runner", None)
    ran: list[tuple[int, int]] = []

    run_tasks_with(lambda task_id, attempt: ran.append((task_id, attempt)))
    run_task(17, 2)

    assert ran == [(17, 2)]
