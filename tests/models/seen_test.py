"""Where a decoder looks: from the last token before the answer, at the slots of images alone."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
from flax import linen as nn

from lm.models import gpt_vision
from lm.models.seen import attention_to_slots
from tests.models.gpt_vision_test import CONFIG, IMAGE, SLOTS, pictures


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
