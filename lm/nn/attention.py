"""Self-attention (Vaswani et al. 2017, section 3.2), dense or sparse, with or without a cache.

Where a query may look is said by a static pattern, the `valid` keys and the slot at which the
queries start. `attend` with the mask of these is the definition, and the oracle of the tests;
`attention` computes the same without a [T S] mask wherever there is a cheaper way.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from lm.core import axes
from lm.core.mesh import constrain
from lm.nn.config import BlockConfig, LayerPattern
from lm.nn.dropout import DropoutKeys
from lm.nn.initializers import kernel_init
from lm.nn.kernels import attend_slots, attention
from lm.nn.mlp import Dense
from lm.nn.patterns import layer_mask
from lm.nn.rows import attend_behind, attend_each, write_each
from lm.nn.sparse import MASKED


@flax.struct.dataclass
class LayerCache:
    """Keys and values of one layer, by slot; of a banded layer a ring, slot s at s modulo its size.
    Several tokens at once may go behind others in a cache that is no ring, and has room for them.

    Rows and heads are one axis: with two, XLA on CPU copies the cache at every token of one row.
    """

    k: jax.Array  # [B*N S H]
    v: jax.Array  # [B*N S H]
    reach: int | None = flax.struct.field(pytree_node=False, default=None)  # see `attend_each`

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


class Attention(nn.Module):
    """Multi-head self-attention with a fused projection to queries, keys and values."""

    config: BlockConfig
    pattern: LayerPattern = "dense"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,  # [B T D]
        valid: jax.Array | None = None,  # [B S] bool: keys that may be seen
        keys: DropoutKeys | None = None,
        cache: LayerCache | None = None,
        start: int | jax.Array = 0,  # the slot of the first query; [B]: of each row's one
        prefix: jax.Array | None = None,  # [B T] bool: keys that every query sees
    ) -> tuple[jax.Array, LayerCache | None]:
        config = self.config
        heads, size, width = config.heads, config.head_width, config.width
        split = (axes.HEADS, axes.HEAD)

        qkv = Dense(
            (width, 3, heads, size),
            (axes.WIDTH, axes.QKV, *split),
            kernel_init(config, "qkv"),
            use_bias=config.qkv_bias,
            narrow=config.narrow_products,
            name="qkv",
        )(x)
        qkv = checkpoint_name(qkv, "qkv")
        q, k, v = (
            constrain(qkv[:, :, i], axes.BATCH, axes.LENGTH, axes.HEADS, axes.HEAD)
            for i in range(3)
        )
        q, k, v = (jnp.swapaxes(each, 1, 2) for each in (q, k, v))  # [B N T H]
        if cache is not None:
            cache = LayerCache(write(cache.k, k, start), write(cache.v, v, start), cache.reach)
        if cache is not None and isinstance(start, jax.Array) and start.ndim == 1:
            context = attend_each(q, cache.k, cache.v, config, self.pattern, start, cache.reach)
        elif cache is not None and x.shape[1] == 1:
            context = attend_slots(q, cache.k, cache.v, config, self.pattern, valid, start)
        elif cache is not None and not (isinstance(start, int) and start == 0):
            context = attend_behind(q, cache.k, cache.v, config, self.pattern, start, cache.reach)
        else:
            seen = None if valid is None else valid[:, : x.shape[1]]
            context = attention(q, k, v, config, self.pattern, seen, keys, prefix)
        context = checkpoint_name(jnp.swapaxes(context, 1, 2), "context")
        output = Dense(
            (heads, size, width),
            (*split, axes.WIDTH),
            kernel_init(config, "context"),
            contracted=2,
            narrow=config.narrow_products,
            name="output",
        )
        return output(context), cache


def attention_weights(
    config: BlockConfig, params: Any, x: jax.Array, pattern: LayerPattern
) -> jax.Array:
    """Where each position looks: the weights of `Attention` by their definition, in float32.

    Args:
      params: of an `Attention`.
      x: [B T D], what enters it.

    Returns:
      [B N T T], the query first.
    """
    qk = jnp.einsum(
        "BTD,DCNH->CBNTH", x, params["qkv"]["kernel"][:, :2].astype(x.dtype),
        preferred_element_type=jnp.float32,
    )  # fmt: skip
    if config.qkv_bias:
        qk = qk + params["qkv"]["bias"][:2, None, :, None, :]
    q, k = qk.astype(x.dtype)
    scores = jnp.einsum("BNTH,BNSH->BNTS", q, k, preferred_element_type=jnp.float32)
    slots = jnp.arange(x.shape[1])
    mask = layer_mask(slots, slots, pattern, config, config.heads)
    return jax.nn.softmax(jnp.where(mask, scores * q.shape[-1] ** -0.5, MASKED), axis=-1)


def write(kept: jax.Array, new: jax.Array, start: int | jax.Array) -> jax.Array:
    """`kept` [B*N S H] with `new` [B N T H] from slot `start` on; slot s stands at s modulo S."""
    if isinstance(start, jax.Array) and start.ndim == 1:
        return write_each(kept, new, start)
    new = new.reshape(-1, *new.shape[2:]).astype(kept.dtype)
    ring, count = kept.shape[1], new.shape[1]
    if count > ring:  # only the last ones stay
        return jnp.roll(new[:, -ring:], count % ring, axis=1)
    return jax.lax.dynamic_update_slice_in_dim(kept, new, start % ring, axis=1)
