"""Matrix products, and nothing else that depends on the platform they run on.

Weights are float32 and are cast to the dtype of the activations. XLA on CPU multiplies bfloat16 at
speed only where the result is float32; accelerators accumulate in float32 in any case.
"""

import math

import jax
import jax.numpy as jnp


def dot(x: jax.Array, kernel: jax.Array, contracted: int = 1) -> jax.Array:
    """Contracts the last `contracted` axes of `x` with the first of `kernel`.

    Args:
      x: [..., K...] activations.
      kernel: [K..., M...] weights of any float dtype.

    Returns:
      [..., M...] in the dtype of `x`.
    """
    last = tuple(range(x.ndim - contracted, x.ndim))
    first = tuple(range(contracted))
    return product(x, kernel.astype(x.dtype), (last, first)).astype(x.dtype)


def product(a: jax.Array, b: jax.Array, contracting: tuple) -> jax.Array:
    """`lax.dot_general` without batch axes, with a float32 result."""
    return jax.lax.dot_general(a, b, (contracting, ((), ())), preferred_element_type=jnp.float32)


def flat(kernel: jax.Array, contracted: int) -> jax.Array:
    """A kernel [K..., M...] as a matrix."""
    return kernel.reshape(math.prod(kernel.shape[:contracted]), -1)
