"""The kernels of accelerators, run where there is none, against the definition with its mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.nn import kernels
from lm.nn.causal import causal_attention
from lm.nn.config import BlockConfig
from lm.nn.kernels import attend, choose, cudnn, live_blocks, splash
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


def by_definition(q, k, v):
    return attend(q, k, v, mask("dense", True, q.shape[2]))


@pytest.mark.parametrize("way", [by_definition, causal_attention])
def test_the_softmax_of_bfloat16_is_float32(way):
    """To what the roundings of weights and result leave."""
    arrays = zip((6, 6, 1), qkvs(64, 32)[:3], strict=True)  # scores of tens
    narrow = [(by * each).astype(jnp.bfloat16) for by, each in arrays]
    q, k, v = (np.asarray(each, np.float64) for each in narrow)
    scores = np.einsum("BNTH,BNSH->BNTS", q, k) * 32**-0.5

    def context(scores):
        seen = np.where(mask("dense", True, 64), scores, -np.inf)
        powers = np.exp(seen - seen.max(-1, keepdims=True))
        return np.einsum("BNTS,BNSH->BNTH", powers / powers.sum(-1, keepdims=True), v)

    found = way(*narrow)
    assert found.dtype == jnp.bfloat16
    assert np.abs(np.asarray(found, np.float64) - context(scores)).max() < 0.02
    rounded = scores.astype(jnp.bfloat16).astype(np.float64)
    assert np.abs(context(rounded) - context(scores)).max() > 0.1  # the control


OF_CUDNN = [("dense", True), ("banded", True), ("dense", False)]


@pytest.mark.parametrize(("pattern", "causal"), [*OF_CUDNN, ("banded", False)])
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


@pytest.mark.parametrize("band", [1, 2, 16, 17, 18, 33, 34])
def test_live_blocks_are_those_in_which_a_query_sees_a_key(band):
    length, block = 64 - 16, 16  # the largest power of two that divides it
    config = BlockConfig(layers=1, width=16, heads=2, band=band)
    back = np.arange(length)[:, None] - np.arange(length)
    shares = []
    for seen in ((back >= 0) & (back < band), back >= 0):
        tiles = seen.reshape(length // block, block, length // block, block)
        shares.append(tiles.any(axis=(1, 3)).mean())
    assert live_blocks(length, config, "banded") == pytest.approx(shares[0])
    assert live_blocks(length, config, "dense") == pytest.approx(shares[1])
    assert live_blocks(length, config, ("banded", "dense")) == pytest.approx(np.mean(shares))


def test_two_programs_have_kernels_of_one_shape():
    """The step and the evaluation of a run, say: neither has what is traced in the other."""
    arrays = [jax.ShapeDtypeStruct((1, 2, 128, 128), jnp.float32)] * 3
    for scale in (1.0, 2.0):
        program = jax.jit(lambda q, k, v, by=scale: by * splash(q, k, v, True, "banded", BAND))
        assert program.trace(*arrays).out_info.shape == (1, 2, 128, 128)


@pytest.mark.parametrize(("pattern", "causal"), OF_CUDNN)
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


def half(**changes):
    return BlockConfig(**{"layers": 1, "width": 128, "heads": 2, "dtype": "bfloat16"} | changes)


@pytest.mark.parametrize(
    ("changes", "pattern", "instead"),
    [
        ({"head_size": 20}, "dense", "blocks"),
        ({"head_size": 136}, "dense", "blocks"),
        ({"head_size": 20}, "banded", "sparse"),
        ({"causal": False}, "banded", "plain"),
        ({"dtype": "float32"}, "dense", "blocks"),
    ],
)
def test_what_cudnn_refuses_is_computed_by_xla_or_if_asked_for_by_name_refused_in_a_line(
    changes, pattern, instead, monkeypatch
):
    monkeypatch.setattr(kernels, "platform", lambda: "gpu")
    for sort, causal in OF_CUDNN:
        assert choose(half(causal=causal), sort, 160, False, False) == "cudnn"
    assert choose(half(**changes), pattern, 160, False, False) == instead
    with pytest.raises(ConfigError, match=r"^model.attention=cudnn needs .*; --set model.attenti"):
        choose(half(attention="cudnn", **changes), pattern, 160, False, False)


def test_cudnn_has_heads_of_256_from_hopper_on(monkeypatch):
    monkeypatch.setattr(kernels, "platform", lambda: "gpu")
    monkeypatch.setattr(kernels, "hopper", lambda: True)
    found = [choose(half(head_size=size), "dense", 160, False, False) for size in (256, 264)]
    assert found == ["cudnn", "blocks"]


@pytest.mark.parametrize(("how", "needed"), [("splash", "a TPU"), ("cudnn", "a GPU")])
def test_a_kernel_of_a_platform_that_is_not_here_is_refused_unless_xla_computes_it(how, needed):
    asked = half(attention=how)
    with pytest.raises(ConfigError, match=f"attention={how} needs {needed}, and the platform is c"):
        choose(asked, "dense", 128, False, False)
    assert choose(asked, "dense", 128, True, False) == "blocks"  # with padding, say
