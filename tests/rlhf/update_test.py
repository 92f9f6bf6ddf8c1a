"""An update of PPO: how pre-training text pulls at the policy, and how its average follows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.mesh import MeshConfig, make_mesh
from lm.core.tree import square_norm
from lm.data.batches import TokenBatch
from lm.losses import ppo
from lm.models.gpt import forward
from lm.models.reward import token_values
from lm.rlhf.controller import KlConfig
from lm.rlhf.experience import AdvantageConfig, Experience
from lm.rlhf.ppo import Ppo
from lm.rlhf.rollout import answer_logp, answer_values
from lm.rlhf.state import PpoState, UpdateMetrics
from lm.rlhf.update import UpdateConfig, Updater, clipped
from lm.train.guard import GuardConfig, GuardState
from lm.train.optimizer import AdamWConfig
from tests.rlhf.runs import MODEL

GAMMA, AVERAGE, VALUE_CLIP, TEMPERATURE = 2.5, 0.75, 0.05, 0.7
ANSWERS, TEXT_ROWS, LENGTH = 4, 3, 8


@pytest.fixture(scope="module")
def given():
    """A minibatch of answers, and rows of text beside them, all of unequal lengths."""
    numbers = np.random.default_rng(0)
    logp, values, advantages, returns = numbers.standard_normal((4, ANSWERS, 4), np.float32)
    part = Experience(
        tokens=numbers.integers(0, 255, (ANSWERS, LENGTH), np.int32),
        start=np.full(ANSWERS, 4, np.int32), mask=np.arange(4) < [[4], [1], [3], [2]],
        logp=logp - 5, values=values, rewards=returns, advantages=advantages,
        returns=returns,
    )  # fmt: skip
    rows = (ANSWERS, TEXT_ROWS)
    tokens, targets = numbers.integers(0, 255, (2, *rows, LENGTH), np.int32)
    mask = np.arange(LENGTH) < numbers.integers(2, LENGTH + 1, (*rows, 1))
    return part, TokenBatch(tokens, targets, mask, np.zeros(rows, np.uint32))


def one_device():
    return make_mesh(MeshConfig(data=1), jax.devices()[:1])


@pytest.fixture(scope="module")
def updating():
    """A state, and what comes of one update of it."""
    numbers = np.random.default_rng(1)
    config = Ppo(
        model=MODEL, value_model=MODEL, optim=AdamWConfig(peak_lr=1e-2, clip=None), batch=ANSWERS,
        value_optim=AdamWConfig(peak_lr=1e-2, clip=VALUE_CLIP), prompt_length=4, answer_length=4,
        update=UpdateConfig(
            minibatches=1, gamma=GAMMA, text_rows=TEXT_ROWS, average=AVERAGE, value_weight=0.3,
            value_clip=0.05,
        ), microbatches=2, advantages=AdvantageConfig(estimator="k3"), temperature=TEMPERATURE,
    )  # fmt: skip

    def drawn(leaf):
        normal = 0.3 * numbers.standard_normal(leaf.shape, np.float32)
        return normal if leaf.dtype == jnp.float32 else np.zeros(leaf.shape, leaf.dtype)

    mesh = one_device()
    with jax.set_mesh(mesh):
        abstract = config.abstract(mesh)
        before = jax.tree.map(drawn, abstract)
        nothing = jax.tree.map(np.zeros_like, (before.policy_moments, before.value_moments))
        before = before.replace(policy_moments=nothing[0], value_moments=nothing[1])
    update, rates = config.compiled(mesh, abstract), (jnp.float32(1e-2), jnp.float32(0))

    def after(part, text):
        with jax.set_mesh(mesh):
            return jax.device_get(update(
                jax.tree.map(jnp.asarray, before), part, text, jnp.float32(0), rates,
                jax.random.key(0),
            ))  # fmt: skip

    return before, after


@pytest.fixture(scope="module")
def updated(given, updating):
    """A state, and the states after one update with the text and with text of which nothing counts,
    each with its metrics."""
    (part, text), (before, after) = given, updating
    found = [after(part, rows) for rows in (text, text.replace(mask=np.zeros_like(text.mask)))]
    assert all(metrics.finite for _, metrics in found)
    return before, *found


def gradient(moments):
    """In the one update that there was."""
    (mu,) = (one.mu for one in moments if hasattr(one, "mu"))
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
    own = gradient(plain.policy_moments)
    added = jax.tree.map(np.subtract, gradient(mixed.policy_moments), own)

    def weighed(gamma):
        return jax.tree.map(lambda leaf: gamma * leaf, expected)

    assert close(added, weighed(GAMMA))
    assert not close(added, weighed(0.0)) and not close(added, weighed(0.9 * GAMMA))  # the control
    assert not close(own, weighed(0.0))  # PPO's own is there beside it


def test_the_average_keeps_its_share_of_what_it_was_and_takes_the_rest_of_the_new_policy(updated):
    before, (after, _), _ = updated

    def expected(decay, new):
        return jax.tree.map(lambda old, now: decay * old + (1 - decay) * now, before.average, new)

    assert close(after.average, expected(AVERAGE, after.policy))
    for decay in (1 - AVERAGE, 0.9 * AVERAGE, 0.992):  # the control
        assert not close(after.average, expected(decay, after.policy))
    assert not close(after.average, expected(AVERAGE, before.policy))


def test_an_update_in_parts_descends_both_losses_over_all_tokens_of_its_minibatch(given, updated):
    before, _, (after, metrics) = updated
    part = given[0]

    @jax.jit
    def losses(policy, value):
        logp = answer_logp(MODEL, policy, part.tokens, part.start, 4, TEMPERATURE)
        values = answer_values(token_values(MODEL, value, part.tokens), part.start, 4)
        of_policy = ppo.policy_loss(logp, part.logp, part.advantages, part.mask, clip=0.2)
        of_values = ppo.value_loss(values, part.values, part.returns, part.mask, clip=0.05)
        step_kl = ppo.masked_mean(ppo.kl_estimate(part.logp, logp, "k3"), part.mask)
        return of_policy + 0.3 * of_values, (of_policy, of_values, step_kl)

    slopes, expected = jax.grad(losses, argnums=(0, 1), has_aux=True)(before.policy, before.value)
    assert close((metrics.policy_loss, metrics.value_loss, metrics.step_kl), expected)
    assert close(gradient(after.policy_moments), slopes[0])
    # which has no clip; that of the values is cut to theirs by its own length
    norm = np.sqrt(jax.jit(square_norm)(slopes[1]))
    assert VALUE_CLIP < 0.5 * norm < 0.5 * metrics.grad_norm
    cut = jax.tree.map(lambda leaf: leaf * VALUE_CLIP / norm, slopes[1])
    assert close(gradient(after.value_moments), cut)
    # each has a rate of its own, and the value function's is 0
    jax.tree.map(np.testing.assert_array_equal, after.value, before.value)
    assert not close(after.policy, before.policy)


@pytest.mark.parametrize("field", ["advantages", "returns"])
def test_an_update_of_what_is_no_number_leaves_the_state_as_it_was(given, updating, field):
    (part, text), (before, after) = given, updating
    wrong = np.array(getattr(part, field))
    wrong[0, 0] = np.nan
    found, metrics = after(part.replace(**{field: wrong}), text)
    assert not metrics.finite and metrics.applied == 0
    for name in ("policy", "value", "average", "policy_moments", "value_moments"):
        jax.tree.map(np.testing.assert_array_equal, getattr(found, name), getattr(before, name))


@pytest.mark.parametrize(("most", "scale"), [(None, 1.0), (10.0, 1.0), (5.0, 1.0), (2.0, 0.4)])
def test_a_gradient_is_scaled_down_to_its_clip_and_never_up(most, scale):
    found = clipped({"kernel": jnp.array([3.0, 4.0])}, jnp.float32(5.0), most)
    np.testing.assert_allclose(found["kernel"], [3 * scale, 4 * scale], rtol=1e-6)


class Recorder(Updater):
    """Keeps which rows the minibatches have, one after another."""

    def learn(self, state, part, text, rates):
        rows = jnp.roll(state.policy, -1, axis=0).at[-1].set(part.mask)
        zero, true = jnp.zeros(()), jnp.ones((), bool)
        return state.replace(policy=rows), UpdateMetrics(
            policy_loss=zero, value_loss=zero, text_loss=zero, grad_norm=zero, finite=true,
            applied=true, spike=zero, clipped=zero, first_ratio=zero, step_kl=zero,
        )  # fmt: skip


def test_every_inner_epoch_has_each_row_once_the_first_as_drawn_and_others_in_another_order():
    guard, zero, none = GuardConfig(spike="off"), jnp.zeros(()), jnp.full((6, 4), -1)
    config = UpdateConfig(minibatches=2, inner_epochs=3)
    update = Recorder(
        MODEL, MODEL, config, AdvantageConfig(), KlConfig(beta=0.1, target=6.0), guard,
        None, None, None, None, 1.0, one_device(),
    )  # fmt: skip
    state = PpoState(
        step=zero, policy=none, value=zero, average=none, policy_moments=zero, value_moments=zero,
        beta=jnp.float32(0.1), guard=GuardState.empty(guard),
    )  # fmt: skip
    fields = ("tokens", "start", "logp", "values", "rewards", "advantages", "returns")
    part = Experience(mask=jnp.arange(8), **dict.fromkeys(fields))
    with jax.set_mesh(one_device()):
        after, _ = update(state, part, None, jnp.float32(99.0), (zero, zero), jax.random.key(0))
    epochs = np.asarray(after.policy).reshape(3, 8).tolist()
    assert epochs[0] == [0, 2, 4, 6, 1, 3, 5, 7]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
    # an update counts as many episodes as it has answers
    assert float(after.beta) == pytest.approx(0.1 * (1 + 0.2 * 8 / 10_000), rel=1e-6)
