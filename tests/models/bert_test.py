"""The encoder: published sizes, initial values, attention to both sides, what each head reads."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments import bert as published
from lm.core import tree
from lm.core.errors import ConfigError
from lm.models.bert import HEADS, BertConfig, init
from lm.nn.patterns import visible
from tests.models.pretrained.models import bert, drawn, gpt1

# vocabulary -> parameters: without pooler, with it, with it and both heads
UNCASED, CASED, CHINESE, MULTILINGUAL = 30_522, 28_996, 21_128, 119_547
SIZES = {
    "base": (12, 768, 12, UNCASED, 108_891_648, 109_482_240, 110_106_428),
    "large": (24, 1024, 16, UNCASED, 334_092_288, 335_141_888, 336_226_108),
    "base cased": (12, 768, 12, CASED, None, 108_310_272, None),
    "large cased": (24, 1024, 16, CASED, None, 333_579_264, None),
    "chinese": (12, 768, 12, CHINESE, None, 102_267_648, None),
    "multilingual": (12, 768, 12, MULTILINGUAL, None, 177_853_440, None),
    "tiny": (2, 128, 2, UNCASED, None, 4_385_920, None),
    "mini": (4, 256, 4, UNCASED, None, 11_170_560, None),
    "small": (4, 512, 8, UNCASED, None, 28_763_648, None),
    "medium": (8, 512, 8, UNCASED, None, 41_373_184, None),
}


@functools.cache
def program(config, method):
    return jax.jit(lambda p, *xs: config.module().apply({"params": p}, *xs, method=method))


def applied(config, params, *inputs, method="__call__"):
    return jax.tree.map(np.asarray, program(config, method)(params, *inputs))


def outputs(params, ids, segments=None, valid=None, positions=None):
    """Scores of words and of the next sentence, by as few programs as shapes need."""
    segments = np.zeros_like(ids) if segments is None else segments
    valid = np.ones(ids.shape, bool) if valid is None else valid
    return applied(bert(), params, ids, segments, valid, None, positions)


def ids_of(rows=2, length=12, vocab=50, seed=0):
    return np.random.default_rng(seed).integers(0, vocab, (rows, length))


@pytest.mark.parametrize("name", SIZES)
def test_a_published_size_has_its_exact_parameter_count(name):
    layers, width, heads, vocab, bare, pooled, whole = SIZES[name]
    config = BertConfig(layers=layers, width=width, heads=heads, vocab=vocab)
    params = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    without_heads = {part: leaf for part, leaf in params.items() if part not in HEADS}
    assert tree.count(without_heads) == pooled
    assert tree.count(params) == config.parameters() == (whole or config.parameters())
    if bare is not None:
        assert tree.count({n: p for n, p in without_heads.items() if n != "pooler"}) == bare


@pytest.mark.parametrize("name", ["base", "large", "medium", "small", "mini"])
def test_the_experiments_are_the_published_sizes(name):
    layers, width, heads, vocab, *_ = SIZES[name]
    config = getattr(published, name)().model
    sized = BertConfig(layers=layers, width=width, heads=heads, vocab=vocab)
    assert replace(config, dtype="float32") == sized


def initial(config):
    zeros = jnp.zeros((1, 1), jnp.int32)
    made = jax.jit(lambda key: nn.unbox(config.module().init(key, zeros)["params"]))
    return tree.named_leaves(jax.device_get(made(jax.random.key(1))))


def beyond(leaves, bound):
    """Kernels and tables with a value further from zero than this."""
    drawn = {n: x for n, x in leaves.items() if n.endswith(("kernel", "table"))}
    return [name for name, leaf in drawn.items() if np.abs(leaf).max() > bound]


def test_initial_values_are_a_normal_cut_at_two_deviations_and_a_plain_normal_is_not():
    leaves = initial(bert(layers=1, width=64, heads=4, hidden=None, vocab=500))
    assert beyond(leaves, 0.04 + 1e-8) == []
    for name, leaf in leaves.items():
        end = name.rpartition("/")[2]
        if end in ("bias", "scale"):
            assert (leaf == (end == "scale")).all(), name
        elif leaf.size > 10_000:  # a normal cut at two deviations has 0.8796 of its deviation
            assert leaf.std() == pytest.approx(0.8796 * 0.02, rel=0.03), name
    numbers = np.random.default_rng(0)
    plain = {name: 0.02 * numbers.standard_normal(leaf.shape) for name, leaf in leaves.items()}
    small = ("next/kernel", "segments/table")  # two rows of values may happen to be within it
    assert {*beyond(plain, 0.04), *small} == {
        name for name in leaves if name.endswith(("kernel", "table"))
    }


def influence(config, length=12):
    """How far each position's logits move when the token at each place is another. [T T]"""
    ids = ids_of(1, length)
    others = np.repeat(ids, length, axis=0)
    np.fill_diagonal(others, (ids[0] + 1) % config.vocab)
    logits = applied(config, drawn(config), np.concatenate([ids, others]))[0]
    return np.abs(logits[1:] - logits[:1]).max(axis=-1).T


def test_each_position_sees_what_comes_later_and_a_causal_one_exactly_nothing_of_it():
    assert (influence(bert()) > 0).all()
    for one_way in (bert(causal=True), gpt1()):
        found = influence(one_way)
        assert (found[np.triu_indices(12, 1)] == 0).all()
        assert (found[np.tril_indices(12)] > 0).all()


def test_padding_changes_nothing_at_real_positions_unless_it_is_not_said():
    params = drawn(bert())
    ids, segments = ids_of(), ids_of(vocab=2, seed=1)
    valid = np.arange(12) < np.array([[12], [7]])
    words, follows = outputs(params, ids, segments, valid)
    alone, alone_follows = outputs(params, ids[1:, :7], segments[1:, :7])
    np.testing.assert_allclose(words[1, :7], alone[0], atol=2e-6)
    np.testing.assert_allclose(follows[1], alone_follows[0], atol=2e-6)
    seen, _ = outputs(params, ids, segments)
    assert np.abs(seen[1, :7] - alone[0]).max() > 1e-3
    np.testing.assert_allclose(seen[0], words[0], atol=2e-6)


def test_words_at_gathered_positions_are_those_of_the_whole_row():
    params, ids = drawn(bert()), ids_of()
    positions = np.array([[3, 9, 0], [0, 1, 11]])
    whole, follows = outputs(params, ids)
    gathered, same = outputs(params, ids, positions=positions)
    assert gathered.shape == (2, 3, 50)
    expected = np.take_along_axis(whole, positions[..., None], axis=1)
    np.testing.assert_allclose(gathered, expected, atol=2e-6)
    np.testing.assert_allclose(follows, same, atol=2e-6)


def test_the_next_sentence_is_read_off_the_first_token_through_tanh():
    config = bert()
    params, ids = drawn(config), ids_of()
    hidden = applied(config, params, ids, method="hidden")
    _, follows = outputs(params, ids)
    kernel, bias = (params["pooler"][name].astype(np.float64) for name in ("kernel", "bias"))
    inner = hidden[:, 0] @ kernel + bias

    def head(x):
        return x @ params["next"]["kernel"] + params["next"]["bias"]

    np.testing.assert_allclose(follows, head(np.tanh(inner)), atol=1e-5)
    assert np.abs(follows - head(inner)).max() > 1e-3  # without tanh it would show
    elsewhere = hidden + np.random.default_rng(2).standard_normal(hidden.shape)
    elsewhere[:, 0] = hidden[:, 0]
    for other, same in ((elsewhere, True), (hidden + 0.1, False)):
        pooled = applied(config, params, other.astype(np.float32), method="pooled")
        assert np.allclose(pooled, np.tanh(inner), atol=1e-5) == same


def test_what_is_said_of_the_next_sentence_is_not_what_bfloat16_can_hold():
    config = bert(dtype="bfloat16")
    pooled = jax.random.normal(jax.random.key(0), (16, 32), jnp.bfloat16)
    found = applied(config, drawn(config), pooled, method="is_next")
    assert found.dtype == np.float32
    assert np.mean(found != found.astype(jnp.bfloat16)) > 0.9


def test_a_causal_model_is_read_at_its_last_real_token_since_the_first_sees_nothing():
    config = bert(causal=True)
    params, ids = drawn(config), ids_of(1)
    others = np.where(np.eye(12, dtype=bool), ids[0] + 1, ids[0]) % 50  # one token is another
    rows = np.concatenate([ids, others])
    _, follows = applied(config, params, rows, np.zeros_like(rows), np.ones(rows.shape, bool))
    assert (np.abs(follows[1:] - follows[0]).max(axis=1) > 0).all()
    valid = np.tile(np.arange(12) < 7, (13, 1))
    _, cut = applied(config, params, rows, np.zeros_like(rows), valid)
    assert (np.abs(cut[1:8] - cut[0]).max(axis=1) > 0).all()
    np.testing.assert_array_equal(cut[8:], cut[:1].repeat(5, axis=0))


def test_the_second_segment_and_the_free_bias_of_a_word_are_read():
    params, ids = drawn(bert()), ids_of()
    words, _ = outputs(params, ids)
    other, _ = outputs(params, ids, np.ones_like(ids))
    assert np.abs(words - other).max() > 1e-3
    raised = np.arange(50, dtype=np.float32)
    biased = params | {"output_bias": {"bias": params["output_bias"]["bias"] + raised}}
    np.testing.assert_allclose(outputs(biased, ids)[0], words + raised, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab": 0}, "vocab must be positive, got 0"),
        ({"segments": 0}, "segments must be positive, got 0"),
        ({"embedding_dropout": 1.0}, "embedding_dropout must be at least 0 and below 1, got 1.0"),
        ({"norm": "pre"}, "norm='pre', and an encoder ends with no norm"),
        ({"heads": 5}, "width 32 is not divisible by heads 5"),
    ],
)
def test_sizes_that_cannot_be_are_refused_by_value(changes, said):
    with pytest.raises(ConfigError, match=said):
        replace(bert(), **changes)


def test_a_causal_encoder_is_counted_by_the_pairs_that_it_sees():
    config, length = bert(), 12
    both = 12 * config.layers * config.width * length
    less = config.flops_per_token(length) - bert(causal=True).flops_per_token(length)
    assert less == pytest.approx(both * (1 - (length + 1) / (2 * length)))


def test_a_band_to_both_sides_is_counted_by_the_pairs_that_its_mask_has():
    length, banded = 12, bert(pattern=("banded", "dense"), band=3)
    slots = jnp.arange(length)
    seen = np.asarray(visible(slots, slots, "banded", banded)).sum() / length
    one_layer = 12 * banded.width
    less = bert().flops_per_token(length) - banded.flops_per_token(length)
    assert less == pytest.approx(one_layer * (length - seen)) and seen < 5


def test_features_are_what_the_last_blocks_put_out_and_nothing_trains_them():
    params, ids = drawn(bert(), 0), ids_of()
    segments, valid = ids % 2, np.arange(12) < np.array([[12], [7]])
    module = bert().module()
    hidden = applied(bert(), params, ids, segments, valid, method="hidden")

    @jax.jit
    def features(params):
        return module.apply({"params": params}, ids, segments, valid, 2, method="features")

    found = np.asarray(features(params))
    assert found.shape == (2, 12, 64)
    np.testing.assert_allclose(found[..., 32:], hidden, atol=1e-6)
    assert np.abs(found[..., :32] - hidden).min(axis=-1).max() > 0.01  # another block's
    grads = jax.jit(jax.grad(lambda p: features(p).sum()))(params)
    assert all(not leaf.any() for leaf in jax.tree.leaves(grads))
