from __future__ import annotations

import jsonschema
import pytest
from pydantic import BaseModel

from scheduler.rules.file.grammar import FileEntry, ScheduleEntry
from scheduler.rules.file.grammar_values import Sheet
from scheduler.rules.file.yaml_reader import read_yaml
from tests.rules.file.sample_file import SAMPLE


def all_sheets(root: type[BaseModel] = Sheet) -> list[type[BaseModel]]:
    return [sheet for child in root.__subclasses__() for sheet in (child, *all_sheets(child))]


@pytest.mark.parametrize("sheet", all_sheets(), ids=lambda sheet: sheet.__name__)
def test_every_key_says_in_the_editor_what_it_is_for(sheet: type[BaseModel]) -> None:
    assert sheet.__doc__
    assert [name for name, field in sheet.model_fields.items() if not field.description] == []


def test_required_keys_of_a_schedule_are_task_and_when() -> None:
    assert ScheduleEntry.model_json_schema()["required"] == ["task", "when"]


def test_the_schema_for_editors_takes_the_sample_and_refuses_a_typo() -> None:
    schema = FileEntry.model_json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    sample = read_yaml(SAMPLE, "x.yaml").data

    assert [error.message for error in validator.iter_errors(sample)] == []

    sample["schedules"]["mail-flush"]["rety"] = "none"
    assert not validator.is_valid(sample)


def test_the_schema_for_editors_refuses_a_bad_name() -> None:
    validator = jsonschema.Draft202012Validator(FileEntry.model_json_schema())
    sample = read_yaml(SAMPLE, "x.yaml").data
    sample["schedules"]["Mail Flush"] = sample["schedules"]["mail-flush"]

    assert not validator.is_valid(sample)
