"""Masks of dropout: shares, independence, and that no mesh and no neighbour changes them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.extend.random import threefry_2x32
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lm.core.mesh import MeshConfig, make_mesh
from lm.core.tree import name_of
from lm.nn import dropout as dropouts
from lm.nn import kernels
from lm.nn.config import BlockConfig
from lm.nn.dropout import DropoutKeys, threefry
from lm.nn.sparse import sparse_attention
from lm.nn.stack import Stack

KEYS = DropoutKeys(jax.random.key(7), jnp.arange(8))
dropout = jax.jit(dropouts.dropout, static_argnums=1)
draws = jax.jit(dropouts.draws, static_argnums=1)
table_dropout = jax.jit(dropouts.table_dropout, static_argnums=1)


def test_the_generator_is_that_of_jax():
    x, y = np.random.default_rng(0).integers(2**32, size=(2, 50), dtype=np.uint32)
    words = jax.random.key_data(jax.random.key(3))
    expected = threefry_2x32(words, np.concatenate([x, y]))
    np.testing.assert_array_equal(np.concatenate(threefry(words, x, y)), expected)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_the_rate_and_the_mean_stays(rate):
    kept = np.asarray(dropout(jnp.ones((8, 4, 30, 70)), rate, KEYS))
    spread = (rate * (1 - rate) / kept.size) ** 0.5
    assert abs((kept == 0).mean() - rate) < 4 * spread
    assert abs(kept.mean() - 1) < 4 * spread / (1 - rate)
    assert len(np.unique(kept)) == 2
    dropped = round(rate * 2**16) / 2**16  # what 16 bits can say of the rate
    assert kept.max() == pytest.approx(1 / (1 - dropped), rel=1e-6)


@pytest.mark.parametrize("shape", [(8, 4, 12, 16), (8, 2, 13, 5), (8, 40, 16), (8, 600)])
def test_every_bit_is_uniform_and_neighbours_along_each_axis_have_no_correlation(shape):
    found = np.asarray(draws(KEYS, shape))
    assert found.shape == shape and found.dtype == np.uint16
    bits = (found[..., None] >> np.arange(16)) & 1
    assert np.abs(bits.reshape(-1, 16).mean(axis=0) - 0.5).max() < 2.5 / found.size**0.5
    centred = found / 2**16 - 0.5
    for axis in range(found.ndim):
        both = centred * np.roll(centred, 1, axis)
        assert abs(both.mean()) * 12 < 4 / found.size**0.5


def test_a_mask_is_its_places_own_its_rows_own_and_its_steps_own():
    x = jnp.ones((8, 20, 30))
    masks = [
        np.asarray(dropout(x, 0.5, keys) > 0)
        for keys in (KEYS, KEYS.fold(0), KEYS.fold(1), replace(KEYS, key=jax.random.key(8)))
    ]
    rows = np.concatenate(masks).reshape(32, -1)
    agree = (rows[:, None] == rows).mean(axis=-1)[~np.eye(32, dtype=bool)]
    assert abs(agree - 0.5).max() < 4 * 0.5 / 600**0.5
    np.testing.assert_array_equal(masks[0], dropout(x, 0.5, KEYS) > 0)


def test_a_row_has_the_same_mask_wherever_it_stands_and_candidates_have_their_own():
    x = jnp.ones((2, 20, 30))
    one, other = (
        dropout(x, 0.5, DropoutKeys(KEYS.key, jnp.array(rows))) for rows in ([5, 2**31 - 1], [9, 5])
    )
    np.testing.assert_array_equal(one[0], other[1])
    spread = DropoutKeys(KEYS.key, jnp.array([4, 9])).spread(3)
    assert spread.rows.tolist() == [12, 13, 14, 27, 28, 29]


def test_a_table_has_one_mask():
    table = table_dropout(jnp.ones((50, 30)), 0.4, KEYS)
    elsewhere = table_dropout(jnp.ones((50, 30)), 0.4, replace(KEYS, rows=jnp.arange(3)))
    np.testing.assert_array_equal(table, elsewhere)
    assert 0.3 < (table == 0).mean() < 0.5


def test_a_rate_that_sixteen_bits_cannot_tell_from_one_still_keeps_a_few():
    kept = dropout(jnp.ones((8, 100, 200)), 0.999999, KEYS)
    assert np.isfinite(kept).all() and 0 <= (kept > 0).sum() < 30


@pytest.mark.parametrize(
    "spec", [P(("data", "fsdp"), "tensor"), P(("data", "fsdp"), None, "tensor")]
)
def test_a_mesh_changes_no_mask_and_sends_nothing(spec):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    keys = DropoutKeys(KEYS.key, jnp.arange(8))
    placed = NamedSharding(mesh, spec)
    apply = jax.jit(lambda x, keys: dropout(x, 0.5, keys), out_shardings=placed)
    x = jax.device_put(jnp.ones((8, 8, 16, 32)), placed)
    with jax.set_mesh(mesh):
        program = apply.lower(x, keys).compile().as_text()
        np.testing.assert_array_equal(apply(x, keys), dropout(jnp.ones(x.shape), 0.5, KEYS))
    assert not any(
        word in program for word in ("all-gather", "all-to-all", "permute", "all-reduce")
    )


@pytest.mark.parametrize(
    ("layers", "biases"),
    [(1, ("attention/output/bias", "mlp/output/bias")), (4, ("mlp/output/bias",))],
)
def test_the_sums_of_a_block_and_the_layers_of_two_cycles_lose_other_elements(layers, biases):
    """Each adds a bit of its own, half of them dropped: a sum tells which it kept."""
    config = BlockConfig(
        layers=layers, width=16, heads=2, band=4, residual_dropout=0.5,
        pattern=("dense", "banded")[:layers],
    )  # fmt: skip
    stack, x = Stack(config), jnp.zeros((8, 4, 16))
    shapes = jax.eval_shape(stack.init, jax.random.key(0), x[:1, :1])["params"]

    def added(path, leaf):
        for bit, name in enumerate(biases):
            if name_of(path).endswith(name):
                each = np.float32(1 << bit + np.arange(layers))
                return np.broadcast_to(each[:, None], leaf.shape)
        return np.zeros(leaf.shape, np.float32)

    params = jax.tree_util.tree_map_with_path(added, nn.unbox(shapes))
    found = np.asarray(jax.jit(stack.apply)({"params": params}, x, None, KEYS)[0])
    bits = np.arange(layers + len(biases) - 1)[:, None]
    kept = (found.ravel() / 2).astype(int) >> bits & 1  # what is kept is doubled
    agree = (kept[:, None] == kept).mean(axis=-1)[~np.eye(len(kept), dtype=bool)]
    np.testing.assert_allclose(kept.mean(axis=-1), 0.5, atol=0.08)
    np.testing.assert_allclose(agree, 0.5, atol=0.08)


def test_every_block_of_queries_loses_other_weights(monkeypatch):
    monkeypatch.setattr(kernels, "QUERY_BLOCK", 4)
    config = BlockConfig(layers=1, width=8, heads=1, attention_dropout=0.5)
    q, v = jnp.zeros((1, 1, 8, 8)), jnp.eye(8)[None, None]  # a context is its weights
    keys = DropoutKeys(jax.random.key(7), jnp.arange(1))
    made = jax.jit(lambda q, v: kernels.blocks(q, q, v, config, None, keys))(q, v)
    kept = np.asarray(made)[0, 0] > 0
    assert (kept[:4, :4] != kept[4:, :4])[np.tril_indices(4)].any()


def test_heads_of_two_patterns_lose_other_weights():
    config = BlockConfig(layers=1, width=16, heads=2, attention_dropout=0.5)
    q, v = jnp.zeros((8, 2, 8, 8)), jnp.broadcast_to(jnp.eye(8), (8, 2, 8, 8))
    both = jax.jit(lambda q, v: kernels.attention(q, q, v, config, ("dense",) * 2, keys=KEYS))
    kept = np.asarray(both(q, v))[:, :, *np.tril_indices(8)] > 0
    assert abs((kept[:, 0] == kept[:, 1]).mean() - 0.5) < 0.1


def test_keys_of_the_same_block_and_of_blocks_before_it_lose_other_weights():
    """Four keys of its own and a summary of each block: the two parts have masks of one shape."""
    config = BlockConfig(layers=1, width=16, heads=1, stride=4, summary=1, attention_dropout=0.5)
    q, v = jnp.zeros((8, 1, 16, 16)), jnp.broadcast_to(jnp.eye(16), (8, 1, 16, 16))
    made = jax.jit(lambda q, v: sparse_attention(q, q, v, config, "fixed", keys=KEYS))(q, v)
    kept = np.asarray(made)[:, 0] > 0
    query, number = np.indices((16, 4))
    block, slot = query // 4, query % 4
    near, far = kept[:, query, 4 * block + number], kept[:, query, 4 * number + 3]
    seen = (number <= slot) & (number < block)
    assert abs((near == far)[:, seen].mean() - 0.5) < 0.15
