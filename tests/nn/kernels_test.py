"""The kernels of accelerators, run where there is none, against the definition with its mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.nn.config import BlockConfig
from lm.nn.kernels import attend, cudnn, splash
from lm.nn.patterns import visible

pytestmark = pytest.mark.usefixtures("one_device")
BAND = 100


def qkvs(length, size):
    return jax.random.normal(jax.random.key(0), (4, 1, 2, length, size))


def with_gradient(attention):
    """What it gives, and its gradient along a cotangent, of [4 B N T H]: q, k, v and that."""

    @jax.jit
    def both(arrays):
        found, back = jax.vjp(lambda qkv: attention(*qkv), arrays[:3])
        return found, back(arrays[3])[0]

    return both


def mask(pattern, causal, length):
    sizes = BlockConfig(layers=1, width=16, heads=2, band=BAND, causal=causal)
    return visible(jnp.arange(length), jnp.arange(length), pattern, sizes)[None, None]


PATTERNS = pytest.mark.parametrize(
    ("pattern", "causal"),
    [("dense", True), ("banded", True), ("dense", False), ("banded", False)],
)


@PATTERNS
@pytest.mark.slow
def test_splash_and_its_gradient_equal_the_masked_definition(pattern, causal):
    arrays = qkvs(512, 128)  # two blocks of a band

    def splashed(band):
        how = functools.partial(splash, causal=causal, pattern=pattern, band=band, interpret=True)
        return with_gradient(how)(arrays)

    expected = with_gradient(functools.partial(attend, mask=mask(pattern, causal, 512)))(arrays)
    for one, other in zip(splashed(BAND), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    if pattern == "banded":  # the control
        for one, other in zip(splashed(BAND + 1), expected, strict=True):
            assert np.abs(one - other).max() > 1e-2


def test_two_programs_have_kernels_of_one_shape():
    """The step and the evaluation of a run, say: neither has what is traced in the other."""
    arrays = [jax.ShapeDtypeStruct((1, 2, 128, 128), jnp.float32)] * 3
    for scale in (1.0, 2.0):
        program = jax.jit(lambda q, k, v, by=scale: by * splash(q, k, v, True, "banded", BAND))
        assert program.trace(*arrays).out_info.shape == (1, 2, 128, 128)


@PATTERNS
def test_what_cudnn_is_asked_for_is_the_masked_definition(pattern, causal, monkeypatch):
    """By XLA, which takes the same arguments."""
    call = jax.nn.dot_product_attention

    def by_xla(*arrays, implementation, **told):
        assert implementation == "cudnn"
        return call(*arrays, implementation="xla", **told)

    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    arrays = qkvs(160, 16)[:3]
    expected = attend(*arrays, mask(pattern, causal, 160))
    np.testing.assert_allclose(cudnn(*arrays, causal, pattern, BAND), expected, atol=1e-5)
    if pattern == "banded":  # the control
        other = cudnn(*arrays, causal, pattern, BAND + 1)
        assert np.abs(other - expected).max() > 1e-2
