"""Layer normalisation of activations in bfloat16."""

import jax.numpy as jnp
import numpy as np

from lm.nn.norms import LayerNorm

EPSILON = 1e-5


def normal(x, dtype):
    """What the module says, with statistics of this dtype."""
    wide = jnp.asarray(x).astype(dtype) if dtype == jnp.bfloat16 else np.asarray(x, dtype)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    return centred / (np.square(centred).mean(axis=-1, keepdims=True) + EPSILON) ** 0.5


def test_statistics_of_bfloat16_are_float32_and_the_result_is_rounded_once():
    numbers = np.random.default_rng(0)
    x = jnp.asarray(numbers.normal(20, 5, (8, 1, 256)), jnp.bfloat16)  # not about zero
    params = {"scale": jnp.ones(256), "bias": jnp.zeros(256)}
    found = LayerNorm(epsilon=EPSILON).apply({"params": params}, x)
    assert found.dtype == jnp.bfloat16
    right = normal(x, np.float64)

    def beyond(found):
        """By how much the furthest value is from what is right, in halves of its last place."""
        error = np.abs(np.asarray(found, np.float64) - right)
        return (error / 2.0 ** (np.floor(np.log2(np.abs(right))) - 8)).max()

    assert beyond(found) < 1.01
    assert beyond(normal(x, jnp.bfloat16)) > 10  # the control
