"""The commands of the README, and of pages and docstrings, are of what exists: their modules, their
flags, their experiments with what is bound in them."""

import re
import shlex
from pathlib import Path

import pytest

from launch import experiment
from lm.core.config import assignment, bind

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


def documented():
    """Every command that names an experiment, and where it stands."""
    folders = ("launch/*.py", "experiments/*.py", "lm/**/*.py", "results/*.md")
    for path in (ROOT / "README.md", *(path for each in folders for path in ROOT.glob(each))):
        text = re.sub(r"\\{1,2}\n\s*", " ", path.read_text())
        for line in re.findall(r"python -m (launch\.\w+ [^`\n]*--experiment=[^`\n]*)", text):
            yield path.relative_to(ROOT), line


@pytest.mark.parametrize("where, line", list(documented()))
def test_a_documented_command_binds_what_its_experiment_has(where, line):
    words = shlex.split(re.sub(r"(--(?:set|experiment)) ", r"\1=", line), comments=True)
    values = {flag: [word.removeprefix(flag) for word in words if word.startswith(flag)]
              for flag in ("--experiment=", "--set=")}  # fmt: skip
    for name in values["--experiment="]:
        if ":" in name:  # or it stands for one, as EXPERIMENT does
            bind(experiment.resolve(name), dict(map(assignment, values["--set="])))


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 5
    assert len(list(documented())) >= 80
