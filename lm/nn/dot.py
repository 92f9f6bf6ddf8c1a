"""Matrix products, and nothing else that depends on the platform they run on.

Weights are float32 and are cast to the dtype of the activations. XLA on CPU multiplies bfloat16 at
speed only where the result is float32; accelerators accumulate in float32 in any case. A TPU is
asked for the dtype of the activations: what it sums over devices, and every weight's gradient, is
then half as large.
"""

import jax
import jax.numpy as jnp

from lm.core.mesh import platform


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
    axes = ((last, first), ((), ()))
    wide = x.dtype if platform() == "tpu" else jnp.float32
    y = jax.lax.dot_general(x, kernel.astype(x.dtype), axes, preferred_element_type=wide)
    return y.astype(x.dtype)
