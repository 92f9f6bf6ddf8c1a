"""The three steps from one command: what they leave, and that the command goes on where it was."""

import json
import random
import shutil
import subprocess
import sys

import pytest

from tests.launched import ROOT, environment, one_line
from tests.rlhf.runs import pretrained, write_rows

WORDS = "we you they see hear find a the some red blue old new house tree cat dog bird".split()


def sentences(count):
    """Instructions, and answers of a few words with a full stop."""
    chosen = random.Random(0)
    rows = []
    for number in range(count):
        answer = " ".join(chosen.choice(WORDS) for _ in range(chosen.randint(2, 6)))
        rows.append({"instruction": f"say {number}", "input": "", "output": answer + "."})
    return rows


def launched(folder, *flags):
    steps = {f"{stage}.loop.{when}_every": 8 for stage in ("sft", "reward", "ppo", "ppo_ptx")
             for when in ("evaluate", "save")}  # fmt: skip
    sizes = {f"{name}.{field}": value for name in ("ppo", "ppo_ptx")
             for field, value in (("prompt_length", 16), ("answer_length", 32), ("steps", 16),
                                  ("best_of", 4), ("evaluate_prompts", 16))}  # fmt: skip
    sets = steps | sizes | {
        "init": folder / "base", "demonstrations": folder / "rows.jsonl", "sft.length": 48,
        "reward.length": 48, "sft.steps": 60, "sft.optim.peak_lr": 5e-3, "labeling.prompts": 192,
        "sft.loop.sample_tokens": 16, "reward.epochs": 3.0, "reward.optim.peak_lr": 5e-3,
    }  # fmt: skip
    words = [f"--set={name}={value}" for name, value in sets.items()]
    command = [sys.executable, "-m", "launch.train", "--experiment=instructgpt:pipeline",
               f"--workdir={folder / 'run'}", *words, *flags]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    pretrained(folder / "base")
    write_rows(folder / "rows.jsonl", sentences(300))
    done = launched(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_one_command_leaves_four_runs_and_one_report(folder):
    run = folder / "run"
    for name in ("sft", "reward", "ppo", "ppo_ptx"):
        assert (run / name / "summary.json").exists() and (run / name / "report.html").exists()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["reward model: valid_accuracy"] > 0.55
    assert "RM 6B, held-out labelers" in (run / "report.html").read_text()
    assert 0.5 < summary["reward model: bayes_accuracy"] <= 1.0
    assert summary["PPO: valid_reward"] > summary["SFT: valid_reward"]
    page = (run / "report.html").read_text()
    for title in ("Reward against KL", "Gold score against KL", "Answers to the same prompts",
                  "Loss on pre-training text"):  # fmt: skip
        assert title in page
    rankings = [json.loads(line) for line in (run / "comparisons.jsonl").open()]
    assert {row["labeler"] for row in rankings} == {f"judge {n}" for n in range(5)}


@pytest.mark.slow
def test_the_same_command_goes_on_where_it_was_and_ends_with_the_same_report(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "again")
    again = tmp_path / "again" / "run"
    before = (again / "summary.json").read_text()
    (again / "ppo_ptx" / "summary.json").unlink()
    shutil.rmtree(again / "ppo_ptx" / "checkpoints" / "16")
    (folder / "run").rename(folder / "aside")  # the steps of the copy know each other by their path
    try:
        again.rename(folder / "run")
        done = launched(folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("--- ") == 1 and "resumed from step 8" in done.stdout
        assert json.loads((folder / "run" / "summary.json").read_text()) == json.loads(before)
    finally:
        shutil.rmtree(folder / "run", ignore_errors=True)
        (folder / "aside").rename(folder / "run")


@pytest.mark.slow
def test_a_policy_samples_and_a_pipeline_without_a_run_or_a_judge_is_refused(folder):
    words = [sys.executable, "-m", "launch.sample", f"--workdir={folder / 'run' / 'ppo'}",
             "--prompt=say 3\n\n", "--max_tokens=8"]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("say 3"), done.stderr
    one_line(launched(folder / "run", "--set=init=None"), 1, "--set init=RUN")
    one_line(launched(folder / "run", "--set=judge.function=None"), 1, "nobody ranks answers")
