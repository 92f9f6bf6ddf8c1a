"""PPO's formulas against the two public programs they come from, written out in NumPy.

The two conventions of whitening are apart: a test that both pass would compare nothing.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.losses import ppo

NUMBERS = np.random.default_rng(0)
LENGTHS = (6, 1, 4, 3)
MASK = np.arange(6) < np.array(LENGTHS)[:, None]
close = np.testing.assert_allclose


def drawn():
    return NUMBERS.standard_normal(MASK.shape).astype(np.float32)


# ------------------------------------------------------------- written out


def gae_of_row(rewards, values, discount, decay):
    """One answer without padding, from its definition: a sum over the later tokens."""
    length = len(rewards)
    following = [*values[1:], 0.0]
    deltas = [rewards[t] + discount * following[t] - values[t] for t in range(length)]
    return [sum((discount * decay) ** (u - t) * deltas[u] for u in range(t, length))
            for t in range(length)]  # fmt: skip


def openai_whiten(values, shift_mean=True):
    """lm_human_preferences.utils.core.whiten: moments over all that is there, biased variance."""
    mean, var = np.mean(values), np.var(values)
    whitened = (values - mean) / np.sqrt(var + 1e-8)
    return whitened if shift_mean else whitened + mean


def trl_whiten(values, mask, shift_mean=True):
    """trl's masked_whiten: moments over the mask, variance times n / (n - 1)."""
    count = mask.sum()
    mean = (values * mask).sum() / count
    var = (((values - mean) ** 2) * mask).sum() / count * count / (count - 1)
    whitened = (values - mean) / np.sqrt(var + 1e-8)
    return whitened if shift_mean else whitened + mean


def openai_losses(logp, old_logp, values, old_values, rewards, clip=0.2, decay=0.95):
    """lm_human_preferences.train_policy: whitened rewards and advantages, nothing is masked."""
    rewards = openai_whiten(rewards, shift_mean=False)
    advantages = np.array(
        [gae_of_row(r, v, 1.0, decay) for r, v in zip(rewards, old_values, strict=True)]
    )
    returns = advantages + old_values
    advantages = openai_whiten(advantages)
    near = np.clip(values, old_values - clip, old_values + clip)
    vf = 0.5 * np.mean(np.maximum((values - returns) ** 2, (near - returns) ** 2))
    ratio = np.exp(logp - old_logp)
    pg = np.mean(np.maximum(-advantages * ratio, -advantages * np.clip(ratio, 1 - clip, 1 + clip)))
    return pg, vf


def trl_losses(logp, old_logp, values, old_values, rewards, mask, clip=0.2, decay=0.95):
    """trl's PPO: masked means, advantages whitened over the mask with Bessel's correction."""
    advantages = np.zeros(mask.shape)
    for row, length in enumerate(mask.sum(axis=1)):
        some = gae_of_row(rewards[row, :length], old_values[row, :length], 1.0, decay)
        advantages[row, :length] = some
    returns = advantages + old_values
    advantages = trl_whiten(advantages, mask)
    near = np.clip(values, old_values - clip, old_values + clip)
    vf = 0.5 * np.maximum((values - returns) ** 2, (near - returns) ** 2)[mask].mean()
    ratio = np.exp(logp - old_logp)
    pg = np.maximum(-advantages * ratio, -advantages * np.clip(ratio, 1 - clip, 1 + clip))
    return pg[mask].mean(), vf


def ours(logp, old_logp, values, old_values, rewards, mask, *, bessel, whiten_rewards):
    mask = jnp.asarray(mask)
    if whiten_rewards:
        rewards = ppo.whiten(rewards, mask, bessel=bessel, shift=False)
    advantages, returns = ppo.gae(rewards, old_values, mask, discount=1.0, decay=0.95)
    advantages = ppo.whiten(advantages, mask, bessel=bessel)
    return (
        ppo.policy_loss(logp, old_logp, advantages, mask, clip=0.2),
        ppo.value_loss(values, old_values, returns, mask, clip=0.2),
    )


# ------------------------------------------------------------- the formulas


def test_gae_equals_the_written_out_sum_and_is_zero_in_the_tail():
    rewards, values = drawn(), drawn()
    advantages, returns = ppo.gae(rewards, values, MASK, discount=0.99, decay=0.9)
    for row, length in enumerate(LENGTHS):
        expected = gae_of_row(rewards[row, :length], values[row, :length], 0.99, 0.9)
        close(advantages[row, :length], expected, rtol=1e-6, atol=1e-6)
        close(returns[row, :length], expected + values[row, :length], rtol=1e-6, atol=1e-6)
    assert not np.asarray(advantages)[~MASK].any() and not np.asarray(returns)[~MASK].any()


def test_gae_with_decay_one_is_return_minus_value_and_with_zero_the_td_error():
    rewards, values = drawn(), drawn()
    values = np.where(MASK, values, 0)
    rest = np.cumsum(np.where(MASK, rewards, 0)[:, ::-1], axis=1)[:, ::-1]
    whole, _ = ppo.gae(rewards, values, MASK, discount=1.0, decay=1.0)
    close(whole, np.where(MASK, rest - values, 0), rtol=1e-6, atol=1e-6)
    one, _ = ppo.gae(rewards, values, MASK, discount=1.0, decay=0.0)
    after = np.pad(values[:, 1:], ((0, 0), (0, 1)))
    close(one, np.where(MASK, rewards + after - values, 0), rtol=1e-6, atol=1e-6)


def test_what_stands_in_the_tail_is_never_read():
    rewards, values = drawn(), drawn()
    spoiled = [np.where(MASK, x, np.nan) for x in (rewards, values)]
    for mine, theirs in zip(
        ppo.gae(rewards, values, MASK, discount=1.0, decay=0.95),
        ppo.gae(*spoiled, MASK, discount=1.0, decay=0.95),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_a_ratio_that_overflows_in_the_tail_leaves_the_gradient_as_it_was():
    logp, old, advantages = drawn(), drawn(), drawn()
    slope = jax.grad(lambda x, old: ppo.policy_loss(x, old, advantages, MASK, clip=0.2))
    beyond = np.where(MASK, old, -1000.0).astype(np.float32)
    np.testing.assert_array_equal(slope(logp, beyond), slope(logp, old))


@pytest.mark.parametrize("shift", [True, False])
def test_whitened_values_are_zero_behind_an_answer(shift):
    whitened = ppo.whiten(drawn() + 3, MASK, bessel=True, shift=shift)
    assert not np.asarray(whitened)[~MASK].any()


def test_values_that_hardly_differ_are_divided_by_the_root_of_1e_8_more_than_their_variance():
    values = np.tile(np.array([1e-4, -1e-4], np.float32), (4, 3))  # variance 1e-8
    found = ppo.whiten(values, np.ones_like(MASK), bessel=False)
    close(found, values / np.sqrt(2e-8), rtol=1e-5)


@pytest.mark.parametrize("shift", [True, False])
def test_whitening_has_two_conventions_and_each_equals_its_own_program_alone(shift):
    values, everywhere = drawn(), np.ones_like(MASK)
    openai = ppo.whiten(values, everywhere, bessel=False, shift=shift)
    close(openai, openai_whiten(values, shift), rtol=1e-6, atol=1e-6)
    masked = np.asarray(ppo.whiten(values, MASK, bessel=True, shift=shift))
    close(masked[MASK], trl_whiten(values, MASK, shift)[MASK], rtol=1e-6, atol=1e-6)
    # the control: neither is the other, even where all is real
    corrected = ppo.whiten(values, everywhere, bessel=True, shift=shift)
    assert np.abs(np.asarray(openai) - trl_whiten(values, everywhere, shift)).max() > 1e-3
    assert np.abs(np.asarray(corrected) - openai_whiten(values, shift)).max() > 1e-3


def test_the_losses_equal_those_of_lm_human_preferences():
    inputs = [drawn() for _ in range(5)]
    found = ours(*inputs, np.ones_like(MASK), bessel=False, whiten_rewards=True)
    close(found, openai_losses(*inputs), rtol=1e-6, atol=1e-6)
    other = ours(*inputs, np.ones_like(MASK), bessel=True, whiten_rewards=True)
    assert np.abs(np.subtract(other, openai_losses(*inputs))).max() > 1e-4


def test_the_losses_equal_those_of_trl():
    inputs = [drawn() for _ in range(5)]
    found = ours(*inputs, MASK, bessel=True, whiten_rewards=False)
    close(found, trl_losses(*inputs, MASK), rtol=1e-6, atol=1e-6)
    other = ours(*inputs, MASK, bessel=False, whiten_rewards=False)
    assert np.abs(np.subtract(other, trl_losses(*inputs, MASK))).max() > 1e-4


def test_a_score_comes_with_the_last_token_and_the_penalty_with_each():
    scores, kl = np.array([5.0, -1.0, 2.0, 0.5], np.float32), drawn()
    found = np.asarray(ppo.token_rewards(scores, kl, MASK, 0.3))
    expected = np.where(MASK, -0.3 * kl, 0)
    for row, length in enumerate(LENGTHS):
        expected[row, length - 1] += scores[row]
    close(found, expected, rtol=1e-6)
    # an answer without a token has no place for its score
    assert not np.asarray(ppo.token_rewards(scores, kl, np.zeros_like(MASK), 0.3)).any()


def test_both_estimates_of_the_kl_have_it_as_their_mean_and_k3_varies_less():
    policy, reference = (jax.nn.log_softmax(jnp.asarray(drawn()[0])) for _ in range(2))
    share, found = np.exp(policy), {}
    for kind in ("k1", "k3"):
        each = np.asarray(ppo.kl_estimate(policy, reference, kind))
        close(np.sum(share * each), np.sum(share * (policy - reference)), rtol=1e-5)
        found[kind] = each
    assert found["k1"].min() < 0 <= found["k3"].min()
    near = policy + 0.1 * (reference - policy)  # not quite a distribution, and near to one
    spread = [np.std(ppo.kl_estimate(policy, near, kind)) for kind in ("k1", "k3")]
    assert spread[1] < 0.2 * spread[0]


def test_ratios_beyond_the_clip_give_no_gradient_where_they_would_gain():
    mask, old = np.ones((1, 4), bool), np.zeros((1, 4), np.float32)
    logp = np.log(np.array([[1.5, 1.5, 0.5, 0.5]], np.float32))
    advantages = np.array([[1.0, -1.0, 1.0, -1.0]], np.float32)
    grads = jax.grad(lambda x: ppo.policy_loss(x, old, advantages, mask, clip=0.2))(logp)
    np.testing.assert_array_equal(np.asarray(grads)[0] != 0, [False, True, True, False])
    assert float(ppo.clipped_share(logp, old, mask, clip=0.2)) == 1.0
    assert float(ppo.clipped_share(old, old, mask, clip=0.2)) == 0.0


@pytest.mark.parametrize("loss", [ppo.policy_loss, ppo.value_loss])
def test_what_stands_in_the_tail_reaches_no_gradient(loss):
    some = [drawn() for _ in range(3)]  # what is learned, the old one, and what it is held to
    spoiled = [np.where(MASK, x, np.nan) for x in some]
    mine, theirs = (jax.grad(partial(loss, mask=MASK, clip=0.2))(*x) for x in (some, spoiled))
    assert np.asarray(mine)[MASK].any()
    np.testing.assert_array_equal(mine, theirs)


def test_means_over_no_token_are_zero():
    nothing = np.zeros_like(MASK)
    assert float(ppo.policy_loss(drawn(), drawn(), drawn(), nothing, clip=0.2)) == 0.0
    assert np.isfinite(np.asarray(ppo.whiten(drawn(), nothing, bessel=True))).all()
