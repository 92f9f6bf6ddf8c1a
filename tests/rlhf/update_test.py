"""An update of PPO: how pre-training text pulls at the policy, and how its average follows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.mesh import MeshConfig, make_mesh
from lm.data.batches import TokenBatch
from lm.models.gpt import forward
from lm.rlhf.experience import Experience
from lm.rlhf.ppo import Ppo
from lm.rlhf.update import UpdateConfig
from lm.train.optimizer import AdamWConfig
from tests.rlhf.runs import MODEL

GAMMA, AVERAGE = 2.5, 0.75
ANSWERS, TEXT_ROWS, LENGTH = 4, 3, 8


@pytest.fixture(scope="module")
def given():
    """A minibatch of answers, and rows of text beside them, of unequal lengths."""
    numbers = np.random.default_rng(0)
    logp, values, advantages, returns = numbers.standard_normal((4, ANSWERS, 4), np.float32)
    part = Experience(
        tokens=numbers.integers(0, 255, (ANSWERS, LENGTH), np.int32),
        start=np.full(ANSWERS, 4, np.int32), mask=np.ones((ANSWERS, 4), bool), logp=logp - 5,
        values=values, rewards=returns, advantages=advantages, returns=returns,
    )  # fmt: skip
    rows = (ANSWERS, TEXT_ROWS)
    tokens, targets = numbers.integers(0, 255, (2, *rows, LENGTH), np.int32)
    mask = np.arange(LENGTH) < numbers.integers(2, LENGTH + 1, (*rows, 1))
    return part, TokenBatch(tokens, targets, mask, np.zeros(rows, np.uint32))


@pytest.fixture(scope="module")
def updated(given):
    """A state, and the states after one update with the text and with text of which nothing counts,
    each with its metrics."""
    numbers, (part, text) = np.random.default_rng(1), given
    config = Ppo(
        model=MODEL, value_model=MODEL, optim=AdamWConfig(peak_lr=1e-2, clip=None), batch=ANSWERS,
        prompt_length=4, answer_length=4,
        update=UpdateConfig(minibatches=1, gamma=GAMMA, text_rows=TEXT_ROWS, average=AVERAGE),
    )  # fmt: skip

    def drawn(leaf):
        normal = 0.3 * numbers.standard_normal(leaf.shape, np.float32)
        return normal if leaf.dtype == jnp.float32 else np.zeros(leaf.shape, leaf.dtype)

    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        abstract = config.abstract(mesh)
        before = jax.tree.map(drawn, abstract)
        nothing = jax.tree.map(np.zeros_like, (before.policy_moments, before.value_moments))
        before = before.replace(policy_moments=nothing[0], value_moments=nothing[1])
        update, rate = config.compiled(mesh, abstract), jnp.float32(1e-2)
        after = [
            jax.device_get(update(
                jax.tree.map(jnp.asarray, before), part, rows, jnp.float32(0), (rate, rate),
                jax.random.key(0),
            )) for rows in (text, text.replace(mask=np.zeros_like(text.mask)))
        ]  # fmt: skip
    assert all(metrics.finite for _, metrics in after)
    return before, *after


def gradient(state):
    """Of the policy, in the one update that there was."""
    (mu,) = (one.mu for one in state.policy_moments if hasattr(one, "mu"))
    return jax.tree.map(lambda leaf: leaf / np.float32(1 - AdamWConfig(peak_lr=1.0).b1), mu)


def close(ours, theirs):
    return all(
        np.allclose(a, b, rtol=1e-3, atol=1e-5)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    )


def test_text_adds_gamma_times_the_gradient_of_its_mean_loss(given, updated):
    before, (mixed, metrics), (plain, of_nothing) = updated
    text = given[1]

    def mean_loss(policy):
        """Over tokens of the same row of every answer, then over such rows."""
        logits, _ = forward(MODEL, policy, text.tokens.reshape(-1, LENGTH))
        told = jax.nn.log_softmax(logits).reshape(*text.mask.shape, -1)
        share = text.mask / text.mask.sum((0, 2), keepdims=True) / TEXT_ROWS
        return -jnp.sum(share[..., None] * told * np.eye(told.shape[-1])[text.targets])

    loss, expected = jax.device_get(jax.jit(jax.value_and_grad(mean_loss))(before.policy))
    assert metrics.text_loss == pytest.approx(loss, rel=1e-4) and of_nothing.text_loss == 0
    added = jax.tree.map(np.subtract, gradient(mixed), gradient(plain))

    def weighed(gamma):
        return jax.tree.map(lambda leaf: gamma * leaf, expected)

    assert close(added, weighed(GAMMA))
    assert not close(added, weighed(0.0)) and not close(added, weighed(0.9 * GAMMA))  # the control
    assert not close(gradient(plain), weighed(0.0))  # PPO's own is there beside it


def test_the_average_keeps_its_share_of_what_it_was_and_takes_the_rest_of_the_new_policy(updated):
    before, (after, _), _ = updated

    def expected(decay, new):
        return jax.tree.map(lambda old, now: decay * old + (1 - decay) * now, before.average, new)

    assert close(after.average, expected(AVERAGE, after.policy))
    for decay in (1 - AVERAGE, 0.9 * AVERAGE, 0.992):  # the control
        assert not close(after.average, expected(decay, after.policy))
    assert not close(after.average, expected(AVERAGE, before.policy))
