"""A small run as a user launches it: one command, or one a process."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = {
    "model.layers": 2, "model.width": 32, "model.heads": 2, "model.length": 32, "batch": 4,
    "steps": 40, "loop.log_every": 1, "loop.save_every": 10, "loop.evaluate_every": 20,
    "loop.sample_tokens": 0, "evaluate_batches": 1, "model.residual_dropout": 0.1,
    "optim.peak_lr": 0.01, "optim.warmup_tokens": 256,
}  # fmt: skip


def clone(folder: Path) -> Path:
    """The commit of this repository, as it is on a branch of a remote one."""
    subprocess.run(["git", "clone", "-q", "--shared", ROOT, folder], check=True)
    pushed = ["git", "update-ref", "refs/remotes/origin/pushed", "HEAD"]
    subprocess.run(pushed, cwd=folder, check=True)
    return folder


def write_text(path: Path) -> Path:
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "it", "ran"]
    chosen = random.Random(0)
    path.write_text(" ".join(chosen.choice(words) for _ in range(4000)))
    return path


def command(text, workdir, *flags, experiment="gpt2:shakespeare_char_cpu", **bindings):
    sets = {"data.train": text, "data.cache": workdir.parent / "cache"} | TINY | bindings
    words = [f"--set={name}={value}" for name, value in sets.items()]
    words = [f"--experiment={experiment}", f"--workdir={workdir}", *words, *flags]
    return [sys.executable, "-m", "launch.train", *words]


def environment(devices=1):
    """Of a process that has this many CPU devices, and not those of the suite."""
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    chosen = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags)}
    chosen |= {"JAX_NUM_CPU_DEVICES": str(devices)}
    return os.environ | chosen


def run(text, workdir, *flags, devices=1, **options):
    return subprocess.run(
        command(text, workdir, *flags, **options), cwd=ROOT, env=environment(devices),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def start(text, workdir, *flags, devices=1, **options):
    return subprocess.Popen(
        command(text, workdir, *flags, **options), cwd=ROOT, env=environment(devices),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def await_step(workdir, step, processes, seconds=180):
    """Waits until the run has logged this step, or a process of it has ended."""
    metrics, limit = workdir / "metrics.jsonl", time.monotonic() + seconds
    while time.monotonic() < limit and all(each.poll() is None for each in processes):
        if metrics.exists() and f'"step": {step},' in metrics.read_text():
            return
        time.sleep(0.01)


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def losses(workdir):
    """Step -> training loss, exactly."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: float(row["loss"]).hex() for row in rows if "loss" in row}


def final_digests(workdir, step=40):
    path = workdir / "checkpoints" / str(step) / "manifest" / "manifest.json"
    return {name: leaf["digest"] for name, leaf in json.loads(path.read_text())["tree"].items()}


def one_line(done, code, *parts):
    """That a command ended with this code and one line that has these parts."""
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    for part in parts:
        assert part in lines[0], lines[0]
