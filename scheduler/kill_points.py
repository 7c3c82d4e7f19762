"""The steps at which tests kill, stop or hold a process, to see that nothing is lost there; no-ops in production.

SCHEDULER_POINT says what is to happen where: `planner.after_commit=kill,child.after_claim=sleep:2@3`. What can happen:
kill, stop (SIGKILL and SIGSTOP of the process that gets there), raise, wait:FILE (until FILE is there), sleep:SECONDS;
`@3` means the third time that a process gets there instead of the first. `any` stands for all points, counted together.
With SCHEDULER_POINT_FOLDER each entry leaves an empty file of the point's name in that folder, and happens once for all
processes; without it, once in each.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from scheduler.errors import SchedulerError, SettingFault

POINTS = frozenset(
    {
        "planner.before_begin",
        "planner.after_insert",  # rows written, not committed
        "planner.after_commit",  # not yet in Redis
        "planner.after_register",
        "dispatcher.before_script",
        "dispatcher.after_script",  # moved, not remembered for a mark
        "dispatcher.before_mark",
        "dispatcher.after_mark",
        "worker.after_fork",  # in the parent
        "worker.after_renewal",
        "worker.after_death",  # the child is reaped, the end of its attempt not recorded
        "child.after_take",
        "child.before_claim",
        "child.after_claim",
        "child.before_call",
        "child.after_call",
        "child.after_end",  # committed; RQ does not know yet
        "outcomes.before_commit",
        "outcomes.before_register",
        "reconcile.after_silent",
        "reconcile.after_late",
        "reconcile.after_read",
        "reconcile.mid_repair",
        "reconcile.after_repair",
        "mailer.after_accept",  # the server has taken it, the row does not say so yet
        "mailer.after_mark",
        "alerts.before_commit",  # alerts and messages are written, what was heard is deleted, not committed
        "alerts.after_commit",
        "migrate.mid",  # after each script, none of which is committed
        "apply.after_turn",
        "apply.after_version",  # the revision and its rows are written, not committed
        "apply.after_commit",
    }
)
ANY = "any"
ACTIONS = ("kill", "stop", "raise", "wait", "sleep")


class PointReached(SchedulerError):
    """A point was reached at which SCHEDULER_POINT wants an error."""


@dataclass(frozen=True)
class Order:
    """What is to happen at a point, the `nth` time a process gets there."""

    point: str
    action: str
    value: str = ""
    nth: int = 1


def read_orders(text: str) -> dict[str, Order]:
    """The orders by point. Raises SettingFault.

    >>> read_orders("child.after_claim=sleep:2@3")["child.after_claim"]
    Order(point='child.after_claim', action='sleep', value='2', nth=3)
    """
    orders = {}
    for entry in filter(None, (one.strip() for one in text.split(","))):
        name, _, rest = entry.partition("=")
        what, _, nth = rest.partition("@")
        action, _, value = what.partition(":")
        if name not in POINTS and name != ANY:
            raise SettingFault(f'SCHEDULER_POINT: there is no point "{name}". Known: {", ".join(sorted(POINTS))}')
        if action not in ACTIONS or not (nth or "1").isdecimal() or (action in ("wait", "sleep")) != bool(value):
            raise SettingFault(f'SCHEDULER_POINT: "{entry}": give kill, stop, raise, wait:FILE or sleep:SECONDS')
        orders[name] = Order(name, action, value, int(nth or 1))
    return orders


_orders: dict[str, Order] | None = read_orders(os.environ.get("SCHEDULER_POINT", "")) or None
_reached: Counter[str] = Counter()


def give_orders(text: str) -> None:
    """Forget the orders that the environment gave, and count anew: for a test that has forked this process."""
    global _orders
    _orders = read_orders(text) or None
    _reached.clear()


def point(name: str) -> None:
    """Here a test may end or hold this process."""
    if _orders is not None:
        _reach(name, _orders)


def _reach(name: str, orders: dict[str, Order]) -> None:
    for known in (name, ANY):
        _reached[known] += 1
        order = orders.get(known)
        if order is not None and _reached[known] == order.nth and _is_first(order, name):
            _obey(order, name)


def _is_first(order: Order, name: str) -> bool:
    """Whether no other process has obeyed this order yet; leaves the mark that it is obeyed now."""
    folder = os.environ.get("SCHEDULER_POINT_FOLDER")
    if not folder:
        return True
    path = Path(folder) / order.point
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    if order.point == ANY:
        path.write_text(name)
    return True


def _obey(order: Order, name: str) -> None:
    if order.action in ("kill", "stop"):
        os.kill(os.getpid(), signal.SIGKILL if order.action == "kill" else signal.SIGSTOP)
    elif order.action == "raise":
        raise PointReached(f"{name}: an error as SCHEDULER_POINT wants it")
    elif order.action == "sleep":
        time.sleep(float(order.value))
    else:
        while not Path(order.value).exists():
            time.sleep(0.02)
