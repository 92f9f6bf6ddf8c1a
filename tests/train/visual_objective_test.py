"""What a decoder that sees is taught by a batch, and which of its parts."""

import jax
import numpy as np
from flax import linen as nn

from lm.data.visual.rows import VisionBatch
from lm.models import gpt_vision
from lm.models.gpt import GptConfig
from lm.models.gpt_vision import GptVisionConfig
from lm.models.vision import VisionConfig
from lm.train.visual_objective import SeenAnswer

CONFIG = GptVisionConfig(
    text=GptConfig(layers=1, width=16, heads=2, length=16, vocab=12),
    vision=VisionConfig(image=4, patch=4, layers=1, width=16, heads=2),
    image_id=11,
)


def test_answers_and_text_are_counted_apart_and_only_what_is_learned_has_a_gradient():
    draw = np.random.default_rng(0)
    tokens = np.array([[11, 3, 4, 5, 6], [1, 2, 3, 4, 5]])  # about an image, and text
    targets = np.array([[3, 4, 5, 6, 7], [2, 3, 4, 5, 6]])
    mask = np.array([[0, 0, 1, 1, 0], [1, 1, 1, 1, 1]], bool)
    images = draw.integers(0, 256, (2, 1, 4, 4, 3)).astype(np.uint8)
    batch = VisionBatch(
        tokens=tokens, targets=targets, mask=mask, prefix=np.array([3, 0]), images=images,
        rows=np.arange(2).astype(np.uint32),
    )  # fmt: skip
    params = nn.unbox(jax.jit(gpt_vision.init, static_argnums=0)(CONFIG, jax.random.key(0)))
    objective = SeenAnswer(CONFIG, ("connector",), 0.5)
    assert {name: int(n) for name, n in objective.counts(batch).items()} == {
        "answers": 2,
        "text": 5,
    }

    def summed(params):
        sums = objective.sums(params, batch)
        logits = gpt_vision.forward(CONFIG, params, tokens, images, batch.prefix)
        return sums["answers"] + sums["text"], (sums, logits)

    grads, (sums, logits) = jax.jit(jax.grad(summed, has_aux=True))(params)
    logp = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), targets[..., None], -1)[
        ..., 0
    ]
    np.testing.assert_allclose(sums["answers"], -logp[0, 2:4].sum(), rtol=1e-5)
    np.testing.assert_allclose(sums["text"], -logp[1].sum(), rtol=1e-5)
    # before the optimizer, which would count the others' in the norm by which it clips
    size = {
        name: max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads[name])) for name in grads
    }
    assert size["connector"] > 0 == size["vision"] == size["text"]
