"""Patches keep every pixel once, and positions are those of the papers."""

import jax.numpy as jnp
import numpy as np

from lm.nn.patches import patches, resized, sincos


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


def test_positions_of_another_resolution_lie_between_those_of_the_old_one():
    ramp = np.tile(np.arange(4.0), (4, 1)).reshape(16, 1)  # the column of each patch
    grown = np.asarray(resized(jnp.asarray(ramp), 4, 8)).reshape(8, 8)
    np.testing.assert_allclose(grown[:, 2:6], np.tile([0.75, 1.25, 1.75, 2.25], (8, 1)), atol=1e-6)
    token = np.asarray(resized(jnp.concatenate([jnp.full((1, 1), 7.0), jnp.asarray(ramp)]), 4, 2))
    assert token.shape == (5, 1) and token[0] == 7
    same = np.asarray(resized(jnp.asarray(ramp), 4, 4))
    np.testing.assert_allclose(same, ramp, atol=1e-6)
