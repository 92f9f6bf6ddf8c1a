"""What a decoder that sees descends: the loss of its answers, and beside it that of text."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lm.data.visual.rows import VisionBatch
from lm.losses.language import masked_sum, token_losses
from lm.models.gpt_vision import GptVisionConfig
from lm.nn.dropout import DropoutKeys


@dataclasses.dataclass(frozen=True)
class SeenAnswer:
    """Cross-entropy of each token of the answers, and beside it of rows that are text alone."""

    model: GptVisionConfig
    learned: tuple[str, ...]
    text_weight: float

    @property
    def weights(self) -> Mapping[str, float]:
        return {"answers": 1.0} | ({"text": self.text_weight} if self.text_weight else {})

    def counts(self, batch: VisionBatch) -> dict[str, jax.Array]:
        masks = self.masks(batch)
        return {name: jnp.sum(masks[name], dtype=jnp.float32) for name in self.weights}

    def masks(self, batch: VisionBatch) -> dict[str, jax.Array]:
        """A row without a prompt is text."""
        mask, text = jnp.asarray(batch.mask), (jnp.asarray(batch.prefix) == 0)[..., None]
        return {"answers": mask & ~text, "text": mask & text}

    def sums(
        self, params: Any, batch: VisionBatch, keys: DropoutKeys | None = None
    ) -> dict[str, jax.Array]:
        params = {
            name: leaf if name in self.learned else jax.lax.stop_gradient(leaf)
            for name, leaf in params.items()
        }
        logits: Any = self.model.module().apply(
            {"params": params}, jnp.asarray(batch.tokens), jnp.asarray(batch.images),
            jnp.asarray(batch.prefix), keys,
        )  # fmt: skip
        losses, masks = token_losses(logits, batch.targets), self.masks(batch)
        return {name: masked_sum(losses, masks[name]) for name in self.weights}

    def total(self, params: Any, batch: VisionBatch) -> tuple[jax.Array, jax.Array]:
        """Sum of the losses of answers without dropout, and their number."""
        return self.sums(params, batch)["answers"], self.counts(batch)["answers"]
