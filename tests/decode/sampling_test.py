"""Where tokens are drawn from, beside the definition by a sorted vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.decode import sampling
from lm.decode.sampling import SamplingConfig

keep_top_k, keep_top_p = jax.jit(sampling.keep_top_k), jax.jit(sampling.keep_top_p)
sample = jax.jit(sampling.sample, static_argnums=2)


def test_top_k_and_top_p_keep_what_they_say_and_ties():
    logits = jnp.log(jnp.array([[0.4, 0.2, 0.2, 0.1, 0.1]]))

    def kept(out):
        return np.isfinite(np.asarray(out)[0]).tolist()

    assert kept(keep_top_k(logits, 1)) == [True, False, False, False, False]
    assert kept(keep_top_k(logits, 2)) == [True, True, True, False, False]
    assert kept(keep_top_p(logits, 0.3)) == [True, False, False, False, False]
    assert kept(keep_top_p(logits, 0.5)) == [True, True, True, False, False]
    assert kept(keep_top_p(logits, 1.0)) == [True] * 5


def test_draws_follow_the_probabilities():
    keys = jax.random.split(jax.random.key(0), 20_000)
    logits = jnp.tile(jnp.log(jnp.array([[0.7, 0.2, 0.1]])), (20_000, 1))
    drawn = np.bincount(np.asarray(sample(keys, logits, SamplingConfig())), minlength=3) / 20_000
    np.testing.assert_allclose(drawn, [0.7, 0.2, 0.1], atol=0.015)


def by_sorting(row, k=None, p=None):
    """Which of a row stay, as one would write it down."""
    descending = np.sort(row)[::-1]
    least = -np.inf
    if k is not None:
        least = descending[min(k, len(row)) - 1]
    if p is not None and p < 1:
        chances = np.exp(descending - descending[0])
        least = descending[np.searchsorted(np.cumsum(chances / chances.sum()), p)]
    return row >= least


def test_each_rows_cut_is_that_of_the_sorted_vocabulary():
    random = np.random.default_rng(0)
    logits = (3 * random.standard_normal((40, 203))).astype(np.float32)
    logits[::4] = logits[::4].round(1)  # ties
    logits[1::4, 50:] = -np.inf
    ks, ps = random.integers(1, 250, 40), random.uniform(0.01, 1.0, 40).astype(np.float32)
    by_count = np.isfinite(keep_top_k(jnp.asarray(logits), jnp.asarray(ks)))
    by_mass = np.isfinite(keep_top_p(jnp.asarray(logits), jnp.asarray(ps)))
    for row, logit in enumerate(logits):
        seen = np.isfinite(logit)
        np.testing.assert_array_equal(by_count[row], by_sorting(logit, k=ks[row]) & seen)
        np.testing.assert_array_equal(by_mass[row], by_sorting(logit, p=ps[row]) & seen)
    assert 1 <= by_mass.sum(axis=1).min() < 50 < by_mass.sum(axis=1).max() < 203


@pytest.mark.parametrize("vocab", [1, 2, 5, 99, 100, 101])
def test_every_token_is_drawn_as_often_as_its_probability_says(vocab):
    count = 20_000
    logits = np.random.default_rng(1).standard_normal(vocab).astype(np.float32)
    logits[vocab // 2 + 1 :: 7] = -np.inf
    keys = jax.random.split(jax.random.key(0), count)
    drawn = np.bincount(
        np.asarray(sample(keys, jnp.tile(logits, (count, 1)), SamplingConfig())), minlength=vocab
    )
    expected = np.exp(logits) / np.exp(logits).sum() * count
    assert drawn[expected == 0].sum() == 0 and len(drawn) == vocab
    seen = expected > 0
    chi_square = ((drawn[seen] - expected[seen]) ** 2 / expected[seen]).sum()
    freedom = seen.sum() - 1
    assert chi_square <= freedom + 4 * (2 * freedom) ** 0.5
    if vocab > 5:  # and it would show
        other = np.roll(expected[seen], 1)
        assert ((drawn[seen] - other) ** 2 / other).sum() > freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("temperature", [1e-3, 1e-37, 1e-60])
def test_a_temperature_near_zero_takes_the_likeliest(temperature):
    logits = jnp.array([[1.0, 300.0, 299.0, -jnp.inf], [-700.0, -900.0, -600.0, -601.0]])
    keys = jax.random.split(jax.random.key(0), 2)
    assert sample(keys, logits, SamplingConfig(temperature=temperature)).tolist() == [1, 2]


def test_a_batch_that_asks_for_min_p_alone_is_drawn_as_one_text_is():
    keys, count = jax.random.split(jax.random.key(0), 200), 200
    logits = jnp.tile(jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1])), (count, 1))
    asked = (jnp.ones(count), jnp.full(count, 4), jnp.ones(count), jnp.full(count, 0.4))
    each = jax.jit(sampling.sample_each)(keys, logits, *asked)
    np.testing.assert_array_equal(each, sample(keys, logits, SamplingConfig(min_p=0.4)))
    assert set(each.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("few", [{"top_k": 2}, {"min_p": 0.6}], ids=str)
def test_the_likeliest_are_chosen_before_their_probabilities_are_added_up(few):
    """Of two of 0.4 and 0.3 the first has over half; of all four it has not."""
    keys, count = jax.random.split(jax.random.key(0), 200), 200
    logits = jnp.tile(jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1])), (count, 1))
    one = np.asarray(sample(keys, logits, SamplingConfig(top_p=0.5, **few)))
    rows = (1.0, few.get("top_k", 4), 0.5, few.get("min_p", 0.0))
    asked = (jnp.full(count, setting) for setting in rows)
    each = np.asarray(jax.jit(sampling.sample_each)(keys, logits, *asked))
    assert not one.any() and not each.any()
    both = np.asarray(sample(keys, logits, SamplingConfig(top_p=0.5)))  # the control
    assert set(both.tolist()) == {0, 1}
