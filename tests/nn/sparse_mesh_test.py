"""Sparse layers split over devices: by rows, by heads, and along the sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.core.mesh import MeshConfig, batch_sharding, make_mesh
from lm.core.tree import name_of
from lm.losses.language import token_losses
from lm.models.gpt import GptConfig, forward, init

# Blocks of 6 do not fall on the 16 tokens of a device; every layer is of another kind.
CONFIG = GptConfig(
    layers=4, width=32, heads=4, length=32, vocab=64, band=6, stride=6, summary=2, std=0.2,
    pattern=(("banded", "columns"), ("block", "summaries"), "fixed", ("powers", "dense")),
    summary_by_head=True,
)  # fmt: skip


def gradient(sizes, devices):
    """Of the summed losses of eight rows, on a mesh of these sizes."""
    ids = np.random.default_rng(0).integers(0, CONFIG.vocab, (8, CONFIG.length + 1))

    def loss(params, ids):
        return token_losses(forward(CONFIG, params, ids[:, :-1])[0], ids[:, 1:]).sum()

    mesh = make_mesh(MeshConfig(**sizes), jax.devices()[:devices])
    with jax.set_mesh(mesh):
        params = nn.unbox(jax.jit(lambda key: init(CONFIG, key))(jax.random.key(0)))
        placed = jax.device_put(jnp.asarray(ids), batch_sharding(mesh))
        value, found = jax.jit(jax.value_and_grad(loss))(params, placed)
    return float(value), jax.device_get(found)


@pytest.fixture(scope="module")
def single():
    return gradient({"data": 1}, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [{"data": 8}, {"data": 2, "tensor": 2, "sequence": 2}, {"data": 1, "tensor": 4, "fsdp": 2}],
)
def test_every_pattern_has_on_a_mesh_the_loss_and_gradient_of_one_device(single, sizes):
    value, found = gradient(sizes, 8)
    assert value == pytest.approx(single[0], rel=1e-6)

    def close(path, mine, expected):
        np.testing.assert_allclose(mine, expected, atol=2e-5, err_msg=name_of(path))

    jax.tree_util.tree_map_with_path(close, found, single[1])
