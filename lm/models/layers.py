"""What every layer of a model holds, for those who look into one: block by block, by the formula.

Training and decoding keep none of this. It costs a [T T] matrix a head and a layer.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from lm.models.bert import BertConfig
from lm.models.gpt import GptConfig
from lm.models.gpt_vision import GptVisionConfig
from lm.nn.stack import layers_of


@flax.struct.dataclass
class Layers:
    """The inside of a decoder at every position."""

    hidden: jax.Array  # [L+1 B T D] the residual stream before each block, and after the last one
    attention: jax.Array  # [L B N T T] weights, float32; each row sums to 1


def by_layer(config: GptConfig, params: Any, tokens: jax.Array) -> Layers:
    """Applies a decoder to ids [B T] one block after the other, without dropout."""
    places = jnp.arange(tokens.shape[1])[None]
    x: Any = config.module().apply({"params": params}, tokens, places, method="embedded")
    outputs, attention = zip(*layers_of(config, params["stack"]["blocks"], x), strict=True)
    return Layers(hidden=jnp.stack([x, *outputs]), attention=jnp.stack(attention))


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


def attention_to_slots(
    config: GptVisionConfig, params: Any, tokens: jax.Array, images: jax.Array, prefix: jax.Array
) -> jax.Array:
    """Where in its images a decoder looks when it begins an answer: attention of the last token
    before it to each image slot, the mean over layers and heads, as shares of what goes to image
    slots at all.

    Args:
      tokens: [B T] with `config.image_id` in the slots.
      images: [B I R R 3] bytes.
      prefix: [B] tokens before the answer.

    Returns:
      [B T], zero where no image stands.
    """
    x: Any = config.module().apply({"params": params}, tokens, images, method="embedded")
    seen = jnp.arange(tokens.shape[1]) < prefix[:, None] if config.mask == "prefix" else None
    last = prefix[:, None, None, None] - 1
    layers = layers_of(config.text, params["text"]["stack"]["blocks"], x, prefix=seen)
    found = [jnp.take_along_axis(weights, last, axis=2)[:, :, 0] for _, weights in layers]
    looked = jnp.mean(jnp.stack(found), axis=(0, 2))
    looked = jnp.where(tokens == config.image_id, looked, 0.0)
    return looked / jnp.maximum(looked.sum(axis=1, keepdims=True), 1e-9)
