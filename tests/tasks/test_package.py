"""The package's promise: `from tasks import …` gives functions, and each file is found by its name as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tasks
from scheduler.task_functions import find_task_functions

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("count_words", "create_image_set", "send_mail")

ORDERS = {
    "functions first": "from tasks import send_mail; import importlib; m = importlib.import_module('tasks.send_mail')",
    "file first": "import importlib; m = importlib.import_module('tasks.send_mail'); from tasks import send_mail",
    "discovery first": (
        "from scheduler.task_functions import find_task_functions; find_task_functions(['tasks']);"
        "import importlib; m = importlib.import_module('tasks.send_mail'); from tasks import send_mail"
    ),
    "name in the file": (
        "from tasks.send_mail import send_mail as same; from tasks import send_mail; assert same is send_mail;"
        "import sys; m = sys.modules['tasks.send_mail']"
    ),
    "package": (
        "import tasks, tasks.send_mail; send_mail = tasks.send_mail; import sys; m = sys.modules['tasks.send_mail']"
    ),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_in_whichever_order_they_are_imported_the_name_is_the_function(order: str):
    program = f"{order}\nprint(type(send_mail).__name__, type(m).__name__, m.send_mail is send_mail)"

    # A process of its own: here everything is imported already.
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)

    assert (done.stdout, done.stderr) == ("function module True\n", "")


def test_all_task_functions_are_found_by_name():
    catalogue = find_task_functions(["tasks"])

    assert dict(catalogue.broken) == {}
    # status_digest is the service's own, and no guest (scheduler/engine/service_functions.py).
    assert sorted(catalogue.functions) == sorted([*tasks.__all__, "status_digest"])
    assert catalogue.functions["create_image_set"].kind == "long"
    assert [catalogue.functions[name].description for name in NAMES] == [
        "The words of a text file or web page: how many, how many different ones, and the most frequent.",
        "The picture `source` in each of `sizes` and `formats`, as files below the data folder.",
        "Send a mail; without an SMTP server in the settings it becomes an .eml file in the outbox folder.",
    ]


def test_importing_them_is_quick_enough_for_every_worker():
    program = "import sys, tasks; print(sorted({'rq', 'redis', 'sqlalchemy', 'pydantic'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)

    assert (done.stdout, done.stderr) == ("[]\n", "")
