"""Self-attention (Vaswani et al. 2017, section 3.2), dense or sparse, with or without a cache.

Where a query may look is said by a static pattern, the `valid` keys and the slot at which the
queries start. `attend` with the mask of these is the definition, and the oracle of the tests;
`attention` computes the same without a [T S] mask wherever there is a cheaper way.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from lm.core import axes
from lm.core.mesh import constrain
from lm.nn.cache import LayerCache, attend_cache, write
from lm.nn.config import BlockConfig, LayerPattern
from lm.nn.dropout import DropoutKeys
from lm.nn.initializers import kernel_init
from lm.nn.kernels import attention
from lm.nn.mlp import Dense
from lm.nn.patterns import sequence_mask
from lm.nn.sparse import MASKED


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
        if cache is None or (x.shape[1] > 1 and isinstance(start, int) and start == 0):
            seen = None if valid is None else valid[:, : x.shape[1]]
            context = attention(q, k, v, config, self.pattern, seen, keys, prefix)
        else:
            context = attend_cache(q, cache, config, self.pattern, start, valid)
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
    config: BlockConfig, params: Any, x: jax.Array, pattern: LayerPattern,
    valid: jax.Array | None = None, prefix: jax.Array | None = None,
) -> jax.Array:  # fmt: skip
    """Where each position looks: the weights of `Attention` by their definition, in float32.

    Args:
      params: of an `Attention`.
      x: [B T D], which enters it with `valid` and `prefix`, [B T] each.

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
    mask = sequence_mask(x.shape[1], pattern, config, config.heads, valid, prefix)
    return jax.nn.softmax(jnp.where(mask, scores * q.shape[-1] ** -0.5, MASKED), axis=-1)
