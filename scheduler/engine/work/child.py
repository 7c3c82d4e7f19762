"""The child of a worker: takes jobs, claims their tasks in SQL, runs the functions, ends the tasks in SQL.

It is forked once and runs many tasks (one only for kinds that are forked for each). Its parent watches it, renews its
lease, keeps its log and progress, and kills it when it must (worker.py); channel.py is between the two.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from scheduler.broker.connection import connect
from scheduler.broker.keys import parse_job_id
from scheduler.broker.rq_worker import JobFeed
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.context import Run
from scheduler.engine.troubles import TELL_EVERY, Pauses, tell
from scheduler.engine.work import artifacts
from scheduler.engine.work.calling import CallEnd, Caller
from scheduler.engine.work.capture import ChildOutput, LogToParent, OutputPipes
from scheduler.engine.work.channel import Deadline, ProgressTeller, ToParent
from scheduler.engine.work.outcomes import FollowUp, Held, end_badly, end_well, follow, kind_of, register
from scheduler.engine.work.processes import boot_seconds, die_with_parent, peak_memory, resident_memory
from scheduler.engine.work.surroundings import Surroundings
from scheduler.errors import DatabaseAway, RedisAway
from scheduler.kill_points import point
from scheduler.rules.states import QUEUED, RUNNING
from scheduler.rules.task import overlap
from scheduler.rules.task.jobs import WaitingJob
from scheduler.rules.task.masking import Masker, secrets_in
from scheduler.rules.task.policy import TaskPolicy
from scheduler.rules.times.occurrence_keys import fire_time_of
from scheduler.settings import Settings
from scheduler.store import outbox, schedules, tasks
from scheduler.store.database import Database
from scheduler.store.direct import Direct
from scheduler.store.tables import Task
from scheduler.store.tasks import Claimed
from scheduler.task_functions import Catalogue

log = logging.getLogger(__name__)

IDLE_SECONDS = 2  # how long it waits for a job before it says that it lives
LOOK_AGAIN = dt.timedelta(seconds=5)  # when a task whose lane is taken tries again, unless the lane is freed before
SOON = dt.timedelta(milliseconds=50)  # by which a task may come early and is waited for: clocks differ by so much
QUICK = 1 / 3  # of a lease: a claim that took longer is renewed, so that enough is left until the parent does that
NEVER_CALLED = "Its function was never called: its worker stood still from its claim until its lease was over."
MOST_FREED = 20  # times a lane may be found free and taken again before the job is left to reconcile


class _Wake(BaseException):
    """Ends a wait for jobs when the worker is to end."""


@dataclass(frozen=True)
class ChildPlan:
    """What a child is to do."""

    settings: Settings
    redis_url: str
    queue: str
    worker: str
    host: str
    most_tasks: int
    most_seconds: float
    masker: Masker = field(default_factory=Masker)


def child_main(
    plan: ChildPlan,
    catalogue: Catalogue,
    channel: socket.socket,
    deadline: Deadline,
    parent: int,
    pipes: OutputPipes | None = None,
) -> None:
    """The whole life of a child process; never returns."""
    status = 1
    try:
        die_with_parent(parent)
        os.setpgid(0, 0)  # so that the parent can kill it with all it has started
        output = None if pipes is None else pipes.for_child(plan.masker)
        status = Child(plan, catalogue, channel, deadline, output).run()
    except BaseException:
        log.exception("The worker's child ended by an error", extra={"event": "child_failed"})
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # no clean-up of what belongs to the parent


class Child:
    def __init__(
        self,
        plan: ChildPlan,
        catalogue: Catalogue,
        channel: socket.socket,
        deadline: Deadline,
        output: ChildOutput | None = None,
    ) -> None:
        self.plan = plan
        self.output = output  # None: what functions print is not captured
        self.caller = Caller(catalogue, self._is_stop_asked)
        self.deadline = deadline
        self.lease = dt.timedelta(seconds=plan.settings.lease_seconds)
        self.database = Database(plan.settings.database_url_or_default, synchronous=plan.settings.sqlite_synchronous)
        self.direct = Direct(self.database)
        self.redis = connect(plan.redis_url, client_name=f"{plan.worker}-child")
        self.feed = JobFeed(plan.queue, self.redis, plan.worker)
        self.room = WaitingRoom(self.redis)
        self.parent = ToParent(channel)
        self.surroundings: Surroundings | None = None  # None: the process is not the child's own
        self._number = 0  # of the tasks begun here
        self._has_begun = False  # the function of the task that is held: from then on it is killed when the lease ends
        self._ending = False
        self._waiting = False
        self._told_early_at = -TELL_EVERY

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Take and run jobs until told to end, or replaced; the process's exit status."""
        self._listen_to_signals()
        threading.Thread(target=self._watch_deadline, name="deadline", daemon=True).start()
        if self.output is not None:
            logging.getLogger().addHandler(LogToParent(self.output))
        with suppress(DatabaseAway):  # whoever takes a job will say it
            self.direct.prepare()
        self.surroundings = Surroundings()
        done, status, ran, began = "", "finished", 0, time.monotonic()
        pauses = Pauses()
        while not self._ending and ran < self.plan.most_tasks and time.monotonic() - began < self.plan.most_seconds:
            if ran and (self._has_grown() or self.surroundings.are_worn()):
                break
            try:
                job = self.feed.take(done, status)
                done = ""
                pauses.reset()
                if job is None:
                    self.parent.say("idle")
                    self._wait_for_job()
                    continue
            except RedisAway as error:
                self.parent.say("idle")
                tell("worker's child", error)
                self._sleep(pauses.next())
                continue
            point("child.after_take")
            done, status = job, self.handle(job)
            point("child.after_end")
            ran += 1
        if done:
            self._finish(done, status)
        self.parent.say("bye")
        return 0

    def _has_grown(self) -> bool:
        """Whether it holds more memory than it may between two tasks. Its peak, which is asked first, costs nothing."""
        most = self.plan.settings.child_memory_mb * 1024 * 1024
        return peak_memory() > most and resident_memory() > most

    def handle(self, job: str) -> str:
        """Claim and run the task of a job; the job's status for RQ.

        An error of ours is not caught, and the parent not told that the task is free: the child ends by it, and the
        parent ends the attempt.
        """
        named = parse_job_id(job)
        if named is None:
            log.warning("Passed over %r: no job of this service", job[:100], extra={"event": "foreign_job_refused"})
            return "canceled"
        token = str(uuid.uuid4())
        self._number += 1
        self.parent.say("taking", task=named[0], attempt=named[1], token=token, number=self._number)
        point("child.before_claim")
        claimed = self._claim(*named, token)
        status = "canceled"
        if claimed is not None:
            point("child.after_claim")
            status = self._run(claimed)
        self.deadline.set(0)
        self._has_begun = False
        self.parent.say_later("free")
        return status

    def _is_stop_asked(self) -> bool:
        return self.deadline.stop_number == self._number

    # --- claiming ---------------------------------------------------------------------------------------------------

    def _claim(self, task_id: int, attempt: int, token: str) -> Claimed | None:
        """The task, once it is ours; None when it is not to be had. Waits as long as SQL is away."""
        pauses, freed = Pauses(), 0
        while not self._ending:
            try:
                claimed, refusal = self._try_claim(task_id, attempt, token)
                if claimed is None and refusal.why == "busy":
                    self._settle_busy(task_id, attempt, refusal)
                elif claimed is None and refusal.why == "full":
                    self._settle_full(task_id, attempt, refusal)
                elif claimed is None and refusal.why == "mine":
                    self._give_back(task_id, attempt, token)
            except DatabaseAway as error:
                tell("worker's child", error)
                self._sleep(pauses.next())
                continue
            if claimed is not None:
                return claimed
            if refusal.due_in is not None and refusal.due_in <= SOON:
                self._sleep(refusal.due_in.total_seconds())
                continue
            if refusal.due_in is not None:
                self._put_back(task_id, attempt, refusal.due_in)
                return None
            if refusal.why != "freed" or freed == MOST_FREED:
                return None
            freed += 1
            self._sleep(0.02)
        return None

    def _try_claim(self, task_id: int, attempt: int, token: str) -> tuple[Claimed | None, tasks.Refusal]:
        """The task, or why not; `mine` without a task: it was claimed, and its lease is over already."""
        asked_at = boot_seconds()
        claimed = self.direct.claim(
            task_id,
            attempt,
            token=token,
            worker=self.plan.worker,
            host=self.plan.host,
            pid=os.getpid(),
            lease=self.lease,
        )
        refusal = tasks.Refusal("mine")
        if claimed is None or boot_seconds() - asked_at > self.lease.total_seconds() * QUICK:
            claimed = None
            with self.database.write() as session:
                refusal = tasks.why_refused(session, task_id, attempt, token)
                if refusal.why == "mine":  # it had gone through; only the reply was lost, or came late
                    asked_at = boot_seconds()
                    claimed = tasks.claim_again(session, task_id, attempt, token, self.lease)
        if claimed is not None:
            self.deadline.set(asked_at + self.lease.total_seconds())
        return claimed, refusal

    def _give_back(self, task_id: int, attempt: int, token: str) -> None:
        """Let a task whose lease was over before its function began come again. The keeper may have ended the attempt:
        then that counts, and all that can be done is to say in its log that nothing was."""
        with self.database.write() as session:
            given = tasks.give_back(session, task_id, attempt, token)
            if not given and tasks.was_lost(session, task_id, attempt, token):
                stamp = f"{schedules.now(session):%H:%M:%S}"
                tasks.write_log(session, task_id, attempt, [f"{stamp} WARNING {NEVER_CALLED}"])
        if not given:
            return
        log.warning(
            "Task %d: its lease of %g s was over before its function began; given back, now %s",
            task_id,
            self.lease.total_seconds(),
            given[0].state,
            extra={"event": "claim_given_back", "task_id": task_id},
        )
        if given[0].state == QUEUED:
            register(self.room, [WaitingJob(task_id, attempt, given[0].queue, given[0].due_at)])

    def _settle_busy(self, task_id: int, attempt: int, refusal: tasks.Refusal) -> None:
        """Skip or put off a task whose lane is taken."""
        assert refusal.holder_id is not None
        assert refusal.policy is not None
        policy = TaskPolicy.model_validate(refusal.policy)
        busy = overlap.Busy(refusal.holder_id, refusal.holder_state, refusal.same_schedule, refusal.others_waiting)
        decision = overlap.decide(policy, busy)
        if decision.do == "replace":
            self._replace(refusal, task_id)
        with self.database.write() as session:
            if decision.do == "skip" and attempt == 1:  # what has begun once waits for its next attempt instead
                tasks.skip(session, [Task.id == task_id, Task.attempt == attempt - 1], "overlap", decision.reason)
                return
            due_at = schedules.now(session) + LOOK_AGAIN
            tasks.put_off(session, task_id, due_at, decision.reason)
        register(self.room, [WaitingJob(task_id, attempt, self.plan.queue, due_at)])

    def _replace(self, refusal: tasks.Refusal, task_id: int) -> None:
        """Let the holder of a lane make way. In a transaction of its own: whoever withdraws both tasks at the same
        moment may have come to this one first."""
        assert refusal.holder_id is not None
        with self.database.write() as session:
            if refusal.holder_state == RUNNING:
                tasks.request_stop(session, refusal.holder_id, f"task {task_id}, which replaces it")
            else:
                of = Task.id == refusal.holder_id
                tasks.cancel_waiting(session, of, code="replaced", reason=f"replaced by task {task_id}")

    def _settle_full(self, task_id: int, attempt: int, refusal: tasks.Refusal) -> None:
        """Put off a task while as many of its kind run as may; one that ends wakes it."""
        assert refusal.policy is not None
        reason = (
            f"{refusal.running} of kind {refusal.kind} run already; "
            f"it waits for one to end (max_running: {refusal.policy['max_running']})"
        )
        with self.database.write() as session:
            due_at = schedules.now(session) + LOOK_AGAIN
            tasks.put_off(session, task_id, due_at, reason)
        register(self.room, [WaitingJob(task_id, attempt, self.plan.queue, due_at)])

    def _put_back(self, task_id: int, attempt: int, due_in: dt.timedelta) -> None:
        """Let a job that came early wait on, by the clock of Redis: were that ahead of SQL's, it would come at once."""
        try:
            due_at = self.room.now() + due_in
        except RedisAway as error:
            tell("worker's child", error)
            return  # reconcile puts it back
        if time.monotonic() - self._told_early_at >= TELL_EVERY:
            self._told_early_at = time.monotonic()
            log.warning(
                "Task %d came %.1f s early and waits on: Redis holds an older copy, or its clock is ahead of SQL's",
                task_id,
                due_in.total_seconds(),
                extra={"event": "early_job_put_back", "task_id": task_id},
            )
        register(self.room, [WaitingJob(task_id, attempt, self.plan.queue, due_at)])

    # --- running ----------------------------------------------------------------------------------------------------

    def _run(self, claimed: Claimed) -> str:
        policy = TaskPolicy.model_validate(claimed.policy)
        soft, hard = policy.timeout.soft.total_seconds(), policy.timeout.hard.total_seconds()
        secrets = secrets_in(claimed.args)
        masker = self.plan.masker.knowing(secrets)
        self.parent.say("running", hard=hard, secrets=sorted(secrets))
        progress = ProgressTeller(self.parent, masker.text)
        run = Run(
            task_id=claimed.task_id,
            attempt=claimed.attempt,
            kind=claimed.kind,
            idempotency_key=claimed.idempotency_key,
            schedule=claimed.schedule,
            fire_time=claimed.fire_time or fire_time_of(claimed.idempotency_key),
            deadline=utc_now() + policy.timeout.soft,
            report_progress=progress.report,
            ask_origin=self._origin,
            settings=self.plan.settings,
        )
        point("child.before_call")
        if boot_seconds() > self.deadline.get():
            with suppress(DatabaseAway):  # then the keeper ends the attempt
                self._give_back(claimed.task_id, claimed.attempt, claimed.token)
            return "canceled"
        self._has_begun = True
        ended = self._call(claimed, run, soft, masker)
        if self.surroundings is not None:
            self.surroundings.put_back()
        point("child.after_call")
        self.parent.expect_open()
        self.deadline.returned_number = self._number  # what is left is to record it, while the lease lasts
        held = Held(
            claimed.task_id,
            claimed.attempt,
            claimed.token,
            policy,
            self.plan.queue,
            claimed.schedule_id,
            claimed.fire_time,
            claimed.started_at,
        )
        return self._end(held, ended, progress.latest, masker)

    def _origin(self) -> str:
        """Raises DatabaseAway."""
        with self.database.read() as session:
            return outbox.origin(session)

    def _call(self, claimed: Claimed, run: Run, soft: float, masker: Masker) -> CallEnd:
        """Call the function; what it prints and logs meanwhile is the attempt's."""
        if self.output is None:
            return self.caller.call(claimed.task, claimed.args, run, soft)
        self.output.masker = masker
        self.output.begin(claimed.token)
        try:
            return self.caller.call(claimed.task, claimed.args, run, soft)
        finally:
            self.output.end(claimed.token)

    def _end(self, held: Held, ended: CallEnd, progress: dict[str, Any] | None, masker: Masker) -> str:
        """Record the end in SQL; waits while SQL is away, as long as the lease lasts."""
        values: dict[str, Any] = {} if progress is None else {"progress": progress}
        result, attempt_end = masker.value(ended.result), ended.as_attempt_end(masker)
        pauses = Pauses()
        while True:
            try:
                if ended.is_success and progress is None and self._end_plainly(held, ended, result):
                    return "finished"
                with self.database.write() as session:
                    if ended.is_success:
                        jobs = end_well(
                            session,
                            held,
                            result,
                            result_kind=ended.result_kind,
                            files=ended.files,
                            peak_memory=peak_memory(),
                            **values,
                        )
                        done = None if jobs is None else FollowUp(jobs)
                        status = "finished"
                    else:
                        followed = end_badly(session, held, attempt_end, error_names=ended.error_names, **values)
                        done = None if followed is None else followed[1]
                        status = "failed"
                if done is None:
                    log.warning(
                        "Task %d attempt %d: its end was recorded before, or it was superseded",
                        held.task_id,
                        held.attempt,
                        extra={"event": "end_superseded", "task_id": held.task_id},
                    )
                    if ended.files:
                        self._discard_files(held)
                follow(self.room, done or FollowUp())
                return status
            except DatabaseAway as error:
                tell("worker's child", error)
                pause = pauses.next()
                if boot_seconds() + pause > self.deadline.get():
                    log.error("Task %d: its end could not be recorded within its lease", held.task_id)
                    return "failed"
                time.sleep(pause)

    def _end_plainly(self, held: Held, ended: CallEnd, result: Any) -> bool:
        """Record a success from which nothing follows, as nearly all are; False: it has to go the long way."""
        policy = held.policy
        if ended.files or policy.too_fast is not None or policy.max_running is not None:
            return False
        kind = kind_of(result, ended.result_kind)
        return self.direct.end_plainly(held.task_id, held.attempt, held.token, result, kind, peak_memory())

    def _discard_files(self, held: Held) -> None:
        """Remove the files of an end that did not count, unless it was this very end that was recorded before."""
        with self.database.read() as session:
            known = artifacts.are_known(session, held.task_id, held.attempt)
        if not known:
            artifacts.discard(self.plan.settings, held.task_id, held.attempt)

    def _finish(self, done: str, status: str) -> None:
        try:
            self.feed.finish(done, status)
        except RedisAway as error:
            tell("worker's child", error)

    # --- signals and waits ------------------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the supervisor's to handle
        signal.signal(signal.SIGTERM, self._on_end)
        self.caller.listen()

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        if self._waiting:
            raise _Wake

    def _wait_for_job(self) -> None:
        self._interruptibly(lambda: self.feed.wait(IDLE_SECONDS))

    def _sleep(self, seconds: float) -> None:
        self._interruptibly(lambda: time.sleep(seconds))

    def _interruptibly(self, wait: Callable[[], Any]) -> None:
        try:
            self._waiting = True
            if not self._ending:
                wait()
        except _Wake:
            self.redis.connection_pool.disconnect()  # the answer of the command cut short must not be read as another's
        finally:
            self._waiting = False

    def _watch_deadline(self) -> None:
        """Kill this process when the lease has ended: its parent is frozen or cut off, and another may run the task."""
        while True:
            time.sleep(0.5)
            until = self.deadline.get()
            if self._has_begun and until and boot_seconds() > until:
                os.killpg(0, signal.SIGKILL)
