"""Is the service in order: its backends, clocks and parts, and the promises as queries that must find nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError
from sqlalchemy.orm import Session

from scheduler.broker.connection import answering
from scheduler.broker.waiting_room import WaitingRoom
from scheduler.clock import utc_now
from scheduler.engine.answers.status import (
    MAIL_STUCK_AFTER,
    SILENT_AFTER,
    alive,
    files_not_in_force,
    open_alerts,
    parked_schedules,
    parts_of,
    stalled,
)
from scheduler.engine.check.invariants import INVARIANTS, REDIS_INVARIANTS, offenders, redis_offenders
from scheduler.errors import RedisAway
from scheduler.rules.brief import brief
from scheduler.rules.states import KINDS
from scheduler.store import outbox, schedules
from scheduler.store.database import Database
from scheduler.store.migrate import is_current

CLOCK_LIMIT = dt.timedelta(seconds=2)
SHOWN = 5  # offenders named in a message
START = {
    "dispatcher": "Start one: `scheduler up`, or `scheduler start dispatcher`.",
    "keeper": "Start one: `scheduler up`, or `scheduler start keeper`.",
    "web": "Start one: `scheduler up`, or `scheduler start web`.",
}


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    ok: bool
    message: str
    remedy: str = ""  # how to mend it; "" when there is nothing to mend
    count: int = 0  # of what is wrong


def examine(database: Database, room: WaitingRoom | None) -> list[Finding]:
    """All checks, in the order in which to mend what is wrong; nothing about Redis without `room`.

    Raises DatabaseAway.
    """
    if not is_current(database):
        remedy = "Bring it there: `scheduler up`, or any part that starts, does."
        return [Finding("sql", False, f"{database.place} is not of the version this program needs", remedy, 1)]
    findings = [Finding("sql", True, f"{database.place} answers and has the version this program needs")]
    answers = False
    if room is not None:
        asked = list(redis_findings(room))
        findings += asked
        answers = asked[0].ok
    findings += _clocks(database, room if answers else None)
    findings += _parts(database)
    findings += _mail(database)
    findings += broken_or_not(database, room if answers else None)
    return findings


def broken_invariants(database: Database, room: WaitingRoom | None) -> list[Finding]:
    """The promises that do not hold; empty when all is well. Raises DatabaseAway, RedisAway."""
    return [finding for finding in broken_or_not(database, room) if not finding.ok]


def broken_or_not(database: Database, room: WaitingRoom | None) -> list[Finding]:
    """A finding for each promise that the tables, and Redis when there is `room`, can answer for."""
    findings = []
    for invariant in INVARIANTS:
        with database.read() as session:  # one by one: a look must not hold the database's past for long
            findings.append(_judged(invariant, offenders(session, invariant)))
    for redis_invariant in REDIS_INVARIANTS if room is not None else ():
        assert room is not None
        with database.read() as session:
            findings.append(_judged(redis_invariant, redis_offenders(session, room, redis_invariant)))
    return findings


def _judged(invariant: Any, found: list[str]) -> Finding:
    if not found:
        return Finding(invariant.name, True, invariant.promise)
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    message = f"not true that {invariant.promise}: {'; '.join(found[:SHOWN])}{more}"
    return Finding(invariant.name, False, message, invariant.remedy, len(found))


# --- Redis ----------------------------------------------------------------------------------------------------------


def redis_findings(room: WaitingRoom) -> Iterator[Finding]:
    """Whether Redis answers, and how it is set up; the first says the former."""
    try:
        with answering(room.redis):
            info: dict[str, Any] = room.redis.info()
    except RedisAway as error:
        yield Finding("redis", False, str(error), "Nothing is lost: what is due starts when it is back.", 1)
        return
    yield Finding("redis", True, f"answers, version {info.get('redis_version', 'unknown')}")
    policy = str(info.get("maxmemory_policy", "unknown"))
    limit = int(info.get("maxmemory", 0) or 0)
    evicts = policy != "noeviction"
    yield Finding(
        "redis-memory",
        not evicts,
        f"maxmemory-policy is {policy}, maxmemory {limit:,} bytes" if limit else f"maxmemory-policy is {policy}",
        "Set `maxmemory-policy noeviction`: a Redis that evicts loses jobs until the keeper puts them back."
        if evicts
        else "",
        int(evicts),
    )
    yield _persistence(room, info)


def _persistence(room: WaitingRoom, info: dict[str, Any]) -> Finding:
    failing = [
        name for name in ("rdb_last_bgsave_status", "aof_last_write_status") if str(info.get(name, "ok")) != "ok"
    ]
    if failing:
        remedy = "See its log and its disk: a Redis that cannot write its file refuses writes."
        return Finding("redis-persistence", False, f"{', '.join(failing)}: not ok", remedy, len(failing))
    if info.get("aof_enabled"):
        return Finding("redis-persistence", True, "keeps an append-only file")
    try:
        with answering(room.redis):
            saves = room.redis.config_get("save").get("save")
    except (ResponseError, RedisError, RedisAway):  # many hosted servers keep CONFIG to themselves
        return Finding("redis-persistence", True, "not told; if it keeps nothing, it is filled again from SQL")
    if saves:
        return Finding("redis-persistence", True, f"saves its memory now and then ({saves})")
    return Finding("redis-persistence", True, "keeps nothing over a restart; it is filled again from SQL")


# --- clocks ---------------------------------------------------------------------------------------------------------


def _clocks(database: Database, room: WaitingRoom | None) -> list[Finding]:
    """How far this host's clock is from those of SQL and Redis."""
    before = utc_now()
    with database.read() as session:
        theirs = schedules.now(session)
    differences = {"SQL": theirs - _middle(before, utc_now())}
    if room is not None:
        before = utc_now()
        with answering(room.redis):
            seconds, micros = room.redis.time()
        theirs = dt.datetime.fromtimestamp(seconds, dt.UTC) + dt.timedelta(microseconds=micros)
        differences["Redis"] = theirs - _middle(before, utc_now())
    if len(differences) == 2:
        differences["Redis against SQL"] = differences["Redis"] - differences["SQL"]
    return [_clock(differences)]


def _clock(differences: dict[str, dt.timedelta]) -> Finding:
    wrong = {name: by for name, by in differences.items() if abs(by) > CLOCK_LIMIT}
    told = ", ".join(
        f"{name} {'ahead' if by > dt.timedelta(0) else 'behind'} by {brief(by)}" for name, by in wrong.items()
    )
    if not wrong:
        asked = "this host, SQL and Redis" if "Redis" in differences else "this host and SQL"
        return Finding("clocks", True, f"{asked} agree within 2 s")
    return Finding("clocks", False, f"clocks differ: {told}", "Set the clocks of all hosts by NTP.", len(wrong))


def _middle(before: dt.datetime, after: dt.datetime) -> dt.datetime:
    return before + (after - before) / 2


# --- parts ----------------------------------------------------------------------------------------------------------


def _parts(database: Database) -> list[Finding]:
    with database.read() as session:
        seen = parts_of(session, schedules.now(session))
        queues = _queues(session)
        parked = parked_schedules(session)
        files = files_not_in_force(session, seen)
    findings = [_ticking(seen, part, START[part]) for part in ("dispatcher", "keeper")]
    for timer, age in stalled(seen).items():
        since = f"last got through {brief(dt.timedelta(seconds=age))} ago" if age is not None else "never got through"
        findings.append(Finding(timer, False, f"the keeper's {timer} {since}", "See the keeper's log.", 1))
    for kind in KINDS:
        remedy = f"Start one: `scheduler up`, or `scheduler start worker --kind {kind}`."
        findings.append(_ticking(seen, f"worker-{kind}", remedy, f" on queue {queues.get(kind, kind)}"))
    if any(one["part"] == "web" for one in seen):  # it may be left out; one that died may not
        findings.append(_ticking(seen, "web", START["web"]))
    return [*findings, *map(_file, files), _parked(parked)]


def _file(found: dict[str, Any]) -> Finding:
    """A difference alone is no fault: it is what a rollback leaves."""
    told = f"on {found['host']}: {found['message']}"
    remedy = "Mend the file, or bring it in line: `scheduler history N --text` prints the text of a revision."
    return Finding("file", not found["refused"], told, remedy if found["refused"] else "", int(found["refused"]))


def _ticking(seen: list[dict[str, Any]], part: str, remedy: str, where: str = "") -> Finding:
    ages = [float(one["seconds_since_tick"]) for one in seen if one["part"] == part]
    if alive(seen, part):
        number = sum(age <= SILENT_AFTER.total_seconds() for age in ages)
        several = f"{number} tick" if number > 1 else "ticks"
        return Finding(part, True, f"{several}{where}, last {brief(dt.timedelta(seconds=min(ages)))} ago")
    silent = f"silent for {brief(dt.timedelta(seconds=min(ages)))}" if ages else "none has ticked"
    return Finding(part, False, f"{silent}{where}", remedy, 1)


def _parked(found: list[dict[str, Any]]) -> Finding:
    if not found:
        return Finding("schedules", True, "none is parked")
    told = "; ".join(f"{one['schedule']} is parked: {one['why']}" for one in found[:SHOWN])
    remedy = "Mend what the reason names, and apply the file again."
    return Finding("schedules", False, told, remedy, len(found))


# --- alerts and mail ------------------------------------------------------------------------------------------------


def _mail(database: Database) -> list[Finding]:
    """An open alert is no fault of the service; a message that nobody got is."""
    with database.read() as session:
        now = schedules.now(session)
        counts = outbox.counts(session, now)
        lost = outbox.newest_given_up(session, now) if counts.given_up else None
        return [_alerts(open_alerts(session)), _outbox(counts, lost)]


def _alerts(found: dict[str, Any]) -> Finding:
    number = found["open"]
    if not number:
        return Finding("alerts", True, "none is open")
    named = [" ".join(filter(None, (one["event"].replace("_", " "), one["about"]))) for one in found["newest"][:SHOWN]]
    more = f"; and {number - len(named)} more" if number > len(named) else ""
    return Finding("alerts", True, f"{number} open, the newest: {'; '.join(named)}{more}")


def _outbox(counts: outbox.Counts, lost: outbox.GivenUp | None) -> Finding:
    if lost is not None:
        messages = "1 message was" if counts.given_up == 1 else f"{counts.given_up:,} messages were"
        told = f"{messages} given up within 24 h, the last to {lost.contact or 'an address'}: {lost.why}"
        remedy = "Mend the reason and see by `scheduler mail test` whether mails arrive; what was given up stays so."
        return Finding("mail", False, told, remedy, counts.given_up)
    if counts.oldest is not None and counts.oldest > MAIL_STUCK_AFTER:
        told = f"{counts.waiting:,} waiting, the oldest for {brief(counts.oldest)}: {counts.last_error or 'not tried'}"
        return Finding("mail", False, told, "Mend the reason; each is tried again for 24 h.", counts.waiting)
    return Finding("mail", True, f"{counts.waiting:,} waiting, none given up within 24 h")


def _queues(session: Session) -> dict[str, str]:
    """The queue of each kind, by the file in force."""
    revision = schedules.latest_revision(session)
    kinds: dict[str, Any] = (revision.book.get("kinds") or {}) if revision else {}
    return {kind: str(found["queue"]) for kind, found in kinds.items()}
