"""Sparse patterns: their masks, their counts, and the computation that equals both."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.nn.config import BlockConfig
from lm.nn.kernels import attend, attend_slots, attention
from lm.nn.sparse import pairs, sparse_attention, visible

SPARSE = ("banded", "strided", "fixed", "powers")


def config(**changed) -> BlockConfig:
    base = BlockConfig(layers=1, width=16, heads=2, band=12, stride=8, summary=3)
    return dataclasses.replace(base, **changed)


def mask(length, pattern, config):
    slots = jnp.arange(length)
    return visible(slots, slots, pattern, config)


def qkv(length, rows=2, seed=0):
    return jax.random.normal(jax.random.key(seed), (3, rows, 2, length, 8))


@pytest.mark.parametrize(
    "length, stride, counts",  # exact causal pairs, 8 summary columns, a band of 256
    [
        (1024, 32, (524_800, 229_504, 48_144, 143_872, 10_241)),
        (2048, 128, (2_098_176, 491_648, 269_376, 254_976, 22_529)),
        (4096, 64, (8_390_656, 1_015_936, 389_152, 1_165_312, 49_153)),
        (8192, 128, (33_558_528, 2_064_512, 1_298_496, 2_592_768, 106_497)),
    ],
)
def test_the_pairs_of_each_pattern_are_counted_exactly(length, stride, counts):
    sizes = config(stride=stride, summary=8, band=256)
    assert tuple(pairs(length, p, sizes) for p in ("dense", *SPARSE)) == counts


@pytest.mark.parametrize("pattern", ("dense", *SPARSE))
@pytest.mark.parametrize("length", (1, 7, 8, 9, 40, 61))
def test_the_count_is_the_number_of_trues_in_the_mask(pattern, length):
    assert pairs(length, pattern, config()) == int(mask(length, pattern, config()).sum())


@pytest.mark.parametrize("pattern", SPARSE)
@pytest.mark.parametrize("length, padded", [(5, False), (40, True), (61, False), (61, True)])
def test_sparse_attention_and_its_gradient_equal_the_masked_definition(pattern, length, padded):
    arrays = qkv(length)
    valid = jnp.arange(length) >= jnp.array([[0], [length // 3]]) if padded else None
    seen = mask(length, pattern, config())[None, None]
    if valid is not None:
        seen = seen & valid[:, None, None, :]
    some = seen.any(-1)[..., None]  # a padded query may have no key, and then no meaning

    def sparse(arrays):
        return jnp.where(some, sparse_attention(*arrays, config(), pattern, valid), 0)

    def masked(arrays):
        return jnp.where(some, attend(*arrays, seen), 0)

    cotangent = jax.random.normal(jax.random.key(1), arrays.shape[1:])
    found, back = jax.vjp(sparse, arrays)
    expected, back_of_masked = jax.vjp(masked, arrays)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(back(cotangent)[0], back_of_masked(cotangent)[0], atol=1e-5)
    if length > 12:  # the control: another pattern is not within the tolerance
        other = attend(*arrays, mask(length, "dense", config())[None, None])
        assert np.abs(found - jnp.where(some, other, 0)).max() > 1e-2


@pytest.mark.parametrize("pattern", SPARSE)
def test_a_query_against_a_cache_sees_what_it_saw_in_the_sequence(pattern):
    length = 40
    q, k, v = qkv(length)
    whole = attention(q, k, v, config(), pattern)
    kept = [each.reshape(-1, length, 8) for each in (k, v)]
    for slot in (0, 7, 8, 23, 39):
        one = attend_slots(q[:, :, slot : slot + 1], *kept, config(), pattern, None, slot)
        np.testing.assert_allclose(one[:, :, 0], whole[:, :, slot], atol=1e-5)


@pytest.mark.parametrize("pattern", SPARSE)
def test_the_compiled_cost_grows_more_slowly_than_the_square(pattern):
    """By the compiler's own count; a mask over a dense product grows sixteenfold here."""

    def cost(length, **sizes):
        arrays = jax.ShapeDtypeStruct((3, 1, 1, length, 32), jnp.float32)
        call = jax.jit(lambda x: sparse_attention(*x, config(**sizes), pattern))
        return call.lower(arrays).compile().cost_analysis()["flops"]

    small = cost(1024, band=64, stride=32, summary=8)
    large = cost(4096, band=64, stride=64, summary=8)
    exponent = np.log(large / small) / np.log(4)
    assert exponent < {"banded": 1.1, "powers": 1.2}.get(pattern, 1.65)


def test_a_sparse_pattern_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="summary 9 is more than the 8 columns"):
        config(summary=9)
    with pytest.raises(ConfigError, match="is causal"):
        config(pattern=("strided",), causal=False)
