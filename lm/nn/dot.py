"""Matrix products, and nothing else that depends on the platform they run on.

Weights are float32 and are cast to the dtype of the activations. XLA on CPU multiplies bfloat16 at
speed only where the result is float32; accelerators accumulate in float32 in any case.
"""

import jax
import jax.numpy as jnp

from lm.core.mesh import platform


def dot(x: jax.Array, kernel: jax.Array, contracted: int = 1, narrow: bool = False) -> jax.Array:
    """Contracts the last `contracted` axes of `x` with the first of `kernel`.

    Args:
      x: [..., K...] activations.
      kernel: [K..., M...] weights of any float dtype.
      narrow: ask for the dtype of `x`: what is summed over devices, and the kernel's gradient
        before its sum, are then half as large as in float32.

    Returns:
      [..., M...] in the dtype of `x`.
    """
    last = tuple(range(x.ndim - contracted, x.ndim))
    first = tuple(range(contracted))
    axes = ((last, first), ((), ()))
    wide = x.dtype if narrow else jnp.float32
    y = jax.lax.dot_general(x, kernel.astype(x.dtype), axes, preferred_element_type=wide)
    return y.astype(x.dtype)


def exact(dtype: str) -> bool:
    """Whether products of this dtype are what it can hold: float32's, where they are float32's.

    Left to themselves, TPUs round float32 operands to bfloat16, and GPUs to 10 bits (TF32).
    """
    # mypy knows no setting of jax's by name
    asked: str | None = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return dtype == "float32" and (platform() == "cpu" or asked in ("highest", "float32"))
