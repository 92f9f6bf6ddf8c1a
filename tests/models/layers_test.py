"""The inside of a decoder, layer by layer, is what the decoder computes.

Of one with eyes: it looks from the last token before the answer, at the slots of images alone.
"""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from flax import linen as nn

from lm.models import gpt_vision
from lm.models.bert import BertConfig
from lm.models.gpt import forward_hidden
from lm.models.layers import attention_to_slots, by_layer, stream_norms
from lm.nn.attention import Attention, attention_weights
from lm.nn.norms import LayerNorm
from lm.nn.stack import unstack
from tests.models.gpt_test import made, small
from tests.models.gpt_vision_test import CONFIG, IMAGE, SLOTS, pictures
from tests.models.pretrained.models import drawn

IDS = np.random.default_rng(0).integers(0, 50, (2, 12))


@pytest.fixture(scope="module", params=[("dense",), ("dense", "banded")])
def looked_into(request):
    config = small(pattern=request.param, band=3)
    params = made(config)
    return config, params, jax.jit(by_layer, static_argnums=0)(config, params, IDS)


def test_the_last_hidden_state_normalised_is_what_the_decoder_gives(looked_into):
    config, params, layers = looked_into
    assert layers.hidden.shape == (3, 2, 12, 32) and layers.attention.shape == (2, 2, 4, 12, 12)
    last = jax.jit(LayerNorm(config.epsilon).apply)({"params": params["norm"]}, layers.hidden[-1])
    found, _ = jax.jit(forward_hidden, static_argnums=0)(config, params, IDS)
    np.testing.assert_allclose(last, found, atol=1e-5)


def test_the_weights_are_those_that_attention_mixes_values_with(looked_into):
    config, params, layers = looked_into
    for layer, block in enumerate(unstack(params["stack"]["blocks"])):
        pattern = config.pattern[layer % len(config.pattern)]
        norm = jax.jit(LayerNorm(config.epsilon).apply)
        x = norm({"params": block["norm1"]}, layers.hidden[layer])
        qkv, out = block["attention"]["qkv"], block["attention"]["output"]
        v = np.einsum("BTD,DNH->BNTH", x, qkv["kernel"][:, 2]) + qkv["bias"][2][:, None]
        mixed = np.einsum("BNTS,BNSH->BTNH", layers.attention[layer], v)
        expected = np.einsum("BTNH,NHD->BTD", mixed, out["kernel"]) + out["bias"]
        found, _ = jax.jit(Attention(config, pattern).apply)({"params": block["attention"]}, x)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_weights_sum_to_one_and_none_falls_on_what_comes_later_or_lies_beyond_the_band(looked_into):
    config, _, layers = looked_into
    np.testing.assert_allclose(np.sum(layers.attention, -1), 1, atol=1e-5)
    assert np.triu(layers.attention, 1).max() == 0
    if "banded" in config.pattern:
        assert np.tril(layers.attention[1], -3).max() == 0 < np.tril(layers.attention[0], -3).max()


def test_the_norm_of_the_stream_is_the_root_mean_square_length(looked_into):
    config, params, layers = looked_into
    lengths = np.linalg.norm(np.asarray(layers.hidden, np.float64), axis=-1)
    expected = np.sqrt(np.mean(lengths**2, axis=(1, 2)))
    found = jax.jit(stream_norms, static_argnums=0)(config, params, IDS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_stream_of_an_encoder_ends_in_its_hidden_states_and_padding_has_no_length():
    config = BertConfig(layers=2, width=16, heads=2, vocab=50, length=12)
    params, module = drawn(config, 0), config.module()
    segments, valid = IDS % 2, np.arange(12) < np.array([[12], [5]])
    hidden = module.apply({"params": params}, IDS, segments, valid, method="hidden")
    length = np.sqrt(np.mean(np.sum(np.square(np.asarray(hidden)[valid]), axis=-1)))
    found = jax.jit(stream_norms, static_argnums=0)(config, params, IDS, segments, valid)
    assert found.shape == (3,)
    np.testing.assert_allclose(found[-1], length, rtol=1e-5)


def test_an_encoder_looks_at_no_padding_and_a_prefix_is_seen_from_before_it():
    encoder = BertConfig(layers=1, width=16, heads=2, vocab=50, length=12)
    real = np.arange(12) < np.array([[12], [5]])
    x = np.random.default_rng(0).standard_normal((2, 12, 16), np.float32)
    look = jax.jit(attention_weights, static_argnums=(0, 3))
    block = unstack(drawn(encoder, 0)["stack"]["blocks"])[0]["attention"]
    weights = np.asarray(look(encoder, block, x, "dense", real))
    assert ((weights > 0) == real[:, None, None]).all()
    causal = replace(encoder, causal=True)
    weights = np.asarray(look(causal, block, x, "dense", None, real))
    assert ((weights > 0) == (np.tri(12, dtype=bool) | real[:, None, None])).all()


def test_the_last_token_before_the_answer_looks_and_its_shares_are_of_image_slots():
    config = replace(
        CONFIG, text=replace(CONFIG.text, layers=1), vision=replace(CONFIG.vision, layers=1)
    )
    numbers = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: 0.3 * numbers.standard_normal(leaf.shape, np.float32),
        nn.unbox(jax.eval_shape(partial(gpt_vision.init, config), jax.random.key(0))),
    )
    look = partial(jax.jit(attention_to_slots, static_argnums=0), config, params)
    tokens = np.array([[5, *SLOTS, 7, 8, 9, 10, 11]], np.int32)
    images, prefix = pictures(1, 1), np.array([7])  # up to the 8
    found = np.asarray(look(tokens, images, prefix))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert ((found > 0) == (tokens == IMAGE)).all()
    answer, asked = tokens.copy(), tokens.copy()
    answer[0, 7:], asked[0, 6] = 3, 3
    np.testing.assert_allclose(look(answer, images, prefix), found, rtol=1e-5)
    assert np.abs(look(asked, images, prefix) - found).max() > 1e-3
