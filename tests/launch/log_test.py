"""A log that has no room, or no reader, does not end what it is of."""

import os
import subprocess
import sys

import pytest

from launch.log import forgiving
from tests.launched import ROOT

TALKS = """
import sys
from launch import log
if {forgives}:
    log.forgive()
for number in range(3000):
    print("a line of progress", number, flush=True)
print("a warning", file=sys.stderr)
print("report:")
"""


def talk(forgives=True, **streams):
    words = [sys.executable, "-c", TALKS.format(forgives=forgives)]
    return subprocess.run(words, cwd=ROOT, timeout=60, **streams)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is a disk that is full")
def test_a_log_on_a_full_disk_is_told_once_and_ends_nothing():
    with open("/dev/full", "w") as full:
        done = talk(stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0
        assert done.stderr.splitlines() == [
            "warning: the log: No space left on device; the run goes on without it", "a warning",
        ]  # fmt: skip
        assert talk(stdout=full, stderr=full).returncode == 0
        assert talk(False, stdout=full, stderr=subprocess.DEVNULL).returncode != 0  # the control


def test_a_log_that_nobody_reads_any_more_ends_nothing():
    reads, writes = os.pipe()
    os.close(reads)
    done = talk(stdout=writes, stderr=subprocess.PIPE, text=True)
    os.close(writes)
    assert done.returncode == 0 and done.stderr.count("warning: the log: Broken pipe") == 1


def test_a_log_with_room_has_every_line_in_its_order(tmp_path):
    path = tmp_path / "log"
    with path.open("w", encoding="utf-8") as file:
        file.write("é before\n")
        again = forgiving(file)
        print("é after", file=again, flush=True)
    assert path.read_text(encoding="utf-8") == "é before\né after\n"
