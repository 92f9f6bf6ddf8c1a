"""The commands of the README exist: their modules, their flags, their experiments."""

import re
import shlex
from pathlib import Path

import pytest

from launch import experiment

ROOT = Path(__file__).parents[1]
COMMANDS = re.findall(r"^python -m (launch\.\w+) (.*)$", (ROOT / "README.md").read_text(), re.M)


@pytest.mark.parametrize("module, line", COMMANDS)
def test_a_command_of_the_readme_names_what_exists(module, line):
    source = (ROOT / (module.replace(".", "/") + ".py")).read_text()
    shared = re.findall(r"^from launch import (.+)$", source, re.M)  # whose flags it has too
    for name in ["experiment", *", ".join(shared).split(", ")]:
        if name:
            source += (ROOT / "launch" / f"{name}.py").read_text()
    for word in shlex.split(line):
        flag, _, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            assert f'"{flag}"' in source, f"{module} has no --{flag}"
        if flag == "experiment":
            experiment.resolve(value)


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 5
