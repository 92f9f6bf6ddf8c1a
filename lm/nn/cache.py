"""What a layer keeps of the tokens it has seen, and how later queries are answered from it.

There are three ways to ask: one query in the same slot of every row (decoding a batch), one query
in a slot of each row's own (a server), and a piece of a text behind what is there (reading one).
"""

import flax.struct
import jax
import jax.numpy as jnp

from lm.core.dot import einsum
from lm.nn.config import BlockConfig, LayerPattern
from lm.nn.kernels import attend
from lm.nn.patterns import layer_mask, slots_seen
from lm.nn.sparse import MASKED


@flax.struct.dataclass
class LayerCache:
    """Keys and values of one layer, by slot; of a banded layer a ring, slot s at s modulo its size.
    Several tokens at once may go behind others in a cache that is no ring, and has room for them.

    Rows and heads are one axis: with two, XLA on CPU copies the cache at every token of one row.
    """

    k: jax.Array  # [B*N S H]
    v: jax.Array  # [B*N S H]
    # slots from the first on that are read at all, above all that a query may see; None: every one
    reach: int | None = flax.struct.field(pytree_node=False, default=None)

    @classmethod
    def empty(
        cls, config: BlockConfig, pattern: LayerPattern, rows: int, slots: int
    ) -> "LayerCache":
        """A cache for so many rows and slots; a banded layer keeps the last `band` alone."""
        kept = min(config.band, slots) if pattern == "banded" else slots
        zeros = jnp.zeros((rows * config.heads, kept, config.head_width), config.dtype)
        return cls(k=zeros, v=zeros)

    def rows(self, heads: int, index: jax.Array) -> "LayerCache":
        """The cache of these rows of the batch, in this order; a row may come more than once."""

        def taken(kept: jax.Array) -> jax.Array:
            by_row = kept.reshape(-1, heads, *kept.shape[1:])
            return by_row[index].reshape(-1, *kept.shape[1:])

        return LayerCache(k=taken(self.k), v=taken(self.v))


def write(kept: jax.Array, new: jax.Array, start: int | jax.Array) -> jax.Array:
    """`kept` [B*N S H] with `new` [B N T H] from slot `start` on; slot s stands at s modulo S."""
    if isinstance(start, jax.Array) and start.ndim == 1:
        return write_each(kept, new, start)
    new = new.reshape(-1, *new.shape[2:]).astype(kept.dtype)
    ring, count = kept.shape[1], new.shape[1]
    if count > ring:  # only the last ones stay
        return jnp.roll(new[:, -ring:], count % ring, axis=1)
    return jax.lax.dynamic_update_slice_in_dim(kept, new, start % ring, axis=1)


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


def attend_cache(
    q: jax.Array, cache: LayerCache, config: BlockConfig, pattern: LayerPattern,
    start: int | jax.Array, valid: jax.Array | None = None,
) -> jax.Array:  # fmt: skip
    """Queries against what their pattern sees of a cache, in which their own keys stand already.

    Args:
      q: [B N T H], of slots `start`, `start + 1`, ...
      start: of all rows; [B]: of each row's one query.
      valid: [B slots] bool, of one query in the same slot of every row.

    Returns:
      [B N T H].
    """
    if isinstance(start, jax.Array) and start.ndim == 1:
        return attend_each(q, cache, config, pattern, start)
    if q.shape[2] == 1:
        return attend_slots(q, cache, config, pattern, start, valid)
    return attend_behind(q, cache, config, pattern, start)


def attend_slots(
    q: jax.Array, cache: LayerCache, config: BlockConfig, pattern: LayerPattern,
    slot: int | jax.Array, valid: jax.Array | None,
) -> jax.Array:  # fmt: skip
    """One query a row [B N 1 H], in this slot of all rows, where `valid` [B slots]. [B N 1 H]"""
    heads = q.shape[1]
    k, v, kept = cache.k, cache.v, cache.k.shape[1]
    few = slots_seen(slot, kept, pattern, config)
    if few is None:
        here = jnp.asarray([slot])
        mask = layer_mask(here, jnp.arange(kept), pattern, config, heads)[:, 0]  # [N|1 S]
    else:
        places, exists = few
        if len(places) < kept:
            k, v = k[:, places % kept], v[:, places % kept]
        mask, valid = exists[None], None if valid is None else valid[:, places]
    if valid is not None:
        mask = mask & valid[:, None]  # [B N|1 S]
    return one_query(q, k, v, mask)


def attend_each(
    q: jax.Array, cache: LayerCache, config: BlockConfig, pattern: LayerPattern, slots: jax.Array
) -> jax.Array:
    """One query a row [B N 1 H], each in a slot [B] of its own, of rows whose tokens stand from
    slot 0 on. The cache may have more rows than the batch, which are its first. [B N 1 H]"""
    rows, heads, _, size = q.shape
    ring = cache.k.shape[1]
    kept = min(ring, cache.reach or ring)
    k, v = (each[: rows * heads, :kept] for each in (cache.k, cache.v))
    few = None
    if kept == ring or pattern != "banded":
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
    return one_query(q, k, v, mask)


def attend_behind(
    q: jax.Array, cache: LayerCache, config: BlockConfig, pattern: LayerPattern,
    start: int | jax.Array,
) -> jax.Array:  # fmt: skip
    """The queries of a piece of a text [B N T H], which begins in this slot of all rows, against
    all that stands before and in it. [B N T H]"""
    batch, heads, length, size = q.shape
    kept = min(cache.k.shape[1], cache.reach or cache.k.shape[1])
    k, v = (each[:, :kept].reshape(batch, heads, kept, size) for each in (cache.k, cache.v))
    queries = start + jnp.arange(length)
    return attend(q, k, v, layer_mask(queries, jnp.arange(kept), pattern, config, heads)[None])


def one_query(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    """`attend` for one query a row [B N 1 H], of keys and values as a cache has them [B*N S H] and
    a mask that broadcasts to [B N S]. [B N 1 H]"""
    batch, heads, _, size = q.shape
    mask = jnp.broadcast_to(mask, (batch, heads, k.shape[1])).reshape(batch * heads, -1)
    scores = einsum("XH,XSH->XS", q.reshape(batch * heads, size), k)
    weights = jax.nn.softmax(jnp.where(mask, scores * size**-0.5, MASKED), axis=-1)
    return einsum("XS,XSH->XH", weights.astype(v.dtype), v).astype(v.dtype).reshape(q.shape)
