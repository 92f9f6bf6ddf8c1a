"""Proximal policy optimisation, token by token (Schulman et al. 2017; Ziegler et al. 2019).

Arrays are [B T] over the tokens of answers: entry t is of the state before token t and of the
choice of that token. A mask is true at an answer's tokens, its end token included.
"""

from typing import Literal

import jax
import jax.numpy as jnp

Estimator = Literal["k1", "k3"]


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of `x` where `mask` is true; zero where it is nowhere."""
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def masked_variance(x: jax.Array, mask: jax.Array, *, bessel: bool) -> jax.Array:
    """Mean square distance to the mean where `mask` is true; over one less with `bessel`."""
    count = jnp.maximum(jnp.sum(mask), 1)
    squares = jnp.sum(jnp.where(mask, jnp.square(x - masked_mean(x, mask)), 0.0))
    return squares / (jnp.maximum(count - 1, 1) if bessel else count)


def whiten(x: jax.Array, mask: jax.Array, *, bessel: bool, shift: bool = True) -> jax.Array:
    """`x` with variance 1 and, with `shift`, mean 0 over the mask; elsewhere 0.

    Two conventions are in use, and they differ. lm-human-preferences: biased variance over every
    position, padding too (a mask that is true everywhere, `bessel=False`). TRL: over real tokens,
    with Bessel's correction. Both add 1e-8 to the variance.
    """
    mean = masked_mean(x, mask)
    scaled = (x - mean) * jax.lax.rsqrt(masked_variance(x, mask, bessel=bessel) + 1e-8)
    return jnp.where(mask, scaled if shift else scaled + mean, 0.0)


def kl_estimate(logp: jax.Array, reference_logp: jax.Array, kind: Estimator) -> jax.Array:
    """The KL from a reference, estimated at each token that the policy drew. [B T]

    Both have the KL as their mean (Schulman 2020, "Approximating KL divergence"): k1, the logarithm
    of the ratio, of either sign; k3, of smaller variance, never negative.
    """
    gain = logp - reference_logp
    return gain if kind == "k1" else jnp.expm1(-gain) + gain


def token_rewards(
    scores: jax.Array, kl: jax.Array, mask: jax.Array, beta: jax.Array | float
) -> jax.Array:
    """-beta x kl at each token, and each answer's score [B] at its last one. [B T]

    Equation 2 of Ouyang et al. (2022) spread over the tokens, as in Ziegler et al. (2019).
    """
    positions = jnp.arange(mask.shape[1])
    last = positions == jnp.max(jnp.where(mask, positions, -1), axis=1, keepdims=True)
    return jnp.where(mask, -beta * kl, 0.0) + jnp.where(last, scores[:, None], 0.0)


def gae(
    rewards: jax.Array, values: jax.Array, mask: jax.Array, *, discount: float, decay: float
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantages and returns. [B T], [B T]

    A(t) = sum over k of (discount decay)^k delta(t + k), with
    delta(t) = r(t) + discount V(t + 1) - V(t), and V = 0 after the last token (Schulman et al.
    2016, equation 16). Returns are advantages plus values. Both are 0 outside the mask, which holds
    an unbroken run of tokens from each row's first.
    """
    values = jnp.where(mask, values, 0.0)
    following = jnp.pad(values[:, 1:], ((0, 0), (0, 1)))
    deltas = jnp.where(mask, rewards + discount * following - values, 0.0)

    def back(later: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        advantage = delta + discount * decay * later
        return advantage, advantage

    _, advantages = jax.lax.scan(back, jnp.zeros_like(deltas[:, 0]), deltas.T, reverse=True)
    advantages = jnp.where(mask, advantages.T, 0.0)
    return advantages, advantages + values


def policy_loss(
    logp: jax.Array, old_logp: jax.Array, advantages: jax.Array, mask: jax.Array, *, clip: float
) -> jax.Array:
    """Clipped surrogate of PPO (Schulman et al. 2017, equation 7), averaged over answer tokens."""
    ratio = jnp.exp(jnp.where(mask, logp - old_logp, 0.0))
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    return masked_mean(-jnp.minimum(ratio * advantages, clipped * advantages), mask)


def value_loss(
    values: jax.Array, old_values: jax.Array, returns: jax.Array, mask: jax.Array, *, clip: float
) -> jax.Array:
    """Half the mean over answer tokens of the larger square error, of the values and of the values
    kept within `clip` of the old ones (lm-human-preferences, train_policy.py)."""
    values = jnp.where(mask, values, returns)
    near = jnp.clip(values, old_values - clip, old_values + clip)
    worst = jnp.maximum(jnp.square(values - returns), jnp.square(near - returns))
    return 0.5 * masked_mean(worst, mask)


def clipped_share(
    logp: jax.Array, old_logp: jax.Array, mask: jax.Array, *, clip: float
) -> jax.Array:
    """Share of answer tokens whose ratio lies outside 1 - clip .. 1 + clip."""
    ratio = jnp.exp(jnp.where(mask, logp - old_logp, 0.0))
    return masked_mean((jnp.abs(ratio - 1) > clip).astype(jnp.float32), mask)
