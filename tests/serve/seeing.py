"""A run that sees, made in no time of random weights, and images to show it."""

import base64
import io

import jax
import numpy as np
from flax import linen as nn
from PIL import Image

from lm.core.config import dump
from lm.models import gpt_vision
from lm.models.gpt import GptConfig
from lm.models.gpt_vision import GptVisionConfig
from lm.models.vision import VisionConfig
from lm.text.byte import ByteTokenizer
from lm.train.checkpoint import Checkpoints
from lm.train.guard import GuardConfig, GuardState
from lm.train.optimizer import AdamWConfig
from lm.train.state import TrainState
from lm.train.visual import VisualTuning

IMAGE_ID = ByteTokenizer().specials["image"]


def model(mask="prefix", length=64):
    """Four slots an image."""
    return GptVisionConfig(
        text=GptConfig(
            layers=1, width=32, heads=2, length=length, vocab=ByteTokenizer().vocab_size, unroll=1
        ),
        vision=VisionConfig(image=16, patch=8, layers=1, width=32, heads=2),
        image_id=IMAGE_ID,
        mask=mask,
    )


def drawn(config, seed=3):
    """Parameters large enough that what is seen is heard of in every answer."""
    unboxed = nn.unbox(jax.jit(gpt_vision.init, static_argnums=0)(config, jax.random.key(seed)))
    return jax.tree.map(lambda leaf: leaf * 8 if leaf.ndim > 1 else leaf, unboxed)


def seeing_run(folder, config):
    """A run directory as one that learned to see would have left it."""
    folder.mkdir(parents=True)
    experiment = VisualTuning(
        model=config, optim=AdamWConfig(peak_lr=1e-3), length=32, batch=8, steps=1
    )
    params = drawn(config)
    guard = jax.device_get(GuardState.empty(GuardConfig()))
    moments = jax.jit(experiment.direction().init)(params)
    state = jax.device_put(TrainState(np.zeros((), np.int32), params, moments, guard))
    checkpoints = Checkpoints(folder / "checkpoints")
    assert checkpoints.save(0, state, {"tokenizer": ByteTokenizer().digest})
    assert checkpoints.close()
    ByteTokenizer().save(folder / "tokenizer")
    (folder / "config.gin").write_text(dump(experiment))
    return folder


def picture(seed=0, mode="RGB", size=(24, 16), kind="PNG", **options):
    """The bytes of a file of noise."""
    array = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(array).convert(mode).save(out, kind, **options)
    return out.getvalue()


def black():
    out = io.BytesIO()
    Image.new("RGB", (24, 16)).save(out, "PNG")
    return out.getvalue()


def shown(*contents):
    """Images as parts of a message's content."""
    urls = ["data:image/png;base64," + base64.b64encode(one).decode() for one in contents]
    return [{"type": "image_url", "image_url": {"url": url}} for url in urls]


def asking(text, *contents, role="user"):
    return {"role": role, "content": [*shown(*contents), {"type": "text", "text": text}]}
