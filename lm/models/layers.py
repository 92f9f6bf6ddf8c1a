"""What every layer of a model holds, for those who look into one: block by block, by the formula.

Training and decoding keep none of this. It costs a [T T] matrix a head and a layer.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from lm.core import axes
from lm.models.bert import BertConfig
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


def stream_norms(
    config: GptConfig | BertConfig,
    params: Any,
    tokens: jax.Array,  # [B T] int
    segments: jax.Array | None = None,  # [B T] int, of BERT
    valid: jax.Array | None = None,  # [B T] bool: real tokens; all where None
) -> jax.Array:
    """Length of the residual stream's vectors before each block and after the last, as the root of
    the mean square over all real positions. [L+1]"""
    if isinstance(config, BertConfig):
        stream: Any = config.module().apply(
            {"params": params}, tokens, segments, valid, method="stream"
        )
        hidden = jnp.stack(stream)
    else:  # padding stands behind what is real, which does not see it
        hidden = by_layer(config, params, tokens).hidden
    squares = jnp.sum(jnp.square(hidden.astype(jnp.float32)), axis=-1)
    real = jnp.ones(tokens.shape, bool) if valid is None else valid
    return jnp.sqrt(jnp.sum(squares * real, axis=(1, 2)) / jnp.sum(real))
