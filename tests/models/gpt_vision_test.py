"""Images among tokens: what interleaving, masks and order change, and what they must not."""

import math
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from flax import linen as nn

from lm.core import tree
from lm.core.errors import ConfigError, DataError
from lm.decode.images import ImageGenerator
from lm.decode.sampling import SamplingConfig
from lm.models import gpt, gpt_vision, vision
from lm.models.gpt import GptConfig
from lm.models.gpt_vision import Connector, GptVisionConfig, at_merge
from lm.models.vision import Vision, VisionConfig
from lm.nn import kernels

IMAGE = 31
CONFIG = GptVisionConfig(
    text=GptConfig(layers=2, width=32, heads=2, length=48, vocab=32, std=0.2),
    vision=VisionConfig(image=8, patch=2, layers=2, width=16, heads=2, std=0.2),
    image_id=IMAGE,
    merge=2,
)
SLOTS = [IMAGE] * 4


@pytest.fixture(scope="module")
def params():
    return nn.unbox(jax.jit(gpt_vision.init, static_argnums=0)(CONFIG, jax.random.key(0)))


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 8, 8, 3)).astype(np.uint8)


forward = jax.jit(gpt_vision.forward, static_argnums=0)


def logits(params, ids, images, config=CONFIG, prefix=0, room=2):
    """Of one row, padded to the one shape that is compiled."""
    tokens = np.zeros((1, 24), np.int32)
    tokens[0, : len(ids)] = ids
    shown = np.zeros((1, room, 8, 8, 3), np.uint8)
    for place, image in enumerate(images):
        shown[0, place] = image
    return np.asarray(forward(config, params, tokens, shown, np.array([prefix]))[0, : len(ids)])


def test_the_parameters_are_counted(params):
    assert tree.count(params) == CONFIG.parameters()
    other = replace(
        CONFIG, connector="linear",
        vision=replace(CONFIG.vision, class_token=True, positions="sincos"),
    )  # fmt: skip
    bit_by_bit = replace(CONFIG, vision=replace(CONFIG.vision, stem="convolutions"))
    for config in (other, bit_by_bit):
        drawn = partial(lambda config, key: nn.unbox(gpt_vision.init(config, key)), config)
        assert tree.count(jax.eval_shape(drawn, jax.random.key(0))) == config.parameters()


def test_the_connector_of_two_layers_has_the_gelu_of_the_error_function():
    draw = np.random.default_rng(0)
    module, states = Connector(CONFIG), draw.standard_normal((2, 16, 16)).astype(np.float32)
    shapes = jax.eval_shape(lambda key: nn.unbox(module.init(key, states)), jax.random.key(0))
    made = jax.tree.map(lambda leaf: draw.standard_normal(leaf.shape).astype(np.float32), shapes)
    found = np.asarray(module.apply(made, states))
    squares = states.reshape(2, 2, 2, 2, 2, 16).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 64)
    first, second = made["params"]["hidden"], made["params"]["output"]
    x = (squares @ first["kernel"] + first["bias"]).astype(np.float64)
    erf, tanh = (
        np.vectorize(math.erf)(x / 2**0.5),
        np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)),
    )

    def said(share):
        return x * (1 + share) / 2 @ second["kernel"] + second["bias"]

    np.testing.assert_allclose(found, said(erf), atol=1e-4)
    assert np.abs(found - said(tanh)).max() > 1e-3  # the control


def test_the_connector_does_not_read_the_class_token_before_the_patches():
    states = np.random.default_rng(0).standard_normal((2, 17, 16)).astype(np.float32)
    module = Connector(CONFIG)
    made = nn.unbox(module.init(jax.random.key(0), states))
    found, alone = module.apply(made, states), module.apply(made, states[:, 1:])
    np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 4)])
def test_a_connector_of_larger_squares_begins_with_the_mean_of_those_that_it_had(old, new):
    draw = np.random.default_rng(0)
    small, large = (replace(CONFIG, connector="linear", merge=merge) for merge in (old, new))
    states = draw.standard_normal((2, 16, 16)).astype(np.float32)
    made = nn.unbox(Connector(small).init(jax.random.key(0), states))["params"]
    fine = np.asarray(Connector(small).apply({"params": made}, states))
    grown = {"params": at_merge(made, old, new)}
    found = np.asarray(Connector(large).apply(grown, states))
    side = 4 // new
    mean = fine.reshape(2, side, 2, side, 2, 32).mean((2, 4)).reshape(2, side**2, 32)
    np.testing.assert_allclose(found, mean, atol=1e-5)
    assert np.abs(np.diff(fine, axis=1)).max() > 1e-2  # the control: what it had differs


def test_a_row_without_images_is_what_the_decoder_alone_makes_of_it(params):
    ids = [3, 1, 4, 1, 5]
    decoder = jax.jit(gpt.forward, static_argnums=0)
    alone = np.asarray(decoder(CONFIG.text, params["text"], np.array([ids]))[0])[0]
    np.testing.assert_allclose(logits(params, ids, [], room=0), alone, atol=1e-5)
    np.testing.assert_allclose(logits(params, ids, pictures(2)), alone, atol=1e-5)  # spare room


def test_each_image_stands_where_its_slots_are(params):
    a, b = pictures(2)
    ids = [1, *SLOTS, 2, *SLOTS, 3]
    both = logits(params, ids, [a, b])
    later = logits(params, ids, [a, pictures(1, seed=9)[0]])
    np.testing.assert_allclose(both[:6], later[:6], atol=1e-5)  # before the second image
    assert np.abs(both[6:] - later[6:]).max() > 1e-3
    swapped = logits(params, ids, [b, a])
    np.testing.assert_allclose(both[:1], swapped[:1], atol=1e-5)
    assert np.abs(both[1:] - swapped[1:]).max() > 1e-3


def test_moving_an_image_behind_a_token_changes_what_stands_between_and_after(params):
    (a,) = pictures(1)
    first = logits(params, [*SLOTS, 5, 6], [a])
    second = logits(params, [5, *SLOTS, 6], [a])
    alone = logits(params, [5], pictures(0))
    np.testing.assert_allclose(second[0], alone[0], atol=1e-5)
    assert np.abs(first[-1] - second[-1]).max() > 1e-3


def test_only_the_image_id_is_replaced_by_an_image(params):
    (a,) = pictures(1)
    text = logits(params, [7, 7, 7, 7, 5], [a])  # four ids of text see no image
    np.testing.assert_allclose(text, logits(params, [7, 7, 7, 7, 5], pictures(0)), atol=1e-5)


def test_patches_in_another_order_with_their_positions_give_the_same_states(params):
    module, eyes = Vision(CONFIG.vision), {"params": params["vision"]}
    encoded = jax.jit(lambda x: module.apply(eyes, x, method="encoded"))
    embedded = jax.jit(
        lambda images: module.apply(eyes, vision.normalised(images), method="embedded")
    )
    x = embedded(pictures(2))
    order = np.random.default_rng(1).permutation(16)
    straight, mixed = encoded(x), encoded(x[:, order])
    np.testing.assert_allclose(mixed, straight[:, order], atol=1e-5)
    # the control: without their positions the same move changes the states
    bare = pictures(2).reshape(2, 4, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, -1)
    moved = bare[:, order].reshape(2, 4, 4, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5)
    other = encoded(embedded(moved.reshape(2, 8, 8, 3)))
    assert np.abs(np.asarray(other) - np.asarray(straight)[:, order]).max() > 1e-2


@pytest.mark.slow
def test_slots_in_another_order_with_their_positions_change_no_text_where_a_prompt_sees_itself():
    prefix = replace(CONFIG, merge=1, mask="prefix")
    drawn = nn.unbox(jax.jit(gpt_vision.init, static_argnums=0)(prefix, jax.random.key(3)))
    (image,), ids = pictures(1), [1, *[IMAGE] * 16, 5, 6, 7, 8]
    order = np.random.default_rng(1).permutation(16)
    cut = image.reshape(4, 2, 4, 2, 3).transpose(0, 2, 1, 3, 4).reshape(16, 2, 2, 3)[order]
    moved = cut.reshape(4, 4, 2, 2, 3).transpose(0, 2, 1, 3, 4).reshape(8, 8, 3)
    embedding, table = drawn["vision"]["embedding"], drawn["text"]["positions"]["table"]
    eyes = drawn["vision"] | {"embedding": embedding | {"positions": embedding["positions"][order]}}
    shifted = table.at[1:17].set(table[1:17][order])
    text = drawn["text"] | {"positions": {"table": shifted}}
    same, still = drawn | {"vision": eyes, "text": text}, drawn | {"vision": eyes}

    def said(params, image, mask="prefix"):
        config = replace(prefix, mask=mask)
        return logits(params, ids, [image], config, prefix=19, room=1)[[0, *range(17, 21)]]

    np.testing.assert_allclose(said(same, moved), said(drawn, image), atol=1e-5)
    # the controls: a causal mask, in which order counts, and positions that stay where they were
    assert np.abs(said(same, moved, "causal") - said(drawn, image, "causal")).max() > 1e-3
    assert np.abs(said(still, moved) - said(drawn, image)).max() > 1e-3


def test_prefix_attention_equals_the_masked_reference():
    keys = jax.random.split(jax.random.key(1), 3)
    q, k, v = (np.asarray(jax.random.normal(key, (2, 2, 7, 8))) for key in keys)
    prefix = np.arange(7) < np.array([[3], [5]])
    attention = jax.jit(lambda *qkv: kernels.attention(*qkv, CONFIG.text, prefix=prefix))
    found = np.asarray(attention(q, k, v))
    for row in range(2):
        for query in range(7):
            seen = [key for key in range(7) if key <= query or prefix[row, key]]
            scores = np.einsum("NH,NSH->NS", q[row, :, query], k[row][:, seen]) / 8**0.5
            weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
            context = np.einsum("NS,NSH->NH", weights, v[row][:, seen])
            np.testing.assert_allclose(found[row, :, query], context, atol=1e-5)


def test_a_prefix_sees_itself_and_never_the_answer(params):
    config = replace(CONFIG, mask="prefix")
    (a,), ids = pictures(1), [*SLOTS, 5, 6, 7, 8, 9]
    base = logits(params, ids, [a], config, prefix=6)
    early = logits(params, [*SLOTS, 5, 20, 7, 8, 9], [a], config, prefix=6)
    assert np.abs(base[0] - early[0]).max() > 1e-4  # the prompt's end reaches its beginning
    late = logits(params, [*SLOTS, 5, 6, 7, 20, 9], [a], config, prefix=6)
    np.testing.assert_allclose(base[:7], late[:7], atol=1e-5)
    causal = logits(params, ids, [a], CONFIG, prefix=6)
    same = logits(params, [*SLOTS, 5, 20, 7, 8, 9], [a], CONFIG, prefix=6)
    np.testing.assert_allclose(causal[:5], same[:5], atol=1e-5)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_writing_with_a_cache_equals_reading_the_whole_row_again(params, mask):
    config = replace(CONFIG, mask=mask)
    prompts = [[1, *SLOTS, 2, *SLOTS, 3], [4, *SLOTS, 5], [6, 7]]  # two images, one, none
    images = [pictures(2), pictures(1, seed=3), pictures(0)]
    written = ImageGenerator(config, params, end=None)(
        prompts, images, 6, SamplingConfig(temperature=0.0)
    )
    for prompt, shown, new in zip(prompts, images, written, strict=True):
        ids = list(prompt)
        for _ in range(6):
            scores = logits(params, ids, shown, config, prefix=len(prompt))
            ids.append(int(scores[-1].argmax()))
        assert new == ids[len(prompt) :]


def test_equal_prompts_with_equal_images_have_draws_of_their_own(params):
    generator, image = ImageGenerator(CONFIG, params, end=None), pictures(1)
    prompts, hot = [[1, *SLOTS, 2]] * 2, SamplingConfig(temperature=2.0)
    one, other = generator(prompts, [image] * 2, 8, hot)
    assert one != other


def test_a_prompt_of_a_fixed_pattern_is_written_as_it_is_read_and_unequal_ones_are_refused(params):
    fixed = replace(CONFIG.text, pattern=("fixed",), stride=4, summary=2)
    config, prompt = replace(CONFIG, text=fixed), [1, *SLOTS, 2, 3]
    generator, sampling = ImageGenerator(config, params, end=None), SamplingConfig(temperature=0.0)
    (new,) = generator([prompt], [pictures(1)], 12, sampling)
    ids = list(prompt)
    for _ in range(12):
        ids.append(int(logits(params, ids, pictures(1), config)[-1].argmax()))
    assert new == ids[len(prompt) :]
    with pytest.raises(DataError, match="fixed pattern counts its blocks"):
        generator([prompt, prompt[:-1]], [pictures(1)] * 2, 12, sampling)


@pytest.mark.slow
def test_no_row_beyond_the_tokens_is_drawn(params):
    tokens = set(range(6))  # the image's place is a row after them
    generator = ImageGenerator(CONFIG, params, end=None, vocab=len(tokens))
    assert CONFIG.image_id not in tokens
    (new,) = generator([[1, *SLOTS, 2]], [pictures(1)], 9, SamplingConfig(temperature=9.0))
    assert set(new) <= tokens
    (any_row,) = ImageGenerator(CONFIG, params, end=None)(
        [[1, *SLOTS, 2]], [pictures(1)], 9, SamplingConfig(temperature=9.0)
    )
    assert not set(any_row) <= tokens


def test_an_impossible_config_is_refused_and_names_the_values():
    with pytest.raises(ConfigError, match="image_id 99 is not in the vocabulary of 32"):
        replace(CONFIG, image_id=99)
    with pytest.raises(ConfigError, match="merge 3 does not divide the 4 patches"):
        replace(CONFIG, merge=3)
    with pytest.raises(ConfigError, match="image 9 is not a multiple of patch 2"):
        replace(CONFIG.vision, image=9)
    with pytest.raises(ConfigError, match="256 slots of a context of 48"):
        replace(CONFIG, merge=1, vision=replace(CONFIG.vision, image=32))


def test_convolutions_are_for_patches_that_they_halve_at_least_once():
    sized = partial(replace, CONFIG.vision, image=96, stem="convolutions")
    assert sized(patch=2).convolved(1) == 27 * CONFIG.vision.width
    for patch in (1, 6, 32):
        with pytest.raises(ConfigError, match=f"patch {patch} must be a power of two from 2 to"):
            sized(patch=patch)


@pytest.mark.parametrize("name", ["attention_dropout", "residual_dropout"])
def test_dropout_of_an_encoder_that_drops_nothing_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} 0.1.*an image encoder has no dropout"):
        replace(CONFIG.vision, **{name: 0.1})
