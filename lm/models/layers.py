"""What every layer of a decoder holds, for those who look into one: block by block, by the formula.

Training and decoding keep none of this. It costs a [T T] matrix a head and a layer.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from lm.core import axes
from lm.models.gpt import GptConfig
from lm.nn.attention import attention_weights
from lm.nn.blocks import Block
from lm.nn.embed import Table
from lm.nn.norms import LayerNorm
from lm.nn.stack import unstack


@flax.struct.dataclass
class Layers:
    """The inside of a decoder at every position."""

    hidden: jax.Array  # [L+1 B T D] the residual stream before each block, and after the last one
    attention: jax.Array  # [L B N T T] weights, float32; each row sums to 1


def by_layer(config: GptConfig, params: Any, tokens: jax.Array) -> Layers:
    """Applies a decoder to ids [B T] one block after the other, without dropout."""
    length = tokens.shape[1]
    word = Table(config.vocab, config.width, axes.VOCABULARY, config.token_std)
    place = Table(config.length, config.width, axes.POSITIONS, config.position_std)
    x: Any = word.apply({"params": params["tokens"]}, tokens, config.dtype)
    x = x + place.apply({"params": params["positions"]}, jnp.arange(length)[None], config.dtype)
    hidden, attention = [x], []
    for layer, block_params in enumerate(unstack(params["stack"]["blocks"])):
        pattern = config.pattern[layer % len(config.pattern)]
        entering: Any = x
        if config.norm == "pre":
            entering = LayerNorm(config.epsilon).apply({"params": block_params["norm1"]}, x)
        attention.append(attention_weights(config, block_params["attention"], entering, pattern))
        out: Any = Block(config, pattern).apply({"params": block_params}, x)
        x = out[0]
        hidden.append(x)
    return Layers(hidden=jnp.stack(hidden), attention=jnp.stack(attention))


def stream_norms(config: GptConfig, params: Any, tokens: jax.Array) -> jax.Array:
    """Length of the residual stream's vectors before each block and after the last, as the root of
    the mean square over all positions of ids [B T]. [L+1]"""
    hidden = by_layer(config, params, tokens).hidden.astype(jnp.float32)
    return jnp.sqrt(jnp.mean(jnp.sum(jnp.square(hidden), axis=-1), axis=(1, 2)))
