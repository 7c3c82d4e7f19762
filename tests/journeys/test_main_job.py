"""A file in, tasks run, every occurrence in the Task table; through crashes of what runs it."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from sqlalchemy import select

from scheduler.broker.private_server import private_url
from scheduler.clock import utc_now
from scheduler.rules.states import CANCELLED, FAILED, FINAL, LOST, PLANNED, QUEUED, RETRYING, RUNNING, SUCCEEDED
from scheduler.store.tables import Part
from tests.journeys.history import unended
from tests.journeys.service import Service, is_alive
from tests.waiting import wait_for


def test_a_schedule_fires_and_its_result_is_stored(service: Service) -> None:
    service.write("""
        ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}}
    """)

    service.start()
    done = service.wait_for_task(lambda task: task.state == SUCCEEDED)

    assert done.fire_time is not None
    assert done.started_at is not None
    assert done.started_at >= done.fire_time
    assert done.result == {"attempt": 1, "key": done.idempotency_key}
    assert done.kind == "scheduled"
    assert [attempt.outcome for attempt in service.attempts(done.id)] == [SUCCEEDED]
    assert service.wait_for_entry("end", done.id).attempt == 1


def test_a_task_whose_process_is_killed_runs_again(service: Service) -> None:
    service.write("""
        slow:
          task: wait_for_file
          args: {diary: DIARY, file: FOLDER/never, first_attempts: 1}
          when: {every: 2s}
          overlap: skip
    """)
    service.start()
    started = service.wait_for_entry("start")

    os.kill(started.pid, signal.SIGKILL)

    task = service.wait_for_state(started.task_id, SUCCEEDED)
    first, second = service.attempts(task.id)
    assert (first.outcome, first.error_type) == (LOST, "ProcessKilled")
    assert first.error_message == "its process was killed by SIGKILL"
    assert second.outcome == SUCCEEDED
    assert task.result == {"attempt": 2}


def test_a_worker_killed_with_its_child_is_noticed_by_its_lease(private_service: Service) -> None:
    service = private_service
    service.write("""
        slow:
          task: wait_for_file
          args: {diary: DIARY, file: FOLDER/never, first_attempts: 1}
          when: {every: 2s}
    """)
    service.start()
    started = service.wait_for_entry("start")

    os.kill(service.parts()["worker-scheduled"].pid, signal.SIGKILL)

    wait_for(lambda: not is_alive(started.pid), seconds=5, what="the child to die with its parent")
    task = service.wait_for_state(started.task_id, SUCCEEDED, seconds=40)
    first, second = service.attempts(task.id)
    assert (first.outcome, first.error_type) == (LOST, "WorkerLost")
    assert first.ended_at is not None
    assert second.started_at >= first.ended_at
    assert task.attempt == 2


def test_a_worker_that_was_frozen_stops_on_waking_and_nothing_it_says_counts(private_service: Service) -> None:
    service = private_service
    service.write("""
        slow: {task: wait_for_file, args: {diary: DIARY, file: FOLDER/go, first_attempts: 1}, when: {every: 1h}}
    """)
    service.environment["SCHEDULER_WORKERS_SCHEDULED"] = "2"
    service.start()
    task_id = service.ask("slow")
    started = service.wait_for_entry("start", task_id)
    frozen = [started.pid, parent_of(started.pid)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)

    task = service.wait_for_state(task_id, SUCCEEDED, seconds=40)
    (service.folder / "go").touch()  # the first attempt is through as soon as it wakes
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not is_alive(started.pid), seconds=10, what="the frozen process to end")

    assert [(one.outcome, one.error_type) for one in service.attempts(task_id)] == [
        (LOST, "WorkerLost"),
        (SUCCEEDED, None),
    ]
    assert task.result == service.task(task_id).result == {"attempt": 2}
    service.wait_for_state(service.ask("quick", diary=str(service.diary)), SUCCEEDED)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_an_emptied_redis_loses_and_doubles_nothing(private_service: Service) -> None:
    service = private_service
    service.write("""
        ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}}
        tocks: {task: quick, args: {diary: DIARY}, when: {every: 1s}}
    """)
    service.start()
    service.wait_for_task(lambda task: task.state == SUCCEEDED)
    url = private_url(service.folder / "var")
    emptied_at = len(service.diary_entries())

    for _ in range(3):
        with redis.Redis.from_url(url) as client:
            client.flushall()
        emptied_at = len(service.diary_entries())
        wait_for(lambda: len(service.diary_entries()) > emptied_at + 8, seconds=30, what="tasks to go on")  # noqa: B023

    assert service.stop() == 0
    starts = Counter((one.task_id, one.attempt) for one in service.diary_entries() if one.word == "start")
    assert set(starts.values()) == {1}
    past = [task for task in service.tasks() if task.state != PLANNED]
    assert {task.state for task in past} <= {SUCCEEDED, QUEUED}  # queued: due in the very moment of the stop
    moments = sorted(task.fire_time for task in past if task.schedule == "ticks" and task.fire_time is not None)
    assert all((later - earlier).total_seconds() == 1 for earlier, later in itertools.pairwise(moments))


def test_sigterm_in_the_middle_ends_cleanly_and_the_task_runs_again(service: Service) -> None:
    service.write("""
        slow:
          task: wait_for_file
          args: {diary: DIARY, file: FOLDER/never, first_attempts: 1}
          when: {every: 1s}
    """)
    service.start()
    started = service.wait_for_entry("start")
    family = service.processes()

    status = service.stop(signal.SIGTERM, seconds=25)  # six for the task; the rest is for a busy machine

    assert status == 0
    wait_for(lambda: not any(map(is_alive, family)), seconds=2, what="all children to be gone")
    task = service.task(started.task_id)
    assert task.state in (RETRYING, QUEUED)  # the dispatcher may have moved it before it stopped too
    (first,) = service.attempts(task.id)
    assert (first.outcome, first.error_type) == (LOST, "WorkerStopped")
    assert first.error_message == "the worker was stopped while it ran"
    service.start()
    assert service.wait_for_state(started.task_id, SUCCEEDED).attempt == 2


def test_ctrl_c_ends_cleanly_with_a_summary(private_service: Service) -> None:
    private_service.write("""
        ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}}
    """)
    private_service.start()
    private_service.wait_for_task(lambda task: task.state == SUCCEEDED)

    status = private_service.stop(signal.SIGINT, seconds=10)

    assert status == 0
    assert "summary" in private_service.log.read_text()
    assert not any(task.state in (RUNNING, FAILED) for task in private_service.tasks())


def test_a_killed_supervisor_leaves_no_process_behind(private_service: Service) -> None:
    private_service.write("""
        ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}}
    """)
    private_service.start()
    # Redis, dispatcher, keeper, three workers with a child each.
    family = wait_for(
        lambda: (found := private_service.processes()) and len(found) >= 9 and found, what="all processes"
    )
    assert private_service.up is not None
    private_service.up.kill()

    wait_for(lambda: not any(map(is_alive, family)), seconds=15, what="all processes to be gone")
    private_service.start()  # the folder's lock is free again
    private_service.wait_for_task(lambda task: task.state == SUCCEEDED)


def test_after_an_outage_each_fire_time_has_its_row_though_the_file_was_spoilt_meanwhile(
    private_service: Service,
) -> None:
    service = private_service
    service.write("ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}, overlap: allow}")
    service.environment["SCHEDULER_HORIZON_SECONDS"] = "2"  # so that nobody has planned the time of the outage
    service.start()
    service.wait_for_task(lambda task: task.state == SUCCEEDED)
    assert service.up is not None
    service.up.kill()
    service.up.wait()
    killed_at = utc_now()
    service.write("ticks: {task: quick, args: {diary: DIARY}, when: {evry: 1s}}")
    wait_for(lambda: utc_now() > killed_at + dt.timedelta(seconds=4), what="an outage longer than the horizon")

    service.start()
    back_at = utc_now()
    service.wait_for_task(
        lambda task: task.fire_time is not None and task.fire_time > back_at and task.state == SUCCEEDED
    )

    moments = sorted(task.fire_time for task in service.tasks() if task.fire_time is not None)
    assert {later - earlier for earlier, later in itertools.pairwise(moments)} == {dt.timedelta(seconds=1)}
    wait_for(lambda: not unended(service, back_at), what="the end of all that was due")
    assert {task.state for task in service.tasks() if task.fire_time and task.fire_time <= back_at} == {SUCCEEDED}
    assert "schedules   the last good version stays in force" in service.log.read_text()


def test_the_private_redis_is_started_again_when_it_dies(private_service: Service) -> None:
    private_service.write("""
        ticks: {task: quick, args: {diary: DIARY}, when: {every: 1s}}
    """)
    private_service.start()
    private_service.wait_for_entry("end")
    with redis.Redis.from_url(private_url(private_service.folder / "var")) as client:
        server = int(client.info("server")["process_id"])

    os.kill(server, signal.SIGKILL)

    before = len(private_service.diary_entries())
    wait_for(lambda: len(private_service.diary_entries()) > before + 6, seconds=40, what="tasks to go on")


def test_a_running_task_that_is_cancelled_cleans_up_and_ends(private_service: Service) -> None:
    service = private_service
    service.write("{}", head="version: 1\ntimezone: Etc/UTC\nschedules:\n")
    service.start()
    task_id = service.run("long_steps", f"diary={service.diary}", f"file={service.folder / 'never'}")
    wait_for(lambda: (service.task(task_id).progress or {}).get("done", 0) > 1, seconds=30, what="progress")

    service.command("cancel", str(task_id))

    task = service.wait_for_state(task_id, CANCELLED)
    assert service.wait_for_entry("cleaned", task_id)
    assert task.reason_code == "stopped"
    assert task.result is None


def test_a_failing_task_is_tried_again_until_it_succeeds(private_service: Service) -> None:
    service = private_service
    service.write("""
        flaky: {task: fail_first, args: {diary: DIARY, times: 2}, when: {every: 1h}}
    """)
    service.start()

    task_id = service.run("flaky")

    task = service.wait_for_state(task_id, SUCCEEDED, FAILED)
    assert task.state == SUCCEEDED
    assert [attempt.outcome for attempt in service.attempts(task_id)] == [FAILED, FAILED, SUCCEEDED]
    assert service.attempts(task_id)[0].error_message == "attempt 1 fails on purpose"


def test_tasks_that_misbehave_get_one_end_each_and_harm_no_other(private_service: Service) -> None:
    service = private_service
    service.write("{}", head="version: 1\ntimezone: Etc/UTC\nschedules:\n")
    service.start()
    expected = {
        "os._exit": (FAILED, "ProcessExited"),
        "sys.exit": (FAILED, "SystemExit"),
        "KeyboardInterrupt": (FAILED, "KeyboardInterrupt"),
        "SIGKILL": (FAILED, "ProcessKilled"),
        "leave child": (FAILED, "ProcessKilled"),
        "leave child and return": (SUCCEEDED, None),
        "fork": (SUCCEEDED, None),  # and return twice
        "close files": (FAILED, "ProcessExited"),
        "nan": (FAILED, "ResultRefused"),
    }

    # The first in a child that stays warm from task to task, the second in one that is forked for it.
    asked = {
        (name, how): service.ask(name, diary=str(service.diary), how=how)
        for how in expected
        for name in ("misbehave", "misbehave_long")
    }
    plain = {"diary": str(service.diary)}
    last = [service.ask("quick", **plain), service.ask("nap", **plain, seconds=0)]

    assert [service.wait_for_state(one, SUCCEEDED).attempt for one in last] == [1, 1]
    found = {of: service.wait_for_state(task_id, *FINAL) for of, task_id in asked.items()}
    ends = {of: (task.state, (task.error or {}).get("type")) for of, task in found.items()}
    assert ends == {(name, how): end for how, end in expected.items() for name in ("misbehave", "misbehave_long")}
    assert found["misbehave", "fork"].result == found["misbehave_long", "fork"].result == {"who": "the task"}
    assert {len(service.attempts(task_id)) for task_id in asked.values()} == {1}
    starts = Counter(one.task_id for one in service.diary_entries() if one.word == "start")
    assert set(starts.values()) == {1}


def test_a_task_that_ignores_its_timeout_is_killed(private_service: Service) -> None:
    service = private_service
    service.write(
        """
        swallows:
          task: misbehave
          args: {diary: DIARY, how: swallow}
          when: {every: 1h}
          timeout: {soft: 1s, hard: 2s}
          retry: none
        holds:
          task: misbehave
          args: {diary: DIARY, how: hold}
          when: {every: 1h}
          timeout: {soft: 1s, hard: 2s}
          retry: none
        computes:
          task: misbehave
          args: {diary: DIARY, how: hold GIL}
          when: {every: 1h}
          timeout: {soft: 1s, hard: 2s}
          retry: none
        """
    )
    service.start()

    ended = [service.wait_for_state(service.ask(name), FAILED) for name in ("swallows", "holds", "computes")]

    for task in ended:
        assert task.reason == ("TaskTimeout: did not end by its timeout; its process was killed (no retry)")
        assert [attempt.outcome for attempt in service.attempts(task.id)] == ["timed_out"]
    assert service.wait_for_entry("swallowed", ended[0].id)


def test_an_error_of_ours_between_claim_and_call_ends_the_attempt_at_once(private_service: Service) -> None:
    service = private_service
    service.write("{}", head="version: 1\ntimezone: Etc/UTC\nretry_policies: {none: {attempts: 2}}\nschedules:\n")
    (service.folder / "marks").mkdir()
    service.environment |= {
        "SCHEDULER_POINT": "child.after_claim=raise",
        "SCHEDULER_POINT_FOLDER": str(service.folder / "marks"),
        "SCHEDULER_LEASE_SECONDS": "600",
    }
    service.start()
    task_id = service.run("quick", f"diary={service.diary}")

    wait_for(lambda: [one.outcome for one in service.attempts(task_id)][:1] == [FAILED], what="the end of the attempt")

    (first, *_) = service.attempts(task_id)
    assert (first.error_type, first.error_message) == (
        "ProcessExited",
        "its process ended with status 1 before the function returned",
    )
    assert [mark.name for mark in (service.folder / "marks").iterdir()] == ["child.after_claim"]


def test_two_dispatchers_and_two_keepers_double_nothing(service: Service) -> None:
    service.write("".join(f"t{n}: {{task: quick, args: {{diary: DIARY}}, when: {{every: 1s}}}}\n" for n in range(6)))
    service.start()
    url = service.environment.get("REDIS_URL", private_url(service.folder / "var"))
    with second_parts(service, url):
        wait_for(lambda: number_of_parts(service, "dispatcher", "keeper") == 4, seconds=40, what="two of each")
        before = len(service.diary_entries())
        wait_for(lambda: len(service.diary_entries()) > before + 60, seconds=40, what="sixty entries")
    assert service.stop() == 0

    starts = Counter((one.task_id, one.attempt) for one in service.diary_entries() if one.word == "start")
    assert set(starts.values()) == {1}
    moments = Counter((task.schedule, task.fire_time) for task in service.tasks())
    assert set(moments.values()) == {1}
    # What was due in the very moment of the stop may still stand in its queue.
    assert {task.state for task in service.tasks() if task.state != PLANNED} <= {SUCCEEDED, QUEUED}
    assert len(starts) == sum(task.state == SUCCEEDED for task in service.tasks())


def number_of_parts(service: Service, *names: str) -> int:
    with service.database.read() as session:
        return len(list(session.scalars(select(Part.name).where(Part.part.in_(names)))))


@contextmanager
def second_parts(service: Service, redis_url: str) -> Iterator[None]:
    """Another dispatcher and another keeper beside those of `up`, as on a second machine."""
    environment = service.environment | {
        "REDIS_URL": redis_url,
        "DATABASE_URL": service.database.engine.url.render_as_string(hide_password=False),
    }
    with (service.folder / "second.log").open("a") as log:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "scheduler", "start", part],
                cwd=service.folder,
                env=environment,
                stdout=log,
                stderr=log,
            )
            for part in ("dispatcher", "keeper")
        ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            assert process.wait(15) == 0
