"""What an encoder of images costs, and what of an image it does not see."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from lm.models.vision import Vision, VisionConfig


@pytest.mark.parametrize("centred", [True, False])
def test_an_image_that_is_centred_is_seen_without_the_mean_of_each_colour(centred):
    module = Vision(VisionConfig(image=8, patch=4, layers=1, width=16, heads=2, centred=centred))
    image = np.random.default_rng(0).standard_normal((1, 8, 8, 3)).astype(np.float32)
    made = nn.unbox(module.init(jax.random.key(0), image, method="embedded"))
    plain, tinted = (
        np.asarray(module.apply(made, some, method="embedded"))
        for some in (image, image + np.float32([0.5, -1.0, 2.0]))
    )
    assert np.allclose(plain, tinted, atol=1e-5) == centred


def test_operations_on_an_image_are_those_counted_by_hand():
    """Of 16 x 16 patches, each learned: 6 a weight, and 12 a pair and channel."""
    cut = VisionConfig(image=64, patch=4, layers=1, width=16, heads=2)
    block, pairs = 3 * 16 * 16 + 16 * 16 + 2 * 16 * 64, 16 * 256
    assert cut.flops_per_image() == 256 * (6 * (block + 3 * 4 * 4 * 16) + 12 * pairs)
    # 2 x 2 times from 3 channels to 8, and once from 8 to 16, of 3 x 3 each; then 16 to 16
    stem = 4 * (9 * 3 * 8) + 9 * 8 * 16 + 16 * 16
    convolved = VisionConfig(image=64, patch=4, layers=1, width=16, heads=2, stem="convolutions")
    assert convolved.flops_per_image() == 256 * (6 * (block + stem) + 12 * pairs)
