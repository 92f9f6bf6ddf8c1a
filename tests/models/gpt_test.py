"""The decoder: published sizes, causality, and the switches of its generations."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.core import tree
from lm.core.errors import ConfigError
from lm.models.gpt import (
    GptConfig,
    abstract_params,
    decoding_params,
    fold_keys,
    forward,
    init,
)
from lm.nn.dropout import DropoutKeys

SIZES = {  # layers, width, heads, length -> parameters (Radford et al. 2019; Brown et al. 2020)
    "gpt2 small": (12, 768, 12, 1024, 124_439_808),
    "gpt2 medium": (24, 1024, 16, 1024, 354_823_168),
    "gpt2 large": (36, 1280, 20, 1024, 774_030_080),
    "gpt2 xl": (48, 1600, 25, 1024, 1_557_611_200),
    "gpt3 small": (12, 768, 12, 2048, 125_226_240),
    "gpt3 medium": (24, 1024, 16, 2048, 355_871_744),
    "gpt3 large": (24, 1536, 16, 2048, 760_300_032),
    "gpt3 xl": (24, 2048, 16, 2048, 1_315_723_264),
    "gpt3 2.7b": (32, 2560, 32, 2048, 2_651_553_280),
    "gpt3 6.7b": (32, 4096, 32, 2048, 6_658_404_352),
    "gpt3 13b": (40, 5120, 40, 2048, 12_853_386_240),
    "gpt3 175b": (96, 12288, 96, 2048, 174_604_259_328),
}


def small(**changes: object) -> GptConfig:
    values = {"layers": 2, "width": 32, "heads": 4, "length": 16, "vocab": 50} | changes
    return GptConfig(**values)


def made(config: GptConfig, seed: int = 0):
    """Parameters with biases and scales away from 0 and 1, so that a forgotten one shows."""
    numbers = np.random.default_rng(seed)

    def drawn(path, leaf):
        noise = 0.1 * numbers.standard_normal(leaf.shape).astype(np.float32)
        return jnp.asarray(noise + tree.name_of(path).endswith("scale"))

    return jax.tree_util.tree_map_with_path(drawn, nn.unbox(abstract_params(config)))


@pytest.mark.parametrize("name", SIZES)
def test_a_published_size_has_its_exact_parameter_count(name):
    layers, width, heads, length, expected = SIZES[name]
    config = GptConfig(layers=layers, width=width, heads=heads, length=length, vocab=50_257)
    assert tree.count(abstract_params(config)) == expected == config.parameters()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gpt2 small", 85_056_000), ("gpt2 medium", 302_311_424), ("gpt2 large", 708_390_400),
     ("gpt2 xl", 1_475_561_600)],
)  # fmt: skip
def test_a_published_size_has_its_exact_count_without_embeddings(name, expected):
    layers, width, heads, length, _ = SIZES[name]
    config = GptConfig(layers=layers, width=width, heads=heads, length=length, vocab=50_257)
    params = abstract_params(config)
    tables = {"tokens", "positions"}
    assert tree.count({part: params[part] for part in params.keys() - tables}) == expected


def test_a_padded_vocabulary_is_47_rows_more():
    layers, width, heads, length, expected = SIZES["gpt2 small"]
    config = GptConfig(layers=layers, width=width, heads=heads, length=length, vocab=50_304)
    assert tree.count(abstract_params(config)) == 124_475_904 == config.parameters()
    assert 124_475_904 == expected + 47 * width


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": "post", "final_norm": False},
        {"attention": "blocks", "length": 300},
        {"pattern": ("dense", "banded"), "band": 4},
        {"remat": "full"},
        {"unroll": 2},
    ],
)
def test_future_tokens_do_not_change_the_past(changes):
    config = small(**changes)
    params = made(config)
    ids = jax.random.randint(jax.random.key(2), (1, config.length), 0, config.vocab)

    def logit_sum(offset, position):
        def embed(p):
            table = p["positions"]["table"] + offset
            return p | {"positions": {"table": table}}

        logits, _ = forward(config, embed(params), ids)
        return jnp.sum(logits[0, position])

    position = config.length // 2
    zero = jnp.zeros_like(params["positions"]["table"])
    moved = np.abs(jax.jit(jax.grad(logit_sum), static_argnums=1)(zero, position)).max(axis=1)
    assert (moved[position + 1 :] == 0).all()
    assert moved[position] > 0
    if config.pattern == ("dense",):
        assert (moved[: position + 1] > 0).all()


def test_a_band_forgets_what_lies_beyond_its_reach():
    config = small(pattern=("banded",), band=3, layers=1)
    params = made(config)
    ids = jax.random.randint(jax.random.key(2), (1, 16), 0, 50)
    changed = ids.at[0, 5].set((ids[0, 5] + 1) % 50)
    logits = jax.jit(lambda ids: forward(config, params, ids)[0][0])
    one, other = (np.asarray(logits(x)) for x in (ids, changed))
    differs = np.abs(one - other).max(axis=-1) > 1e-6
    assert np.flatnonzero(differs).tolist() == [5, 6, 7]


@pytest.mark.parametrize("pattern", [("dense",), ("banded",)])
def test_blocks_of_queries_equal_the_masked_definition(pattern):
    config = small(length=300, pattern=pattern, band=70, layers=1)
    params = made(config)
    ids = jax.random.randint(jax.random.key(2), (2, 300), 0, 50)
    valid = jnp.arange(300)[None] >= jnp.array([[0], [37]])
    results = []
    for way in ("plain", "blocks"):
        way_config = replace(config, attention=way)
        logits = jax.jit(lambda p, c=way_config: forward(c, p, ids, valid=valid)[0])(params)
        results.append(jnp.where(valid[..., None], logits, 0))  # padding may see anything
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


@functools.cache
def gradient(remat):
    config = small(remat=remat)
    ids = jax.random.randint(jax.random.key(2), (2, 16), 0, 50)
    return jax.jit(jax.grad(lambda p: jnp.sum(forward(config, p, ids)[0] ** 2)))(made(config))


SOME = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("dots", "context", "qkv")]


@pytest.mark.parametrize("remat", ["full", *SOME, "products"])
def test_rematerialisation_changes_no_gradient(remat):
    def same(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)

    jax.tree.map(same, gradient("none"), gradient(remat))


DRAWN = {
    "layers": 2, "width": 128, "heads": 4, "head_size": 64, "hidden": 320, "vocab": 400,
    "length": 300, "std": 0.03, "token_std": 0.05, "position_std": 0.01,
}  # fmt: skip
KERNELS = ("attention/qkv", "attention/output", "mlp/hidden", "mlp/output")
READINGS = {  # deviations of these kernels, of 2 layers
    "hf": (0.03, 0.03 / 2, 0.03, 0.03 / 2),
    "report": (0.03, 0.03 / 2**0.5, 0.03, 0.03 / 2**0.5),
    "openai": (128**-0.5, (4 * 64 * 2) ** -0.5, 128**-0.5, (320 * 2) ** -0.5),
    "gpt1": (0.03, 0.03, 0.03, 0.03),
    "bert": (0.8796 * 0.03,) * 4,  # of a normal cut at two deviations
}


@pytest.mark.parametrize("reading", READINGS)
def test_what_a_module_draws_has_the_deviations_of_its_reading_and_of_no_other(reading):
    drawn = functools.partial(init, small(**DRAWN | {"init": reading}))
    params = nn.unbox(jax.jit(drawn)(jax.random.key(0)))
    leaves = {name: np.asarray(leaf) for name, leaf in tree.named_leaves(params).items()}
    found = np.array([leaves[f"stack/blocks/{name}/kernel"].std() for name in KERNELS])
    for other, told in READINGS.items():
        assert (np.abs(found / told - 1).max() < 0.02) == (other == reading), other
    assert leaves["tokens/table"].std() == pytest.approx(0.05, rel=0.02)
    assert leaves["positions/table"].std() == pytest.approx(0.01, rel=0.02)
    for name, leaf in leaves.items():
        if name.endswith(("bias", "scale")):
            np.testing.assert_array_equal(leaf, np.float32(name.endswith("scale")))


def test_relations_between_sizes_are_checked_with_both_values():
    with pytest.raises(ConfigError, match="width 32 is not divisible by heads 5"):
        small(heads=5)
    with pytest.raises(ConfigError, match="layers 3 is not a multiple of the 2"):
        small(layers=3, pattern=("dense", "banded"))


@pytest.mark.parametrize("unroll", [0, -3])
def test_fewer_layers_than_one_a_step_of_the_scan_are_refused_by_value(unroll):
    with pytest.raises(ConfigError, match=f"unroll must be positive, got {unroll}"):
        small(unroll=unroll)


def test_a_decoder_that_would_see_what_it_predicts_is_refused():
    with pytest.raises(ConfigError, match="causal=False, and a decoder would see what it predict"):
        small(causal=False)


def test_a_length_that_splash_cannot_cut_is_refused_by_name_and_passed_over_by_itself(monkeypatch):
    from lm.nn.kernels import choose

    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with pytest.raises(ConfigError, match="attention=splash needs a length that 128 divides"):
        choose(small(attention="splash"), "dense", 100, False, False)
    assert choose(small(), "dense", 256, False, False) == "splash"
    assert choose(small(), "strided", 256, False, False) == "sparse"
    with pytest.warns(UserWarning, match="length 100 is not a multiple of 128"):
        assert choose(small(), "dense", 100, False, False) == "blocks"


def test_sinusoidal_first_positions_tell_how_far_apart_two_rows_are():
    def positions(config):
        init = jax.jit(config.module().init)(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
        return np.asarray(nn.unbox(init["params"])["positions"]["table"])

    waves = positions(small(positions="sinusoid", position_std=0.3))
    assert waves.std() == pytest.approx(0.3, rel=1e-5)
    products = waves @ waves.T
    for distance in range(8):
        same = np.diagonal(products, distance)
        np.testing.assert_allclose(same, same[0], rtol=1e-4)
    other = positions(small(position_std=0.3))
    assert np.diagonal(other @ other.T, 1).std() > 0.1  # the control: draws tell nothing of it


def test_tokens_behind_padding_are_numbered_from_the_first_real_one():
    config = small()
    read = jax.jit(lambda ids, valid: forward(config, made(config), ids, valid=valid)[0])
    ids = np.random.default_rng(1).integers(1, 50, (1, 8))
    padded = np.concatenate([np.zeros((1, 3), int), ids], axis=1)
    whole = read(ids, np.ones((1, 8), bool))
    np.testing.assert_allclose(read(padded, padded > 0)[:, 3:], whole, atol=1e-5)
    assert np.abs(read(padded, padded >= 0)[:, 3:] - whole).max() > 1e-3  # the control


def test_tokens_positions_and_blocks_are_dropped_out_by_keys_of_their_own():
    keys = fold_keys(DropoutKeys(jax.random.key(0), jnp.arange(2)))
    assert len({tuple(jax.random.key_data(one.key).tolist()) for one in keys}) == 3


def test_decoding_in_bfloat16_rounds_what_is_multiplied_by_and_no_norm_or_bias():
    config = small(dtype="bfloat16")
    kept = tree.named_leaves(decoding_params(config, made(config)))
    narrow = {name for name, leaf in kept.items() if leaf.dtype == jnp.bfloat16}
    assert narrow == {name for name in kept if not name.endswith(("scale", "bias"))}
    assert all(leaf.dtype == jnp.float32 for name, leaf in kept.items() if name not in narrow)
