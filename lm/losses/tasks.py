"""Losses of a task's head, one a row, in float32 and in nats."""

import jax
import jax.numpy as jnp

from lm.losses.language import token_losses

ABSENT = -1e9  # the score of a candidate or token that is not there


def choice_losses(scores: jax.Array, candidates: jax.Array, label: jax.Array) -> jax.Array:
    """Cross-entropy of the right one of the candidates there. [B] from [B C], [B C] and [B]"""
    return token_losses(jnp.where(candidates, scores, ABSENT), label)


def square_losses(scores: jax.Array, label: jax.Array) -> jax.Array:
    """Square of the difference to the right number. [B] from [B] and [B]"""
    return jnp.square(scores - label)


def span_losses(scores: jax.Array, valid: jax.Array, label: jax.Array) -> jax.Array:
    """Mean cross-entropy of a span's start and end (BERT, section 4.2).

    [B] from [B T 2] scores, [B T] real tokens and [B 2] positions.
    """
    over_tokens = jnp.where(valid[..., None], scores, ABSENT)
    return token_losses(jnp.swapaxes(over_tokens, 1, 2), label).mean(axis=-1)


def tag_losses(scores: jax.Array, label: jax.Array) -> jax.Array:
    """Sum of the cross-entropies of the tokens that have a tag, label >= 0. [B] from [B T K]"""
    losses = token_losses(scores, jnp.maximum(label, 0))
    return jnp.sum(jnp.where(label >= 0, losses, 0.0), axis=-1)


def auxiliary_losses(logits: jax.Array, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean loss of each row's language model over the successors of the tokens in `mask` (GPT-1,
    section 3.2; train.py). [...] from [... T V], [... T] and [... T]; zero where none counts."""
    losses = token_losses(logits[..., :-1, :], tokens[..., 1:])
    counted = mask[..., :-1]
    total = jnp.sum(jnp.where(counted, losses, 0.0), axis=-1)
    return total / jnp.maximum(jnp.sum(counted, axis=-1), 1)
