"""The facts of a digest, and its issues, on both databases."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import func, select, update

from scheduler.clock import iso, utc_now
from scheduler.context import Run, running
from scheduler.engine.answers.status import status_of
from scheduler.engine.file.apply import apply
from scheduler.engine.mail import digest, digest_facts
from scheduler.engine.service_functions import status_digest
from scheduler.errors import NotFound
from scheduler.rules.mail.digest import (
    Change,
    Coming,
    Facts,
    Failing,
    Held,
    KindCount,
    Recovered,
    Slow,
    TooFast,
    Unrun,
    digest_of,
)
from scheduler.rules.spec import At, Contact, Digest, Once
from scheduler.rules.states import FAILED, LOST, MISSED, PLANNED, QUEUED, SKIPPED, SUCCEEDED
from scheduler.rules.task.policy import TaskPolicy
from scheduler.settings import Settings
from scheduler.store import schedules
from scheduler.store.database import Database
from scheduler.store.mail_tables import SENT, DigestIssue, OutboxMessage
from scheduler.store.tables import Part, Schedule
from scheduler.task_functions import find_task_functions
from tests.builders import HOUR, MINUTE, a_book_of, a_revision, a_schedule, a_spec, a_task, an_attempt, at

SECOND = dt.timedelta(seconds=1)
NOON = at("12:00")
OPS = Contact(name="ops", email=("ops@example.org",))
MORNING = Digest(name="morning", to=("ops",), when=(At(at=(dt.time(12),)),), timezone="UTC")


def facts_at_noon(database: Database, asked: Digest = MORNING) -> Facts:
    with database.read() as session:
        return digest_facts.facts_of(
            session, asked, service="jobs", covers_from=NOON - dt.timedelta(days=1), covers_until=NOON
        )


def ended(
    clock: str, state: str = SUCCEEDED, took: dt.timedelta = SECOND, day: str = "2026-11-24", **fields: Any
) -> dict[str, Any]:
    """The fields of a task that began at that time of day, at its first attempt."""
    start = at(clock, day)
    plain = {"state": state, "fire_time": start, "due_at": start, "started_at": start, "attempt": 1}
    return {**plain, "finished_at": start + took, **fields}


def in_force(database: Database, *specs: Any, **digest_fields: Any) -> None:
    book, text = a_book_of(*specs, contacts={"ops": OPS}, digests={"morning": MORNING.model_copy(update=digest_fields)})
    apply(database, None, book, text, author="jana")


# --- facts ----------------------------------------------------------------------------------------------------------


def test_what_fails_is_told_from_its_first_failure_on_with_the_last_error(database: Database) -> None:
    with database.write() as session:
        bad = a_schedule(session, a_spec(name="export", owner="jana"), failures_in_a_row=2)
        a_task(session, schedule=bad, **ended("07:00", FAILED, day="2026-11-20"))  # before it was well
        a_task(session, schedule=bad, **ended("08:00"))
        a_task(session, schedule=bad, **ended("09:00", FAILED))
        error = {"type": "OSError", "message": "cannot write\n  no space left\n", "traceback": ""}
        last = a_task(session, schedule=bad, **ended("10:00", FAILED, attempt=3, error=error)).id

    facts = facts_at_noon(database)

    assert facts.failing == (Failing("export", "jana", at("09:00:01"), 2, 3, "OSError: no space left", last),)
    assert facts.recovered == ()
    assert [(strip.name, sum(bar.bad for bar in strip.bars)) for strip in facts.strips] == [("export", 2)]


def test_what_did_not_run_is_told_with_its_reason_once_for_each(database: Database) -> None:
    with database.write() as session:
        one = a_schedule(session, a_spec(name="feed"))
        for clock in ("03:00", "03:05"):
            late = ended(clock, MISSED, reason_code="late", reason=f"too late at {clock}", started_at=None, attempt=0)
            newest = a_task(session, schedule=one, **late).id
        held = ended("04:00", SKIPPED, reason_code="paused", reason="paused by jana", started_at=None, attempt=0)
        a_task(session, schedule=one, **held)
        gone = a_task(session, schedule=one, **ended("05:00", LOST, reason_code="lost", reason="no word")).id

    facts = facts_at_noon(database)

    assert sorted(facts.unrun, key=lambda one: one.state) == [
        Unrun("feed", LOST, 1, at("05:00"), "no word", gone, "lost"),
        Unrun("feed", MISSED, 2, at("03:05"), "too late at 03:05", newest, "late"),
    ]


def test_late_slow_and_recovered_ones_are_held_against_what_is_usual(database: Database) -> None:
    with database.write() as session:
        late = a_schedule(session, a_spec(name="late"))
        a_task(session, schedule=late, **ended("09:00", due_at=at("08:50")))
        retried = a_schedule(session, a_spec(name="retried"))
        a_task(session, schedule=retried, **ended("09:00", due_at=at("08:50"), attempt=2))
        slow = a_schedule(session, a_spec(name="slow"))
        a_task(session, schedule=slow, **ended("09:00", day="2026-11-23", took=MINUTE))
        a_task(session, schedule=slow, **ended("09:00", took=5 * MINUTE))
        well = a_schedule(session, a_spec(name="well"))
        a_task(session, schedule=well, **ended("06:00", FAILED))
        a_task(session, schedule=well, **ended("07:00"))

    facts = facts_at_noon(database)

    assert facts.slow == (Slow("late", late=10 * MINUTE), Slow("slow", took=5 * MINUTE, usual=MINUTE))
    assert facts.recovered == (Recovered("well", 1, at("07:00:01")),)
    assert facts.failing == ()


def test_well_again_is_told_with_the_last_error_so_that_equal_ones_can_share_a_row(database: Database) -> None:
    error = {"type": "OSError", "message": "cannot write\n  no space left\n", "traceback": ""}
    with database.write() as session:
        for name in ("a", "b"):
            well = a_schedule(session, a_spec(name=name))
            a_task(session, schedule=well, **ended("05:00", FAILED, error={**error, "message": name}))
            a_task(session, schedule=well, **ended("06:00", FAILED, error=error))
            a_task(session, schedule=well, **ended("07:00"))
        lost = a_schedule(session, a_spec(name="c"))
        a_task(session, schedule=lost, **ended("06:00", LOST, reason="no word"))
        a_task(session, schedule=lost, **ended("07:00"))

    facts = facts_at_noon(database)

    assert facts.recovered == (
        Recovered("a", 2, at("07:00:01"), "OSError: no space left"),
        Recovered("b", 2, at("07:00:01"), "OSError: no space left"),
        Recovered("c", 1, at("07:00:01"), "no word"),
    )


def test_what_succeeded_too_fast_is_told_by_the_limit_that_each_run_had(database: Database) -> None:
    limit, lower = (TaskPolicy(too_fast=seconds * SECOND) for seconds in (30, 10))
    with database.write() as session:

        def ran(name: str, *runs: tuple[str, float, TaskPolicy], state: str = SUCCEEDED) -> list[int]:
            schedule = a_schedule(session, a_spec(name=name, too_fast=10 * SECOND))
            ids = []
            for clock, took, policy in runs:
                begun = ended(clock, state, took=took * SECOND, policy=policy, attempt=2)
                task = a_task(session, schedule=schedule, **begun)
                first = {"started_at": at(clock) - HOUR, "outcome": FAILED}  # its time is not that of the success
                an_attempt(session, task, number=1, **first)
                last = an_attempt(session, task, number=2, started_at=at(clock), outcome=SUCCEEDED)
                last.ended_at = at(clock) + took * SECOND
                ids.append(task.id)
            return ids

        again = ran("again", ("08:00", 2, limit), ("08:30", 0.5, limit), ("09:00", 12, lower))
        [once] = ran("once", ("08:00", 9.999, lower))
        ran("just-in-time", ("08:00", 10, lower), ("09:00", 20, lower))
        ran("of-old", ("08:00", 1, TaskPolicy()))  # planned before anybody named a limit
        ran("failed", ("08:00", 1, limit), state=FAILED)
        gone = a_schedule(session, a_spec(name="no-limit-any-more"))
        an_attempt(session, a_task(session, schedule=gone, **ended("08:00", policy=limit)), outcome=SUCCEEDED)

    facts = facts_at_noon(database)

    assert facts.too_fast == (
        TooFast("again", 2, at("08:30:00.5"), 0.5 * SECOND, 30 * SECOND, again[1], slower_at=at("09:00:12")),
        TooFast("once", 1, at("08:00:09.999"), 9.999 * SECOND, 10 * SECOND, once),
    )
    assert [one.name for one in facts.strips] == ["again", "once"]


def test_a_digest_asks_for_what_was_too_fast_only_where_that_can_be(database: Database) -> None:
    with database.write() as session:
        other = a_schedule(session, a_spec(name="other", too_fast=30 * SECOND))
        task = a_task(session, schedule=other, **ended("08:00", policy=TaskPolicy(too_fast=30 * SECOND)))
        an_attempt(session, task, started_at=at("08:00"), outcome=SUCCEEDED).ended_at = at("08:00:01")

    def told(asked: Digest, until: dt.datetime) -> list[str]:
        with database.read() as session:
            since = until - dt.timedelta(hours=1)
            found = digest_facts.facts_of(session, asked, service="jobs", covers_from=since, covers_until=until)
        return [one.name for one in found.too_fast]

    assert told(MORNING, at("08:30")) == ["other"]
    assert told(MORNING, NOON) == []  # of another hour
    assert told(MORNING.model_copy(update={"tags": ("prod",)}), at("08:30")) == []


def test_what_is_due_and_has_not_started_is_late_and_a_kind_without_workers_is_told(database: Database) -> None:
    with database.write() as session:
        waits = a_schedule(session, a_spec(name="waits", kind="long"))
        a_task(session, schedule=waits, fire_time=at("11:40"), state=QUEUED, kind="long")
        a_task(session, schedule=waits, fire_time=at("11:50"), state=PLANNED, kind="long")
        in_time = a_schedule(session, a_spec(name="in-time"))
        a_task(session, schedule=in_time, fire_time=at("11:59:30"), state=QUEUED)

    facts = facts_at_noon(database)

    assert facts.slow == (Slow("waits", waits=20 * MINUTE),)
    assert "no worker of kind long ticks, and tasks wait for one" in facts.health
    said = digest_of(facts)
    assert said.sentence.startswith("Of 2 schedules 1 ran late and 1 is ok, from ")
    late = next(one for one in said.sections if one.title == "Late or slow")
    assert [row.head for row in late.rows] == ["waits: due for 20 m, and has not started"]


def test_what_was_not_done_by_its_finish_by_is_late_however_soon_after_it_was(database: Database) -> None:
    with database.write() as session:
        for name, day, clock in (("close", "2026-11-24", "07:59:54"), ("kept", "2026-11-24", "07:59:50")):
            schedule = a_schedule(session, a_spec(name=name, finish_by=dt.time(8)))
            a_task(session, schedule=schedule, **ended(clock, day=day, took=10 * SECOND, fire_time=at("06:30")))
        for name, finish_by in (("fails", dt.time(8)), ("noon", dt.time(12))):
            schedule = a_schedule(session, a_spec(name=name, finish_by=finish_by))
            a_task(session, schedule=schedule, **ended("06:30", FAILED))
        before = a_schedule(session, a_spec(name="before", finish_by=dt.time(12)))
        a_task(session, schedule=before, **ended("09:00", day="2026-11-23", took=4 * HOUR))

    facts = facts_at_noon(database)

    assert facts.slow == (
        Slow("close", finish_by=at("08:00"), overruns=1, done_after=4 * SECOND),
        Slow("fails", finish_by=at("08:00"), overruns=1),
        Slow("noon", finish_by=NOON, overruns=1),
    )


def test_over_several_days_the_deadlines_not_kept_are_counted(database: Database) -> None:
    with database.write() as session:
        nightly = a_schedule(session, a_spec(finish_by=dt.time(8)))
        for day in ("2026-11-21", "2026-11-22", "2026-11-23"):
            took = 2 * HOUR if day != "2026-11-23" else MINUTE
            a_task(session, schedule=nightly, **ended("06:30", day=day, took=took))

    with database.read() as session:
        facts = digest_facts.facts_of(
            session, MORNING, service="jobs", covers_from=at("12:00", "2026-11-20"), covers_until=NOON
        )

    expected = Slow("nightly", finish_by=at("08:00", "2026-11-22"), overruns=2, done_after=30 * MINUTE)
    assert facts.slow == (expected,)


def test_a_part_that_died_and_was_replaced_is_no_fault_of_the_service(database: Database) -> None:
    now = utc_now()
    with database.write() as session:
        for part, started, ticked in (
            ("worker-long", now - 3 * HOUR, now - 2 * HOUR),
            ("worker-long", now - 119 * MINUTE, now),
            ("dispatcher", now - 3 * HOUR, now - 2 * HOUR),
        ):
            name = f"{part}@here:{started:%H%M}"
            session.add(
                Part(name=name, part=part, host="here", pid=1, started_at=started, ticked_at=ticked, details={})
            )

    told = [one for one in facts_at_noon(database).health if "silent" in one]

    assert told == ["dispatcher on here has been silent for 2 h"]


def test_kinds_are_counted_in_the_span_and_in_the_one_before(database: Database) -> None:
    with database.write() as session:
        one = a_schedule(session)
        a_task(session, schedule=one, **ended("09:00", took=2 * SECOND))
        a_task(session, schedule=one, **ended("10:00", took=4 * SECOND))
        a_task(session, schedule=one, **ended("11:00", day="2026-11-23"))
        a_task(session, schedule=one, **ended("11:00", day="2026-11-22"))  # before the one before
        failed = a_task(session, kind="adhoc", origin="manual", **ended("11:30", FAILED, fire_time=None)).id

    facts = facts_at_noon(database)

    assert facts.kinds == (
        KindCount("scheduled", 2, 0, 3 * SECOND, 4 * SECOND, ok_before=1, average_before=SECOND),
        KindCount("adhoc", 0, 1),
    )
    assert facts.failing == (Failing("count_words", failures=1, attempts=1, task_id=failed, schedule=False),)
    assert [(bar.ok, bar.bad) for bar in facts.bars] == [*[(0, 0)] * 10, (1, 0), (1, 1)]


def test_pauses_things_to_come_and_changes_of_the_file_are_told(database: Database) -> None:
    with database.write() as session:
        revision = a_revision(session, accepted_at=at("08:00"), changes={"added": ["a", "b"], "removed": []})
        common = {"revision_id": revision.id, "in_force_since": at("08:00", "2026-11-20")}
        pause = schedules.pause_fields("jana", "partner is down", at("09:00"), None)
        a_schedule(session, a_spec(name="held"), pause=pause, **common)
        a_schedule(session, a_spec(name="gone"), parked="its task function is gone", **common)
        big = a_schedule(session, a_spec(name="big", kind="long", every=6 * HOUR), **common)
        once = (Once(once=dt.datetime(2026, 11, 24, 23)),)
        a_schedule(session, a_spec(name="move", when=once), **common)
        usual = a_schedule(session, a_spec(name="usual"), **common)
        a_schedule(session, a_spec(name="young", every=HOUR), **common)
        for one in (big, usual):
            a_task(session, schedule=one, **ended("07:00"))

    facts = facts_at_noon(database)

    assert facts.schedules == 6
    assert facts.held == (
        Held("gone", "the service", "its task function is gone", parked=True),
        Held("held", "jana", "partner is down", at("09:00")),
    )
    assert facts.coming == (
        Coming("young", at("13:00"), "its first run"),
        Coming("big", at("18:00"), "long"),
        Coming("move", at("23:00"), "one-off"),
    )
    assert facts.changes == (Change(revision.id, at("08:00"), "jana", "added a, b"),)


def test_a_digest_of_some_schedules_tells_of_no_others(database: Database) -> None:
    with database.write() as session:
        for name, tags in (("mine", ("prod",)), ("other", ())):
            one = a_schedule(session, a_spec(name=name, tags=tags), failures_in_a_row=1)
            a_task(session, schedule=one, **ended("09:00", FAILED))
        a_task(session, kind="adhoc", origin="manual", **ended("11:30", FAILED, fire_time=None))

    facts = facts_at_noon(database, MORNING.model_copy(update={"tags": ("prod",)}))

    assert (facts.schedules, [one.name for one in facts.failing], facts.only) == (1, ["mine"], "tagged prod")
    assert [(one.kind, one.bad) for one in facts.kinds] == [("scheduled", 1)]
    assert sum(bar.bad for bar in facts.bars) == 1


# --- issues ---------------------------------------------------------------------------------------------------------


def test_a_digest_of_some_schedules_tells_of_changes_to_these_alone(database: Database) -> None:
    with database.write() as session:
        mine = a_schedule(session, a_spec(name="mine", tags=("prod",)))
        a_schedule(session, a_spec(name="gone", tags=("prod",)), retired_at=at("10:00"))
        a_schedule(session, a_spec(name="other"))
        changes = {"added": ["mine", "other"], "removed": ["gone"], "renamed": {"mine-of-old": "mine"}}
        a_revision(session, accepted_at=at("09:00"), changes=changes)
        a_revision(session, accepted_at=at("10:00"), changes={"changed": ["other"]})
        last = a_revision(session, accepted_at=at("11:00"), changes={"rollback_to": 1, "changed": ["mine"]}).id
        assert mine.id

    some = facts_at_noon(database, MORNING.model_copy(update={"tags": ("prod",)})).changes
    everything = facts_at_noon(database).changes

    assert [one.what for one in some] == [
        "back to revision 1; changed mine",
        "added mine; removed gone; renamed mine-of-old to mine",
    ]
    assert (some[0].revision, [one.what for one in everything][1:2]) == (last, ["changed other"])


def issues(database: Database) -> list[DigestIssue]:
    with database.read() as session:
        return list(session.scalars(select(DigestIssue).order_by(DigestIssue.covers_until)))


def test_an_issue_and_its_mail_are_made_once_for_a_period(database: Database) -> None:
    in_force(database, a_spec(name="nightly"))

    first = digest.issue(database, Settings(name="jobs prod"), "morning", until=NOON, task_id=7)
    again = digest.issue(database, Settings(name="jobs prod"), "morning", until=NOON)

    assert (first.messages, again.messages, again.why_not) == (1, 0, "this issue has been made before")
    [issue] = issues(database)
    assert (issue.covers_from, issue.covers_until, issue.task_id) == (NOON - dt.timedelta(days=1), NOON, 7)
    assert issue.subject == "[jobs prod] all 1 ok - Tue 24 Nov"
    with database.read() as session:
        [mail] = session.scalars(select(OutboxMessage))
    assert mail.key == "digest:morning:2026-11-24T12:00:00Z:ops:email"
    assert mail.content["subject"] == issue.subject
    assert mail.content["headers"] == {"List-Unsubscribe": "<mailto:jobs@localhost?subject=unsubscribe%20morning>"}


def test_an_issue_covers_what_those_before_it_did_not_deliver(database: Database) -> None:
    in_force(database, a_spec(name="nightly"))
    day = dt.timedelta(days=1)
    digest.issue(database, Settings(), "morning", until=NOON)
    with database.write() as session:
        session.execute(update(OutboxMessage).values(state=SENT, sent_at=NOON + MINUTE))

    digest.issue(database, Settings(), "morning", until=NOON + day)  # and nobody gets it
    digest.issue(database, Settings(), "morning", until=NOON + 2 * day)

    spans = [(one.covers_from, one.covers_until, one.delivered_at) for one in issues(database)]
    assert spans == [
        (NOON - day, NOON, NOON + MINUTE),
        (NOON, NOON + day, None),
        (NOON, NOON + 2 * day, None),
    ]
    with database.read() as session:
        last = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id.desc())).first()
    assert last is not None
    assert "The issue before has not been delivered; this one covers that time too." in last.content["text"]


def test_a_green_digest_that_is_to_be_skipped_leaves_its_issue_and_no_mail(database: Database) -> None:
    in_force(database, a_spec(name="nightly"), when_green="skip")

    issued = digest.issue(database, Settings(), "morning", until=NOON)

    assert (issued.messages, issued.why_not) == (0, "all is well, and when_green is skip")
    assert [one.delivered_at is not None for one in issues(database)] == [True]
    with database.read() as session:
        assert session.execute(select(func.count()).select_from(OutboxMessage)).scalar() == 0


def test_a_preview_leaves_nothing_behind(database: Database) -> None:
    in_force(database, a_spec(name="nightly"))

    made = digest.preview(database, Settings(), "morning")

    assert made.letter.subject.startswith("[jobs] all 1 ok - ")
    assert issues(database) == []


def test_an_unknown_digest_is_named_with_those_there_are(database: Database) -> None:
    in_force(database, a_spec(name="nightly"))

    with pytest.raises(NotFound) as caught:
        digest.preview(database, Settings(), "mornign")

    assert str(caught.value) == (
        'There is no digest "mornign"; those of the file in force are morning. '
        "`scheduler apply` puts a changed file in force."
    )


def test_a_run_makes_the_issue_of_its_fire_time(database: Database, database_url: str) -> None:
    in_force(database, a_spec(name="nightly"))
    settings = Settings(database_url=database_url, redis_url="redis://127.0.0.1:1/0")

    with running(Run(7, 1, "scheduled", "digest.morning@x", "digest.morning", NOON, settings=settings)):
        result = status_digest("morning")

    assert result == {
        "subject": "[jobs] all 1 ok - Tue 24 Nov",
        "covers_from": "2026-11-23T12:00:00Z",
        "covers_until": iso(NOON),
        "messages": 1,
        "why_not": "",
    }
    assert [one.task_id for one in issues(database)] == [7]


# --- as schedules ---------------------------------------------------------------------------------------------------


def test_a_digest_is_a_schedule_that_apply_adds_and_retires(database: Database) -> None:
    in_force(database, a_spec(name="nightly"))
    with database.read() as session:
        added = {one.name: one.retired_at for one in schedules.all_schedules(session, retired=True)}
    book, text = a_book_of(a_spec(name="nightly"))

    applied = apply(database, None, book, text)

    assert added == {"digest.morning": None, "nightly": None}
    assert applied.removed == ["digest.morning"]
    with database.read() as session:
        retired = session.scalars(select(Schedule).where(Schedule.name == "digest.morning")).one().retired_at
    assert retired is not None


def test_digests_are_not_counted_among_the_schedules(database: Database) -> None:
    in_force(database, a_spec(name="nightly"))

    assert status_of(database, None)["schedules"]["total"] == 1


def test_digests_that_vanish_are_no_mass_removal(database: Database) -> None:
    several = {name: MORNING.model_copy(update={"name": name}) for name in ("a", "b", "c", "d", "e")}
    apply(database, None, *a_book_of(a_spec(name="nightly"), contacts={"ops": OPS}, digests=several))

    applied = apply(database, None, *a_book_of(a_spec(name="nightly")))

    assert applied.removed == [f"digest.{name}" for name in several]


def test_the_services_own_functions_are_in_every_catalogue() -> None:
    catalogue = find_task_functions([])

    assert catalogue.functions["status_digest"].function is status_digest
