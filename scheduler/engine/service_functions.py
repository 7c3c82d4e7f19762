"""The service's own task functions; every catalogue has them, whatever task packages are set.

They stand here and not in tasks/, since they work on the tables, which a guest does not.
"""

from __future__ import annotations

from typing import Any

from scheduler.context import current_run
from scheduler.task_functions import task


@task(kind="scheduled", description="Makes the issue of a digest that is due, and queues it to be sent.")
def status_digest(digest: str) -> dict[str, Any]:
    """Makes the issue of a digest that is due, and queues it to be sent; made again, it changes nothing."""
    # Here, because the catalogue imports this module at every command, and SQLAlchemy takes half a second.
    from scheduler.engine.mail.digest import issue
    from scheduler.engine.service_tasks import service_backends

    run = current_run()
    with service_backends() as backends:
        issued = issue(
            backends.database,
            backends.settings,
            digest,
            until=run.fire_time if run else None,
            task_id=run.task_id if run else None,
        )
    return issued.as_json()
