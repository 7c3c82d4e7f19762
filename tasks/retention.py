"""Deletes what the service need not keep any longer. The service's own task function: it works on SQL."""

from __future__ import annotations

from typing import Any

from scheduler import log, progress, task
from tasks.commons import raise_when_stopped, whole_number

MOST_DAYS = 36_500
MOST_AT_ONCE = 5000


@task(kind="long")
def retention(days: int | None = None, failed_days: int | None = None, batch: int = 500) -> dict[str, Any]:
    """Delete ended tasks that are old enough, with all that belongs to them, records of gaps, and the old audit.

    A task is kept for the days of its schedule's `keep`; else for `days`, or `failed_days` when it did not succeed;
    else for the settings keep_days and keep_failed_days. The schedule may be retired: the same holds. What has not
    ended stays, and so does the last ended task of each schedule. Deleting never lets a fire time come again.

    `batch` rows, 1 to 5000, are deleted in one transaction, with a pause after each. Returns {deleted: {kind: {state:
    count}}, tasks, gaps, audit_lines, leftovers}; leftovers are the folders of files that no artifact names any more.
    When asked to stop it raises Stopped; what was deleted by then stays deleted.
    """
    for name, value in (("days", days), ("failed_days", failed_days)):
        if value is not None:
            whole_number(name, value, 1, MOST_DAYS)
    whole_number("batch", batch, 1, MOST_AT_ONCE)
    # Only here: these bring SQL and Redis along, which other task functions have no use for.
    from scheduler.engine.retention import delete_old, delete_old_audit
    from scheduler.engine.service_tasks import service_backends
    from scheduler.engine.work.artifacts import sweep

    with service_backends() as backends:
        settings = backends.settings
        deleted = delete_old(
            backends.database,
            settings.data,
            days=days or settings.keep_days,
            failed_days=failed_days or settings.keep_failed_days,
            batch=batch,
            watch=_watch,
        )
        deleted.audit_lines = delete_old_audit(backends.database, days=settings.keep_audit_days, batch=batch)
        leftovers = sweep(backends.database, settings)
    told = {**deleted.as_json(), "leftovers": leftovers}
    log.info(
        "%d old tasks and %d gaps deleted",
        told["tasks"],
        told["gaps"],
        extra={"event": "old_tasks_deleted", "tasks": told["tasks"]},
    )
    return told


def _watch(looked: int, total: int, deleted: int) -> None:
    progress(looked, total, f"{deleted:,} old tasks deleted")
    raise_when_stopped(f"after {deleted:,} old tasks were deleted")
