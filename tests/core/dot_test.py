"""What a product asks of the compiler, and what it returns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from lm.core.dot import dot, dot_transposed

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8)), jnp.bfloat16)
KERNEL = jnp.asarray(np.random.default_rng(1).normal(size=(8, 3)), jnp.float32)


@pytest.mark.parametrize("narrow", [False, True])
def test_a_narrow_product_asks_for_the_dtype_of_the_activations_and_rounds_alike(narrow):
    made = dot(X, KERNEL, narrow=narrow)
    asked = jax.make_jaxpr(lambda x: dot(x, KERNEL, narrow=narrow))(X).jaxpr
    (product,) = (one for one in all_equations(asked) if one.primitive.name == "dot_general")
    assert product.outvars[0].aval.dtype == (jnp.bfloat16 if narrow else jnp.float32)
    exact = X.astype(jnp.float32) @ KERNEL.astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_allclose(made.astype(jnp.float32), exact, rtol=2**-7, atol=2**-7)


OUT = jnp.asarray(np.random.default_rng(2).normal(size=(4, 3)), jnp.float32)
BIAS = jnp.asarray(np.random.default_rng(3).normal(size=3), jnp.float32)


def gradients(x, kernel, bias):
    return jax.grad(lambda *given: jnp.sum(dot(*given) * OUT), argnums=(0, 1, 2))(x, kernel, bias)


def test_products_of_bfloat16_gradients_on_a_cpu_read_bfloat16_alone():
    def operands(function):
        found = jax.make_jaxpr(jax.jit(function))(X, KERNEL, BIAS).jaxpr
        return [
            {str(one.aval.dtype) for one in product.invars}
            for product in all_equations(found)
            if product.primitive.name == "dot_general"
        ]

    def plain(x, kernel, bias):
        def made(x, kernel):
            y = jnp.dot(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
            return jnp.sum(y.astype(x.dtype) * OUT)

        return jax.grad(made, argnums=(0, 1))(x, kernel)

    assert operands(gradients) == [{"bfloat16"}] * 3
    assert {"bfloat16", "float32"} in operands(plain)  # what is slow, and what this is not


def all_equations(jaxpr):
    for one in jaxpr.eqns:
        yield one
        for inner in jaxprs_in_params(one.params):
            yield from all_equations(inner)


def test_gradients_of_a_bfloat16_product_are_those_of_float32_rounded():
    wide = X.astype(jnp.float32)
    near = KERNEL.astype(jnp.bfloat16).astype(jnp.float32)
    for mine, right in zip(gradients(X, KERNEL, BIAS), gradients(wide, near, BIAS), strict=True):
        assert mine.dtype == (jnp.bfloat16 if mine.shape == X.shape else jnp.float32)
        np.testing.assert_allclose(mine.astype(jnp.float32), right, rtol=2**-6, atol=2**-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_a_transposed_kernel_makes_the_same_product_for_few_rows_and_many(dtype, rows):
    random = np.random.default_rng(rows)
    x = jnp.asarray(random.normal(size=(rows, 1, 2, 5)), dtype)
    kernel = jnp.asarray(random.normal(size=(2, 5, 3, 4)), dtype)
    bias = jnp.asarray(random.normal(size=(3, 4)), dtype)
    transposed = kernel.reshape(10, 12).T
    made = jax.jit(lambda x: dot_transposed(x, transposed, bias, 2, (3, 4)))(x)
    right = dot(x.astype("float32"), kernel.astype("float32"), bias.astype("float32"), 2)
    assert made.dtype == x.dtype and made.shape == (rows, 1, 3, 4)
    tolerance = 1e-5 if dtype == "float32" else 2**-6
    np.testing.assert_allclose(made.astype("float32"), right, rtol=tolerance, atol=tolerance)


def test_a_loop_over_tokens_reads_transposed_weights_as_they_lie():
    def compiled(once, weights):
        def tokens(x, weights):
            return jax.lax.fori_loop(0, 5, lambda _, x: once(x, weights)[..., :32], x)

        x = jnp.ones((8, 1, 32), jnp.bfloat16)
        return jax.jit(tokens).lower(x, weights).compile().as_text()

    transposed = jnp.ones((96, 32), jnp.bfloat16)
    text = compiled(lambda x, t: dot_transposed(x, t, None, 1, (96,)), transposed)
    assert "rhs_contracting_dims={1}" in text and "rhs_contracting_dims={0}" not in text
    text = compiled(dot, transposed.T)  # weights that lie as they are trained
    assert "rhs_contracting_dims={1}" not in text and "rhs_contracting_dims={0}" in text
