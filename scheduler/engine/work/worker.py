"""The worker: a parent that watches, and one child that works (engine/work/child.py).

The parent renews the lease of what the child runs, by SQL's clock; passes on a request to stop; kills the child's whole
process group when its time is over; keeps the log and the progress; and ends the attempt when the child dies. It runs
no user code and has no threads, so that it can fork a new child at any time.
"""

from __future__ import annotations

import datetime as dt
import gc
import logging
import os
import selectors
import signal
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from scheduler.broker.rq_worker import RqWorker
from scheduler.engine.backends import Backends
from scheduler.engine.loops import Stop, between_seconds, leave
from scheduler.engine.troubles import Pauses, is_news, tell
from scheduler.engine.work.capture import OutputPipes, OutputStream
from scheduler.engine.work.channel import Deadline, FromChild
from scheduler.engine.work.child import ChildPlan, child_main
from scheduler.engine.work.outcomes import WORKER_STOPPED, Held, end_badly, follow
from scheduler.engine.work.processes import boot_seconds, kill_group, kill_left_over
from scheduler.errors import DatabaseAway, RedisAway
from scheduler.kill_points import point
from scheduler.rules.spec import ISOLATION
from scheduler.rules.states import CANCELLED, FAILED, LOST, RUNNING, TIMED_OUT
from scheduler.rules.task.log_lines import KeptLines, Piece, clean_line
from scheduler.rules.task.masking import Masker, known_secrets
from scheduler.rules.task.policy import TaskPolicy
from scheduler.settings import Settings
from scheduler.store import direct, parts, tasks
from scheduler.store.tables import Revision, Task
from scheduler.store.tasks import AttemptEnd
from scheduler.task_functions import Catalogue

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25  # how often it looks at clocks when nothing happens
GATHER_SECONDS = 0.005  # a child at short tasks says much, and none of it is urgent: it is heard some tasks at a time
STOP_LOOK_SECONDS = 1.0  # how often it asks SQL whether somebody wants the task stopped
STOP_POLITE_SECONDS = 10.0  # what a task gets to stop by itself; then it is interrupted
STOP_FIRM_SECONDS = 5.0  # what it gets after that; then it is killed
WRITE_SECONDS = 1.0  # how often log and progress go to SQL
TICK_SECONDS = 5.0
RQ_BEAT_SECONDS = 30.0
KIND_LOOK_SECONDS = 10.0
LINES_AT_ONCE = 64
MOST_UNWRITTEN = 20  # logs of ended attempts that wait for SQL to come back
FORK_PAUSES = 0.2, 30.0  # seconds, first and longest, before a child that died without a task is forked again


@dataclass
class Current:
    """The attempt that the child is at."""

    task_id: int
    attempt: int
    token: str
    number: int = 0
    is_running: bool = False  # False: it is being claimed
    kill_at: float | None = None  # seconds since boot
    renew_at: float = 0.0
    stop_look_at: float = 0.0
    stop_asked_at: float | None = None
    stop_urged: bool = False
    stop_by: str = ""
    killed_for: str = ""  # timeout, stop, shutdown, lease
    progress: dict[str, Any] | None = None
    masker: Masker = field(default_factory=Masker)
    log: KeptLines = field(default_factory=KeptLines)
    written_at: float = 0.0


class Worker:
    """A worker of one kind, on one queue."""

    def __init__(self, settings: Settings, kind: str, catalogue: Catalogue) -> None:
        self.settings = replace(settings, data=settings.data.resolve())  # a task may leave for another folder
        self.kind = kind
        self.catalogue = catalogue
        self.host = socket.gethostname()
        self.name = f"{kind}-{self.host}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.backends = Backends(settings, pooled=False)  # a pooled connection must not be inherited by a child
        self.database = self.backends.database
        direct.texts(self.database.is_sqlite)  # here, so that no child has to
        self.queue = kind
        self.isolation: str = ISOLATION[kind]
        self.rq: RqWorker | None = None
        self.deadline = Deadline()
        self.current: Current | None = None
        self.unrecorded: list[tuple[Current, AttemptEnd]] = []
        self.unwritten: list[Current] = []
        self.masker = Masker(known_secrets(os.environ, vars(settings)))
        self._child = 0
        self._output: list[OutputStream] = []
        self._from_child: FromChild | None = None
        self._selector = selectors.DefaultSelector()
        self._stopping_since: float | None = None
        self._pauses = Pauses(*FORK_PAUSES)
        self._fork_at = 0.0
        self._child_said_at = 0.0
        self._said_bye = False
        self._due: dict[str, float] = {}

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self, stop: Stop) -> None:
        """Work until SIGTERM or SIGINT; then let the running task have a few seconds, and end. `stop` tells whether one
        of them came while the worker started."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        if stop.is_set:
            self._stopping_since = boot_seconds()
        log.info("Worker %s serves queue %s", self.name, self.queue, extra={"event": "worker_started"})
        while True:
            self._hear()
            self._reap()
            self._look_after_current()
            self._record_rest()
            self._write_rest()
            self._keep_registered()
            if self._stopping_since is not None:
                if not self._child:
                    break
                self._press_to_end()
            elif not self._child and boot_seconds() >= self._fork_at:
                self._fork()
        self._leave()

    def _fork(self) -> None:
        ours, theirs = socket.socketpair()
        pipes = OutputPipes()
        plan = ChildPlan(
            self.settings,
            self.backends.redis_url,
            self.queue,
            self.name,
            self.host,
            1 if self.isolation == "fork" else self.settings.child_tasks,
            self.settings.child_seconds,
            self.masker,
        )
        self.deadline.clear()
        parent = os.getpid()
        gc.collect()
        gc.freeze()  # the child's collector leaves alone what it inherits: the pages stay shared
        child = os.fork()
        if child == 0:
            ours.close()
            self._selector.close()
            child_main(plan, self.catalogue, theirs, self.deadline, parent, pipes)
        theirs.close()
        ours.setblocking(False)
        self._child, self._from_child, self._said_bye = child, FromChild(ours), False
        self._child_said_at = boot_seconds()
        self._selector.register(ours, selectors.EVENT_READ)
        self._output = pipes.for_parent()
        for stream in self._output:
            self._selector.register(stream, selectors.EVENT_READ)
        point("worker.after_fork")

    # --- hearing the child ------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Read what the child says; waits a moment when it says nothing."""
        if self._from_child is None:
            time.sleep(LOOK_SECONDS / 5)
        elif self._selector.select(LOOK_SECONDS):
            time.sleep(GATHER_SECONDS)
            self._read_channel()  # before the output: who begins a task says so here first
        self._read_output()

    def _read_output(self) -> None:
        """Take a bounded piece of what the child has printed; its function waits while more is there."""
        token = self.current.token if self.current else ""
        for stream in self._output:
            self._keep_lines(stream, stream.read(token))
            if not stream.is_open and stream in self._selector.get_map():
                self._selector.unregister(stream)

    def _read_channel(self) -> None:
        assert self._from_child is not None
        messages = self._from_child.messages()
        if messages is None:
            self._hang_up()
            return
        for message in messages:
            self._on_message(message)

    def _hang_up(self) -> None:
        assert self._from_child is not None
        self._selector.unregister(self._from_child.channel)
        self._from_child.channel.close()
        self._from_child = None

    def _on_message(self, message: dict[str, Any]) -> None:
        self._child_said_at = boot_seconds()
        word, current = message["say"], self.current
        if word == "taking":
            self.current = Current(message["task"], message["attempt"], message["token"], message["number"])
            self._pauses.reset()  # it works: should it die now, it is the task's doing
        elif word == "bye":
            self._said_bye = True
        elif current is None:
            return
        elif word == "running":
            now = boot_seconds()
            current.is_running = True
            current.kill_at = now + message["hard"]
            current.masker = self.masker.knowing(message["secrets"])
            current.renew_at = now + self.settings.renew_seconds
            current.stop_look_at = now + STOP_LOOK_SECONDS
        elif word == "progress":
            current.progress = message["progress"]
        elif word == "free":
            self._close_log(current)
            self.current = None

    def _keep_lines(self, stream: OutputStream, pieces: list[Piece]) -> None:
        current = self.current
        if current is None or not pieces:
            return
        stamp = time.strftime("%H:%M:%S", time.gmtime())
        for text, is_record in pieces:
            if current.log.is_full():
                current.log.left_out += 1
                continue
            line = text if is_record else f"{stamp} {stream.level} {clean_line(text)}".rstrip()
            current.log.add(current.masker.text(line))

    def _close_log(self, current: Current) -> None:
        """Keep the last lines of an attempt that has ended."""
        for stream in self._output:
            self._keep_lines(stream, stream.read_rest(current.token))
        current.log.close()
        if not self._write_notes(current):
            self.unwritten = [*self.unwritten, current][-MOST_UNWRITTEN:]

    # --- looking after the task -------------------------------------------------------------------------------------

    def _look_after_current(self) -> None:
        current = self.current
        if current is None or not current.is_running or not self._child:
            return
        now = boot_seconds()
        if now - current.written_at >= WRITE_SECONDS or len(current.log.waiting) >= LINES_AT_ONCE:
            self._write_notes(current)
        if current.killed_for:
            return
        if current.kill_at is not None and now >= current.kill_at and not self._has_returned(current):
            self._kill("timeout")
        elif now >= current.renew_at:
            self._renew(current)
        elif now >= current.stop_look_at:
            self._look_for_stop(current)
        if current.stop_asked_at is not None:
            self._press_to_stop(current, now)

    def _has_returned(self, current: Current) -> bool:
        """Whether its function has; to record that may take as long as the lease lasts."""
        return self.deadline.returned_number == current.number

    def _renew(self, current: Current) -> None:
        asked_at = boot_seconds()
        lease = dt.timedelta(seconds=self.settings.lease_seconds)
        try:
            with self.database.write() as session:
                row = tasks.renew(session, current.task_id, current.token, lease)
        except DatabaseAway as error:
            if is_news("renewal"):
                text = "Lease of task %d not renewed: %s"
                log.warning(text, current.task_id, error, extra={"event": "renewal_failed"})
            current.renew_at = boot_seconds() + 2  # the child stops itself when the lease has ended
            return
        if row is None:
            if self._is_ours_still(current):
                current.renew_at = boot_seconds() + self.settings.renew_seconds
                return
            log.warning("Task %d is no longer ours; its process is ended", current.task_id)
            self._kill("lease")
            return
        point("worker.after_renewal")
        self.deadline.set(asked_at + lease.total_seconds())
        current.renew_at = asked_at + self.settings.renew_seconds
        if row.stop_requested_at is not None:
            self._ask_to_stop(current, row.stop_requested_by or "")

    def _is_ours_still(self, current: Current) -> bool:
        """Whether the child itself has just ended the task (then it is about to say so)."""
        try:
            with self.database.read() as session:
                row = session.execute(select(Task.state, Task.token).where(Task.id == current.task_id)).first()
        except DatabaseAway:
            return True
        return row is not None and row.token == current.token and row.state != RUNNING

    def _look_for_stop(self, current: Current) -> None:
        current.stop_look_at = boot_seconds() + STOP_LOOK_SECONDS
        try:
            with self.database.read() as session:
                query = select(Task.stop_requested_at, Task.stop_requested_by).where(
                    Task.id == current.task_id, Task.token == current.token
                )
                row = session.execute(query).first()
        except DatabaseAway:
            return  # the renewal says it
        if row is not None and row.stop_requested_at is not None:
            self._ask_to_stop(current, row.stop_requested_by or "")

    def _ask_to_stop(self, current: Current, by: str) -> None:
        if current.stop_asked_at is None:
            current.stop_asked_at, current.stop_by = boot_seconds(), by
            self.deadline.stop_number = current.number
            self._signal(signal.SIGUSR1)

    def _press_to_stop(self, current: Current, now: float) -> None:
        assert current.stop_asked_at is not None
        waited = now - current.stop_asked_at
        if waited >= STOP_POLITE_SECONDS + STOP_FIRM_SECONDS:
            self._kill("stop")
        elif waited >= STOP_POLITE_SECONDS and not current.stop_urged:
            current.stop_urged = True
            self._signal(signal.SIGUSR2)

    def _write_notes(self, current: Current) -> bool:
        """Write the log lines and the progress that have come; False when SQL is away: they are kept until then."""
        current.written_at = boot_seconds()
        lines, progress = current.log.waiting, current.progress
        if not lines and progress is None:
            return True
        try:
            with self.database.write() as session:
                if lines:
                    tasks.write_log(session, current.task_id, current.attempt, lines)
                if progress is not None:
                    tasks.write_progress(session, current.task_id, current.token, progress)
        except DatabaseAway:
            return False
        except IntegrityError:
            log.debug("Task %d has been deleted; its log goes nowhere", current.task_id)
        current.log.waiting, current.progress = [], None
        return True

    def _write_rest(self) -> None:
        """Write what is left of the logs of attempts that ended while SQL was away."""
        if self.unwritten and self._is_time("notes", WRITE_SECONDS):
            self.unwritten = [current for current in self.unwritten if not self._write_notes(current)]

    def _kill(self, why: str) -> None:
        if self.current is not None:
            self.current.killed_for = why
        if self._child:
            kill_group(self._child)

    def _signal(self, number: int) -> None:
        if self._child:
            try:
                os.kill(self._child, number)
            except ProcessLookupError:
                return  # about to be reaped

    # --- the child's death ------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        if not self._child:
            return
        pid, status = os.waitpid(self._child, os.WNOHANG)
        if pid == 0:
            return
        self._hear_last_words()
        kill_left_over(pid)
        self._child = 0
        current = self.current
        if current is not None:
            point("worker.after_death")
            self._close_log(current)
            self.current = None
            self.unrecorded.append((current, _end_of(current, status)))
            self._fork_at = 0.0
        elif self._said_bye:
            self._fork_at = 0.0
        else:
            pause = self._pauses.next()
            log.warning("The worker's child %s; a new one in %.1f s", _how(status), pause)
            self._fork_at = boot_seconds() + pause
        self._close_output()

    def _close_output(self) -> None:
        for stream in self._output:
            if stream in self._selector.get_map():
                self._selector.unregister(stream)
            stream.close()
        self._output = []

    def _hear_last_words(self) -> None:
        """What the dead child said last. Not until the channel closes: a process it left behind may hold it open."""
        if self._from_child is None:
            return
        while messages := self._from_child.messages():
            for message in messages:
                self._on_message(message)
        self._hang_up()

    def _record_rest(self) -> None:
        """End the attempts whose child died; again later when SQL is away (at the latest the keeper ends them)."""
        while self.unrecorded:
            current, attempt_end = self.unrecorded[0]
            try:
                self._record(current, attempt_end)
            except DatabaseAway:
                return
            self.unrecorded.pop(0)

    def _record(self, current: Current, attempt_end: AttemptEnd) -> None:
        with self.database.write() as session:
            task = session.get(Task, current.task_id)
            if task is None or task.token != current.token or task.state != RUNNING:
                return  # it never was claimed, or its end was recorded before the child died
            held = Held(
                task.id,
                task.attempt,
                current.token,
                TaskPolicy.model_validate(task.policy),
                task.queue,
                task.schedule_id,
                task.fire_time,
                task.started_at,
            )
            followed = end_badly(session, held, attempt_end)
        if followed is not None:
            log.warning(
                "Task %d attempt %d: %s; now %s",
                current.task_id,
                current.attempt,
                attempt_end.error_message,
                followed[0].state,
                extra={"event": "child_died", "task_id": current.task_id},
            )
            follow(self.backends.room, followed[1])

    # --- being known ------------------------------------------------------------------------------------------------

    def _keep_registered(self) -> None:
        if self._is_time("tick", TICK_SECONDS):
            self._tick()
        if self._is_time("rq", RQ_BEAT_SECONDS):
            self._beat()
        if self._is_time("kind", KIND_LOOK_SECONDS):
            self._look_at_kind()

    def _is_time(self, what: str, every: float) -> bool:
        now = boot_seconds()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = between_seconds(now + every, now)
        return True

    def _tick(self) -> None:
        details = {
            "queue": self.queue,
            "task": self.current.task_id if self.current else None,
            "child": self._child,
            "silent_seconds": round(boot_seconds() - self._child_said_at, 1) if self._child else None,
        }
        try:
            with self.database.write() as session:
                parts.tick(session, self.name, f"worker-{self.kind}", self.host, os.getpid(), details)
        except DatabaseAway as error:
            tell(self.name, error)

    def _beat(self) -> None:
        try:
            if self.rq is None or self.rq.queue_name != self.queue:
                self.rq = RqWorker(self.queue, self.backends.redis, self.name)
                self.rq.birth()
            else:
                self.rq.beat()
        except RedisAway as error:
            self._due["rq"] = boot_seconds() + 5
            tell(self.name, error)

    def _look_at_kind(self) -> None:
        """Serve the queue that the file in force names for this kind, in the isolation it names; a change replaces the
        child when it is free."""
        try:
            with self.database.read() as session:
                # Of the file in force this alone, not its text, which may be long.
                query = select(Revision.book["kinds"]).order_by(Revision.id.desc()).limit(1)
                kinds: dict[str, Any] = session.execute(query).scalar() or {}
        except DatabaseAway:
            return
        told = kinds.get(self.kind, {})
        queue, isolation = told.get("queue") or self.kind, told.get("isolation") or ISOLATION[self.kind]
        if (queue, isolation) == (self.queue, self.isolation):
            return
        log.info("Worker %s now serves queue %s, %s", self.name, queue, isolation, extra={"event": "queue_changed"})
        self.queue, self.isolation = queue, isolation
        self._due["rq"] = 0.0
        self._signal(signal.SIGTERM)

    # --- the end ----------------------------------------------------------------------------------------------------

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopping_since is None:
            self._stopping_since = boot_seconds()

    def _press_to_end(self) -> None:
        assert self._stopping_since is not None
        if self._is_time("end", 1.0):
            self._signal(signal.SIGTERM)  # takes no further job
        if boot_seconds() - self._stopping_since > self.settings.patience_seconds:
            self._kill("shutdown")

    def _leave(self) -> None:
        for _ in range(3):
            self._record_rest()
            if not self.unrecorded:
                break
            time.sleep(0.3)
        self._write_rest()
        leave(self.database, self.name)
        if self.rq is not None:
            with suppress(RedisAway):  # RQ forgets a worker that is silent
                self.rq.death()
        self.backends.close()


def _end_of(current: Current, status: int) -> AttemptEnd:
    """How the attempt ended, from how its process did."""
    if current.killed_for == "timeout":
        return AttemptEnd(TIMED_OUT, "TaskTimeout", "did not end by its timeout; its process was killed")
    if current.killed_for == "stop":
        return AttemptEnd(
            CANCELLED, "TaskStopped", f"did not stop when asked by {current.stop_by}; its process was killed"
        )
    if current.killed_for == "shutdown":
        return AttemptEnd(LOST, WORKER_STOPPED, "the worker was stopped while it ran")
    if current.killed_for == "lease":
        return AttemptEnd(LOST, "LeaseLost", "its lease had ended")
    if os.WIFSIGNALED(status):
        return AttemptEnd(LOST, "ProcessKilled", f"its process {_how(status)}")
    return AttemptEnd(FAILED, "ProcessExited", f"its process {_how(status)} before the function returned")


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"was killed by {signal.Signals(number).name}"
        except ValueError:
            return f"was killed by signal {number}"
    return f"ended with status {os.WEXITSTATUS(status)}"
