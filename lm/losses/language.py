"""Language-model losses over arrays, in float32 and in nats."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def token_losses(logits: jax.Array, targets: ArrayLike) -> jax.Array:
    """Cross-entropy of each target [B T] under `logits` [B T V]. [B T]"""
    logits = logits.astype(jnp.float32)
    picked = jnp.take_along_axis(logits, jnp.expand_dims(targets, -1), axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - picked


def masked_sum(losses: jax.Array, mask: ArrayLike) -> jax.Array:
    """Sum of `losses` where `mask` is true; divide by their number with `mean`."""
    return jnp.sum(jnp.where(mask, losses, 0.0))


def mean(total: jax.Array, count: jax.Array) -> jax.Array:
    """`total / count`; zero, not NaN, where nothing counts."""
    return total / jnp.maximum(count, 1.0)
