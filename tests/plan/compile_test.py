"""What the TPU compiler makes of a step, without a TPU. Each compile takes a process of its own,
since the library is loaded once and reads its settings then. `make slow` keeps the compiler in a
folder beside the environment: where jax finds it, every program would first look for a TPU."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launched import ROOT, environment

COMPILER = Path(sys.prefix) / "libtpu"
SMALL = (
    "--set=ramp=None", "--set=batch=16", "--set=model.layers=2", "--set=model.width=512",
    "--set=model.heads=8", "--set=model.vocab=1024", "--set=mesh.data=1",
)  # fmt: skip


def planned(topology, *flags):
    if not COMPILER.is_dir() and importlib.util.find_spec("libtpu") is None:
        pytest.skip("the TPU compiler is not installed: pip install 'lm[tpu]'")
    settings = {"JAX_DEFAULT_MATMUL_PRECISION": "default", "PYTHONPATH": str(COMPILER)}
    words = ["--experiment=gpt3:small", f"--topology={topology}", "--json", *SMALL, *flags]
    return subprocess.run(
        [sys.executable, "-m", "launch.plan", *words], cwd=ROOT,
        env=environment() | settings,
        capture_output=True, text=True, timeout=550,
    )  # fmt: skip


@pytest.mark.slow
def test_a_step_over_fsdp_and_tensor_fits_with_the_kernel_and_splits_what_it_should():
    done = planned("v5e:4x4", "--set=mesh.fsdp=8", "--set=mesh.tensor=2")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout.splitlines()[-1])
    assert plan["fits"] and 0 < plan["peak_memory"] < 2**30
    assert plan["attention_kernels"] >= 4  # forward, forward again, dq, dkv
    parameters = 2 * (12 * 512**2) + 1024 * 512 + 2048 * 512
    assert plan["parameters"] < 4 * parameters / 16 * 1.5  # split over all the devices
    full_remat = plan["flops"] / plan["useful"]
    assert 1.0 < full_remat < 1.5
    largest = 4 * 512 * 3 * 512  # bytes of the largest kernel of a layer in float32
    reduced = [
        row["largest"]
        for row in plan["traffic"]
        if row["kind"] == "all-reduce" and row["axes"].startswith("fsdp")
    ]
    assert max(reduced, default=0) < largest


@pytest.mark.slow
def test_what_does_not_fit_is_an_answer():
    done = planned(
        "v5e:2x2", "--set=mesh.fsdp=4", "--set=batch=8192", "--set=model.remat=none"
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    plan = json.loads(done.stdout.splitlines()[-1])
    assert not plan["fits"] and plan["peak_memory"] > plan["limit"]
    assert "Traceback" not in done.stderr
