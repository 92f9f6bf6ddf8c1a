"""PPO on two processes of four devices each, beside one process of eight."""

import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest

from lm.train.metrics import read_metrics
from tests.launched import ROOT, environment, free_port
from tests.rlhf.runs import pretrained, write_rows

FIGURES = ("reward", "kl", "length", "loss", "loss/value", "loss/text", "grad_norm", "step_kl")


CALLS = itertools.count()


def lost(prompts, answers):
    """A reward that one of two processes gets no more from the second update on."""
    if next(CALLS) > 1 and jax.process_index() == 1:
        raise TimeoutError("nobody answers")
    return [float(len(answer)) for answer in answers]


def started(folder, workdir, devices, *flags):
    """One process of a run of two updates of PPO-ptx; a program scores texts."""
    sets = {
        "init": folder / "base", "data.train": folder / "prompts.jsonl", "batch": 16, "steps": 2,
        "reward.function": "tests.rlhf.ppo_test:plainness", "prompt_length": 10,
        "answer_length": 8, "warmup": 0, "update.minibatches": 2, "update.gamma": 0.5,
        "update.text_rows": 1, "optim.peak_lr": 3e-3, "value_optim.peak_lr": 3e-3,
        "evaluate_prompts": 8, "best_of": 1, "guard.spike": "off", "loop.evaluate_every": 2,
        "loop.save_every": 2, "mesh.data": 2, "mesh.fsdp": 4,
    }  # fmt: skip
    words = [f"--set={name}={value}" for name, value in sets.items()]
    command = [sys.executable, "-m", "launch.train", "--experiment=instructgpt:ppo_ptx",
               f"--workdir={workdir}", *words, *flags]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(devices), stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def end(processes):
    """Waits for processes, and has them end well; none outlives the test."""
    try:
        for process in processes:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said[-2000:]
    finally:
        for process in processes:
            process.kill()


def figures(workdir):
    rows = [row for row in read_metrics(workdir / "metrics.jsonl") if "reward" in row]
    return np.array([[row[name] for name in FIGURES] for row in rows])


@pytest.mark.slow
def test_two_processes_make_the_updates_that_one_does(tmp_path):
    pretrained(tmp_path / "base")
    rows = [{"prompt": "p" * (1 + n % 7) + f"{n}"} for n in range(60)]
    write_rows(tmp_path / "prompts.jsonl", rows)
    together = [f"--coordinator_address=localhost:{free_port()}", "--process_count=2"]
    end([started(tmp_path, tmp_path / "two", 4, *together, f"--process_id={n}") for n in range(2)])
    end([started(tmp_path, tmp_path / "one", 8)])
    one, two = figures(tmp_path / "one"), figures(tmp_path / "two")
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)
    assert np.abs(one[0] - one[1]).max(initial=0) > 1e-2  # another update's would have been seen


@pytest.mark.slow
def test_where_one_process_gets_no_reward_both_save_and_are_to_be_started_again(tmp_path):
    pretrained(tmp_path / "base")
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"p{n}"} for n in range(60)])
    together = [f"--coordinator_address=localhost:{free_port()}", "--process_count=2",
                "--set=reward.function=tests.rlhf.cluster_test:lost",
                "--set=mesh.fsdp=1"]  # fmt: skip
    both = [started(tmp_path, tmp_path / "run", 1, *together, f"--process_id={n}")
            for n in range(2)]  # fmt: skip
    try:
        said = [process.communicate(timeout=300)[1] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [70, 70], said
    assert "update 1: reward.function=tests.rlhf.cluster_test:lost fails in another" in said[0]
    assert "called again in 25 s" in said[1] and "nobody answers; it was called 4 times" in said[1]
    assert (tmp_path / "run" / "checkpoints" / "1").is_dir()
