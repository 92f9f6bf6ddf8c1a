"""The transformer block (Vaswani et al. 2017) that encoders and decoders share."""

import jax
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from lm.core import axes
from lm.core.mesh import constrain, gathered
from lm.nn.attention import Attention
from lm.nn.cache import LayerCache
from lm.nn.config import BlockConfig, LayerPattern
from lm.nn.dropout import DropoutKeys, dropout
from lm.nn.mlp import Mlp
from lm.nn.norms import LayerNorm


class Block(nn.Module):
    """Attention, then feed-forward, each added to its input.

    `norm="pre"` normalises what enters each of the two (GPT-2), `norm="post"` normalises each sum
    (the original Transformer, GPT-1, BERT).
    """

    config: BlockConfig
    pattern: LayerPattern = "dense"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,  # [B T D]
        valid: jax.Array | None = None,  # [B S] bool
        keys: DropoutKeys | None = None,
        cache: LayerCache | None = None,
        start: int | jax.Array = 0,
        prefix: jax.Array | None = None,  # [B T] bool
    ) -> tuple[jax.Array, LayerCache | None]:
        config = self.config
        norm1, norm2 = (LayerNorm(config.epsilon, name=name) for name in ("norm1", "norm2"))
        attention = Attention(config, self.pattern, name="attention")
        mlp = Mlp(config, name="mlp")
        attention_keys, first, second = (
            (None,) * 3 if keys is None else (keys.fold(place) for place in range(3))
        )

        attended, cache = attention(
            entering(norm1(x) if config.norm == "pre" else x, config),
            valid, attention_keys, cache, start, prefix,
        )  # fmt: skip
        x = x + dropout(attended, config.residual_dropout, first)
        x = checkpoint_name(residual(norm1(x) if config.norm == "post" else x, config), "stream")
        fed = mlp(entering(norm2(x) if config.norm == "pre" else x, config))
        x = x + dropout(fed, config.residual_dropout, second)
        return residual(norm2(x) if config.norm == "post" else x, config), cache


STREAM = {  # BlockConfig.stream -> names of the residual stream's axes
    "width": (axes.BATCH, axes.LENGTH, axes.RESIDUAL),
    "length": (axes.BATCH, axes.SPAN, axes.WIDTH),
}


def residual(x: jax.Array, config: BlockConfig) -> jax.Array:
    """States how the residual stream [B T D] is split."""
    return constrain(x, *STREAM[config.stream])


def entering(x: jax.Array, config: BlockConfig) -> jax.Array:
    """`x` [B T D] as a product over its width reads it: all of a length that was split.

    A width that is split is left to the partitioner, which sends it beside the product.
    """
    if config.stream == "width":
        return x
    return gathered(x, (axes.BATCH, axes.LENGTH, axes.WIDTH), STREAM[config.stream])
