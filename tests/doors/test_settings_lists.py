"""Settings that are lists: from a file, from the environment, and on to the processes that are to see the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.errors import SettingFault
from scheduler.settings import Settings, environment_of, load_settings


def test_the_programs_that_may_be_run_come_from_file_or_environment_and_go_on(tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text('allowed_commands = ["rsync", "/opt/close month"]\n')

    from_file = load_settings(environment={}, file=file)
    from_environment = load_settings(environment={"SCHEDULER_ALLOWED_COMMANDS": "ls, *"}, file=file)

    assert from_file.allowed_commands == ("rsync", "/opt/close month")
    assert from_environment.allowed_commands == ("ls", "*")
    assert (
        load_settings(environment=environment_of(from_file), file=file).allowed_commands == from_file.allowed_commands
    )
    assert "SCHEDULER_ALLOWED_COMMANDS" not in environment_of(Settings())


@pytest.mark.parametrize("given", ["../sh", "./sh", "a b", "ls,,cat", "ls;cat"])
def test_what_is_no_program_is_refused(given: str, tmp_path: Path):
    with pytest.raises(SettingFault) as fault:
        load_settings(environment={"SCHEDULER_ALLOWED_COMMANDS": given}, file=tmp_path / "none.toml")

    assert str(fault.value) == (
        f'allowed_commands is "{given}" (from SCHEDULER_ALLOWED_COMMANDS): '
        "give names of programs or their whole paths, separated by commas; * for all"
    )
