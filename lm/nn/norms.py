"""Layer normalisation (Ba et al. 2016), computed in float32 whatever the activations are."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core import axes
from lm.nn.initializers import named


class LayerNorm(nn.Module):
    """Normalises the last axis, then scales and shifts it; returns the dtype of its input."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # [B T D]
        scale = self.param("scale", named(nn.initializers.ones, (axes.WIDTH,)), x.shape[-1:])
        bias = self.param("bias", named(nn.initializers.zeros, (axes.WIDTH,)), x.shape[-1:])
        wide = x.astype(jnp.float32)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        normal = centred * jax.lax.rsqrt(variance + self.epsilon)
        return (normal * scale + bias).astype(x.dtype)
