"""What the TPU compiler makes of a step, without a TPU. Each compile takes a process of its own,
since the library is loaded once and reads its settings then. `make slow` keeps the compiler in a
folder beside the environment: where jax finds it, every program would first look for a TPU."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests.launched import ROOT, environment

COMPILER = Path(sys.prefix) / "libtpu"
ROWS, LENGTH = 16, 256  # the kernels of a longer context take twice as long to compile
VOCAB = 2_039  # divides by nothing
SMALL = (
    "--set=ramp=None", f"--set=batch={ROWS}", "--set=model.layers=2", "--set=model.width=512",
    f"--set=model.length={LENGTH}", "--set=model.heads=8", f"--set=model.vocab={VOCAB}",
    "--set=mesh.data=1",
)  # fmt: skip


def compiling(*words):
    if not COMPILER.is_dir() and importlib.util.find_spec("libtpu") is None:
        pytest.skip("the TPU compiler is not installed: pip install 'lm[tpu]'")
    settings = {"JAX_DEFAULT_MATMUL_PRECISION": "default", "PYTHONPATH": str(COMPILER)}
    # the library reads them too, and dies of those of a CPU
    settings |= {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment() | settings,
        capture_output=True, text=True, timeout=550,
    )  # fmt: skip


def planned(topology, *flags):
    words = ["--experiment=gpt3:small", f"--topology={topology}", "--json", *SMALL, *flags]
    return compiling("-m", "launch.plan", *words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topology", "devices", "flags"),
    [
        ("v5e:4x4", 16, ()),
        ("v6e:4x4", 16, ()),
        ("v5p:2x2x4", 16, ("--set=model.stream=length",)),
        ("v4:2x2x4", 16, ("--set=vocabulary_parts=2",)),
    ],
)
def test_a_step_over_fsdp_and_tensor_has_the_kernel_and_splits_what_it_should(
    topology, devices, flags
):
    done = planned(topology, "--set=mesh.fsdp=8", "--set=mesh.tensor=2", *flags)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout.splitlines()[-1])
    assert plan["fits"] and 0 < plan["peak_memory"] < 2**30
    parts = plan["parameters"] + plan["optimizer"] + plan["temporary"]
    assert 0 < plan["temporary"] and parts <= plan["peak_memory"]
    parameters = 2 * (12 * 512**2 + 13 * 512) + (VOCAB + LENGTH) * 512
    assert plan["parameters"] < 1.1 * 4 * parameters / devices
    assert plan["optimizer"] < 1.1 * 8 * parameters / devices
    if not plan["flops"]:  # jaxlib 0.10 cannot print asynchronous SparseCore work
        assert jax.__version_info__ < (0, 12) and "only the memory is known" in done.stderr
        return
    assert plan["attention_kernels"] >= 4  # forward, forward again, dq, dkv
    assert 1.0 < plan["flops"] / plan["useful"] < 1.5
    largest = 4 * 512 * 3 * 512  # bytes of the kernel of queries, keys and values in float32
    reduced = [
        row["largest"]
        for row in plan["traffic"]
        if row["kind"] == "all-reduce" and row["axes"].startswith("fsdp")
    ]
    assert max(reduced, default=0) < largest
    scores = 4 * ROWS * LENGTH / 8 * VOCAB  # bytes, of the rows of a device, were they whole
    assert max(plan["arrays"].values()) < 0.7 * scores


@pytest.mark.slow
def test_what_does_not_fit_is_an_answer():
    done = planned(
        "v5e:2x2", "--set=mesh.fsdp=4", "--set=batch=8192", "--set=model.remat=none"
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    plan = json.loads(done.stdout.splitlines()[-1])
    assert not plan["fits"] and plan["peak_memory"] > plan["limit"]
    assert "Traceback" not in done.stderr


HOPS = """
import jax, jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec as P
from lm.core.mesh import MESH_AXES, MeshConfig, make_mesh
from lm.plan.topology import Topology

devices = Topology("v5e:16x16").devices()
ours = make_mesh(MeshConfig(data=1, fsdp=16, tensor=16), devices)
plain = jax.make_mesh((1, 16, 16, 1), MESH_AXES, devices=devices)
for mesh in (ours, Mesh(plain.devices, MESH_AXES)):
    def hop(x):
        return jax.lax.ppermute(x, "tensor", [(n, (n + 1) % 16) for n in range(16)]), x @ x
    split = P(("fsdp", "tensor"))
    program = jax.jit(jax.shard_map(hop, mesh=mesh, in_specs=split, out_specs=split))
    rows = jax.ShapeDtypeStruct(
        (256 * 1024, 1024), jnp.bfloat16, sharding=jax.sharding.NamedSharding(mesh, split)
    )
    print("collective-permute-start" in program.lower(rows).compile().as_text())
"""


@pytest.mark.slow
def test_a_tensor_axis_around_a_block_of_v5e_sends_beside_other_work_a_whole_row_does_not():
    done = compiling("-c", HOPS)
    assert done.stdout.split() == ["True", "False"], done.stderr
