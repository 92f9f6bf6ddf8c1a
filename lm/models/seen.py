"""Where in its images a decoder looks when it begins an answer, for those who look into one."""

from typing import Any

import jax
import jax.numpy as jnp

from lm.models.gpt_vision import GptVision, GptVisionConfig
from lm.nn.attention import attention_weights
from lm.nn.blocks import Block
from lm.nn.norms import LayerNorm
from lm.nn.stack import unstack


def attention_to_slots(
    config: GptVisionConfig, params: Any, tokens: jax.Array, images: jax.Array, prefix: jax.Array
) -> jax.Array:
    """Attention of the last token before the answer to each image slot, its mean over layers and
    heads, as shares of what goes to image slots at all.

    Args:
      tokens: [B T] with `config.image_id` in the slots.
      images: [B I R R 3] bytes.
      prefix: [B] tokens before the answer.

    Returns:
      [B T], zero where no image stands.
    """
    text, places = config.text, tokens == config.image_id
    start: Any = GptVision(config).apply({"params": params}, tokens, images, method="embedded")
    seen = jnp.arange(tokens.shape[1]) < prefix[:, None] if config.mask == "prefix" else None
    x, found = start, []
    for layer, block in enumerate(unstack(params["text"]["stack"]["blocks"])):
        pattern = text.pattern[layer % len(text.pattern)]
        enters: Any = x
        if text.norm == "pre":
            enters = LayerNorm(text.epsilon).apply({"params": block["norm1"]}, x)
        weights = attention_weights(text, block["attention"], enters, pattern)  # [B N T T]
        last = jnp.take_along_axis(weights, prefix[:, None, None, None] - 1, axis=2)
        found.append(jnp.mean(last[:, :, 0], axis=1))
        out: Any = Block(text, pattern).apply({"params": block}, x, prefix=seen)
        x = out[0]
    looked = jnp.where(places, jnp.mean(jnp.stack(found), axis=0), 0.0)
    return looked / jnp.maximum(looked.sum(axis=1, keepdims=True), 1e-9)
