"""Where each setting of a schedule comes from."""

from __future__ import annotations

from scheduler.rules.file.setting_sources import file_keys, resolved_settings
from scheduler.rules.file.yaml_reader import read_yaml
from scheduler.task_functions import TaskFunction
from tests.builders import a_book

TEXT = """
defaults: {grace: 5m, owner: ops, retry: gentle, tags: [all]}
kinds:
  long: {queue: heavy, timeout: 2h, max_running: 2}
schedules:
  close-month:
    task: make_pictures
    kind: long
    args: {source: a.jpg, api_token: abcdef-secret}
    when: {at: "19:30"}
    owner: bob
    timezone: Europe/Berlin
  nightly: {task: count_words, when: {every: 5m}}
"""


def sources(name: str, function: TaskFunction | None = None) -> dict[str, tuple[str, str]]:
    book, whole = a_book(TEXT)
    keys = file_keys(read_yaml(whole, "schedules.yaml").data)
    return {one.key: (one.value, one.source) for one in resolved_settings(book.schedules[name], keys, function)}


def test_what_the_entry_says_comes_before_defaults_kind_and_what_is_built_in() -> None:
    found = sources("close-month")

    assert found["owner"] == ("bob", "schedule")
    assert found["timezone"] == ("Europe/Berlin", "schedule")
    assert found["grace"] == ("5 minutes", "defaults")
    assert found["queue"] == ("heavy", "kind long")
    assert found["max_running"] == ("2", "kind long")
    assert found["timeout"] == ("soft 2 hours; hard 2 hours and 10 seconds", "kind long")
    assert found["overlap"] == ("skip", "built in")
    assert found["retry"] == ("gentle: 3 attempts, exponential from 30 seconds up to 10 minutes", "defaults")


def test_what_is_not_set_is_left_out_and_secrets_are_masked() -> None:
    found = sources("close-month")

    assert "pause_after" not in found
    assert "paused" not in found
    assert found["args"] == ("source a.jpg; api_token ***", "schedule")


def test_the_zone_is_the_files_and_the_task_function_may_set_some() -> None:
    function = TaskFunction("count_words", lambda: None, timeout="1h", retry="stubborn")

    found = sources("nightly", function)

    assert found["timezone"] == ("UTC", "file")
    assert (found["timeout"][1], found["retry"][1], found["kind"][1]) == ("task function", "task function", "built in")


def test_of_a_file_that_is_no_mapping_nothing_is_known() -> None:
    assert file_keys(None) == file_keys([1]) == file_keys({"schedules": [], "defaults": 3})
