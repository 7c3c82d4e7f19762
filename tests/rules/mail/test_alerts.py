"""Which troubles are told, how often and to whom; the letters they become."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.rules.mail import alerts
from scheduler.rules.mail.alert_letters import LONGEST_SUBJECT, AlertSaid, letter_of, said_of
from scheduler.rules.mail.alerts import GATHER, AlertState, Over, Telling, Trouble, hear, subject_of, tell
from scheduler.rules.mail.messages import Letter
from tests.builders import at
from tests.rules.mail.alert_samples import CLOSE_MONTH, MISSED, about, closed

NOW = at("02:00")
SECOND, MINUTE, HOUR = dt.timedelta(seconds=1), dt.timedelta(minutes=1), dt.timedelta(hours=1)
REALERT = 4 * HOUR


class Told:
    """Alerts over time: what is heard goes in, what is told comes out."""

    def __init__(self, *contacts: str, realert: dt.timedelta = REALERT) -> None:
        self.contacts = contacts or ("ops",)
        self.realert = realert
        self.alerts: list[AlertState] = []
        self.tellings: list[Telling] = []

    def step(
        self, now: dt.datetime, *heard: Trouble | Over, levels: tuple[Trouble, ...] = (), **more: Any
    ) -> list[str]:
        """What is told then: `opened ops`."""
        self.alerts = hear(self.alerts, heard, levels, more.get("over", ()), now, more.get("unknown", ()))
        for number, alert in enumerate(self.alerts, 1):
            alert.id = number
        self.tellings = tell(self.alerts, lambda alert, is_over: self.contacts, now, self.realert)
        return [f"{one.what} {one.contact}" for one in self.tellings]


def failure(when: dt.datetime, schedule_id: int = 1, task_id: int = 17, **fields: Any) -> Trouble:
    details = {"schedule": f"job-{schedule_id}", "task_id": task_id, "error": "Timeout", "attempts": 3}
    details |= fields.pop("details", {})
    return Trouble(subject_of(alerts.FAILED, schedule_id), alerts.FAILED, when, schedule_id, details, **fields)


def recovery(when: dt.datetime, schedule_id: int = 1) -> Over:
    return Over(subject_of(alerts.FAILED, schedule_id), when)


def no_worker(when: dt.datetime) -> Trouble:
    return Trouble("kind:long:no_worker", alerts.NO_WORKER, when, None, {"name": "long", "why": "none ticks"})


# --- one alert ------------------------------------------------------------------------------------------------------


def test_a_failure_is_told_once_then_again_after_the_interval_then_that_it_is_over() -> None:
    told = Told()

    assert told.step(NOW, failure(NOW)) == []  # equal ones may follow
    assert told.step(NOW + GATHER) == ["opened ops"]
    assert told.step(NOW + HOUR, failure(NOW + HOUR, task_id=18)) == []
    assert told.step(NOW + GATHER + REALERT) == ["again ops"]
    over = NOW + 5 * HOUR
    assert told.step(over, recovery(over)) == []
    assert told.step(over + GATHER) == ["closed ops"]
    assert told.step(over + 2 * GATHER) == []
    assert (told.alerts[0].times, told.alerts[0].told_times) == (2, 3)


def test_all_letters_of_an_alert_are_one_thread() -> None:
    told = Told()
    told.step(NOW, failure(NOW))
    keys = []
    for now in (NOW + GATHER, NOW + GATHER + REALERT, NOW + GATHER + 2 * REALERT):
        told.step(now)
        keys += [(one.key, one.replies_to) for one in told.tellings]
    told.step(NOW + 9 * HOUR, recovery(NOW + 9 * HOUR))
    told.step(NOW + 10 * HOUR)
    keys += [(one.key, one.replies_to) for one in told.tellings]

    opened = ("alert:1:opened",)
    assert keys == [
        ("alert:1:opened", ()),
        ("alert:1:again-1", opened),
        ("alert:1:again-2", opened),
        ("alert:1:closed", opened),
    ]


@pytest.mark.parametrize(
    ("told_from", "in_a_row", "expected"),
    [(1, 1, ["opened ops"]), (3, 2, []), (3, 3, ["opened ops"]), (3, 7, ["opened ops"])],
    ids=["the first", "one too few", "the one it waits for", "one that was not heard in time"],
)
def test_failures_are_told_from_so_many_in_a_row(told_from: int, in_a_row: int, expected: list[str]) -> None:
    told = Told()

    told.step(NOW, failure(NOW, in_a_row=in_a_row, told_from=told_from))

    assert told.step(NOW + GATHER) == expected


def test_what_was_over_before_it_was_told_is_one_letter() -> None:
    told = Told()
    told.step(NOW, failure(NOW), recovery(NOW + 12 * SECOND))

    assert told.step(NOW + GATHER) == ["passed ops"]
    assert told.step(NOW + HOUR) == []


def test_what_ended_in_the_moment_it_was_told_is_still_told_as_over() -> None:
    told = Told()
    told.step(NOW, failure(NOW))
    told.step(NOW + GATHER)

    told.step(NOW + GATHER + SECOND, recovery(NOW + GATHER - SECOND))

    assert told.step(NOW + 2 * GATHER + SECOND) == ["closed ops"]


def test_a_run_that_was_missed_is_told_again_only_if_another_is() -> None:
    told = Told()

    def missed(when: dt.datetime) -> Trouble:
        return Trouble("schedule:1:missed", alerts.MISSED, when, 1, {"task_id": 3}, count=2)

    told.step(NOW, missed(NOW))
    told.step(NOW + GATHER)

    assert told.step(NOW + 24 * HOUR) == []
    assert told.step(NOW + 25 * HOUR, missed(NOW + 25 * HOUR)) == ["again ops"]
    assert told.alerts[0].times == 4


@pytest.mark.parametrize(
    ("event", "success", "is_over"),
    [
        (alerts.FAILED, 16, False),
        (alerts.FAILED, 18, True),
        (alerts.TOO_FAST, 17, False),
        (alerts.LATE, 17, True),
        (alerts.LATE, 16, False),
    ],
    ids=["an earlier task", "a later one", "the one too fast itself", "the late one itself", "one before it"],
)
def test_a_success_ends_what_is_not_later_than_it(event: str, success: int, is_over: bool) -> None:
    subject = subject_of(event, 1)
    known = [AlertState(subject, event, NOW, NOW, 1, id=1, details={"task_id": 17})]
    levels = [Trouble(subject, event, NOW, 1)] if event in alerts.LEVELS else []

    found = hear(known, (), levels, [Over(subject, NOW + MINUTE, success)], NOW + MINUTE)

    assert (found[0].closed_at is not None) is is_over


def test_what_is_wrong_with_a_schedule_that_is_no_more_ends_without_a_word() -> None:
    told = Told()
    told.step(NOW, failure(NOW))
    told.step(NOW + GATHER)

    told.step(NOW + HOUR, over=[Over("schedule:1:failed", NOW + HOUR, is_quiet=True)])

    assert told.step(NOW + 2 * HOUR) == []
    assert told.alerts[0].closed_at == NOW + HOUR


# --- conditions -----------------------------------------------------------------------------------------------------


def test_a_condition_is_told_once_it_has_lasted() -> None:
    told = Told()

    assert told.step(NOW, levels=(no_worker(NOW),)) == []
    assert told.step(NOW + GATHER, levels=(no_worker(NOW + GATHER),)) == []  # a deployment takes that long
    assert told.step(NOW + MINUTE, levels=(no_worker(NOW + MINUTE),)) == ["opened ops"]
    assert told.step(NOW + 2 * MINUTE) == []
    assert told.step(NOW + 3 * MINUTE) == ["closed ops"]


def test_a_condition_that_passes_is_told_to_nobody() -> None:
    told = Told()
    told.step(NOW, levels=(no_worker(NOW),))
    told.step(NOW + GATHER)

    assert told.step(NOW + HOUR) == []


def test_a_deadline_that_was_broken_for_a_moment_is_told() -> None:
    told = Told()
    late = Trouble(subject_of(alerts.LATE, 1), alerts.LATE, NOW, 1, {"schedule": "nightly", "task_id": 17})
    told.step(NOW, levels=(late,))
    told.step(NOW + 10 * SECOND)

    assert told.step(NOW + GATHER) == ["passed ops"]


def test_a_condition_of_which_nothing_is_known_goes_on() -> None:
    bad_file = Trouble("file:bad_file", alerts.BAD_FILE, NOW, None, {"name": "schedules.yaml"})
    told = Told()
    told.step(NOW, levels=(bad_file,))
    told.step(NOW + GATHER, levels=(bad_file,))

    assert told.step(NOW + MINUTE, unknown={alerts.BAD_FILE}) == []
    assert told.alerts[0].is_open


# --- flapping and storms --------------------------------------------------------------------------------------------


def test_what_flaps_is_told_as_such_then_not_until_it_has_been_calm() -> None:
    told = Told()
    letters = Counter[str]()
    for minute in range(0, 60, 2):  # fails and recovers, over and over
        now = NOW + minute * MINUTE
        letters.update(told.step(now, failure(now)))
        letters.update(told.step(now + 40 * SECOND))
        letters.update(told.step(now + 50 * SECOND, recovery(now + 50 * SECOND)))
        letters.update(told.step(now + 90 * SECOND))
    assert letters == {"opened ops": 2, "closed ops": 2, "flapping ops": 1}

    calm = NOW + 58 * MINUTE + 50 * SECOND + HOUR

    assert told.step(calm - SECOND) == []
    assert told.step(calm) == ["closed ops"]
    assert told.tellings[0].replies_to == ("alert:3:opened",)
    assert told.step(calm + MINUTE, failure(calm + MINUTE)) == []
    assert told.step(calm + 2 * MINUTE) == ["opened ops"]


def test_a_storm_of_equal_failures_is_one_letter_to_each_contact() -> None:
    told = Told("ops", "jana")
    heard = [failure(NOW, number, details={"error": f"OSError: port {number} refused"}) for number in range(1, 301)]

    told.step(NOW, *heard)

    assert told.step(NOW + GATHER) == ["opened ops", "opened jana"]
    assert [len(one.alerts) for one in told.tellings] == [300, 300]
    over = NOW + HOUR
    told.step(over, *(recovery(over, number) for number in range(1, 301)))
    assert told.step(over + GATHER) == ["closed ops", "closed jana"]
    assert told.tellings[0].replies_to == ("alert:1:opened",)


def test_five_equal_failures_are_five_letters() -> None:
    told = Told()
    told.step(NOW, *(failure(NOW, number) for number in range(1, 6)))

    assert told.step(NOW + GATHER) == ["opened ops"] * 5


def test_failures_that_differ_are_no_storm() -> None:
    told = Told()
    told.step(NOW, *(failure(NOW, number, details={"error": "x" * number}) for number in range(1, 11)))

    assert told.step(NOW + GATHER) == ["opened ops"] * 10


def test_so_many_letters_at_once_the_rest_in_the_next_step() -> None:
    told = Told("ops", "jana")
    heard = [failure(NOW, number, details={"error": "x" * number}) for number in range(1, 251)]
    told.step(NOW, *heard)

    letters = [told.step(NOW + GATHER + number * SECOND) for number in range(4)]

    assert [len(one) for one in letters] == [200, 200, 100, 0]
    assert all(one.told_at is not None and one.details["told"] == ["ops", "jana"] for one in told.alerts)


def test_what_comes_after_a_storm_is_gathered_for_longer() -> None:
    told = Told()
    told.step(NOW, *(failure(NOW, number) for number in range(1, 11)))
    told.step(NOW + GATHER)
    told.step(NOW + MINUTE, *(failure(NOW + MINUTE, number) for number in range(11, 31)))

    assert told.step(NOW + 2 * MINUTE) == []
    assert told.step(NOW + GATHER + alerts.STORM_GAP) == ["opened ops"]
    assert len(told.tellings[0].alerts) == 20


def test_what_joins_a_storm_is_told_though_the_storm_is_told_again_and_again() -> None:
    told = Told(realert=2 * MINUTE)
    told.step(NOW, *(failure(NOW, number) for number in range(1, 8)))
    told.step(NOW + GATHER)
    late = failure(NOW + MINUTE, 99)

    letters = {
        minute: told.step(NOW + GATHER + minute * MINUTE, *([late] if minute == 1 else [])) for minute in range(1, 6)
    }

    assert letters == {1: [], 2: ["again ops"], 3: [], 4: ["again ops"], 5: ["opened ops"]}
    assert told.tellings[0].alert.schedule_id == 99


@given(
    st.lists(
        st.tuples(st.sampled_from(("fails", "succeeds", "looks")), st.integers(1, 3), st.integers(1, 5000)), max_size=60
    )
)
def test_whatever_happens_each_letter_is_told_once_and_in_order(moves: list[tuple[str, int, int]]) -> None:
    told, now, keys = Told(), NOW, Counter[str]()
    heads: set[str] = set()
    for move, schedule_id, seconds in moves:
        now += seconds * SECOND
        heard = {"fails": [failure(now, schedule_id)], "succeeds": [recovery(now, schedule_id)]}.get(move, [])
        told.step(now, *heard)
        for telling in told.tellings:
            keys[telling.key] += 1
            heads |= {telling.key} if telling.key.endswith(":opened") else set()
            assert set(telling.replies_to) <= heads
    told.step(now + GATHER)
    told.step(now + 2 * HOUR)

    assert not keys or max(keys.values()) == 1
    for subject in {one.subject for one in told.alerts}:
        assert sum(one.is_open for one in told.alerts if one.subject == subject) <= 1
    assert all(one.told_at is not None for one in told.alerts)
    assert all(one.closed_at is None or one.told_at >= one.closed_at for one in told.alerts if one.told_at)


# --- letters --------------------------------------------------------------------------------------------------------


def said(what: str, alert: AlertState = CLOSE_MONTH, now: dt.datetime = NOW + 90 * MINUTE, **more: Any) -> AlertSaid:
    telling = Telling(what, "ops", more.get("storm", (alert,)), "alert:9:opened")
    return said_of(telling, service="jobs prod", base_url=more.get("base_url"), now=now, realert=REALERT)


def letter(what: str, alert: AlertState = CLOSE_MONTH, **more: Any) -> Letter:
    telling = Telling(what, "ops", more.get("storm", (alert,)), "alert:9:opened")
    return letter_of(telling, said(what, alert, **more), service="jobs prod")


@pytest.mark.parametrize(
    ("what", "alert", "subject"),
    [
        ("opened", CLOSE_MONTH, "[jobs prod] FAILED close-month: Timeout after 3 attempts"),
        ("again", CLOSE_MONTH, "[jobs prod] STILL FAILED close-month: Timeout after 3 attempts (for 1 h 30 m)"),
        (
            "passed",
            closed(CLOSE_MONTH, 12 * SECOND),
            "[jobs prod] FAILED close-month: Timeout after 3 attempts (over after 12 s)",
        ),
        ("flapping", CLOSE_MONTH, "[jobs prod] flapping close-month (failed): silent until it is calm for an hour"),
        ("closed", closed(CLOSE_MONTH, 125 * MINUTE), "[jobs prod] recovered close-month after 2 h 5 m"),
        ("opened", about(alerts.MISSED, schedule="flush", why="late"), "[jobs prod] MISSED flush: 1 fire time"),
        ("opened", about(alerts.NO_WORKER, name="long", why="none ticks"), "[jobs prod] NO WORKER long: none ticks"),
        (
            "closed",
            closed(about(alerts.BAD_FILE, name="schedules.yaml"), HOUR),
            "[jobs prod] schedule file in force again: schedules.yaml after 1 h",
        ),
        (
            "opened",
            about(alerts.LOST, schedule="flush", why="fell\r\nBcc: all@example.org"),
            "[jobs prod] LOST flush: fell Bcc: all@example.org",
        ),
    ],
    ids=["failed", "again", "passed", "flapping", "recovered", "missed", "no worker", "file", "no header gets in"],
)
def test_the_subject_tells_what_and_whom(what: str, alert: AlertState, subject: str) -> None:
    assert letter(what, alert).subject == subject


def test_a_long_subject_is_cut() -> None:
    assert len(letter("opened", about(alerts.LOST, schedule="flush", why="x" * 400)).subject) == LONGEST_SUBJECT


def test_the_letter_tells_all_that_whoever_is_on_call_needs() -> None:
    assert (
        letter("opened", base_url="https://jobs.example.org/").text
        == """\
FAILED close-month: Timeout after 3 attempts

since:             2026-11-24 02:00:00 UTC (1 h 30 m)
times:             2, the last at 2026-11-24 03:10:00 UTC
failures in a row: 2
attempts:          3
error:             Timeout
task:              17
owner:             jana
why it matters:    Feeds the 08:15 mail <b>.
link:              https://jobs.example.org/tasks/17

What you can do now:
  scheduler show 17            how it ended, and why
  scheduler retry 17           run it once more
  scheduler pause close-month  hold it

The next letter comes in 4 h if it lasts, or when it is over.
"""
    )


LATE = about(
    alerts.LATE,
    schedule="close-month",
    task_id=17,
    finish_by="04:00 Europe/Berlin",
    fire_time="2026-11-24 01:30 UTC",
    why="not done by 04:00 Europe/Berlin: running, its fire time was 2026-11-24 01:30 UTC",
)


def test_a_letter_about_a_deadline_tells_by_how_much_it_was_not_kept() -> None:
    assert letter("opened", LATE, now=NOW + MINUTE).subject == f"[jobs prod] LATE close-month: {LATE.details['why']}"
    assert (
        letter("passed", closed(LATE, 4 * SECOND)).text
        == """\
LATE close-month: done 4 s after 04:00 Europe/Berlin, by which it should have ended

since:     2026-11-24 02:00:00 UTC
until:     2026-11-24 02:00:04 UTC (4 s)
fire time: 2026-11-24 01:30 UTC
task:      17

What you can do now:
  scheduler show 17              how it ended, and why
  scheduler explain close-month  what it does, and why

It is over already; no letter follows.
"""
    )
    assert (
        letter("closed", closed(LATE, 20 * MINUTE)).text
        == """\
done at last: close-month, 20 m after 04:00 Europe/Berlin

since:     2026-11-24 02:00:00 UTC
until:     2026-11-24 02:20:00 UTC (20 m)
fire time: 2026-11-24 01:30 UTC
task:      17
"""
    )


@pytest.mark.parametrize("event", [alerts.LATE, alerts.TOO_LONG])
def test_what_may_still_run_is_not_said_to_have_ended(event: str) -> None:
    advice = dict(said("opened", about(event, schedule="flush", task_id=17, why="it runs on")).advice)

    assert advice["scheduler show 17"] == "how it stands, and why"


def test_a_storm_whose_errors_differ_in_numbers_tells_that_it_shows_one() -> None:
    storm = tuple(
        replace(CLOSE_MONTH, id=number, details={"schedule": f"job-{number}", "error": f"no route to db{number}"})
        for number in range(1, 8)
    )

    found = letter("opened", storm=storm)

    assert found.subject == "[jobs prod] FAILED: 7 schedules: no route to db1"
    assert "error:     no route to db1 (job-1; those of the others differ in numbers)\n" in found.text
    assert said("opened", storm=storm).error == "no route to db1 (job-1; those of the others differ in numbers)"


def test_a_storm_lists_some_and_counts_the_rest() -> None:
    storm = tuple(
        AlertState(**{**vars(CLOSE_MONTH), "id": number, "details": {"schedule": f"job-{number}", "error": "Timeout"}})
        for number in range(1, 26)
    )

    found = letter("opened", storm=storm)

    assert found.subject == "[jobs prod] FAILED: 25 schedules: Timeout"
    assert f"schedules: {', '.join(f'job-{number}' for number in range(1, 21))} … and 5 more\n" in found.text
    assert (found.payload["count"], len(found.payload["schedules"])) == (25, 20)
    over = tuple(closed(one, (one.id or 0) * MINUTE) for one in storm)
    assert letter("closed", storm=over).subject == "[jobs prod] recovered: 25 schedules (failed) after up to 25 m"


@pytest.mark.parametrize(
    ("what", "alert", "closing"),
    [
        ("opened", CLOSE_MONTH, ("The next letter comes in 4 h if it lasts, or when it is over.",)),
        ("opened", MISSED, ("If it happens again, the next letter comes in 4 h at the earliest.",)),
        ("passed", closed(CLOSE_MONTH, MINUTE), ("It is over already; no letter follows.",)),
        ("closed", closed(CLOSE_MONTH, MINUTE), ()),
    ],
    ids=["while it lasts", "only if again", "over already", "over"],
)
def test_the_last_line_tells_when_the_next_letter_comes(what: str, alert: AlertState, closing: tuple[str, ...]) -> None:
    assert said(what, alert).closing == closing


@pytest.mark.parametrize(
    ("what", "alert", "tone"),
    [
        ("opened", CLOSE_MONTH, "bad"),
        ("opened", MISSED, "warn"),
        ("flapping", CLOSE_MONTH, "warn"),
        ("passed", closed(CLOSE_MONTH, MINUTE), "warn"),
        ("closed", closed(CLOSE_MONTH, MINUTE), "good"),
    ],
)
def test_the_colour_tells_how_bad_it_is(what: str, alert: AlertState, tone: str) -> None:
    assert said(what, alert).tone == tone


@pytest.mark.parametrize(
    ("alert", "link", "text"),
    [
        (CLOSE_MONTH, "/tasks/17", "Open task 17"),
        (replace(CLOSE_MONTH, details={"schedule": "flush"}), "/schedules/flush", "Open flush"),
        (about(alerts.NO_WORKER, name="long"), "/workers", "Open the workers"),
        (about(alerts.BAD_FILE, name="schedules.yaml"), "/file", "Open the file"),
        (about(alerts.MAIL_GIVEN_UP, name="mail"), "/", "Open the page"),
    ],
    ids=["task", "schedule", "worker", "file", "page"],
)
def test_a_letter_leads_to_the_page_that_tells_more(alert: AlertState, link: str, text: str) -> None:
    found = said("opened", alert, base_url="https://jobs.example.org/")

    assert (found.link, found.link_text) == (f"https://jobs.example.org{link}", text)


def test_the_title_leaves_the_error_to_the_line_below_it() -> None:
    found = said("again")

    assert (found.title, found.error) == ("STILL FAILED close-month after 3 attempts (for 1 h 30 m)", "Timeout")


def test_the_payload_has_what_programs_need() -> None:
    assert letter("closed", closed(CLOSE_MONTH, 125 * MINUTE)).payload == {
        "version": 1,
        "service": "jobs prod",
        "what": "closed",
        "event": "failed",
        "summary": "recovered close-month after 2 h 5 m",
        "subject": "schedule:4:failed",
        "alert_id": 9,
        "schedule": "close-month",
        "task_id": 17,
        "since": "2026-11-24T02:00:00Z",
        "closed_at": "2026-11-24T04:05:00Z",
        "downtime_seconds": 7500,
        "times": 2,
        "owner": "jana",
        "about": "Feeds the 08:15 mail <b>.",
        "error": "Timeout",
        "link": None,
    }


def test_the_chat_has_the_first_facts() -> None:
    assert letter("opened").chat == (
        ":red_circle: [jobs prod] FAILED close-month: Timeout after 3 attempts\n"
        "since: 2026-11-24 02:00:00 UTC (1 h 30 m)\n"
        "times: 2, the last at 2026-11-24 03:10:00 UTC\n"
        "failures in a row: 2\n"
        "attempts: 3"
    )
