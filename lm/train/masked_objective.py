"""What BERT learns from: masked words, and whether a text follows another."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lm.data.masking import MaskedBatch
from lm.losses.language import masked_sum, token_losses
from lm.models.bert import BertConfig
from lm.nn.dropout import DropoutKeys


@dataclasses.dataclass(frozen=True)
class MaskedWords:
    """Mean loss of the masked words, and with `pairs` mean loss of the next sentence beside it.

    The released code divides by 1e-5 more than the number of words, lest there be none; in float32
    that is the same number from 256 words on. Here the mean is exact of any number, and 0 of none.
    """

    model: BertConfig
    pairs: bool

    @property
    def weights(self) -> Mapping[str, float]:
        return {"words": 1.0, "next": 1.0} if self.pairs else {"words": 1.0}

    def counts(self, batch: MaskedBatch) -> dict[str, jax.Array]:
        masks = {"words": batch.mask, "next": batch.next_mask}
        return {n: jnp.sum(jnp.asarray(masks[n]), dtype=jnp.float32) for n in self.weights}

    def sums(
        self, params: Any, batch: MaskedBatch, keys: DropoutKeys | None = None
    ) -> dict[str, jax.Array]:
        words, follows = self.scores(params, batch, keys)
        losses = {
            "words": masked_sum(token_losses(words, batch.targets), batch.mask),
            "next": masked_sum(token_losses(follows, batch.next), batch.next_mask),
        }
        return {name: losses[name] for name in self.weights}

    def scores(
        self, params: Any, batch: MaskedBatch, keys: DropoutKeys | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Scores of the masked words [B P V] and of the next sentence [B 2]."""
        out: Any = self.model.module().apply(
            {"params": params}, batch.tokens, batch.segments, batch.valid, keys, batch.positions
        )
        return out
