"""What the compiled step keeps and sends on eight devices, each claim beside what breaks it."""

import math
from dataclasses import replace

import jax
import pytest

from lm.core import axes, mesh
from lm.core.errors import ConfigError
from lm.core.mesh import MeshConfig, make_mesh
from lm.core.tree import named_leaves, size_bytes
from lm.models.gpt import GptConfig
from lm.nn import kernels
from lm.plan.hlo import collectives
from lm.train import step
from lm.train.optimizer import AdamWConfig
from lm.train.pretrain import Pretrain

MIB = 2**20
EXPERIMENT = Pretrain(
    model=GptConfig(layers=4, width=256, heads=8, length=32, vocab=2048),
    optim=AdamWConfig(peak_lr=1e-2),
    steps=1,
    batch=16,
)


def compiled(sizes, **changes):
    return replace(EXPERIMENT, **changes).lowered(make_mesh(MeshConfig(**sizes))).compile()


def whole_leaves(program, abstract):
    """Arrays above 1 MiB that enter or leave the step undivided on a device."""
    entering, leaving = program.input_shardings[0][0], program.output_shardings[0]
    found = []
    for shardings in (entering, leaving):
        placed = named_leaves(shardings)
        for name, leaf in named_leaves(abstract).items():
            part = math.prod(placed[name].shard_shape(leaf.shape)) * leaf.dtype.itemsize
            if size_bytes(leaf) > MIB and part == size_bytes(leaf):
                found.append(name)
    return found


def abstract(sizes):
    return EXPERIMENT.abstract(make_mesh(MeshConfig(**sizes)))


def parameter_bytes():
    return size_bytes(abstract({"data": 8}).params)


def largest(program):
    return max(found.bytes for found in collectives(program.as_text()))


def reductions(program):
    """(bytes, times) of each reduction that is more than figures about the step."""
    kinds = ("all-reduce", "reduce-scatter")
    found = [c for c in collectives(program.as_text()) if c.kind in kinds and c.bytes > 1024]
    return [(c.bytes, c.runs) for c in found]


@pytest.mark.parametrize(
    "sizes",
    [
        {"data": 1, "fsdp": 8},
        pytest.param({"data": 2, "fsdp": 4}, marks=pytest.mark.slow),
        pytest.param({"data": 1, "fsdp": 2, "tensor": 4}, marks=pytest.mark.slow),
        pytest.param({"data": 2, "fsdp": 2, "tensor": 2}, marks=pytest.mark.slow),
        pytest.param({"data": 1, "fsdp": 4, "sequence": 2}, marks=pytest.mark.slow),
    ],
)
def test_with_fsdp_no_large_array_is_whole_anywhere_and_no_collective_carries_the_model(sizes):
    program = compiled(sizes)
    names = [name for name, leaf in named_leaves(abstract(sizes)).items() if size_bytes(leaf) > MIB]
    assert {name.partition("/")[0] for name in names} == {"params", "moments"}
    assert whole_leaves(program, abstract(sizes)) == []
    # a layer at a time is gathered and reduced: a quarter of the blocks here, and the table apart
    assert largest(program) <= 0.25 * parameter_bytes()


@pytest.mark.slow
def test_a_width_that_is_not_split_leaves_large_arrays_whole(monkeypatch):
    sizes = {"data": 1, "fsdp": 8}
    for name in (axes.WIDTH, axes.ENTRY):
        monkeypatch.setitem(mesh.PARAMETER_RULES, name, ())
    program = compiled(sizes, microbatches=1)
    found = whole_leaves(program, abstract(sizes))
    assert "params/tokens/table" in found
    assert any(name.startswith("moments/") for name in found)


@pytest.mark.parametrize("microbatches", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_data_mesh_reduces_the_gradient_once_a_step_whatever_the_microbatches(microbatches):
    program = compiled({"data": 8}, microbatches=microbatches)
    ((size, times),) = reductions(program)
    assert times == 1 and 0 <= size - parameter_bytes() <= 64  # with the loss and the tokens
    assert largest(program) >= parameter_bytes()  # what the test of fsdp above would refuse


@pytest.mark.parametrize("sizes", [{"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_the_kernel_of_a_tpu_is_lowered_on_every_mesh(sizes, monkeypatch):
    """A kernel of Pallas is refused where the partitioner has any axis left to split, of 1 too."""
    monkeypatch.setattr(kernels, "platform", lambda: "tpu")
    model = replace(EXPERIMENT.model, layers=1, length=128, attention="splash")
    experiment = replace(EXPERIMENT, model=model)
    placed = make_mesh(MeshConfig(**sizes))
    with jax.sharding.use_abstract_mesh(placed.abstract_mesh):
        program = experiment.traced(placed).lower(lowering_platforms=("tpu",))
    assert "tpu_custom_call" in program.as_text()


def test_a_batch_that_the_mesh_does_not_divide_is_refused_with_the_nearest_that_it_does():
    odd = replace(EXPERIMENT, batch=12)
    with pytest.raises(ConfigError, match="batch 12 is not divisible by 8 .*nearest: 8 or 16"):
        odd.lowered(make_mesh(MeshConfig(data=8)))


@pytest.mark.slow
def test_left_to_the_partitioner_each_microbatch_reduces_by_itself(monkeypatch):
    monkeypatch.setattr(step, "reduced_once", lambda gradients_of, _: gradients_of)
    assert sum(times for _, times in reductions(compiled({"data": 8}, microbatches=2))) > 1
