"""Attention as a server's rows need it: each decodes at a slot of its own, and is read in pieces.

A row's tokens stand from slot 0 on. The batch may be smaller than the cache; it then uses the
cache's first rows.
"""

import jax
import jax.numpy as jnp

from lm.nn.config import BlockConfig, LayerPattern
from lm.nn.kernels import attend
from lm.nn.patterns import layer_mask, slots_seen
from lm.nn.sparse import MASKED


def write_each(kept: jax.Array, new: jax.Array, slots: jax.Array) -> jax.Array:
    """`kept` [X*N S H] with `new` [B N 1 H] in the slots [B] of its first B rows.

    Slot s stands at s modulo S.
    """
    heads = new.shape[1]
    places = slots % kept.shape[1]
    new = new.astype(kept.dtype)

    def put(row: jax.Array, kept: jax.Array) -> jax.Array:
        one = jax.lax.dynamic_index_in_dim(new, row, keepdims=False)
        return jax.lax.dynamic_update_slice(kept, one, (row * heads, places[row], 0))

    # row by row: one scatter for all of them would make XLA on CPU copy the cache
    return jax.lax.fori_loop(0, new.shape[0], put, kept)


def attend_each(
    q: jax.Array, k: jax.Array, v: jax.Array, config: BlockConfig, pattern: LayerPattern,
    slots: jax.Array, reach: int | None = None,
) -> jax.Array:  # fmt: skip
    """One query a row, each in a slot of its own, against what its pattern sees of a cache.

    Args:
      q: [B N 1 H].
      k, v: [X*N S H], rows and heads as one axis, X at least B.
      slots: [B].
      reach: slots from the first on that are read at all, above every one of `slots`.

    Returns:
      [B N 1 H].
    """
    rows, heads, _, size = q.shape
    kept = min(k.shape[1], reach or k.shape[1])
    ring = k.shape[1]
    k, v = (each[: rows * heads, :kept] for each in (k, v))
    few = None
    if not isinstance(pattern, tuple) and (kept == ring or pattern != "banded"):
        few = jax.vmap(lambda slot: slots_seen(slot, kept, pattern, config) or ())(slots)
    if not few:
        mask = jax.vmap(
            lambda slot: layer_mask(slot[None], jnp.arange(kept), pattern, config, heads)[:, 0]
        )(slots)  # [B N|1 S]
    else:
        places, exists = few  # [B R]
        if places.shape[1] < kept:
            index = (places % kept)[:, None, :, None]
            k, v = (
                jnp.take_along_axis(each.reshape(rows, heads, kept, size), index, axis=2)
                .reshape(rows * heads, -1, size) for each in (k, v)
            )  # fmt: skip
        mask = exists[:, None]
    mask = jnp.broadcast_to(mask, (rows, heads, k.shape[1])).reshape(rows * heads, -1)
    flat = q.reshape(rows * heads, size)
    scores = jnp.einsum("XH,XSH->XS", flat, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.where(mask, scores * size**-0.5, MASKED), axis=-1)
    context = jnp.einsum(
        "XS,XSH->XH", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    return context.astype(v.dtype).reshape(q.shape)


def attend_behind(
    q: jax.Array, k: jax.Array, v: jax.Array, config: BlockConfig, pattern: LayerPattern,
    start: int | jax.Array, reach: int | None = None,
) -> jax.Array:  # fmt: skip
    """The queries of a piece of a text against all that stands before and in it.

    Args:
      q: [B N T H], of slots `start`, `start + 1`, ...
      k, v: [B*N S H], rows and heads as one axis, the piece's own keys among them.
      start: the same for all rows.
      reach: slots from the first on that are read at all, at least `start + T`.

    Returns:
      [B N T H].
    """
    batch, heads, length, size = q.shape
    kept = min(k.shape[1], reach or k.shape[1])
    k, v = (each[:, :kept].reshape(batch, heads, kept, size) for each in (k, v))
    queries = start + jnp.arange(length)
    return attend(q, k, v, layer_mask(queries, jnp.arange(kept), pattern, config, heads)[None])
