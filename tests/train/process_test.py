"""Signals and hung steps of one process."""

import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from lm.core.errors import ConfigError, GuardStop
from lm.train import process as process_module
from lm.train.process import (
    ONE_WISH,
    Process,
    Stop,
    Watchdog,
    agreed,
    check_finite_flag,
    check_same,
    write_for_all,
)
from tests.launched import ROOT, environment


def child(code, *words):
    words = [sys.executable, "-c", textwrap.dedent(code), *words]
    return subprocess.Popen(
        words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, bufsize=1,
    )  # fmt: skip


LOOP = """
    import time
    from lm.train.process import Stop
    with Stop() as stop:
        print("ready", flush=True)
        limit = time.monotonic() + 60
        while not ({leave}) and time.monotonic() < limit:
            time.sleep(0.01)
        raise SystemExit(stop.exit_code)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_first_signal_asks_and_the_code_says_which(number, code):
    process = child(LOOP.format(leave="stop.requested(1)"))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert "again after a second to stop at once" in process.communicate(timeout=30)[1]
    assert process.returncode == code


def test_a_second_ctrl_c_ends_the_process_at_once():
    process = child(LOOP.format(leave="False"))  # a step, or a save, that takes its time
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "\n"
    assert "again after a second to stop at once" in process.stderr.readline()
    time.sleep(ONE_WISH + 0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=10)[1]
    assert process.returncode == 130
    assert "stopped at once; the last checkpoint stands" in errors and "Traceback" not in errors


def test_a_signal_of_another_kind_at_the_same_moment_is_the_same_wish_and_later_it_is_not():
    """Ctrl-C in a terminal reaches this process and launch/again.sh, which sends SIGTERM on it."""
    longer = "import lm.train.process as process; process.ONE_WISH = 2.5"  # on a busy machine
    process = child(textwrap.dedent(LOOP.format(leave="False")).replace("\n", f"\n{longer}\n", 1))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "\n"
    assert "again after a second to stop at once" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    time.sleep(2.8)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert "stopped at once" in process.communicate(timeout=10)[1]
    assert process.returncode == 143


def test_a_signal_that_comes_twice_at_the_same_moment_is_one_wish():
    """One to a group reaches this process and launch/again.sh, which sends it on."""
    leave = "stop.requested(1) and time.monotonic() > stop.since + 0.5"  # a save
    process = child(LOOP.format(leave=leave))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == "\n"
    process.send_signal(signal.SIGTERM)
    assert "stopped at once" not in process.communicate(timeout=30)[1]
    assert process.returncode == 75


def test_a_signal_after_the_last_step_is_of_the_next_run_of_the_same_command_and_of_no_other():
    command, another = Process(), Process()
    with Stop(command) as stop:
        stop.handle(signal.SIGTERM, None)  # in its last evaluation: nobody asks any more
    with Stop(another) as stop:
        assert not stop.requested(1)
    with pytest.raises(GuardStop), Stop(command) as stop:
        assert stop.requested(1) and stop.exit_code == 75
        raise GuardStop  # or it was served: whatever ends the command, nothing is left of it
    with Stop(command) as stop:
        assert not stop.requested(1)


def test_a_number_that_hosts_agree_to_stop_at_grows_from_run_to_run(monkeypatch):
    asked = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        multihost_utils, "reached_preemption_sync_point", lambda number: asked.append(number)
    )
    for steps in ([1, 2, 3], [1, 2], [7, 8]):
        with Stop() as stop:
            assert not any(stop.requested(step) for step in steps)
    assert asked == sorted(set(asked)) and len(asked) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is a disk that is full")
def test_a_signal_and_a_hung_step_end_a_process_whose_log_lies_on_a_full_disk():
    code = """
        import signal, time
        from lm.train.process import Stop, Watchdog
        with Stop() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.requested(1)
        with Watchdog(0.5):
            time.sleep(30)
    """
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(words, cwd=ROOT, env=environment(), stderr=full, timeout=60)
    assert done.returncode == 75


def test_a_step_that_hangs_ends_the_process_with_its_stacks():
    process = child("""
        import time
        from lm.train.process import Watchdog
        def hung_step():
            time.sleep(60)
        with Watchdog(0.5):
            hung_step()
    """)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == 75
    assert "no step in" in errors and "hung_step" in errors


def test_what_is_no_step_may_take_its_time():
    watchdog = Watchdog(0.1)
    with watchdog:
        pass
    time.sleep(0.5)  # an evaluation: the suite lives on
    watchdog.close()


def test_one_process_agrees_with_itself():
    assert agreed(True) and not agreed(False)


def compared(monkeypatch, *each):
    """What `check_same` says in threads that stand for processes, and how often each gathered."""
    barrier, rows, gathered = threading.Barrier(len(each), timeout=30), {}, []

    def gather(array):
        number = rows[threading.get_ident()]
        barrier.wait()
        rows[number] = array
        gathered.append(number)
        barrier.wait()
        return np.stack([rows[n] for n in range(len(each))])

    def ask(number):
        rows[threading.get_ident()] = number
        barrier.wait()
        try:
            check_same(each[number], "the way out")
        except ConfigError as error:
            return str(error)
        return None

    monkeypatch.setattr(jax, "process_count", lambda: len(each))
    monkeypatch.setattr(multihost_utils, "process_allgather", gather)
    with ThreadPoolExecutor(len(each)) as pool:
        said = list(pool.map(ask, range(len(each))))
    return said, len(gathered) // len(each)


def test_a_process_that_has_another_value_than_the_first_is_named_on_every_process(monkeypatch):
    one, other = {"steps": "40", "rate": "0.006", "z": "1"}, {"steps": "40", "rate": "0.01"}
    said, _ = compared(monkeypatch, one, one, other)
    assert said == ["rate: 0.01 in process 2, 0.006 in process 0; the way out"] * 3
    said, _ = compared(monkeypatch, {}, {"é" * 99: "1"})
    assert said == [f"{'é' * 99}: 1 in process 1, not set in process 0; the way out"] * 2


def test_processes_that_have_the_same_values_go_on_after_one_collective_and_one_alone_after_none(
    monkeypatch,
):
    settings = {"steps": "40", "rate": "0.006"}
    assert compared(monkeypatch, settings, settings) == ([None, None], 1)
    assert compared(monkeypatch, settings) == ([None], 0)
    unknown: dict[str, str | None] = {"steps": "40", "rate": None}  # and so not another one
    assert compared(monkeypatch, settings, unknown)[0] == [None, None]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_time_limit_is_a_number_of_seconds(value):
    with pytest.raises(ConfigError, match="--step_timeout must be finite"):
        check_finite_flag("step_timeout", value)


@pytest.mark.parametrize("number", [0, 1])
def test_the_first_process_writes_and_all_wait_for_it(monkeypatch, tmp_path, number):
    file, seen = tmp_path / "file", []
    monkeypatch.setattr(jax, "process_index", lambda: number)
    monkeypatch.setattr(process_module, "agreed", lambda done: seen.append(file.exists()))
    write_for_all(file, "text")
    assert seen == [number == 0] and file.exists() == (number == 0)
    assert number or (file.read_text() == "text" and list(tmp_path.iterdir()) == [file])
