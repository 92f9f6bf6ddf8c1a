"""The encoder of images: a vision transformer (Dosovitskiy et al. 2021) of the house's blocks.

GPT-4's is not published. This is the plain pre-norm ViT, with the switches in which those that both
documented recipes begin with differ from it: LLaVA-1.5's CLIP (Radford et al. 2021) has its norm
before the blocks and a quick GELU; PaliGemma's SigLIP (Zhai et al. 2023) has no class token.
"""

import dataclasses
import itertools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core.config import require, require_positive
from lm.nn.blocks import residual
from lm.nn.config import BlockConfig
from lm.nn.norms import LayerNorm
from lm.nn.passes import LEARNED, Passes
from lm.nn.patches import Convolutions, PatchEmbedding, Positions, patches, resized, widths
from lm.nn.stack import Stack


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionConfig(BlockConfig):
    """An encoder of square images. What is readable follows from `image`, above all."""

    image: int  # pixels of a side, R
    patch: int  # pixels of a patch's side
    stem: Literal["cut", "convolutions"] = "cut"  # how a patch is read: at once, or bit by bit
    centred: bool = False  # each image less its own mean of each colour: its ground is near zero
    positions: Positions = "learned"
    class_token: bool = False  # before the patches, as ViT's and CLIP's; the decoder never sees it
    # where the norm is that is of no block; before them: CLIP's, where its last block is not read
    whole_norm: Literal["after", "before"] = "after"
    causal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "image", "patch")
        require(
            self.image % self.patch == 0,
            f"image {self.image} is not a multiple of patch {self.patch}: set patch too, to that "
            "of the encoder if one is given",
        )
        require(
            self.stem == "cut" or (self.patch.bit_count() == 1 and 2 <= self.patch <= self.width),
            f"patch {self.patch} must be a power of two from 2 to width {self.width} with "
            "stem=convolutions",
        )
        require(not self.causal, "causal=True, and patches see each other")
        require(
            self.attention_dropout == self.residual_dropout == 0,
            f"attention_dropout {self.attention_dropout} and residual_dropout "
            f"{self.residual_dropout}: an image encoder has no dropout, set both to 0",
        )
        require(
            self.positions != "sincos" or self.width % 4 == 0,
            f"width {self.width} is not a multiple of 4, which positions=sincos needs",
        )

    @property
    def grid(self) -> int:
        """Patches of a side."""
        return self.image // self.patch

    @property
    def patches(self) -> int:
        """Patches of an image, M."""
        return self.grid**2

    def parameters(self) -> int:
        """Number of parameters."""
        width = self.width
        places = (self.patches + self.class_token) * (self.positions == "learned")
        embedding = (self.read + 1 + places + self.class_token) * width
        return embedding + self.convolved(1) + self.layers * self.block_parameters + 2 * width

    @property
    def read(self) -> int:
        """Numbers that a patch's vector is made of."""
        return 3 * self.patch**2 if self.stem == "cut" else self.width

    def convolved(self, side: int) -> int:
        """Weights of the convolutions, each times the places where it is applied to an image whose
        patches are `side` x `side` pixels; with 1, times one."""
        if self.stem == "cut":
            return 0
        made = [3, *widths(self.patch, self.width)]
        found = [9 * into * out for into, out in itertools.pairwise(made)]
        places = [max(1, side >> number) ** 2 for number in range(1, len(made))]
        return sum(weights * count for weights, count in zip(found, places, strict=True))

    def flops_per_image(self, passes: Passes = LEARNED) -> float:
        """Operations of training on an image, as `GptConfig.flops_per_token` counts them."""
        products = self.layers * self.block_weights + self.read * self.width
        products += self.convolved(self.patch)
        pairs = self.layers * self.heads * self.head_width * self.patches
        return self.patches * (passes.weight * products + passes.pair * pairs)


class Vision(nn.Module):
    """Pixels to a state for each patch."""

    config: VisionConfig

    def setup(self) -> None:
        config = self.config
        self.embedding = PatchEmbedding(
            config.grid, config.width, config.positions, config.class_token, config.std
        )
        if config.stem == "convolutions":
            self.stem = Convolutions(config.patch, config.width)
        self.stack = Stack(config)
        self.norm = LayerNorm(config.epsilon)

    def __call__(self, images: jax.Array) -> jax.Array:
        """States [B M D] of images [B R R 3] with values from -1 to 1; [B M+1 D], the class token's
        first, where there is one."""
        return self.encoded(self.embedded(images))

    def embedded(self, images: jax.Array) -> jax.Array:
        """Patches with their positions, before the first block. [B M D]"""
        images = images.astype(self.config.dtype)
        if self.config.centred:
            images = images - jnp.mean(images, axis=(1, 2), keepdims=True)
        cut = self.config.stem == "cut"
        x = self.embedding(patches(images, self.config.patch) if cut else self.stem(images))
        return residual(x, self.config)

    def encoded(self, x: jax.Array) -> jax.Array:
        """What the blocks and the norm make of embedded patches [B M D], in any order."""
        if self.config.whole_norm == "before":
            return self.stack(residual(self.norm(x), self.config))[0]
        return self.norm(self.stack(x)[0])


def normalised(images: jax.Array) -> jax.Array:
    """Bytes [... R R 3] as numbers from -1 to 1 (SigLIP's and big_vision's convention)."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def forward(config: VisionConfig, params: Any, images: jax.Array) -> jax.Array:
    """States of images [B R R 3], as `Vision` computes them."""
    out: Any = Vision(config).apply({"params": params}, images)
    return out


def at_grid(params: Any, old: int, new: int) -> Any:
    """An encoder's parameters for another resolution, its learned positions interpolated."""
    embedding = params["embedding"]
    if old == new or "positions" not in embedding:
        return params
    positions = resized(jnp.asarray(embedding["positions"]), old, new)
    return {**params, "embedding": {**embedding, "positions": positions}}
