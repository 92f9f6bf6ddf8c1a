"""Freed memory is used again: page faults of a program that runs again, by the kernel's count."""

import json
import subprocess
import sys

import pytest

from lm.core import heap
from tests.launched import ROOT, environment

SOURCE = """
import json, resource
BEFORE
import jax, jax.numpy as jnp
from lm.core import heap

@jax.jit
def program(x):  # its product, of 137 MiB, is kept in a temporary buffer
    return (jnp.tanh(x @ x.T) @ x).sum()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(x).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

x = jnp.ones((6000, 4))
many = sorted(faults() for _ in range(5))[2]
held = heap.resident()
heap.map_large_buffers()
given = held - heap.resident()
after = sorted(faults() for _ in range(5))[2]
print(json.dumps([many, given, after]))
"""


def told(before: str) -> list[int]:
    """Page faults of a run, bytes given back, page faults of a run from then on."""
    source = SOURCE.replace("BEFORE", before)
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_a_command_clears_no_page_twice_until_large_buffers_are_mapped_again():
    pages = 6000 * 6000 * 4 // 4096
    kept, given, mapped = told("import launch\nlaunch.heap.share_one_heap()")
    assert kept < pages / 50
    assert given > 6000 * 6000 * 4
    assert mapped > pages / 2
    apart, _, _ = told("import launch")  # the control: every thread with a heap of its own
    assert apart > pages / 2


def test_what_is_kept_is_given_back_above_a_share_of_the_memory(monkeypatch):
    calls = []
    monkeypatch.setattr(heap, "map_large_buffers", lambda: calls.append(1))
    monkeypatch.setattr(heap, "sharing", True)
    monkeypatch.setattr(heap, "resident", lambda: 4 * 2**30)
    monkeypatch.setattr(heap, "available", lambda: 17 * 2**30)
    heap.map_where_memory_is_short()
    assert not calls
    monkeypatch.setattr(heap, "available", lambda: 15 * 2**30)
    heap.map_where_memory_is_short()
    assert calls == [1]
    monkeypatch.setattr(heap, "sharing", False)  # nothing is kept
    heap.map_where_memory_is_short()
    assert calls == [1]
