"""Matrix products, and nothing else that depends on the platform they run on.

Weights are float32 and are cast to the dtype of the activations. XLA on CPUs multiplies bfloat16 at
speed (by AMX) only where both operands are bfloat16, the result is float32 and no operand has to be
read across: gradients are rounded to bfloat16 there before they enter a product.
"""

import math
import string
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from lm.core.mesh import platform

FEW = 8
TILE = 128  # what XLA's products on CPUs want the size of an axis to be a multiple of


def dot(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None, contracted: int = 1,
    narrow: bool = False,
) -> jax.Array:  # fmt: skip
    """Contracts the last `contracted` axes of `x` with the first of `kernel`.

    Args:
      x: [..., K...] activations.
      kernel: [K..., M...] weights of any float dtype.
      bias: [M...] likewise.
      narrow: ask for the dtype of `x`: what is summed over devices, and the kernel's gradient
        before its sum, are then half as large as in float32.

    Returns:
      [..., M...] in the dtype of `x`.
    """
    if by_rows(x.dtype) and not narrow:
        letters, cut = string.ascii_letters, x.ndim - contracted
        rows, inner = letters[:cut], letters[cut : x.ndim]
        outer = letters[x.ndim : x.ndim + kernel.ndim - contracted]
        y = padded_einsum(f"{rows}{inner},{inner}{outer}->{rows}{outer}", x, kernel)
        # added before rounding: a bias's gradient is then a sum in float32, without a copy
        return (y if bias is None else y + bias).astype(x.dtype)
    last = tuple(range(x.ndim - contracted, x.ndim))
    axes = ((last, tuple(range(contracted))), ((), ()))
    wide = x.dtype if narrow else jnp.float32
    y = jax.lax.dot_general(x, kernel.astype(x.dtype), axes, preferred_element_type=wide)
    y = y.astype(x.dtype)
    return y if bias is None else y + bias.astype(x.dtype)


def dot_transposed(
    x: jax.Array, transposed: jax.Array, bias: jax.Array | None, contracted: int,
    shape: Sequence[int],
) -> jax.Array:  # fmt: skip
    """`dot` of a kernel [K... *shape] that lies as `transposed`, a row for each output: the order
    in which CPUs read the weights of few rows, as in decoding, once and in parallel.
    """
    leading = x.shape[: x.ndim - contracted]
    rows = x.reshape(math.prod(leading), -1)  # of more axes, XLA would transpose the weights back
    y = padded_einsum("RK,MK->RM", rows, transposed).reshape(*leading, *shape)
    return (y if bias is None else y + bias).astype(x.dtype)


def padded_einsum(equation: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`einsum` of activations and weights.

    XLA on CPUs widens weights in bfloat16 for less than 8 rows: zeros are put behind them.
    """
    result = equation.split("->")[1]
    rows = math.prod(n for n, letter in zip(x.shape, equation, strict=False) if letter in result)
    if not by_rows(x.dtype) or rows >= FEW:
        return einsum(equation, x, kernel)
    more = ((0, FEW - len(x)), *((0, 0) for _ in x.shape[1:]))
    return einsum(equation, jnp.pad(x, more), kernel)[: len(x)]


def by_rows(dtype: jax.typing.DTypeLike) -> bool:
    """Whether products of this dtype are fast only where rows of the left operand lie in memory."""
    return platform() == "cpu" and dtype == jnp.bfloat16


def einsum(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """What `equation` says of `a` and `b`, summed in float32; `b` is cast to the dtype of `a`."""
    return (einsum_rounding_gradients if by_rows(a.dtype) else product)(equation, a, b)


def product(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(equation, a, b.astype(a.dtype), preferred_element_type=jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def einsum_rounding_gradients(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """`product`, whose gradient is rounded to the dtype of `a` before it enters products."""
    return product(equation, a, b)


def forward(equation: str, a: jax.Array, b: jax.Array) -> tuple[jax.Array, Any]:
    return product(equation, a, b), (a, b)


def backward(equation: str, kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    a, b = kept
    operands, result = equation.split("->")
    left, right = operands.split(",")
    g = g.astype(a.dtype)
    of_a = product(f"{result},{right}->{left}", g, b)
    of_b = product(f"{left},{result}->{right}", a, g)
    return of_a.astype(a.dtype), of_b.astype(b.dtype)


einsum_rounding_gradients.defvjp(forward, backward)


def transposed_product(x: jax.Array, g: jax.Array) -> jax.Array:
    """The sum over B and T of `x` [B T K] times `g` [B T R], in float32. [K R]

    Where `g` is much the larger, it is read along its rows so; a barrier keeps XLA from giving the
    product the order in which a transposed result would lie in memory.
    """
    across = jnp.moveaxis(x, -1, 0).reshape(x.shape[-1], -1)
    return jax.lax.optimization_barrier(product("KM,MR->KR", across, g.reshape(-1, g.shape[-1])))


def exact(dtype: str) -> bool:
    """Whether products of this dtype are what it can hold: float32's, where they are float32's.

    Left to themselves, TPUs round float32 operands to bfloat16, and GPUs to 10 bits (TF32).
    """
    # mypy knows no setting of jax's by name
    asked: str | None = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return dtype == "float32" and (platform() == "cpu" or asked in ("highest", "float32"))
