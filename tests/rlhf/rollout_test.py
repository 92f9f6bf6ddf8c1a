"""Rollouts: what is drawn is what a plain loop would draw, and scores the same when read anew."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.core.errors import DataError
from lm.models import gpt
from lm.models.gpt import GptConfig, forward
from lm.rlhf import rollout as rollouts
from lm.rlhf.rollout import encode_prompts, roll_out

CONFIG = GptConfig(layers=2, width=32, heads=2, vocab=40, length=32)
END, COUNT, WIDTH = 3, 12, 8
PADDED = replace(CONFIG, vocab=64)  # rows that no tokenizer of 40 ids has
answer_logp = jax.jit(rollouts.answer_logp, static_argnums=(0, 4), static_argnames="vocab")
TEXTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16], [17, 18]]


@pytest.fixture(scope="module")
def params():
    made = nn.unbox(jax.jit(gpt.init, static_argnums=0)(CONFIG, jax.random.key(0)))
    return jax.tree.map(lambda leaf: 3 * leaf, made)  # far from uniform


@pytest.fixture(scope="module")
def prompts():
    return encode_prompts(TEXTS, WIDTH)[0]


def rolled(params, prompts, seed=0, temperature=0.7, config=CONFIG, vocab=None):
    return roll_out(
        config, params, prompts, jax.random.key(seed), count=COUNT, end=END,
        temperature=temperature, vocab=vocab,
    )  # fmt: skip


def test_drawn_log_probabilities_equal_those_of_reading_the_text_anew(params, prompts):
    for seed in range(3):
        rollout = rolled(params, prompts, seed)
        again = answer_logp(CONFIG, params, rollout.tokens, rollout.start, COUNT, 0.7)
        difference = np.abs(np.where(rollout.mask, again - rollout.logp, 0))
        assert difference.max() < 1e-4
        # the control: another temperature, or positions off by one, would show
        other = answer_logp(CONFIG, params, rollout.tokens, rollout.start, COUNT, 1.0)
        assert np.abs(np.where(rollout.mask, other - rollout.logp, 0)).max() > 0.01
        shifted = answer_logp(CONFIG, params, rollout.tokens, rollout.start + 1, COUNT, 0.7)
        assert np.abs(np.where(rollout.mask, shifted - rollout.logp, 0)).max() > 0.01


def test_tokens_that_are_there_are_those_of_prompts_and_of_answers_to_their_end(params, prompts):
    rollout = rolled(params, prompts)
    answers = int(rollout.mask.sum())
    assert answers < rollout.mask.size  # one ends early
    assert rollout.there == sum(map(len, TEXTS)) + answers


def test_log_probabilities_are_those_of_the_whole_forward_pass(params, prompts):
    rollout = rolled(params, prompts)
    for row, text in enumerate(TEXTS):
        length = int(rollout.mask[row].sum())
        ids = np.asarray(rollout.tokens[row, : len(text) + length])
        assert ids[: len(text)].tolist() == text
        logits, _ = jax.jit(forward, static_argnums=0)(CONFIG, params, ids[None])
        logp = np.asarray(jax.nn.log_softmax(logits[0] / 0.7))
        expected = [logp[len(text) - 1 + t, ids[len(text) + t]] for t in range(length)]
        np.testing.assert_allclose(rollout.logp[row, :length], expected, atol=1e-4)


def test_a_token_of_an_answer_has_the_value_of_the_state_before_it():
    values = jnp.arange(16.0).reshape(2, 8)
    found = rollouts.answer_values(values, jnp.array([3, 5]), 3)
    np.testing.assert_array_equal(found, [[2, 3, 4], [12, 13, 14]])


def test_an_answer_stops_at_its_end_token_and_what_follows_is_padding(params, prompts):
    ended = 0
    for seed in range(6):
        rollout = jax.device_get(rolled(params, prompts, seed, temperature=2.0))
        for row, text in enumerate(TEXTS):
            length = int(rollout.mask[row].sum())
            answer = rollout.tokens[row, len(text) : len(text) + length]
            assert rollout.mask[row, :length].all() and not rollout.mask[row, length:].any()
            assert END not in answer[:-1]
            assert rollout.ended[row] == (answer[-1] == END)
            assert rollout.ended[row] or length == COUNT
            assert not rollout.tokens[row, len(text) + length :].any()
            assert not rollout.logp[row, length:].any()
            assert rollout.last[row] == len(text) + length - 1
            ended += rollout.ended[row]
    assert 0 < ended < 24


@pytest.mark.slow
def test_rows_of_a_model_that_are_no_tokens_are_never_said_and_have_no_probability(params, prompts):
    more = 0.3 * jax.random.normal(jax.random.key(1), (24, 32))
    table = jnp.concatenate([params["tokens"]["table"], more])
    padded = params | {"tokens": params["tokens"] | {"table": table}}
    assert rolled(padded, prompts, config=PADDED).tokens.max() >= 40  # the control: they would be
    cut = rolled(padded, prompts, config=PADDED, vocab=40)
    without = rolled(params, prompts)  # a model that has no such rows
    np.testing.assert_array_equal(cut.tokens, without.tokens)
    np.testing.assert_allclose(cut.logp, without.logp, atol=1e-4)
    read = partial(answer_logp, PADDED, padded, cut.tokens, cut.start, COUNT, 0.7)
    again, uncut = (np.where(cut.mask, read(vocab=vocab) - cut.logp, 0) for vocab in (40, None))
    assert np.abs(again).max() < 1e-4
    assert np.abs(uncut).max() > 0.01  # the control: those rows would have a share


def test_where_every_row_is_a_token_the_cut_changes_nothing(params, prompts):
    whole, cut = (rolled(params, prompts, vocab=vocab) for vocab in (None, CONFIG.vocab))
    jax.tree.map(np.testing.assert_array_equal, whole, cut)
    read = partial(answer_logp, CONFIG, params, whole.tokens, whole.start, COUNT)
    np.testing.assert_array_equal(read(), read(vocab=CONFIG.vocab))


def test_an_answer_depends_on_its_row_number_and_not_on_its_neighbours(params, prompts):
    whole = rolled(params, prompts)
    order = np.array([2, 0, 3, 1])
    moved = jax.tree.map(lambda leaf: leaf[order], prompts)
    again = rolled(params, moved)
    np.testing.assert_array_equal(again.tokens, np.asarray(whole.tokens)[order])
    other = rolled(params, prompts, seed=1)
    assert (np.asarray(other.tokens) != np.asarray(whole.tokens)).any()


@pytest.mark.parametrize("parts", [2, 4])
def test_answers_in_parts_are_those_of_all_at_once_with_fewer_keys_and_values(
    params, prompts, parts
):
    some = partial(roll_out, CONFIG, params, prompts, jax.random.key(0), count=COUNT, end=END)
    whole, divided = some(), some(parts=parts)
    assert not whole.ended.all()  # and some end early, each in its own part
    for name in ("tokens", "start", "mask", "ended"):
        np.testing.assert_array_equal(getattr(divided, name), getattr(whole, name))
    np.testing.assert_allclose(divided.logp, whole.logp, rtol=1e-5, atol=1e-5)

    def memory(parts):  # of rows enough to be most of it
        many = jax.tree.map(lambda leaf: np.repeat(leaf, 64, axis=0), prompts)
        program = roll_out.lower(
            CONFIG, params, many, jax.random.key(0), count=COUNT, end=END, parts=parts
        )
        return program.compile().memory_analysis().temp_size_in_bytes

    assert memory(parts) < (1 / parts + 0.2) * memory(1)


def test_prompts_of_other_lengths_and_other_parameters_compile_nothing_anew(params, prompts):
    rolled(params, prompts)
    before = roll_out._cache_size()
    others, _ = encode_prompts([[1], [2, 3, 4, 5], [6] * 8, [7]], WIDTH)
    rolled(jax.tree.map(lambda leaf: 1.1 * leaf, params), others, seed=9)
    assert roll_out._cache_size() == before
    wider, _ = encode_prompts(TEXTS, WIDTH + 1)  # the control: another shape does
    rolled(params, wider)
    assert roll_out._cache_size() == before + 1


def test_long_prompts_are_counted_and_none_at_all_is_refused():
    found, long = encode_prompts([*TEXTS, [1] * 9], WIDTH)
    assert len(found.mask) == 4 and long == 1
    with pytest.raises(DataError, match="none of 1 prompts fits into 8 tokens"):
        encode_prompts([[1] * 9], WIDTH)


@pytest.mark.slow
def test_in_bfloat16_the_mean_difference_stays_small(params, prompts):
    half = GptConfig(layers=2, width=32, heads=2, vocab=40, length=32, dtype="bfloat16")
    rollout = roll_out(half, params, prompts, jax.random.key(0), count=COUNT, end=END)
    again = answer_logp(half, params, rollout.tokens, rollout.start, COUNT)
    difference = jnp.where(rollout.mask, jnp.abs(again - rollout.logp), 0).sum()
    assert float(difference / rollout.mask.sum()) < 2e-2
