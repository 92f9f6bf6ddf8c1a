"""Causal attention with a gradient of its own is attention by its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.nn.causal import causal_attention
from lm.nn.config import BlockConfig
from lm.nn.kernels import attend, attention


def with_gradients(way, arrays, g):
    def total(q, k, v):
        context = way(q, k, v)
        return jnp.sum(context * g), context

    gradients, context = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(*arrays)
    return context, *gradients


def defined(q, k, v):
    slots = jnp.arange(q.shape[2])
    return attend(q, k, v, (slots[:, None] >= slots)[None, None])


def drawn(length, dtype=np.float32):
    random = np.random.default_rng(length)
    q, k, v, g = (jnp.asarray(random.normal(size=(2, 3, length, 8)), dtype) for _ in range(4))
    return (q, k, v), g


@pytest.mark.parametrize("length", [1, 128, 300])  # one token, one block, and a part of a third
def test_context_and_gradients_are_those_of_the_definition(length):
    arrays, g = drawn(length)
    found = jax.jit(lambda: with_gradients(causal_attention, arrays, g))()
    wanted = jax.jit(lambda: with_gradients(defined, arrays, g))()
    for mine, right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-4, atol=2e-6)


def test_a_layer_in_bfloat16_takes_it_and_one_in_float32_or_with_dropped_keys_does_not():
    def ways(dtype, valid):
        arrays, g = drawn(8, dtype)
        config = BlockConfig(layers=1, width=24, heads=3, dtype=str(g.dtype))
        seen = jnp.ones((2, 8), bool) if valid else None
        traced = jax.make_jaxpr(
            lambda: with_gradients(lambda *qkv: attention(*qkv, config, valid=seen), arrays, g)
        )()
        return [one.primitive.name for one in traced.eqns].count("scan")

    assert ways(jnp.bfloat16, False) == 2  # forward and backward pass, by rows
    assert ways(jnp.float32, False) == 0
    assert ways(jnp.bfloat16, True) == 0
