"""Losses over answers that people, or a program, have put in an order. Float32, nats.

All answers to a prompt are one element of a batch: their pairs are not independent, and apart, as
rows of their own, one epoch sees each answer K - 1 times and overfits (Ouyang et al. 2022, 3.5).
"""

import jax
import jax.numpy as jnp

from lm.losses.language import mean


def preferred(ranks: jax.Array, present: jax.Array, faults: jax.Array | bool = False) -> jax.Array:
    """Which answer of a pair was preferred. [B C C], true at [b, w, l] where w ranks above l.

    Args:
      ranks: [B C] int, 0 the best; equal ranks are a tie, which is no pair.
      present: [B C] bool, the answers that are there.
      faults: [B C C] bool, of the pairs those that are left out.
    """
    both = present[:, :, None] & present[:, None, :] & ~jnp.asarray(faults)
    return both & (ranks[:, :, None] < ranks[:, None, :])


def comparison_losses(
    scores: jax.Array, ranks: jax.Array, present: jax.Array, faults: jax.Array | bool = False
) -> jax.Array:
    """Mean over a prompt's pairs of -log sigmoid(score of the preferred - score of the other). [B]

    The loss of InstructGPT's reward model (Ouyang et al. 2022, equation 1) from scores [B C],
    ranks, presence and faults as in `preferred`. Of implicit rewards, beta (log pi - log pi_ref),
    it is the loss of DPO (Rafailov et al. 2023, equation 7), for two answers or for more. A prompt
    without a pair has loss 0; `pairs` counts them.
    """
    above = preferred(ranks, present, faults)
    # the difference of absent scores is never read, and must not make a NaN of the gradient
    scores = jnp.where(present, scores.astype(jnp.float32), 0.0)
    losses = -jax.nn.log_sigmoid(scores[:, :, None] - scores[:, None, :])
    return mean(jnp.sum(jnp.where(above, losses, 0.0), axis=(1, 2)), pairs(ranks, present, faults))


def choice_losses(
    scores: jax.Array, ranks: jax.Array, present: jax.Array, faults: jax.Array | bool = False
) -> jax.Array:
    """-log softmax of the scores, at the best answer of each prompt. [B]

    How lm-human-preferences learned from a choice among four (Ziegler et al. 2019, equation 1). A
    prompt without one best answer has loss 0; `chosen` counts the others.
    """
    scores = jnp.where(present, scores.astype(jnp.float32), -jnp.inf)
    best = jnp.argmin(jnp.where(present, ranks, jnp.iinfo(jnp.int32).max), axis=1)
    shares = jax.nn.log_softmax(jnp.where(jnp.any(present, axis=1, keepdims=True), scores, 0.0))
    losses = -jnp.take_along_axis(shares, best[:, None], axis=1)[:, 0]
    return jnp.where(chosen(ranks, present, faults) > 0, losses, 0.0)


def chosen(ranks: jax.Array, present: jax.Array, faults: jax.Array | bool = False) -> jax.Array:
    """Whether one answer of several of a prompt is above all others. [B] float32"""
    others = jnp.sum(present, axis=1, keepdims=True) - 1
    above = jnp.sum(preferred(ranks, present, faults), axis=2)
    return jnp.any((above == others) & (others > 0), axis=1).astype(jnp.float32)


def pairs(ranks: jax.Array, present: jax.Array, faults: jax.Array | bool = False) -> jax.Array:
    """Pairs of each prompt of which one answer is preferred. [B] float32"""
    return jnp.sum(preferred(ranks, present, faults), axis=(1, 2), dtype=jnp.float32)


def best_and_worst(
    scores: jax.Array, ranks: jax.Array, present: jax.Array, faults: jax.Array | bool = False
) -> tuple[jax.Array, jax.Array]:
    """The score of the best answer of each prompt of those that are in a pair, and that of the
    worst, means where several are. [B] and [B], NaN where there is no pair"""
    above = preferred(ranks, present, faults)
    present = jnp.any(above, axis=1) | jnp.any(above, axis=2)
    beyond = jnp.iinfo(jnp.int32).max
    first = jnp.min(jnp.where(present, ranks, beyond), axis=1, keepdims=True)
    last = jnp.max(jnp.where(present, ranks, -beyond), axis=1, keepdims=True)
    best, worst = present & (ranks == first), present & (ranks == last)
    return jnp.mean(scores, axis=1, where=best), jnp.mean(scores, axis=1, where=worst)


def answer_losses(log_odds: jax.Array, answered: jax.Array) -> jax.Array:
    """-log probability of the yes or no that a question was answered with, under the log-odds of a
    yes. [...] from [...] and [...]: 1 yes, 0 no, -1 not answered, whose loss is 0."""
    signed = jnp.where(answered == 1, log_odds, -log_odds).astype(jnp.float32)
    return jnp.where(answered >= 0, -jax.nn.log_sigmoid(signed), 0.0)


def right_pairs(
    scores: jax.Array, ranks: jax.Array, present: jax.Array, faults: jax.Array | bool = False
) -> jax.Array:
    """Pairs of each prompt in the order of the ranks; equal scores are half right. [B]"""
    above = preferred(ranks, present, faults)
    first, second = scores[:, :, None], scores[:, None, :]
    right = (first > second) + 0.5 * (first == second)
    return jnp.sum(jnp.where(above, right, 0.0), axis=(1, 2))
