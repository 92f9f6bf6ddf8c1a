"""A query against a cache, in one slot for all rows or in each row's own: what decoding asks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.nn.cache import LayerCache, attend_cache
from lm.nn.config import BlockConfig
from lm.nn.kernels import attend
from lm.nn.patterns import layer_mask

ROWS, HEADS, SLOTS = 2, 2, 64
CASES = [
    ("dense", 16), ("banded", 16), ("strided", 1), ("strided", 16), ("strided", 128),
    ("columns", 1), ("columns", 16), ("fixed", 16), ("fixed", 48), ("fixed", 128), ("block", 16),
    ("block", 128), ("summaries", 16), ("powers", 16),
]  # fmt: skip


def setting(pattern, stride):
    """A config, and a query [B N 1 H] with keys and values [B N S H]. Of the fixed pattern with
    stride 48, a query may see as many places as there are slots: 48, and 8 in each of two blocks.
    """
    config = BlockConfig(
        layers=1, width=8, heads=HEADS, pattern=(pattern,), band=SLOTS, stride=stride,
        summary=min(8, stride),
    )  # fmt: skip
    q, k, v = (
        jax.random.normal(jax.random.key(n), (ROWS, HEADS, size, 4))
        for n, size in enumerate((1, SLOTS, SLOTS))
    )
    return config, q, k, v


def kept(k, v, reach=None):
    return LayerCache(*(each.reshape(ROWS * HEADS, SLOTS, -1) for each in (k, v)), reach)


@pytest.mark.parametrize(("pattern", "stride"), CASES)
def test_a_query_of_any_pattern_sees_what_its_mask_says_however_short_the_cache(pattern, stride):
    config, q, k, v = setting(pattern, stride)
    padding, slot = jnp.array([0, 40]), 50
    valid = jnp.arange(SLOTS) >= padding[:, None]

    @jax.jit
    def both(q, k, v):
        mask = layer_mask(jnp.array([slot]), jnp.arange(SLOTS), pattern, config, HEADS)
        expected = attend(q, k, v, mask & valid[:, None, None])
        return attend_cache(q, kept(k, v), config, pattern, slot, valid), expected

    found, expected = both(q, k, v)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("pattern", "stride"), CASES)
def test_each_row_sees_from_its_own_slot_what_its_mask_says_however_little_is_read(pattern, stride):
    config, q, k, v = setting(pattern, stride)
    slots = jnp.array([3, 30])

    @jax.jit
    def both(q, k, v):
        masks = [layer_mask(one[None], jnp.arange(SLOTS), pattern, config, HEADS) for one in slots]
        expected = attend(q, k, v, jnp.stack(masks))
        caches = [kept(k, v, reach) for reach in (32, SLOTS)]
        return [attend_cache(q, cache, config, pattern, slots) for cache in caches], expected

    reached, expected = both(q, k, v)
    for found in reached:
        np.testing.assert_allclose(found, expected, atol=1e-6)
