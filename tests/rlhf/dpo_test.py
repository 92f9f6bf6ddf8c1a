"""The implicit reward: whose log-probabilities are summed, and what is taken off."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.models import gpt
from lm.models.gpt import GptConfig, forward
from lm.rlhf.dpo import Preference
from lm.rlhf.ranking import Accuracy, abstract_rankings

CONFIG = GptConfig(layers=1, width=16, heads=2, vocab=20, length=12, std=0.5)


def test_a_score_is_beta_times_what_the_tokens_of_an_answer_gain_on_the_reference():
    numbers = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: numbers.standard_normal(leaf.shape, np.float32),
        nn.unbox(jax.eval_shape(lambda key: gpt.init(CONFIG, key), jax.random.key(0))),
    )
    shapes = abstract_rankings(2, 12, answers=2)
    batch = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes).replace(
        tokens=numbers.integers(0, 20, (2, 2, 12), np.int32),
        start=np.array([[3, 3], [5, 5]], np.int32),
        read=np.array([[3, 9], [11, 7]], np.int32),  # an answer of one token, and to the row's end
        reference=numbers.standard_normal((2, 2)).astype(np.float32),
    )
    found = jax.jit(Preference(CONFIG, beta=0.3).scores)(params, batch)
    logits, _ = jax.jit(forward, static_argnums=0)(CONFIG, params, batch.tokens.reshape(4, 12))
    logp = np.asarray(jax.nn.log_softmax(logits)).reshape(2, 2, 12, 20)
    for row, answer in np.ndindex(2, 2):
        ids, (first, last) = batch.tokens[row, answer], (
            batch.start[row, answer], batch.read[row, answer]
        )  # fmt: skip
        said = sum(logp[row, answer, at - 1, ids[at]] for at in range(first, last + 1))
        expected = 0.3 * (said - batch.reference[row, answer])
        np.testing.assert_allclose(found[row, answer], expected, rtol=1e-4)


def test_the_implicit_rewards_of_the_best_and_worst_answers_are_told_beside_their_margin(
    one_device,
):
    class Given(Preference):
        def scores(self, params, batch, keys=None):
            return jnp.asarray(params)

    ranks = np.array([[1, 0, 2], [0, 1, 1], [0, 0, 9]], np.int32)  # of the last no pair
    scores = np.array([[5.0, -1.0, -3.0], [-2.0, -4.0, -6.0], [7.0, 7.0, np.nan]], np.float32)
    shapes = abstract_rankings(3, 1, answers=3)
    rows = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes).replace(
        ranks=ranks, mask=ranks < 9
    )
    valid = SimpleNamespace(rows=rows, items=[SimpleNamespace(prompt=name) for name in "abc"])
    material = SimpleNamespace(parts={"train": None, "valid": valid})
    found = Accuracy(Given(CONFIG), material, one_device, 3)(0, scores)
    assert found["valid_rewards/chosen"] == (-1 - 2) / 2
    assert found["valid_rewards/rejected"] == (-3 - 5) / 2
    assert found["valid_rewards/margins"] == 2.5
