"""Published sizes of reward models and value functions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments import gpt3
from lm.core import tree
from lm.models import reward
from lm.models.adapters import merged
from lm.models.gpt import GptConfig
from lm.nn.dropout import DropoutKeys


@pytest.mark.parametrize(
    ("size", "expected"),
    [("xl", 1_315_725_313), ("6.7b", 6_658_408_449), ("175b", 174_604_271_617)],
)
def test_a_scalar_head_is_one_number_a_width_and_a_bias_more(size, expected):
    config = gpt3.train(size).model
    params = jax.eval_shape(partial(reward.init, config), jax.random.key(0))
    assert tree.count(params) == expected == config.parameters() + config.width + 1


def test_a_head_for_questions_is_asked_for_and_leaves_the_rest_as_it_is():
    config, tokens = GptConfig(layers=1, width=16, heads=2, vocab=11, length=8), np.ones((2, 3, 4))
    tokens, read = tokens.astype(int), np.full((2, 3), 3)
    alone, beside = (
        nn.unbox(jax.jit(reward.init, static_argnums=(0, 2))(config, jax.random.key(0), count))
        for count in (0, 5)
    )
    assert beside["metadata"]["kernel"].shape == (16, 5) and "metadata" not in alone
    rest = {name: beside[name] for name in alone}
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), alone, rest))
    asked = partial(jax.jit(reward.answer_numbers, static_argnums=(0, 7)), config, beside)
    found = asked(tokens, read, None, None, None, 5)
    assert found.shape == (2, 3, 6) and len(np.unique(found[0, 0])) == 6
    np.testing.assert_allclose(found[..., :1], asked(tokens, read), rtol=1e-6)


def test_heads_are_drawn_as_in_the_papers_and_each_answer_drops_by_keys_of_its_own():
    config = GptConfig(layers=1, width=64, heads=2, vocab=11, length=8, residual_dropout=0.5)
    params = nn.unbox(jax.jit(reward.init, static_argnums=(0, 2))(config, jax.random.key(0), 9))
    drawn = np.concatenate([params[name]["kernel"].ravel() for name in ("head", "metadata")])
    assert drawn.std() == pytest.approx(65**-0.5, rel=0.1)
    tokens, read = np.ones((1, 2, 4), int), np.full((1, 2), 3)
    scores = jax.jit(reward.answer_scores, static_argnums=0)
    keys = DropoutKeys(jax.random.key(3), jnp.array([5]))
    same, other = scores(config, params, tokens, read, keys)[0]
    assert abs(same - other) > 1e-3


def test_rewards_and_answers_are_float32_and_not_what_bfloat16_can_hold():
    sizes = {"layers": 1, "width": 16, "heads": 2, "vocab": 11, "length": 8}
    config, numbers = GptConfig(**sizes, dtype="bfloat16"), np.random.default_rng(0)
    shapes = nn.unbox(jax.eval_shape(lambda key: reward.init(config, key, 1), jax.random.key(0)))
    params = jax.tree.map(lambda leaf: 0.1 * numbers.standard_normal(leaf.shape), shapes)
    asked = jax.jit(partial(reward.answer_numbers, config, questions=1))
    tokens, read = numbers.integers(0, 11, (16, 1, 4)), np.full((16, 1), 3)
    found = asked(params, tokens, read)[:, 0]
    assert found.dtype == jnp.float32
    assert np.mean(found != found.astype(jnp.bfloat16), axis=0).min() > 0.9  # of either head


@pytest.mark.parametrize("learned", [False, True])
def test_a_rescaled_head_says_the_gain_times_as_much_and_the_bias_more(learned):
    head = {"kernel": jnp.array([[1.0], [-3.0]]), "bias": jnp.array([0.25])}
    more = {"kernel": jnp.array([[0.5], [0.0]]), "bias": jnp.array([1.0])}
    params = {"base": {"head": head}, "lora": {"head": more}} if learned else {"head": head}

    def said(params):
        of = merged(params)["head"]
        return np.array([0.5, 2.0]) @ of["kernel"] + of["bias"]

    found = said(reward.rescaled(params, 2.0, jnp.float32(0.75)))
    np.testing.assert_allclose(found, 2 * said(params) + 0.75)
    np.testing.assert_allclose(said(reward.shifted(params, jnp.float32(3.0))), said(params) - 3)
