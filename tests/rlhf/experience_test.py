"""What a rollout is worth, from the log-probabilities and values that the models give it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.mesh import MeshConfig, make_mesh
from lm.losses.ppo import gae, token_rewards, whiten
from lm.rlhf.experience import AdvantageConfig, assess
from lm.rlhf.ppo import Ppo
from lm.rlhf.rollout import Rollout, answer_logp
from lm.train.optimizer import AdamWConfig
from tests.rlhf.runs import MODEL

CONFIG = AdvantageConfig(discount=0.9, decay=0.8, missing_end=0.7)
BETA, TEMPERATURE = 0.3, 0.7
LENGTHS = np.array([4, 1, 3, 1])
ENDED = np.array([False, True, True, False])  # the second is empty, the last is not
SCORES = np.array([1.0, 2.0, -1.0, 0.5], np.float32)
MASK = np.arange(4) < LENGTHS[:, None]


@pytest.fixture(scope="module")
def assessed():
    """Experience and figures of a policy, and the log-probabilities of its reference."""
    numbers = np.random.default_rng(0)
    config = Ppo(model=MODEL, value_model=MODEL, optim=AdamWConfig(peak_lr=1.0), batch=8)
    shapes = config.abstract(make_mesh(MeshConfig(data=1), jax.devices()[:1]))
    policy, reference, value = (
        jax.tree.map(lambda leaf: 0.1 * numbers.standard_normal(leaf.shape, np.float32), some)
        for some in (shapes.policy, shapes.policy, shapes.value)
    )
    rollout = Rollout(
        tokens=numbers.integers(0, 255, (4, 8), np.int32), start=np.full(4, 4, np.int32),
        mask=MASK, logp=np.zeros((4, 4), np.float32), ended=ENDED,
    )  # fmt: skip

    found, told = jax.device_get(assess(
        MODEL, MODEL, CONFIG, policy, reference, value, rollout, SCORES, jnp.float32(BETA),
        temperature=TEMPERATURE, parts=2,
    ))  # fmt: skip
    read = jax.jit(answer_logp, static_argnums=(0, 4))
    logp, theirs = (
        np.asarray(read(MODEL, params, rollout.tokens, rollout.start, 4, TEMPERATURE))
        for params in (policy, reference)
    )
    np.testing.assert_allclose(found.logp, logp, rtol=1e-4)  # row by row, though read in parts
    return found, told, theirs


def test_rewards_and_advantages_are_those_of_the_formulas(assessed):
    found, _, reference = assessed
    penalised = SCORES - np.where(ENDED, 0, 0.7).astype(np.float32)
    kl = np.where(MASK, found.logp - reference, 0)
    rewards = token_rewards(penalised, kl, MASK, BETA)
    np.testing.assert_allclose(found.rewards, rewards, rtol=1e-5, atol=1e-6)
    advantages, returns = gae(rewards, found.values, MASK, discount=0.9, decay=0.8)
    np.testing.assert_allclose(found.returns, returns, rtol=1e-5, atol=1e-5)
    real = whiten(advantages, MASK, bessel=True)
    np.testing.assert_allclose(found.advantages, real, rtol=1e-4, atol=1e-5)


def test_figures_are_means_over_answers_and_of_the_entropy_over_their_tokens(assessed):
    found, told, reference = assessed
    kl = np.where(MASK, found.logp - reference, 0).sum(axis=1)
    expected = {
        "reward": SCORES.mean(), "reward_std": SCORES.std(), "kl": kl.mean(), "beta": BETA,
        "kl_error": kl.std() / len(kl) ** 0.5,
        "objective": (SCORES - np.where(ENDED, 0, 0.7) - BETA * kl).mean(),
        "entropy": -found.logp[MASK].mean(), "length": LENGTHS.mean(), "ended": 0.5, "empty": 0.25,
        "drift": np.abs(found.logp[MASK]).max(), "drift_mean": np.abs(found.logp[MASK]).mean(),
    }  # fmt: skip
    assert set(told) == set(expected)
    for name, value in expected.items():
        assert float(told[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
