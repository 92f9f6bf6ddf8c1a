"""A decoder that reads images among its tokens: encoder, connector, `Gpt`.

GPT-4's architecture is not published. Each choice follows one of two documented recipes:

    connector  linear: PaliGemma (Beyer et al. 2024); mlp of two layers: LLaVA-1.5 (Liu et al. 2023)
    mask       causal: LLaVA; prefix, prompt and images see each other: PaliGemma
    merge      squares of patches side by side as one slot: Qwen2-VL (Wang et al. 2024)

An image is a run of `slots` ids `image_id` in the row; its states stand there in place of token
vectors. So text and any number of images interleave, and no text can spell an image.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core import axes
from lm.core.config import require, require_positive
from lm.models.gpt import Gpt, GptConfig, Inserted
from lm.models.vision import Vision, VisionConfig, normalised
from lm.nn.dropout import DropoutKeys
from lm.nn.mlp import Dense
from lm.nn.passes import LEARNED, READ, THROUGH

PARTS = ("vision", "connector", "text")  # of the parameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class GptVisionConfig:
    """A decoder with eyes."""

    text: GptConfig
    vision: VisionConfig
    image_id: int  # the id of an image's slots
    connector: Literal["linear", "mlp"] = "mlp"
    mask: Literal["causal", "prefix"] = "causal"
    merge: int = 1  # patches of the side of the square that one slot stands for
    dialogue: bool = False  # has learned conversations, and reads the whole of one

    def __post_init__(self) -> None:
        require_positive(self, "merge")
        require(
            0 <= self.image_id < self.text.vocab,
            f"image_id {self.image_id} is not in the vocabulary of {self.text.vocab}",
        )
        require(
            self.vision.grid % self.merge == 0,
            f"merge {self.merge} does not divide the {self.vision.grid} patches of a side",
        )
        require(
            self.slots < self.text.length,
            f"an image takes {self.slots} slots of a context of {self.text.length}: set "
            "text.length, or a larger vision.patch or merge",
        )
        require(
            self.mask == "causal" or self.text.patterns == {"dense"},
            f"mask=prefix needs pattern=('dense',), got {self.text.pattern}",
        )

    @property
    def slots(self) -> int:
        """Places of the context that an image takes."""
        return self.vision.patches // self.merge**2

    @property
    def joined(self) -> int:
        """Width of what one slot is made of."""
        return self.vision.width * self.merge**2

    def parameters(self) -> int:
        width = self.text.width
        connector = (self.joined + 1) * width
        if self.connector == "mlp":
            connector += (width + 1) * width
        return self.text.parameters() + self.vision.parameters() + connector

    def module(self) -> "GptVision":
        return GptVision(self)

    def flops_per_token(
        self, length: int, images: float = 1, learned: Sequence[str] = PARTS
    ) -> float:
        """Operations of training these parts on a token of rows with so many images. Gradients go
        through the decoder to whatever is learned, and into the encoder only where it is."""
        seen = self.vision.flops_per_image(LEARNED if "vision" in learned else READ)
        seen += self.slots * self.flops_per_slot(learned)
        passes = LEARNED if "text" in learned else THROUGH
        return self.text.flops_per_token(length, blocks=passes, output=passes) + (
            images * seen / length
        )

    def flops_per_slot(self, learned: Sequence[str] = PARTS) -> float:
        """Operations of the connector on a slot, where these parts are learned."""
        width, encoder = self.text.width, "vision" in learned
        first, second = self.joined * width, width**2 if self.connector == "mlp" else 0
        if "connector" not in learned:
            return (THROUGH if encoder else READ).weight * (first + second)
        into = LEARNED.weight if encoder else LEARNED.weight - 2  # nothing goes back to constants
        return into * first + LEARNED.weight * second


class Connector(nn.Module):
    """States of patches to vectors of the decoder, one a slot."""

    config: GptVisionConfig

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:  # [B M D] -> [B slots D]
        config = self.config
        grid, merge, width = config.vision.grid, config.merge, config.text.width
        side = grid // merge
        x = states[:, -(grid**2) :].reshape(-1, side, merge, side, merge, config.vision.width)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, side**2, config.joined)
        init = nn.initializers.normal(config.text.std)
        if config.connector == "mlp":
            names = (axes.WIDTH, axes.HIDDEN)
            x = Dense((config.joined, width), names, init, name="hidden")(x)
            x = jax.nn.gelu(x, approximate=False)  # LLaVA's is torch's GELU(), of erf
            return Dense((width, width), names[::-1], init, name="output")(x)
        return Dense((config.joined, width), (axes.HIDDEN, axes.WIDTH), init, name="output")(x)


class GptVision(nn.Module):
    """Encoder, connector and decoder as one function."""

    config: GptVisionConfig

    def setup(self) -> None:
        self.vision = Vision(self.config.vision)
        self.connector = Connector(self.config)
        self.text = Gpt(self.config.text)

    def __call__(
        self,
        tokens: jax.Array,  # [B T] int, `image_id` where an image stands
        images: jax.Array,  # [B I R R 3] bytes, in the order of the row
        prefix: jax.Array | None = None,  # [B] tokens before the answer; for mask=prefix
        keys: DropoutKeys | None = None,
    ) -> jax.Array:
        """Float32 logits [B T V] of the token after each."""
        seen = None
        if self.config.mask == "prefix" and prefix is not None:
            seen = jnp.arange(tokens.shape[1]) < prefix[:, None]
        inserted = self.inserted(tokens, self.seen(images))
        return self.text(tokens, keys=keys, inserted=inserted, prefix=seen)[0]

    def embedded(self, tokens: jax.Array, images: jax.Array) -> jax.Array:
        """What enters the decoder's first block. [B T D]"""
        positions = jnp.arange(tokens.shape[1])[None]
        inserted = self.inserted(tokens, self.seen(images))
        return self.text.embedded(tokens, positions, inserted=inserted)

    def seen(self, images: jax.Array) -> jax.Array:
        """What the decoder gets of images [B I R R 3], one vector a slot. [B I*slots D]"""
        batch, count = images.shape[:2]
        if count == 0:
            return jnp.zeros((batch, 0, self.config.text.width), self.config.text.dtype)
        flat = normalised(images.reshape(batch * count, *images.shape[2:]))
        vectors = self.connector(self.vision(flat))
        return vectors.reshape(batch, -1, self.config.text.width)

    def inserted(self, tokens: jax.Array, vectors: jax.Array) -> Inserted | None:
        """Vectors [B S D] at the places of the row's images; None where there are none."""
        if vectors.shape[1] == 0:
            return None
        return Inserted(vectors=vectors, places=tokens == self.config.image_id)


def init(config: GptVisionConfig, key: jax.Array) -> Any:
    """Initial parameters, boxed with the names of their axes."""
    side = config.vision.image
    images = jnp.zeros((1, 1, side, side, 3), jnp.uint8)
    return config.module().init(key, jnp.zeros((1, 1), jnp.int32), images)["params"]


def forward(
    config: GptVisionConfig, params: Any, tokens: jax.Array, images: jax.Array,
    prefix: jax.Array | None = None,
) -> jax.Array:  # fmt: skip
    """Logits [B T V], as `GptVision` computes them."""
    out: Any = config.module().apply({"params": params}, tokens, images, prefix)
    return out


def at_merge(connector: Any, old: int, new: int) -> Any:
    """A connector's parameters for larger squares of patches, of which it first takes the mean."""
    if old == new:
        return connector
    first, times = "hidden" if "hidden" in connector else "output", new // old
    kernel = jnp.asarray(connector[first]["kernel"])
    squares = kernel.reshape(old, old, -1, kernel.shape[1])
    more = jnp.tile(squares, (times, times, 1, 1)) / times**2
    kernel = more.reshape(-1, kernel.shape[1])
    return {**connector, first: {**connector[first], "kernel": kernel}}


def widened(params: Any, vocab: int) -> Any:
    """Parameters of a decoder with a row for each id that its vocabulary lacks: the mean of the
    others, as a row of zeros would be likelier than any of a model whose logits are negative."""
    table = jnp.asarray(params["tokens"]["table"])
    more = jnp.repeat(jnp.mean(table, axis=0, keepdims=True), vocab - table.shape[0], axis=0)
    return {**params, "tokens": {"table": jnp.concatenate([table, more])}}
