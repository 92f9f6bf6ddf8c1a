"""Two processes with four devices each, on this machine: together at every step, or not at all."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import pytest

from experiments import gpt2
from launch.cluster import check_same_command, own_devices
from lm.core.config import bind, dump
from lm.core.mesh import MeshConfig
from lm.train import process as process_module
from lm.train.process import Process
from tests.launched import (
    ROOT,
    await_step,
    command,
    environment,
    free_port,
    losses,
    one_line,
    run,
    start,
    write_text,
)
from tests.train.squares import config, write_squares

HEARTBEAT = 10
EIGHT_ROWS = {"batch": 8}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


def pair(text, workdir, **bindings):
    """The two processes of a run."""
    shared = [
        f"--coordinator_address=localhost:{free_port()}",
        "--process_count=2",
        f"--heartbeat_timeout_seconds={HEARTBEAT}",
    ]
    return [
        start(text, workdir, *shared, f"--process_id={i}", devices=4, **EIGHT_ROWS | bindings)
        for i in range(2)
    ]


def ended(processes, seconds):
    """Exit codes; a process that does not end in time is killed and fails the test."""
    limit, codes = time.monotonic() + seconds, []
    try:
        for process in processes:
            process.communicate(timeout=max(1.0, limit - time.monotonic()))
            codes.append(process.returncode)
    finally:
        for process in processes:
            process.kill()
    return codes


def saved(workdir):
    """Steps whose save is whole."""
    return [int(file.parent.name) for file in workdir.glob("checkpoints/*/commit_success.txt")]


def close(found, expected):
    """Losses of other meshes: the same to the rounding of float32."""
    assert found.keys() == expected.keys()
    for step, value in found.items():
        wanted = float.fromhex(expected[step])
        assert abs(float.fromhex(value) - wanted) < 1e-5 * abs(wanted), step


@pytest.fixture(scope="module")
def straight(text, tmp_path_factory):
    """One process with eight devices."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    done = run(text, workdir, devices=8, **EIGHT_ROWS)
    assert done.returncode == 0, done.stderr
    return losses(workdir)


def checkpoint_steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "bindings", [{}, {"mesh.data": 2, "mesh.fsdp": 4}], ids=["data", "data and fsdp"]
)
def test_two_processes_train_together_what_one_does_and_save_it(text, straight, tmp_path, bindings):
    processes = pair(text, tmp_path / "run", **bindings)
    assert ended(processes, 200) == [0, 0]
    close(losses(tmp_path / "run"), straight)
    assert checkpoint_steps(tmp_path / "run") == [20, 30, 40]
    values = [float.fromhex(value) for value in straight.values()]
    nearest = min(abs(a - b) / a for a, b in zip(values, values[1:], strict=False))
    assert nearest > 1e-5  # another step's batch would have been seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "bindings"),
    [
        ("gpt2:tiny", {"tokenizer.kind": "bytes", "loop.sample_tokens": 4, "trigram": False,
                       "mesh.data": 2, "mesh.tensor": 4}),  # two prompts
        ("bert:tiny", {"tokenizer.vocab": 30, "instances.pairs": False, "model.hidden": 64}),
    ],
)  # fmt: skip
def test_two_processes_show_what_a_model_writes_in_rows_that_lie_on_both(
    text, tmp_path, experiment, bindings
):
    workdir, shared = tmp_path / "run", f"--coordinator_address=localhost:{free_port()}"
    sets = {"data.train": text, "data.cache": tmp_path / "cache", "model.width": 32,
            "model.heads": 4, "model.layers": 1, "batch": 8, "steps": 1,
            "evaluate_batches": 1}  # fmt: skip
    words = [f"--set={name}={value}" for name, value in (sets | bindings).items()]
    command = [sys.executable, "-m", "launch.train", f"--experiment={experiment}", shared,
               f"--workdir={workdir}", "--process_count=2", *words]  # fmt: skip
    processes = [
        subprocess.Popen(
            [*command, f"--process_id={i}"], cwd=ROOT, env=environment(4),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for i in range(2)
    ]  # fmt: skip
    assert ended(processes, 200) == [0, 0]
    assert (workdir / "summary.json").exists() and list((workdir / "samples").iterdir())


@pytest.mark.slow
def test_two_processes_measure_what_a_model_that_sees_answers_as_one_does(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    learned = config(write_squares(folder), steps=1, mesh=MeshConfig(data=2, fsdp=4))
    (tmp_path / "config.gin").write_text(dump(learned))
    address, found = f"--coordinator_address=localhost:{free_port()}", []
    for name, count in (("one", 1), ("two", 2)):
        workdir = tmp_path / name
        command = [sys.executable, "-m", "launch.train", f"--gin_file={tmp_path / 'config.gin'}",
                   f"--workdir={workdir}"]  # fmt: skip
        together = [address, f"--process_count={count}"] if count > 1 else []
        processes = [
            subprocess.Popen(
                [*command, *together, *([f"--process_id={i}"] if together else [])], cwd=ROOT,
                env=environment(8 // count), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for i in range(count)
        ]  # fmt: skip
        assert ended(processes, 300) == [0] * count
        accuracy = json.loads((workdir / "summary.json").read_text())["valid_accuracy"]
        shown = (workdir / "gallery.jsonl").read_text().splitlines()
        samples = sorted(path.read_text() for path in (workdir / "samples").iterdir())
        found.append((accuracy, [json.loads(line)["answer"] for line in shown], samples))
    assert found[0] == found[1] and len(found[0][1]) == 12 and all(found[0][2])


@pytest.mark.slow
def test_both_stop_at_one_step_on_a_signal_to_one_and_one_process_of_eight_goes_on(
    text, straight, tmp_path
):
    workdir = tmp_path / "run"
    processes = pair(text, workdir)
    await_step(workdir, 12, processes)
    told = time.monotonic()
    processes[1].send_signal(signal.SIGTERM)
    assert ended(processes, 60) == [75, 75]
    assert time.monotonic() - told < 30
    stopped = checkpoint_steps(workdir)[-1]
    assert stopped == max(losses(workdir)) >= 12  # saved where both stood
    again = run(text, workdir, devices=8, **EIGHT_ROWS)
    assert again.returncode == 0, again.stderr
    assert f"resumed from step {stopped}" in again.stdout
    close(losses(workdir), straight)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1], ids=["the coordinator", "another"])
def test_a_lost_process_ends_the_other_in_time_and_the_next_start_goes_on(
    text, straight, tmp_path, lost
):
    workdir = tmp_path / "run"
    processes = pair(text, workdir)
    await_step(workdir, 12, processes)
    limit = time.monotonic() + 60
    while not saved(workdir) and time.monotonic() < limit:  # what is kept goes on beside the steps
        time.sleep(0.01)
    told = time.monotonic()
    processes[lost].kill()
    codes = ended(processes, 120)
    assert time.monotonic() - told < HEARTBEAT + 20
    # as jax ends it, by an abort: 134 in a shell
    assert codes[lost] == -signal.SIGKILL and codes[1 - lost] == -signal.SIGABRT
    newest = max(saved(workdir))
    again = run(text, workdir, devices=8, **EIGHT_ROWS)
    assert again.returncode == 0, again.stderr
    assert f"resumed from step {newest}" in again.stdout and 10 <= newest < 40
    close(losses(workdir), straight)


@pytest.mark.slow
@pytest.mark.parametrize("other", ["text", "rate", "workdir"])
def test_processes_of_other_settings_or_texts_all_end_with_the_line_that_names_one(tmp_path, other):
    shared = [f"--coordinator_address=localhost:{free_port()}", "--process_count=2"]
    first = tmp_path / "run"
    second = tmp_path / "other" if other == "workdir" else first
    rate = {"optim.peak_lr": 0.02} if other == "rate" else {}
    processes = []
    for number, (workdir, bindings) in enumerate([(first, {}), (second, rate)]):
        host = tmp_path / f"host{number}"  # each with a text of its own under one name
        host.mkdir()
        text = write_text(host / "text.txt")
        if other == "text" and number == 1:
            text.write_text(text.read_text()[::-1])
        flags = [*shared, f"--process_id={number}"]
        words = command("text.txt", workdir, *flags, **EIGHT_ROWS | bindings)
        env = environment(4) | {"PYTHONPATH": str(ROOT)}
        processes.append(
            subprocess.Popen(words, cwd=host, env=env, stderr=subprocess.PIPE, text=True)
        )
    same = "; start every process by the same command"
    said = {
        "text": r"data: '\w+' in process 1, '\w+' in process 0; give every process the same files",
        "rate": f"optim.peak_lr: 0.02 in process 1, 0.01 in process 0{same}",
        "workdir": f"--workdir: {second} in process 1, {first} in process 0{same}",
    }[other]
    try:
        for process in processes:
            errors = process.communicate(timeout=100)[1]
            assert process.returncode == 1 and re.search(f"^error: {said}$", errors, re.M), errors
    finally:
        for process in processes:
            process.kill()
    assert not list(tmp_path.glob("*/config.gin"))  # which is of a run that began


def test_a_command_is_compared_by_its_bindings_without_caches_its_directory_and_its_commit(
    monkeypatch, tmp_path
):
    seen = []
    monkeypatch.setattr(process_module, "check_same", lambda mine, way_out: seen.append(mine))
    config = bind(gpt2.tiny(), {"data.cache": "here"})
    check_same_command(config, tmp_path, Process())
    assert not seen  # one process is of no other command
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.chdir(tmp_path)
    other = bind(config, {"data.cache": "there", "optim.peak_lr": "0.5"})
    check_same_command(config, tmp_path / "run", Process())
    check_same_command(other, (tmp_path / "run").relative_to(tmp_path), Process(restore_step=3))
    one, two = seen
    assert {name: two[name] for name in one.keys() | two if one[name] != two[name]} == {
        "optim.peak_lr": "0.5", "--restore_step": "3",
    }  # fmt: skip
    assert "the commit of lm" in one


def launched(*flags, **variables):
    """A command that ends before it has a workdir, which no folder could be."""
    words = [sys.executable, "-m", "launch.train", "--experiment=gpt2:tiny"]
    words += [f"--workdir={os.devnull}/run"]
    return subprocess.run(
        [*words, *flags], cwd=ROOT, env=environment() | variables, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def test_a_coordinator_that_does_not_answer_is_told_in_one_line():
    port = free_port()
    flags = [f"--coordinator_address=localhost:{port}", "--process_count=2", "--process_id=1"]
    done = launched(*flags, "--start_timeout_seconds=1")
    one_line(done, 134, f"process 0 does not answer at localhost:{port} after 1 s", "start it")


def test_a_process_that_never_starts_is_told_in_one_line():
    flags = [f"--coordinator_address=localhost:{free_port()}", "--process_count=2"]
    done = launched(*flags, "--process_id=0", "--start_timeout_seconds=2")
    one_line(done, 134, "not all 2 processes met", "in 2 s", "--process_count=1 to run alone")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--process_count=2", "--process_id=2"], "--process_id=2 is not below --process_count=2"),
        pytest.param(
            ["--process_count=2"],
            "no cluster was found here: give --coordinator_address=HOST:PORT",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--process_count=0"], "there is at least one process", marks=pytest.mark.slow
        ),
        (["--process_count=2", "--process_id=0"], "without --coordinator_address=HOST:PORT"),
        pytest.param(["--coordinator_address=here"], "write HOST:PORT", marks=pytest.mark.slow),
        (["--coordinator_address=here:8\u00b2"], "write HOST:PORT"),
    ],
)
def test_addresses_and_numbers_that_do_not_fit_are_refused(flags, said):
    one_line(launched(*flags), 1, said)


def test_the_environment_names_the_processes_where_flags_do_not():
    done = launched(JAX_PROCESS_COUNT="2", JAX_PROCESS_ID="5")
    one_line(done, 1, "--process_id=5 is not below --process_count=2")


JOINED = """
import logging, os, sys
from absl import flags
from launch import cluster
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
flags.FLAGS(["joined"])
cluster.join()
import jax
print("processes", jax.process_count())
"""
SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "1",
    "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
}  # fmt: skip


def test_a_process_that_slurm_starts_alone_on_its_node_has_all_devices_of_it():
    variables = SLURM | {"JAX_COORDINATOR_PORT": str(free_port())}
    words = [sys.executable, "-c", JOINED]
    done = subprocess.run(
        words, cwd=ROOT, env=environment() | variables, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "processes 1" in done.stdout, done.stderr
    assert "visible devices" not in done.stdout  # which jax says where it takes a part of them


@pytest.mark.parametrize(
    ("variables", "devices"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_NODES": "4"}, []),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_NODES": "2"}, None),
        ({"SLURM_NTASKS": "4"}, None),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, []),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, None),
        # mpirun starts one daemon a node by srun, and that the node's processes
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "8", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "2"},
         None),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NUM_NODES": "1", "JAX_LOCAL_DEVICE_IDS": "0,1"}, None),
    ],
)  # fmt: skip
def test_all_devices_of_a_node_are_of_the_one_process_on_it_or_left_to_jax(
    variables, devices, monkeypatch
):
    for name in ("SLURM_NTASKS", "SLURM_STEP_NUM_NODES", "OMPI_COMM_WORLD_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert own_devices() == devices


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_an_mpi_that_jax_does_not_know_is_told_and_no_process_runs_alone(variable):
    done = launched(**{variable: "2"})
    one_line(done, 1, f"{variable}=2, and jax does not find the others", "--coordinator_address")
