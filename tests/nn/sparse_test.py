"""Sparse patterns: their masks, their counts, and the computation that equals both."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.nn.cache import LayerCache, attend_cache
from lm.nn.config import BlockConfig
from lm.nn.kernels import attend, attention
from lm.nn.patterns import layer_mask, mean_pairs, pairs, visible
from lm.nn.sparse import sparse_attention

SPARSE = ("banded", "strided", "fixed", "powers", "columns", "block", "summaries")
PAPER = SPARSE[:4]  # one head sees all of a layer's pairs


def config(**changed) -> BlockConfig:
    base = BlockConfig(layers=1, width=16, heads=2, band=12, stride=8, summary=3)
    return dataclasses.replace(base, **changed)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def mask(length, pattern, config):
    slots = jnp.arange(length)
    return visible(slots, slots, pattern, config)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def masks_by_head(length, pattern, sizes):
    slots = jnp.arange(length)
    return layer_mask(slots, slots, pattern, sizes, sizes.heads)


@functools.partial(jax.jit, static_argnums=(3, 4))
def whole_sequence(q, k, v, sizes, pattern, valid=None):
    return attention(q, k, v, sizes, pattern, valid)


def qkv(length, rows=2, seed=0, heads=2):
    return jax.random.normal(jax.random.key(seed), (3, rows, heads, length, 8))


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
    assert tuple(pairs(length, p, sizes) for p in ("dense", *PAPER)) == counts


def test_the_pairs_of_layers_are_averaged():
    sizes = config(layers=2, pattern=("dense", "banded"), band=3)
    dense, banded = 1 + 2 + 3 + 4 + 5, 1 + 2 + 3 + 3 + 3
    assert mean_pairs(5, sizes) == (dense + banded) / 2


BY_HEAD = [
    (("banded", "columns"), {"band": 8}),  # strided, a part a head
    (("block", "summaries"), {}),  # fixed, a part a head
    (("dense", "powers"), {}),
    ("fixed", {"summary_by_head": True}),
    (("fixed", "summaries"), {"summary_by_head": True, "heads": 4, "summary": 2}),
]
EVERY = [*((pattern, {}) for pattern in ("dense", *SPARSE)), *BY_HEAD]


FAST = [*((pattern, {}) for pattern in SPARSE), BY_HEAD[0], BY_HEAD[-1]]


@pytest.mark.parametrize(
    "pattern, changed, length, padded",
    [
        *((*case, 61, True) for case in FAST),
        *(
            pytest.param(*case, length, padded, marks=pytest.mark.slow)
            for case in EVERY
            for length, padded in [(5, False), (40, True), (61, False)]
        ),
    ],
)
def test_sparse_attention_and_its_gradient_equal_the_masked_definition(
    pattern, changed, length, padded
):
    sizes = config(**changed)
    arrays = qkv(length, heads=sizes.heads)
    valid = np.arange(length) >= np.array([[0], [length // 3]]) if padded else None
    seen = np.asarray(masks_by_head(length, pattern, sizes))[None]
    if valid is not None:
        seen = seen & valid[:, None, None, :]
    some = seen.any(-1)[..., None]  # a padded query may have no key, and then no meaning

    def sparse(arrays):
        return jnp.where(some, attention(*arrays, sizes, pattern, valid), 0)

    def masked(arrays):
        return jnp.where(some, attend(*arrays, seen), 0)

    @jax.jit
    def both(arrays, cotangent):
        found, back = jax.vjp(sparse, arrays)
        expected, back_of_masked = jax.vjp(masked, arrays)
        return found, expected, back(cotangent)[0], back_of_masked(cotangent)[0]

    cotangent = jax.random.normal(jax.random.key(1), arrays.shape[1:])
    found, expected, gradient, gradient_of_masked = both(arrays, cotangent)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(gradient, gradient_of_masked, atol=1e-5)
    if length > 12 and pattern != "dense":  # the control: another pattern is beyond the tolerance
        other = jax.jit(attend)(*arrays, mask(length, "dense", sizes)[None, None])
        assert np.abs(found - np.where(some, other, 0)).max() > 1e-2


@pytest.mark.parametrize("pattern", SPARSE)
def test_in_bfloat16_sparse_attention_is_as_near_to_float32_as_the_definition(pattern):
    sizes = config(width=192, dtype="bfloat16")  # heads of 96, whose root no bfloat16 can hold
    drawn = 2 * jax.random.normal(jax.random.key(0), (3, 2, 2, 61, 96))
    narrow = drawn.astype(jnp.bfloat16)
    seen = mask(61, pattern, sizes)[None, None]
    exact = jax.jit(attend)(*narrow.astype(jnp.float32), seen)

    def error(found):
        return jnp.sqrt(jnp.mean(jnp.square(found.astype(jnp.float32) - exact)))

    found = jax.jit(sparse_attention, static_argnums=(3, 4))(*narrow, sizes, pattern)
    assert error(found) < 1.1 * error(jax.jit(attend)(*narrow, seen))


@pytest.mark.parametrize("pattern, changed", EVERY)
def test_the_count_of_each_head_is_the_number_of_trues_in_its_own_mask(pattern, changed):
    sizes = config(**changed)
    each = np.asarray(masks_by_head(61, pattern, sizes))
    each = np.broadcast_to(each, (sizes.heads, 61, 61))
    for length in (1, 7, 8, 9, 40, 61):
        counts = each[:, :length, :length].sum((1, 2)).tolist()
        assert [pairs(length, pattern, sizes, head) for head in range(sizes.heads)] == counts


def test_a_part_by_head_and_the_other_part_make_the_merged_pattern():
    both = mask(61, "block", config()) | mask(61, "summaries", config())
    np.testing.assert_array_equal(both, mask(61, "fixed", config()))
    strided = mask(61, "banded", config(band=8)) | mask(61, "columns", config())
    np.testing.assert_array_equal(strided, mask(61, "strided", config()))


def test_heads_with_summaries_of_their_own_share_out_the_columns_of_a_block():
    sizes = config(heads=4, summary=2, summary_by_head=True)
    each = np.asarray(masks_by_head(24, "summaries", sizes))[:, 23, :8]  # of the first block
    np.testing.assert_array_equal(each.sum(0), np.ones(8))
    assert each[0].nonzero()[0].tolist() == [6, 7] and each[3].nonzero()[0].tolist() == [0, 1]


def test_a_head_of_summaries_alone_sees_itself_before_the_first_summary_column():
    sizes, (q, k, v) = config(), qkv(20)
    found = jax.jit(sparse_attention, static_argnums=(3, 4))(q, k, v, sizes, "summaries")
    found, v = np.asarray(found), np.asarray(v)
    np.testing.assert_allclose(found[:, :, :5], v[:, :, :5], atol=1e-6)  # columns begin at 5
    bare = (np.arange(20) % 8 >= 5) & (np.arange(20) <= np.arange(20)[:, None])
    assert not bare[:5].any()  # the control: by the paper's formula these queries see nothing
    scores = np.where(bare, np.einsum("BNTH,BNSH->BNTS", q, k), -np.inf)
    assert np.isnan(np.asarray(jax.jit(jax.nn.softmax)(scores))[:, :, :5]).all()


@pytest.mark.parametrize("pattern, changed", EVERY)
def test_a_query_against_a_cache_sees_what_it_saw_in_the_sequence(pattern, changed):
    length, sizes = 40, config(**changed)
    q, k, v = qkv(length, heads=sizes.heads)
    valid = jnp.arange(length) >= jnp.array([[0], [3]])
    seen = valid if pattern not in ("fixed", "block", "summaries") else None
    whole = whole_sequence(q, k, v, sizes, pattern, seen)
    kept = LayerCache(*(each.reshape(-1, length, 8) for each in (k, v)))
    step = jax.jit(lambda query, slot: attend_cache(query, kept, sizes, pattern, slot, seen))
    for slot in (3, 7, 8, 23, 39):
        one = step(q[:, :, slot : slot + 1], slot)
        np.testing.assert_allclose(one[:, :, 0], whole[:, :, slot], atol=1e-5)


@pytest.mark.parametrize("pattern", ["strided", "fixed"])
def test_a_query_reads_few_slots_of_a_long_cache(pattern):
    """By the compiler's own count, against a dense query on the same cache."""

    def cost(pattern):
        q, kept = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, 2, 1, 8), (2, 4096, 8)))
        call = jax.jit(lambda q, cache: attend_cache(q, cache, sizes, pattern, 4000))
        return call.lower(q, LayerCache(kept, kept)).compile().cost_analysis()["flops"]

    sizes = config(band=64, stride=64, summary=3)
    assert cost(pattern) < 0.25 * cost("dense")


@functools.cache
def compiled_cost(pattern, length, stride):
    """Operations and temporary bytes of a layer's attention, by the compiler's own count."""
    sizes = config(band=64, stride=stride, summary=8)

    def call(x):
        if pattern == "masked":  # a mask over a dense product
            return attend(*x, mask(length, "banded", sizes))
        return attention(*x, sizes, pattern)  # by the way that layers choose

    arrays = jax.ShapeDtypeStruct((3, 1, 1, length, 32), jnp.float32)
    compiled = jax.jit(call).lower(arrays).compile()
    held = compiled.memory_analysis().temp_size_in_bytes
    return np.array([compiled.cost_analysis()["flops"], held])


def exponents_of_cost(pattern, lengths, strides):
    """From each length to the next, which is four times as long. [length [operations bytes]]"""
    costs = [compiled_cost(pattern, *each) for each in zip(lengths, strides, strict=True)]
    return np.diff(np.log(costs), axis=0) / np.log(4)


@pytest.mark.parametrize(
    ("pattern", "flops", "held"),
    [("banded", (0.95, 1.05), (0.9, 1.1)), ("strided", (1.45, 1.55), (1.15, 1.3)),
     ("fixed", (1.45, 1.55), (1.4, 1.6)), ("powers", (1.05, 1.2), (1.05, 1.2))],
)  # fmt: skip
def test_the_compiled_cost_grows_with_the_exponent_of_the_pairs(pattern, flops, held):
    """Of a stride that grows with the root of the length. n log n would show 1.13, n^2 2."""
    (exponents,) = exponents_of_cost(pattern, (1024, 4096), (32, 64))
    assert flops[0] < exponents[0] < flops[1] and held[0] < exponents[1] < held[1]
    assert compiled_cost(pattern, 4096, 64)[1] < 4096**2 * 4 / 3  # bytes of all scores


def test_the_root_of_the_length_is_what_holds_strided_at_its_exponent():
    """The control: of a stride of 128 the cost starts below 1.5 and rises on its way to 2."""
    exponents = exponents_of_cost("strided", (1024, 4096, 16_384, 65_536), [128] * 4)
    early, middle, late = exponents[:, 0]
    assert early < 1.1 and middle == pytest.approx(1.2, abs=0.05) and late > 1.35


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "flops", "held"),
    [("dense", (1.95, 2.05), (1.9, 2.05)), ("masked", (1.95, 2.05), (1.95, 2.05)),
     ("banded", (0.95, 1.05), (0.95, 1.05)), ("strided", (1.45, 1.55), (1.4, 1.6)),
     ("fixed", (1.45, 1.55), (1.45, 1.55)), ("powers", (1.05, 1.15), (1.05, 1.15))],
)  # fmt: skip
def test_at_16384_tokens_bytes_too_reach_the_exponent_of_the_pairs(pattern, flops, held):
    """What is linear weighs less there: strided's bytes show 1.2 from 1,024 to 4,096 tokens."""
    early, late = exponents_of_cost(pattern, (1024, 4096, 16_384), (32, 64, 128))
    assert flops[0] < late[0] < flops[1] and held[0] < late[1] < held[1]
    if pattern in ("dense", "masked", "strided"):
        assert early[1] < late[1]


def test_a_mask_over_a_dense_product_costs_the_square_whatever_it_hides():
    """The control of the patterns' exponents."""
    assert exponents_of_cost("masked", (1024, 4096), (32, 64))[0, 0] == pytest.approx(2, abs=0.05)
    assert compiled_cost("masked", 4096, 64)[1] >= 4096**2 * 4


def test_a_sparse_pattern_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="summary 9 is more than the 8 columns"):
        config(summary=9)
    with pytest.raises(ConfigError, match="heads 2 are not 3 equal groups"):
        config(pattern=(("dense", "banded", "powers"),))
    with pytest.raises(ConfigError, match="is causal"):
        config(pattern=("strided",), causal=False)
