"""The feed-forward layer of a block, and the GELUs (Hendrycks and Gimpel 2016)."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from lm.core import axes
from lm.core.dot import dot, dot_transposed
from lm.core.mesh import constrain
from lm.nn.config import BlockConfig
from lm.nn.initializers import Init, kernel_init, named

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "gelu_erf": partial(jax.nn.gelu, approximate=False),
    "gelu_quick": lambda x: x * jax.nn.sigmoid(1.702 * x),  # CLIP's
    "relu": jax.nn.relu,
}


TRANSPOSED = "transposed"  # in the place of a kernel: its transpose, a row for each output


def transpose_kernels(block: Any) -> Any:
    """Parameters of a block with each kernel transposed, as `Dense` takes it as well."""
    if not isinstance(block, Mapping):
        return block
    made = {name: transpose_kernels(part) for name, part in block.items() if name != "kernel"}
    if "kernel" in block:
        kernel = block["kernel"]
        inputs = math.prod(kernel.shape[: 2 if kernel.ndim == 3 else 1])  # [N H D], of heads
        made[TRANSPOSED] = kernel.reshape(inputs, -1).T
    return made


class Dense(nn.Module):
    """`x @ kernel + bias`, over one or several axes; where parameters have adapters (Hu et al.
    2022), `x @ down @ up` more."""

    shape: tuple[int, ...]  # of the kernel, contracted axes first
    names: tuple[str, ...]  # of its axes
    kernel_init: Init
    contracted: int = 1
    use_bias: bool = True
    narrow: bool = False  # see `dot`

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = bias = None
        if not self.has_variable("params", TRANSPOSED):
            kernel = self.param("kernel", named(self.kernel_init, self.names), self.shape)
        shape, names = self.shape[self.contracted :], self.names[self.contracted :]
        if self.use_bias:
            bias = self.param("bias", named(nn.initializers.zeros, names), shape)
        if kernel is None:
            rows: jax.Array = self.get_variable("params", TRANSPOSED)
            return dot_transposed(x, rows, bias, self.contracted, shape)
        y = dot(x, kernel, bias, self.contracted, self.narrow)
        if self.has_variable("params", "down"):
            down: jax.Array = self.get_variable("params", "down")
            up: jax.Array = self.get_variable("params", "up")
            rows = x.reshape(*x.shape[: x.ndim - self.contracted], -1)
            y += dot(dot(rows, down), up).reshape(y.shape)
        return y


class Mlp(nn.Module):
    """Widens to F, applies the activation, returns to D."""

    config: BlockConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # [B T D]
        config = self.config
        width, hidden = config.width, config.hidden_width
        to_hidden = (axes.WIDTH, axes.HIDDEN)
        narrow = config.narrow_products
        drawn = kernel_init(config, "hidden")
        h = Dense((width, hidden), to_hidden, drawn, narrow=narrow, name="hidden")(x)
        h = constrain(h, axes.BATCH, axes.LENGTH, axes.HIDDEN)
        h = ACTIVATIONS[config.activation](checkpoint_name(h, "hidden"))
        output = kernel_init(config, "output")
        return Dense((hidden, width), to_hidden[::-1], output, narrow=narrow, name="output")(h)
