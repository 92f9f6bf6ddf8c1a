"""The loss of a tied output layer without the scores of the whole vocabulary on any device.

A vocabulary such as GPT-2's 50,257 divides by no number of devices. Rows of zeros are added inside
the computation alone, and count for nothing: parameters and checkpoints keep their shape. Without
that every device of a tensor axis holds all the scores, [B T V] in float32, and their gradient.
"""

import jax
import jax.numpy as jnp

from lm.core import axes
from lm.core.dot import einsum
from lm.core.mesh import constrain, platform, ways
from lm.core.padding import padded_rows
from lm.losses.cached import LARGE, cached_losses
from lm.losses.language import token_losses


def vocabulary_losses(
    hidden: jax.Array, table: jax.Array, targets: jax.Array, *, parts: int = 1
) -> jax.Array:
    """Cross-entropy of each target under the scores `hidden` @ `table`.T, in float32 nats.

    Args:
      hidden: [B T D].
      table: [V D], a row for each token.
      targets: [B T] int.
      parts: that the vocabulary is taken in, one after another. The backward pass computes the
        scores of each again, so that those of one part are all there ever is.

    Returns:
      [B T].
    """
    vocab, width = table.shape
    if parts == 1 and platform() == "cpu" and vocab >= LARGE and ways(axes.VOCABULARY) == 1:
        return cached_losses(hidden, table, targets)
    table = table.astype(hidden.dtype)
    if parts == 1 and vocab % ways(axes.VOCABULARY) == 0:
        return token_losses(scores_of(hidden, table), targets)
    hidden = constrain(hidden, axes.BATCH, axes.LENGTH, axes.WIDTH)
    padded = padded_rows(table, parts)
    rows = len(padded) // parts  # of a part

    def part(number: jax.Array, kernel: jax.Array, wide: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of the tokens number, number + parts ...: log of the sum, and the targets' scores."""
        ids = jnp.arange(rows) * parts + number
        scores = jnp.where(ids < vocab, scores_of(wide.astype(hidden.dtype), kernel), -jnp.inf)
        # a sum, not a lookup: each device has a target's score or zero
        found = jnp.sum(jnp.where(ids == targets[..., None], scores, 0.0), axis=-1)
        return jax.nn.logsumexp(scores, axis=-1), found

    if parts == 1:
        total, found = part(jnp.zeros((), jnp.int32), padded, hidden)
        return total - found
    # every part has tokens of each device's rows: cutting them out sends nothing
    kernels = jnp.swapaxes(padded.reshape(rows, parts, width), 0, 1)
    wide = hidden.astype(jnp.float32)  # the parts' gradients are added in this dtype
    again = jax.checkpoint(part)
    totals, founds = jax.lax.map(lambda each: again(*each, wide), (jnp.arange(parts), kernels))
    return jax.nn.logsumexp(totals, axis=0) - jnp.sum(founds, axis=0)


def scores_of(hidden: jax.Array, table: jax.Array) -> jax.Array:
    """`hidden` [B T D] against each row of `table` [R D], in float32. [B T R]"""
    scores = einsum("BTD,RD->BTR", hidden, table)
    return constrain(scores, axes.BATCH, axes.LENGTH, axes.VOCABULARY)
