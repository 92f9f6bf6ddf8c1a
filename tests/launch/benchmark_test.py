import re
import subprocess
import sys

import pytest


def benchmark(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-X", "importtime", "-m", "launch.benchmark", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_does_not_import_jax():
    done = benchmark("--help")
    assert done.returncode == 0
    assert "--only" in done.stdout
    imported = re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE)
    assert "absl.flags" in imported
    assert "jax" not in imported


def test_an_unknown_group_is_named_beside_the_known_ones():
    done = benchmark("--only=trian")
    assert done.returncode == 1
    known = "train, bert, decode, data, memory, save, startup"
    assert f"--only=trian: choose among {known}" in done.stderr


@pytest.mark.parametrize("name", ["", "absent/figure.svg", "file/figure.svg"])
def test_a_figure_that_cannot_be_written_is_one_line_before_anything_is_measured(tmp_path, name):
    (tmp_path / "file").write_text("")
    done = benchmark("--only=attention", f"--figure={tmp_path / name}")
    assert done.returncode == 1 and done.stdout == ""
    assert f"--figure={tmp_path / name} cannot be written" in done.stderr.splitlines()[-1]
