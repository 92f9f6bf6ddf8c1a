"""Initial weights, in each of the readings under which the models were published."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.nn.config import BlockConfig

Kernel = Literal["qkv", "context", "hidden", "output"]
Init = Callable[..., Any]  # (key, shape) -> array


def named(init: Init, names: tuple[str, ...]) -> Init:
    """An initialiser whose arrays carry the names of their axes, for `lm.core.mesh` to split."""
    return nn.with_logical_partitioning(init, names)


def kernel_init(config: BlockConfig, kernel: Kernel) -> Init:
    """The initialiser of a block's kernel; `context` and `output` add to the residual stream.

    With `std` 0.02, its default:

    hf      normal 0.02, residual kernels 0.02 / sqrt(2 layers): Hugging Face and nanoGPT
    report  normal 0.02, residual kernels 0.02 / sqrt(layers): the GPT-2 report's "1/sqrt(N)", with
            N the number of blocks
    openai  fan-in, normal 1 / sqrt(fan-in), residual kernels 1 / sqrt(fan-in x layers): the trainer
            in openai/lm-human-preferences
    gpt1    normal 0.02 everywhere
    bert    normal 0.02 truncated at two standard deviations, everywhere
    """
    adds = kernel in ("context", "output")
    std = config.std
    if config.init == "openai":
        fan_in = {
            "context": config.heads * config.head_width,
            "output": config.hidden_width,
        }.get(kernel, config.width)
        std = fan_in**-0.5
    if adds and config.init in ("hf", "report", "openai"):
        std *= (config.layers * (2 if config.init == "hf" else 1)) ** -0.5
    if config.init == "bert":
        # the drawn values are cut, not rescaled, as TensorFlow's truncated normal does
        return truncated_normal(std)
    return nn.initializers.normal(std)


def sinusoids(std: float) -> Init:
    """Waves in place of draws, a sine and a cosine of each length (Vaswani et al. 2017, section
    3.5), scaled to a standard deviation. From the first step a product of two rows tells how far
    apart they are, which a table of draws has to learn pair by pair."""

    def init(
        key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = float
    ) -> jax.Array:
        rows, width = shape
        rate = 10_000.0 ** (-jnp.arange((width + 1) // 2) * 2 / width)
        angle = jnp.arange(rows)[:, None] * rate
        table = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(rows, -1)[:, :width]
        return (std * table / jnp.std(table)).astype(dtype)

    return init


def truncated_normal(std: float) -> Init:
    """Normal with this standard deviation before it is cut at two of them."""

    def init(
        key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = float
    ) -> jax.Array:
        return std * jax.random.truncated_normal(key, -2, 2, shape, dtype)

    return init
