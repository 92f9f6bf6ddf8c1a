"""What a product asks of the compiler, and what it returns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.nn.dot import dot

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8)), jnp.bfloat16)
KERNEL = jnp.asarray(np.random.default_rng(1).normal(size=(8, 3)), jnp.float32)


@pytest.mark.parametrize("narrow", [False, True])
def test_a_narrow_product_asks_for_the_dtype_of_the_activations_and_rounds_alike(narrow):
    made = dot(X, KERNEL, narrow=narrow)
    asked = jax.make_jaxpr(lambda x: dot(x, KERNEL, narrow=narrow))(X).eqns
    (product,) = (one for one in asked if one.primitive.name == "dot_general")
    assert product.outvars[0].aval.dtype == (jnp.bfloat16 if narrow else jnp.float32)
    exact = X.astype(jnp.float32) @ KERNEL.astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_allclose(made.astype(jnp.float32), exact, rtol=2**-7, atol=2**-7)
