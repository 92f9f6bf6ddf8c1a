"""The loss of a large vocabulary on CPUs, by parts that their caches hold better than the whole.

The backward pass gets the exponentials of each part's scores, in the dtype of the activations, and
makes the scores' gradient of them: those of the whole vocabulary are never there at once.
"""

from typing import Any

import jax
import jax.numpy as jnp

from lm.core.dot import TILE, einsum, transposed_product

PARTS = 4
LARGE = 8192  # tokens; below, the whole is as fast


@jax.custom_vjp
def cached_losses(hidden: jax.Array, table: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy of each target under the scores `hidden` @ `table`.T, in float32 nats.

    Args:
      hidden: [B T D].
      table: [V D], in any float dtype; cast to that of `hidden`.
      targets: [B T] int.

    Returns:
      [B T].
    """
    return forward(hidden, table, targets)[0]


def forward(hidden: jax.Array, table: jax.Array, targets: jax.Array) -> tuple[jax.Array, Any]:
    """The losses, and what the backward pass needs."""
    exponentials, largest, totals, found = [], [], [], jnp.zeros(targets.shape)
    for first, rows in parts_of(table, hidden.dtype):
        scores = einsum("BTD,RD->BTR", hidden, rows)
        if first + len(rows) > len(table):
            scores = jnp.where(first + jnp.arange(len(rows)) < len(table), scores, -jnp.inf)
        top = jnp.max(scores, axis=-1)
        powers = jnp.exp(scores - top[..., None])
        place = jnp.clip(targets - first, 0, len(rows) - 1)
        picked = jnp.take_along_axis(scores, place[..., None], axis=-1)[..., 0]
        found = jnp.where(targets - first == place, picked, found)
        # the barrier has XLA keep these and not the wider ones that they are rounded from
        exponentials.append(jax.lax.optimization_barrier(powers.astype(hidden.dtype)))
        largest.append(top)
        totals.append(jnp.sum(powers, axis=-1))
    tops = jnp.stack(largest)
    total = jax.nn.logsumexp(tops + jnp.log(jnp.stack(totals)), axis=0)
    return total - found, (hidden, table, targets, exponentials, jnp.exp(tops - total))


def backward(kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    """Gradients of hidden states and table for those of the losses, `g` [B T]."""
    hidden, table, targets, exponentials, shares = kept
    from_scores = jnp.zeros(hidden.shape, jnp.float32)
    by_row = []
    for (first, rows), powers, share in zip(
        parts_of(table, hidden.dtype), exponentials, shares, strict=True
    ):
        right = first + jnp.arange(len(rows)) == targets[..., None]
        of_scores = powers * (share * g)[..., None] - jnp.where(right, g[..., None], 0.0)
        of_scores = of_scores.astype(hidden.dtype)
        from_scores += einsum("BTR,RD->BTD", of_scores, rows)
        by_row.append(transposed_product(hidden, of_scores).T)
    return from_scores.astype(hidden.dtype), jnp.concatenate(by_row)[: len(table)], None


def parts_of(table: jax.Array, dtype: Any) -> list[tuple[int, jax.Array]]:
    """First ids and rows of the parts of a table [V D], of equal length: zeros fill the last."""
    rows = -(-len(table) // (PARTS * TILE)) * TILE
    padded = jnp.pad(table.astype(dtype), ((0, PARTS * rows - len(table)), (0, 0)))
    return [(first, padded[first : first + rows]) for first in range(0, PARTS * rows, rows)]


cached_losses.defvjp(forward, backward)
