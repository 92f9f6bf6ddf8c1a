"""Patches keep every pixel once, and positions are those of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.nn.patches import Convolutions, PatchEmbedding, patches, resized, sincos


def test_a_patch_holds_its_square_of_the_image_row_by_row():
    image = np.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
    found = np.asarray(patches(jnp.asarray(image), 4))
    assert found.shape == (2, 4, 48)
    for number, (row, column) in enumerate(((0, 0), (0, 4), (4, 0), (4, 4))):
        square = image[:, row : row + 4, column : column + 4]
        np.testing.assert_array_equal(found[:, number], square.reshape(2, 48))


def test_fixed_positions_tell_every_patch_from_every_other():
    table = sincos(6, 32)
    apart = np.abs(table[:, None] - table[None]).max(-1)
    assert (apart + np.eye(36) > 1e-3).all()
    assert sincos(3, 8)[0].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]  # sin 0, cos 0, twice


def test_a_fixed_position_is_the_waves_of_its_column_and_then_of_its_row():
    at = [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02),
          np.sin(1), np.sin(0.01), np.cos(1), np.cos(0.01)]  # fmt: skip
    assert sincos(3, 8)[5] == pytest.approx(at)  # row 1, column 2


def test_a_class_token_has_no_fixed_position():
    module, pixels = PatchEmbedding(2, 8, "sincos", True, 0.02), np.ones((1, 4, 12), np.float32)
    made = jax.tree.map(jnp.zeros_like, nn.unbox(module.init(jax.random.key(0), pixels)))
    (found,) = np.asarray(module.apply(made, pixels))
    np.testing.assert_allclose(found, [np.zeros(8), *sincos(2, 8)], atol=1e-6)


def test_positions_of_another_resolution_lie_between_those_of_the_old_one():
    ramp = np.tile(np.arange(4.0), (4, 1)).reshape(16, 1)  # the column of each patch
    grown = np.asarray(resized(jnp.asarray(ramp), 4, 8)).reshape(8, 8)
    np.testing.assert_allclose(grown[:, 2:6], np.tile([0.75, 1.25, 1.75, 2.25], (8, 1)), atol=1e-6)
    token = np.asarray(resized(jnp.concatenate([jnp.full((1, 1), 7.0), jnp.asarray(ramp)]), 4, 2))
    assert token.shape == (5, 1) and token[0] == 7
    same = np.asarray(resized(jnp.asarray(ramp), 4, 4))
    np.testing.assert_allclose(same, ramp, atol=1e-6)


def test_convolutions_see_beyond_the_border_of_a_patch_and_follow_what_moves():
    stem = Convolutions(4, 8)
    image = np.zeros((1, 24, 24, 3), np.float32)
    image[0, 9:12, 8:11] = 1
    params = nn.unbox(jax.jit(stem.init)(jax.random.key(0), image))

    def seen(image):
        return np.asarray(jax.jit(stem.apply)(params, image)).reshape(6, 6, 8)

    whole, moved = seen(image), seen(np.roll(image, 4, axis=2))
    assert whole.shape == (6, 6, 8)
    np.testing.assert_allclose(moved[:, 2:], whole[:, 1:-1], atol=1e-6)
    image[0, 11, 8:11] = 0  # the last row of its patch
    changed = np.abs(seen(image) - whole).max(-1) > 1e-6
    assert changed[2, 2] and changed.sum() > 1
    # the control: patches that are cut know of nothing beyond them
    cut = [np.asarray(patches(jnp.asarray(one), 4)).reshape(6, 6, 48) for one in
           (image, np.roll(image, 1, axis=1))]  # fmt: skip
    assert (np.abs(cut[0] - cut[1]).max(-1) > 0).sum() == 1
